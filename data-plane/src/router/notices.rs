//! What clients hear of changes between stores: `notifications/message` of the gateway's own. Legacy clients hear it
//! on their session's stream; modern ones with the answer of a request that asked for logs, where that answer is a
//! stream already.

use super::Router;
use crate::{
    call::{Ask, Body, Call, Caller, Messages, Reply, Upstreams, read_messages},
    mcp::{self, Message, era, json, method, rpc},
    plan::Upstream,
    stores::{News, Notice, Source, Stores},
};
use futures_util::{StreamExt as _, stream};
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::broadcast::{Receiver, error::RecvError};

/// The levels of log messages, the least first.
pub(super) const LEVELS: [&str; 8] =
    ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

/// Who says so.
const LOGGER: &str = "only1";

/// A notice as a message for a client that wants messages from `least` on; `None`: it wants no such one.
pub(super) fn message(notice: &Notice, upstream: &Upstream, least: Option<&str>) -> Option<Message> {
    let level = match notice.news {
        News::FailedOver { .. } => "warning",
        News::Restored { .. } => "info",
    };
    admits(least, level).then(|| {
        let params = json!({ "level": level, "logger": LOGGER, "data": data(notice, upstream) });
        Message::parse(&rpc::notification(method::MESSAGE, Some(params.to_string().as_bytes())))
            .expect("a notification of our own is a message")
    })
}

/// Whether messages of a level are wanted. Who never said from which level on wants all.
fn admits(least: Option<&str>, level: &str) -> bool {
    let rank = |level: &str| LEVELS.iter().position(|known| *known == level);
    least.is_none_or(|least| rank(level) >= rank(least))
}

fn data(notice: &Notice, upstream: &Upstream) -> Value {
    let (name, because) = (&upstream.name, &notice.because);
    match notice.news {
        News::FailedOver { active } => {
            let source = Source::of(active, upstream);
            let what = match source {
                Source::Primary => format!("the backup of `{name}` answers reads, its primary does not work"),
                Source::Backup => format!("`{name}` failed over to its backup"),
                Source::Snapshot => format!("`{name}` failed over to this node's snapshot of it"),
            };
            json!({
                "upstream": name,
                "event": "failover",
                "activeStore": source.word(),
                "reason": because,
                "text": if because.is_empty() { what } else { format!("{what}: {because}") },
            })
        }
        News::Restored { after, synced_back } => {
            let seconds = after.as_secs_f64();
            json!({
                "upstream": name,
                "event": "restoration",
                "activeStore": Source::Primary.word(),
                "reason": because,
                "entriesSyncedBack": synced_back,
                "durationSeconds": seconds,
                "text": format!(
                    "the primary of `{name}` answers again, after {seconds:.1} s; it has {synced_back} writes of meanwhile"
                ),
            })
        }
    }
}

