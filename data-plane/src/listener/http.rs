//! One HTTP request → one call. The order of the checks is the order of 2026-07-28, Streamable HTTP: who may
//! talk at all, method, what is accepted, body, message, era, ladder.

use super::{
    auth::{self, Authentication, Caller as Who, Denied, Place, Stay},
    ladder, origin,
    respond::{self, Asked, ResponseBody},
    sse::{self, Half, Streams},
};
use crate::{
    call::{Ask, Call, Caller, Handle, Route},
    context::Context,
    failure::{Failure, Kind},
    mcp::{self, Era, Message, era, header as mcp_header, message::Invalid, method, rpc},
    plan::Plan,
    principal::{Grant, Policy, Principal},
};
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};

/// The longest a client may take to send its request body.
const BODY_WITHIN: Duration = Duration::from_secs(30);

/// How much of a body that is too large is taken in before it is refused, and for how long.
const DISCARD_MAX: usize = 32 << 20;
const DISCARD_WITHIN: Duration = Duration::from_secs(1);

/// Headers that are for us and nobody else.
static SECRETS: [HeaderName; 3] = [header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::COOKIE];

/// Answers requests.
pub(super) struct Service<H> {
    path: Arc<H>,
    bound: SocketAddr,
    auth: Arc<Authentication>,
    context: Context,
    streams: Arc<Streams>,
}

type Answer = Response<ResponseBody>;

impl<H: Handle> Service<H> {
    pub(super) fn new(path: Arc<H>, bound: SocketAddr, context: &Context) -> Self {
        Self { path, bound, auth: Arc::default(), context: context.clone(), streams: Arc::default() }
    }

