//! What a node offers → the table of `o1ctl tools`.

use super::{
    page::{Line, Page, Span, Style},
    span,
    table::Table,
};
use crate::inspect::{Offer, Source, Tool, ToolState};
use jiff::Timestamp;
use serde::Serialize;

/// How it is looked at.
pub struct View<'a> {
    /// The virtual server; empty: the route `/mcp`.
    pub server: &'a str,
    /// Hidden tools too.
    pub all: bool,
    /// Now.
    pub now: Timestamp,
}

/// `o1ctl tools --json`.
#[derive(Serialize)]
pub struct Report<'a> {
    node_id: &'a str,
    route: String,
    tools: Vec<&'a Tool>,
    listed: usize,
    hidden: usize,
    upstreams: &'a [Source],
}

/// For programs.
#[must_use]
pub fn report<'a>(offer: &'a Offer, view: &View<'_>) -> Report<'a> {
    let listed = offer.tools.iter().filter(|tool| tool.state.is_listed()).count();
    Report {
        node_id: &offer.node_id,
        route: route(view.server),
        tools: shown(offer, view).collect(),
        listed,
        hidden: offer.tools.len() - listed,
        upstreams: &offer.upstreams,
    }
}

/// For people.
#[must_use]
pub fn page(offer: &Offer, view: &View<'_>) -> Page {
    let mut page = Page::default();
    let mut table = Table::new(&["NAME", "UPSTREAM", "OWN NAME", "STATE", "DESCRIPTION"]);
    let mut rows = 0;
    for tool in shown(offer, view) {
        rows += 1;
        table.row(
            vec![
                tool.name.as_str().into(),
                tool.upstream.as_str().into(),
                tool.own_name.as_str().into(),
                state(tool, view.now),
                Span::new(&tool.description, Style::Dim),
            ],
            Page::default(),
        );
    }
    if rows > 0 {
        page.append(table.page());
        page.gap();
    }
    page.push(summary(offer, view));
    for source in &offer.upstreams {
        if let Some(said) = trouble(source) {
            page.push(Line::of(format!("  {}: {said}", source.name), Style::Warning));
        }
    }
    page
}

/// `/mcp` or `/mcp/<server>`.
#[must_use]
pub fn route(server: &str) -> String {
    if server.is_empty() { "/mcp".to_owned() } else { format!("/mcp/{server}") }
}

fn shown<'a>(offer: &'a Offer, view: &View<'_>) -> impl Iterator<Item = &'a Tool> {
    let all = view.all;
    offer.tools.iter().filter(move |tool| all || tool.state.is_listed())
}

fn summary(offer: &Offer, view: &View<'_>) -> String {
    let count = |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    let listed = offer.tools.iter().filter(|tool| tool.state.is_listed()).count();
    let hidden = match offer.tools.len() - listed {
        0 => String::new(),
        hidden if view.all => format!("; {hidden} hidden"),
        hidden => format!("; {hidden} hidden (--all shows them)"),
    };
    format!(
        "{} of {} on {}, as node {} offers them{hidden}",
        count(listed, "tool"),
        count(offer.upstreams.len(), "upstream"),
        route(view.server),
        offer.node_id
    )
}

/// What is wrong with an upstream's lists.
#[must_use]
pub fn trouble(source: &Source) -> Option<String> {
    match (&source.error, source.listed) {
        (Some(error), Some(_)) => Some(format!("its lists are from earlier: {error}")),
        (Some(error), None) => Some(format!("its lists were never fetched: {error}")),
        (None, None) => Some("its lists were not fetched yet".to_owned()),
        (None, Some(_)) => None,
    }
}

fn state(tool: &Tool, now: Timestamp) -> Span {
    let since = |word: &str| match tool.since {
        Some(then) => format!("{word} for {}", span::words(span::since(then, now))),
        None => word.to_owned(),
    };
    match tool.state {
        ToolState::Served if tool.shortened => Span::new("✅ served, shortened", Style::Good),
        ToolState::Served => Span::new("✅ served", Style::Good),
        ToolState::Unreachable => Span::new(since("❌ unreachable"), Style::Bad),
        ToolState::Hidden => Span::new(since("❌ taken out, unreachable"), Style::Bad),
        ToolState::NotAllowed => Span::new("· not allowed", Style::Dim),
        ToolState::Denied => {
            Span::new(format!("· denied by {}", tool.pattern.as_deref().unwrap_or("a pattern")), Style::Dim)
        }
        ToolState::Clash => {
            let other = tool.other.as_deref().unwrap_or("another upstream");
            Span::new(format!("⚠️ shadowed by {other}"), Style::Warning)
        }
        ToolState::Forbidden => Span::new("· forbidden", Style::Dim),
        ToolState::Unknown => Span::new("· unknown", Style::Dim),
    }
}
