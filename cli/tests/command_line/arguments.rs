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
