//! What a client asked of an upstream session and another one has to be asked for again: its log level and its
//! subscriptions. Observed as requests pass; bounded.

use crate::{
    call::Session,
    mcp::{Message, json, method, rpc},
};
use futures_util::StreamExt as _;
use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// Subscriptions that are remembered for one upstream session, and the longest URI of one.
const SUBSCRIPTIONS_MAX: usize = 1024;
const URI_MAX: usize = 4096;
/// Requests sent at a time.
const AT_ONCE: usize = 8;

#[derive(Default)]
pub(super) struct Remembered {
    subscriptions: Mutex<BTreeSet<String>>,
}

impl Remembered {
    /// Notes what a request that was answered asked for.
    pub(super) fn observe(&self, session: &Session, request: &Message) {
        let text = |key| request.param_str(&[key]).ok().flatten().map(std::borrow::Cow::into_owned);
        match request.method() {
            method::SET_LEVEL => {
                if let Some(level) = text("level") {
                    session.set_log_level(level);
                }
            }
            method::RESOURCES_SUBSCRIBE => {
                let mut subscriptions = self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(uri) = text("uri")
                    && uri.len() <= URI_MAX
                    && subscriptions.len() < SUBSCRIPTIONS_MAX
                {
                    subscriptions.insert(uri);
                }
            }
            method::RESOURCES_UNSUBSCRIBE => {
                if let Some(uri) = text("uri") {
                    self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner).remove(&uri);
                }
            }
            _ => {}
        }
    }

    /// Asks for all of it again. A server that refuses has nothing to set or to follow; one that is silent is not
    /// waited for longer than `limit`.
    pub(super) async fn replay<F: Future<Output = ()>>(
        &self,
        session: &Session,
        limit: Duration,
        ask: impl Fn(Message) -> F,
    ) {
        let requests = self.requests(session);
        let asked = futures_util::stream::iter(requests).for_each_concurrent(AT_ONCE, ask);
        if tokio::time::timeout(limit, asked).await.is_err() {
            tracing::debug!("an upstream did not answer in time what its last session had been asked for");
        }
    }

    fn requests(&self, session: &Session) -> Vec<Message> {
        let request = |id: String, method, key: &str, value: &str| {
            let params = [b"{", &json::quote(key)[..], b":", &json::quote(value), b"}"].concat();
            Message::parse(&rpc::request(&json::quote(&id), method, &params))
                .expect("a request of our own is a message")
        };
        let level = session.log_level();
        let level = level.map(|level| request("o1-level".to_owned(), method::SET_LEVEL, "level", &level));
        let subscriptions = self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner);
        let subscribe = subscriptions
            .iter()
            .enumerate()
            .map(|(at, uri)| request(format!("o1-subscribe-{at}"), method::RESOURCES_SUBSCRIBE, "uri", uri));
        level.into_iter().chain(subscribe).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{call::Opening, mcp::era, principal::Principal};
    use bytes::Bytes;
    use std::time::SystemTime;

    fn message(method: &str, params: &str) -> Message {
        Message::parse(&rpc::request(b"7", method, params.as_bytes())).unwrap()
    }

    fn session() -> Session {
        Session::new(Opening {
            serial: [0; 16],
            began: SystemTime::now(),
            principal: Principal::anonymous(),
            initialize: message("initialize", "{}"),
            version: era::LEGACY[0],
            upstream: None,
            server: None,
        })
    }

    #[tokio::test]
    async fn the_level_and_what_is_still_subscribed_are_asked_for_again() {
        let (session, remembered) = (session(), Remembered::default());
        let said = [
            ("logging/setLevel", r#"{"level":"info"}"#),
            ("logging/setLevel", r#"{"level":"debug"}"#),
            ("resources/subscribe", r#"{"uri":"a:1"}"#),
            ("resources/subscribe", r#"{"uri":"a:2"}"#),
            ("resources/subscribe", r#"{"uri":"a:\"3\""}"#),
            ("resources/unsubscribe", r#"{"uri":"a:1"}"#),
            ("tools/call", r#"{"name":"x","uri":"a:4"}"#),
        ];
        for (method, params) in said {
            remembered.observe(&session, &message(method, params));
        }
        let asked: Mutex<Vec<Bytes>> = Mutex::default();
        let limit = Duration::from_secs(10);
        remembered
            .replay(&session, limit, |request| {
                asked.lock().unwrap().push(Bytes::copy_from_slice(request.params().unwrap()));
                std::future::ready(())
            })
            .await;
        let expected = [r#"{"level":"debug"}"#, r#"{"uri":"a:\"3\""}"#, r#"{"uri":"a:2"}"#];
        assert_eq!(asked.into_inner().unwrap(), expected.map(Bytes::from));
    }

    #[test]
    fn the_memory_is_bounded() {
        let (session, remembered) = (session(), Remembered::default());
        for at in 0..SUBSCRIPTIONS_MAX + 10 {
            remembered.observe(&session, &message("resources/subscribe", &format!(r#"{{"uri":"a:{at}"}}"#)));
        }
        let long = format!(r#"{{"uri":"{}"}}"#, "x".repeat(URI_MAX + 1));
        remembered.observe(&session, &message("resources/subscribe", &long));
        assert_eq!(remembered.requests(&session).len(), SUBSCRIPTIONS_MAX);
    }
}
