//! Documents with everything that is said about them: `cases/*.txt`.
//!
//! A case is `=== title`, the document, `>>>`, and one line for each problem and warning. `O1_BLESS=1` rewrites
//! the lines; read the difference before you commit it.

use super::{said, special};
use crate::{
    convert,
    manifest::{parse, rules},
};
use std::{collections::BTreeSet, env, fs, path::PathBuf};

struct Case {
    title: String,
    document: String,
    expected: Vec<String>,
}

fn files() -> Vec<(PathBuf, Vec<Case>)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/manifest/tests/cases");
    let mut paths: Vec<_> =
        fs::read_dir(folder).expect("the cases").map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), read(&fs::read_to_string(path).expect("UTF-8")))).collect()
}

fn read(text: &str) -> Vec<Case> {
    text.split("=== ")
        .skip(1)
        .map(|case| {
            let (title, rest) = case.split_once('\n').expect("a title ends its line");
            let (document, expected) = rest.split_once(">>>\n").expect("a case has `>>>`");
            Case {
                title: title.to_owned(),
                document: document.to_owned(),
                expected: expected.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect(),
            }
        })
        .collect()
}

#[test]
fn every_document_gets_the_problems_it_should() {
    let mut cases = 0;
    let mut wrong = Vec::new();
    for (path, mut file) in files() {
        for case in &mut file {
            cases += 1;
            let found = said(&case.document);
            if found != case.expected {
                wrong.push(format!("{}\nexpected {:#?}\nfound    {found:#?}", case.title, case.expected));
                case.expected = found;
            }
        }
        if env::var_os("O1_BLESS").is_some() {
            let text = |case: &Case| {
                let lines: String = case.expected.iter().map(|line| format!("{line}\n")).collect();
                format!("=== {}\n{}>>>\n{lines}", case.title, case.document)
            };
            fs::write(path, file.iter().map(text).collect::<Vec<_>>().join("\n")).expect("writable");
        }
    }
    assert!(wrong.is_empty() || env::var_os("O1_BLESS").is_some(), "{}", wrong.join("\n\n"));
    assert!(cases > 40, "only {cases} cases were found");
}

#[test]
fn every_rule_has_a_document_that_breaks_it() {
    let exercised: BTreeSet<_> = files()
        .into_iter()
        .flat_map(|(_, cases)| cases)
        .flat_map(|case| case.expected)
        .chain(special::documents().into_iter().map(|(_, expected)| expected.to_owned()))
        .filter_map(|line| {
            let line = line.strip_prefix("warning: ").unwrap_or(&line).to_owned();
            line.split(": ").nth(1).map(str::to_owned)
        })
        .collect();
    let known: BTreeSet<_> = rules::ALL.iter().map(|rule| rule.id.to_owned()).collect();
    assert_eq!(exercised, known);
    assert_eq!(known.len(), rules::ALL.len(), "two rules have the same id");
}

#[test]
fn what_is_accepted_survives_the_wire() {
    let examples =
        [include_str!("../../../../examples/full.yaml"), include_str!("../../../../examples/only1.yaml")];
    let documents = files().into_iter().flat_map(|(_, cases)| cases).map(|case| case.document);
    let accepted: Vec<_> = documents
        .chain(examples.map(str::to_owned))
        .filter_map(|document| parse("t.yaml", document.as_bytes()).ok())
        .collect();
    assert!(accepted.len() > 10, "only {} cases are valid", accepted.len());
    for manifest in accepted {
        let again =
            convert::decode(&convert::encode(&manifest.fleet)).expect("what is accepted can be served");
        assert_eq!(again, manifest.fleet);
    }
}

#[test]
fn no_message_shows_a_secret() {
    let lines = files().into_iter().flat_map(|(_, cases)| cases).flat_map(|case| said(&case.document));
    let secret: Vec<_> = lines.filter(|line| line.contains("s3cr") || line.contains("user:")).collect();
    assert_eq!(secret, Vec::<String>::new());
}
