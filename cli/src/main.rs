//! `o1ctl`: see the library.

use o1ctl::Terminal;
use std::process::ExitCode;

fn main() -> ExitCode {
    o1ctl::run(std::env::args_os(), &mut Terminal::stdio()).into()
}
