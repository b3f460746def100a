//! Deaths on demand, so that tests can kill a real process at each step. Inert unless `O1_FAILPOINT` is set.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

const VARIABLE: &str = "O1_FAILPOINT";

#[derive(Debug)]
struct Armed {
    name: String,
    left: AtomicU64,
}

static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

/// Reads the environment, once in the life of the process.
pub(super) fn arm() {
    ARMED.get_or_init(|| {
        let armed = parse(&std::env::var(VARIABLE).ok()?)?;
        tracing::warn!(point = armed.name, count = ?armed.left, "{VARIABLE}: this process will abort");
        Some(armed)
    });
}

/// Aborts the process if this is the point, and the time, that `O1_FAILPOINT=<name>[:<count>]` names.
pub fn failpoint(name: &str) {
    if let Some(Some(armed)) = ARMED.get()
        && armed.name == name
        && armed.left.fetch_sub(1, Ordering::Relaxed) == 1
    {
        std::process::abort();
    }
}

fn parse(text: &str) -> Option<Armed> {
    let (name, count) = match text.split_once(':') {
        Some((name, count)) => (name, count.parse().ok()?),
        None => (text, 1),
    };
    Some(Armed { name: name.to_owned(), left: AtomicU64::new(count) })
        .filter(|_| !name.is_empty() && count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_has_a_name_and_may_have_a_count() {
        let parsed = |text| parse(text).map(|armed| (armed.name, armed.left.into_inner()));
        assert_eq!(parsed("after_sync"), Some(("after_sync".to_owned(), 1)));
        assert_eq!(parsed("after_sync:7"), Some(("after_sync".to_owned(), 7)));
        assert_eq!([parsed(""), parsed(":1"), parsed("x:0"), parsed("x:y")], [None, None, None, None]);
    }
}
