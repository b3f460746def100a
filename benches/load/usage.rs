//! What a process has used, from the kernel's own accounts.

use std::{fs, time::Duration};

/// CPU time and memory of one process at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// In user space and in the kernel, all threads, the ended ones included.
    pub cpu: Duration,
    /// Resident memory, bytes.
    pub resident: u64,
}

impl Usage {
    /// What a process has used so far; `None`: there is no such process.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let memory = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
        let pages: u64 = memory.split(' ').nth(1)?.parse().ok()?;
        let ticks = ticks(&stat)?;
        let nanos = ticks * (1_000_000_000 / rustix::param::clock_ticks_per_second());
        Some(Self {
            cpu: Duration::from_nanos(nanos),
            resident: pages * u64::try_from(rustix::param::page_size()).ok()?,
        })
    }

    /// What this process has used so far.
    pub fn of_self() -> Option<Self> {
        Self::of(rustix::process::getpid().as_raw_nonzero().get())
    }
}

/// `utime` and `stime` (proc_pid_stat(5)). The name before them is in brackets and may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let mut after = stat.rsplit_once(") ")?.1.split(' ');
    let user: u64 = after.nth(11)?.parse().ok()?;
    let system: u64 = after.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_time_are_counted_whatever_the_process_is_called() {
        let stat = "7 (a) b) (c) S 1 7 7 0 -1 4194560 100 0 0 0 31 11 5 6 20 0 3 0 1000 1 2";
        assert_eq!(ticks(stat), Some(42));
    }

    #[test]
    fn a_process_that_works_uses_more() {
        let before = Usage::of_self().unwrap();
        let mut sum = 0_u64;
        while Usage::of_self().unwrap().cpu == before.cpu {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(before.resident > 1 << 20);
    }
}
