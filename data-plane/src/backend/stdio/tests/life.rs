//! Starts, ends and what is left behind.

use super::*;
use crate::{failure::Kind as Why, mcp::Era};
use std::path::PathBuf;

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}"#;

/// A file in which each start leaves a line.
struct Starts {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl Starts {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { path: directory.path().join("starts"), _directory: directory }
    }

    fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    fn count(&self) -> usize {
        std::fs::read_to_string(&self.path).unwrap_or_default().lines().count()
    }
}

#[tokio::test]
async fn concurrent_callers_share_one_start() {
    let starts = Starts::new();
    let supervisor = supervise(python("legacy", &[starts.path()]));
    let callers = (0..20).map(|_| supervisor.shared(Era::Legacy));
    let all = soon(futures_util::future::join_all(callers)).await;
    let pids: std::collections::BTreeSet<u32> = all.into_iter().map(|c| c.unwrap().pid().unwrap()).collect();
    assert_eq!((pids.len(), starts.count(), supervisor.processes()), (1, 1, 1));
}

#[tokio::test]
async fn each_era_of_a_dual_server_gets_its_own_process() {
    let supervisor = supervise(python("dual", &[]));
    let modern = soon(supervisor.shared(Era::Modern)).await.unwrap();
    let legacy = soon(supervisor.shared(Era::Legacy)).await.unwrap();
    assert_eq!((modern.era(), legacy.era(), supervisor.processes()), (Era::Modern, Era::Legacy, 2));
    assert!(text(modern.handshake()).contains("supportedVersions"));
    assert!(
        text(legacy.handshake()).contains(r#""seen": {"capabilities": {}, "clientInfo": {"name": "only1""#)
    );
}

#[tokio::test]
async fn a_legacy_server_is_probed_once_until_its_process_changes() {
    for how in ["refuse", "exit", "mute"] {
        let starts = Starts::new();
        let mut spec = quick(starts.path(), how);
        spec.connect = Duration::from_secs(if how == "mute" { 2 } else { 20 });
        let supervisor = supervise(spec);
        let legacy = soon(supervisor.shared(Era::Legacy)).await.unwrap();
        for _ in 0..3 {
            assert_eq!(soon(supervisor.shared(Era::Modern)).await.unwrap_err().kind, Why::WrongEra, "{how}");
        }
        assert_eq!(starts.count(), 2, "{how}: one legacy process and one probe");
        until("the probe is gone", || supervisor.processes() == 1).await;
        drop(legacy.request(&request("1", "die", "{}")).await);
        soon(legacy.closed()).await;
        until("another legacy process", || starts.count() == 3).await;
        let _ = soon(supervisor.shared(Era::Modern)).await.unwrap_err();
        until("another probe", || starts.count() == 4).await;
    }
}

#[tokio::test]
async fn a_modern_server_refuses_the_legacy_era() {
    let supervisor = supervise(python("modern", &[]));
    assert_eq!(soon(supervisor.shared(Era::Legacy)).await.unwrap_err().kind, Why::WrongEra);
    assert_eq!(soon(supervisor.own(&message(INITIALIZE))).await.unwrap_err().kind, Why::WrongEra);
    soon(supervisor.shared(Era::Modern)).await.unwrap();
}

#[tokio::test]
async fn a_shared_legacy_process_is_told_that_it_is_initialized() {
    let supervisor = supervise(python("noisy", &[]));
    let conversation = soon(supervisor.shared(Era::Legacy)).await.unwrap();
    let mut unsolicited = conversation.unsolicited();
    assert_eq!(soon(unsolicited.recv()).await.unwrap().method(), "notifications/tools/list_changed");
    let told = text(&soon(unsolicited.recv()).await.unwrap());
    assert!(told.contains("notifications/initialized"), "{told}");
}

#[tokio::test]
async fn a_start_that_fails_says_why_and_fails_fast_until_the_next_one() {
    let mut slow = python("sleepy", &[]);
    slow.connect = Duration::from_millis(500);
    let missing = spec(vec!["/nowhere/no-such-server".to_owned()]);
    let table = [
        (missing, Why::Unreachable, "cannot be started: `no-such-server`"),
        (shell("exit 3"), Why::Unreachable, "tested ended (exit status 3)"),
        (shell("kill -9 $$"), Why::Unreachable, "tested ended (signal 9)"),
        (python("rude", &[]), Why::Protocol, "tested refused to initialize: not today"),
        (slow, Why::Timeout, "tested was not ready within 500ms"),
        (spec(Vec::new()), Why::Unreachable, "tested has an empty command"),
    ];
    for (spec, kind, words) in table {
        let supervisor = supervise(spec);
        for _ in 0..3 {
            let failure = soon(supervisor.shared(Era::Legacy)).await.unwrap_err();
            assert_eq!(failure.kind, kind, "{failure}");
            assert!(failure.public().contains(words), "{failure}");
        }
        soon(supervisor.stop()).await;
        assert_eq!(supervisor.processes(), 0);
        assert!(soon(supervisor.shared(Era::Legacy)).await.unwrap_err().public().contains("stopped"));
    }
}

#[tokio::test]
async fn a_start_goes_on_when_its_callers_give_up() {
    let starts = Starts::new();
    let mut spec = quick(starts.path(), "late");
    spec.connect = Duration::from_millis(50);
    let supervisor = supervise(spec);
    let mut gave_up = 0;
    while let Err(failure) = soon(supervisor.shared(Era::Legacy)).await {
        assert_eq!(failure.kind, Why::Timeout);
        gave_up += 1;
    }
    assert!(gave_up > 0);
    assert_eq!(starts.count(), 1);
}

#[tokio::test]
async fn a_crash_loop_is_slowed_down_and_goes_on() {
    let starts = Starts::new();
    let supervisor = supervise(shell(&format!("echo start >> {}; exit 1", starts.path())));
    // Waits of at most 250, 500, 1000, 2000 ms.
    let began = Instant::now();
    until("five starts", || {
        drop(futures_util::FutureExt::now_or_never(supervisor.shared(Era::Legacy)));
        starts.count() >= 5
    })
    .await;
    assert!(began.elapsed() > Duration::from_millis(20), "five starts in {:?}", began.elapsed());
}

#[tokio::test]
async fn calls_fail_when_the_process_ends_and_the_next_caller_finds_another() {
    let supervisor = supervise(python("legacy", &[]));
    let first = soon(supervisor.shared(Era::Legacy)).await.unwrap();
    let held = first.request(&request("1", "hold", "{}")).await.unwrap();
    let dying = first.request(&request("2", "die", "{}")).await.unwrap();
    for replies in [held, dying] {
        let failure = all(replies).await.1.unwrap_err();
        assert_eq!(failure.kind, Why::Unreachable);
        assert_eq!(failure.public(), "tested ended (exit status 3); the call may have run");
    }
    assert!(first.is_closed());
    let failure = first.request(&request("3", "echo", "{}")).await.unwrap_err();
    assert_eq!(failure.public(), "tested ended (exit status 3)");
    let second = loop {
        match soon(supervisor.shared(Era::Legacy)).await {
            Ok(conversation) => break conversation,
            Err(failure) => assert_eq!(failure.public(), "tested ended (exit status 3)"),
        }
        sleep(Duration::from_millis(20)).await;
    };
    assert_ne!(first.pid().unwrap(), second.pid().unwrap());
    ask(&second, "1", "echo", "{}").await;
}

#[tokio::test]
async fn an_answer_written_before_the_end_is_delivered() {
    let supervisor = supervise(python("legacy", &[]));
    let conversation = soon(supervisor.shared(Era::Legacy)).await.unwrap();
    ask(&conversation, "1", "last words", "{}").await;
    soon(conversation.closed()).await;
}

#[tokio::test]
async fn a_used_process_that_dies_is_replaced_before_anybody_asks() {
    let starts = Starts::new();
    let supervisor = supervise(python("legacy", &[starts.path()]));
    let conversation = soon(supervisor.shared(Era::Legacy)).await.unwrap();
    drop(conversation.request(&request("1", "die", "{}")).await);
    soon(conversation.closed()).await;
    until("a second start", || starts.count() == 2).await;
}

#[tokio::test]
async fn a_line_without_end_fails_the_conversation() {
    let supervisor = supervise(python("legacy", &[]));
    let conversation = soon(supervisor.shared(Era::Legacy)).await.unwrap();
    let replies = conversation.request(&request("1", "endless", "{}")).await.unwrap();
    let failure = all(replies).await.1.unwrap_err();
    assert_eq!(failure.kind, Why::Protocol);
    assert!(failure.public().contains("64 MiB"), "{failure}");
    soon(supervisor.stop()).await;
    assert_eq!(group_size(conversation.pid().unwrap()), 0);
}

/// A process whose grandchild ignores SIGTERM.
async fn family(how: &str) -> (Arc<Supervisor>, Arc<Conversation>) {
    let supervisor = supervise(python(how, &[]));
    let conversation = soon(supervisor.own(&message(INITIALIZE))).await.unwrap();
    ask(&conversation, "1", "family", "{}").await;
    assert!(group_size(conversation.pid().unwrap()) >= 2);
    (supervisor, conversation)
}

#[tokio::test]
async fn a_tree_of_processes_is_gone_after_stop() {
    let (supervisor, conversation) = family("stubborn").await;
    soon(supervisor.stop()).await;
    assert_eq!((group_size(conversation.pid().unwrap()), supervisor.processes()), (0, 0));
    soon(supervisor.stop()).await;
}

#[tokio::test]
async fn a_tree_of_processes_is_gone_after_close() {
    let (supervisor, conversation) = family("legacy").await;
    soon(conversation.close()).await;
    assert_eq!((group_size(conversation.pid().unwrap()), supervisor.processes()), (0, 0));
}

#[tokio::test]
async fn a_tree_of_processes_is_gone_after_a_drop() {
    let (supervisor, conversation) = family("legacy").await;
    let group = conversation.pid().unwrap();
    drop(conversation);
    until("nothing is left", || group_size(group) == 0 && supervisor.processes() == 0).await;
}

#[tokio::test]
async fn a_tree_of_processes_is_gone_after_its_head_died() {
    let (supervisor, conversation) = family("legacy").await;
    drop(conversation.request(&request("1", "die", "{}")).await);
    until("nothing is left", || group_size(conversation.pid().unwrap()) == 0 && supervisor.processes() == 0)
        .await;
}

#[test]
fn a_tree_of_processes_is_gone_after_the_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let group = runtime.block_on(async {
        let (supervisor, conversation) = family("stubborn").await;
        std::mem::forget(supervisor);
        conversation.pid().unwrap()
    });
    drop(runtime);
    let deadline = std::time::Duration::from_secs(5);
    let mut waited = std::time::Duration::ZERO;
    while group_size(group) > 0 {
        assert!(waited < deadline, "{} left", group_size(group));
        std::thread::sleep(Duration::from_millis(10));
        waited += Duration::from_millis(10);
    }
}

