//! `o1ctl doctor`: looks at everything that may be wrong before, or while, a fleet runs here. It changes nothing, and
//! each look has a limit, so that it ends whatever hangs.

mod config;
mod fleet;
mod machine;
mod ports;
mod programs;

use crate::{
    args::{Doctor, Global},
    output::{
        doctor::{Check, Report, State, page, worst},
        json,
    },
    report::{Error, Exit},
    terminal::Terminal,
};

/// Makes every check.
///
/// # Errors
/// No reader.
pub async fn run(global: &Global, args: &Doctor, terminal: &mut Terminal) -> Result<Exit, Error> {
    let checks = checks(global, args).await;
    let text = if args.json {
        json::pretty(&Report { state: worst(&checks), checks: &checks })
    } else {
        page(&checks, terminal.out.size().map(|size| size.columns)).paint(terminal.out.colour())
    };
    terminal.out.write(&text)?;
    Ok(if worst(&checks) == State::Fail { Exit::Degraded } else { Exit::Healthy })
}

async fn checks(global: &Global, args: &Doctor) -> Vec<Check> {
    let mut checks = programs::look().await;
    checks.extend(config::look(args.config.as_deref()));
    checks.extend(fleet::look(global).await);
    checks.extend(ports::look(&args.ports).await);
    checks.extend(machine::look(&args.state_dirs));
    checks
}
