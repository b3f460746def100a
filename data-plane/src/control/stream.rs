//! How a connection to the control plane begins, on what terms it stands, how it ends, and how long to wait
//! before the next.

use super::{
    outbound::{self, Outbound},
    reach::{Api, Reach},
};
use o1_process::{VERSION, backoff};
use o1_proto::{
    convert::{duration, duration_or},
    wire::{
        self, GoodbyeReason, Hello, SyncResponse, Welcome, node_service_client::NodeServiceClient,
        sync_request, sync_response::Msg,
    },
};
use std::{error::Error, fmt, time::Duration};
use tokio::time::timeout;
use tonic::{
    Code, Status, Streaming,
    service::interceptor::InterceptedService,
    transport::{Channel, Endpoint},
};

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const WELCOME_LIMIT: Duration = Duration::from_secs(5);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(20);
const KEEPALIVE_LIMIT: Duration = Duration::from_secs(10);
const WINDOW_BYTES: u32 = 1 << 20;
/// A whole configuration comes in one message.
const MAX_MESSAGE_BYTES: usize = 16 << 20;

const HEARTBEAT_DEFAULT: Duration = Duration::from_secs(10);
const STATS_DEFAULT: Duration = Duration::from_secs(10);
/// No terms make this node busier than this.
const FASTEST: Duration = Duration::from_millis(50);

/// A stream that stands.
pub(super) struct Connected {
    pub client: NodeServiceClient<Api>,
    pub inbound: Streaming<SyncResponse>,
    pub outbound: Outbound,
    pub terms: Terms,
}

/// What the Welcome said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Terms {
    /// Between two heartbeats.
    pub heartbeat: Duration,
    /// Between two reports.
    pub stats: Duration,
    /// Without an answer to a heartbeat for this long, the stream is dead, whatever TCP says.
    pub silence: Duration,
    /// The build of the control plane.
    pub control_plane: String,
}

/// Why a connection is no more, or never was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// This process stops.
    Stopped,
    /// The control plane said so.
    Goodbye(Farewell),
    /// Something broke.
    Lost(String),
}

impl Ended {
    /// For people; `None` if nothing is wrong.
    pub fn reason(&self) -> Option<String> {
        match self {
            Self::Stopped => None,
            Self::Goodbye(goodbye) => Some(goodbye.to_string()),
            Self::Lost(reason) => Some(reason.clone()),
        }
    }
}

/// The last words of the control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Farewell {
    reason: GoodbyeReason,
    message: String,
    /// When to come back: at the earliest, at the latest.
    back: Option<(Duration, Duration)>,
}

/// Connects, introduces the node and hears the terms.
///
/// # Errors
/// How the attempt ended.
pub(super) async fn open(reach: &Reach, hello: Hello) -> Result<Connected, Ended> {
    let api = InterceptedService::new(connect(reach).await?, reach.bearer().await?);
    let mut client = NodeServiceClient::new(api).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let (outbound, requests) = outbound::channel();
    outbound.say(sync_request::Msg::Hello(hello));
    let welcomed = timeout(WELCOME_LIMIT, async {
        let mut inbound = client.sync(requests).await.map_err(|status| lost(&status))?.into_inner();
        let welcome = welcome(&mut inbound).await?;
        Ok((inbound, welcome))
    });
    match welcomed.await {
        Ok(Ok((inbound, welcome))) => Ok(Connected { client, inbound, outbound, terms: terms(&welcome) }),
        Ok(Err(ended)) => Err(ended),
        Err(_) => Err(Ended::Lost(format!("no welcome within {WELCOME_LIMIT:?}"))),
    }
}

