use super::*;
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::Instant,
};

const SOON: Duration = Duration::from_secs(5);

struct Server {
    address: SocketAddr,
    readiness: Readiness,
    tasks: Tasks,
}

impl Server {
    async fn start() -> Self {
        Self::with(LIMITS).await
    }

    async fn with(limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, readiness, tasks) = (listener.local_addr().unwrap(), Readiness::new(), Tasks::new());
        let mut admin = Admin::new("o1-test", readiness.clone())
            .route("/health", || AdminReply::json(StatusCode::OK, &serde_json::json!({"healthy": true})));
        admin.limits = limits;
        tasks.spawn("admin", OnExit::Shutdown, admin.serve(listener, tasks.clone()));
        Self { address, readiness, tasks }
    }

    /// The whole answer to a request, head and body.
    async fn ask(&self, method: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(SOON, stream.read_to_string(&mut answer)).await.expect("an answer in time").unwrap();
        answer
    }
}

#[track_caller]
fn assert_answer(answer: &str, status: u16, end: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    assert!(answer.ends_with(end), "{answer}");
}

#[tokio::test]
async fn the_built_in_routes_answer_and_unknown_ones_are_told_the_known() {
    let server = Server::start().await;
    assert_answer(&server.ask("GET", "/livez").await, 200, "\r\n\r\nok\n");
    assert_answer(
        &server.ask("GET", "/version").await,
        200,
        &format!("{{\"name\":\"o1-test\",\"version\":\"{VERSION}\"}}\n"),
    );
    assert_answer(&server.ask("GET", "/health?verbose").await, 200, "{\"healthy\":true}\n");
    let routes = "Routes:\n/health\n/livez\n/readyz\n/version\n";
    assert_answer(&server.ask("GET", "/").await, 200, routes);
    assert_answer(&server.ask("GET", "/nowhere").await, 404, routes);
}

#[tokio::test]
async fn only_get_is_allowed() {
    let server = Server::start().await;
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let answer = server.ask(method, "/livez").await;
        assert_answer(&answer, 405, "use GET\n");
        assert!(answer.contains("allow: GET\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn readyz_names_what_is_pending_and_answers_through_the_drain() {
    let server = Server::start().await;
    let guards = (server.readiness.register("config"), server.readiness.register("listener"));
    assert_answer(&server.ask("GET", "/readyz").await, 503, "waiting for: config, listener\n");
    drop(guards);
    assert_answer(&server.ask("GET", "/readyz").await, 200, "ready\n");
    server.readiness.set_draining();
    server.tasks.begin_stop();
    assert_answer(&server.ask("GET", "/readyz").await, 503, "draining\n");
    assert!(server.tasks.stopped_within(SOON).await, "the admin server must not hold up the drain");
    timeout(SOON, async {
        while TcpStream::connect(server.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the server ends with the process");
}

/// Short enough to wait for, on the real clock: sockets do not follow a paused one.
const STRICT: Limits =
    Limits { connections: 2, header: Duration::from_millis(200), connection: Duration::from_secs(30) };

#[tokio::test]
async fn a_client_that_trickles_its_request_is_cut_off_after_the_header_limit() {
    let server = Server::with(STRICT).await;
    let started = Instant::now();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\nx-slow: ").await.unwrap();
    let mut answer = String::new();
    timeout(SOON, stream.read_to_string(&mut answer)).await.expect("cut off").unwrap();
    assert!(!answer.contains("200 OK"), "{answer}");
    assert!(started.elapsed() >= STRICT.header, "cut off after {:?}", started.elapsed());
}

#[tokio::test]
async fn silent_connections_hold_every_slot_only_until_the_header_limit() {
    let server = Server::with(STRICT).await;
    let started = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..STRICT.connections {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    assert_answer(&server.ask("GET", "/livez").await, 200, "ok\n");
    assert!(started.elapsed() >= STRICT.header, "answered after {:?}: no slot was taken", started.elapsed());
}

#[tokio::test]
async fn a_client_that_does_not_finish_in_time_is_cut_off_whatever_it_does() {
    let limits = Limits { connection: Duration::from_millis(200), ..LIMITS };
    let server = Server::with(limits).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let mut answer = String::new();
    timeout(SOON, stream.read_to_string(&mut answer)).await.expect("cut off").unwrap();
    assert_eq!(answer, "");
}
