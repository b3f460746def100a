//! `o1://status/<upstream>`: how an upstream with a backup stands, as a resource of the gateway's own on the routes
//! that include the upstream. No upstream owns anything under `o1://`.
//!
//! It must never say where anything is: its readers are clients, not operators.

use super::{
    capabilities,
    catalogue::List,
    category::Category,
    lists::server,
    offer::{self, Part},
};
use crate::{
    call::{Call, Caller, Reply},
    failure::{Failure, Kind},
    mcp::{Message, json, rpc},
    plan::{Server, Upstream},
    principal::Access,
    stores::{Gate, Source, rfc3339},
};
use bytes::Bytes;
use o1_proto::model::{Store, StoreHealth};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::watch;

/// What is the gateway's own begins with this.
const OWN: &str = "o1://";

/// Whether a resource of this URI could only be the gateway's own.
pub(super) fn is_own(uri: &str) -> bool {
    uri.get(..OWN.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(OWN))
}

/// The status of an upstream.
pub(super) fn uri(upstream: &Upstream) -> String {
    format!("{OWN}status/{}", upstream.name)
}

/// Whether a caller sees the status of an upstream on a server's route.
pub(super) fn is_shown(server: &Server, access: &Access, upstream: &Upstream) -> bool {
    upstream.backup.is_some()
        && offer::face(server, access, Category::Resources, upstream, &uri(upstream)).is_ok()
}

/// The upstream whose status a URI names.
///
/// # Errors
/// There is none, or it does not concern this caller on this route, which sounds the same.
pub(super) fn named(call: &Call, uri: &str) -> Result<Arc<Upstream>, Failure> {
    let server = server(call)?;
    let fits = |one: &&Arc<Upstream>| self::uri(one) == uri && is_shown(server, &call.principal.access, one);
    server.upstreams.iter().find(fits).cloned().ok_or_else(|| unknown(uri))
}

/// There is no such resource.
pub(super) fn unknown(uri: &str) -> Failure {
    let data = json!({ "uri": uri });
    Failure::new(Kind::UnknownResource, format!("Resource not found: {uri}")).with_data(data)
}

/// What the gateway itself lists on a route, for each upstream that it says something of.
pub(super) fn parts(server: &Server, category: Category) -> impl Iterator<Item = Part> {
    let with_backup = server.upstreams.iter().filter(|one| one.backup.is_some());
    with_backup.filter(move |_| category == Category::Resources).map(|upstream| {
        let item = json!({
            "uri": uri(upstream),
            "name": format!("{}_status", upstream.name),
            "title": format!("Status of {}", upstream.name),
            "description": format!(
                "Which store of the upstream `{}` answers, its primary or its backup, and how both are.",
                upstream.name
            ),
            "mimeType": "application/json",
        });
        let list = List::own(Category::Resources, vec![Bytes::from(item.to_string())]);
        (upstream.clone(), Some(Arc::new(list)))
    })
}

/// How an upstream stands now.
pub(super) fn document(gate: &Gate, upstream: &Upstream) -> String {
    let standing = gate.standing();
    let status = json!({
        "upstream": upstream.name,
        "activeStore": Source::of(standing.active, upstream).word(),
        "phase": standing.phase.word(),
        "since": standing.since.and_then(rfc3339),
        "term": standing.term,
        "primary": store(&gate.health(Store::Primary).now()),
        "backup": store(&gate.health(Store::Backup).now()),
    });
    status.to_string()
}

fn store(health: &StoreHealth) -> Value {
    json!({
        "verdict": health.verdict.word(),
        "breaker": health.breaker.word(),
        "since": health.since.and_then(rfc3339),
        "error": Some(without_places(&health.error)).filter(|error| !error.is_empty()),
    })
}