#[tokio::test]
async fn fifty_sessions_leave_no_process() {
    let starts = Starts::new();
    let supervisor = supervise(quick(starts.path(), "refuse"));
    let mut groups = Vec::new();
    for _ in 0..10 {
        let initialize = message(INITIALIZE);
        let five = (0..5).map(|_| supervisor.own(&initialize));
        for conversation in soon(futures_util::future::join_all(five)).await {
            let conversation = conversation.unwrap();
            assert_eq!(group_size(conversation.pid().unwrap()), 2);
            groups.push(conversation.pid().unwrap());
        }
    }
    assert_eq!((groups.len(), starts.count()), (50, 50));
    until("no process", || supervisor.processes() == 0).await;
    assert_eq!(groups.into_iter().map(group_size).sum::<usize>(), 0);
}

#[tokio::test]
async fn a_start_whose_caller_went_away_leaves_no_process() {
    let starts = Starts::new();
    let mut spec = python("sleepy", &[starts.path()]);
    spec.connect = LIMIT;
    let supervisor = supervise(spec);
    let initialize = message(INITIALIZE);
    let own = supervisor.own(&initialize);
    tokio::select! {
        _ = own => panic!("a sleepy server never answers"),
        () = until("a start", || starts.count() == 1) => {}
    }
    until("no process", || supervisor.processes() == 0).await;
}

