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

    /// Scenarios that count.
    const SCORED: [(&str, usize); 2] = [("2025-11-25", 30), ("2026-07-28", 37)];
    /// Scenarios of each revision that do not count and pass all the same.
    const BESIDE: [[&str; 3]; 2] = [
        ["server-session-lifecycle", "json-schema-2020-12", "server-sse-polling"],
        ["http-header-validation", "http-custom-header-server-validation", "json-schema-2020-12"],
    ];

    /// One cell of the grid: the wire that clients speak and the eras that the fixture speaks, through the route of
    /// one upstream and, where nothing has a prefix, through the one of all.
    async fn gate(revision: &str, era: &str) {
        let fixture = Server::fixture(era).await;
        let config =
            format!("upstreams:\n  fixture:\n    primary:\n      - url: {}\n    prefix: none\n", fixture.url);
        let gateway = Gateway::start(&config).await;
        for path in ["/u/fixture/mcp", "/mcp"] {
            let (score, output) = score(&gateway.url(path), revision).await;
            judge(&format!("{revision} through {path}, fixture {era}"), revision, &score, &output);
        }
    }

    fn judge(what: &str, revision: &str, score: &Score, output: &str) {
        let cell = SCORED.iter().position(|(known, _)| *known == revision).expect("a revision of the suite");
        let (total, (_, scenarios), beside) = (score.scored.len(), SCORED[cell], BESIDE[cell]);
        println!("conformance {what}: {}/{total}, beside: {:?}", score.passed(), score.others);
        let failed: Vec<_> =
            score.scored.iter().filter(|(_, passed)| !**passed).map(|(name, _)| name).collect();
        let missing: Vec<_> = beside.iter().filter(|name| score.others.get(**name) != Some(&true)).collect();
        assert!(
            total == scenarios && failed.is_empty() && missing.is_empty(),
            "{what}: {}/{total} of {scenarios}; failed: {failed:?}; beside: {missing:?}\n{}",
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

    #[tokio::test(flavor = "multi_thread")]
    async fn legacy_wire_in_front_of_a_server_of_both_eras() {
        gate("2025-11-25", "both").await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn modern_wire_in_front_of_a_server_of_both_eras() {
        gate("2026-07-28", "both").await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn legacy_wire_in_front_of_a_legacy_server() {
        gate("2025-11-25", "legacy").await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn modern_wire_in_front_of_a_modern_server() {
        gate("2026-07-28", "modern").await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn modern_wire_in_front_of_a_legacy_server() {
        gate("2026-07-28", "legacy").await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn legacy_wire_in_front_of_a_modern_server() {
        gate("2025-11-25", "modern").await;
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
