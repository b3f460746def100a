//! The fleet that the programs of `examples/` are shown around, and whether they did there what they say.

use crate::{
    planes::{ControlPlane, DataPlane, Options},
    process::Process,
    site::{POLICY, Store, config, node},
};
use std::{path::Path, process::Command, time::Duration};
use tempfile::TempDir;

/// How long a whole tour may take: interpreters start slowly on a busy machine.
const PATIENCE: Duration = Duration::from_secs(150);

/// A control plane that takes its configuration by gRPC, a node, and two stores.
pub struct Tour {
    data: DataPlane,
    control: ControlPlane,
    _stores: [Store; 2],
    _dir: TempDir,
}

impl Tour {
    /// Starts all of it; nothing is configured yet.
    ///
    /// # Panics
    /// Something does not start.
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (primary, backup) = (Store::start(&dir, "primary").await, Store::start(&dir, "backup").await);
        let control = ControlPlane::start_without_file(&config(&primary, Some(&backup), POLICY)).await;
        let options = Options { not_ready: true, ..Options::default() };
        let data = DataPlane::start_with(control.listen, "n1", options).await;
        control.synced("n1").await;
        Self { data, control, _stores: [primary, backup], _dir: dir }
    }

    /// Runs a program on it with `HOST:PORT FILE UPSTREAM` to its end: exit code, output, errors.
    ///
    /// # Panics
    /// It does not end in time.
    pub async fn run(&self, program: &Path, configure: impl FnOnce(&mut Command)) -> (i32, String, String) {
        let mut process = Process::start("tour", program, |command| {
            configure(command);
            command.arg(self.control.listen.to_string()).arg(self.control.config()).arg("x");
        });
        let status = process.exit(PATIENCE).await;
        let (out, err) = process.output().await;
        (status.code().unwrap_or(-1), out, err)
    }

    /// A whole tour: what the program says, and that the fleet says the same.
    ///
    /// # Panics
    /// It does not.
    pub async fn is_taken(&self, program: &Path, configure: impl Fn(&mut Command)) {
        let (code, out, err) = self.run(program, &configure).await;
        assert_eq!(code, 0, "{out}\n{err}");
        let steps = [
            "CHANGE_ADDED x",
            "ROLLOUT_STATE_SUCCEEDED, wave 1 of 1: 1 applied, 0 wait",
            "x to its backup",
            "control plane: EVENT_TYPE_DECIDED",
            "n1: EVENT_TYPE_FAILOVER_COMMITTED",
            "x back to its primary",
            "n1: EVENT_TYPE_RESTORED",
            "done",
        ];
        let mut rest = out.as_str();
        for step in steps {
            rest = rest.split_once(step).unwrap_or_else(|| panic!("`{step}` does not follow in: {out}")).1;
        }
        let history = self.control.o1ctl(&["config", "history"]).await;
        assert_eq!(history["revisions"][0]["comment"], "the tour", "{history}");
        let state = node(&self.data).await;
        assert_eq!(
            (&state["phase"], &state["stats"]["failover_count"]),
            (&"primary".into(), &1.into()),
            "{state}"
        );

        // Once more: nothing to apply, and the rest goes as before.
        let (code, out, err) = self.run(program, &configure).await;
        assert_eq!(code, 0, "{out}\n{err}");
        assert!(!out.contains("CHANGE_") && !out.contains("ROLLOUT_"), "{out}");
        // And what is refused is said.
        self.control.edit("upstreams: {x: {primry: []}}\n");
        let (code, out, err) = self.run(program, &configure).await;
        assert_eq!(code, 1, "{out}\n{err}");
        assert!(err.contains("primry") && err.contains("did you mean"), "{err}");
    }
}
