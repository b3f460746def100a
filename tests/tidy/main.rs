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

    /// A table that names tests which are gone claims what nobody checks.
    #[test]
    fn every_test_that_the_regressions_name_exists() {
        let page = std::fs::read_to_string(o1_tests::binaries::root().join("tests/REGRESSIONS.md")).unwrap();
        let code: Vec<_> = source::all().into_iter().map(|file| file.code).collect();
        let named: Vec<_> = page.split('`').skip(1).step_by(2).filter(|name| name.len() > 24).collect();
        assert!(named.len() > 30, "the page names tests in backquotes");
        let gone = |name: &&&str| !code.iter().any(|code| code.contains(&format!("fn {name}(")));
        assert_eq!(named.iter().filter(gone).collect::<Vec<_>>(), Vec::<&&str>::new());
    }
}