    /// Never fails: whatever is wrong is a response.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Answer {
        let plan = self.context.current.plan();
        let origin = request.headers().get(header::ORIGIN).cloned();
        let mut response = match self.admit(&request, &plan) {
            Ok(()) if request.method() == Method::OPTIONS => preflight(request.headers()),
            Ok(()) => self.exchange(request, plan).await.unwrap_or_else(|refused| refused),
            Err(refused) => return self.counted(refused),
        };
        if let Some(origin) = origin {
            cors(response.headers_mut(), origin);
        }
        self.counted(response)
    }

    fn counted(&self, response: Answer) -> Answer {
        self.context.metrics.responded(response.status().as_u16());
        response
    }

    /// `Host` and `Origin`, before anything else is looked at.
    fn admit(&self, request: &Request<Incoming>, plan: &Plan) -> Result<(), Answer> {
        let host = host(request.uri(), request.headers());
        if !host.is_some_and(|host| origin::host_allowed(host, self.bound, &plan.clients)) {
            let what = "this Host is not served here: add it to `clients.hosts`";
            return Err(respond::error(
                StatusCode::MISDIRECTED_REQUEST,
                None,
                rpc::INVALID_REQUEST,
                what,
                None,
            ));
        }
        let allowed = |origin: &HeaderValue| {
            origin.to_str().is_ok_and(|origin| origin::origin_allowed(origin, &plan.clients))
        };
        if !request.headers().get_all(header::ORIGIN).iter().all(allowed) {
            let what = "this Origin is not allowed: add it to `clients.origins`";
            return Err(respond::error(StatusCode::FORBIDDEN, None, rpc::INVALID_REQUEST, what, None));
        }
        Ok(())
    }

    /// Who asks, or the challenge that they get.
    async fn caller(&self, plan: &Plan, uri: &Uri, headers: &HeaderMap) -> Result<Who, Answer> {
        let place = Place::new(&plan.auth, || host(uri, headers), uri.path());
        self.auth.caller(plan, headers, &place, self.is_loopback()).await.map_err(|denied| {
            tracing::debug!(?denied, path = uri.path(), "not let in");
            auth::refusal(&denied, &place, &plan.auth)
        })
    }

    fn is_loopback(&self) -> bool {
        self.bound.ip().to_canonical().is_loopback()
    }

    /// For a stream that this request opens.
    fn stay<F>(&self, uri: &Uri, headers: &HeaderMap, goes_on: F) -> Stay<F> {
        Stay {
            auth: self.auth.clone(),
            plans: self.context.current.watch(),
            goes_on,
            shown: auth::shown(headers),
            host: host(uri, headers).map(str::to_owned),
            path: uri.path().to_owned(),
            loopback: self.is_loopback(),
        }
    }

    async fn exchange(&self, request: Request<Incoming>, mut plan: Arc<Plan>) -> Result<Answer, Answer> {
        if let Some(metadata) = metadata(&request, &plan) {
            return metadata;
        }
        if let Some((half, path)) = sse::place(request.uri().path()).filter(|_| plan.clients.sse) {
            return Box::pin(self.old(request, plan, half, path)).await;
        }
        let mut who = self.caller(&plan, request.uri(), request.headers()).await?;
        let mut route = self::route(request.uri(), request.headers(), &plan, &who)?;
        let (mut parts, body) = request.into_parts();
        let (ask, era) = match parts.method {
            Method::POST => {
                accepts(&parts.headers, &["application/json", "text/event-stream"])?;
                content_type(&parts.headers)?;
                let body = read(body, plan.clients.max_body_bytes).await?;
                let message = Message::parse(&body).map_err(|invalid| not_a_message(&invalid))?;
                let id = message.id();
                let era =
                    ladder::era_of(&parts.headers, &message).map_err(|why| respond::refusal(&why, id))?;
                if era == Era::Modern {
                    ladder::check(&parts.headers, &message).map_err(|why| respond::refusal(&why, id))?;
                }
                (Ask::Message(message), era)
            }
            Method::GET | Method::DELETE if is_modern(&parts.headers) => {
                return Err(method_not_allowed("POST"));
            }
            Method::GET => {
                accepts(&parts.headers, &["text/event-stream"])?;
                (Ask::Stream, Era::Legacy)
            }
            Method::DELETE => (Ask::End, Era::Legacy),
            _ => return Err(method_not_allowed("POST, GET, DELETE")),
        };
        // A body takes time to come. The call pins the plan that is in force once it is there.
        if !self.context.current.is(&plan) {
            plan = self.context.current.plan();
            who = self.caller(&plan, &parts.uri, &parts.headers).await?;
            route = self::route(&parts.uri, &parts.headers, &plan, &who)?;
        }
        let stay = is_endless(&ask).then(|| {
            let then = who.principal.clone();
            self.stay(&parts.uri, &parts.headers, move |_: &Plan, now: &Arc<Principal>| *now == then)
        });
        // Made for us, and nobody else's to see.
        if parts.headers.keys().any(|name| SECRETS.contains(name)) {
            SECRETS.iter().for_each(|secret| drop(parts.headers.remove(secret)));
        }
        let asked = asked(&ask, era);
        let caller = if era == Era::Modern { Caller::Modern } else { Caller::Legacy(None) };
        let call =
            Call { plan, route, principal: who.principal, caller, ask, headers: parts.headers, fresh: false };
        Ok(match self.path.handle(call).await {
            Ok(reply) => {
                let response = respond::reply(reply, &asked).await;
                match stay {
                    Some(stay) => stay.hold(response),
                    None => response,
                }
            }
            Err(failure) => {
                self.note(&failure);
                respond::failure(&failure, &asked)
            }
        })
    }

    /// A client of 2024-11-05; `path` is that of its route.
    async fn old(
        &self,
        request: Request<Incoming>,
        plan: Arc<Plan>,
        half: Half,
        path: String,
    ) -> Result<Answer, Answer> {
        let (parts, body) = request.into_parts();
        let asked = parts.uri.path();
        let uri: Uri = path.parse().map_err(|_| no_route("no such route"))?;
        let who = self.caller(&plan, &parts.uri, &parts.headers).await?;
        let route = route(&uri, &parts.headers, &plan, &who)?;
        match (half, &parts.method) {
            (Half::Stream, &Method::GET) => {
                accepts(&parts.headers, &["text/event-stream"])?;
                // What the caller may use is looked at anew with each POST.
                let then = who.principal.clone();
                let stay = self.stay(&parts.uri, &parts.headers, move |plan: &Plan, now: &Arc<Principal>| {
                    let now = Who { principal: now.clone(), scoped: false };
                    now.principal.id == then.id && self::route(&uri, &HeaderMap::new(), plan, &now).is_ok()
                });
                let places = (asked, path);
                let opened = self.streams.open(&self.context, &self.path, places, who.principal, route);
                Ok(stay.hold(opened))
            }
            (Half::Message, &Method::POST) => {
                let client = self
                    .streams
                    .find(parts.uri.query(), &path, &who.principal)
                    .ok_or_else(|| no_route("unknown or ended session: open the event stream again"))?;
                content_type(&parts.headers)?;
                let body = read(body, plan.clients.max_body_bytes).await?;
                let message = Message::parse(&body).map_err(|invalid| not_a_message(&invalid))?;
                let status = client.take(&self.context, &self.path, plan, route, message).await;
                Ok(respond::bare(status))
            }
            (Half::Stream, _) => Err(method_not_allowed("GET")),
            (Half::Message, _) => Err(method_not_allowed("POST")),
        }
    }

    fn note(&self, failure: &Failure) {
        self.context.metrics.failed(failure.kind);
        match failure.kind {
            Kind::Internal => {
                tracing::error!(kind = failure.kind.code(), error = failure.chain(), "call failed")
            }
            _ => tracing::debug!(kind = failure.kind.code(), error = failure.chain(), "call failed"),
        }
    }
}

