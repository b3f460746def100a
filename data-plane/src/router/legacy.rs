//! Legacy calls on the aggregated route.

use super::{
    Router, capabilities, category::Category, lists::server, notices::LEVELS, only, requests, status,
};
use crate::{
    call::{Ask, Call, Reply, Session, Upstreams, read_response},
    failure::{Failure, Kind},
    mcp::{self, Message, json, method, rpc},
    plan::Upstream,
};
use std::sync::Arc;

impl<N: Upstreams> Router<N> {
    pub(super) async fn legacy(&self, call: Call, session: &Arc<Session>) -> Result<Reply, Failure> {
        match &call.ask {
            Ask::Stream => Ok(self.session_stream(&call, session)),
            Ask::End => {
                let ends = call.plan.upstreams.iter().map(|one| self.next.ask(call.clone(), one.clone()));
                futures_util::future::join_all(ends).await;
                Ok(Reply::accepted())
            }
            Ask::Message(message) => {
                let message = message.clone();
                match message.kind() {
                    mcp::Kind::Request => self.legacy_request(&call, &message, session).await,
                    mcp::Kind::Notification => self.notification(&call, &message, session).await,
                    mcp::Kind::Response => {
                        let stores = &self.context.stores;
                        if let Some((upstream, response)) =
                            requests::answered(stores, &call, session, &message)
                        {
                            self.next.ask(call.with_message(response), upstream).await?;
                        }
                        Ok(Reply::accepted())
                    }
                }
            }
        }
    }

    async fn legacy_request(
        &self,
        call: &Call,
        message: &Message,
        session: &Arc<Session>,
    ) -> Result<Reply, Failure> {
        let id = message.id().unwrap_or_default();
        match message.method() {
            method::INITIALIZE => {
                let handshakes = self.handshakes(call).await?;
                let result = capabilities::initialize_result(&handshakes, session.version);
                requests::State::of(session).announced_logging(capabilities::announces_logging(&handshakes));
                Ok(Reply::json(rpc::result(id, &result)))
            }
            method::PING => Ok(Reply::json(rpc::result(id, b"{}"))),
            method::SET_LEVEL => self.set_level(call, message, session).await,
            other => match self.legacy_target(call, message, other).await? {
                Target::List(category) => {
                    self.check_suspects(call, session).await;
                    self.list(call, message, category).await
                }
                Target::One(upstream, message) => {
                    let gate = self.context.stores.gate(&upstream.name);
                    let call = call.with_message(message);
                    requests::tracked(&*self.next, call, upstream, session, &gate).await
                }
                Target::Status(upstream) => self.status(call, message, session, &upstream),
            },
        }
    }

    /// Who is meant by a request, and the request as that upstream knows it.
    async fn legacy_target(&self, call: &Call, message: &Message, method: &str) -> Result<Target, Failure> {
        if let Some(category) = Category::of(method) {
            return Ok(Target::List(category));
        }
        Ok(match method {
            method::TOOLS_CALL => self.renamed(call, message, Category::Tools, &["name"]).await?,
            method::PROMPTS_GET => self.renamed(call, message, Category::Prompts, &["name"]).await?,
            method::RESOURCES_READ | method::RESOURCES_SUBSCRIBE | method::RESOURCES_UNSUBSCRIBE => {
                self.resource_target(call, message).await?
            }
            method::COMPLETE => self.completion_target(call, message).await?,
            _ => Target::One(only(call, message)?, message.clone()),
        })
    }

    /// Whose the resource named in a request is.
    pub(super) async fn resource_target(&self, call: &Call, message: &Message) -> Result<Target, Failure> {
        let uri = text_at(message, &["uri"])?;
        if status::is_own(&uri) {
            return Ok(Target::Status(status::named(call, &uri)?));
        }
        Ok(Target::One(self.owner_of_resource(call, &uri).await?, message.clone()))
    }

    /// A request about the status of an upstream.
    fn status(
        &self,
        call: &Call,
        message: &Message,
        session: &Session,
        upstream: &Upstream,
    ) -> Result<Reply, Failure> {
        let (gate, state) = (self.context.stores.gate(&upstream.name), requests::State::of(session));
        match message.method() {
            method::RESOURCES_SUBSCRIBE => state.followed.follow(&gate, upstream),
            method::RESOURCES_UNSUBSCRIBE => state.followed.unfollow(upstream),
            _ => return Ok(status::answer(call, message, &gate, upstream)),
        }
        state.stirred.notify_one();
        Ok(Reply::json(rpc::result(message.id().unwrap_or_default(), b"{}")))
    }

