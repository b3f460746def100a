//! `o1ctl failover`, `restore`, `pin`, `unpin` and `maintenance`: orders, each with a reason and an id of its own.

use super::{events::older, status::known, teller, tools::connect};
use crate::{
    args::{Global, Maintenance, OrderStore, Pin, Sign, Switch, Unpin},
    client::Client,
    connect::{Failure, Target},
    failover::{Mode, Store},
    orders::{self, Signed},
    output::{
        json,
        orders::{Done, Kind, maintenance_page, mode_page, page},
        page::Page,
    },
    report::{Error, Exit},
    terminal::Terminal,
};
use jiff::tz::TimeZone;

mod wait;

/// Orders a store, and with `--wait` waits for it.
///
/// # Errors
/// It is not carried out, or it is not known whether it is; or no reader.
pub async fn store(
    global: &Global,
    args: &OrderStore,
    target: Store,
    terminal: &mut Terminal,
) -> Result<Exit, Error> {
    let mut desk = Desk::open(global, Some(&args.upstream), terminal).await?;
    let signed = sign(&args.sign)?;
    let order = orders::OrderStore {
        upstream: args.upstream.clone(),
        target,
        if_term: args.if_term.unwrap_or_default(),
        force: args.force,
        dry_run: args.dry_run,
        signed: signed.clone(),
    };
    let ordered = desk.client.order_store(order).await;
    let ordered =
        ordered.map_err(|failure| desk.refused(failure, &signed, Some(&args.upstream), !args.force))?;
    let waited = match args.wait {
        Some(limit) => {
            let wait = wait::Wait {
                upstream: &args.upstream,
                target,
                term: ordered.term,
                journal: ordered.journal_pending,
                limit,
            };
            Some(wait.run(&mut desk, global).await?)
        }
        None => None,
    };
    let done = Done {
        upstream: &args.upstream,
        target: target.word(),
        kind: if args.dry_run { Kind::DryRun } else { Kind::Order },
        request_id: &signed.request_id,
        ordered: &ordered,
        waited: waited.as_ref(),
    };
    let out = &mut desk.terminal.out;
    let text = if args.sign.json { json::pretty(&done) } else { page(&done).paint(out.colour()) };
    out.write(&text)?;
    let there = waited.is_none_or(|waited| waited.is_there());
    Ok(if there { Exit::Healthy } else { Exit::Degraded })
}

/// Holds an upstream at a store.
///
/// # Errors
/// As [`store`].
pub async fn pin(global: &Global, args: &Pin, terminal: &mut Terminal) -> Result<Exit, Error> {
    let mode = match Store::from(args.store) {
        Store::Primary => Mode::PinPrimary,
        Store::Backup => Mode::PinBackup,
    };
    let order = |signed| orders::SetMode {
        upstream: args.upstream.clone(),
        mode,
        expires_in: args.expires_in,
        signed,
    };
    set_mode(global, order(sign(&args.sign)?), args.sign.json, terminal).await
}

/// Ends that.
///
/// # Errors
/// As [`store`].
pub async fn unpin(global: &Global, args: &Unpin, terminal: &mut Terminal) -> Result<Exit, Error> {
    let signed = sign(&args.sign)?;
    let order =
        orders::SetMode { upstream: args.upstream.clone(), mode: Mode::Auto, expires_in: None, signed };
    set_mode(global, order, args.sign.json, terminal).await
}

async fn set_mode(
    global: &Global,
    order: orders::SetMode,
    json: bool,
    terminal: &mut Terminal,
) -> Result<Exit, Error> {
    let mut desk = Desk::open(global, Some(&order.upstream), terminal).await?;
    let failover = desk.client.set_mode(order.clone()).await;
    let failover =
        failover.map_err(|failure| desk.refused(failure, &order.signed, Some(&order.upstream), false))?;
    let page = mode_page(&order, failover.as_ref(), &TimeZone::system());
    desk.show(json, &page.report, &page.text)
}

