//! One tool → who serves it, or why nobody does.

use super::{
    page::{Line, Page, Style},
    span,
    tools::{route, trouble},
};
use crate::{
    inspect::{Offer, Tool, ToolState},
    model::{Upstream, UpstreamState},
};
use jiff::Timestamp;
use serde::Serialize;

/// Names that are offered instead of one that does not exist.
const SIMILAR: usize = 3;

/// What is asked.
pub struct Question<'a> {
    /// By the name that clients use, the upstream's own, or `<upstream>__<own name>`.
    pub tool: &'a str,
    /// The virtual server; empty: the route `/mcp`.
    pub server: &'a str,
    /// The static token whose view it is; empty: somebody who may use everything.
    pub principal: &'a str,
    /// As the fleet sees them.
    pub upstreams: &'a [Upstream],
    /// Now.
    pub now: Timestamp,
}

/// `o1ctl explain --json`.
#[derive(Debug, Serialize)]
pub struct Answer<'a> {
    /// As asked.
    pub asked: &'a str,
    /// `/mcp` or `/mcp/<server>`.
    pub route: String,
    /// Who says so.
    pub node_id: &'a str,
    /// Whose view it is; `None`: somebody's who may use everything.
    pub principal: Option<&'a str>,
    /// Every tool that is meant; the one that clients would reach comes first.
    pub tools: Vec<Explained<'a>>,
    /// Names like the one asked for, when there is none.
    pub similar: Vec<&'a str>,
    /// Upstreams of the route whose tools are not known, and why.
    pub unknown: Vec<String>,
}

/// One tool.
#[derive(Debug, Serialize)]
pub struct Explained<'a> {
    /// As its node sees it.
    #[serde(flatten)]
    pub tool: &'a Tool,
    /// Why it is, or is not, offered; one sentence.
    pub why: String,
    /// Where its upstream is: URLs or commands.
    pub endpoint: Option<&'a str>,
    /// How the fleet sees its upstream.
    pub upstream_state: Option<UpstreamState>,
}

/// Finds and explains.
#[must_use]
pub fn answer<'a>(offer: &'a Offer, question: &Question<'a>) -> Answer<'a> {
    let mut tools: Vec<_> = offer.tools.iter().filter(|tool| is_meant(tool, question.tool)).collect();
    tools.sort_by_key(|tool| (tool.name != question.tool, !tool.state.is_listed()));
    let similar = if tools.is_empty() { similar(offer, question.tool) } else { Vec::new() };
    let unknown = offer
        .upstreams
        .iter()
        .filter(|source| source.listed.is_none())
        .filter_map(|source| Some(format!("{} are not known: {}", source.name, trouble(source)?)));
    Answer {
        asked: question.tool,
        route: route(question.server),
        node_id: &offer.node_id,
        principal: Some(question.principal).filter(|name| !name.is_empty()),
        tools: tools.into_iter().map(|tool| explain(tool, question)).collect(),
        similar,
        unknown: unknown.collect(),
    }
}

fn is_meant(tool: &Tool, name: &str) -> bool {
    let full = || name.strip_prefix(&tool.upstream).and_then(|rest| rest.strip_prefix("__"));
    tool.name == name || tool.own_name == name || full() == Some(&tool.own_name)
}

fn explain<'a>(tool: &'a Tool, question: &Question<'a>) -> Explained<'a> {
    let upstream = question.upstreams.iter().find(|one| one.name == tool.upstream);
    Explained {
        tool,
        why: why(tool, question),
        endpoint: upstream.map(|one| one.primary.as_str()),
        upstream_state: upstream.map(|one| one.state),
    }
}

