//! The configuration: whether it is valid, and whether this machine has what it refers to.

use super::{super::check, Check};
use o1_proto::model::{Auth, Backup, Endpoint, EndpointKind, Fleet, KeySource, Reference, Upstream};
use rustix::fs::{Access, access};
use std::{
    collections::BTreeSet,
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
};

const CHECK: &str = "config";
const NEEDS: &str = "needs";
/// What is looked at when no file is named.
const USUAL: &str = "only1.yaml";
const ELSEWHERE: &str = "nodes on other machines look on theirs";

pub(super) fn look(named: Option<&Path>) -> Vec<Check> {
    let usual = Path::new(USUAL);
    let Some(path) = named.or_else(|| usual.is_file().then_some(usual)) else {
        let todo = "name one with --config; `o1ctl up` without one starts a sample";
        return vec![Check::ok(CHECK, format!("no file is named, and there is no {USUAL} here: {todo}"))];
    };
    let text = match check::load(path) {
        Ok(text) => text,
        Err(error) => {
            let (what, hint) = error.words();
            return vec![Check::fail(CHECK, what, hint)];
        }
    };
    let file = path.display().to_string();
    let found = check::check(&file, &text);
    let more = format!("o1ctl config check {file} says where and what to do");
    let Some(fleet) = &found.fleet else {
        let first = found.problems.first().map(|problem| format!(", the first: {}", problem.what));
        let count = found.problems.len();
        let what = format!("{file} is not valid: {count} problems{}", first.unwrap_or_default());
        return vec![Check::fail(CHECK, what, more)];
    };
    let upstreams = fleet.upstreams.len();
    let mut checks = vec![match found.warnings.len() {
        0 => Check::ok(CHECK, format!("{file} is valid, upstreams: {upstreams}")),
        count => Check::warn(CHECK, format!("{file} is valid, with warnings: {count}"), more),
    }];
    checks.extend(needs(fleet, &Here));
    checks
}

/// What a machine has.
trait Machine {
    fn program(&self, name: &str, cwd: Option<&str>) -> bool;
    fn variable(&self, name: &str) -> bool;
    fn readable(&self, path: &str) -> bool;
}

struct Here;

impl Machine for Here {
    fn program(&self, name: &str, cwd: Option<&str>) -> bool {
        if name.contains('/') {
            let path = cwd.map_or_else(|| PathBuf::from(name), |cwd| Path::new(cwd).join(name));
            return is_program(&path);
        }
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path).any(|dir| is_program(&dir.join(name)))
    }

    fn variable(&self, name: &str) -> bool {
        env::var_os(name).is_some()
    }

    fn readable(&self, path: &str) -> bool {
        access(Path::new(path), Access::READ_OK).is_ok()
    }
}

fn is_program(path: &Path) -> bool {
    path.is_file() && access(path.as_os_str() as &OsStr, Access::EXEC_OK).is_ok()
}

/// One check for each thing that is missing, or one that says that nothing is.
fn needs(fleet: &Fleet, machine: &impl Machine) -> Vec<Check> {
    let mut missing = BTreeSet::new();
    let mut all = 0_usize;
    for upstream in &fleet.upstreams {
        for endpoint in endpoints(upstream) {
            let EndpointKind::Stdio { command, env, cwd, .. } = &endpoint.kind else { continue };
            let program = command.first().map(String::as_str).unwrap_or_default();
            all += 1;
            if !machine.program(program, cwd.as_deref()) {
                missing.insert((
                    format!("upstream {}: the program `{program}` is not here", upstream.name),
                    "install it, or give its whole path",
                ));
            }
            all += env.len();
            missing.extend(env.values().filter_map(|value| absent(&upstream.name, value, machine)));
        }
        all += upstream.headers.len();
        missing.extend(upstream.headers.values().filter_map(|value| absent(&upstream.name, value, machine)));
        let identity = upstream.tls.identity.as_ref();
        let files = upstream.tls.ca.iter().chain(identity.into_iter().flat_map(|one| [&one.cert, &one.key]));
        for file in files {
            all += 1;
            missing.extend(unreadable(&format!("upstream {}", upstream.name), file, machine));
        }
    }
    if let Auth::Required(required) = &fleet.auth
        && let Some(KeySource::File(path)) = required.jwt.as_ref().map(|jwt| &jwt.jwks)
    {
        all += 1;
        missing.extend(unreadable("clients.auth", path, machine));
    }
    if missing.is_empty() {
        return match all {
            0 => Vec::new(),
            _ => vec![Check::ok(NEEDS, "the programs, variables and files that it refers to are here")],
        };
    }
    let warn = |(what, todo): (String, &str)| Check::warn(NEEDS, what, format!("{todo}; {ELSEWHERE}"));
    missing.into_iter().map(warn).collect()
}

