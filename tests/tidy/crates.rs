//! Which crate may depend on which: the planes and the command line meet on the wire and nowhere else.

use o1_tests::binaries::root;
use serde_json::Value;
use std::process::Command;

/// `(crate, crates it must not depend on, why)`; development dependencies count too.
const APART: [(&str, &[&str], &str); 6] = [
    ("o1-control-plane", &["o1-data-plane", "o1ctl"], "it meets data planes on the wire"),
    ("o1-data-plane", &["o1-control-plane", "o1ctl"], "it meets the control plane on the wire"),
    ("o1ctl", &["o1-control-plane", "o1-data-plane"], "it asks over gRPC, and starts the planes as programs"),
    (
        "o1-proto",
        &["o1-control-plane", "o1-data-plane", "o1ctl", "o1-process"],
        "the contract knows no process",
    ),
    ("o1-process", &["o1-control-plane", "o1-data-plane", "o1ctl", "o1-proto"], "it serves any process"),
    (
        "o1-tests",
        &["o1-control-plane", "o1-data-plane", "o1ctl", "o1-proto", "o1-process"],
        "a fault that the tests share with the product would hide itself",
    ),
];

fn violations(metadata: &Value, apart: &[(&str, &[&str], &str)]) -> Vec<String> {
    let packages = metadata["packages"].as_array().unwrap();
    let mut found = Vec::new();
    for (name, others, why) in apart {
        let Some(package) = packages.iter().find(|package| package["name"] == *name) else {
            found.push(format!("there is no crate {name}"));
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap() {
            if others.iter().any(|other| dependency["name"] == *other) {
                found.push(format!("{name} depends on {}: {why}", dependency["name"]));
            }
        }
    }
    found
}

#[test]
fn planes_and_command_line_do_not_depend_on_each_other() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(violations(&metadata, &APART), Vec::<String>::new());
}

#[test]
fn a_dependency_between_planes_is_caught() {
    let metadata =
        serde_json::json!({"packages": [{"name": "o1ctl", "dependencies": [{"name": "o1-data-plane"}]}]});
    assert_eq!(violations(&metadata, &APART[2..3]).len(), 1);
}
