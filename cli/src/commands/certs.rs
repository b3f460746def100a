//! `o1ctl certs …`: reads and writes the files of a small private authority, and says what to do with them.

use crate::{
    args::{ListCerts, MakeCerts, RenewCerts, Role, User},
    authority::{Authority, Made, Subject, file_name},
    output::{
        json,
        page::{Line, Page, Style},
        table::Table,
    },
    report::{Error, Exit},
    terminal::Terminal,
};
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use o1_process::tls::Certificate;
use serde::Serialize;
use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// What every control plane is called on its own machine.
const HERE: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// A certificate with less than this is worth a word.
const SOON_DAYS: i64 = 14;

/// Makes an authority and certificates.
///
/// # Errors
/// Something is there already, or the disk refuses.
pub fn init(args: &MakeCerts, terminal: &mut Terminal) -> Result<Exit, Error> {
    let (authority, made) = Authority::make(today()).map_err(|error| failed(&error))?;
    let admin = User { role: Role::Operator, name: "admin".to_owned() };
    let users = if args.users.is_empty() { vec![admin] } else { args.users.clone() };
    let mut files = vec![("ca".to_owned(), made)];
    files.extend(issue(&authority, args, Some(called(args)), &users)?);
    write_new(&args.dir, &files)?;
    told(args, true, &users, &files, terminal)
}

