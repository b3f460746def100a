//! `o1ctl config apply`, `diff`, `history`, `rollback`, `show`, `schema` and `import`: what the fleet runs, ran and
//! should run.

mod wait;

use super::{
    check::{check, read},
    events::older,
    orders::request_id,
    teller,
    tools::connect,
};
use crate::{
    args::{Apply, Diff, Global, History, Import, Means, Rollback, Show},
    client::Client,
    configs::{Change, Wish},
    connect::{Failure, Target},
    import,
    output::{
        config::{self, Difference, Done, Kind},
        json,
        page::{Line, Page, Style},
        problems,
    },
    report::{Error, Exit},
    terminal::Terminal,
};
use jiff::{Timestamp, tz::TimeZone};
use o1_proto::{convert, digest, manifest};

/// Makes a file what the fleet runs.
///
/// # Errors
/// It does not, or it is not known whether it does; or no reader.
pub async fn apply(global: &Global, args: &Apply, terminal: &mut Terminal) -> Result<Exit, Error> {
    let (file, text) = read(&args.file)?;
    let mut desk = Desk::open(global, terminal).await?;
    // The control plane knows its keys best: it may be of another version.
    let found = desk.client.validate(text.clone(), &file).await;
    let found = found.map_err(|failure| older(&desk.target, failure))?;
    if !found.is_empty() {
        let report = json::CheckReport {
            file: &file,
            valid: false,
            upstreams: Vec::new(),
            problems: &found,
            warnings: &[],
        };
        let page = problems::page(&file, &found, &[], false, 0);
        desk.show(args.means.json, &report, &page)?;
        return Ok(Exit::Degraded);
    }
    desk.change(global, Wish::Document(text, file), &args.comment, &args.means).await
}

/// Makes the document of an earlier revision what the fleet runs.
///
/// # Errors
/// As [`apply`].
pub async fn rollback(global: &Global, args: &Rollback, terminal: &mut Terminal) -> Result<Exit, Error> {
    let mut desk = Desk::open(global, terminal).await?;
    desk.change(global, Wish::Revision(args.revision), &args.reason, &args.means).await
}

/// Says what a file would change.
///
/// # Errors
/// The file is not valid, or there is no answer, or no reader.
pub async fn diff(global: &Global, args: &Diff, terminal: &mut Terminal) -> Result<Exit, Error> {
    let (file, text) = read(&args.file)?;
    let checked = check(&file, &text);
    let Some(fleet) = checked.fleet else {
        let page = problems::page(&file, &checked.problems, &checked.warnings, false, 0);
        terminal.err.write(&page.paint(terminal.err.colour()))?;
        return Err(Error::local(format!("{file} is not valid: nothing to compare"), ""));
    };
    let mut desk = Desk::open(global, terminal).await?;
    let (revision, running) =
        desk.client.revision(0).await.map_err(|failure| older(&desk.target, failure))?;
    let new = manifest::redact(&text);
    let meaning = digest::root(&convert::encode(&fleet));
    let meaning: String = meaning.iter().map(|byte| format!("{byte:02x}")).collect();
    let difference = Difference {
        revision: &revision,
        running: &String::from_utf8_lossy(&running),
        file: &file,
        new: &String::from_utf8_lossy(&new),
        same_meaning: meaning == revision.version.digest,
    };
    let page = config::difference_page(&difference);
    desk.show(args.json, &config::difference_report(&difference), &page)?;
    Ok(if difference.is_none() { Exit::Healthy } else { Exit::Degraded })
}

/// Shows the history.
///
/// # Errors
/// No answer, or no reader.
pub async fn history(global: &Global, args: &History, terminal: &mut Terminal) -> Result<Exit, Error> {
    let mut desk = Desk::open(global, terminal).await?;
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let found = desk.client.history(limit).await.map_err(|failure| older(&desk.target, failure))?;
    let page = config::history_page(&found, Timestamp::now(), &TimeZone::system());
    desk.show(args.json, &config::HistoryReport { revisions: &found }, &page)?;
    Ok(Exit::Healthy)
}

/// Shows a document.
///
/// # Errors
/// No such revision, no answer, or no reader.
pub async fn show(global: &Global, args: &Show, terminal: &mut Terminal) -> Result<Exit, Error> {
    let mut desk = Desk::open(global, terminal).await?;
    let found = desk.client.revision(args.revision.unwrap_or_default()).await;
    let (revision, document) = found.map_err(|failure| desk.refused(failure, ""))?;
    let text = String::from_utf8_lossy(&document);
    if args.json {
        let report = config::ShowReport { revision: &revision, document: &text };
        desk.terminal.out.write(&json::pretty(&report))?;
        return Ok(Exit::Healthy);
    }
    let about = config::about(&revision, Timestamp::now(), &TimeZone::system());
    let err = &mut desk.terminal.err;
    err.write(&about.paint(err.colour()))?;
    let out = &mut desk.terminal.out;
    // A person's terminal must not be driven by a document; a file gets every byte.
    let text =
        if out.is_tty() { config::document_page(&text).paint(out.colour()) } else { text.into_owned() };
    out.write(&text)?;
    Ok(Exit::Healthy)
}

