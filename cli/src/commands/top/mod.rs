//! `o1ctl top`: the fleet on a whole terminal, until somebody ends it.
//!
//! This has the connection ([`feed`]), the keyboard, the clock and the screen; what is known and what is shown of it is
//! `tui`.

mod feed;

use crate::{
    args::{self, Global},
    client::Client,
    connect::Target,
    report::{Error, Exit},
    terminal::{
        Terminal,
        screen::{Input, Keyboard, Screen},
    },
    tui::{Message, State, paint},
};
use feed::{Feed, To};
use jiff::{Timestamp, tz::TimeZone};
use std::{io, time::Duration};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

/// Messages that wait to be shown; whoever has more to say waits.
const WAITING: usize = 64;
/// The shortest time between two pictures on the screen: somebody may paste a book.
const FRAME: Duration = Duration::from_millis(30);
/// Ages are shown in seconds.
const TICK: Duration = Duration::from_secs(1);

/// Shows the fleet until a key or `stop` ends it.
///
/// # Errors
/// No terminal, no answer to the first question, or the terminal is gone.
pub async fn run(
    global: &Global,
    args: &args::Top,
    terminal: &mut Terminal,
    stop: impl Future<Output = ()>,
) -> Result<Exit, Error> {
    if !terminal.out.draws() {
        return Err(Error::usage(
            "o1ctl top needs a terminal to draw on: its output goes elsewhere, or TERM is dumb",
            "o1ctl status --watch follows the fleet in a pipe, with --json for programs",
        ));
    }
    let target = Target::of(global)?;
    let failed = |failure| Error::control(&target, failure);
    let mut client = Client::connect(&target, global.timeout).await.map_err(failed)?;
    let first = client.status().await.map_err(failed)?;

    let colour = terminal.out.colour();
    let screen = Screen::open(colour)
        .map_err(|error| Error::local(format!("cannot draw on this terminal: {error}"), ""))?;
    let size = screen.size()?;
    let state = State::new(target.to_string(), TimeZone::system(), Timestamp::now(), size, first);
    let (to, messages) = mpsc::channel(WAITING);
    let ((log, wanted), (calls, asked)) = (watch::channel(None), watch::channel(false));
    let feed = Feed {
        target,
        limit: global.timeout,
        interval: args.interval,
        to: To::new(to),
        log: wanted,
        calls: asked,
    };
    let mut viewer = Viewer { state, screen, colour, log, calls };
    tokio::select! {
        over = viewer.run(messages) => over?,
        never = feed.run(client) => match never {},
        () = stop => {}
        ended = hang_up() => ended?,
    }
    Ok(Exit::Healthy)
}

/// The signals that end a program and that `stop` does not hear.
async fn hang_up() -> io::Result<()> {
    let (mut hang_up, mut quit) = (signal(SignalKind::hangup())?, signal(SignalKind::quit())?);
    tokio::select! {
        _ = hang_up.recv() => Ok(()),
        _ = quit.recv() => Ok(()),
    }
}

struct Viewer {
    state: State,
    screen: Screen,
    colour: bool,
    /// Whose log is to be read.
    log: watch::Sender<Option<String>>,
    /// Whether nodes are to be asked for their calls.
    calls: watch::Sender<bool>,
}

impl Viewer {
    /// Takes what comes in and shows what is known, until it is time to end.
    async fn run(&mut self, mut messages: mpsc::Receiver<Message>) -> io::Result<()> {
        let mut keyboard = Keyboard::new();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The stop signal of job control, when somebody sends it; Ctrl-Z comes as a key.
        let mut stop = signal(SignalKind::from_raw(rustix::process::Signal::TSTP.as_raw()))?;
        let (mut news, mut frame) = (true, Instant::now());
        while !self.state.over {
            tokio::select! {
                message = messages.recv() => self.take(message.unwrap_or(Message::Tick)),
                input = keyboard.next() => self.input(input?)?,
                _ = ticks.tick() => self.take(Message::Tick),
                _ = stop.recv() => self.screen.suspend()?,
                () = sleep_until(frame), if news => {
                    self.draw()?;
                    (news, frame) = (false, Instant::now() + FRAME);
                    continue;
                }
            }
            news = true;
        }
        Ok(())
    }

    fn input(&mut self, input: Input) -> io::Result<()> {
        match input {
            Input::Key(key) => self.take(Message::Key(key)),
            Input::Suspend => self.screen.suspend()?,
            Input::Other => {}
        }
        Ok(())
    }

    fn take(&mut self, message: Message) {
        self.state.take(message, Timestamp::now());
        let calls = self.state.wants_calls();
        self.calls.send_if_modified(|wanted| std::mem::replace(wanted, calls) != calls);
        let wanted = self.state.wanted_log();
        self.log.send_if_modified(|log| {
            let news = log.as_deref() != wanted;
            if news {
                *log = wanted.map(str::to_owned);
            }
            news
        });
    }

    fn draw(&mut self) -> io::Result<()> {
        let size = self.screen.size()?;
        self.take(Message::Resized(size));
        let Self { state, screen, colour, .. } = self;
        screen.draw(|cells| paint(state, *colour, cells))
    }
}