/// The names of the control plane, each once.
fn called(args: &MakeCerts) -> Vec<String> {
    let more = args.hosts.iter().map(String::as_str).filter(|host| !HERE.contains(host));
    let mut names: Vec<String> = Vec::new();
    for name in HERE.into_iter().chain(more) {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// Makes more certificates with an authority that is there.
///
/// # Errors
/// There is no authority, a certificate is there already, or the disk refuses.
pub fn add(args: &MakeCerts, terminal: &mut Terminal) -> Result<Exit, Error> {
    let hosts = (!args.hosts.is_empty()).then(|| called(args));
    if hosts.is_none() && args.nodes.is_empty() && args.users.is_empty() {
        return Err(Error::usage("for whom?", "say --node, --user or --host"));
    }
    let authority = open(&args.dir)?;
    let files = issue(&authority, args, hosts, &args.users)?;
    write_new(&args.dir, &files)?;
    told(args, false, &args.users, &files, terminal)
}

/// Makes certificates anew.
///
/// # Errors
/// There is no such certificate, it cannot be made anew as it was asked for, or the disk refuses.
pub fn renew(args: &RenewCerts, terminal: &mut Terminal) -> Result<Exit, Error> {
    let authority = open(&args.dir)?;
    let now = Timestamp::now();
    let all = kept(&args.dir)?;
    if args.names.iter().any(|name| name == "ca") {
        return Err(Error::usage(
            "`ca` is the authority itself, which is not made anew: it would make every certificate worthless",
            "make another with o1ctl certs init and a folder of its own; docs/security.md says how planes change over",
        ));
    }
    for name in &args.names {
        if !all.iter().any(|one| one.name == *name) {
            let known: Vec<_> = all.iter().map(|one| one.name.as_str()).collect();
            let hint = format!("there are: {}", known.join(", "));
            return Err(Error::usage(format!("{} has no `{name}`", args.dir.display()), hint));
        }
    }
    let of_node = |one: &&Kept| args.names.contains(&one.name) && matches!(one.subject(), Subject::Uri(_));
    if let Some(one) = all.iter().find(of_node).filter(|_| !args.hosts.is_empty()) {
        return Err(Error::usage(
            format!("`{}` is for {}, which is called by no host", one.name, one.shown()),
            "--host is for control-plane alone",
        ));
    }
    let due = all.iter().filter(|one| {
        let wanted = args.names.is_empty() || args.names.contains(&one.name);
        let soon = args.within.is_none_or(|days| one.days_left(now) < i64::from(days));
        wanted && one.name != "ca" && soon
    });
    let mut page = Page::default();
    for one in due {
        let subject = one.subject().with(&args.hosts);
        let made = authority.issue(&subject, today(), args.days).map_err(|error| failed(&error))?;
        replace(&args.dir, &one.name, &made).map_err(|error| unwritable(&args.dir, &error))?;
        page.push(format!("{}: {}, for {} days", one.name, subject.shown(), args.days));
    }
    if page.is_empty() {
        page.push("Nothing is due.");
    }
    terminal.out.write(&page.paint(terminal.out.colour()))?;
    Ok(Exit::Healthy)
}

/// Shows what there is.
///
/// # Errors
/// There is nothing, or no reader.
pub fn list(args: &ListCerts, terminal: &mut Terminal) -> Result<Exit, Error> {
    let (all, now) = (kept(&args.dir)?, Timestamp::now());
    let late = all.iter().any(|one| one.days_left(now) < SOON_DAYS);
    let text = if args.json {
        json::pretty(&serde_json::json!({"certificates": all}))
    } else {
        let mut table = Table::new(&["NAME", "FOR", "UNTIL", "LEFT"]);
        for one in &all {
            let days = one.days_left(now);
            let left = if days < 0 { "expired".to_owned() } else { format!("{days} days") };
            let style = if days < SOON_DAYS { Style::Warning } else { Style::Plain };
            let until = one.expires.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d").to_string();
            let cells = vec![
                one.name.as_str().into(),
                one.shown().as_str().into(),
                until.as_str().into(),
                crate::output::page::Span::new(left, style),
            ];
            table.row(cells, Page::default());
        }
        table.page().paint(terminal.out.colour())
    };
    terminal.out.write(&text)?;
    Ok(if late { Exit::Degraded } else { Exit::Healthy })
}

/// A certificate of the folder.
#[derive(Serialize)]
struct Kept {
    name: String,
    uris: Vec<String>,
    hosts: Vec<String>,
    serial: String,
    expires: Timestamp,
}

impl Kept {
    fn days_left(&self, now: Timestamp) -> i64 {
        (self.expires.as_second() - now.as_second()).div_euclid(86_400)
    }

    fn subject(&self) -> Subject {
        match self.uris.iter().find(|uri| uri.starts_with("only1://")) {
            Some(uri) => Subject::Uri(uri.clone()),
            None => Subject::Hosts(self.hosts.clone()),
        }
    }

    fn shown(&self) -> String {
        if self.name == "ca" {
            return "the authority".to_owned();
        }
        self.subject().shown()
    }
}

/// Every certificate of a folder that has its key there, by name.
fn kept(dir: &Path) -> Result<Vec<Kept>, Error> {
    let entries = fs::read_dir(dir).map_err(|error| {
        let what = format!("{} cannot be read: {error}", dir.display());
        Error::local(what, "o1ctl certs init makes certificates there; or name another folder")
    })?;
    let mut found = Vec::new();
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        let Some(name) = path.extension().filter(|end| *end == "pem").and(path.file_stem()) else { continue };
        let Some(name) = name.to_str() else { continue };
        if !file(dir, name, "key").exists() && name != "ca" {
            continue;
        }
        let read = Certificate::open(&path).map_err(|error| Error::local(error.to_string(), ""))?;
        let expires = Timestamp::try_from(read.expires).unwrap_or(Timestamp::MIN);
        let Certificate { uris, hosts, serial, .. } = read;
        found.push(Kept { name: name.to_owned(), uris, hosts, serial, expires });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn issue(
    authority: &Authority,
    args: &MakeCerts,
    hosts: Option<Vec<String>>,
    users: &[User],
) -> Result<Vec<(String, Made)>, Error> {
    let nodes = args.nodes.iter().map(|id| format!("only1://node/{id}"));
    let people = users.iter().map(|user| format!("only1://{}/{}", user.role.word(), user.name));
    let subjects = hosts.map(Subject::Hosts).into_iter().chain(nodes.chain(people).map(Subject::Uri));
    let mut files: Vec<(String, Made)> = Vec::new();
    for subject in subjects {
        let name = file_name(&subject);
        if files.iter().any(|(other, _)| *other == name) {
            return Err(Error::usage(format!("`{name}` is asked for twice"), ""));
        }
        let made = authority.issue(&subject, today(), args.days).map_err(|error| failed(&error))?;
        files.push((name, made));
    }
    Ok(files)
}

fn open(dir: &Path) -> Result<Authority, Error> {
    let read = |path: PathBuf| {
        fs::read_to_string(&path).map_err(|error| {
            let what =
                format!("there is no authority to make certificates with: {}: {error}", path.display());
            Error::local(what, "o1ctl certs init makes one; or name the folder where it is")
        })
    };
    let (cert, key) = (read(file(dir, "ca", "pem"))?, read(file(dir, "ca", "key"))?);
    Authority::open(&cert, &key)
        .map_err(|error| Error::local(format!("{}: ca.pem and ca.key: {error}", dir.display()), ""))
}

fn file(dir: &Path, name: &str, end: &str) -> PathBuf {
    dir.join(format!("{name}.{end}"))
}

/// All of them or none; what is there stays as it is.
fn write_new(dir: &Path, files: &[(String, Made)]) -> Result<(), Error> {
    for (name, _) in files {
        for path in [file(dir, name, "pem"), file(dir, name, "key")] {
            if path.symlink_metadata().is_ok() {
                let hint =
                    "nothing was written: o1ctl certs renew makes it anew, o1ctl certs add makes others";
                return Err(Error::local(format!("{} is there already", path.display()), hint));
            }
        }
    }
    let failed = |error: io::Error| unwritable(dir, &error);
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    let mut written = Vec::new();
    for (name, made) in files {
        for (path, text, mode) in parts(dir, name, made) {
            match create(&path, text, mode) {
                Ok(()) => written.push(path),
                Err(error) => {
                    for path in &written {
                        let _gone = fs::remove_file(path);
                    }
                    return Err(failed(error));
                }
            }
        }
    }
    Ok(())
}

/// The key first: whoever looks in between finds a pair that does not go together, and waits for the other half.
fn replace(dir: &Path, name: &str, made: &Made) -> io::Result<()> {
    let parts = parts(dir, name, made);
    let beside =
        |path: &Path| path.with_extension(format!("{}.new", path.extension().unwrap_or_default().display()));
    for (path, text, mode) in &parts {
        let new = beside(path);
        // Of a run that was ended in the middle.
        let _gone = fs::remove_file(&new);
        create(&new, text, *mode)?;
    }
    parts.iter().try_for_each(|(path, ..)| fs::rename(beside(path), path))
}

fn parts<'a>(dir: &Path, name: &str, made: &'a Made) -> [(PathBuf, &'a str, u32); 2] {
    [(file(dir, name, "key"), &made.key, 0o600), (file(dir, name, "pem"), &made.cert, 0o644)]
}

fn create(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).inspect_err(|_| {
        let _gone = fs::remove_file(path);
    })
}

/// What was made, and the commands that use it.
fn told(
    args: &MakeCerts,
    first: bool,
    users: &[User],
    files: &[(String, Made)],
    terminal: &mut Terminal,
) -> Result<Exit, Error> {
    let dir = args.dir.display();
    let host = args.hosts.first().map_or("localhost", String::as_str);
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let names: Vec<_> = files.iter().map(|(name, _)| format!("{name}.pem")).collect();
    let mut page = Page::default();
    page.push(format!("Wrote to {dir}: {}, and the key of each, for {} days.", names.join(", "), args.days));
    let mut say = |title: &str, lines: &[String]| {
        page.gap();
        page.push(Line::of(title, Style::Bold));
        for line in lines {
            page.push(format!("  {line}"));
        }
    };
    if first || !args.hosts.is_empty() {
        say(
            "The control plane:",
            &[format!(
                "o1-control-plane --listen 0.0.0.0:7400 --state-dir DIR --tls-cert {dir}/control-plane.pem --tls-key \
                 {dir}/control-plane.key --client-ca {dir}/ca.pem"
            )],
        );
    }
    for id in &args.nodes {
        say(
            &format!("The node {id}:"),
            &[format!(
                "o1-data-plane --node-id {id} --state-dir DIR --control https://{host}:7400 --control-ca {dir}/ca.pem \
                 --control-cert {dir}/node-{id}.pem --control-key {dir}/node-{id}.key"
            )],
        );
    }
    for User { role, name } in users {
        let files = format!("{dir}/{}-{name}", role.word());
        say(
            &format!("The {} {name}:", role.word()),
            &[format!(
                "o1ctl --control https://{host}:7400 --ca {dir}/ca.pem --cert {files}.pem --key {files}.key status"
            )],
        );
    }
    terminal.out.write(&page.paint(terminal.out.colour()))?;
    let mut hint = Page::default();
    let words = format!(
        " {dir}/ca.key makes certificates for anybody: keep it where none of these run. Each machine needs ca.pem and its \
         own pair alone"
    );
    hint.push(Line::of("hint:", Style::Bold).and(words, Style::Plain));
    terminal.err.write(&hint.paint(terminal.err.colour()))?;
    Ok(Exit::Healthy)
}

fn today() -> Date {
    Timestamp::now().to_zoned(TimeZone::UTC).date()
}

fn failed(error: &rcgen::Error) -> Error {
    Error::local(format!("the certificate cannot be made: {error}"), "")
}

fn unwritable(dir: &Path, error: &io::Error) -> Error {
    Error::local(format!("{} cannot be written: {error}", dir.display()), "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        args::{Args, Command},
        terminal::Captured,
    };
    use std::os::unix::fs::PermissionsExt as _;

    fn run(line: &str) -> (Exit, String) {
        let args = Args::read(format!("o1ctl certs {line}").split_whitespace().map(Into::into)).unwrap();
        let Command::Certs { command } = args.command else { panic!("{line}") };
        let (mut terminal, out, err) = Captured::terminal();
        let done = crate::certify(&command, &mut terminal);
        let exit = done.unwrap_or_else(|error| error.report(&mut terminal));
        (exit, out.text() + &err.text())
    }

    #[test]
    fn files_are_made_once_and_keys_are_for_their_owner() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("certs");
        let shown = place.display();
        let (exit, text) = run(&format!("init {shown} --host control.test --node n1 --node n2"));
        assert_eq!(exit, Exit::Healthy, "{text}");
        for name in ["ca", "control-plane", "node-n1", "node-n2", "operator-admin"] {
            for (end, mode) in [("key", 0o600), ("pem", 0o644)] {
                let found = fs::metadata(file(&place, name, end)).unwrap().permissions().mode() & 0o777;
                assert_eq!(found, mode, "{name}.{end}");
            }
        }
        assert_eq!(fs::metadata(&place).unwrap().permissions().mode() & 0o777, 0o700);
        insta::assert_snapshot!(text.replace(&shown.to_string(), "CERTS"));
        assert!(!text.contains("BEGIN"), "{text}");
        let before = fs::read(file(&place, "ca", "pem")).unwrap();
        for again in [format!("init {shown}"), format!("add {shown} --node n1 --node n9")] {
            let (exit, text) = run(&again);
            assert_eq!(exit, Exit::Degraded, "{again}");
            assert!(text.contains("is there already"), "{text}");
        }
        assert_eq!(fs::read(file(&place, "ca", "pem")).unwrap(), before);
        assert!(!file(&place, "node-n9", "pem").exists(), "all or none");
    }

    #[test]
    fn names_are_bound_and_outlive_a_renewal_of_everything_else() {
        let dir = tempfile::tempdir().unwrap();
        let shown = dir.path().join("c").display().to_string();
        run(&format!("init {shown} --host 10.0.0.5 --host localhost --host 10.0.0.5 --days 10"));
        let (exit, text) = run(&format!("add {shown} --node n3 --user viewer/eve@x.org"));
        assert_eq!(exit, Exit::Healthy, "{text}");
        let read = |name: &str| Certificate::open(&file(Path::new(&shown), name, "pem")).unwrap();
        let (node, plane) = (read("node-n3"), read("control-plane"));
        assert_eq!((node.uris.as_slice(), node.hosts.len()), (&["only1://node/n3".to_owned()][..], 0));
        assert_eq!(plane.hosts, ["localhost", "127.0.0.1", "::1", "10.0.0.5"]);
        assert!(read("ca").authority && !plane.authority && !node.authority);
        assert_eq!(run(&format!("list {shown}")).0, Exit::Degraded, "ten days are soon");

        let (exit, text) = run(&format!("renew --dir {shown} --within 30 --days 90"));
        assert_eq!(exit, Exit::Healthy, "{text}");
        assert!(text.contains("control-plane: ") && !text.contains("node-n3"), "{text}");
        let renewed = read("control-plane");
        assert_eq!(renewed.hosts, plane.hosts);
        assert!(renewed.serial != plane.serial && renewed.expires > plane.expires);
        assert_eq!(read("node-n3"), node);
        assert_eq!(run(&format!("list {shown} --json")).0, Exit::Healthy);
        let (exit, text) = run(&format!("renew --dir {shown} control-plane --host new.test --host ::1"));
        assert_eq!(exit, Exit::Healthy, "{text}");
        assert_eq!(read("control-plane").hosts, ["localhost", "127.0.0.1", "::1", "10.0.0.5", "new.test"]);
        let (exit, text) = run(&format!("renew --dir {shown} control-plane node-n3 --host new.test"));
        assert_eq!(exit, Exit::Usage, "{text}");
        assert!(text.contains("`node-n3` is for only1://node/n3") && read("node-n3") == node, "{text}");
        let ca = read("ca");
        let (exit, text) = run(&format!("renew --dir {shown} ca"));
        assert_eq!((exit, read("ca") == ca), (Exit::Usage, true), "{text}");
        assert!(text.contains("`ca` is the authority itself"), "{text}");
        assert!(run(&format!("renew --dir {shown} node-n7")).1.contains("there are: ca, control-plane"));
        assert!(run(&format!("renew --dir {shown} --within 1")).1.contains("Nothing is due"));
    }

    #[test]
    fn without_an_authority_nothing_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let (exit, text) = run(&format!("add {} --node n1", dir.path().display()));
        assert_eq!(exit, Exit::Degraded);
        assert!(text.contains("o1ctl certs init makes one"), "{text}");
        assert_eq!(run(&format!("add {}", dir.path().display())).0, Exit::Usage);
    }
}
