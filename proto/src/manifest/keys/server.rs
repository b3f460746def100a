//! The sections of a virtual server.

use super::{REQUIRED, Section, key};

pub(in crate::manifest) static SERVER: Section = Section {
    path: "servers.<name>",
    about: "A virtual server, at `/mcp/<name>`.",
    keys: &[
        key(
            "upstreams",
            "list of upstream names",
            REQUIRED,
            "Whose tools, resources and prompts it offers, in the order in which they are listed.",
        ),
        key("tools", "section", "{}", "Which tools it offers, and as what."),
        key("prompts", "section", "{}", "Which prompts it offers."),
        key("resources", "section", "{}", "Which resources and templates it offers, by URI."),
    ],
};

pub(in crate::manifest) static SERVER_TOOLS: Section = Section {
    path: "servers.<name>.tools",
    about: "Which tools a virtual server offers. `*` in a pattern stands for any characters. A tool is meant by the upstream's own name for it or by `<upstream>__<own name>`.",
    keys: &[
        key("allow", "list of patterns", "[\"*\"]", "Offered."),
        key("deny", "list of patterns", "[]", "Not offered, even when allowed."),
        key(
            "rename",
            "tool → name",
            "{}",
            "What a tool is called here, whole: no prefix is added. The old name does not exist here.",
        ),
        key("describe", "tool → text", "{}", "What its description is here."),
    ],
};

pub(in crate::manifest) static SERVER_SELECTION: Section = Section {
    path: "servers.<name>.prompts",
    about: "Which prompts a virtual server offers, by the same patterns; also `resources`, by URI.",
    keys: &[
        key("allow", "list of patterns", "[\"*\"]", "Offered."),
        key("deny", "list of patterns", "[]", "Not offered, even when allowed."),
    ],
};
