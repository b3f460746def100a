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
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, readiness, tasks) = (listener.local_addr().unwrap(), Readiness::new(), Tasks::new());
        let admin = Admin::new("o1-test", readiness.clone())
            .route("/health", || AdminReply::json(StatusCode::OK, &serde_json::json!({"healthy": true})));
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

#[tokio::test(start_paused = true)]
async fn a_client_that_trickles_its_request_is_cut_off_after_the_header_timeout() {
    let server = Server::start().await;
    let started = Instant::now();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\nx-slow: ").await.unwrap();
    let mut answer = String::new();
    timeout(HEADER_TIMEOUT + SOON, stream.read_to_string(&mut answer)).await.expect("cut off").unwrap();
    assert!(!answer.contains("200 OK"), "{answer}");
    assert!(started.elapsed() >= HEADER_TIMEOUT, "cut off after {:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn silent_connections_hold_every_slot_only_until_the_header_timeout() {
    let server = Server::start().await;
    let mut silent = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    let mut late = TcpStream::connect(server.address).await.unwrap();
    late.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let started = Instant::now();
    let mut answer = String::new();
    timeout(HEADER_TIMEOUT + SOON, late.read_to_string(&mut answer)).await.expect("an answer").unwrap();
    assert_answer(&answer, 200, "ok\n");
    assert!(started.elapsed() >= HEADER_TIMEOUT - Duration::from_millis(1), "{:?}", started.elapsed());
}
