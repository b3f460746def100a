//! A real terminal for programs that draw on one: a tmux server of its own, which dies with the test however it ends.

use crate::{process::Process, wait::until};
use std::{
    path::PathBuf,
    process::{Command, Output},
    time::Duration,
};
use tempfile::TempDir;

/// Longer than anything takes that should be seen at all.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the shell says when it waits.
const PROMPT: &str = "ready>";

/// One window with a shell in it.
pub struct Tmux {
    /// The server, in the foreground, so that it is our child.
    _server: Process,
    socket: PathBuf,
    dir: TempDir,
}

impl Tmux {
    /// Opens a window of this size and waits for its prompt.
    ///
    /// # Panics
    /// There is no tmux, or it does not start.
    pub async fn start(columns: u16, rows: u16) -> Self {
        assert!(
            Command::new("tmux").arg("-V").output().is_ok_and(|output| output.status.success()),
            "tmux is missing, and with it a terminal to draw on: install it (on Debian: apt-get install tmux)"
        );
        let dir = tempfile::tempdir().expect("a temporary directory");
        let socket = dir.path().join("tmux");
        let server = Process::start("tmux", "tmux".as_ref(), |command| {
            command.arg("-S").arg(&socket).args(["-u", "-D", "-f", "/dev/null"]);
            // What a terminal says of itself must not depend on where the tests run.
            command.env_remove("TMUX").env_remove("NO_COLOR").env_remove("COLORTERM");
            command.envs([("LC_ALL", "C.UTF-8"), ("TZ", "UTC"), ("SHELL", "/bin/sh"), ("PS1", PROMPT)]);
        });
        let this = Self { _server: server, socket, dir };
        until("the socket of tmux", PATIENCE, || std::future::ready(this.socket.exists().then_some(())))
            .await;
        let (columns, rows) = (columns.to_string(), rows.to_string());
        this.tmux(&["new-session", "-d", "-x", &columns, "-y", &rows, "/bin/sh"]);
        this.until_shown(&[PROMPT]).await;
        this
    }

    fn try_tmux(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("tmux");
        command.arg("-u").arg("-S").arg(&self.socket).args(arguments).env("LC_ALL", "C.UTF-8");
        command.output().expect("tmux starts")
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let output = self.try_tmux(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "tmux {arguments:?}: {said}");
        String::from_utf8(output.stdout).expect("tmux speaks UTF-8")
    }

    /// Presses keys by the names that tmux has for them: `q`, `Enter`, `C-c`, `BTab`.
    pub fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys", "--"], keys].concat());
    }

    /// Types text as it is.
    pub fn type_in(&self, text: &str) {
        self.tmux(&["send-keys", "-l", "--", text]);
    }

    /// Types these bytes at once, as somebody does who pastes a file.
    ///
    /// # Panics
    /// tmux does not take them.
    pub fn paste(&self, bytes: &[u8]) {
        let file = self.dir.path().join("paste");
        std::fs::write(&file, bytes).expect("the directory is ours");
        self.tmux(&["load-buffer", file.to_str().expect("a temporary path is UTF-8")]);
        self.tmux(&["paste-buffer", "-r", "-d"]);
    }

    /// Makes the window as large as this.
    pub fn resize(&self, columns: u16, rows: u16) {
        self.tmux(&["resize-window", "-x", &columns.to_string(), "-y", &rows.to_string()]);
    }

    /// What the window shows.
    #[must_use]
    pub fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Whether anything in the window has a colour.
    #[must_use]
    pub fn is_coloured(&self) -> bool {
        let painted = self.tmux(&["capture-pane", "-p", "-e"]);
        // Parameters from 30 on are colours, 39 and 49 the usual ones; those below are weight and the like.
        let mut codes = painted.split("\x1b[").skip(1).filter_map(|rest| rest.split_once('m'));
        codes.any(|(codes, _)| {
            codes.split(';').any(|code| code.parse::<u8>().is_ok_and(|code| code >= 30 && code % 10 != 9))
        })
    }

    /// Whether a program has the whole window, and not the shell.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.tmux(&["display-message", "-p", "#{alternate_on}"]).trim() == "1"
    }

    /// Waits until all of these are shown at once.
    ///
    /// # Panics
    /// They are not in time; the message has the window.
    pub async fn until_shown(&self, wanted: &[&str]) -> String {
        self.until_screen(&format!("{wanted:?}"), |screen| wanted.iter().all(|one| screen.contains(one)))
            .await
    }

    /// Waits until the window satisfies the question.
    ///
    /// # Panics
    /// It does not in time; the message has the window.
    pub async fn until_screen(&self, what: &str, question: impl Fn(&str) -> bool) -> String {
        let end = tokio::time::Instant::now() + PATIENCE;
        until(what, PATIENCE * 2, || {
            let screen = self.screen();
            let found = question(&screen);
            assert!(
                found || tokio::time::Instant::now() < end,
                "waited in vain for {what}; there is:\n{screen}"
            );
            std::future::ready(found.then_some(screen))
        })
        .await
    }

    /// Runs a line in the shell and waits for what it prints before the next prompt.
    ///
    /// # Panics
    /// The prompt does not come in time.
    pub async fn run(&self, line: &str) -> String {
        self.tmux(&["send-keys", "-R"]);
        self.tmux(&["clear-history"]);
        self.type_in(line);
        self.press(&["Enter"]);
        let screen = self.until_screen("the next prompt", |screen| screen.trim_end().ends_with(PROMPT)).await;
        let printed = screen.split_once('\n').map_or("", |(_, printed)| printed);
        printed.trim_end().trim_end_matches(PROMPT).to_owned()
    }
}