/// Prints what editors need to know of configuration files.
///
/// # Errors
/// No reader.
pub fn schema(terminal: &mut Terminal) -> Result<Exit, Error> {
    terminal.out.write(&json::pretty(&manifest::json_schema()))?;
    Ok(Exit::Healthy)
}

/// Turns what a desktop client keeps into a document of ours.
///
/// # Errors
/// The file cannot be read or is something else; or no reader.
pub fn import(args: &Import, terminal: &mut Terminal) -> Result<Exit, Error> {
    let (file, text) = read(&args.file)?;
    let imported = import::import(&text).map_err(|what| {
        Error::local(
            format!("{file}: {what}"),
            "it reads the file in which a desktop client keeps its `mcpServers`",
        )
    })?;
    let problems = import::problems(&imported);
    let valid = problems.is_empty();
    if args.json {
        let report = config::ImportReport {
            file: &file,
            document: &imported.document,
            servers: imported.servers,
            notes: &imported.notes,
            valid,
        };
        terminal.out.write(&json::pretty(&report))?;
    } else {
        let mut page = Page::default();
        for note in imported.notes.iter().chain(&problems) {
            page.push(Line::of(format!("note: {note}"), Style::Warning));
        }
        terminal.err.write(&page.paint(terminal.err.colour()))?;
        let out = &mut terminal.out;
        let text = if out.is_tty() {
            config::document_page(&imported.document).paint(out.colour())
        } else {
            imported.document
        };
        out.write(&text)?;
    }
    Ok(if valid { Exit::Healthy } else { Exit::Degraded })
}

/// Where changes are asked for.
struct Desk<'a> {
    client: Client,
    target: Target,
    terminal: &'a mut Terminal,
}

impl<'a> Desk<'a> {
    async fn open(global: &Global, terminal: &'a mut Terminal) -> Result<Self, Error> {
        let (client, target) = connect(global).await?;
        Ok(Self { client, target, terminal })
    }

    /// Asks for a change, and with `--wait` waits for what becomes of it.
    async fn change(
        &mut self,
        global: &Global,
        wish: Wish,
        reason: &str,
        means: &Means,
    ) -> Result<Exit, Error> {
        let request_id = request_id(means.request_id.as_ref())?;
        let change = Change {
            wish,
            if_version: means.expect,
            dry_run: means.dry_run,
            request_id: request_id.clone(),
            reason: reason.to_owned(),
        };
        let changed = match self.client.change(change).await {
            Ok(changed) => changed,
            // Who tells its status is a control plane, and one that does not know this call.
            Err(Failure::Foreign(_)) if self.client.status().await.is_ok() => {
                return Err(Error::local(
                    format!("the control plane at {} cannot change its configuration", self.target),
                    "it is of an older version: update it",
                ));
            }
            Err(failure) => return Err(self.refused(failure, &request_id)),
        };
        let waited = match means.wait {
            Some(limit) => {
                Some(wait::Wait { revision: changed.version.revision, limit }.run(self, global).await?)
            }
            None => None,
        };
        let kind = if means.dry_run { Kind::DryRun } else { Kind::Change };
        let done = Done { kind, request_id: &request_id, changed: &changed, waited: waited.as_ref() };
        let page = config::done_page(&done);
        self.show(means.json, &done, &page)?;
        let there = waited.is_none_or(|waited| waited.is_there());
        Ok(if there { Exit::Healthy } else { Exit::Degraded })
    }

    /// What the control plane says of a change that it does not make.
    fn refused(&mut self, failure: Failure, request_id: &str) -> Error {
        match failure {
            Failure::Broken { code: "not found", message } => {
                Error::usage(message, "o1ctl config history lists the revisions")
            }
            Failure::Broken { code: "invalid argument", message } => Error::usage(message, ""),
            Failure::Broken { code: "failed precondition", message } => Error::local(message, ""),
            Failure::Broken { code: "aborted", message } => Error::local(
                message,
                "somebody changed it meanwhile: look at o1ctl config history and o1ctl config diff, then --expect what runs",
            ),
            Failure::Broken { code: "unavailable" | "resource exhausted", message } => {
                Error::local(message, "try again in a moment")
            }
            Failure::Lost(_) | Failure::NoAnswer(_) if !request_id.is_empty() => {
                let text = format!(
                    "it is not known whether the change arrived; with --request-id {request_id} it can be repeated and is \
                     made once"
                );
                let _unwritable = teller::notice(self.terminal, &text);
                Error::control(&self.target, failure)
            }
            failure => older(&self.target, failure),
        }
    }

    fn show(&mut self, json: bool, report: &impl serde::Serialize, page: &Page) -> Result<(), Error> {
        let out = &mut self.terminal.out;
        let text = if json { json::pretty(report) } else { page.paint(out.colour()) };
        Ok(out.write(&text)?)
    }
}
