//! The file as the owner of the configuration: looked at whenever something may have happened to it.

use super::{Acceptance, Kind, Source, listed};
use crate::{
    clock::Now,
    config::{
        compile::{MAX_DOCUMENT_BYTES, whole},
        judge::{Finding, Mark, Verdict, judge},
        watch::Watch,
    },
    store::{Account, StoreError},
};
use o1_proto::problem::Problem;
use std::{
    error::Error as _,
    fs, io,
    io::Read as _,
    path::{Path, PathBuf},
    time::SystemTime,
};
use tokio::task::spawn_blocking;

/// The file.
pub(super) struct File {
    pub(super) path: PathBuf,
    /// Of the last look.
    last: Option<Mark>,
    /// From before the first look, so that no edit falls between the two.
    watch: Watch,
}

impl File {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { watch: Watch::new(&path), path, last: None }
    }

    pub(super) async fn wait(&mut self) {
        self.watch.wait().await;
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }
}

impl Source {
    /// Looks at the file and does what follows.
    pub(super) async fn look(&mut self) {
        let Some(file) = &self.file else { return };
        let (path, name) = (file.path.clone(), file.name());
        let origin = format!("file:{}", absolute(&file.path).display());
        let (last, running) = (file.last.clone(), self.running.as_ref().map(|running| running.hash));
        // Reading and parsing take a while, and the disk may hang.
        let looked = spawn_blocking(move || judge(&name, find(&path), last.as_ref(), running));
        let Ok((mark, verdict)) = looked.await else {
            tracing::error!(source = origin, "reading the configuration panicked");
            return;
        };
        self.seen(Some(mark));
        let now = Now::read().wall;
        self.published.send_if_modified(|published| {
            published.source.checked_at = Some(now);
            false // nobody waits for this
        });
        match verdict {
            Verdict::Unchanged => {}
            Verdict::Running => self.note(Vec::new(), now),
            Verdict::Refuse(problems) => self.note(problems, now),
            Verdict::Accept { content, compiled } => {
                let (account, kind) = (Account::default(), Kind::New);
                let new = Acceptance { compiled, content, source: origin, account, kind, request: None };
                match self.accept(new, now).await {
                    Ok(()) => self.note(Vec::new(), now),
                    Err(error) => {
                        self.seen(None); // look again at the next poll, it may work then
                        self.note_whole(
                            "config-store",
                            &said(&error),
                            "it is tried again every few seconds",
                            now,
                        );
                    }
                }
            }
        }
    }

    /// The fleet did not take what the file says. It stays refused until it says something else.
    pub(super) fn note_refusal(&mut self, why: &str, now: SystemTime) {
        let what = format!("{why}; nodes run what they ran before");
        let hint = "put right what it names, then change the file: any edit is another try";
        self.note_whole("config-rolled-back", &what, hint, now);
    }

    /// The running revision took back this one, whose document the file may still hold: not a new try.
    pub(super) async fn recall(&mut self, undone: u64, why: &str) -> Result<(), StoreError> {
        if self.file.is_none() {
            return Ok(());
        }
        if let Some(stored) = self.store.revision(undone).await? {
            self.seen(Some(Mark::Content(blake3::hash(&stored.content))));
            self.note_refusal(why, Now::read().wall);
        }
        Ok(())
    }

    fn seen(&mut self, mark: Option<Mark>) {
        if let Some(file) = &mut self.file {
            file.last = mark;
        }
    }

    fn note_whole(&mut self, rule: &'static str, what: &str, hint: &str, now: SystemTime) {
        if let Some(file) = &self.file {
            let problem = whole(&file.name(), rule, what, hint);
            self.note(vec![problem], now);
        }
    }

    /// Notes what is wrong with the file, or that nothing is, and logs it once.
    fn note(&self, problems: Vec<Problem>, now: SystemTime) {
        if self.published.borrow().source.problems == problems {
            return;
        }
        let path = self.published.borrow().source.path.clone();
        let running = self.running.as_ref().map(|running| running.revision.version.to_string());
        let listed = listed(&problems);
        match (problems.is_empty(), running) {
            (true, running) => tracing::info!(path, running, "the file is what runs again"),
            (false, Some(running)) => {
                tracing::warn!(path, running, problems = listed, "configuration refused, keeping what runs");
            }
            (false, None) => {
                tracing::warn!(path, problems = listed, "no configuration yet, nodes keep what they have");
            }
        }
        self.published.send_modify(|published| {
            published.source.refused_at = (!problems.is_empty()).then_some(now);
            published.source.problems = problems;
        });
    }
}

fn find(path: &Path) -> Finding {
    let limit = MAX_DOCUMENT_BYTES as u64;
    let read = || -> io::Result<Finding> {
        // Before it is opened: to open a pipe waits for its writer.
        let metadata = fs::metadata(path)?;
        if !metadata.is_file() {
            return Ok(Finding::Unreadable("it is not a file".to_owned()));
        }
        let mut content = Vec::new();
        fs::File::open(path)?.take(limit + 1).read_to_end(&mut content)?;
        if content.len() as u64 > limit {
            return Ok(Finding::TooLarge(metadata.len().max(limit + 1)));
        }
        Ok(Finding::Content(content))
    };
    match read() {
        Ok(finding) => finding,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Finding::Missing,
        Err(error) => Finding::Unreadable(error.to_string()),
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn said(error: &StoreError) -> String {
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{error}{cause}")
}
