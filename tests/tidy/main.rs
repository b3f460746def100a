//! The rules of the tree (design: "The tree"), held by a test so that they stay true.

#[cfg(test)]
mod crates;
#[cfg(test)]
mod imports;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod source;

#[cfg(test)]
mod tests {
    use super::{rules::RULES, source, source::Source};
    use std::fmt::Write as _;

    #[test]
    fn the_tree_keeps_its_rules() {
        let all = source::all();
        let mut report = String::new();
        for rule in RULES {
            let broken: Vec<_> = all
                .iter()
                .flat_map(|file| (rule.check)(file).into_iter().map(move |place| (file, place)))
                .collect();
            if !broken.is_empty() {
                writeln!(report, "\n{}, because {}:", rule.rule, rule.reason).unwrap();
            }
            for (file, (line, text)) in broken {
                writeln!(report, "  {}:{line}: {text}", file.path).unwrap();
            }
        }
        assert!(report.is_empty(), "{report}");
    }

    #[test]
    fn every_rule_catches_what_breaks_it_and_nothing_else() {
        for rule in RULES {
            let (path, text) = rule.caught;
            assert!(
                !(rule.check)(&Source::new(path, text)).is_empty(),
                "`{}` misses {path}:\n{text}",
                rule.rule
            );
            let (path, text) = rule.spared;
            let found = (rule.check)(&Source::new(path, text));
            assert!(found.is_empty(), "`{}` finds {found:?} in {path}:\n{text}", rule.rule);
        }
    }
}
