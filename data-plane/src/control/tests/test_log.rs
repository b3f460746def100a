//! A log of events that a test fills.

use super::*;
use o1_proto::{convert, model::Event};
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::watch;

/// A log of events in memory.
pub struct TestLog {
    events: Mutex<BTreeMap<Position, Event>>,
    pub delivered: watch::Sender<Option<Position>>,
    changed: watch::Sender<u64>,
}

impl TestLog {
    pub fn of(places: &[Position]) -> Arc<Self> {
        let (events, delivered, changed) =
            (Mutex::default(), watch::Sender::new(None), watch::Sender::new(0));
        let log = Arc::new(Self { events, delivered, changed });
        places.iter().for_each(|place| log.push(*place));
        log
    }

    pub fn push(&self, place: Position) {
        let event = Event { seq: place.1, kind: convert::event_kind(13), ..Event::default() };
        self.events.lock().unwrap().insert(place, event);
        self.changed.send_modify(|count| *count += 1);
    }

    /// Waits until the log was told so.
    pub async fn until_delivered(&self, through: Position) {
        let mut delivered = self.delivered.subscribe();
        let told = delivered.wait_for(|told| *told == Some(through));
        timeout(SOON, told).await.expect("it is told in time").unwrap();
    }

    pub fn kept(&self) -> Vec<Position> {
        self.events.lock().unwrap().keys().copied().collect()
    }
}

impl EventSource for TestLog {
    fn oldest(&self) -> Option<Position> {
        self.kept().first().copied()
    }

    fn newest(&self) -> Option<Position> {
        self.kept().last().copied()
    }

    fn after(&self, after: Position, limit: usize) -> Vec<(u64, Event)> {
        let events = self.events.lock().unwrap();
        let behind = events.iter().filter(|(place, _)| **place > after);
        behind.take(limit).map(|(place, event)| (place.0, event.clone())).collect()
    }

    fn delivered(&self, through: Position) {
        self.events.lock().unwrap().retain(|place, _| *place > through);
        self.delivered.send_replace(Some(through));
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
