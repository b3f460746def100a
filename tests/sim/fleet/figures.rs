//! What was measured, and the table in `docs/operations.md` that says so.

use o1_tests::binaries::{profile_dir, root};
use rustix::process::Pid;
use std::{fmt, fs, time::Duration};

/// A row each.
#[derive(Default)]
pub struct Figures(Vec<(&'static str, String)>);

const BEGIN: &str = "<!-- figures of the fleet -->\n";
const END: &str = "<!-- end of figures of the fleet -->";

impl Figures {
    pub fn add(&mut self, what: &'static str, figure: String) {
        println!("{what}: {figure}");
        self.0.push((what, figure));
    }

    /// Writes the table, if that is asked for.
    pub fn report(&self) {
        if !are_wanted() {
            return;
        }
        let build = if profile_dir().ends_with("release") { "release build" } else { "development build" };
        let rows: String = self.0.iter().map(|(what, figure)| format!("| {what} | {figure} |\n")).collect();
        let path = root().join("docs/operations.md");
        let page = fs::read_to_string(&path).expect("there is a page");
        let (before, rest) = page.split_once(BEGIN).expect("the page has a place for figures");
        let (_, after) = rest.split_once(END).expect("and an end of it");
        // What else ran meanwhile lengthens times; processor time and memory are the process's own.
        let load = fs::read_to_string("/proc/loadavg").expect("a kernel says so");
        let load = load.split(' ').next().unwrap_or_default();
        let cores = std::thread::available_parallelism().expect("a machine has some");
        let head = format!("| measured: {build}, load {load} on {cores} cores | |\n| --- | --- |\n");
        fs::write(path, format!("{before}{BEGIN}{head}{rows}{END}{after}")).expect("the page can be written");
    }
}

/// Whether the page is to be written.
pub fn are_wanted() -> bool {
    std::env::var_os("O1_REPORT").is_some()
}

/// Some times, and how they lie.
pub struct Spread(Vec<Duration>);

impl Spread {
    pub fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        assert!(!times.is_empty());
        Self(times)
    }

    /// The time within which this share of them lies.
    fn quantile(&self, share: f64) -> Duration {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "some hundreds of times"
        )]
        let rank = (self.0.len() as f64 * share).ceil() as usize;
        self.0[rank.clamp(1, self.0.len()) - 1]
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |share| self.quantile(share).as_secs_f64() * 1e3;
        write!(f, "p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms", ms(0.5), ms(0.99), ms(1.0))
    }
}

/// Processor time that a process has used, in user and in kernel mode.
pub fn cpu_time(pid: Pid) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).expect("it runs");
    // What follows the name, which may hold anything: the state is field 3.
    let fields: Vec<_> = stat.rsplit(')').next().expect("a name ends").split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().expect("ticks")).sum();
    Duration::from_secs(ticks) / u32::try_from(rustix::param::clock_ticks_per_second()).expect("100")
}
