//! `o1ctl config check`.

use super::{o1ctl, o1ctl_reading};
use serde_json::Value;
use std::fs;

const GOOD: &str = "upstreams:\n  weather:\n    primary:\n      - url: http://127.0.0.1:3101/mcp\n";
const WARNS: &str =
    "upstreams:\n  weather:\n    primary:\n      - url: http://127.0.0.1:3101/mcp\n    tls: {ca: /ca.pem}\n";
const BAD: &str = "upstreams:\n  weather:\n    primry:\n      - url: http://127.0.0.1:3101/mcp\n  files:\n    primary:\n      - url: nonsense\n";

#[test]
fn a_good_file_is_valid_and_a_bad_one_says_everything_that_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("only1.yaml");
    let file = path.to_str().unwrap();
    fs::write(&path, GOOD).unwrap();
    let good = o1ctl(["config", "check", file]);
    assert_eq!((good.code, good.out), (Some(0), format!("✅ valid: 1 upstream in {file}\n")));

    fs::write(&path, BAD).unwrap();
    let bad = o1ctl(["config", "check", file]);
    assert_eq!((bad.code, bad.err.as_str()), (Some(1), ""));
    let lines: Vec<_> = bad.out.lines().collect();
    assert!(lines.iter().any(|line| line.starts_with(&format!("{file}:3:5: error: "))), "{}", bad.out);
    assert!(lines.iter().any(|line| line.starts_with(&format!("{file}:7:"))), "{}", bad.out);
    assert!(lines.contains(&"    hint: did you mean `primary`?"), "{}", bad.out);
}

#[test]
fn standard_input_is_read_for_a_dash() {
    let good = o1ctl_reading(&["config", "check", "-"], GOOD);
    assert_eq!((good.code, good.out.as_str()), (Some(0), "✅ valid: 1 upstream in <stdin>\n"));
    assert_eq!(o1ctl_reading(&["config", "check", "-"], BAD).code, Some(1));
}

#[test]
fn warnings_fail_only_when_strict() {
    let lenient = o1ctl_reading(&["config", "check", "-"], WARNS);
    assert_eq!(lenient.code, Some(0));
    assert!(lenient.out.contains("<stdin>:5:5: warning: "), "{}", lenient.out);
    assert_eq!(o1ctl_reading(&["config", "check", "--strict", "-"], WARNS).code, Some(1));
    assert_eq!(o1ctl_reading(&["config", "check", "--strict", "-"], GOOD).code, Some(0));
}

#[test]
fn json_carries_the_same_answer() {
    let check = |arguments: &[&str], text: &str| {
        let done = o1ctl_reading(&[&["config", "check", "--json", "-"], arguments].concat(), text);
        let value: Value = serde_json::from_str(&done.out).unwrap();
        (done.code, value)
    };
    let (code, good) = check(&[], GOOD);
    assert_eq!((code, &good["valid"], &good["upstreams"]), (Some(0), &true.into(), &vec!["weather"].into()));
    let (code, bad) = check(&[], BAD);
    assert_eq!(
        (code, &bad["valid"], &bad["upstreams"]),
        (Some(1), &false.into(), &Vec::<Value>::new().into())
    );
    let problems = bad["problems"].as_array().unwrap();
    let typo = problems.iter().find(|problem| problem["rule"] == "unknown-key").unwrap();
    assert_eq!((&typo["file"], &typo["line"], &typo["column"]), (&"<stdin>".into(), &3.into(), &5.into()));
    let (code, strict) = check(&["--strict"], WARNS);
    assert_eq!(
        (code, &strict["valid"], strict["warnings"].as_array().unwrap().len()),
        (Some(1), &false.into(), 1)
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let missing = o1ctl(["config", "check", "/nowhere/only1.yaml"]);
    assert_eq!((missing.code, missing.out.as_str()), (Some(1), ""));
    assert!(missing.err.starts_with("error: cannot read /nowhere/only1.yaml: "), "{}", missing.err);
    let folder = o1ctl(["config", "check", "/"]);
    assert_eq!(folder.code, Some(1));
    assert!(folder.err.starts_with("error: cannot read /: "), "{}", folder.err);
}
