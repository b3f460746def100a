//! The official conformance suite through the gateway, in front of a fixture on the official Python SDK. The gate is
//! the whole score: a gateway that loses a scenario the server passes is at fault.

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

    /// The gate: every scored scenario of the revision and the ones named beside them.
    async fn gate(era: &str, revision: &str, scenarios: usize, beside: &[&str]) {
        let fixture = Server::fixture(era).await;
        let config = format!("upstreams:\n  fixture:\n    primary:\n      - url: {}\n", fixture.url);
        let gateway = Gateway::start(&config).await;
        let (score, output) = score(&gateway.url("/u/fixture/mcp"), revision).await;
        let total = score.scored.len();
        println!(
            "conformance {revision}, fixture {era}: {}/{total}, beside: {:?}",
            score.passed(),
            score.others
        );
        let failed: Vec<_> =
            score.scored.iter().filter(|(_, passed)| !**passed).map(|(name, _)| name).collect();
        let missing: Vec<_> = beside.iter().filter(|name| score.others.get(**name) != Some(&true)).collect();
        assert!(
            total == scenarios && failed.is_empty() && missing.is_empty(),
            "{revision} behind the gateway: {}/{total} of {scenarios}; failed: {failed:?}; beside: {missing:?}\n{}",
            score.passed(),
            reasons(&output, &failed, &missing),
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
    async fn thirty_of_thirty_for_2025_11_25() {
        let beside = ["server-session-lifecycle", "json-schema-2020-12", "server-sse-polling"];
        gate("both", "2025-11-25", 30, &beside).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn thirty_seven_of_thirty_seven_for_2026_07_28() {
        let beside =
            ["http-header-validation", "http-custom-header-server-validation", "json-schema-2020-12"];
        gate("both", "2026-07-28", 37, &beside).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_that_speaks_one_era_only_keeps_its_score() {
        gate("legacy", "2025-11-25", 30, &[]).await;
        gate("modern", "2026-07-28", 37, &[]).await;
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
