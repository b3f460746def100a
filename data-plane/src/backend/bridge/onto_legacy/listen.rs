//! `subscriptions/listen` in front of a server that has a GET stream and `resources/subscribe` instead.

use super::{
    line::{Listener, Note, Sharers},
    pool::Pool,
};
use crate::{
    call::{Backend, Reply},
    failure::{Failure, Kind},
    mcp::{Message, era, json, method, rpc},
};
use futures_util::{StreamExt as _, stream};
use o1_process::Backoff;
use serde_json::{Map, Value};
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::Instant,
};

/// A member of the filter, what announces it, and the notification it lets through.
const LISTS: [(&str, &str, &str); 3] = [
    ("toolsListChanged", "tools", method::TOOLS_CHANGED),
    ("promptsListChanged", "prompts", method::PROMPTS_CHANGED),
    ("resourcesListChanged", "resources", method::RESOURCES_CHANGED),
];
/// Resources that one subscription may name.
const RESOURCES_MAX: usize = 1000;
/// A list that changed may be told on each session: within this time that is one change.
const ECHO: Duration = Duration::from_millis(500);

/// A subscription.
struct Subscription<B: Backend> {
    pool: Arc<Pool<B>>,
    sharers: Sharers,
    /// The raw id of the request that opened it.
    id: Vec<u8>,
    /// Notifications that are wanted.
    lists: Vec<&'static str>,
    resources: Vec<String>,
    notes: broadcast::Receiver<Note>,
    listener: Listener<B::Link>,
    /// On which session a list was last said to have changed, and when.
    told: HashMap<&'static str, (u64, Instant)>,
    ready: VecDeque<Message>,
}

