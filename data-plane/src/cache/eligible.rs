//! What a call is to the cache: nothing, something that writes, or a read that may be answered from memory. Pure:
//! the message, who asks in which era, and what the operator said of the upstream.

use super::scope::Subject;
use crate::{
    call::{Ask, Call, Caller},
    mcp::{self, Message, json, method},
    pattern::Pattern,
    plan::Upstream,
};
use o1_proto::model::{Life, Share, Tier};
use std::{borrow::Cow, collections::BTreeMap, time::Duration};

/// What a call is to the cache.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Nothing: it passes.
    Nothing,
    /// A call of a tool: what it changes may be read right after it.
    Writes,
    /// A read.
    Reads(Read),
}

/// A read that takes part.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Read {
    /// Which of the methods it is.
    pub(super) method: Method,
    /// What it is about.
    pub(super) subject: Subject,
    /// How long the operator has the answer kept; `None`: by the server's word.
    pub(super) rule: Option<Life>,
    /// Who may have the answer beside who asked.
    pub(super) sharing: Sharing,
    /// Whether its answer says for how long and for whom it is good (2026-07-28, "caching").
    pub(super) hinted: bool,
}

/// Who may have an answer beside who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// Everybody.
    Everybody,
    /// The principal; everybody, where the server says so.
    Principal {
        /// Whether the server can say so.
        public: bool,
    },
    /// The legacy session.
    Session,
}

/// The methods that can take part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Discover,
    ToolsList,
    PromptsList,
    ResourcesList,
    TemplatesList,
    Read,
    Tool,
    Prompt,
}

impl Method {
    /// Every one, in the order of their declaration.
    pub(super) const ALL: [Self; 8] = [
        Self::Discover,
        Self::ToolsList,
        Self::PromptsList,
        Self::ResourcesList,
        Self::TemplatesList,
        Self::Read,
        Self::Tool,
        Self::Prompt,
    ];

    fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.word() == name)
    }

    /// Its name on the wire.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Discover => method::DISCOVER,
            Self::ToolsList => method::TOOLS_LIST,
            Self::PromptsList => method::PROMPTS_LIST,
            Self::ResourcesList => method::RESOURCES_LIST,
            Self::TemplatesList => method::TEMPLATES_LIST,
            Self::Read => method::RESOURCES_READ,
            Self::Tool => method::TOOLS_CALL,
            Self::Prompt => method::PROMPTS_GET,
        }
    }

    /// Which tier keeps its answers.
    pub(super) fn tier(self) -> Tier {
        match self {
            Self::Tool => Tier::Tools,
            Self::Read => Tier::Resources,
            _ => Tier::Catalogue,
        }
    }

    /// Whether requests of it are collected.
    pub(super) fn is_list(self) -> bool {
        !matches!(self, Self::Read | Self::Tool | Self::Prompt)
    }
}

/// What a call to an upstream is to the cache. Costs next to nothing for what takes no part.
pub(super) fn part(call: &Call, upstream: &Upstream) -> Part {
    let Ask::Message(message) = &call.ask else { return Part::Nothing };
    if message.kind() != mcp::Kind::Request {
        return Part::Nothing;
    }
    let Some(method) = Method::of(message.method()) else { return Part::Nothing };
    let otherwise = if method == Method::Tool { Part::Writes } else { Part::Nothing };
    read(call, message, method, upstream).map_or(otherwise, Part::Reads)
}

