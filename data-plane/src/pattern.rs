//! Which names are meant: patterns in which `*` stands for any characters, and allow and deny lists of them.
//! Pure.

/// A name with `*` for any characters, none included. Case matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Every text is a pattern.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    /// True when the whole name fits.
    #[must_use]
    pub fn fits(&self, name: &str) -> bool {
        if self.0 == "*" {
            return true;
        }
        let mut pieces = self.0.split('*');
        let first = pieces.next().unwrap_or_default();
        let Some(mut rest) = name.strip_prefix(first) else { return false };
        let Some(last) = pieces.next_back() else { return rest.is_empty() };
        for piece in pieces {
            match rest.split_once(piece) {
                Some((_, after)) => rest = after,
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

/// What is allowed and not denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Allowed.
    pub allow: Vec<Pattern>,
    /// Not, even when allowed.
    pub deny: Vec<Pattern>,
}

impl Filter {
    /// Admits everything.
    #[must_use]
    pub fn everything() -> Self {
        Self { allow: vec![Pattern::new("*")], deny: Vec::new() }
    }

    /// True when `fits` holds for an allowed pattern and for no denied one. A thing with several names asks
    /// for each of them in `fits`.
    #[must_use]
    pub fn admits(&self, fits: impl Fn(&Pattern) -> bool) -> bool {
        self.allow.iter().any(&fits) && !self.deny.iter().any(&fits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, name, fit) in [
            ("read_*", "read_file", true),
            ("read_*", "read_", true),
            ("read_*", "spread_file", false),
            ("*", "", true),
            ("echo", "echo", true),
            ("echo", "echo2", false),
            ("*_file", "read_file", true),
            ("a*b*c", "a__b__c", true),
            ("a*b*c", "a__c", false),
            ("a*a", "a", false),
            ("ab*ba", "aba", false),
            ("**", "x", true),
        ] {
            assert_eq!(Pattern::new(pattern).fits(name), fit, "{pattern} {name}");
        }
    }

    #[test]
    fn what_is_denied_is_not_admitted_although_it_is_allowed() {
        let filter = Filter { allow: vec![Pattern::new("read_*")], deny: vec![Pattern::new("*_secret")] };
        let admits = |name: &str| filter.admits(|pattern| pattern.fits(name));
        assert!(admits("read_file") && !admits("read_secret") && !admits("write_file"));
        assert!(!Filter { allow: Vec::new(), deny: Vec::new() }.admits(|_| true));
    }
}