/// Whether the version header names another revision than those with sessions.
fn is_modern(headers: &HeaderMap) -> bool {
    let declared = headers.get(mcp_header::PROTOCOL_VERSION).and_then(mcp_header::decode);
    declared.is_some_and(|version| !era::LEGACY.contains(&&*version))
}

/// Whether the answer is a stream without an end of its own.
fn is_endless(ask: &Ask) -> bool {
    match ask {
        Ask::Stream => true,
        Ask::Message(message) => message.method() == method::LISTEN,
        Ask::End => false,
    }
}

fn asked(ask: &Ask, era: Era) -> Asked {
    let id = match ask {
        Ask::Message(message) if message.kind() == mcp::Kind::Request => {
            message.id().map(|id| message.bytes().slice_ref(id))
        }
        _ => None,
    };
    Asked { era, id, stream: matches!(ask, Ask::Stream) }
}

/// The route at this path. One that the caller may not use is as unknown as one that does not exist, unless
/// another scope would open it.
fn route(uri: &Uri, headers: &HeaderMap, plan: &Plan, who: &Who) -> Result<Route, Answer> {
    let path = uri.path();
    if path == "/mcp" {
        return Ok(Route::Server(plan.everything.clone()));
    }
    if let Some(name) = path.strip_prefix("/mcp/") {
        return match plan.server(name) {
            Some(server) if who.principal.access.server(name) => Ok(Route::Server(server.clone())),
            Some(_) => Err(beyond(uri, headers, plan, who, |grant| grant.server(name))
                .unwrap_or_else(|| no_route("no server has this name"))),
            None => Err(no_route("no server has this name")),
        };
    }
    let Some(name) = path.strip_prefix("/u/").and_then(|rest| rest.strip_suffix("/mcp")) else {
        return Err(no_route(
            "nothing is served here; the routes are /mcp, /mcp/<server> and /u/<upstream>/mcp",
        ));
    };
    match plan.upstream(name) {
        Some(upstream) if who.principal.access.upstream(upstream) => Ok(Route::One(upstream.clone())),
        Some(_) => Err(beyond(uri, headers, plan, who, |grant| grant.upstream(name))
            .unwrap_or_else(|| no_route("no upstream has this name"))),
        None => Err(no_route("no upstream has this name")),
    }
}

