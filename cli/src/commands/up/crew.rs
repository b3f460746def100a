//! The children together: their output, the first of them that ends, the wish to stop, and an orderly end in
//! which nobody is left behind.

use super::{
    child::{Child, Role, Said},
    seconds,
};
use crate::{
    output::page::{Line, Page, Style},
    report::Error,
    terminal::Terminal,
};
use futures_util::future::select_all;
use o1_process::{OnExit, Tasks, signal::terminate};
use rustix::process::Signal;
use std::{
    convert::Infallible, io, os::unix::process::ExitStatusExt as _, pin::Pin, process::ExitStatus,
    time::Duration,
};
use tokio::{
    process::Command,
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};

/// For one child to end after SIGTERM; then SIGKILL.
const PATIENCE: Duration = Duration::from_secs(15);
/// Lines on their way to the terminal.
const LINES: usize = 256;
/// For the last lines of children that are gone.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Every child, in the order they were started.
pub struct Crew {
    children: Vec<Child>,
    tasks: Tasks,
    said: (mpsc::Sender<Said>, mpsc::Receiver<Said>),
    asked: mpsc::Receiver<()>,
}

/// Why the work is over.
pub enum Over {
    /// SIGINT or SIGTERM.
    Asked,
    /// A child that is needed has ended.
    Ended(End),
    /// Something else.
    Failed(Error),
}

impl From<Error> for Over {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<io::Error> for Over {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// The end of a child.
pub struct End {
    role: Role,
    pid: u32,
    how: String,
    last: Vec<String>,
}

impl End {
    /// Shows its last words, and makes an error of the rest.
    ///
    /// # Errors
    /// Standard error is gone.
    pub fn report(self, terminal: &mut Terminal) -> io::Result<Error> {
        let mut page = Page::default();
        page.push(Line::default());
        if self.last.is_empty() {
            page.push(format!("{} wrote nothing.", capitalised(self.role.name())));
        } else {
            page.push(format!("The last lines of {}:", self.role.name()));
        }
        for line in &self.last {
            page.push(format!("    {line}"));
        }
        page.push(Line::default());
        terminal.err.write(&page.paint(terminal.err.colour()))?;
        let what =
            format!("{} (process {}) {}; everything else was stopped", self.role.name(), self.pid, self.how);
        Ok(Error::local(what, ""))
    }
}

enum Event {
    Said(Said),
    Ended(usize, io::Result<ExitStatus>),
    Asked,
}

impl Crew {
    /// Nobody yet. From here on SIGINT and SIGTERM end the work instead of the process.
    pub fn new() -> Self {
        let mut interrupt: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(terminate());
        let tasks = Tasks::new();
        let (ask, asked) = mpsc::channel(1);
        let _detached = tasks.spawn("signals", OnExit::Quiet, async move {
            loop {
                interrupt.await;
                interrupt = Box::pin(terminate());
                if ask.send(()).await.is_err() {
                    return;
                }
            }
        });
        Self { children: Vec::new(), tasks, said: mpsc::channel(LINES), asked }
    }

    /// Starts a child and returns its process id.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(&mut self, role: Role, command: Command) -> Result<u32, Error> {
        let child = Child::start(role, command, &self.said.0, &self.tasks)
            .map_err(|error| Error::local(format!("cannot start {}: {error}", role.name()), ""))?;
        let pid = child.pid;
        self.children.push(child);
        Ok(pid)
    }

    /// Stays until the work is over.
    ///
    /// # Errors
    /// Always, in the end: why.
    pub async fn stay(&mut self, terminal: &mut Terminal) -> Result<Infallible, Over> {
        self.during(std::future::pending::<Infallible>(), terminal).await
    }

