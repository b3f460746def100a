//! `docs/config.md`, from the tables that the parser itself uses.

use super::{
    keys::{Key, SECTIONS, Section},
    rules,
};
use std::fmt::Write;

const OPENING: &str = "\
# The configuration document

<!-- Generated from proto/src/manifest; `O1_BLESS=1 cargo test -p o1-proto --features manifest` rewrites it. -->

One YAML document describes the fleet; the control plane reads it, checks it as a whole and hands it to every
node. Every problem is reported at once, with its place, a rule and what to do. Unknown keys are refused.
Examples: [only1.yaml](../examples/only1.yaml), [full.yaml](../examples/full.yaml).

- **Durations** are a whole number and a unit: `500ms`, `10s`, `5m`, `2h`. **Sizes**: `512B`, `64KiB`, `4MiB`, `1GiB`.
- **References** keep secrets out of the document: `env:NAME` is an environment variable of the node, `file:PATH`
  a file on the node (one trailing newline is not part of the value). Anything else is the value itself.
- **Names** of upstreams, prefixes and servers: letters, digits, `-` and single `_`, at most 48 characters,
  beginning with a letter or digit, not ending with `_`.
- **YAML**: one document of at most 1 MiB; anchors and aliases work, merge keys (`<<`) and tags do not.
";

/// The reference of all keys and rules, in Markdown.
#[must_use]
pub fn reference_page() -> String {
    let mut page = OPENING.to_owned();
    for section in SECTIONS {
        add_section(&mut page, section);
    }
    page.push_str("\n## Rules\n\nEvery problem and warning names its rule; the ids do not change.\n\n");
    page.push_str("| rule | about | asks |\n| --- | --- | --- |\n");
    for rule in rules::ALL {
        let _ = writeln!(page, "| `{}` | {} | {} |", rule.id, rule.family, cell(rule.asks));
    }
    page
}

fn add_section(page: &mut String, section: &Section) {
    let title =
        if section.path.is_empty() { "The document".to_owned() } else { format!("`{}`", section.path) };
    let _ = write!(page, "\n## {title}\n\n{}\n\n", section.about);
    page.push_str("| key | takes | default | |\n| --- | --- | --- | --- |\n");
    for key in section.keys {
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} |",
            key.name,
            cell(key.takes),
            default(key),
            cell(key.about)
        );
    }
}

fn default(key: &Key) -> String {
    match key.default {
        super::keys::REQUIRED | super::keys::ABSENT => key.default.to_owned(),
        value => format!("`{}`", cell(value)),
    }
}

/// Text inside a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
