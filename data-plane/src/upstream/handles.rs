//! Handles of modern servers, `requestState` and `taskId`, sealed on the way out and opened on the way in: they come
//! back to the endpoint that gave them, from the client that got them.
//!
//! Where nothing could go wrong, for callers nobody authenticates and an upstream of one endpoint on its own route,
//! the bytes pass as they are.

use crate::{
    call::{Body, Call, MESSAGE_MAX, Reply, Route, read_messages, read_up_to},
    context::Context,
    failure::{Failure, Kind},
    handle::{self, Handle},
    mcp::{self, Message, header, json, method},
    plan,
    principal::Principal,
    seal::{Keyring, Purpose},
};
use futures_util::StreamExt as _;
use http::{HeaderMap, header::CONTENT_TYPE};
use std::{collections::HashMap, sync::Arc};

/// A request whose handles were opened.
pub(super) struct Opened {
    /// As the server knows it.
    pub(super) message: Message,
    pub(super) headers: HeaderMap,
    /// The endpoint that a handle names.
    pub(super) endpoint: Option<usize>,
    /// Seals what comes back; `None`: nothing to seal.
    pub(super) sealer: Option<Sealer>,
}

/// Seals the handles in the answer to one request.
#[derive(Clone)]
pub(super) struct Sealer {
    keyring: Arc<Keyring>,
    principal: Arc<Principal>,
    upstream: Arc<plan::Upstream>,
    subject: [u8; 16],
    /// The tokens that the client knows already, by the server's own id: it compares.
    known: HashMap<String, String>,
}

/// Opens the handles in a modern request, where they are sealed at all.
///
/// # Errors
/// One was not sealed here for this caller, this upstream and this request: -32602, as for an unknown one.
pub(super) fn open(
    context: &Context,
    call: &Call,
    message: &Message,
    upstream: &Arc<plan::Upstream>,
) -> Result<Opened, Failure> {
    let sealed = matches!(call.route, Route::Server(_))
        || !call.principal.is_anonymous()
        || upstream.endpoints.len() > 1;
    let mut opened =
        Opened { message: message.clone(), headers: call.headers.clone(), endpoint: None, sealer: None };
    let asked = message.method();
    let (rounds, tasks) = (ROUNDS.contains(&asked), asked.starts_with("tasks/"));
    if !sealed || !(rounds || tasks || asked == method::LISTEN) {
        return Ok(opened);
    }
    let text =
        |key| message.param_str(&[key]).map_err(|malformed| Failure::new(Kind::InvalidParams, malformed.0));
    let name =
        method::named_by(asked).filter(|_| rounds).map(text).transpose()?.flatten().unwrap_or_default();
    let mut sealer = Sealer {
        keyring: context.keyring.clone(),
        principal: call.principal.clone(),
        upstream: upstream.clone(),
        subject: handle::subject(asked, &name),
        known: HashMap::new(),
    };
    let key = if rounds { "requestState" } else { "taskId" };
    if asked == method::LISTEN {
        sealer.open_listen(&mut opened)?;
    } else if let Some(token) = text(key)? {
        let (original, endpoint) = if rounds {
            sealer.open(Purpose::RequestState, &token, &sealer.subject)
        } else {
            sealer.open(Purpose::Task, &token, &NO_SUBJECT)
        }
        .ok_or_else(|| unknown(key))?;
        if let Ok(Some(at)) = message.param(&[key]) {
            opened.message = message.spliced(vec![(at, json::quote(&original))]);
        }
        if tasks {
            opened.headers.insert(header::NAME, header::encode(&original));
            sealer.known.insert(original, token.into_owned());
        }
        opened.endpoint = Some(endpoint);
    }
    opened.sealer = Some(sealer);
    Ok(opened)
}

/// Methods whose results may ask for another round (2026-07-28, "multi round-trip requests").
const ROUNDS: [&str; 3] = [method::TOOLS_CALL, method::PROMPTS_GET, method::RESOURCES_READ];
/// A task outlives the request that made it.
const NO_SUBJECT: [u8; 16] = [0; 16];

fn unknown(key: &str) -> Failure {
    Failure::new(Kind::InvalidParams, format!("unknown or expired `{key}`"))
}

impl Sealer {
    fn open(&self, purpose: Purpose, token: &str, subject: &[u8; 16]) -> Option<(String, usize)> {
        let found = Handle::open(&self.keyring, purpose, &self.principal, token)?;
        let ours = found.upstream == self.upstream.name && found.subject == *subject;
        let endpoint = handle::place(&self.upstream, &found.endpoint).filter(|_| ours)?;
        Some((found.original, endpoint))
    }