#[tokio::test]
async fn dropping_the_supervisor_ends_its_processes() {
    let supervisor = supervise(python("legacy", &[]));
    let conversation = soon(supervisor.shared(Era::Legacy)).await.unwrap();
    drop(supervisor);
    soon(conversation.closed()).await;
    until("nothing is left", || group_size(conversation.pid().unwrap()) == 0).await;
}

#[tokio::test]
async fn a_server_sees_its_own_variables_and_none_of_ours() {
    // Cargo sets this one for every test.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    let mut spec = shell(r#"echo "[$TOKEN] [$CARGO_MANIFEST_DIR] [$(pwd)]" >&2; exit 1"#);
    spec.env.push(("TOKEN".to_owned(), "t0p".to_owned()));
    spec.cwd = Some("/".into());
    let log = spec.log.clone();
    let supervisor = supervise(spec);
    soon(supervisor.shared(Era::Legacy)).await.unwrap_err();
    assert_eq!(said(&log), ["[t0p] [] [/]"]);
}

/// In a container the data plane may be process 1, which inherits the orphans of its servers.
#[tokio::test]
async fn orphans_that_we_inherit_are_reaped() {
    let me = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(me)).unwrap();
    let (supervisor, conversation) = family("legacy").await;
    drop(conversation.request(&request("1", "die", "{}")).await);
    until("nothing is left", || supervisor.processes() == 0).await;
    assert_eq!(members(conversation.pid().unwrap(), |_| true), 0, "not even a zombie");
}

