//! What is known, what is looked at, and how both change.

use super::{
    calls::Calls,
    history::{History, Sample},
    keys::Key,
    rows::{self, Row, Sort},
    view::lists,
};
use crate::{
    events::Event,
    inspect::{LogLine, LogPart, NodeCalls, Said},
    model::Status,
    terminal::Size,
};
use jiff::{Timestamp, tz::TimeZone};
use std::{collections::BTreeMap, time::Duration};

/// Events and lines of a log that are kept, and nodes of which it is kept why they have no log.
pub(crate) const EVENTS: usize = 500;
pub(super) const LINES: usize = 1000;
pub(super) const NOTES: usize = 32;

/// What comes in.
#[derive(Debug, Clone)]
pub(crate) enum Message {
    /// Somebody pressed it.
    Key(Key),
    /// The window has another size.
    Resized(Size),
    /// Nothing happened, but time goes on.
    Tick,
    /// The fleet now.
    Picture(Box<Status>),
    /// No picture comes any more; why, and when it is tried again.
    Lost { why: String, again: Duration },
    /// The newest events, which replace those that were known.
    Past(Vec<Event>),
    /// Events that happened meanwhile.
    Happened(Vec<Event>),
    /// No events come; why.
    NoEvents(String),
    /// The log of this upstream begins anew.
    LogOpened(String),
    /// What a node says of the log of this upstream.
    Log(String, LogPart),
    /// The log of this upstream goes no further; why.
    LogEnded(String, String),
    /// What every node tells of its calls.
    Calls(Vec<NodeCalls>),
    /// Nobody tells of calls; why.
    NoCalls(String),
}

/// What can be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Tab {
    /// The fleet in one look.
    #[default]
    Overview,
    /// Every figure of every upstream.
    Upstreams,
    /// The calls that were answered last.
    Requests,
    /// What is kept of answers.
    Cache,
    /// What happened.
    Events,
    /// What the processes of one upstream write to stderr.
    Logs,
}

/// In the order of their numbers.
pub(super) const TABS: [Tab; 6] =
    [Tab::Overview, Tab::Upstreams, Tab::Requests, Tab::Cache, Tab::Events, Tab::Logs];

impl Tab {
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Overview => "overview",
            Self::Upstreams => "upstreams",
            Self::Requests => "requests",
            Self::Cache => "cache",
            Self::Events => "events",
            Self::Logs => "logs",
        }
    }

    pub(super) fn is_table(self) -> bool {
        !rows::columns(self).is_empty()
    }

    pub(super) fn neighbour(self, steps: usize) -> Self {
        TABS[(self as usize + steps) % TABS.len()]
    }
}

/// What the control plane said: all that a pause holds still.
#[derive(Debug, Clone)]
pub(super) struct Data {
    pub status: Status,
    pub history: History,
    /// Oldest first.
    pub events: Vec<Event>,
    /// Why no events come.
    pub no_events: Option<String>,
    pub log: Log,
    pub calls: Calls,
}

/// The log that is looked at.
#[derive(Debug, Clone, Default)]
pub(super) struct Log {
    /// Whose it is; empty: nobody's yet.
    pub upstream: String,
    /// By time, oldest first.
    pub lines: Vec<LogLine>,
    /// By node, what it has to say instead of lines.
    pub notes: BTreeMap<String, String>,
    /// Why nothing more comes.
    pub ended: Option<String>,
}

/// A connection that is gone.
#[derive(Debug, Clone)]
pub(super) struct Lost {
    pub since: Timestamp,
    pub why: String,
    /// When the next attempt is made.
    pub again: Timestamp,
}

/// Where a tab is looked at.
#[derive(Debug, Clone, Default)]
struct Cursor {
    /// The chosen row of a table.
    row: Option<rows::Key>,
    /// Where that was, for when it is gone.
    index: usize,
    /// Lines between the newest one and the last one shown.
    back: usize,
    sort: Sort,
}

/// Everything.
pub(crate) struct State {
    /// Where the control plane is, for people.
    pub(super) target: String,
    pub(super) zone: TimeZone,
    pub(super) now: Timestamp,
    pub(super) size: Size,
    pub(super) tab: Tab,
    pub(super) filter: String,
    /// The filter is being typed.
    pub(super) typing: bool,
    pub(super) help: bool,
    pub(super) lost: Option<Lost>,
    /// It is time to end.
    pub(crate) over: bool,
    live: Data,
    /// Since when nothing moves, and what is shown meanwhile.
    paused: Option<(Timestamp, Box<Data>)>,
    cursors: [Cursor; TABS.len()],
    /// Whose log is looked at; `None`: nobody looked yet.
    log_of: Option<String>,
}