    /// A subscription to tasks: those of one endpoint, because one server is asked. Unknown ones are left out, as
    /// the server would.
    fn open_listen(&mut self, opened: &mut Opened) -> Result<(), Failure> {
        let invalid = |malformed: json::Malformed| Failure::new(Kind::InvalidParams, malformed.0);
        let Some(at) = opened.message.param(&["notifications", "taskIds"]).map_err(invalid)? else {
            return Ok(());
        };
        let text = opened.message.bytes().clone();
        let mut originals = Vec::new();
        for item in json::items(&text, &at).map_err(invalid)? {
            let Some(token) = json::string(&text, &item) else { continue };
            let Some((original, endpoint)) = self.open(Purpose::Task, &token, &NO_SUBJECT) else { continue };
            if *opened.endpoint.get_or_insert(endpoint) == endpoint {
                self.known.insert(original.clone(), token.into_owned());
                originals.push(original);
            }
        }
        let list = serde_json::to_vec(&originals).expect("strings serialise");
        opened.message = opened.message.spliced(vec![(at, list)]);
        Ok(())
    }

    /// The reply with its handles sealed.
    pub(super) async fn seal(self, reply: Reply, endpoint: usize) -> Result<Reply, Failure> {
        if !reply.status.is_success() {
            return Ok(reply);
        }
        let events = reply.is_event_stream();
        let Reply { status, mut headers, body, stale } = reply;
        let body = match body {
            Body::Empty => Body::Empty,
            Body::Full(bytes) => Body::Full(self.json(bytes, endpoint)),
            Body::Bytes(body) if !events => {
                Body::Full(self.json(read_up_to(body, MESSAGE_MAX).await?, endpoint))
            }
            streamed => {
                let messages =
                    read_messages(Reply { status, headers: headers.clone(), body: streamed, stale });
                // The listener chooses again how messages go out.
                headers.remove(CONTENT_TYPE);
                let messages = messages.map(move |next| next.map(|message| self.message(&message, endpoint)));
                Body::Messages(messages.boxed())
            }
        };
        Ok(Reply { status, headers, body, stale })
    }

    fn json(&self, bytes: bytes::Bytes, endpoint: usize) -> bytes::Bytes {
        match Message::parse(&bytes) {
            Ok(message) => self.message(&message, endpoint).bytes().clone(),
            Err(_) => bytes,
        }
    }

    fn message(&self, message: &Message, endpoint: usize) -> Message {
        let text = message.bytes();
        let mut edits = Vec::new();
        let mut seal = |start: &json::Span, key: &str, purpose: Purpose| {
            if let Ok(Some(at)) = json::find(text, start, &[key])
                && let Some(original) = json::string(text, &at)
            {
                edits.push((at.clone(), json::quote(&self.token(purpose, original.into_owned(), endpoint))));
            }
        };
        if let Some(result) = message.result() {
            let kind = json::find(text, &result, &["resultType"]).ok().flatten();
            // Nothing else that tools return is ours to change.
            match kind.and_then(|at| json::string(text, &at)).as_deref() {
                Some("input_required") => seal(&result, "requestState", Purpose::RequestState),
                Some("task") => seal(&result, "taskId", Purpose::Task),
                _ if self.subject_is_task() => seal(&result, "taskId", Purpose::Task),
                _ => {}
            }
        } else if message.kind() == mcp::Kind::Notification
            && message.method() == TASKS_CHANGED
            && let Ok(Some(params)) = message.param(&[])
        {
            seal(&params, "taskId", Purpose::Task);
        }
        message.spliced(edits)
    }

    /// True for the answer to a `tasks/…` request: it is about the task that the request named.
    fn subject_is_task(&self) -> bool {
        !self.known.is_empty()
    }

    fn token(&self, purpose: Purpose, original: String, endpoint: usize) -> String {
        if purpose == Purpose::Task
            && let Some(known) = self.known.get(&original)
        {
            return known.clone();
        }
        let subject = if purpose == Purpose::Task { NO_SUBJECT } else { self.subject };
        let endpoint = handle::endpoint_id(&self.upstream.endpoints[endpoint]);
        let upstream = self.upstream.name.clone();
        Handle { upstream, endpoint, subject, original }.seal(&self.keyring, purpose, &self.principal)
    }
}

/// What servers say of tasks on subscriptions.
const TASKS_CHANGED: &str = "notifications/tasks";