/// Opens a subscription: what is honoured first, then what happens.
pub(super) async fn listen<B: Backend>(
    pool: Arc<Pool<B>>,
    request: &Message,
    sharers: &Sharers,
) -> Result<Reply, Failure> {
    let notes = pool.notes();
    let line = pool.line(sharers).await?;
    let streams = line.streams().await;
    let (mut honoured, mut lists) = (Map::new(), Vec::new());
    for (wanted, capability, note) in LISTS {
        let at = request.param(&["notifications", wanted]).map_err(|twice| invalid(twice.0))?;
        let is_wanted = at.is_some_and(|at| &request.bytes()[at] == b"true");
        if is_wanted && streams && line.offers(&[capability, "listChanged"]) {
            honoured.insert(wanted.to_owned(), true.into());
            lists.push(note);
        }
    }
    let mut subscription = Subscription {
        listener: line.listener(),
        id: request.id().unwrap_or_default().to_vec(),
        sharers: sharers.clone(),
        resources: Vec::new(),
        told: HashMap::new(),
        ready: VecDeque::new(),
        pool,
        lists,
        notes,
    };
    for uri in wanted_resources(request)? {
        let can = streams && line.offers(&["resources", "subscribe"]);
        if can && subscription.listener.subscribe(&uri).await.is_ok() {
            subscription.resources.push(uri);
        }
    }
    if !subscription.resources.is_empty() {
        honoured.insert("resourceSubscriptions".to_owned(), subscription.resources.clone().into());
    }
    let params = format!(r#"{{"notifications":{}}}"#, Value::Object(honoured));
    let acknowledged =
        Message::parse(&rpc::notification(method::LISTEN_ACKNOWLEDGED, Some(params.as_bytes())))
            .expect("a notification of our own is a message");
    let first = subscription.tagged(&acknowledged);
    subscription.ready.extend(first);
    let messages = stream::unfold(subscription, |mut subscription| async move {
        let next = subscription.next().await?;
        Some((Ok(next), subscription))
    });
    Ok(Reply::messages(messages.boxed()))
}

impl<B: Backend> Subscription<B> {
    /// The next notification; `None` when there can be no more.
    async fn next(&mut self) -> Option<Message> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Some(ready);
            }
            let lost = self.listener.line.closed.clone();
            tokio::select! {
                note = self.notes.recv() => match note {
                    Ok(note) => {
                        let wanted = self.wanted(&note).then(|| self.tagged(&note.message)).flatten();
                        self.ready.extend(wanted);
                    }
                    // Nobody knows what was missed.
                    Err(RecvError::Lagged(_)) => self.all_changed(),
                    Err(RecvError::Closed) => return None,
                },
                () = lost.cancelled() => {
                    self.again().await;
                    self.all_changed();
                }
            }
        }
    }

    /// Listens on another session, as soon as there is one.
    async fn again(&mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(30));
        loop {
            match self.pool.line(&self.sharers).await {
                Ok(line) => {
                    self.listener = line.listener();
                    for uri in &self.resources {
                        // A resource that is gone has nothing to tell.
                        let _ = self.listener.subscribe(uri).await;
                    }
                    return;
                }
                Err(failure) => {
                    tracing::debug!(error = failure.chain(), "a subscription waits for its upstream");
                    tokio::time::sleep(backoff.next().max(Duration::from_millis(100))).await;
                }
            }
        }
    }

    /// Whatever is listened to may have changed while nobody listened.
    fn all_changed(&mut self) {
        let lists = self.lists.iter().map(|note| rpc::notification(note, None));
        let updated = self.resources.iter().map(|uri| {
            let mut params = br#"{"uri":"#.to_vec();
            params.extend_from_slice(&json::quote(uri));
            params.push(b'}');
            rpc::notification(method::RESOURCE_UPDATED, Some(&params))
        });
        let all: Vec<_> = lists.chain(updated).filter_map(|bytes| Message::parse(&bytes).ok()).collect();
        let all: Vec<_> = all.iter().filter_map(|message| self.tagged(message)).collect();
        self.ready.extend(all);
    }

    fn wanted(&mut self, note: &Note) -> bool {
        if note.principal != self.sharers.principal {
            return false;
        }
        if note.message.method() == method::RESOURCE_UPDATED {
            let Ok(Some(uri)) = note.message.param_str(&["uri"]) else { return false };
            let under = |whole: &String| {
                uri.strip_prefix(whole.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            return note.line == self.listener.line.id && self.resources.iter().any(under);
        }
        let Some(list) = self.lists.iter().copied().find(|list| *list == note.message.method()) else {
            return false;
        };
        let now = Instant::now();
        let before = self.told.insert(list, (note.line, now));
        !before.is_some_and(|(line, at)| line != note.line && now.saturating_duration_since(at) < ECHO)
    }

    /// The notification as one of this subscription.
    fn tagged(&self, message: &Message) -> Option<Message> {
        let id = String::from_utf8_lossy(&self.id);
        let tag = format!(r#""{}":{id}"#, era::META_SUBSCRIPTION);
        let text = message.bytes();
        let whole = 0..text.len();
        let edit = match json::member(text, &whole, "params").ok()? {
            Some(params) if text[params.start] == b'{' => match json::member(text, &params, "_meta").ok()? {
                Some(meta) => json::inserted(text, &meta, &tag).ok()?,
                None => json::inserted(text, &params, &format!(r#""_meta":{{{tag}}}"#)).ok()?,
            },
            Some(params) => (params, format!(r#"{{"_meta":{{{tag}}}}}"#).into_bytes()),
            None => json::inserted(text, &whole, &format!(r#""params":{{"_meta":{{{tag}}}}}"#)).ok()?,
        };
        Some(message.spliced(vec![edit]))
    }
}

fn wanted_resources(request: &Message) -> Result<Vec<String>, Failure> {
    let path = ["notifications", "resourceSubscriptions"];
    let Some(at) = request.param(&path).map_err(|twice| invalid(twice.0))? else { return Ok(Vec::new()) };
    let uris: Vec<String> = serde_json::from_slice(&request.bytes()[at])
        .map_err(|_| invalid("`params.notifications.resourceSubscriptions` holds strings"))?;
    if uris.len() > RESOURCES_MAX {
        return Err(invalid(format!("a subscription names at most {RESOURCES_MAX} resources")));
    }
    Ok(uris)
}

fn invalid(what: impl Into<std::borrow::Cow<'static, str>>) -> Failure {
    Failure::new(Kind::InvalidParams, what)
}
