//! What was typed, and what comes back when it makes no sense.

use super::{done, o1ctl, program};

#[test]
fn help_and_version_are_data() {
    for arguments in [&["--help"][..], &["-h"], &["status", "--help"], &["config", "check", "-h"]] {
        let done = o1ctl(arguments);
        assert_eq!((done.code, done.err.as_str()), (Some(0), ""), "{arguments:?}");
        assert!(done.out.contains("Usage: o1ctl"), "{arguments:?}: {}", done.out);
    }
    let version = o1ctl(["--version"]);
    assert_eq!((version.code, version.out), (Some(0), format!("o1ctl {}\n", env!("CARGO_PKG_VERSION"))));
    let help = o1ctl(["--help"]).out;
    assert!(help.contains("Exit codes:") && help.contains("Examples:"), "{help}");
    assert!(!help.contains("sample-server") && !help.contains("tether"), "internal commands are not offered");
}

#[test]
fn mistakes_are_told_on_standard_error_with_code_64() {
    for (arguments, said) in [
        (&["stats"][..], "similar subcommand exists: 'status'"),
        (&[], "Usage: o1ctl"),
        (&["status", "--interval", "1s"], "--watch"),
        (&["status", "--watch", "--interval", "100ms"], "at least 200ms"),
        (&["nodes", "--timeout", "soon"], "such as 500ms, 5s"),
        (&["nodes", "--color", "blue"], "blue"),
        (&["up", "--listen", "8080"], "8080"),
        (&["failover", "files"], "--reason <TEXT>"),
        (&["restore", "files", "--reason", " "], "it must say something"),
        (&["failover", "files", "--reason", "x", "--wait", "--dry-run"], "cannot be used with"),
        (&["failover", "files", "--reason", "x", "--if-term", "0"], "0 is not in 1.."),
        (&["pin", "files", "sideways", "--reason", "x"], "sideways"),
        (&["maintenance", "on"], "--reason <TEXT>"),
        (&["events", "--type", "restord"], "the types are node_started, "),
        (&["events", "--since", "yesterday"], "such as 15m or 24h is needed"),
        (&["nodes", "--control", "http://10.0.0.1:7400"], "neither encrypted nor authenticated"),
        (&["nodes", "--control", "http://127.0.0.1:7400", "--ca", "x"], "is not encrypted"),
        (&["nodes", "--cert", "x"], "--key"),
        (&["certs", "init", "--user", "king/ann"], "roles are viewer, editor and operator"),
        (&["certs", "init", "--host", "https://x"], "without scheme and port"),
        (&["certs", "init", "--node", "a@b"], "as --node-id has it"),
        (&["certs", "renew", "--host", "x.test"], "<NAME>..."),
        (&["certs", "renew", "control-plane", "--host", "x.test", "--within", "3"], "cannot be used with"),
        (&["nodes", "--control", "127.0.0.1"], "it needs a host and a port"),
        (&["nodes", "--control", "ftp://127.0.0.1:1"], "the scheme is neither https nor http"),
        (&["nodes", "--control", "http://127.0.0.1:7400/mcp"], "a path has no meaning here"),
    ] {
        let done = o1ctl(arguments);
        assert_eq!((done.code, done.out.as_str()), (Some(64), ""), "{arguments:?}");
        assert!(done.err.contains(said), "{arguments:?}: {}", done.err);
    }
}

#[test]
fn a_password_in_an_address_is_refused_and_not_repeated() {
    for address in ["https://ann:s3cret@control:7400", "ann:s3cret@127.0.0.1:7400", "http://ann:s3/cret@x:1"]
    {
        let done = o1ctl(["nodes", "--control", address]);
        assert_eq!((done.code, done.out.as_str()), (Some(64), ""), "{address}");
        assert!(done.err.contains("a user or a password") && !done.err.contains("s3"), "{}", done.err);
    }
}

#[test]
fn who_one_is_may_be_wrong_and_doctor_looks_at_the_rest_all_the_same() {
    let home = tempfile::tempdir().unwrap();
    for (wrong, said) in [
        (["--token-file", "/none/token"], "the token file /none/token cannot be read"),
        (["--profile", "prod"], "profiles cannot be read"),
    ] {
        let mut doctor = program();
        doctor.env("HOME", home.path()).env("XDG_CONFIG_HOME", home.path());
        let done = done(doctor.args(["doctor", "--json", "--port", "127.0.0.1:0"]).args(wrong));
        assert_eq!(done.code, Some(1), "{}", done.err);
        let report: serde_json::Value = serde_json::from_str(&done.out).unwrap();
        let checks = report["checks"].as_array().unwrap();
        let control: Vec<_> = checks.iter().filter(|check| check["check"] == "control-plane").collect();
        assert!(matches!(control[..], [check] if check["state"] == "fail"), "{report}");
        assert!(control[0]["what"].as_str().unwrap().contains(said), "{report}");
        assert!(checks.iter().any(|check| check["check"] == "ports"), "{report}");
    }
}

#[test]
fn the_environment_names_the_control_plane_and_a_flag_overrides_it() {
    let nowhere = |arguments: &[&str]| {
        done(program().env("O1_CONTROL", "https://nowhere.invalid:1").args(arguments)).err
    };
    assert!(nowhere(&["nodes"]).contains("nowhere.invalid"), "{}", nowhere(&["nodes"]));
    let flag = nowhere(&["nodes", "--control", "https://elsewhere.invalid:1"]);
    assert!(flag.contains("https://elsewhere.invalid:1"), "{flag}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut child =
        program().arg("--help").stdout(writer).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut err = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut err).unwrap();
    assert_eq!((child.wait().unwrap().code(), err.as_str()), (Some(0), ""));
}

#[test]
fn colour_is_for_those_who_ask_or_look() {
    let check =
        |colour: &str| super::o1ctl_reading(&["config", "check", "--color", colour, "-"], "upstreams: 1\n");
    assert!(!check("auto").out.contains('\x1b'), "a pipe");
    assert!(check("always").out.contains("\x1b[31m"), "asked for");
    let plain = |text: &str| {
        let codes = ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[33m"];
        codes.iter().fold(text.to_owned(), |text, code| text.replace(code, ""))
    };
    assert_eq!(plain(&check("always").out), check("never").out, "colour adds nothing but colour");
}