/// Begins or ends maintenance.
///
/// # Errors
/// As [`store`]; or `off` with a time.
pub async fn maintenance(
    global: &Global,
    args: &Maintenance,
    terminal: &mut Terminal,
) -> Result<Exit, Error> {
    let enabled = args.switch == Switch::On;
    if !enabled && args.expires_in.is_some() {
        return Err(Error::usage("--for goes with `on`", "o1ctl maintenance on --for 1h --reason TEXT"));
    }
    let order = orders::SetMaintenance { enabled, expires_in: args.expires_in, signed: sign(&args.sign)? };
    let mut desk = Desk::open(global, None, terminal).await?;
    let decisions = desk.client.set_maintenance(order.clone()).await;
    let decisions = decisions.map_err(|failure| desk.refused(failure, &order.signed, None, false))?;
    let page = maintenance_page(&order, decisions);
    desk.show(args.sign.json, &page.report, &page.text)
}

/// With an id of its own, so that a repeated order is one.
fn sign(args: &Sign) -> Result<Signed, Error> {
    Ok(Signed { request_id: request_id(args.request_id.as_ref())?, reason: args.reason.clone() })
}

/// The id that was given, or a random one.
pub(super) fn request_id(given: Option<&String>) -> Result<String, Error> {
    if let Some(given) = given {
        return Ok(given.clone());
    }
    let mut random = [0_u8; 16];
    getrandom::fill(&mut random)
        .map_err(|error| Error::local(format!("cannot name the order: {error}"), "use --request-id"))?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Where orders are placed.
struct Desk<'a> {
    client: Client,
    target: Target,
    terminal: &'a mut Terminal,
}

impl<'a> Desk<'a> {
    /// Connects, and looks whether there is such an upstream, and a backup: the reason is clearer from here.
    async fn open(
        global: &Global,
        upstream: Option<&str>,
        terminal: &'a mut Terminal,
    ) -> Result<Self, Error> {
        let (mut client, target) = connect(global).await?;
        if let Some(name) = upstream {
            let status = client.status().await.map_err(|failure| Error::control(&target, failure))?;
            known(Some(name), &status)?;
            let found = status.upstreams.iter().find(|one| one.name == name);
            if found.is_some_and(|one| one.backup.is_none() && one.failover.is_none()) {
                return Err(Error::local(
                    format!("upstream `{name}` has no backup: there is one store only"),
                    "a `backup` in its configuration names one",
                ));
            }
        }
        Ok(Self { client, target, terminal })
    }

    /// What the control plane says of an order that it does not carry out.
    fn refused(
        &mut self,
        failure: Failure,
        signed: &Signed,
        upstream: Option<&str>,
        can_force: bool,
    ) -> Error {
        let of = upstream.map(|name| format!(" {name}")).unwrap_or_default();
        match failure {
            Failure::Broken { code: "not found" | "invalid argument", message } => {
                Error::usage(message, "o1ctl status lists the upstreams")
            }
            Failure::Broken { code: "failed precondition", message } => {
                let force = if can_force { "; --force orders it all the same" } else { "" };
                Error::local(message, format!("o1ctl explain{of} says what each node sees{force}"))
            }
            Failure::Broken { code: "aborted", message } => Error::local(
                message,
                format!("somebody decided meanwhile: look at o1ctl explain{of}, then order again"),
            ),
            Failure::Broken { code: "already exists", message } => Error::local(
                message,
                "this --request-id was another order; without it, each order gets its own",
            ),
            Failure::Broken { code: "unavailable", message } => {
                Error::local(message, "o1ctl nodes says which nodes are connected")
            }
            Failure::Lost(_) | Failure::NoAnswer(_) => {
                let id = &signed.request_id;
                let text = format!(
                    "it is not known whether the order arrived; with --request-id {id} it can be repeated and is \
                     carried out once"
                );
                let _unwritable = teller::notice(self.terminal, &text);
                Error::control(&self.target, failure)
            }
            failure => older(&self.target, failure),
        }
    }

    fn show(&mut self, json: bool, report: &impl serde::Serialize, page: &Page) -> Result<Exit, Error> {
        let out = &mut self.terminal.out;
        let text = if json { json::pretty(report) } else { page.paint(out.colour()) };
        out.write(&text)?;
        Ok(Exit::Healthy)
    }
}

#[cfg(test)]
mod tests;