/// The words of a failure without those that say where a server is.
fn without_places(error: &str) -> String {
    let is_place = |word: &str| {
        let word = word.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '[' && c != ']');
        let port =
            |(_, port): (&str, &str)| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        word.contains("://") || word.parse::<SocketAddr>().is_ok() || word.rsplit_once(':').is_some_and(port)
    };
    let words = error.split_whitespace().map(|word| if is_place(word) { "[address]" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

/// The answer to `resources/read` of a status.
pub(super) fn answer(call: &Call, message: &Message, gate: &Gate, upstream: &Upstream) -> Reply {
    let contents = json!([{
        "uri": uri(upstream),
        "mimeType": "application/json",
        "text": document(gate, upstream),
    }]);
    let result = match call.caller {
        Caller::Legacy(_) => format!(r#"{{"contents":{contents}}}"#),
        // It may be another at any moment.
        Caller::Modern => format!(
            r#"{{"contents":{contents},"resultType":"complete","ttlMs":0,"cacheScope":"private","_meta":{}}}"#,
            capabilities::server_info_meta()
        ),
    };
    Reply::json(rpc::result(message.id().unwrap_or_default(), result.as_bytes()))
}

/// The parameters of `notifications/resources/updated`; `meta` is raw JSON.
pub(super) fn updated(upstream: &Upstream, meta: Option<&str>) -> String {
    let uri = String::from_utf8_lossy(&json::quote(&uri(upstream))).into_owned();
    match meta {
        Some(meta) => format!(r#"{{"_meta":{meta},"uri":{uri}}}"#),
        None => format!(r#"{{"uri":{uri}}}"#),
    }
}

/// The statuses that one client follows, by the name of the upstream, each as the client could last know it.
#[derive(Default)]
pub(super) struct Followed(Mutex<BTreeMap<String, String>>);

impl Followed {
    /// From now on the client is told.
    pub(super) fn follow(&self, gate: &Gate, upstream: &Upstream) {
        self.lock().insert(upstream.name.clone(), document(gate, upstream));
    }

    /// It is told no more.
    pub(super) fn unfollow(&self, upstream: &Upstream) {
        self.lock().remove(&upstream.name);
    }

    pub(super) fn is_followed(&self, upstream: &Upstream) -> bool {
        self.lock().contains_key(&upstream.name)
    }

    /// Whether the client has something to hear; it counts as told.
    pub(super) fn is_news(&self, gate: &Gate, upstream: &Upstream) -> bool {
        let now = document(gate, upstream);
        let mut followed = self.lock();
        followed.get_mut(&upstream.name).is_some_and(|known| {
            let news = *known != now;
            *known = now;
            news
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes whenever the status of an upstream may have changed.
pub(super) struct Changes {
    standing: watch::Receiver<u64>,
    health: [watch::Receiver<StoreHealth>; 2],
}

impl Changes {
    pub(super) fn of(gate: &Gate) -> Self {
        let health = [Store::Primary, Store::Backup].map(|store| gate.health(store).watch());
        Self { standing: gate.watch(), health }
    }

    /// Waits for the next one since the last [`Changes::seen`].
    pub(super) async fn next(&mut self) {
        let [primary, backup] = &mut self.health;
        tokio::select! {
            _ = self.standing.changed() => {}
            _ = primary.changed() => {}
            _ = backup.changed() => {}
        }
    }

    /// Whatever changed until now was looked at.
    pub(super) fn seen(&mut self) {
        self.standing.mark_unchanged();
        self.health.iter_mut().for_each(watch::Receiver::mark_unchanged);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use o1_proto::model::{BreakerState, Verdict};

    #[test]
    fn a_failure_is_told_without_where_it_happened() {
        for (error, told) in [
            ("GET http://10.0.0.5:3101/health answered 503", "GET [address] answered 503"),
            (
                "connect 127.0.0.1:3101: Connection refused (os error 111)",
                "connect [address] Connection refused (os error 111)",
            ),
            ("no route to [::1]:80, or db.internal:5432.", "no route to [address] or [address]"),
            ("the upstream did not answer in time: 5 s", "the upstream did not answer in time: 5 s"),
            ("", ""),
        ] {
            assert_eq!(without_places(error), told);
        }
    }

    #[test]
    fn what_is_the_gateways_own_is_told_by_its_scheme() {
        assert!(is_own("o1://status/x") && is_own("O1://anything"));
        assert!(!is_own("o1:/x") && !is_own("file://o1://x") && !is_own("o1:") && !is_own("öö://x"));
    }

    #[test]
    fn who_follows_a_status_has_news_once_for_each_change_and_none_without() {
        let stores = crate::stores::Stores::default();
        let (gate, x, followed) = (stores.gate("x"), Upstream::bare("x"), Followed::default());
        assert!(!followed.is_news(&gate, &x), "it is not followed");
        followed.follow(&gate, &x);
        assert!(!followed.is_news(&gate, &x), "nothing has changed");
        let health = StoreHealth {
            verdict: Verdict::Unhealthy,
            breaker: BreakerState::Open,
            error: "connect http://secret/ failed".into(),
            ..StoreHealth::default()
        };
        gate.health(Store::Primary).tell(health);
        assert!(followed.is_news(&gate, &x) && !followed.is_news(&gate, &x));
        let told: Value = serde_json::from_str(&document(&gate, &x)).unwrap();
        let primary = json!({ "verdict": "unhealthy", "breaker": "open", "since": null, "error": "connect [address] failed" });
        assert_eq!(told["primary"], primary);
        assert_eq!(told["backup"]["error"], Value::Null);
        followed.unfollow(&x);
        gate.health(Store::Primary).tell(StoreHealth::default());
        assert!(!followed.is_news(&gate, &x));
    }
}
