//! Questions that nodes answer.

use super::{Client, moment};
use crate::{
    connect::{Failure, Link},
    inspect::{
        Call, CallOutcome, CallsSeen, LogLine, LogPart, NodeCalls, Offer, Said, Source, Tool, ToolState,
    },
};
use o1_proto::{convert, wire};
use tonic::Streaming;

impl Client {
    /// What a node offers: the one of this id, or the first; on the route of a virtual server, or on `/mcp`; to
    /// a static token of this name, or to somebody who may use everything. Empty names stand for the latter.
    ///
    /// # Errors
    /// Why there is no answer, or no complete one.
    pub async fn tools(&mut self, node: &str, server: &str, principal: &str) -> Result<Offer, Failure> {
        let query = wire::ToolsQuery { server: server.to_owned(), principal: principal.to_owned() };
        let request = wire::ListToolsRequest { node_id: node.to_owned(), query: Some(query) };
        let mut stream = self.link.answer(self.inspect.list_tools(request)).await?;
        let mut offer = Offer::default();
        while let Some(wire::ListToolsResponse { node_id, part }) =
            self.link.answer(part_of(&mut stream)).await?
        {
            let part = part.unwrap_or_default();
            offer.node_id = node_id;
            offer.tools.extend(part.tools.into_iter().map(tool));
            offer.upstreams.extend(part.upstreams.into_iter().map(source));
        }
        Ok(offer)
    }

    /// What the processes of an upstream wrote to stderr: on the node of this id, or on every connected one.
    ///
    /// # Errors
    /// Why nobody can be asked.
    pub async fn logs(
        &mut self,
        node: &str,
        upstream: &str,
        tail: u32,
        follow: bool,
    ) -> Result<Tail, Failure> {
        let query = wire::LogsQuery { upstream: upstream.to_owned(), tail, follow };
        let request = wire::TailLogsRequest { node_id: node.to_owned(), query: Some(query) };
        let stream = self.link.answer(self.inspect.tail_logs(request)).await?;
        Ok(Tail { stream, link: self.link.clone() })
    }
}

impl Client {
    /// The calls that nodes answered last, at most so many of each node: what each connected one says.
    ///
    /// # Errors
    /// Why nobody can be asked.
    pub async fn calls(&mut self, limit: u32) -> Result<Vec<NodeCalls>, Failure> {
        let query = wire::CallsQuery { limit, ..wire::CallsQuery::default() };
        let request = wire::ListCallsRequest { node_id: String::new(), query: Some(query) };
        let mut stream = self.link.answer(self.inspect.list_calls(request)).await?;
        let mut told = Vec::new();
        while let Some(one) = self.link.answer(part_of(&mut stream)).await? {
            told.push(node_calls(one));
        }
        told.sort_by(|one, other| one.node_id.cmp(&other.node_id));
        Ok(told)
    }
}

/// The next part of an answer, read as if it were a call of its own, so that the limit is the usual one.
async fn part_of<T>(stream: &mut Streaming<T>) -> Result<tonic::Response<Option<T>>, tonic::Status> {
    stream.message().await.map(tonic::Response::new)
}

fn node_calls(wire: wire::ListCallsResponse) -> NodeCalls {
    let wire::ListCallsResponse { node_id, said } = wire;
    let said = match said {
        Some(wire::list_calls_response::Said::Part(wire::CallsPart { calls, seen, kept })) => {
            let calls = calls.into_iter().map(|one| call(&node_id, one)).collect();
            Ok(CallsSeen { calls, seen, kept })
        }
        Some(wire::list_calls_response::Said::Failure(failure)) => Err(failure.message),
        None => Err("something that this version of o1ctl does not know".to_owned()),
    };
    NodeCalls { node_id, said }
}

fn call(node_id: &str, wire: wire::RecentCall) -> Call {
    Call {
        at: moment(wire.at.as_ref()),
        node_id: node_id.to_owned(),
        outcome: match wire.outcome() {
            wire::CallOutcome::Ok => CallOutcome::Ok,
            wire::CallOutcome::Cached => CallOutcome::Cached,
            wire::CallOutcome::ApplicationError => CallOutcome::ApplicationError,
            wire::CallOutcome::Error => CallOutcome::Error,
            wire::CallOutcome::Timeout => CallOutcome::Timeout,
            wire::CallOutcome::Unspecified => CallOutcome::Unknown,
        },
        store: convert::store(wire.store),
        took: convert::duration(wire.took.as_ref()),
        upstream: wire.upstream,
        method: wire.method,
        name: wire.name,
    }
}

/// A log that is being read.
pub struct Tail {
    stream: Streaming<wire::TailLogsResponse>,
    link: Link,
}

impl Tail {
    /// The next part, whenever it comes; `None`: that was all.
    ///
    /// # Errors
    /// Why the rest will not come.
    pub async fn next(&mut self) -> Result<Option<LogPart>, Failure> {
        let message = self.stream.message().await.map_err(|status| self.link.failure(&status))?;
        Ok(message.map(log_part))
    }
}

fn log_part(wire: wire::TailLogsResponse) -> LogPart {
    let wire::TailLogsResponse { node_id, said } = wire;
    let line = |line: wire::LogLine| LogLine {
        at: moment(line.at.as_ref()),
        node_id: node_id.clone(),
        pid: line.pid,
        text: line.text,
    };
    let said = match said {
        Some(wire::tail_logs_response::Said::Part(part)) if part.no_process => Said::NoProcess,
        Some(wire::tail_logs_response::Said::Part(part)) => {
            Said::Lines(part.lines.into_iter().map(line).collect(), part.missed)
        }
        Some(wire::tail_logs_response::Said::Failure(failure)) => match failure.reason() {
            wire::QueryFailureReason::NotFound => Said::NotFound(failure.message),
            _ => Said::Failed(failure.message),
        },
        None => Said::Failed("something that this version of o1ctl does not know".to_owned()),
    };
    LogPart { node_id, said }
}

fn tool(wire: wire::InspectedTool) -> Tool {
    let text = |text: String| Some(text).filter(|text| !text.is_empty());
    Tool {
        state: match wire.state() {
            wire::ToolState::Served => ToolState::Served,
            wire::ToolState::Unreachable => ToolState::Unreachable,
            wire::ToolState::NotAllowed => ToolState::NotAllowed,
            wire::ToolState::Denied => ToolState::Denied,
            wire::ToolState::Clash => ToolState::Clash,
            wire::ToolState::Hidden => ToolState::Hidden,
            wire::ToolState::Forbidden => ToolState::Forbidden,
            wire::ToolState::Unspecified => ToolState::Unknown,
        },
        since: moment(wire.since.as_ref()),
        name: wire.name,
        upstream: wire.upstream,
        own_name: wire.own_name,
        description: wire.description,
        shortened: wire.shortened,
        pattern: text(wire.pattern),
        other: text(wire.other),
    }
}

fn source(wire: wire::InspectedSource) -> Source {
    Source {
        listed: moment(wire.listed.as_ref()),
        name: wire.name,
        prefix: wire.prefix,
        error: Some(wire.error).filter(|error| !error.is_empty()),
    }
}