/// Not a test but what the launcher of the next ones runs, in the place of our binary: it becomes a server.
#[test]
fn launched() {
    let Ok(arguments) = std::env::var("LAUNCHED") else { return };
    let error = super::super::exec_child(arguments.split('\u{1f}').map(Into::into));
    #[expect(clippy::disallowed_methods, clippy::exit, reason = "as the main function of our binary does")]
    std::process::exit(super::super::exec_exit_code(&error).into());
}

/// A launcher that ends in `exec_child`, since a test binary cannot take `--exec-child` itself.
fn launcher(directory: &std::path::Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let path = directory.join("launcher");
    let us = std::env::current_exe().unwrap();
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = --exec-child ] || exit 99\nshift\nLAUNCHED=$(printf '%s\\037' \"$@\")\n\
         export LAUNCHED=\"${{LAUNCHED%?}}\"\nexec '{}' --exact {}launched --nocapture\n",
        us.display(),
        concat!(module_path!(), "::").split_once("::").unwrap().1,
    );
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    path
}

#[test]
fn a_launched_server_dies_with_the_thread_that_started_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut spec = python("stubborn", &[]);
    spec.launcher = Some(launcher(directory.path()));
    let group = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let kept = runtime.block_on(async {
            let supervisor = supervise(spec);
            let conversation = soon(supervisor.own(&message(INITIALIZE))).await.unwrap();
            ask(&conversation, "1", "echo", "{}").await;
            (supervisor, conversation)
        });
        let group = kept.1.pid().unwrap();
        assert_eq!(group_size(group), 1);
        // As if we were killed: nothing is dropped, no pipe is closed.
        std::mem::forget((runtime, kept));
        group
    });
    let group = group.join().unwrap();
    for _ in 0..500 {
        if group_size(group) == 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("it lives");
}

#[tokio::test]
async fn a_program_that_is_missing_is_no_verdict_on_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let launcher = launcher(directory.path());
    let table = [("/nowhere/no-such-server", "no such program"), ("/", "cannot be run")];
    for (program, words) in table {
        for launcher in [None, Some(launcher.clone())] {
            let launched = launcher.is_some();
            let supervisor = supervise(Spec { launcher, ..spec(vec![program.to_owned()]) });
            for era in [Era::Legacy, Era::Modern] {
                let failure = soon(supervisor.shared(era)).await.unwrap_err();
                assert_eq!(failure.kind, Why::Unreachable, "{failure}");
                let words = if launched { words } else { "cannot be started" };
                assert!(failure.public().contains(words), "{failure}");
            }
        }
    }
}

#[test]
fn a_launcher_whose_parent_is_gone_starts_nothing() {
    // Process 1 is not the parent of a test, and "x" is no process at all.
    for arguments in [vec!["1", "true"], vec!["x", "true"], vec![]] {
        let error = super::super::exec_child(arguments.into_iter().map(Into::into));
        assert_eq!(super::super::exec_exit_code(&error), 204, "{error}");
    }
}

#[tokio::test]
async fn a_drain_starts_nothing_and_leaves_what_runs() {
    let tasks = Tasks::new();
    let supervisor = Supervisor::new(python("legacy", &[]), tasks.clone());
    let conversation = soon(supervisor.shared(Era::Legacy)).await.unwrap();
    tasks.begin_stop();
    ask(&soon(supervisor.shared(Era::Legacy)).await.unwrap(), "1", "echo", "{}").await;
    drop(conversation.request(&request("1", "die", "{}")).await);
    soon(conversation.closed()).await;
    assert!(soon(supervisor.shared(Era::Legacy)).await.unwrap_err().public().contains("stopped"));
    soon(supervisor.stop()).await;
    assert!(soon(tasks.stopped_within(LIMIT)).await);
}
