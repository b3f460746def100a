//! The same server in the transport of 2024-11-05: `/sse` opens an event stream that says where to POST, every
//! answer comes on the stream.

use super::{
    Answer, Received, Shared,
    serve::{Body, Reply, event, events_response, initialize_result, scripted, status},
};
use crate::http::member;
use futures_util::stream;
use http_body_util::StreamBody;
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// A GET: the stream of a new session.
pub(super) fn open(shared: &Arc<Shared>) -> Reply {
    let (sender, receiver) = mpsc::channel(64);
    let (session, endpoint) = {
        let mut state = shared.state();
        state.minted += 1;
        let session = format!("sse-{}", state.minted);
        state.streams.insert(session.clone(), sender);
        let endpoint = state.endpoint.replace("SESSION", &session);
        (session, endpoint)
    };
    let first = format!("event: endpoint\ndata: {endpoint}\n\n");
    let open = Open { session, shared: Arc::clone(shared) };
    let events = stream::unfold((Some(first), receiver, open), |(first, mut receiver, open)| async move {
        if let Some(first) = first {
            return Some((Ok(hyper::body::Frame::data(first.into())), (None, receiver, open)));
        }
        let message: String = receiver.recv().await?;
        Some((Ok(event(&message)), (None, receiver, open)))
    });
    Some(events_response(Body::new(StreamBody::new(events))))
}

/// Forgets the session when its stream is dropped.
struct Open {
    session: String,
    shared: Arc<Shared>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.state().streams.remove(&self.session);
    }
}

/// A POST: accepted at once, answered on the stream.
pub(super) fn post(received: &Received, parsed: &Value, shared: &Arc<Shared>, query: &str) -> Reply {
    let session = query.strip_prefix("sessionId=").unwrap_or_default().to_owned();
    let Some(sender) = shared.state().streams.get(&session).cloned() else {
        return Some(status(404, "no such session"));
    };
    let (Some(id), true) = (member(&received.body, "id"), parsed["method"].is_string()) else {
        return Some(status(202, "Accepted"));
    };
    let answer = if received.method == "initialize" && !shared.state().answers.contains_key("initialize") {
        Answer::Result(initialize_result(parsed))
    } else {
        scripted(received, parsed, &mut shared.state())
    };
    if let Answer::Status(code, body) = answer {
        return Some(status(code, &body));
    }
    if let Answer::Hangup = answer {
        shared.state().streams.remove(&session);
        return Some(status(202, "Accepted"));
    }
    let token = parsed["params"]["_meta"]["progressToken"].to_string();
    let body = received.body.clone();
    shared.work(async move {
        for (pause, message) in messages(answer, &id, &token, &body) {
            tokio::time::sleep(pause).await;
            if sender.send(message).await.is_err() {
                return;
            }
        }
    });
    Some(status(202, "Accepted"))
}

fn messages(answer: Answer, id: &str, token: &str, body: &str) -> Vec<(Duration, String)> {
    match answer {
        Answer::Later(pause, answer) => {
            let mut all = messages(*answer, id, token, body);
            all[0].0 += pause;
            all
        }
        Answer::Stream(steps, last) => {
            let steps = steps.into_iter().map(|(pause, text)| (pause, text.replace("TOKEN", token)));
            steps.chain(messages(*last, id, token, body)).collect()
        }
        last => vec![(Duration::ZERO, super::serve::message(&last, id, body))],
    }
}