/// The challenge for a route that the caller's token does not open, when one with other scopes would.
fn beyond(
    uri: &Uri,
    headers: &HeaderMap,
    plan: &Plan,
    who: &Who,
    opens: impl Fn(&Grant) -> bool,
) -> Option<Answer> {
    let Policy::Required(required) = &plan.auth else { return None };
    let issuer = required.issuer.as_ref()?;
    let scopes: Vec<_> = issuer.scopes_for(opens).into_iter().map(str::to_owned).collect();
    let place = Place::new(&plan.auth, || host(uri, headers), uri.path());
    (who.scoped && !scopes.is_empty()).then(|| auth::refusal(&Denied::Scope(scopes), &place, &plan.auth))
}

/// Where to get a token; told to anybody.
fn metadata(request: &Request<Incoming>, plan: &Plan) -> Option<Result<Answer, Answer>> {
    let host = || host(request.uri(), request.headers());
    let document = auth::document(&plan.auth, host, request.uri().path())?;
    Some(match *request.method() {
        Method::GET | Method::HEAD => Ok(respond::json(&document)),
        _ => Err(method_not_allowed("GET, HEAD")),
    })
}

/// Which address the client asked for. `None`: it does not say, or says two.
fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let mut lines = headers.get_all(header::HOST).iter();
    let line = lines.next();
    if lines.next().is_some() {
        return None;
    }
    uri.authority().map(http::uri::Authority::as_str).or_else(|| line.and_then(|host| host.to_str().ok()))
}

fn no_route(what: &str) -> Answer {
    respond::error(StatusCode::NOT_FOUND, None, rpc::INVALID_REQUEST, what, None)
}

fn not_a_message(invalid: &Invalid) -> Answer {
    let (id, code, what) = match invalid {
        Invalid::Json(what) => (None, rpc::PARSE_ERROR, what),
        Invalid::Shape { what, id } => (id.as_deref(), rpc::INVALID_REQUEST, what),
    };
    respond::error(StatusCode::BAD_REQUEST, id, code, what, None)
}

/// Whether a line is these words with a comma and a space between them.
fn is_list(line: &[u8], words: &[&str]) -> bool {
    let mut rest = line;
    for (at, word) in words.iter().enumerate() {
        let Some(after) = rest.strip_prefix(if at == 0 { &b""[..] } else { b", " }) else { return false };
        let Some(after) = after.strip_prefix(word.as_bytes()) else { return false };
        rest = after;
    }
    rest.is_empty()
}

/// Whether a media range names a media type.
fn names(range: &[u8], media: &[u8]) -> bool {
    let kind = media.iter().position(|byte| *byte == b'/').map_or(media, |slash| &media[..slash]);
    range.eq_ignore_ascii_case(media)
        || range == b"*/*"
        || range.strip_suffix(b"/*").is_some_and(|of| of.eq_ignore_ascii_case(kind))
}

/// Every media type named is one the client accepts. No `Accept` at all accepts anything (RFC 9110, 12.5.1).
fn accepts(headers: &HeaderMap, needed: &[&str]) -> Result<(), Answer> {
    let mut lines = headers.get_all(header::ACCEPT).iter().peekable();
    if lines.peek().is_none() {
        return Ok(());
    }
    // What clients of the protocol say, mostly to the letter.
    if lines.peek().is_some_and(|line| is_list(line.as_bytes(), needed)) {
        return Ok(());
    }
    let ranges =
        lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.as_bytes().split(|b| *b == b','));
    // A bit for each media type that no range has named yet.
    let mut left = (1_u32 << needed.len()) - 1;
    for range in ranges {
        let range = range.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        for (at, media) in needed.iter().enumerate() {
            if left & 1 << at != 0 && names(range, media.as_bytes()) {
                left &= !(1 << at);
            }
        }
        if left == 0 {
            return Ok(());
        }
    }
    let what = format!("the client must accept {}", needed.join(" and "));
    Err(respond::error(StatusCode::NOT_ACCEPTABLE, None, rpc::INVALID_REQUEST, &what, None))
}

fn content_type(headers: &HeaderMap) -> Result<(), Answer> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = given.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if media.eq_ignore_ascii_case(b"application/json") {
        return Ok(());
    }
    let what = "the Content-Type must be application/json";
    Err(respond::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, None, rpc::INVALID_REQUEST, what, None))
}

