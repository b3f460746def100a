//! `subscriptions/listen` on the aggregated route: the gateway acknowledges what it can honour and keeps one
//! subscription at each upstream concerned.

use super::{
    Router,
    stream::{For, Listen},
};
use crate::{
    call::{Call, Reply, Upstreams},
    failure::{Failure, Kind},
    mcp::{Message, json, method, rpc},
};
use std::collections::HashMap;

pub(super) const LISTS: [&str; 3] = ["toolsListChanged", "promptsListChanged", "resourcesListChanged"];
/// Resources that one subscription may name.
const RESOURCES_MAX: usize = 1000;

impl<N: Upstreams> Router<N> {
    pub(super) async fn listen(&self, call: &Call, request: &Message) -> Result<Reply, Failure> {
        let invalid = |malformed: json::Malformed| Failure::new(Kind::InvalidParams, malformed.0);
        let mut lists = [false; 3];
        for (wanted, key) in lists.iter_mut().zip(LISTS) {
            let at = request.param(&["notifications", key]).map_err(invalid)?;
            *wanted = at.is_some_and(|at| &request.bytes()[at] == b"true");
        }
        let mut resources: HashMap<_, Vec<String>> = HashMap::new();
        let mut honoured = Vec::new();
        for uri in wanted_resources(request)? {
            if let Ok(owner) = self.owner_of_resource(call, &uri).await {
                resources.entry(owner.name.clone()).or_default().push(uri.clone());
                honoured.push(uri);
            }
        }
        let listen = Listen { request: request.clone(), lists, resources };
        let acknowledged = acknowledgement(&listen, &honoured);
        Ok(Reply::messages(self.feed(call, For::Listen(Box::new(listen)), Some(acknowledged))))
    }
}

fn wanted_resources(request: &Message) -> Result<Vec<String>, Failure> {
    let invalid = |what: String| Failure::new(Kind::InvalidParams, what);
    let path = ["notifications", "resourceSubscriptions"];
    let Some(at) = request.param(&path).map_err(|malformed| invalid(malformed.0))? else {
        return Ok(Vec::new());
    };
    let text = request.bytes();
    let items = json::items(text, &at).map_err(|malformed| invalid(malformed.0))?;
    if items.len() > RESOURCES_MAX {
        return Err(invalid(format!("a subscription names at most {RESOURCES_MAX} resources")));
    }
    let strings: Option<Vec<_>> = items.iter().map(|at| Some(json::string(text, at)?.into_owned())).collect();
    strings.ok_or_else(|| invalid("`params.notifications.resourceSubscriptions` holds strings".to_owned()))
}

/// The first message of the stream: what will be honoured, nothing else.
fn acknowledgement(listen: &Listen, resources: &[String]) -> Message {
    let mut honoured = serde_json::Map::new();
    for (wanted, key) in listen.lists.into_iter().zip(LISTS) {
        if wanted {
            honoured.insert(key.to_owned(), true.into());
        }
    }
    if !resources.is_empty() {
        honoured.insert("resourceSubscriptions".to_owned(), resources.into());
    }
    let params =
        format!(r#"{{"_meta":{},"notifications":{}}}"#, listen.tag(), serde_json::Value::Object(honoured));
    Message::parse(&rpc::notification(method::LISTEN_ACKNOWLEDGED, Some(params.as_bytes())))
        .expect("a notification of our own is a message")
}
