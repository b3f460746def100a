//! The official conformance suite through the gateway, in front of a fixture on the official Python SDK. The gate is
//! the whole score: a gateway that loses a scenario the server passes is at fault.

#[cfg(test)]
mod clients;

#[cfg(test)]
mod tests {
    use o1_tests::{Gateway, peers, peers::Server};
    use std::{collections::BTreeMap, time::Duration};

    /// The result of one run of the suite.
    #[derive(Debug, PartialEq, Eq)]
    struct Score {
        /// Scenarios that count, and whether each passed.
        scored: BTreeMap<String, bool>,
        /// Scenarios that were run beside them.
        others: BTreeMap<String, bool>,
    }

    impl Score {
        /// Reads the summary that the suite prints at its end.
        fn read(output: &str) -> Self {
            let verdict = |line: &str| match (line.strip_prefix("✓ "), line.strip_prefix("✗ ")) {
                (Some(rest), None) => Some((rest.to_owned(), true)),
                (None, Some(rest)) => Some((rest.to_owned(), false)),
                _ => None,
            };
            let summary = output.split_once("=== SUMMARY ===").map_or("", |(_, summary)| summary);
            let (all, not_scored) = summary.split_once("Not scored").unwrap_or((summary, ""));
            let name = |rest: &str, end: char| rest.split(end).next().unwrap_or_default().trim().to_owned();
            let others: BTreeMap<_, _> = not_scored
                .lines()
                .filter_map(|line| verdict(line.trim()))
                .map(|(rest, passed)| (name(&rest, '('), passed))
                .collect();
            let scored = all
                .lines()
                .filter_map(verdict)
                .map(|(rest, passed)| (name(&rest, ':'), passed))
                .filter(|(name, _)| !others.contains_key(name))
                .collect();
            Self { scored, others }
        }

        fn passed(&self) -> usize {
            self.scored.values().filter(|passed| **passed).count()
        }
    }

    /// Runs the suite of a revision against a URL.
    async fn score(url: &str, revision: &str) -> (Score, String) {
        let out = tempfile::tempdir().unwrap();
        // The exit status repeats the score; peers::run would stop at it before the reasons are shown.
        let script = r#""$0" "$1" server --url "$2" --requirements "$3" -o "$4" --verbose; true"#;
        let output = peers::run("/bin/sh".as_ref(), "", Duration::from_secs(300), |command| {
            command.args(["-c", script]).arg(peers::node()).arg(peers::node_program("conformance"));
            command.args([url, revision]).arg(out.path());
        })
        .await;
        (Score::read(&output), output)
    }

    /// One cell of the grid.
    struct Cell {
        /// The wire that clients speak.
        revision: &'static str,
        /// What the fixture speaks.
        era: &'static str,
        /// Scenarios that are known to fail here, each with the reason why no gateway could pass it. One that passes
        /// fails the gate as well: the list says what is true.
        misses: &'static [(&'static str, &'static str)],
        /// Scenarios that do not count and pass all the same.
        beside: &'static [&'static str],
    }

    impl Cell {
        /// How many scenarios of this revision count.
        fn scenarios(&self) -> usize {
            if self.revision == "2026-07-28" { 37 } else { 30 }
        }
    }

    /// The gate through the route of one upstream and, where nothing has a prefix, through the one of all.
    async fn gate(cell: Cell) {
        let fixture = Server::fixture(cell.era).await;
        let config =
            format!("upstreams:\n  fixture:\n    primary:\n      - url: {}\n    prefix: none\n", fixture.url);
        let gateway = Gateway::start(&config).await;
        for path in ["/u/fixture/mcp", "/mcp"] {
            let (score, output) = score(&gateway.url(path), cell.revision).await;
            judge(&cell, path, &score, &output);
        }
    }

    fn judge(cell: &Cell, path: &str, score: &Score, output: &str) {
        let (total, scenarios) = (score.scored.len(), cell.scenarios());
        let what = format!("{} through {path}, fixture {}", cell.revision, cell.era);
        println!("conformance {what}: {}/{total}, beside: {:?}", score.passed(), score.others);
        let is_known = |name: &str| cell.misses.iter().any(|(miss, _)| *miss == name);
        let failed: Vec<_> = score
            .scored
            .iter()
            .filter(|(name, passed)| **passed == is_known(name))
            .map(|(name, _)| name)
            .collect();
        let missing: Vec<_> =
            cell.beside.iter().filter(|name| score.others.get(**name) != Some(&true)).collect();
        assert!(
            total == scenarios && failed.is_empty() && missing.is_empty(),
            "{what}: {}/{total} of {scenarios}; not as listed: {failed:?}; beside: {missing:?}\n{}",
            score.passed(),
            reasons(output, &failed, &missing),
        );
    }

    /// What the suite says about checks that failed, without the rest of its output.
    fn reasons(output: &str, failed: &[&String], missing: &[&&str]) -> String {
        let wanted = |section: &&str| {
            let name = section.split(" ===").next().unwrap_or_default().trim();
            failed.iter().any(|failed| *failed == name) || missing.iter().any(|missing| **missing == name)
        };
        output
            .split("=== Running scenario:")
            .skip(1)
            .filter(wanted)
            .map(|section| format!("{section:.6000}"))
            .collect()
    }

    const LEGACY_BESIDE: &[&str] = &["server-session-lifecycle", "json-schema-2020-12", "server-sse-polling"];
    const MODERN_BESIDE: &[&str] =
        &["http-header-validation", "http-custom-header-server-validation", "json-schema-2020-12"];

    #[tokio::test(flavor = "multi_thread")]
    async fn legacy_wire_in_front_of_a_server_of_both_eras() {
        gate(Cell { revision: "2025-11-25", era: "both", misses: &[], beside: LEGACY_BESIDE }).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn modern_wire_in_front_of_a_server_of_both_eras() {
        gate(Cell { revision: "2026-07-28", era: "both", misses: &[], beside: MODERN_BESIDE }).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn legacy_wire_in_front_of_a_legacy_server() {
        gate(Cell { revision: "2025-11-25", era: "legacy", misses: &[], beside: LEGACY_BESIDE }).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn modern_wire_in_front_of_a_modern_server() {
        gate(Cell { revision: "2026-07-28", era: "modern", misses: &[], beside: MODERN_BESIDE }).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn modern_wire_in_front_of_a_legacy_server() {
        gate(Cell { revision: "2026-07-28", era: "legacy", misses: &[], beside: &[] }).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn legacy_wire_in_front_of_a_modern_server() {
        gate(Cell { revision: "2025-11-25", era: "modern", misses: &[], beside: &[] }).await;
    }

    #[test]
    fn the_summary_is_read_as_the_suite_prints_it() {
        let output = "noise\n✓ not-a-result: 1 passed\n=== SUMMARY ===\n✓ ping: 2 passed, 0 failed\n✗ caching: 7 passed, 1 failed\n\
                      ✗ tasks-lifecycle: 1 passed, 8 failed\n\nTotal: 10 passed, 9 failed\n\n\
                      Not scored for 2026-07-28: 1 scenario(s) run, 1 failing.\n  ✗ tasks-lifecycle (extension)\n";
        let score = Score::read(output);
        assert_eq!(score.scored, BTreeMap::from([("ping".into(), true), ("caching".into(), false)]));
        assert_eq!(score.others, BTreeMap::from([("tasks-lifecycle".into(), false)]));
        assert_eq!(score.passed(), 1);
        assert!(Score::read("").scored.is_empty());
    }
}