fn read(call: &Call, message: &Message, method: Method, upstream: &Upstream) -> Option<Read> {
    let modern = match &call.caller {
        Caller::Modern => true,
        Caller::Legacy(Some(_)) => false,
        Caller::Legacy(None) => return None,
    };
    let (rules, collected) = (&upstream.cache, method.is_list() && !call.plan.batching.window.is_zero());
    let concerned = match method {
        Method::Tool => !rules.tools.is_empty(),
        Method::Prompt => !rules.prompts.is_empty(),
        Method::Read => modern || !rules.resources.is_empty(),
        Method::Discover => modern,
        _ => modern || collected || rules.lists.is_some(),
    };
    if !concerned {
        return None;
    }
    let name = whole(message, method)?;
    let (subject, rule) = match method {
        Method::Tool => (Subject::Tool((*name).into()), Some(rule(&rules.tools, &name)?)),
        Method::Prompt => (Subject::Prompt((*name).into()), Some(rule(&rules.prompts, &name)?)),
        Method::Read => (Subject::Resource((*name).into()), rule(&rules.resources, &name)),
        _ => (Subject::List(method.word()), rules.lists),
    };
    let sharing = match (rule, rules.share) {
        (Some(Life::For(Duration::ZERO)), _) => return None,
        (None, _) if !modern && !collected => return None,
        // Nobody said that sessions see the same lists.
        (None, _) if !modern => Sharing::Session,
        (_, Share::Everybody) => Sharing::Everybody,
        (_, Share::Principal) => Sharing::Principal { public: modern },
        (_, Share::Session) if modern => Sharing::Principal { public: false },
        (_, Share::Session) => Sharing::Session,
    };
    let hinted = modern && !matches!(method, Method::Tool | Method::Prompt);
    Some(Read { method, subject, rule, sharing, hinted })
}

/// What the answer to a request is to the snapshot of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lasting {
    /// What the upstream says of itself: `initialize` or `server/discover`.
    pub(super) introduces: bool,
    /// Who may have the answer beside who asked. Never the session: it does not last.
    pub(super) sharing: Sharing,
}

/// What the answer to a request is to the snapshot, if it is kept there: lists whatever the cache does with them,
/// everything else unless the operator does not want it kept, tools and prompts only where he does.
pub(super) fn lasting(call: &Call, message: &Message, upstream: &Upstream) -> Option<Lasting> {
    let (modern, rules) = (matches!(call.caller, Caller::Modern), &upstream.cache);
    if message.method() == method::INITIALIZE {
        return (!modern).then_some(introduction(call, upstream));
    }
    let method = Method::of(message.method())?;
    let name = whole(message, method)?;
    let rule = match method {
        Method::Discover => return modern.then_some(introduction(call, upstream)),
        Method::Tool => Some(rule(&rules.tools, &name)?),
        Method::Prompt => Some(rule(&rules.prompts, &name)?),
        Method::Read => rule(&rules.resources, &name),
        _ => rules.lists,
    };
    if rule == Some(Life::For(Duration::ZERO)) && !method.is_list() {
        return None;
    }
    let sharing = match rules.share {
        // As long as nobody says that sessions see the same, as in the cache.
        Share::Everybody if modern || rule.is_some() => Sharing::Everybody,
        Share::Session => Sharing::Principal { public: false },
        _ => Sharing::Principal { public: modern },
    };
    Some(Lasting { introduces: false, sharing })
}

/// What an upstream says of itself to a caller.
pub(super) fn introduction(call: &Call, upstream: &Upstream) -> Lasting {
    let modern = matches!(call.caller, Caller::Modern);
    let sharing = match upstream.cache.share {
        Share::Everybody if modern || upstream.cache.lists.is_some() => Sharing::Everybody,
        share => Sharing::Principal { public: modern && share != Share::Session },
    };
    Lasting { introduces: true, sharing }
}

/// What a request names, if it is all there is to its exchange: no step of a longer one (2026-07-28, "MRTR"), and
/// nothing that goes on behind its answer (2025-11-25, "tasks").
fn whole(message: &Message, method: Method) -> Option<Cow<'_, str>> {
    let wanted = method::named_by(method.word());
    let keys = ["inputResponses", "requestState", "task", wanted.unwrap_or("task")];
    // A key that stands twice makes it nothing that can be told from others.
    let [None, None, None, named] = message.pick(keys).ok()? else { return None };
    match wanted {
        Some(_) => json::string(message.bytes(), &named?),
        None => Some(Cow::default()),
    }
}

/// The exact name wins, then the longest pattern.
fn rule(rules: &BTreeMap<String, Life>, name: &str) -> Option<Life> {
    let longest = || {
        let fitting = rules.iter().filter(|(pattern, _)| Pattern::new(pattern).fits(name));
        fitting.max_by_key(|(pattern, _)| pattern.len()).map(|(_, life)| life)
    };
    rules.get(name).or_else(longest).copied()
}
