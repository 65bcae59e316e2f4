//! Drives a store: meters the processor time of each poll, and ends with the account.

use std::{
    cell::Cell,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio_util::sync::WaitForCancellationFutureOwned;
use witan_capability::{Account, CallError, Meter};

/// A future that runs guest code on behalf of an account.
///
/// Processor time is taken around each poll: epochs make a running guest yield, so that a poll is short, and a guest
/// that waits for the host is not polled, so that its waits cost it nothing.
pub(crate) struct Drive<'a, F> {
    account: Arc<Account>,
    /// Made when there is something to wait for, which many calls never have.
    ended: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    future: Pin<&'a mut F>,
    cpu: &'a mut Duration,
}

impl<'a, F> Drive<'a, F> {
    /// Drives `future` at the cost of `account`, and adds the processor time it takes to `cpu`.
    pub(crate) fn new(account: Arc<Account>, cpu: &'a mut Duration, future: Pin<&'a mut F>) -> Self {
        Self { account, ended: None, future, cpu }
    }
}

impl<F: Future> Future for Drive<'_, F> {
    /// What the future came to, or why its account ended first.
    type Output = Result<F::Output, CallError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.account.check()?;
        let before = Instant::now();
        let polled = this.future.as_mut().poll(context);
        let spent = spent_since(before);
        *this.cpu += spent;
        let charged = this.account.charge(Meter::Cpu, u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX));
        match polled {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => {
                charged?;
                let ended = this.ended.get_or_insert_with(|| Box::pin(this.account.when_ended()));
                if ended.as_mut().poll(context).is_ready() {
                    this.account.check()?;
                }
                Poll::Pending
            }
        }
    }
}

/// A poll that took no longer than this by the wall is charged that: asking for the thread's own clock is a system call,
/// which would cost more than many a call of a component. What is charged in excess is time in which the thread was
/// ready and did not run, and is less than this.
const SHORT: Duration = Duration::from_micros(50);

thread_local! {
    /// What the thread's clock said when it was last asked.
    static CLOCK: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Processor time that this thread spent since `before`, or somewhat more; never less.
///
/// A long poll is charged what the thread spent since its clock was last asked, if that is less than what went by on the
/// wall. Beside the poll itself that is what the thread did between two long polls.
fn spent_since(before: Instant) -> Duration {
    let wall = before.elapsed();
    if wall <= SHORT {
        return wall;
    }
    let now = thread_cpu();
    now.saturating_sub(CLOCK.replace(now)).min(wall)
}

/// Processor time of this thread.
fn thread_cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a local of the right type, which the call fills in.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    if result == 0 {
        Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
    } else {
        // Without the clock, time by the wall: more than was used, never less.
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        START.get_or_init(Instant::now).elapsed()
    }
}
