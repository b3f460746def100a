//! Which eras an endpoint speaks by itself, as far as is known. A plain function of (what was known, what was
//! seen, now): an outage never changes what is known, it only makes it worth another question.

use crate::mcp::Era;
use std::time::Duration;
use tokio::time::Instant;

/// How long a no is believed: a server may have been replaced by one that learned the era, and nothing else
/// would tell.
const NO_FRESH: Duration = Duration::from_secs(5 * 60);
/// How soon a question that found nobody is asked again while there is an old answer.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// What is known about one endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    generation: u64,
    legacy: Known,
    modern: Known,
}

/// What is known about one era.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Known {
    speaks: Option<bool>,
    /// When that was seen.
    seen: Option<Instant>,
    /// From when on the answer is asked for again; until then, and when asking fails, it holds.
    doubtful_from: Option<Instant>,
}

/// What an exchange showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Observation {
    /// The endpoint answered as a server of this era does, or as one that does not know it.
    Speaks(Era, bool),
    /// The endpoint answered as if it did not know an era that it was known to speak.
    Contradicted(Era),
    /// Nobody was there.
    Unreachable,
    /// It was asked about an era, and nobody was there.
    Unanswered(Era),
}

/// What there is to do about an era.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// This holds.
    Known(bool),
    /// Ask; if nobody answers, this holds.
    Doubtful(bool),
    /// Ask.
    Unknown,
}

impl Verdict {
    /// Whether an era is spoken, by what process generation `generation` showed.
    pub(super) fn on(&self, era: Era, generation: u64, now: Instant) -> Answer {
        let known = match era {
            Era::Legacy => self.legacy,
            Era::Modern => self.modern,
        };
        match known.speaks {
            Some(speaks) if generation == self.generation => match known.doubtful_from {
                Some(from) if now >= from => Answer::Doubtful(speaks),
                _ => Answer::Known(speaks),
            },
            // There is nothing else that a server which is not modern could speak.
            None if era == Era::Legacy && self.on(Era::Modern, generation, now) == Answer::Known(false) => {
                Answer::Known(true)
            }
            _ => Answer::Unknown,
        }
    }

    /// What is known after `seen`.
    pub(super) fn after(self, seen: Observation, generation: u64, now: Instant) -> Self {
        let mut next =
            if generation == self.generation { self } else { Self { generation, ..Self::default() } };
        match seen {
            Observation::Speaks(era, speaks) => {
                let doubtful_from = (!speaks).then(|| now + NO_FRESH);
                *next.era(era) = Known { speaks: Some(speaks), seen: Some(now), doubtful_from };
                if next.legacy.speaks == Some(false) && next.modern.speaks == Some(false) {
                    // A server that speaks nothing is one that we misunderstood.
                    next = Self { generation, ..Self::default() };
                }
            }
            // Right after an answer it is an error of another kind.
            Observation::Contradicted(era) => {
                let again = next.era(era).seen.map_or(now, |seen| seen + ASK_AGAIN);
                if now >= again {
                    next.era(era).doubt(now);
                }
            }
            Observation::Unreachable => {
                next.legacy.doubt(now);
                next.modern.doubt(now);
            }
            Observation::Unanswered(era) => next.era(era).doubt(now + ASK_AGAIN),
        }
        next
    }

    fn era(&mut self, era: Era) -> &mut Known {
        match era {
            Era::Legacy => &mut self.legacy,
            Era::Modern => &mut self.modern,
        }
    }
}

impl Known {
    fn doubt(&mut self, from: Instant) {
        self.doubtful_from = self.speaks.map(|_| from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Answer::{Doubtful, Known, Unknown};
    use Era::{Legacy, Modern};
    use Observation::{Contradicted, Speaks, Unanswered, Unreachable};

    /// Both answers at `at`, after what was seen `n` seconds after the start.
    fn fold(seen: &[(u64, Observation)], at: u64) -> (Answer, Answer) {
        let start = Instant::now();
        let then = |seconds| start + Duration::from_secs(seconds);
        let verdict = seen
            .iter()
            .fold(Verdict::default(), |verdict, (when, seen)| verdict.after(*seen, 0, then(*when)));
        (verdict.on(Legacy, 0, then(at)), verdict.on(Modern, 0, then(at)))
    }

    #[tokio::test]
    async fn what_is_known_follows_from_what_was_seen() {
        let fresh = NO_FRESH.as_secs();
        for (seen, at, legacy, modern) in [
            (&[][..], 0, Unknown, Unknown),
            (&[(0, Speaks(Modern, true))], 9_999, Unknown, Known(true)),
            (&[(0, Speaks(Modern, false))], 1, Known(true), Known(false)),
            (&[(0, Speaks(Modern, false))], fresh, Unknown, Doubtful(false)),
            (&[(0, Speaks(Modern, true)), (1, Speaks(Legacy, true))], 2, Known(true), Known(true)),
            (&[(0, Speaks(Modern, true)), (1, Speaks(Legacy, false))], 2, Known(false), Known(true)),
            (&[(0, Speaks(Modern, true)), (9, Contradicted(Modern))], 9, Unknown, Doubtful(true)),
            (&[(0, Speaks(Modern, true)), (1, Contradicted(Modern))], 9, Unknown, Known(true)),
            (&[(0, Speaks(Modern, false)), (1, Speaks(Legacy, false))], 1, Unknown, Unknown),
        ] {
            assert_eq!(fold(seen, at), (legacy, modern), "{seen:?} at {at}");
        }
    }

    #[tokio::test]
    async fn an_outage_never_flips_a_verdict() {
        let seen = [(0, Speaks(Modern, true)), (1, Speaks(Legacy, false)), (2, Unreachable)];
        assert_eq!(fold(&seen, 2), (Doubtful(false), Doubtful(true)));
        let mut seen = seen.to_vec();
        seen.push((3, Unanswered(Modern)));
        assert_eq!(fold(&seen, 4), (Doubtful(false), Known(true)), "not asked again at once");
        assert_eq!(fold(&seen, 3 + ASK_AGAIN.as_secs()).1, Doubtful(true));
        assert_eq!(fold(&[(0, Unreachable), (1, Unanswered(Legacy))], 9), (Unknown, Unknown));
    }

    #[tokio::test]
    async fn what_another_process_showed_is_void() {
        let now = Instant::now();
        let verdict = Verdict::default().after(Speaks(Modern, true), 1, now);
        assert_eq!(verdict.on(Modern, 1, now), Known(true));
        assert_eq!(verdict.on(Modern, 2, now), Unknown);
        let next = verdict.after(Speaks(Legacy, true), 2, now);
        assert_eq!((next.on(Legacy, 2, now), next.on(Modern, 2, now)), (Known(true), Unknown));
    }
}
