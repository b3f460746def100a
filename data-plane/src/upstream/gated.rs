//! Calls to an upstream that has a backup: let in at its gate, sent to the store that serves, and held to be on their
//! way there until their answer is complete. What the operator says of writes during a failover happens here.
//!
//! It must never send a write to a store that is not the active one, and never answer a write that is to be replayed
//! before the journal has it.

use super::{Upstream, marked::marked};
use crate::{
    call::{Ask, Body, Call, Caller, Connect, Messages, Reply, read_messages},
    failure::{Failure, Kind},
    mcp::{self, Era, Message, json, method, own, rpc},
    plan::{self, Backup},
    stores::{self, Admitted, Answer, Barrier, Gate, Intent, Kept},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::header::CONTENT_TYPE;
use o1_proto::model::{Store, Writes};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

impl<C: Connect> Upstream<C> {
    /// Answers a call from whichever store serves.
    pub(super) async fn gated(&self, call: Call, upstream: Arc<plan::Upstream>) -> Result<Reply, Failure> {
        let gate = self.context.stores.gate(&upstream.name);
        let intent = intent(&call.ask, &upstream);
        let mut first = true;
        loop {
            let moves = gate.moves();
            let attempt = self.attempt(&call, &upstream, &gate, intent).await;
            // What is cut while calls are held back is on the eve of a move.
            let moving = || gate.moves() != moves || gate.standing().barrier == Barrier::Everything;
            let moved = std::mem::take(&mut first) && moving();
            match attempt {
                // It ran into the end of one store, and does no harm at the other.
                Err(failure) if moved && intent == Intent::Read && is_of_the_store(&failure) => {}
                attempt => return attempt.map_err(|failure| failure.at(&upstream.name)),
            }
        }
    }

    async fn attempt(
        &self,
        call: &Call,
        upstream: &Arc<plan::Upstream>,
        gate: &Arc<Gate>,
        intent: Intent,
    ) -> Result<Reply, Failure> {
        let admitted = gate.admit(intent).await?;
        let (store, standing) = (admitted.store, admitted.standing.clone());
        let mark = |answer: Answer| {
            let primary = gate.health(Store::Primary).words();
            let is_tool =
                matches!(&call.ask, Ask::Message(message) if message.method() == method::TOOLS_CALL);
            is_tool
                .then(|| {
                    stores::mark(call.plan.clients.failover_metadata, upstream, &standing, primary, answer)
                })
                .flatten()
        };
        let diverted = admitted.standing.active == Store::Backup && intent == Intent::Write;
        let kept = if diverted {
            let cut = admitted.cut();
            tokio::select! {
                biased;
                kept = self.keep(call, upstream) => kept?,
                () = cut.cancelled() => return Err(cut_off()),
            }
        } else {
            None
        };
        let side = match (admitted.store, &upstream.backup) {
            (Store::Backup, Some(Backup::Endpoints(backup))) => backup.clone(),
            (Store::Backup, Some(Backup::Snapshot)) => {
                return match (kept, &call.ask) {
                    (Some(kept), Ask::Message(message)) => {
                        let reply = accepted(call, message, upstream, &kept);
                        Ok(marked(reply, mark(Answer::write(store, upstream, true))).await)
                    }
                    _ => Err(not_in_the_snapshot(upstream)),
                };
            }
            _ => upstream.clone(),
        };
        let Some(kept) = kept else {
            let answer = match intent {
                Intent::Write => Answer::write(store, upstream, false),
                Intent::Read | Intent::Stream | Intent::Aside => Answer::read(store, upstream, &standing),
            };
            return Ok(marked(self.let_in(call, &side, admitted).await?, mark(answer)).await);
        };
        let mark = mark(Answer::write(store, upstream, true));
        // A true copy of the call, under the name by which the primary will know it.
        let Ask::Message(message) = &call.ask else { return self.let_in(call, &side, admitted).await };
        let keyed =
            keyed(message, &kept.key).map_or_else(|| call.clone(), |message| call.with_message(message));
        match self.let_in(&keyed, &side, admitted).await {
            Ok(reply) => Ok(marked(self.journaled(reply, upstream, kept.seq), mark).await),
            // The backup is away, too. The write is kept all the same, and that is what was promised.
            Err(failure) if is_of_the_store(&failure) => {
                Ok(marked(accepted(call, message, upstream, &kept), mark).await)
            }
            Err(failure) => {
                self.withdraw(upstream, &kept, failure.public());
                Err(failure)
            }
        }
    }

    /// Sends a call that was let in.
    async fn let_in(
        &self,
        call: &Call,
        side: &Arc<plan::Upstream>,
        admitted: Admitted,
    ) -> Result<Reply, Failure> {
        let (cut, moved) = (admitted.cut(), admitted.moved());
        let reply = tokio::select! {
            biased;
            reply = self.at(call, side) => reply?,
            () = cut.cancelled() => return Err(cut_off()),
        };
        Ok(held(reply, admitted, cut, moved, is_stream(&call.ask)))
    }

    /// What becomes of a write while the backup is active: it is kept for the primary, it goes to the backup and
    /// nowhere else, or it is refused.
    async fn keep(&self, call: &Call, upstream: &plan::Upstream) -> Result<Option<Kept>, Failure> {
        let Ask::Message(message) = &call.ask else { return Ok(None) };
        match &upstream.failover.writes {
            Writes::PassThrough => Ok(None),
            // A further round continues what only this store knows of.
            Writes::Journal(_) if upstream.may_journal(message) && !is_further_round(message) => {
                let journal = self.context.stores.journal();
                let journal =
                    journal.ok_or_else(|| Failure::new(Kind::Internal, "this node has no journal"))?;
                let text =
                    |path: &[&str]| message.param_str(path).ok().flatten().map(std::borrow::Cow::into_owned);
                let tool = text(&["name"]).unwrap_or_default();
                let key = text(&["_meta", own::META_IDEMPOTENCY_KEY]);
                let params = Bytes::copy_from_slice(message.params().unwrap_or(b"{}"));
                journal.keep(&upstream.name, &tool, params, &call.principal.id, key).await.map(Some)
            }
            _ => Err(read_only(upstream)),
        }
    }

    fn withdraw(&self, upstream: &plan::Upstream, kept: &Kept, why: &str) {
        if let Some(journal) = self.context.stores.journal() {
            journal.withdraw(&upstream.name, kept.seq, why);
        }
    }

    /// The backup's answer to a write that is kept. If it says no, the primary need not be asked.
    fn journaled(&self, reply: Reply, upstream: &Arc<plan::Upstream>, seq: u64) -> Reply {
        let (stores, name) = (self.context.stores.clone(), upstream.name.clone());
        let (status, mut headers) = (reply.status, reply.headers.clone());
        headers.remove(CONTENT_TYPE);
        let messages = read_messages(reply).inspect(move |next| {
            if let Ok(message) = next
                && message.kind() == mcp::Kind::Response
                && is_refusal(message)
                && let Some(journal) = stores.journal()
            {
                journal.withdraw(&name, seq, "the backup refused it");
            }
        });
        Reply { status, headers, body: Body::Messages(messages.boxed()), stale: None }
    }
}

/// What a call is to the gate.
fn intent(ask: &Ask, upstream: &plan::Upstream) -> Intent {
    match ask {
        _ if is_stream(ask) => Intent::Stream,
        Ask::Message(message) if message.kind() != mcp::Kind::Request => Intent::Aside,
        Ask::Message(message) if !upstream.only_reads(message) => Intent::Write,
        _ => Intent::Read,
    }
}

fn is_stream(ask: &Ask) -> bool {
    match ask {
        Ask::Stream => true,
        Ask::Message(message) => message.method() == method::LISTEN,
        Ask::End => false,
    }
}

/// Whether the other store might have answered.
fn is_of_the_store(failure: &Failure) -> bool {
    matches!(failure.kind, Kind::Unreachable | Kind::Timeout)
}

fn cut_off() -> Failure {
    let what = "the upstream changed over to its other store while the call was running: its outcome is unknown, \
                and it may have run";
    Failure::new(Kind::Timeout, what)
}

fn read_only(upstream: &plan::Upstream) -> Failure {
    let (rule, what) = match &upstream.failover.writes {
        Writes::Journal(_) => ("journal", "and this call is not among those that are kept for it"),
        _ => ("reject", "and its backup takes no writes"),
    };
    let data = serde_json::json!({"upstream": upstream.name, "activeStore": "backup", "writes": rule});
    let what = format!("{}: the primary is away, {what}: nothing was done, try again later", upstream.name);
    Failure::new(Kind::ReadOnly, what).with_data(data).unsent()
}

pub(super) fn not_in_the_snapshot(upstream: &plan::Upstream) -> Failure {
    let what = format!("{}: the primary is away, and the snapshot of it does not have this", upstream.name);
    Failure::new(Kind::Unreachable, what).unsent()
}

/// Whether an answer says that nothing was done, or not yet.
fn is_refusal(answer: &Message) -> bool {
    let Some(result) = answer.result() else { return true };
    let text = answer.bytes();
    let says = |key: &str, value: &[u8]| {
        json::member(text, &result, key).ok().flatten().is_some_and(|at| &text[at] == value)
    };
    says("isError", b"true") || says("resultType", b"\"input_required\"")
}

fn is_further_round(message: &Message) -> bool {
    ["requestState", "inputResponses"].iter().any(|key| !matches!(message.param(&[key]), Ok(None)))
}

/// The call with the key of its write in `_meta`.
fn keyed(message: &Message, key: &str) -> Option<Message> {
    let params = message.param(&[]).ok()??;
    if let Ok(Some(_)) = message.param(&["_meta", own::META_IDEMPOTENCY_KEY]) {
        return None;
    }
    let key = String::from_utf8_lossy(&json::quote(key)).into_owned();
    let members = format!(r#""{}":{key}"#, own::META_IDEMPOTENCY_KEY);
    let params_text = own::with_meta(&message.bytes()[params.clone()], &members).ok()?;
    Some(message.spliced(vec![(params, params_text.to_vec())]))
}

/// The answer to a write that only the journal has: it will run.
fn accepted(call: &Call, message: &Message, upstream: &plan::Upstream, kept: &Kept) -> Reply {
    let text = format!(
        "Accepted, not done yet: the primary of {} is away. This call is kept and runs there once it is back \
         (entry {}).",
        upstream.name, kept.seq
    );
    let text = String::from_utf8_lossy(&json::quote(&text)).into_owned();
    let complete = match era(call) {
        Era::Modern => r#""resultType":"complete","#,
        Era::Legacy => "",
    };
    let result = format!(r#"{{{complete}"content":[{{"type":"text","text":{text}}}],"isError":false}}"#);
    Reply::json(rpc::result(message.id().unwrap_or(b"null"), result.as_bytes()))
}

fn era(call: &Call) -> Era {
    match call.caller {
        Caller::Modern => Era::Modern,
        Caller::Legacy(_) => Era::Legacy,
    }
}

/// A reply that counts as on its way until its last byte, and ends when nobody waits for its store any longer.
fn held(
    reply: Reply,
    admitted: Admitted,
    cut: CancellationToken,
    moved: CancellationToken,
    is_stream: bool,
) -> Reply {
    let Reply { status, headers, body, stale } = reply;
    let body = match body {
        Body::Messages(messages) => Body::Messages(until(messages, admitted, cut, moved, is_stream)),
        Body::Bytes(body) => Body::Bytes(super::passing::held(body, admitted, cut, moved, is_stream)),
        whole => whole,
    };
    Reply { status, headers, body, stale }
}

fn until(
    messages: Messages,
    admitted: Admitted,
    cut: CancellationToken,
    moved: CancellationToken,
    is_stream: bool,
) -> Messages {
    let over =
        async move { if is_stream { moved.cancelled_owned().await } else { cut.cancelled_owned().await } };
    let ends = stream::once(async move {
        over.await;
        if is_stream { None } else { Some(Err(cut_off())) }
    });
    // The first to end, ends both.
    let messages = messages.map(Some).chain(stream::once(async { None }));
    let both = stream::select(messages, Box::pin(ends));
    let held = both.take_while(|next| std::future::ready(next.is_some())).filter_map(std::future::ready);
    held.map(move |next| {
        let _ = &admitted;
        next
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Message {
        Message::parse(&Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    #[test]
    fn a_kept_call_carries_its_key_and_is_otherwise_as_it_was() {
        for (given, expected) in [
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{"n":1.10}}}"#,
                r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{"dev.only1/idempotencyKey":"k"},"name":"x","arguments":{"n":1.10}}}"#,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","_meta":{"progressToken":1}}}"#,
                r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","_meta":{"dev.only1/idempotencyKey":"k","progressToken":1}}}"#,
            ),
        ] {
            assert_eq!(keyed(&message(given), "k").unwrap().bytes(), expected);
        }
        let own = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","_meta":{"dev.only1/idempotencyKey":"mine"}}}"#;
        assert!(keyed(&message(own), "mine").is_none(), "the client named it");
    }

    #[test]
    fn an_error_or_a_failed_tool_is_a_refusal() {
        for (text, refused) in [
            (r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"m"}}"#, true),
            (r#"{"jsonrpc":"2.0","id":1,"result":{"content":[],"isError":true}}"#, true),
            (r#"{"jsonrpc":"2.0","id":1,"result":{"content":[],"isError":false}}"#, false),
            (r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, false),
            (r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required"}}"#, true),
        ] {
            assert_eq!(is_refusal(&message(text)), refused, "{text}");
        }
    }

    #[tokio::test]
    async fn an_answer_is_on_its_way_until_it_is_complete_and_ends_when_it_is_cut() {
        let gate = Arc::new(Gate::for_tests("x"));
        let answer = || Ok(message(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#));
        let soon = || tokio::time::Instant::now() + std::time::Duration::from_millis(1);
        let admitted = gate.admit(Intent::Write).await.unwrap();
        let (cut, moved) = (admitted.cut(), admitted.moved());
        let whole = until(stream::iter([answer()]).boxed(), admitted, cut, moved, false);
        assert!(!gate.drained(Store::Primary, soon()).await);
        assert_eq!(whole.collect::<Vec<_>>().await.len(), 1);
        assert!(gate.drained(Store::Primary, soon()).await);
        let admitted = gate.admit(Intent::Read).await.unwrap();
        let (cut, moved) = (admitted.cut(), admitted.moved());
        let hangs = stream::iter([answer()]).chain(stream::pending()).boxed();
        let mut hangs = until(hangs, admitted, cut, moved, false);
        assert!(hangs.next().await.unwrap().is_ok());
        gate.cut(Store::Primary);
        assert_eq!(hangs.next().await.unwrap().unwrap_err().kind, Kind::Timeout);
        drop(hangs);
        assert!(gate.drained(Store::Primary, soon()).await);
    }
}