fn why(tool: &Tool, question: &Question<'_>) -> String {
    let (upstream, route) = (&tool.upstream, route(question.server));
    let server = if question.server.is_empty() { "this route" } else { question.server };
    let since = tool
        .since
        .map_or(String::new(), |then| format!(" for {}", span::words(span::since(then, question.now))));
    match tool.state {
        ToolState::Served => format!("listed on {route}, and calls go to `{}` of {upstream}", tool.own_name),
        ToolState::Unreachable => {
            format!("listed on {route}, but {upstream} does not answer{since}: a call fails and says so")
        }
        ToolState::Hidden => format!(
            "not listed: {upstream} does not answer{since}, and its `unreachable_tools: hide` takes its tools out"
        ),
        ToolState::NotAllowed => {
            format!("neither listed nor callable: no pattern in `tools.allow` of {server} fits it")
        }
        ToolState::Denied => format!(
            "neither listed nor callable: the pattern `{}` in `tools.deny` of {server} denies it",
            tool.pattern.as_deref().unwrap_or_default()
        ),
        ToolState::Clash => format!(
            "not reachable on {route}: a tool of {} has the same name and stands before it; give one of the two \
             upstreams a prefix",
            tool.other.as_deref().unwrap_or("another upstream")
        ),
        ToolState::Forbidden => format!(
            "neither listed nor callable for `{}`: `clients.auth` does not give it",
            question.principal
        ),
        ToolState::Unknown => "the node says something that this version of o1ctl does not know".to_owned(),
    }
}

fn similar<'a>(offer: &'a Offer, name: &str) -> Vec<&'a str> {
    let names = offer.tools.iter().flat_map(|tool| [tool.name.as_str(), tool.own_name.as_str()]);
    let mut close: Vec<_> = names
        .map(|known| (strsim::damerau_levenshtein(known, name), known))
        .filter(|(distance, known)| *distance <= known.chars().count().div_ceil(3))
        .collect();
    close.sort_unstable();
    close.dedup();
    let nearest = close.first().map_or(0, |(distance, _)| *distance);
    let as_near = close.into_iter().take_while(|(distance, _)| *distance == nearest);
    as_near.take(SIMILAR).map(|(_, known)| known).collect()
}

/// For people.
#[must_use]
pub fn page(answer: &Answer<'_>, question: &Question<'_>) -> Page {
    let mut page = Page::default();
    for one in &answer.tools {
        page.gap();
        tool(&mut page, one);
    }
    if answer.tools.is_empty() {
        let what = format!("no tool is called `{}` on {}", answer.asked, answer.route);
        page.push(Line::of(what, Style::Bad));
        if !answer.similar.is_empty() {
            let names: Vec<_> = answer.similar.iter().map(|name| format!("`{name}`")).collect();
            page.push(format!("  did you mean {}?", names.join(" or ")));
        } else if question.server.is_empty() {
            page.push("  o1ctl tools lists what there is");
        } else {
            page.push(format!("  o1ctl tools --server {} lists what there is", question.server));
        }
        for upstream in &answer.unknown {
            page.push(Line::of(format!("  the tools of {upstream}"), Style::Warning));
        }
    }
    page
}

fn tool(page: &mut Page, one: &Explained<'_>) {
    let style = match one.tool.state {
        ToolState::Served => Style::Good,
        ToolState::Unreachable | ToolState::Hidden => Style::Bad,
        ToolState::Clash => Style::Warning,
        _ => Style::Plain,
    };
    page.push(Line::of(&one.tool.name, Style::Bold));
    page.push(Line::of(format!("  {}", one.why), style));
    let mut fact = |name: &str, value: &str| {
        if !value.is_empty() {
            page.push(Line::of(format!("  {name:<12}"), Style::Dim).and(value, Style::Plain));
        }
    };
    let upstream = match (one.endpoint, one.upstream_state) {
        (Some(endpoint), Some(state)) => format!("{} ({endpoint}), {}", one.tool.upstream, word(state)),
        _ => one.tool.upstream.clone(),
    };
    fact("upstream", &upstream);
    fact("own name", &one.tool.own_name);
    if one.tool.shortened {
        fact("shortened", "its full name is too long for clients");
    }
    fact("description", &one.tool.description);
}

fn word(state: UpstreamState) -> &'static str {
    match state {
        UpstreamState::Healthy => "healthy",
        UpstreamState::Degraded => "degraded: some nodes do not reach it",
        UpstreamState::Unreachable => "unreachable",
        UpstreamState::Unknown => "not tried yet",
    }
}
