//! Against real processes: `server.py` behaves as its first argument says, `server.sh` starts fast.

mod calls;
mod life;

use super::{Spec, Supervisor};
use crate::{
    backend::channel::{Conversation, Replies},
    failure::Failure,
    logs::Log,
    mcp::{Message, message::Kind},
};
use bytes::Bytes;
use o1_process::Tasks;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep, timeout};

const SERVER: &str = include_str!("server.py");
/// No wait of a test is longer.
const LIMIT: Duration = Duration::from_secs(20);

fn python(how: &str, more: &[&str]) -> Spec {
    let command = ["python3", "-c", SERVER, how].into_iter().chain(more.iter().copied());
    spec(command.map(str::to_owned).collect())
}

fn shell(script: &str) -> Spec {
    spec(vec!["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()])
}

/// `server.sh`, with its two arguments.
fn quick(starts: &str, discover: &str) -> Spec {
    let command = ["/bin/sh", "-c", include_str!("server.sh"), "sh", starts, discover];
    spec(command.map(str::to_owned).to_vec())
}

fn spec(command: Vec<String>) -> Spec {
    Spec {
        name: "tested".to_owned(),
        command,
        env: Vec::new(),
        cwd: None,
        connect: LIMIT,
        launcher: None,
        idle_stop: None,
        log: Arc::default(),
    }
}

/// What was written to stderr.
fn said(log: &Log) -> Vec<String> {
    log.tail().into_iter().map(|line| line.text).collect()
}

fn supervise(spec: Spec) -> Arc<Supervisor> {
    Supervisor::new(spec, Tasks::new())
}

fn message(text: &str) -> Message {
    Message::parse(&Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

/// A request with raw `id` and raw `params`.
fn request(id: &str, method: &str, params: &str) -> Message {
    message(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#))
}

fn text(message: &Message) -> String {
    String::from_utf8(message.bytes().to_vec()).unwrap()
}

async fn soon<F: Future>(future: F) -> F::Output {
    timeout(LIMIT, future).await.expect("it happens within the limit")
}

/// Waits for a condition that nothing announces.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// The notifications of a request, and how it ended.
async fn all(mut replies: Replies) -> (Vec<String>, Result<Message, Failure>) {
    let mut notes = Vec::new();
    loop {
        match soon(replies.next()).await.expect("a request ends with a response or a failure") {
            Ok(message) if message.kind() != Kind::Response => notes.push(text(&message)),
            end => return (notes, end),
        }
    }
}

async fn ask(conversation: &Arc<Conversation>, id: &str, method: &str, params: &str) -> String {
    let replies = soon(conversation.request(&request(id, method, params))).await.unwrap();
    text(&all(replies).await.1.unwrap())
}

/// Living processes of a group; zombies do not count.
fn group_size(group: u32) -> usize {
    members(group, |state| state != "Z")
}

fn members(group: u32, counted: fn(&str) -> bool) -> usize {
    let stat = |entry: std::fs::DirEntry| std::fs::read_to_string(entry.path().join("stat")).ok();
    let is_member = |stat: String| {
        // `pid (comm) state ppid pgrp …`, and comm may hold anything.
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let state = fields.next()?;
        let pgrp: u32 = fields.nth(1)?.parse().ok()?;
        (counted(state) && pgrp == group).then_some(())
    };
    std::fs::read_dir("/proc").unwrap().flatten().filter_map(stat).filter_map(is_member).count()
}
