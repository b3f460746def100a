//! Every way a node can go between the stores of an upstream, explored to the end: the transition functions are the
//! product's own file, what is around them (orders, crashes, the disk, clients, the primary) stands in [`model`].
//!
//! The design must keep every promise in every state, and each mutant must break one: a check that catches no mistake
//! checks nothing.
//!
//! [`fleet`] is three hundred nodes that are simulated, on a control plane that is not.

#[cfg(test)]
mod explore;
#[cfg(test)]
mod fleet;
#[cfg(test)]
#[expect(dead_code, reason = "what people are told of it is of no account here")]
#[path = "../../data-plane/src/failover/machine.rs"]
mod machine;
#[cfg(test)]
mod model;

/// The words that the machine needs of its crate, spelled as there.
#[cfg(test)]
mod words {
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
    pub enum Store {
        Primary,
        Backup,
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum Phase {
        Primary,
        Provisional,
        DrainingPrimary,
        Backup,
        SyncingBack,
        Cutover,
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum Refusal {
        StaleTerm,
        TermConflict,
    }
}

#[cfg(test)]
use words::{Phase, Refusal, Store};

#[cfg(test)]
mod tests {
    use super::{
        explore::{Found, explore},
        model::{Limits, Mutant, State},
    };

    fn explored(mutant: Option<Mutant>, limits: Limits) -> Found {
        let found = explore(State::first(), |state, next| state.steps(mutant, limits, next));
        println!(
            "{mutant:?}: {} states, {} steps, {} cannot get home{}",
            found.states,
            found.edges,
            found.stuck,
            found.broken.as_ref().map_or_else(String::new, |broken| format!(", {broken}"))
        );
        found
    }

    #[test]
    fn the_design_keeps_every_promise_and_always_finds_home() {
        let found = explored(None, Limits::WIDE);
        assert_eq!(found.broken.map(|broken| broken.to_string()), None);
        assert!(found.states > 20_000, "only {} states: what is explored got smaller", found.states);
        assert_eq!(found.stuck, 0, "{:?}", found.example);
    }

    #[test]
    fn each_mutant_breaks_a_promise() {
        for (mutant, promise) in [
            (Mutant::AckBeforeFsync, "I1"),
            (Mutant::RestoreAnyway, "I4"),
            (Mutant::CheckpointOnSend, "I6"),
            (Mutant::NoTermCheck, "I5"),
            (Mutant::NoBarrier, "I4"),
            (Mutant::NoIdempotency, "I2"),
            (Mutant::RouteBeforeWal, "I3"),
        ] {
            let found = explored(Some(mutant), Limits::NARROW);
            let broken = found.broken.unwrap_or_else(|| panic!("{mutant:?} breaks nothing"));
            assert_eq!(broken.promise, promise, "{mutant:?}: {broken}");
        }
    }

    #[test]
    fn orders_that_are_sent_once_leave_nodes_behind() {
        let found = explored(Some(Mutant::EdgeTriggered), Limits::NARROW);
        assert_eq!(found.broken.map(|broken| broken.to_string()), None);
        assert!(found.stuck > 0, "an order that is lost is never made up for");
    }
}