/// The whole body, within its limits of size and time.
async fn read(mut body: Incoming, limit: u64) -> Result<Bytes, Answer> {
    let announced = body.size_hint().lower();
    if announced > limit {
        discard(&mut body).await;
        return Err(too_large(limit));
    }
    let mut reading = pin!(async {
        let mut whole = BytesMut::with_capacity(usize::try_from(announced).unwrap_or(0));
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                return Err(respond::bare(StatusCode::BAD_REQUEST));
            };
            let Ok(data) = frame.into_data() else { continue };
            if (whole.len() + data.len()) as u64 > limit {
                drop(whole);
                discard(&mut body).await;
                return Err(too_large(limit));
            }
            whole.extend_from_slice(&data);
        }
        Ok(whole.freeze())
    });
    // A small body came with its head: nothing is waited for, and no timer is needed.
    if let Some(read) = reading.as_mut().now_or_never() {
        return read;
    }
    tokio::time::timeout(BODY_WITHIN, reading).await.unwrap_or_else(|_| {
        let mut late = respond::bare(StatusCode::REQUEST_TIMEOUT);
        late.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        Err(late)
    })
}

/// Takes in, and forgets, some more of a body that is too large: a client that is still sending when the
/// connection closes may never see why.
async fn discard(body: &mut Incoming) {
    let discarding = async {
        let mut left = DISCARD_MAX;
        while let Some(Ok(frame)) = body.frame().await {
            let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else { return };
            left = rest;
        }
    };
    let _ = tokio::time::timeout(DISCARD_WITHIN, discarding).await;
}

fn too_large(limit: u64) -> Answer {
    let what = format!("the body is larger than {limit} bytes (`clients.max_body`)");
    let mut answer = respond::error(StatusCode::PAYLOAD_TOO_LARGE, None, rpc::INVALID_REQUEST, &what, None);
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

fn method_not_allowed(allow: &'static str) -> Answer {
    let mut answer = respond::bare(StatusCode::METHOD_NOT_ALLOWED);
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    answer
}

const ALLOWED_HEADERS: &str = "content-type, accept, authorization, last-event-id, mcp-session-id, \
     mcp-protocol-version, mcp-method, mcp-name, traceparent, tracestate";

/// The answer to a browser that asks before it sends. The origin was checked. Beside the headers we know, those
/// that mirror parameters (`Mcp-Param-…`) are allowed by the name they are asked for.
fn preflight(asked: &HeaderMap) -> Answer {
    let mut answer = respond::bare(StatusCode::NO_CONTENT);
    let headers = answer.headers_mut();
    let wanted = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS).and_then(|value| value.to_str().ok());
    let mut allowed = ALLOWED_HEADERS.to_owned();
    for name in
        wanted.unwrap_or_default().split(',').filter_map(|name| HeaderName::try_from(name.trim()).ok())
    {
        if name.as_str().starts_with("mcp-param-") {
            allowed.push_str(", ");
            allowed.push_str(name.as_str());
        }
    }
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST, GET, DELETE"));
    let allowed = HeaderValue::try_from(allowed).expect("header names are header values");
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    answer
}

fn cors(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("mcp-session-id, mcp-protocol-version, www-authenticate"),
    );
    headers.append(header::VARY, HeaderValue::from_static("origin"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_may_send_the_headers_that_mirror_parameters() {
        let mut asked = HeaderMap::new();
        let names = "content-type, Mcp-Param-Region, x-evil, mcp-param-\u{7f}";
        let names = HeaderValue::from_bytes(names.replace('\u{7f}', " x").as_bytes()).unwrap();
        asked.insert(header::ACCESS_CONTROL_REQUEST_HEADERS, names);
        let answer = preflight(&asked);
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        let allowed = answer.headers()[header::ACCESS_CONTROL_ALLOW_HEADERS].to_str().unwrap();
        assert_eq!(allowed, format!("{ALLOWED_HEADERS}, mcp-param-region"));
    }
}