impl State {
    /// What is known at first.
    pub(crate) fn new(target: String, zone: TimeZone, now: Timestamp, size: Size, first: Status) -> Self {
        let live = Data {
            status: first.clone(),
            history: History::default(),
            events: Vec::new(),
            no_events: None,
            log: Log::default(),
            calls: Calls::default(),
        };
        let mut state = Self {
            target,
            zone,
            now,
            size,
            tab: Tab::default(),
            filter: String::new(),
            typing: false,
            help: false,
            lost: None,
            over: false,
            live,
            paused: None,
            cursors: Default::default(),
            log_of: None,
        };
        state.take(Message::Picture(Box::new(first)), now);
        state
    }

    /// What is known after this.
    pub(crate) fn take(&mut self, message: Message, now: Timestamp) {
        self.now = now;
        match message {
            Message::Key(key) => self.press(key),
            Message::Resized(size) => self.size = size,
            Message::Tick => {}
            Message::Picture(status) => {
                self.lost = None;
                if let Some(as_of) = status.as_of {
                    self.live.history.add(as_of, Sample::of(&status));
                }
                self.live.status = *status;
            }
            Message::Lost { why, again } => {
                let since = self.lost.as_ref().map_or(now, |lost| lost.since);
                let again = now.checked_add(again).unwrap_or(now);
                self.lost = Some(Lost { since, why, again });
            }
            Message::Past(events) => {
                self.live.events.clear();
                self.show_newest(Tab::Events);
                self.happened(events);
            }
            Message::Happened(events) => self.happened(events),
            Message::NoEvents(why) => self.live.no_events = Some(why),
            Message::LogOpened(upstream) => {
                self.live.log = Log { upstream, ..Log::default() };
                self.show_newest(Tab::Logs);
            }
            Message::Log(upstream, part) if upstream == self.live.log.upstream => self.logged(part),
            Message::LogEnded(upstream, why) if upstream == self.live.log.upstream => {
                self.live.log.ended = Some(why);
            }
            Message::Log(..) | Message::LogEnded(..) => {}
            Message::Calls(told) => {
                let before = lists::count(self, Tab::Requests);
                self.live.calls.take(told);
                self.stay(Tab::Requests, before);
            }
            Message::NoCalls(why) => self.live.calls.why = Some(why),
        }
        self.hold_on();
    }

    fn happened(&mut self, events: Vec<Event>) {
        self.live.no_events = None;
        let before = lists::count(self, Tab::Events);
        self.live.events.extend(events);
        self.stay(Tab::Events, before);
        let gone = self.live.events.len().saturating_sub(EVENTS);
        self.live.events.drain(..gone);
    }

    fn logged(&mut self, LogPart { node_id, said }: LogPart) {
        let before = lists::count(self, Tab::Logs);
        let log = &mut self.live.log;
        let note = match said {
            Said::Lines(lines, missed) => {
                log.lines.extend(lines);
                // Nodes tell of the past one after the other.
                log.lines.sort_by_key(|line| line.at);
                (missed > 0).then(|| format!("{missed} lines are lost: they came too fast"))
            }
            Said::NoProcess => {
                Some("runs no process of it: a server behind a URL keeps its own log".to_owned())
            }
            Said::NotFound(why) | Said::Failed(why) => Some(why),
        };
        if let Some(note) = note
            && (log.notes.len() < NOTES || log.notes.contains_key(&node_id))
        {
            log.notes.insert(node_id, note);
        }
        self.stay(Tab::Logs, before);
        let gone = self.live.log.lines.len().saturating_sub(LINES);
        self.live.log.lines.drain(..gone);
    }

    fn show_newest(&mut self, tab: Tab) {
        if self.paused.is_none() {
            self.cursors[tab as usize].back = 0;
        }
    }

    /// Lines that somebody reads stay where they are while others come.
    fn stay(&mut self, tab: Tab, before: usize) {
        if self.paused.is_some() {
            return;
        }
        let more = lists::count(self, tab).saturating_sub(before);
        let cursor = &mut self.cursors[tab as usize];
        if cursor.back > 0 {
            cursor.back += more;
        }
    }

    /// Nobody scrolls beyond what there is.
    fn hold_on(&mut self) {
        if !self.tab.is_table() && self.back() > 0 {
            let most = lists::count(self, self.tab).saturating_sub(lists::height(self, self.tab));
            let cursor = &mut self.cursors[self.tab as usize];
            cursor.back = cursor.back.min(most);
        }
    }

