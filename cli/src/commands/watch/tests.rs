use super::*;
use crate::{
    args::{Args, Command},
    client::scripted::Scripted,
    terminal::Captured,
};
use std::net::SocketAddr;
use tokio::sync::oneshot;

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// Watches `address` with more arguments, until the sender is used.
fn watching(
    address: SocketAddr,
    more: &str,
) -> (impl Future<Output = Result<Exit, Error>>, oneshot::Sender<()>, Captured, Captured) {
    let line = format!("o1ctl --control http://{address} status --watch --interval 200ms {more}");
    let (mut terminal, out, err) = Captured::terminal();
    let (stop, stopped) = oneshot::channel();
    let run = async move {
        let args = Args::read(line.split_whitespace().map(Into::into)).unwrap();
        let Command::Status(status) = &args.command else { panic!("status was asked for") };
        run(&args.global, status, &mut terminal, async { stopped.await.unwrap() }).await
    };
    (run, stop, out, err)
}

#[tokio::test]
async fn a_watch_survives_a_restart_of_the_control_plane_and_says_so() {
    let first = Scripted::start(ANY, 7).await;
    let address = first.address;
    let (run, stop, out, err) = watching(address, "--verbose");
    let story = async {
        out.until("config rev 7,").await;
        first.revision.send(8).unwrap();
        out.until("config rev 8,").await; // a heartbeat without a picture: asked for
        first.kill().await;
        err.until(&format!("no picture from http://{address}: ")).await;
        let second = Scripted::start(address, 9).await;
        out.until("config rev 9,").await;
        err.until(&format!("connected to http://{address} again after ")).await;
        stop.send(()).unwrap();
        second
    };
    let (exit, _second) = tokio::join!(run, story);
    assert_eq!(exit.unwrap(), Exit::Healthy);
    assert!(out.text().contains("n2  "), "verbose: the nodes too\n{}", out.text());
    assert!(!out.text().contains('\x1b'), "no terminal, no escape codes");
}

#[tokio::test]
async fn a_watch_that_ends_without_a_connection_says_unreachable() {
    let server = Scripted::start(ANY, 7).await;
    let (run, stop, out, err) = watching(server.address, "--json");
    let story = async {
        out.until("\n").await;
        server.kill().await;
        err.until("trying again until Ctrl-C").await;
        stop.send(()).unwrap();
    };
    let (exit, ()) = tokio::join!(run, story);
    assert_eq!(exit.unwrap(), Exit::Unreachable);
    let picture: serde_json::Value = serde_json::from_str(out.text().lines().next().unwrap()).unwrap();
    assert_eq!(
        (&picture["verdict"], &picture["control_plane"]["target"]["revision"]),
        (&"healthy".into(), &7.into())
    );
}

#[tokio::test]
async fn a_watch_ends_with_the_code_of_its_last_picture() {
    let server = Scripted::start(ANY, 7).await;
    let (run, stop, out, _err) = watching(server.address, "");
    let story = async {
        out.until("config rev 7,").await;
        server.revision.send(0).unwrap();
        out.until("no valid configuration yet").await;
        stop.send(()).unwrap();
    };
    let (exit, ()) = tokio::join!(run, story);
    assert_eq!(exit.unwrap(), Exit::Degraded);
}

#[tokio::test]
async fn a_watch_shows_a_failover_as_it_happens_and_ends_with_its_code() {
    let server = Scripted::start(ANY, 100).await;
    let (run, stop, out, _err) = watching(server.address, "files");
    let story = async {
        out.until("files     ✅ primary  primary").await;
        server.revision.send(101).unwrap();
        out.until("files     ⚠️ failing over…  backup 1/3").await;
        out.until("Nodes n2 and n3 are on their way to the backup").await;
        server.revision.send(103).unwrap();
        out.until("files     ⚠️ backup  backup").await;
        stop.send(()).unwrap();
    };
    let (exit, ()) = tokio::join!(run, story);
    assert_eq!(exit.unwrap(), Exit::FailoverActive);
}

#[tokio::test]
async fn a_watch_that_never_connected_is_an_error() {
    let nobody = tokio::net::TcpListener::bind(ANY).await.unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let (run, _stop, out, _err) = watching(address, "");
    assert!(matches!(run.await, Err(Error::Control { failure: Failure::Refused, .. })));
    let server = Scripted::start(ANY, 7).await;
    let (run, _stop, _out, _err) = watching(server.address, "wether");
    let (what, hint) = run.await.unwrap_err().words();
    assert_eq!((what.as_str(), hint.as_str()), ("no upstream is named `wether`", "did you mean `weather`?"));
    assert_eq!(out.text(), "");
}

#[test]
fn pictures_on_a_terminal_replace_each_other() {
    let (mut terminal, out, _err) = Captured::terminal();
    let mut page = Page::default();
    page.push("one");
    page.push("two");
    let mut screen = Screen::default();
    screen.draw(&page, &mut terminal.out).unwrap();
    screen.draw(&page, &mut terminal.out).unwrap();
    assert_eq!(out.text(), "one\ntwo\n\x1b[2A\r\x1b[Jone\ntwo\n");
    screen.size = Some(Size { columns: 40, rows: 10 }); // the window was resized
    screen.draw(&page, &mut terminal.out).unwrap();
    assert!(out.text().ends_with("\x1b[2J\x1b[Hone\ntwo\n"));
}
