//! The programs beside this one: there, and of the same version.

use super::Check;
use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{process::Command, time::timeout};

const CHECK: &str = "programs";
/// For a program to say its version.
const LIMIT: Duration = Duration::from_secs(3);

pub(super) async fn look() -> Vec<Check> {
    let own = o1_process::VERSION;
    let mut checks = vec![Check::ok(CHECK, format!("o1ctl {own}"))];
    let beside = std::env::current_exe().ok().and_then(|path| path.parent().map(Path::to_owned));
    for name in ["o1-control-plane", "o1-data-plane"] {
        let path = beside.as_ref().map(|beside| beside.join(name)).filter(|path| path.is_file());
        let said = match &path {
            Some(path) => version(path).await,
            None => Ok(String::new()),
        };
        checks.push(judge(name, own, path.as_ref(), said));
    }
    checks
}

async fn version(path: &Path) -> Result<String, String> {
    let mut command = Command::new(path);
    command.arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = timeout(LIMIT, command.output()).await;
    let output = output.map_err(|_| format!("it says nothing within {}s", LIMIT.as_secs()))?;
    let output = output.map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(output.status.to_string());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.split_whitespace().last().unwrap_or_default().to_owned())
}

fn judge(name: &str, own: &str, path: Option<&PathBuf>, said: Result<String, String>) -> Check {
    let Some(path) = path else {
        let todo = "only `o1ctl up` needs it here; `cargo build --release` builds all three programs";
        return Check::warn(CHECK, format!("{name} is not beside o1ctl"), todo);
    };
    match said {
        Ok(version) if version == own => Check::ok(CHECK, format!("{name} {version}, {}", path.display())),
        Ok(version) => Check::warn(
            CHECK,
            format!("{} is of version {version}, and this o1ctl of {own}", path.display()),
            "install the three programs of one version together",
        ),
        Err(why) => Check::fail(
            CHECK,
            format!("{} does not run: {why}", path.display()),
            "it is damaged, or built for another machine: install it again",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::State, *};

    #[test]
    fn another_version_is_a_warning_and_one_that_does_not_run_a_failure() {
        let path = PathBuf::from("/bin/o1-data-plane");
        let state = |path, said| judge("o1-data-plane", "0.1.0", path, said).state;
        assert_eq!(state(None, Ok(String::new())), State::Warn);
        assert_eq!(state(Some(&path), Ok("0.1.0".to_owned())), State::Ok);
        assert_eq!(state(Some(&path), Ok("0.2.0".to_owned())), State::Warn);
        assert_eq!(state(Some(&path), Err("exec format error".to_owned())), State::Fail);
    }
}
