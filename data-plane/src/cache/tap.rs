//! What upstreams say in passing about what may have changed.

use super::scope::{Scope, Subject};
use crate::{
    call::{Body, Reply},
    mcp::{Kind, Message, method},
};
use futures_util::StreamExt as _;
use std::sync::Arc;

/// The reply; what its notifications say has changed is invalidated before they are passed on.
pub(super) fn tapped(reply: Reply, scope: &Arc<Scope>) -> Reply {
    let Reply { status, headers, body } = reply;
    let body = match body {
        Body::Messages(messages) => {
            let scope = scope.clone();
            let heard = messages.inspect(move |message| {
                if let Ok(message) = message {
                    hear(&scope, message);
                }
            });
            Body::Messages(heard.boxed())
        }
        other => other,
    };
    Reply { status, headers, body }
}

fn hear(scope: &Scope, message: &Message) {
    if message.kind() != Kind::Notification {
        return;
    }
    match message.method() {
        method::TOOLS_CHANGED => {
            scope.invalidate(&Subject::List(method::TOOLS_LIST));
            scope.invalidate(&Subject::Tier(o1_proto::model::Tier::Tools));
        }
        method::PROMPTS_CHANGED => {
            scope.invalidate(&Subject::List(method::PROMPTS_LIST));
            scope.invalidate(&Subject::Prompts);
        }
        method::RESOURCES_CHANGED => {
            scope.invalidate(&Subject::List(method::RESOURCES_LIST));
            scope.invalidate(&Subject::List(method::TEMPLATES_LIST));
        }
        method::RESOURCES_UPDATED => {
            if let Ok(Some(uri)) = message.param_str(&["uri"]) {
                scope.invalidate(&Subject::Resource(uri.as_ref().into()));
            }
        }
        _ => {}
    }
}