async fn connect(reach: &Reach) -> Result<Channel, Ended> {
    let endpoint = Endpoint::from(reach.uri().clone())
        .connect_timeout(CONNECT_LIMIT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_EVERY)
        .keep_alive_timeout(KEEPALIVE_LIMIT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .user_agent(format!("o1-data-plane/{VERSION}"))
        .map_err(|error| Ended::Lost(chain(&error)))?;
    let connector = reach.connector().await?;
    let connecting = async {
        match connector {
            Some(tls) => endpoint.connect_with_connector(tls).await,
            None => endpoint.connect().await,
        }
    };
    match timeout(CONNECT_LIMIT, connecting).await {
        Ok(Ok(channel)) => Ok(channel),
        // Its own text is only `transport error`.
        Ok(Err(error)) => Err(Ended::Lost(chain(error.source().unwrap_or(&error)))),
        Err(_) => Err(Ended::Lost(format!("no connection within {CONNECT_LIMIT:?}"))),
    }
}

async fn welcome(inbound: &mut Streaming<SyncResponse>) -> Result<Welcome, Ended> {
    match receive(inbound).await? {
        Msg::Welcome(welcome) => Ok(welcome),
        Msg::Goodbye(goodbye) => Err(Ended::Goodbye(farewell(goodbye))),
        Msg::Config(_)
        | Msg::ConfigPart(_)
        | Msg::HeartbeatAck(_)
        | Msg::SealKeys(_)
        | Msg::Query(_)
        | Msg::Directives(_)
        | Msg::Drain(_) => {
            Err(Ended::Lost("the control plane broke the protocol: it did not begin with a welcome".into()))
        }
    }
}

/// The next message this build knows. Can be dropped at any time without losing one.
///
/// # Errors
/// How the stream ended.
pub(super) async fn receive(inbound: &mut Streaming<SyncResponse>) -> Result<Msg, Ended> {
    loop {
        match inbound.message().await {
            Ok(Some(SyncResponse { msg: Some(message) })) => return Ok(message),
            Ok(Some(SyncResponse { msg: None })) => {} // of a newer control plane
            Ok(None) => return Err(Ended::Lost("the control plane closed the stream".into())),
            Err(status) => return Err(lost(&status)),
        }
    }
}

fn terms(welcome: &Welcome) -> Terms {
    let heartbeat = duration_or(welcome.heartbeat_interval.as_ref(), HEARTBEAT_DEFAULT).max(FASTEST);
    Terms {
        heartbeat,
        stats: duration_or(welcome.stats_interval.as_ref(), STATS_DEFAULT).max(FASTEST),
        // 15 s at the usual 10 s: half an interval for the answer, more where heartbeats are frequent.
        silence: heartbeat.mul_f64(2.5).min(Duration::from_secs(15)).max(heartbeat.mul_f64(1.5)),
        control_plane: welcome.control_plane_version.clone(),
    }
}

/// A Goodbye that came in.
pub(super) fn farewell(goodbye: wire::Goodbye) -> Farewell {
    let back = duration(goodbye.reconnect_max.as_ref()).filter(|latest| !latest.is_zero()).map(|latest| {
        let earliest = duration(goodbye.reconnect_min.as_ref()).unwrap_or_default();
        (earliest.min(latest), latest)
    });
    Farewell { reason: goodbye.reason(), message: goodbye.message, back }
}

impl Farewell {
    /// It is part of ordinary operation.
    pub fn is_usual(&self) -> bool {
        matches!(
            self.reason,
            GoodbyeReason::Unspecified | GoodbyeReason::Shutdown | GoodbyeReason::Superseded
        )
    }
}

impl fmt::Display for Farewell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.reason {
            GoodbyeReason::Unspecified => "goodbye",
            GoodbyeReason::Shutdown => "the control plane stops",
            GoodbyeReason::Superseded => "a newer stream of this node took over",
            GoodbyeReason::ProtocolError => "this node broke the protocol",
            GoodbyeReason::Unresponsive => "this node did not answer in time",
            GoodbyeReason::DuplicateIdentity => "another live node has this node's identity",
        })?;
        if self.message.is_empty() { Ok(()) } else { write!(f, ": {}", self.message) }
    }
}

fn lost(status: &Status) -> Ended {
    Ended::Lost(describe(status))
}

/// `permission denied: this node is not known`, or the broken connection behind it.
pub(super) fn describe(status: &Status) -> String {
    match status.source() {
        Some(source) => chain(source),
        None => format!("{}: {}", words(status.code()), status.message()),
    }
}

/// `PermissionDenied` → `permission denied`.
fn words(code: Code) -> String {
    let mut words = String::new();
    for char in format!("{code:?}").chars() {
        if char.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(char.to_ascii_lowercase());
    }
    words
}

/// An error and its causes, without those that only repeat.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

const RETRY_BASE: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(15);
/// A node that starts a second before its control plane should not wait for fifteen.
const RETRY_MAX_AT_FIRST: Duration = Duration::from_secs(2);
const AT_FIRST: u32 = 10;
/// A connection that stood for this long was a good one.
const PROVEN: Duration = Duration::from_secs(30);