    /// What is shown: what is known, or was when it was paused.
    pub(super) fn data(&self) -> &Data {
        self.paused.as_ref().map_or(&self.live, |(_, data)| data)
    }

    /// Since when nothing moves.
    pub(super) fn paused(&self) -> Option<Timestamp> {
        self.paused.as_ref().map(|(since, _)| *since)
    }

    pub(super) fn pause(&mut self) {
        self.paused = match self.paused {
            Some(_) => None,
            None => Some((self.now, Box::new(self.live.clone()))),
        };
    }

    /// The rows of the tab, in their order, how many there are without the filter, and which of them is chosen.
    pub(super) fn rows(&self) -> (Vec<Row<'_>>, usize, usize) {
        let cursor = &self.cursors[self.tab as usize];
        let (rows, all) = rows::shown(self.tab, &self.data().status, &self.filter, cursor.sort);
        let at = cursor.row.as_ref().and_then(|key| rows.iter().position(|row| row.key() == *key));
        let chosen = at.unwrap_or(cursor.index).min(rows.len().saturating_sub(1));
        (rows, all, chosen)
    }

    pub(super) fn sort(&self) -> Sort {
        self.cursors[self.tab as usize].sort
    }

    pub(super) fn sort_next(&mut self) {
        let columns = rows::columns(self.tab).len();
        let sort = &mut self.cursors[self.tab as usize].sort;
        *sort = Sort { column: (sort.column + 1) % columns.max(1), reverse: false };
    }

    pub(super) fn sort_reversed(&mut self) {
        let sort = &mut self.cursors[self.tab as usize].sort;
        sort.reverse = !sort.reverse;
    }

    /// Lines between the newest one and the last one shown.
    pub(super) fn back(&self) -> usize {
        self.cursors[self.tab as usize].back
    }

    pub(super) fn move_by(&mut self, steps: isize) {
        if !self.tab.is_table() {
            let back = &mut self.cursors[self.tab as usize].back;
            *back = back.saturating_add_signed(-steps);
            return;
        }
        let (rows, _, chosen) = self.rows();
        let index = chosen.saturating_add_signed(steps).min(rows.len().saturating_sub(1));
        let row = rows.get(index).map(Row::key);
        let cursor = &mut self.cursors[self.tab as usize];
        (cursor.row, cursor.index) = (row, index);
    }

    /// What is chosen in one table is chosen in the others, and is whose log is read.
    pub(super) fn go_to(&mut self, tab: Tab) {
        let (rows, _, chosen) = self.rows();
        let upstream = rows.get(chosen).map(|row| row.upstream.name.clone());
        let from = std::mem::replace(&mut self.tab, tab);
        let Some(upstream) = upstream.filter(|_| from != tab) else { return };
        self.log_of = Some(upstream.clone());
        let (rows, _, chosen) = self.rows();
        if rows.get(chosen).is_some_and(|row| row.upstream.name != upstream)
            && let Some(index) = rows.iter().position(|row| row.upstream.name == upstream)
        {
            let row = Some(rows[index].key());
            let cursor = &mut self.cursors[tab as usize];
            (cursor.row, cursor.index) = (row, index);
        }
    }

    /// Whose log the tab shows: the one that was chosen, or the first upstream's.
    pub(super) fn log_of(&self) -> Option<&str> {
        let first = || self.data().status.upstreams.first().map(|upstream| upstream.name.as_str());
        self.log_of.as_deref().or_else(first)
    }

    pub(super) fn other_log(&mut self, steps: isize) {
        let names: Vec<_> = self.data().status.upstreams.iter().map(|upstream| &upstream.name).collect();
        let at = names.iter().position(|name| Some(name.as_str()) == self.log_of());
        let next = match at {
            Some(at) => {
                at.checked_add_signed(steps).map_or(names.len().saturating_sub(1), |at| at % names.len())
            }
            None => 0,
        };
        self.log_of = names.get(next).map(|name| (*name).clone());
    }

    /// Whether nodes are to be asked for their calls: not while nobody looks.
    pub(crate) fn wants_calls(&self) -> bool {
        self.tab == Tab::Requests
    }

    /// Whose log is to be read: nobody's while nobody looks.
    pub(crate) fn wanted_log(&self) -> Option<&str> {
        self.log_of().filter(|_| self.tab == Tab::Logs)
    }
}
