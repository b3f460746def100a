//! Who stands behind an entry of the journal: a client that tries a write again under its key joins the entry that waits.
//! It is withdrawn only if all of them were refused; whoever was acknowledged, or heard nothing, stays.

use std::collections::BTreeMap;

/// Of one upstream.
#[derive(Debug, Default)]
pub(super) struct SharedEntries {
    /// Calls beside the first, by `seq`; `None`: it was withdrawn, which the log may not know yet.
    more: BTreeMap<u64, Option<u32>>,
}

impl SharedEntries {
    /// Another call stands behind this entry; `None`: it is gone.
    pub(super) fn join(&mut self, seq: u64) -> Option<u64> {
        let more = self.more.entry(seq).or_insert(Some(0)).as_mut()?;
        *more = more.saturating_add(1);
        Some(seq)
    }

    /// A call was refused. Whether it was the last.
    pub(super) fn leave(&mut self, seq: u64) -> bool {
        let more = self.more.entry(seq).or_insert(Some(0));
        *more = more.and_then(|more| more.checked_sub(1));
        more.is_none()
    }

    /// Entries before this one are gone from the log, too.
    pub(super) fn forget_before(&mut self, oldest: u64) {
        self.more = self.more.split_off(&oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_goes_with_the_last_that_is_refused_and_nobody_joins_it_then() {
        let mut entries = SharedEntries::default();
        assert!(entries.leave(1), "alone");
        assert_eq!(entries.join(1), None, "the log only does not know it yet");
        assert_eq!((entries.join(2), entries.join(2)), (Some(2), Some(2)));
        assert!(!entries.leave(2) && !entries.leave(2), "the one that is left was acknowledged");
        assert_eq!(entries.join(2), Some(2));
        assert!(!entries.leave(2) && entries.leave(2));
        entries.forget_before(2);
        assert_eq!(entries.more.keys().copied().collect::<Vec<_>>(), [2]);
    }
}