fn endpoints(upstream: &Upstream) -> impl Iterator<Item = &Endpoint> {
    let backup = match &upstream.backup {
        Some(Backup::Endpoints(endpoints)) => endpoints.as_slice(),
        Some(Backup::Snapshot) | None => &[],
    };
    upstream.primary.iter().chain(backup)
}

/// Says where the value should be, never the value.
fn absent(upstream: &str, value: &Reference, machine: &impl Machine) -> Option<(String, &'static str)> {
    match value {
        Reference::Literal(_) => None,
        Reference::Env(name) if machine.variable(name) => None,
        Reference::Env(name) => Some((
            format!("upstream {upstream}: the variable {name} is not set here"),
            "set it where the data plane is started",
        )),
        Reference::File(path) => unreadable(&format!("upstream {upstream}"), path, machine),
    }
}

fn unreadable(who: &str, path: &str, machine: &impl Machine) -> Option<(String, &'static str)> {
    let todo = "write it, or let the user of the data plane read it";
    (!machine.readable(path)).then(|| (format!("{who}: {path} cannot be read here"), todo))
}

#[cfg(test)]
mod tests {
    use super::{super::State, *};
    use o1_proto::manifest;

    /// Has what is called like something good.
    struct Good;

    impl Machine for Good {
        fn program(&self, name: &str, _: Option<&str>) -> bool {
            name.contains("good")
        }

        fn variable(&self, name: &str) -> bool {
            name.contains("good")
        }

        fn readable(&self, path: &str) -> bool {
            path.contains("good")
        }
    }

    fn fleet(word: &str) -> Fleet {
        let text = format!(
            "upstreams:
  a:
    primary:
      - command: [{word}-server, --x]
        env: {{A: 'env:{word}_a', B: 'file:/{word}/b', C: plain}}
    backup:
      - command: [{word}-backup]
  b:
    primary: [{{url: 'https://127.0.0.1:1/mcp'}}]
    headers: {{X: 'env:{word}_x'}}
    tls: {{ca: /{word}/ca.pem, cert: /{word}/cert.pem, key: /{word}/key.pem}}
"
        );
        manifest::parse("t.yaml", text.as_bytes()).unwrap().fleet
    }

    #[test]
    fn whatever_it_refers_to_is_looked_for() {
        let good = needs(&fleet("good"), &Good);
        assert_eq!((good.len(), good[0].state), (1, State::Ok));
        let bad: Vec<String> = needs(&fleet("bad"), &Good).into_iter().map(|check| check.what).collect();
        assert_eq!(
            bad,
            [
                "upstream a: /bad/b cannot be read here",
                "upstream a: the program `bad-backup` is not here",
                "upstream a: the program `bad-server` is not here",
                "upstream a: the variable bad_a is not set here",
                "upstream b: /bad/ca.pem cannot be read here",
                "upstream b: /bad/cert.pem cannot be read here",
                "upstream b: /bad/key.pem cannot be read here",
                "upstream b: the variable bad_x is not set here",
            ]
        );
    }

    #[test]
    fn programs_are_found_on_the_path_and_by_their_own() {
        assert!(
            Here.program("sh", None) && Here.program("/bin/sh", None) && Here.program("./sh", Some("/bin"))
        );
        assert!(!Here.program("no-such-program-anywhere", None) && !Here.program("/etc", None));
    }

    #[test]
    fn a_file_that_is_not_valid_or_not_there_fails() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.yaml");
        assert_eq!(look(Some(&path))[0].state, State::Fail);
        std::fs::write(&path, "upstreams: {a: {primry: []}}").unwrap();
        let found = look(Some(&path));
        assert!(found[0].state == State::Fail && found[0].what.contains("2 problems"), "{found:?}");
    }
}
