use super::{NOW, moment, upstream};
use crate::{
    inspect::{LogLine, Offer, Source, Tool, ToolState},
    model::UpstreamState,
    output::{explain, json, logs, tools},
};
use jiff::tz::TimeZone;

fn tool(own: &str, state: ToolState) -> Tool {
    Tool {
        name: format!("weather__{own}"),
        upstream: "weather".into(),
        own_name: own.into(),
        description: format!("does {own}"),
        shortened: false,
        state,
        pattern: (state == ToolState::Denied).then(|| "rm_*".to_owned()),
        other: (state == ToolState::Clash).then(|| "files".to_owned()),
        since: matches!(state, ToolState::Unreachable | ToolState::Hidden)
            .then(|| moment("2026-11-21T17:00:00Z")),
    }
}

fn offer() -> Offer {
    let source = |name: &str, listed: bool, error: Option<&str>| Source {
        name: name.into(),
        prefix: format!("{name}__"),
        listed: listed.then(|| moment(NOW)),
        error: error.map(str::to_owned),
    };
    Offer {
        node_id: "n1".into(),
        tools: vec![
            tool("forecast", ToolState::Served),
            Tool { shortened: true, ..tool("history", ToolState::Served) },
            tool("alerts", ToolState::Unreachable),
            tool("rm_all", ToolState::Denied),
            tool("admin", ToolState::NotAllowed),
            tool("read", ToolState::Clash),
            tool("radar", ToolState::Hidden),
            tool("secret", ToolState::Forbidden),
        ],
        upstreams: vec![
            source("weather", true, Some("connection refused")),
            source("files", true, None),
            source("slow", false, None),
        ],
    }
}

fn view(all: bool) -> tools::View<'static> {
    tools::View { server: "", all, now: moment(NOW) }
}