/// The next notice. What a slow listener missed is gone.
pub(super) async fn next(notices: &mut Receiver<Notice>) -> Notice {
    loop {
        match notices.recv().await {
            Ok(notice) => return notice,
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// Whoever hears of the changes of one upstream on a stream that other things come by, too.
pub(super) struct Hearer {
    upstream: Arc<Upstream>,
    notices: Receiver<Notice>,
    stores: Arc<Stores>,
    caller: Caller,
    /// Of a modern request: see [`era::META_LOG_LEVEL`].
    asked: Option<String>,
}

impl<N: Upstreams> Router<N> {
    /// Who hears of changes with the reply to a call to this upstream, from now on; `None`: nobody could.
    pub(super) fn hearer(&self, call: &Call, upstream: &Arc<Upstream>) -> Option<Hearer> {
        upstream.backup.as_ref()?;
        let asked = match (&call.caller, &call.ask) {
            (Caller::Legacy(Some(_)), Ask::Stream) => None,
            (Caller::Modern, Ask::Message(message)) if message.method() != method::LISTEN => {
                Some(log_level(message)?)
            }
            _ => return None,
        };
        let (stores, caller) = (self.context.stores.clone(), call.caller.clone());
        Some(Hearer { upstream: upstream.clone(), notices: stores.notices(), stores, caller, asked })
    }
}

fn log_level(message: &Message) -> Option<String> {
    let meta = message.param(&["_meta"]).ok()??;
    let at = json::find(message.bytes(), &meta, &[era::META_LOG_LEVEL]).ok()??;
    json::string(message.bytes(), &at).map(std::borrow::Cow::into_owned)
}

impl Hearer {
    /// The reply to a request on the route of one upstream with what is heard. Bytes that pass stay what they are.
    pub(super) fn told_alone(self, reply: Reply) -> Reply {
        if matches!(reply.body, Body::Messages(_)) { self.told(reply) } else { reply }
    }

    /// The reply with what is heard, if it is a stream.
    pub(super) fn told(self, reply: Reply) -> Reply {
        if !reply.status.is_success() || !(reply.is_event_stream() || matches!(reply.body, Body::Messages(_)))
        {
            return reply;
        }
        let (status, mut headers, stale) = (reply.status, reply.headers.clone(), reply.stale);
        // The listener chooses again how messages go out.
        headers.remove(CONTENT_TYPE);
        Reply { status, headers, body: Body::Messages(self.among(read_messages(reply))), stale }
    }

    /// Messages with what is heard among them, until they end or were answered.
    fn among(self, messages: Messages) -> Messages {
        stream::unfold((messages, Some(self)), |(mut messages, mut hearer)| async move {
            let heard = async {
                match &mut hearer {
                    Some(hearer) => hearer.next().await,
                    None => std::future::pending().await,
                }
            };
            let next = tokio::select! {
                biased;
                heard = heard => Ok(heard),
                next = messages.next() => next?,
            };
            if next.as_ref().is_ok_and(|message| message.kind() == mcp::Kind::Response) {
                hearer = None;
            }
            Some((next, (messages, hearer)))
        })
        .boxed()
    }

    pub(super) async fn next(&mut self) -> Message {
        loop {
            let notice = next(&mut self.notices).await;
            let least = match &self.caller {
                Caller::Legacy(Some(session)) => session.log_level(),
                _ => self.asked.clone(),
            };
            if notice.upstream == self.upstream.name
                && let Some(message) = message(&notice, &self.upstream, least.as_deref())
            {
                self.stores.told(&notice.upstream);
                return message;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Backup;
    use o1_proto::model::Store;
    use std::time::{Duration, SystemTime};

    fn said(news: News, backup: Backup, least: Option<&str>) -> Option<Value> {
        let upstream = Upstream { backup: Some(backup), ..Upstream::bare("x") };
        let notice =
            Notice { upstream: "x".into(), news, at: SystemTime::now(), because: "no answer".into() };
        let message = message(&notice, &upstream, least)?;
        assert_eq!(message.method(), method::MESSAGE);
        Some(serde_json::from_slice(message.params().unwrap()).unwrap())
    }

    #[test]
    fn a_notice_says_what_happened_to_which_upstream() {
        let failed = said(News::FailedOver { active: Store::Backup }, Backup::Snapshot, None).unwrap();
        let text = "`x` failed over to this node's snapshot of it: no answer";
        assert_eq!(
            failed,
            json!({ "level": "warning", "logger": "only1", "data": {
                "upstream": "x", "event": "failover", "activeStore": "snapshot", "reason": "no answer", "text": text,
            } })
        );
        let restored = News::Restored { after: Duration::from_millis(1500), synced_back: 3 };
        let restored = said(restored, Backup::Snapshot, None).unwrap();
        assert_eq!(restored["level"], "info");
        assert_eq!(restored["data"]["entriesSyncedBack"], 3);
        assert_eq!(restored["data"]["durationSeconds"], 1.5);
        assert_eq!(restored["data"]["activeStore"], "primary");
    }

    #[test]
    fn who_asked_for_less_hears_less() {
        let peer = || Backup::Endpoints(Arc::new(Upstream::bare("x")));
        let failed = |least| said(News::FailedOver { active: Store::Primary }, peer(), least).is_some();
        let restored = |least| {
            let news = News::Restored { after: Duration::ZERO, synced_back: 0 };
            said(news, peer(), least).is_some()
        };
        assert!(failed(None) && failed(Some("debug")) && failed(Some("warning")) && !failed(Some("error")));
        assert!(restored(None) && restored(Some("info")) && !restored(Some("notice")));
    }
}