    pub(super) async fn completion_target(&self, call: &Call, message: &Message) -> Result<Target, Failure> {
        match text_at(message, &["ref", "type"])?.as_str() {
            "ref/prompt" => self.renamed(call, message, Category::Prompts, &["ref", "name"]).await,
            "ref/resource" => {
                let uri = text_at(message, &["ref", "uri"])?;
                Ok(Target::One(self.owner_of_resource(call, &uri).await?, message.clone()))
            }
            other => Err(Failure::new(Kind::InvalidParams, format!("unknown `params.ref.type`: {other}"))),
        }
    }

    /// The owner of the tool or prompt named at `path`, and the message under the owner's own name for it.
    pub(super) async fn renamed(
        &self,
        call: &Call,
        message: &Message,
        category: Category,
        path: &[&str],
    ) -> Result<Target, Failure> {
        let name = text_at(message, path)?;
        let (upstream, own) = self.owner_of(call, category, &name).await?;
        let at = message.param(path).ok().flatten().expect("the name was just read there");
        let message =
            if own == name { message.clone() } else { message.spliced(vec![(at, json::quote(&own))]) };
        Ok(Target::One(upstream, message))
    }

    async fn set_level(&self, call: &Call, message: &Message, session: &Session) -> Result<Reply, Failure> {
        let level = text_at(message, &["level"])?;
        if !LEVELS.contains(&level.as_str()) {
            let what = format!("unknown level `{level}`: one of {}", LEVELS.join(", "));
            return Err(Failure::new(Kind::InvalidParams, what));
        }
        session.set_log_level(level);
        // The others get the level when the session first talks to them.
        let state = requests::State::of(session);
        let used = self.offering(call, "logging").await?.into_iter().filter(|one| state.is_used(&one.name));
        let asks = used.map(|upstream| async {
            // One that fails now gets the level when its session is opened again.
            if let Ok(reply) = self.next.ask(call.clone(), upstream).await {
                let _ = read_response(reply).await;
            }
        });
        futures_util::future::join_all(asks).await;
        Ok(Reply::json(rpc::result(message.id().unwrap_or_default(), b"{}")))
    }

    async fn notification(
        &self,
        call: &Call,
        message: &Message,
        session: &Session,
    ) -> Result<Reply, Failure> {
        let concerned: Vec<Arc<Upstream>> = match message.method() {
            // Each upstream session completed its own handshake.
            method::INITIALIZED => Vec::new(),
            method::CANCELLED => requests::cancelled(call, session, message).into_iter().collect(),
            method::PROGRESS => {
                let waiting = requests::State::of(session).waiting();
                waiting.iter().filter_map(|key| call.plan.by_key(key).cloned()).collect()
            }
            _ => server(call)?.upstreams.clone(),
        };
        let tells = concerned.into_iter().map(|upstream| self.next.ask(call.clone(), upstream));
        for told in futures_util::future::join_all(tells).await {
            if let Err(failure) = told {
                tracing::debug!(
                    method = message.method(),
                    error = failure.chain(),
                    "notification not delivered"
                );
            }
        }
        Ok(Reply::accepted())
    }
}

/// Who is meant by a request.
pub(super) enum Target {
    /// Everybody: a list.
    List(Category),
    /// One upstream, with the message as it knows it.
    One(Arc<Upstream>, Message),
    /// The gateway itself, about this upstream.
    Status(Arc<Upstream>),
}

/// A string in `params` that must be there.
pub(super) fn text_at(message: &Message, path: &[&str]) -> Result<String, Failure> {
    match message.param_str(path) {
        Ok(Some(text)) => Ok(text.into_owned()),
        Ok(None) => {
            Err(Failure::new(Kind::InvalidParams, format!("`params.{}` must be a string", path.join("."))))
        }
        Err(malformed) => Err(Failure::new(Kind::InvalidParams, malformed.0)),
    }
}
