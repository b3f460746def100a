//! Which legacy sessions are open? Ids nobody can guess, a limit on how many, one listening stream for each.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Beyond this the session that was quiet the longest gives way to the new one.
const MOST: usize = 1000;

/// The open sessions.
#[derive(Default)]
pub(super) struct Sessions {
    open: Mutex<HashMap<String, Session>>,
}

struct Session {
    version: &'static str,
    last_used: Instant,
    over: CancellationToken,
    /// Held by the one listening stream.
    listener: Arc<()>,
}

/// The right to be the listening stream of a session, until dropped.
pub(super) struct Listening {
    over: CancellationToken,
    stopping: CancellationToken,
    _listener: Arc<()>,
}

impl Listening {
    /// The session has ended, or the server stops.
    pub(super) async fn over(&self) {
        tokio::select! {
            () = self.over.cancelled() => {}
            () = self.stopping.cancelled() => {}
        }
    }
}

/// There is another stream.
#[derive(Debug, PartialEq)]
pub(super) struct Taken;

impl Sessions {
    /// Begins a session that speaks `version`. `None`: the system has no randomness to give.
    pub(super) fn begin(&self, version: &'static str) -> Option<String> {
        let mut secret = [0_u8; 16];
        getrandom::fill(&mut secret).ok()?;
        let id: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut open = self.open();
        if open.len() >= MOST {
            let quietest = open.iter().min_by_key(|(_, session)| session.last_used);
            if let Some(id) = quietest.map(|(id, _)| id.clone()) {
                end(&mut open, &id);
            }
        }
        let session = Session {
            version,
            last_used: Instant::now(),
            over: CancellationToken::new(),
            listener: Arc::new(()),
        };
        open.insert(id.clone(), session);
        Some(id)
    }

    /// The version of an open session, which counts as used now.
    pub(super) fn touch(&self, id: &str) -> Option<&'static str> {
        let mut open = self.open();
        let session = open.get_mut(id)?;
        session.last_used = Instant::now();
        Some(session.version)
    }

    /// Makes the caller the listening stream of an open session.
    pub(super) fn listen(&self, id: &str, stopping: CancellationToken) -> Option<Result<Listening, Taken>> {
        let open = self.open();
        let session = open.get(id)?;
        if Arc::strong_count(&session.listener) > 1 {
            return Some(Err(Taken));
        }
        let (over, listener) = (session.over.clone(), session.listener.clone());
        Some(Ok(Listening { over, stopping, _listener: listener }))
    }

    /// Ends a session; false when there is none.
    pub(super) fn end(&self, id: &str) -> bool {
        end(&mut self.open(), id)
    }

    fn open(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn end(open: &mut HashMap<String, Session>, id: &str) -> bool {
    open.remove(id).is_some_and(|session| {
        session.over.cancel();
        true
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_quietest_session_gives_way_when_there_are_too_many() {
        let sessions = Sessions::default();
        let first = sessions.begin("2025-11-25").unwrap();
        let mut ids = Vec::new();
        for _ in 1..MOST {
            tokio::time::advance(std::time::Duration::from_millis(1)).await;
            ids.push(sessions.begin("2025-11-25").unwrap());
        }
        tokio::time::advance(std::time::Duration::from_millis(1)).await;
        assert_eq!(sessions.touch(&first), Some("2025-11-25"), "used: no longer the quietest");
        tokio::time::advance(std::time::Duration::from_millis(1)).await;
        sessions.begin("2025-11-25").unwrap();
        assert_eq!(sessions.touch(&ids[0]), None, "the quietest one has to go");
        assert!(sessions.touch(&first).is_some() && sessions.touch(&ids[1]).is_some());
    }

    #[tokio::test]
    async fn a_session_has_one_listener_at_a_time_which_ends_with_it() {
        let sessions = Sessions::default();
        let id = sessions.begin("2025-11-25").unwrap();
        let stopping = CancellationToken::new();
        let first = sessions.listen(&id, stopping.clone()).unwrap().ok().unwrap();
        assert!(matches!(sessions.listen(&id, stopping.clone()), Some(Err(Taken))));
        drop(first);
        let second = sessions.listen(&id, stopping.clone()).unwrap().ok().unwrap();
        assert!(sessions.end(&id));
        tokio::time::timeout(std::time::Duration::from_secs(5), second.over()).await.unwrap();
        assert!(sessions.listen(&id, stopping).is_none());
    }
}
