//! Reads the command line, runs the app, ends with its exit code.

use o1_control_plane::{app::App, args::Args};
use std::{error::Error, process::ExitCode, time::Duration};

/// The command line is wrong.
const USAGE: u8 = 64;
/// What may still be blocked when the app has stopped: a disk that hangs.
const LEFTOVERS: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let args = match Args::read(std::env::args_os()) {
        Ok(args) => args,
        Err(error) => {
            let code = if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
            // Where this cannot be written, nothing else can.
            let _ = error.print();
            return code;
        }
    };
    o1_process::telemetry::init(args.log_format, "info");
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let result = runtime.block_on(async {
        let asked = o1_process::signal::terminate();
        App::start(args).await?.run(asked).await
    });
    runtime.shutdown_timeout(LEFTOVERS);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &dyn Error) -> ExitCode {
    let cause = error.source().map(ToString::to_string);
    tracing::error!(%error, cause, "the control plane cannot go on");
    ExitCode::FAILURE
}
