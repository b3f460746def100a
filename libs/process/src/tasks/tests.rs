use super::*;
use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
};
use tokio::time::{Instant, sleep, timeout};

const SOON: Duration = Duration::from_secs(5);

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn capture(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || log.clone()).finish();
        tracing::subscriber::set_default(subscriber)
    }
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[tokio::test]
async fn a_panicking_task_is_logged_by_name_and_its_exit_policy_holds() {
    let log = Log::default();
    let _capture = log.capture();
    let tasks = Tasks::new();
    tasks.spawn("sweeper", OnExit::Quiet, async { panic!("dust everywhere") });
    tasks.spawn("listener", OnExit::Shutdown, async { panic!("{} is gone", "the socket") });
    timeout(SOON, tasks.stopping().cancelled()).await.expect("the end of the listener begins the drain");
    assert!(tasks.stopped_within(SOON).await);
    assert_eq!(tasks.fault().as_deref(), Some("listener"));
    let text = log.text();
    assert!(text.contains(r#"a task panicked task="sweeper" panic="dust everywhere""#), "{text}");
    assert!(text.contains(r#"a task panicked task="listener" panic="the socket is gone""#), "{text}");
}

#[tokio::test]
async fn a_task_that_ends_early_is_a_warning_or_nothing_as_it_was_asked() {
    let log = Log::default();
    let _capture = log.capture();
    let tasks = Tasks::new();
    tasks.spawn("watcher", OnExit::Log, async {});
    tasks.spawn("errand", OnExit::Quiet, async {});
    assert!(tasks.stopped_within(SOON).await);
    assert!(!tasks.stopping().is_cancelled() && tasks.fault().is_none());
    let text = log.text();
    assert!(text.contains(r#"a task has ended task="watcher""#), "{text}");
    assert!(!text.contains("errand"), "{text}");
}

#[tokio::test]
async fn an_end_that_was_asked_for_is_no_fault() {
    let tasks = Tasks::new();
    let stopping = tasks.stopping();
    tasks.spawn("listener", OnExit::Shutdown, async move { stopping.cancelled().await });
    let aborted = tasks.spawn("idler", OnExit::Shutdown, std::future::pending());
    aborted.abort();
    tasks.begin_stop();
    assert!(tasks.stopped_within(SOON).await);
    assert_eq!(tasks.fault(), None);
}

#[tokio::test(start_paused = true)]
async fn stopping_waits_for_the_slow_and_cuts_the_stuck() {
    let tasks = Tasks::new();
    let started = Instant::now();
    tasks.spawn("slow", OnExit::Quiet, sleep(Duration::from_secs(3)));
    assert!(tasks.stopped_within(Duration::from_secs(10)).await);
    assert_eq!(started.elapsed(), Duration::from_secs(3));

    let dropped = Arc::new(AtomicBool::new(false));
    let flag = SetOnDrop(dropped.clone());
    tasks.spawn("stuck", OnExit::Quiet, async move {
        let _flag = flag;
        std::future::pending().await
    });
    assert!(!tasks.stopped_within(Duration::from_secs(10)).await);
    assert_eq!(started.elapsed(), Duration::from_secs(13));
    timeout(SOON, async {
        while !dropped.load(Ordering::Acquire) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the stuck task is aborted");
}

#[tokio::test(start_paused = true)]
async fn a_last_task_outlives_the_others_and_is_not_waited_for() {
    let tasks = Tasks::new();
    let dropped = Arc::new(AtomicBool::new(false));
    let (flag, seen) = (SetOnDrop(dropped.clone()), dropped.clone());
    tasks.spawn_last("admin", OnExit::Shutdown, async move {
        let _flag = flag;
        std::future::pending().await
    });
    tasks.spawn("call", OnExit::Quiet, async move {
        sleep(Duration::from_secs(1)).await;
        assert!(!seen.load(Ordering::Acquire), "the admin server was gone before the call");
    });
    tasks.begin_stop();
    assert!(tasks.stopped_within(SOON).await);
    sleep(Duration::from_millis(1)).await;
    assert!(dropped.load(Ordering::Acquire));
}

#[tokio::test]
async fn a_task_lives_as_long_as_its_abort_on_drop_unless_detached() {
    let tasks = Tasks::new();
    let tied = tasks.spawn("tied", OnExit::Quiet, std::future::pending()).abort_on_drop();
    let (done, finished) = tokio::sync::oneshot::channel();
    tasks
        .spawn("detached", OnExit::Quiet, async move {
            tokio::task::yield_now().await;
            done.send(()).expect("the test waits");
        })
        .abort_on_drop()
        .detach();
    timeout(SOON, finished).await.expect("a detached task goes on").unwrap();
    drop(tied);
    assert!(tasks.stopped_within(SOON).await);
}

struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}
