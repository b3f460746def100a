//! Tiers of the cache, where messages name them.

use crate::{model::Tier, wire};

/// The tier of this number; `None`: none is named.
///
/// # Errors
/// The number, which this build does not know.
pub fn tier(number: i32) -> Result<Option<Tier>, i32> {
    match wire::Tier::try_from(number) {
        Ok(wire::Tier::Unspecified) => Ok(None),
        Ok(wire::Tier::Tools) => Ok(Some(Tier::Tools)),
        Ok(wire::Tier::Resources) => Ok(Some(Tier::Resources)),
        Ok(wire::Tier::Catalogue) => Ok(Some(Tier::Catalogue)),
        Err(_) => Err(number),
    }
}

/// Its number.
#[must_use]
pub fn from_tier(tier: Option<Tier>) -> i32 {
    let named = tier.map_or(wire::Tier::Unspecified, |tier| match tier {
        Tier::Tools => wire::Tier::Tools,
        Tier::Resources => wire::Tier::Resources,
        Tier::Catalogue => wire::Tier::Catalogue,
    });
    named.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tier_survives_the_way_there_and_back_and_an_unknown_one_is_no_other() {
        for one in Tier::ALL.map(Some).into_iter().chain([None]) {
            assert_eq!(tier(from_tier(one)), Ok(one));
        }
        assert_eq!(tier(77), Err(77));
    }
}