/// Counts the failures in a row.
#[derive(Debug, Default)]
pub(super) struct Reconnect {
    failures: u32,
}

impl Reconnect {
    /// How long to wait after a connection that `lasted` this long since its Welcome, if it had one.
    pub fn after(&mut self, ended: &Ended, lasted: Option<Duration>) -> Duration {
        if lasted.is_some_and(|lasted| lasted >= PROVEN) {
            self.failures = 0;
        }
        let failures = self.failures;
        self.failures += 1;
        match ended {
            Ended::Goodbye(Farewell { back: Some((earliest, latest)), .. }) => {
                *earliest + (*latest - *earliest).mul_f64(fastrand::f64())
            }
            // To hurry would only push the other one out.
            Ended::Goodbye(Farewell { reason: GoodbyeReason::DuplicateIdentity, .. }) => RETRY_MAX,
            Ended::Goodbye(_) | Ended::Lost(_) | Ended::Stopped => {
                let max = if failures < AT_FIRST { RETRY_MAX_AT_FIRST } else { RETRY_MAX };
                backoff::full_jitter(RETRY_BASE, max, failures)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use o1_proto::{convert::from_duration, wire::Goodbye};

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn broken() -> Ended {
        Ended::Lost("broken".into())
    }

    #[test]
    fn the_longest_silence_follows_the_heartbeat() {
        let silence = |heartbeat: Duration| {
            let heartbeat_interval = Some(from_duration(heartbeat));
            terms(&Welcome { heartbeat_interval, ..Welcome::default() }).silence
        };
        assert_eq!(silence(seconds(10)), seconds(15));
        assert_eq!(silence(seconds(1)), Duration::from_millis(2500));
        assert_eq!(silence(seconds(60)), seconds(90));
        assert_eq!(silence(Duration::ZERO), seconds(15), "no interval means the usual one");
        assert_eq!(silence(Duration::from_nanos(1)), FASTEST.mul_f64(2.5));
    }

    #[test]
    fn waits_are_short_at_first_and_longer_later() {
        let mut reconnect = Reconnect::default();
        let waits: Vec<_> = (0..200).map(|_| reconnect.after(&broken(), None)).collect();
        assert!(waits[0] <= RETRY_BASE, "{:?}", waits[0]);
        assert!(waits[..10].iter().all(|wait| *wait <= seconds(2)), "{:?}", &waits[..10]);
        assert!(waits.iter().all(|wait| *wait <= seconds(15)));
        assert!(waits.iter().any(|wait| *wait > seconds(2)), "190 waits and none above 2 s");
    }

    #[test]
    fn only_a_connection_that_stood_starts_the_count_over() {
        let mut reconnect = Reconnect { failures: 50 };
        reconnect.after(&broken(), Some(PROVEN - Duration::from_millis(1)));
        assert_eq!(reconnect.failures, 51);
        assert!(reconnect.after(&broken(), Some(PROVEN)) <= RETRY_BASE);
        assert_eq!(reconnect.failures, 1);
    }

    #[test]
    fn the_control_plane_says_when_to_come_back() {
        let goodbye = |earliest: u64, latest: u64| {
            Ended::Goodbye(farewell(Goodbye {
                reconnect_min: Some(from_duration(seconds(earliest))),
                reconnect_max: Some(from_duration(seconds(latest))),
                ..Goodbye::default()
            }))
        };
        let mut reconnect = Reconnect::default();
        for _ in 0..100 {
            let wait = reconnect.after(&goodbye(40, 50), None);
            assert!((seconds(40)..=seconds(50)).contains(&wait), "{wait:?}");
            let wait = reconnect.after(&goodbye(9, 3), None);
            assert_eq!(wait, seconds(3), "an impossible range ends at its end");
        }
        let mut fresh = Reconnect::default();
        assert!(fresh.after(&goodbye(0, 0), None) <= RETRY_BASE, "no range means the usual wait");
    }

    #[test]
    fn a_clone_of_another_node_does_not_fight_for_its_place() {
        let reason = GoodbyeReason::DuplicateIdentity.into();
        let ended = Ended::Goodbye(farewell(Goodbye { reason, ..Goodbye::default() }));
        assert_eq!(Reconnect::default().after(&ended, None), RETRY_MAX);
    }
}
