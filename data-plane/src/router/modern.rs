//! Modern calls on the aggregated route.

use super::{
    Router, capabilities,
    category::Category,
    legacy::{Target, text_at},
    only, status,
};
use crate::{
    call::{Ask, Call, Reply, Upstreams},
    failure::{Failure, Kind},
    handle::Handle,
    mcp::{self, Message, header, method, rpc},
    plan::Upstream,
    seal::Purpose,
};
use std::sync::Arc;

impl<N: Upstreams> Router<N> {
    pub(super) async fn modern(&self, call: Call) -> Result<Reply, Failure> {
        let Ask::Message(message) = &call.ask else {
            return Err(Failure::new(Kind::InvalidRequest, "modern clients only POST"));
        };
        let message = message.clone();
        if message.kind() != mcp::Kind::Request {
            // Nothing a modern client notifies over HTTP concerns an upstream (2026-07-28, "cancellation").
            return Ok(Reply::accepted());
        }
        if let Some(category) = Category::of(message.method()) {
            return self.list(&call, &message, category).await;
        }
        let target = match message.method() {
            method::DISCOVER => return self.discover(&call, &message).await,
            method::LISTEN => return self.listen(&call, &message).await,
            method::TOOLS_CALL => self.renamed(&call, &message, Category::Tools, &["name"]).await?,
            method::PROMPTS_GET => self.renamed(&call, &message, Category::Prompts, &["name"]).await?,
            method::RESOURCES_READ => self.resource_target(&call, &message).await?,
            method::COMPLETE => self.completion_target(&call, &message).await?,
            removed if method::REMOVED.contains(&removed) => {
                return Err(Failure::new(Kind::UnknownMethod, format!("Method not found: {removed}")));
            }
            tasks if tasks.starts_with("tasks/") => {
                Target::One(self.owner_of_task(&call, &message)?, message.clone())
            }
            _ => Target::One(only(&call, &message)?, message.clone()),
        };
        match target {
            Target::List(category) => self.list(&call, &message, category).await,
            Target::One(upstream, message) => {
                let mut call = call.with_message(message.clone());
                renamed_header(&mut call, &message)?;
                let hearer = self.hearer(&call, &upstream);
                let reply = self.next.ask(call, upstream).await?;
                Ok(match hearer {
                    Some(hearer) => hearer.told(reply),
                    None => reply,
                })
            }
            Target::Status(upstream) => {
                let gate = self.context.stores.gate(&upstream.name);
                Ok(status::answer(&call, &message, &gate, &upstream))
            }
        }
    }

    /// The upstream that runs a task: its sealed id says so.
    fn owner_of_task(&self, call: &Call, message: &Message) -> Result<Arc<Upstream>, Failure> {
        let token = text_at(message, &["taskId"])?;
        Handle::open(&self.context.keyring, Purpose::Task, &call.principal, &token)
            .and_then(|found| call.plan.upstream(&found.upstream).cloned())
            .filter(|upstream| call.principal.access.upstream(upstream))
            .ok_or_else(|| Failure::new(Kind::InvalidParams, "unknown or expired `taskId`"))
    }

    async fn discover(&self, call: &Call, message: &Message) -> Result<Reply, Failure> {
        let handshakes = self.handshakes(call).await?;
        let result = capabilities::discover_result(&handshakes);
        Ok(Reply::json(rpc::result(message.id().unwrap_or_default(), &result)))
    }
}

/// The header repeats the body, also after a rename.
fn renamed_header(call: &mut Call, message: &Message) -> Result<(), Failure> {
    if let Some(key) = method::named_by(message.method()) {
        call.headers.insert(header::NAME, header::encode(&text_at(message, &[key])?));
    }
    Ok(())
}