#[test]
fn hidden_tools_are_counted_and_shown_when_asked_for() {
    insta::assert_snapshot!(tools::page(&offer(), &view(false)).paint(false), @r"
    NAME               UPSTREAM  OWN NAME  STATE                  DESCRIPTION
    weather__forecast  weather   forecast  ✅ served              does forecast
    weather__history   weather   history   ✅ served, shortened   does history
    weather__alerts    weather   alerts    ❌ unreachable for 5m  does alerts

    3 tools of 3 upstreams on /mcp, as node n1 offers them; 5 hidden (--all shows them)
      weather: its lists are from earlier: connection refused
      slow: its lists were not fetched yet
    ");
    insta::assert_snapshot!(tools::page(&offer(), &view(true)).paint(false), @r"
    NAME               UPSTREAM  OWN NAME  STATE                             DESCRIPTION
    weather__forecast  weather   forecast  ✅ served                         does forecast
    weather__history   weather   history   ✅ served, shortened              does history
    weather__alerts    weather   alerts    ❌ unreachable for 5m             does alerts
    weather__rm_all    weather   rm_all    · denied by rm_*                  does rm_all
    weather__admin     weather   admin     · not allowed                     does admin
    weather__read      weather   read      ⚠️ shadowed by files              does read
    weather__radar     weather   radar     ❌ taken out, unreachable for 5m  does radar
    weather__secret    weather   secret    · forbidden                       does secret

    3 tools of 3 upstreams on /mcp, as node n1 offers them; 5 hidden
      weather: its lists are from earlier: connection refused
      slow: its lists were not fetched yet
    ");
    let report = json::pretty(&tools::report(&offer(), &view(false)));
    assert!(report.contains("\"listed\": 3") && report.contains("\"hidden\": 5"), "{report}");
    assert!(!report.contains("rm_all"), "{report}");
}

#[test]
fn a_node_that_offers_nothing_says_so() {
    let empty = Offer { node_id: "n1".into(), ..Offer::default() };
    let view = tools::View { server: "coding", ..view(true) };
    let said = tools::page(&empty, &view).paint(false);
    assert_eq!(said, "0 tools of 0 upstreams on /mcp/coding, as node n1 offers them\n");
}

#[test]
fn every_state_of_a_tool_has_its_reason() {
    let upstreams = [upstream("weather", UpstreamState::Healthy)];
    let offer = offer();
    let explain = |tool: &str| {
        let question =
            explain::Question { tool, server: "", principal: "ci", upstreams: &upstreams, now: moment(NOW) };
        explain::page(&explain::answer(&offer, &question), &question).paint(false)
    };
    let all: Vec<_> = offer.tools.iter().map(|tool| explain(&tool.own_name)).collect();
    insta::assert_snapshot!(all.join("\n"), @r"
    weather__forecast
      listed on /mcp, and calls go to `forecast` of weather
      upstream    weather (http://127.0.0.1:3101/mcp), healthy
      own name    forecast
      description does forecast

    weather__history
      listed on /mcp, and calls go to `history` of weather
      upstream    weather (http://127.0.0.1:3101/mcp), healthy
      own name    history
      shortened   its full name is too long for clients
      description does history

    weather__alerts
      listed on /mcp, but weather does not answer for 5m: a call fails and says so
      upstream    weather (http://127.0.0.1:3101/mcp), healthy
      own name    alerts
      description does alerts

    weather__rm_all
      neither listed nor callable: the pattern `rm_*` in `tools.deny` of this route denies it
      upstream    weather (http://127.0.0.1:3101/mcp), healthy
      own name    rm_all
      description does rm_all

    weather__admin
      neither listed nor callable: no pattern in `tools.allow` of this route fits it
      upstream    weather (http://127.0.0.1:3101/mcp), healthy
      own name    admin
      description does admin

    weather__read
      not reachable on /mcp: a tool of files has the same name and stands before it; give one of the two upstreams a prefix
      upstream    weather (http://127.0.0.1:3101/mcp), healthy
      own name    read
      description does read

    weather__radar
      not listed: weather does not answer for 5m, and its `unreachable_tools: hide` takes its tools out
      upstream    weather (http://127.0.0.1:3101/mcp), healthy
      own name    radar
      description does radar

    weather__secret
      neither listed nor callable for `ci`: `clients.auth` does not give it
      upstream    weather (http://127.0.0.1:3101/mcp), healthy
      own name    secret
      description does secret
    ");
}

#[test]
fn a_name_that_does_not_exist_is_compared_with_those_that_do() {
    let offer = offer();
    let ask = |tool: &str, server: &str| {
        let question = explain::Question { tool, server, principal: "", upstreams: &[], now: moment(NOW) };
        let answer = explain::answer(&offer, &question);
        (explain::page(&answer, &question).paint(false), json::pretty(&answer))
    };
    insta::assert_snapshot!(ask("wether__forecast", "coding").0, @r"
    no tool is called `wether__forecast` on /mcp/coding
      did you mean `weather__forecast`?
      the tools of slow are not known: its lists were not fetched yet
    ");
    insta::assert_snapshot!(ask("zzz", "coding").0, @r"
    no tool is called `zzz` on /mcp/coding
      o1ctl tools --server coding lists what there is
      the tools of slow are not known: its lists were not fetched yet
    ");
    insta::assert_snapshot!(ask("forecast", "").1, @r#"
    {
      "asked": "forecast",
      "route": "/mcp",
      "node_id": "n1",
      "principal": null,
      "tools": [
        {
          "name": "weather__forecast",
          "upstream": "weather",
          "own_name": "forecast",
          "description": "does forecast",
          "shortened": false,
          "state": "served",
          "pattern": null,
          "other": null,
          "since": null,
          "why": "listed on /mcp, and calls go to `forecast` of weather",
          "endpoint": null,
          "upstream_state": null
        }
      ],
      "similar": [],
      "unknown": [
        "slow are not known: its lists were not fetched yet"
      ]
    }
    "#);
}

#[test]
fn a_line_of_a_log_says_when_where_and_by_whom_and_cannot_drive_the_terminal() {
    let line = |node: &str, text: &str| LogLine {
        at: Some(moment("2026-11-21T17:05:00.25Z")),
        node_id: node.into(),
        pid: 4711,
        text: text.into(),
    };
    let lines = [line("n1", "ready\x1b[2J"), line("n2", "ready")];
    let page = logs::page(&lines, &mut logs::Sources::default(), &TimeZone::UTC);
    insta::assert_snapshot!(page.paint(false), @r"
    2026-11-21 17:05:00.250 n1 [4711] ready\u{1b}[2J
    2026-11-21 17:05:00.250 n2 [4711] ready
    ");
    let colours = page.paint(true);
    assert!(colours.contains("\x1b[36m n1 ") && colours.contains("\x1b[35m n2 "), "{colours:?}");
}
