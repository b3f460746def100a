//! Every way a control plane can fail to answer has its own words. Each is produced by a real listener.

use super::o1ctl;
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{
    convert::Infallible,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

/// Asks, and returns what is said about `http://HOST:PORT`. Code 3 and no data, always.
#[track_caller]
fn told(control: &str) -> String {
    told_within(control, "20s")
}

#[track_caller]
fn told_within(control: &str, limit: &str) -> String {
    told_with(control, limit, 3)
}

#[track_caller]
fn told_with(control: &str, limit: &str, code: i32) -> String {
    let done = o1ctl(["--control", control, "--timeout", limit, "status"]);
    assert_eq!((done.code, done.out.as_str()), (Some(code), ""), "{}", done.err);
    done.err.replace(control, "http://HOST:PORT")
}

/// A server that does this with each connection, for as long as the test runs.
fn serving(with: impl Fn(TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || listener.incoming().flatten().for_each(with));
    format!("http://{address}")
}

/// Reads on, so that nothing is lost to a reset of the connection.
fn until_it_leaves(mut stream: TcpStream) {
    while stream.read(&mut [0; 1024]).is_ok_and(|read| read > 0) {}
}

/// An HTTP/2 server that answers everything with these headers.
fn answering(status: u16, headers: &'static [(&'static str, &'static str)], body: &'static str) -> String {
    serving(move |stream| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let service = service_fn(move |_: http::Request<Incoming>| async move {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(*name, *value);
            }
            Ok::<_, Infallible>(response.body(Full::new(Bytes::from_static(body.as_bytes()))).unwrap())
        });
        let served = async {
            stream.set_nonblocking(true).unwrap();
            let stream = TokioIo::new(tokio::net::TcpStream::from_std(stream).unwrap());
            http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await
        };
        drop(runtime.block_on(served)); // the client ends it, one way or another
    })
}

fn grpc(headers: &'static [(&'static str, &'static str)]) -> String {
    answering(200, headers, "")
}

#[test]
fn offline() {
    let free: SocketAddr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    insta::assert_snapshot!(told(&format!("http://{free}")), @"
        error: nothing listens at http://HOST:PORT (connection refused)

        hint: is the control plane running? start it with o1-control-plane, or both planes with `o1ctl up`; name another one with --control or O1_CONTROL
        ");
}

#[test]
fn a_name_that_does_not_resolve() {
    let told = told("https://control.invalid:7400");
    assert!(
        told.starts_with("error: the name `control.invalid` in http://HOST:PORT does not resolve: "),
        "{told}"
    );
}

#[test]
fn an_http_1_server() {
    let server = serving(|mut stream| {
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").unwrap();
        until_it_leaves(stream);
    });
    insta::assert_snapshot!(told(&server), @"
        error: something answers at http://HOST:PORT, but it is not an only1 control plane: it speaks HTTP/1.1, not gRPC

        hint: --control wants the gRPC address of the control plane (its --listen, 7400 by default), not an admin port or a client URL
        ");
}

#[test]
fn a_server_that_hangs_up() {
    insta::assert_snapshot!(told(&serving(drop)), @"
        error: something answers at http://HOST:PORT, but it is not an only1 control plane: it closed the connection without a word of HTTP/2

        hint: --control wants the gRPC address of the control plane (its --listen, 7400 by default), not an admin port or a client URL
        ");
}

#[test]
fn a_server_of_another_kind() {
    let server = serving(|mut stream| {
        stream.write_all(b"SSH-2.0-OpenSSH_9.2p1\r\n").unwrap();
        until_it_leaves(stream);
    });
    insta::assert_snapshot!(told(&server), @"
        error: something answers at http://HOST:PORT, but it is not an only1 control plane: it does not speak HTTP/2

        hint: --control wants the gRPC address of the control plane (its --listen, 7400 by default), not an admin port or a client URL
        ");
}

#[test]
fn an_http_2_server_without_grpc() {
    insta::assert_snapshot!(told(&answering(404, &[("content-type", "text/html")], "")), @"
        error: something answers at http://HOST:PORT, but it is not an only1 control plane: it speaks HTTP/2, but not gRPC: it answered with HTTP status 404 Not Found

        hint: --control wants the gRPC address of the control plane (its --listen, 7400 by default), not an admin port or a client URL
        ");
}

#[test]
fn the_client_url_of_a_gateway() {
    let server = answering(404, &[("content-type", "application/json")], r#"{"error":{}}"#);
    assert!(
        told(&server).contains("it speaks HTTP/2, but not gRPC: it answered with HTTP status 404"),
        "{}",
        told(&server)
    );
}

#[test]
fn a_proxy_without_anything_behind_it() {
    let told = told(&answering(503, &[], "nobody is there"));
    assert!(
        told.contains("answered with an error: unavailable: a proxy answers with HTTP status 503"),
        "{told}"
    );
}

#[test]
fn a_grpc_server_of_something_else() {
    let server = grpc(&[("content-type", "application/grpc"), ("grpc-status", "12")]);
    insta::assert_snapshot!(told(&server), @"
        error: something answers at http://HOST:PORT, but it is not an only1 control plane: it speaks gRPC, but does not offer o1.control.v1.StatusService

        hint: --control wants the gRPC address of the control plane (its --listen, 7400 by default), not an admin port or a client URL
        ");
}

#[test]
fn a_silent_server() {
    let server = serving(until_it_leaves);
    insta::assert_snapshot!(told_within(&server, "700ms"), @"
        error: http://HOST:PORT accepts connections, but there is no answer within 700ms

        hint: the control plane hangs or is overloaded, or something else listens there; --timeout waits longer
        ");
}

#[test]
fn a_server_that_refuses_the_caller() {
    let refusing = |status, message| {
        let headers: &'static [_] = Box::leak(Box::new([
            ("content-type", "application/grpc"),
            ("grpc-status", status),
            ("grpc-message", message),
        ]));
        told_with(&grpc(headers), "20s", 5)
    };
    insta::assert_snapshot!("unauthorised", refusing("16", "show a token or a certificate"));
    insta::assert_snapshot!("forbidden", refusing("7", "AdminService/OrderStore needs the role operator"));
    let proxy = told_with(&answering(401, &[], ""), "20s", 5);
    assert!(proxy.contains("who you are: a proxy answers with HTTP status 401"), "{proxy}");
}

#[test]
fn a_server_that_is_broken() {
    let headers =
        &[("content-type", "application/grpc"), ("grpc-status", "13"), ("grpc-message", "disk full")];
    insta::assert_snapshot!(told(&grpc(headers)), @"
        error: the control plane at http://HOST:PORT answered with an error: internal: disk full

        hint: its log says more
        ");
}

#[test]
fn a_server_that_dies_in_the_middle() {
    let server = serving(|mut stream| {
        stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).unwrap(); // an empty SETTINGS frame
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        until_it_leaves(stream); // or has said everything
    });
    let told = told(&server);
    assert!(
        told.starts_with("error: the connection to http://HOST:PORT broke before the answer was complete: "),
        "{told}"
    );
}

#[test]
fn a_json_reader_gets_no_half_answer() {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    for command in [&["status", "--json"][..], &["nodes", "--json"], &["status", "--watch", "--json"]] {
        let control = free.to_string();
        let done = o1ctl([&["--control", &control], command].concat());
        assert_eq!((done.code, done.out.as_str()), (Some(3), ""), "{command:?}");
        assert!(
            done.err.starts_with(&format!("error: nothing listens at http://{control} ")),
            "{}",
            done.err
        );
    }
}
