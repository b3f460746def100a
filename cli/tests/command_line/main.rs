//! `o1ctl` as a program: what it prints where, and how it exits.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by ending")]

mod arguments;
mod check;
mod documented;
mod failures;
mod up;

use std::{
    ffi::OsStr,
    io::Write as _,
    process::{Command, Stdio},
};

/// What a command did.
#[derive(Debug)]
struct Done {
    code: Option<i32>,
    out: String,
    err: String,
}

/// `o1ctl` without the settings of whoever runs the tests.
fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_o1ctl"));
    for name in ["O1_CONTROL", "NO_COLOR", "XDG_STATE_HOME"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

fn o1ctl(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Done {
    done(program().args(arguments))
}

fn done(command: &mut Command) -> Done {
    let output = command.output().expect("o1ctl runs");
    Done {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).expect("text"),
        err: String::from_utf8(output.stderr).expect("text"),
    }
}

fn o1ctl_reading(arguments: &[&str], input: &str) -> Done {
    let mut command = program();
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("o1ctl runs");
    child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("o1ctl ends");
    Done {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).expect("text"),
        err: String::from_utf8(output.stderr).expect("text"),
    }
}
