//! The deadline of a connection that is set anew with each request and next to never met: one timer stays armed for
//! the first of them, and is armed again only when it fires. To arm one takes locks that all connections share.

use hyper::rt::{Sleep, Timer};
use std::{
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::{task::unconstrained, time::Instant};

/// The timer of one connection, of which one task waits for one deadline at a time.
#[derive(Default)]
pub(super) struct LazyTimer(Arc<Mutex<Armed>>);

#[derive(Default)]
struct Armed {
    /// Fires at the deadline that is waited for, or before.
    timer: Option<Pin<Box<tokio::time::Sleep>>>,
    /// Who is woken when it does.
    registered: Option<Waker>,
}

impl Armed {
    fn poll(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
            self.registered = None;
        }
        if !timer.is_elapsed() && self.registered.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        // Unconstrained, because one that is pending for want of a budget has registered nobody.
        while pin!(unconstrained(timer.as_mut())).poll(cx).is_ready() {
            if timer.deadline() >= deadline {
                self.registered = None;
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
        self.registered = Some(cx.waker().clone());
        Poll::Pending
    }
}

struct Wait {
    deadline: Instant,
    armed: Arc<Mutex<Armed>>,
}

impl Future for Wait {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner).poll(self.deadline, cx)
    }
}

impl Sleep for Wait {}

impl Timer for LazyTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Wait { deadline: deadline.into(), armed: self.0.clone() })
    }

    fn now(&self) -> std::time::Instant {
        Instant::now().into()
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn Sleep>>, deadline: std::time::Instant) {
        *sleep = self.sleep_until(deadline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_is_moved_on_is_met_when_it_is_due_and_not_before() {
        let timer = LazyTimer::default();
        let begun = Instant::now();
        for _ in 0..5 {
            // A request comes in time, again and again.
            let mut waits = timer.sleep(SECOND * 10);
            tokio::select! {
                () = &mut waits => panic!("it was not due"),
                () = tokio::time::sleep(SECOND * 7) => {}
            }
        }
        timer.sleep(SECOND * 10).await;
        assert_eq!(begun.elapsed().as_secs(), 45);
        timer.sleep(SECOND).await;
        assert_eq!(begun.elapsed().as_secs(), 46, "one that was met is of use again");
    }

    #[tokio::test(start_paused = true)]
    async fn an_earlier_deadline_is_met_before_the_one_the_timer_is_armed_for() {
        let timer = LazyTimer::default();
        let begun = Instant::now();
        let mut late = timer.sleep(SECOND * 10);
        assert!(futures_util::poll!(&mut late).is_pending());
        timer.sleep(SECOND * 2).await;
        assert_eq!(begun.elapsed().as_secs(), 2);
        late.await;
        assert_eq!(begun.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_polls_last_is_woken() {
        let timer = LazyTimer::default();
        let mut waits = timer.sleep(SECOND);
        let mut nobody = Context::from_waker(Waker::noop());
        assert!(waits.as_mut().poll(&mut nobody).is_pending());
        let begun = Instant::now();
        waits.await;
        assert_eq!(begun.elapsed(), SECOND);
    }
}