    /// Waits for something, and looks after the children meanwhile.
    ///
    /// # Errors
    /// The work is over before it came.
    pub async fn during<T>(
        &mut self,
        something: impl Future<Output = T>,
        terminal: &mut Terminal,
    ) -> Result<T, Over> {
        let mut something = std::pin::pin!(something);
        loop {
            let event = tokio::select! {
                done = something.as_mut() => return Ok(done),
                event = self.event() => event,
            };
            match event {
                Event::Said(said) => show(said.line(), terminal)?,
                Event::Asked => return Err(Over::Asked),
                Event::Ended(index, status) => {
                    let child = self.children.remove(index);
                    self.last_words(terminal).await?;
                    let end = end(&child, status);
                    if end.role.essential() {
                        return Err(Over::Ended(end));
                    }
                    note(&format!("{} (process {}) {}", end.role.name(), end.pid, end.how), terminal)?;
                }
            }
        }
    }

    /// Stops the children, the last one first. A second wish to stop, or the end of patience, kills. True when
    /// somebody had to be killed. What cannot be shown any more is not shown: stopping comes first.
    pub async fn stop(&mut self, terminal: &mut Terminal) -> bool {
        let mut cut = false;
        while let Some(child) = self.children.last() {
            let (role, pid) = (child.role, child.pid);
            child.signal(Signal::TERM);
            let _unseen = note(&format!("stopping {}", role.name()), terminal);
            let deadline = Instant::now() + PATIENCE;
            let mut killed = false;
            while self.children.iter().any(|child| child.pid == pid) {
                let event = tokio::select! {
                    event = self.event() => event,
                    () = sleep_until(deadline), if !killed => Event::Asked,
                };
                match event {
                    Event::Said(said) => drop(show(said.line(), terminal)),
                    Event::Ended(index, _) => self.children.remove(index).signal(Signal::KILL),
                    Event::Asked => {
                        killed = true;
                        cut = true;
                        let late =
                            format!("killing {}: it did not stop within {}", role.name(), seconds(PATIENCE));
                        let asked = format!("killing {}", role.name());
                        let _unseen = note(if Instant::now() < deadline { &asked } else { &late }, terminal);
                        self.children
                            .iter()
                            .filter(|child| child.pid == pid)
                            .for_each(|child| child.signal(Signal::KILL));
                    }
                }
            }
        }
        let _unseen = self.last_words(terminal).await;
        cut
    }

    async fn event(&mut self) -> Event {
        let ended = async {
            if self.children.is_empty() {
                return std::future::pending().await;
            }
            let ends = self.children.iter_mut().map(|child| Box::pin(child.ended()));
            let (status, index, _) = select_all(ends).await;
            Event::Ended(index, status)
        };
        tokio::select! {
            Some(()) = self.asked.recv() => Event::Asked,
            Some(said) = self.said.1.recv() => Event::Said(said),
            event = ended => event,
        }
    }

    /// Shows what is still on its way from a child that is gone.
    async fn last_words(&mut self, terminal: &mut Terminal) -> io::Result<()> {
        let deadline = Instant::now() + LAST_WORDS;
        let quiet = Duration::from_millis(50);
        while Instant::now() < deadline {
            match timeout(quiet, self.said.1.recv()).await {
                Ok(Some(said)) => show(said.line(), terminal)?,
                Ok(None) | Err(_) => return Ok(()),
            }
        }
        Ok(())
    }
}

fn end(child: &Child, status: io::Result<ExitStatus>) -> End {
    // The leader is gone; what it left in its group goes too.
    child.signal(Signal::KILL);
    let how = match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("ended with exit status {code}"),
            (None, Some(signal)) => format!("was ended by {}", signal_name(signal)),
            (None, None) => "ended".to_owned(),
        },
        Err(error) => format!("is lost: {error}"),
    };
    End { role: child.role, pid: child.pid, how, last: child.last_lines() }
}

fn signal_name(number: i32) -> String {
    let name = match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        6 => "SIGABRT",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        15 => "SIGTERM",
        _ => return format!("signal {number}"),
    };
    format!("{name} (signal {number})")
}

fn show(line: Line, terminal: &mut Terminal) -> io::Result<()> {
    let mut page = Page::default();
    page.push(line);
    terminal.err.write(&page.paint(terminal.err.colour()))
}

fn note(text: &str, terminal: &mut Terminal) -> io::Result<()> {
    show(Line::of("o1ctl   │ ", Style::Bold).and(text, Style::Plain), terminal)
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
