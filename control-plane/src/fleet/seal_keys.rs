//! The keys that nodes seal tokens with: when there must be another one, and when one is of no more use. Pure,
//! but for [`SealKey::mint`].
//!
//! There is always one key that does not seal yet. Nodes hold it for a whole rotation before its time comes, so
//! that none of them, not even one that was away for a while, meets a token that it cannot open.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

/// How often another key seals, unless the operator says otherwise.
pub const ROTATION: Duration = Duration::from_secs(24 * 3600);
/// The most keys that are kept: sessions that outlive this many rotations end early.
const MAX_KEYS: usize = 1000;

/// One key.
#[derive(Clone, PartialEq, Eq)]
pub struct SealKey {
    /// Stands in each token.
    pub id: [u8; 4],
    /// 256 random bits.
    pub secret: [u8; 32],
    /// When its time comes.
    pub seals_from: SystemTime,
}

impl SealKey {
    /// A new random key.
    ///
    /// # Panics
    /// The system has no random numbers.
    #[must_use]
    pub fn mint(seals_from: SystemTime) -> Self {
        let (mut id, mut secret) = ([0; 4], [0; 32]);
        for bytes in [&mut id[..], &mut secret[..]] {
            getrandom::fill(bytes).expect("the system has random numbers");
        }
        Self { id, secret, seals_from }
    }
}

/// Its id and its time, never the secret.
impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealKey")
            .field("id", &self.id)
            .field("seals_from", &self.seals_from)
            .finish_non_exhaustive()
    }
}

/// How keys come and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// How often another key seals.
    pub rotation: Duration,
    /// The longest life of a session: so long a key opens after it has sealed for the last time.
    pub lifetime: Duration,
}

impl Schedule {
    /// What the keys, oldest first, should be at `now`; the same when nothing is due.
    #[must_use]
    pub fn due(
        &self,
        mut keys: Vec<SealKey>,
        now: SystemTime,
        mint: impl Fn(SystemTime) -> SealKey,
    ) -> Vec<SealKey> {
        let next = now + self.rotation;
        if keys.is_empty() {
            keys.push(mint(now));
        }
        if let Some(last) = keys.last_mut() {
            // The rotation became shorter, or a clock that was ahead was put right.
            last.seals_from = last.seals_from.min(next);
            if last.seals_from <= now {
                keys.push(mint(next));
            }
        }
        let over = |successor: &SealKey| successor.seals_from + self.lifetime + self.rotation <= now;
        let used = keys.windows(2).take_while(|pair| over(&pair[1])).count();
        keys.drain(..used.max(keys.len().saturating_sub(MAX_KEYS)));
        keys
    }
}

/// The keys, oldest first, as nodes take them: the one whose time it is, then the others, newest first.
#[must_use]
pub fn sealing_first(keys: &[SealKey], now: SystemTime) -> Vec<SealKey> {
    let sealing = keys.iter().rposition(|key| key.seals_from <= now).unwrap_or(0);
    let others = keys.iter().enumerate().rev().filter(|(at, _)| *at != sealing).map(|(_, key)| key);
    keys.get(sealing).into_iter().chain(others).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{cell::Cell, time::UNIX_EPOCH};

    const HOUR: Duration = Duration::from_secs(3600);
    const SCHEDULE: Schedule =
        Schedule { rotation: Duration::from_secs(24 * 3600), lifetime: Duration::from_secs(48 * 3600) };

    /// Keys by number, and a clock in hours.
    #[derive(Default)]
    struct Scene {
        keys: Vec<SealKey>,
        minted: Cell<u8>,
    }

    impl Scene {
        fn at(&mut self, hours: u32, schedule: Schedule) -> Vec<u8> {
            let now = UNIX_EPOCH + HOUR * hours;
            self.keys = schedule.due(std::mem::take(&mut self.keys), now, |seals_from| {
                self.minted.set(self.minted.get() + 1);
                SealKey { id: [self.minted.get(); 4], secret: [0; 32], seals_from }
            });
            sealing_first(&self.keys, now).iter().map(|key| key.id[0]).collect()
        }
    }

    #[test]
    fn the_next_key_is_known_a_whole_rotation_before_it_seals() {
        let mut scene = Scene::default();
        assert_eq!(scene.at(100, SCHEDULE), [1, 2]);
        assert_eq!(scene.at(123, SCHEDULE), [1, 2]);
        assert_eq!(scene.at(124, SCHEDULE), [2, 3, 1]);
        assert_eq!(scene.at(148, SCHEDULE), [3, 4, 2, 1]);
    }

    #[test]
    fn a_key_opens_for_as_long_as_the_longest_session_lives() {
        let mut scene = Scene::default();
        scene.at(0, SCHEDULE);
        // It sealed until hour 24, sessions live 48 hours, and one rotation is to spare.
        let mut last = 0;
        for hour in 0..300 {
            if scene.at(hour, SCHEDULE).contains(&1) {
                last = hour;
            }
        }
        assert_eq!(last, 24 + 48 + 24 - 1);
        assert_eq!(scene.keys.len(), 5, "and the number of keys is bounded");
    }

    #[test]
    fn after_a_long_pause_the_key_that_nodes_have_seals_and_not_a_new_one() {
        let mut scene = Scene::default();
        scene.at(0, SCHEDULE);
        assert_eq!(scene.at(1000, SCHEDULE)[..2], [2, 3]);
    }

    #[test]
    fn a_shorter_rotation_and_a_clock_put_right_do_not_wait_for_the_old_date() {
        let mut scene = Scene::default();
        scene.at(90_000, SCHEDULE);
        assert_eq!(scene.at(100, SCHEDULE), [1, 2], "years to go, by the wrong clock");
        let hourly = Schedule { rotation: HOUR, ..SCHEDULE };
        assert_eq!(scene.at(101, hourly), [1, 2]);
        assert_eq!(scene.at(102, hourly)[..2], [2, 3]);
    }

    #[test]
    fn the_number_of_keys_is_bounded_whatever_is_asked() {
        let eager = Schedule { rotation: HOUR, lifetime: HOUR * 100_000 };
        let mut keys = Vec::new();
        for hours in 0..2000 {
            keys = eager.due(keys, UNIX_EPOCH + HOUR * hours, |seals_from| SealKey {
                id: [0; 4],
                secret: [0; 32],
                seals_from,
            });
        }
        assert_eq!(keys.len(), MAX_KEYS);
    }

    #[test]
    fn a_key_never_shows_its_secret() {
        let key = SealKey { secret: [0xab; 32], ..SealKey::mint(UNIX_EPOCH) };
        let shown = format!("{key:?}");
        assert!(!shown.contains("171") && !shown.contains("secret"), "{shown}");
        assert_ne!(SealKey::mint(UNIX_EPOCH).secret, SealKey::mint(UNIX_EPOCH).secret);
    }
}
