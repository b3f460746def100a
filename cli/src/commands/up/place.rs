//! Room for a pair: ports that are free, a state directory of its own, the configuration of the sample.

use crate::{
    output::page::{Line, Page, Style},
    report::Error,
    terminal::Terminal,
};
use o1_process::StateDir;
use std::{
    env, fs, io,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

/// The configuration of the sample, in its state directory.
const SAMPLE: &str = "only1.yaml";
/// The first line of every sample that we wrote, and may write again.
const MARK: &str = "# The sample of `o1ctl up`.";

/// An open state directory, locked against a second `up`.
pub struct Place {
    state: StateDir,
    path: PathBuf,
    /// Remove it in the end.
    temporary: bool,
}

impl Place {
    /// Opens `asked`, or the place where it belongs: the user's state directory for a configuration of theirs,
    /// a new temporary one for the sample.
    ///
    /// # Errors
    /// It cannot be created, or another process uses it.
    pub fn open(asked: Option<&Path>, own_config: bool) -> Result<Self, Error> {
        let (path, temporary) = match asked {
            Some(path) => (path.to_owned(), false),
            None if own_config => (home()?, false),
            None => (scratch()?, true),
        };
        let path = std::path::absolute(&path)
            .map_err(|error| Error::local(format!("cannot resolve {}: {error}", path.display()), ""))?;
        let state = StateDir::open(&path).map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::ResourceBusy => "a second pair needs its own --state-dir, and its own ports",
                _ => "choose another with --state-dir",
            };
            Error::local(error.to_string(), hint)
        })?;
        Ok(Self { state, path, temporary })
    }

    /// A directory for one of the children, without addresses from an earlier run.
    ///
    /// # Errors
    /// The disk.
    pub fn room(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.state.path(name);
        match fs::remove_file(path.join("addresses.json")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::local(format!("cannot clear {}: {error}", path.display()), ""))
            }
            Ok(()) | Err(_) => Ok(path),
        }
    }

    /// Writes the configuration of the sample.
    ///
    /// # Errors
    /// The disk, or a configuration that somebody else wrote there.
    pub fn write_sample(&self, primary: SocketAddr, backup: SocketAddr) -> Result<PathBuf, Error> {
        let path = self.state.path(SAMPLE);
        let before = self.state.read(SAMPLE).map_err(|error| Error::local(error.to_string(), ""))?;
        if before.is_some_and(|before| !before.starts_with(MARK.as_bytes())) {
            return Err(Error::local(
                format!("{} is not the sample's: it is left alone", path.display()),
                format!("use it with --config {}, or choose another --state-dir", path.display()),
            ));
        }
        self.state
            .write_atomic(SAMPLE, sample(primary, backup).as_bytes())
            .map_err(|error| Error::local(error.to_string(), ""))?;
        Ok(path)
    }

    /// Removes a temporary directory, unless its owner has edited the sample.
    ///
    /// # Errors
    /// Standard error is gone.
    pub fn leave(self, terminal: &mut Terminal) -> io::Result<()> {
        if !self.temporary {
            return Ok(());
        }
        let text = fs::read_to_string(self.path.join(SAMPLE)).unwrap_or_default();
        let urls: Vec<SocketAddr> = text.lines().filter_map(endpoint).collect();
        let untouched = matches!(urls.as_slice(), [primary, backup] if text == sample(*primary, *backup));
        if untouched || text.is_empty() {
            drop(self.state);
            let _left_to_the_system = fs::remove_dir_all(&self.path);
            return Ok(());
        }
        let mut page = Page::default();
        let kept = format!("your edited configuration is kept: {}", self.path.join(SAMPLE).display());
        page.push(Line::of(kept, Style::Plain));
        terminal.err.write(&page.paint(terminal.err.colour()))
    }
}

/// The address in a line of the sample such as `      - url: http://127.0.0.1:3101/mcp`.
fn endpoint(line: &str) -> Option<SocketAddr> {
    line.trim_start().strip_prefix("- url: http://")?.strip_suffix("/mcp")?.parse().ok()
}

fn sample(primary: SocketAddr, backup: SocketAddr) -> String {
    format!(
        "\
{MARK} Edit it while it runs: a change takes effect at once, a mistake
# changes nothing, and `o1ctl status` says what is wrong. Check it first: o1ctl config check {SAMPLE}

upstreams:
  sample:                       # clients see its tools as sample__add, sample__echo, ...
    primary:
      - url: http://{primary}/mcp
    backup:                     # takes over when the primary fails
      - url: http://{backup}/mcp
    # Times for looking on: `every: 10s`, `min_hold: 60s`, `stable: 30s` and the like are the defaults.
    health: {{every: 1s, timeout: 500ms}}
    breaker: {{failures: 2, open: 1s}}
    failover: {{writes: pass_through, fast_path: full, min_hold: 5s, stable: 5s, autonomy_after: 5s}}
    # prefix: none              # add, echo, ... instead

  # files:                      # one more, as a child process of the data plane
  #   primary:
  #     - command: [npx, -y, \"@modelcontextprotocol/server-filesystem\", /tmp]
"
    )
}

/// `$XDG_STATE_HOME/only1`, or `~/.local/state/only1`.
pub(in crate::commands) fn home() -> Result<PathBuf, Error> {
    let given = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    given("XDG_STATE_HOME")
        .or_else(|| given("HOME").map(|home| home.join(".local/state")))
        .map(|state| state.join("only1"))
        .ok_or_else(|| Error::local("no home directory is known for the state", "name one with --state-dir"))
}

/// A new name below the directory for temporary files.
fn scratch() -> Result<PathBuf, Error> {
    let mut random = [0_u8; 6];
    getrandom::fill(&mut random)
        .map_err(|error| Error::local(format!("cannot name a temporary directory: {error}"), ""))?;
    let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(env::temp_dir().join(format!("only1-sample-{name}")))
}

/// Makes sure that two addresses are free, before anything is started.
///
/// # Errors
/// Names the address and the flag.
pub fn free(first: SocketAddr, first_flag: &str, second: SocketAddr, second_flag: &str) -> Result<(), Error> {
    if first == second && first.port() != 0 {
        let what = format!("{first_flag} and {second_flag} are both {first}");
        return Err(Error::usage(what, "each needs a port of its own"));
    }
    // Both are held at once, as they will be.
    let _held = (try_bind(first, first_flag)?, try_bind(second, second_flag)?);
    Ok(())
}

fn try_bind(address: SocketAddr, flag: &str) -> Result<TcpListener, Error> {
    TcpListener::bind(address).map_err(|error| {
        let other = format!("choose another with {flag}; {flag} {}:0 takes any that is free", ip(address));
        match error.kind() {
            io::ErrorKind::AddrInUse => Error::local(
                format!("port {} is taken: something else listens on {address}", address.port()),
                format!("is another `o1ctl up` running? Otherwise {other}"),
            ),
            _ => Error::local(format!("cannot listen on {address}: {error}"), other),
        }
    })
}

fn ip(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(v4) => v4.ip().to_string(),
        SocketAddr::V6(v6) => format!("[{}]", v6.ip()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Write, time::Duration};

    fn addresses() -> (SocketAddr, SocketAddr) {
        ("127.0.0.1:3101".parse().unwrap(), "127.0.0.1:3201".parse().unwrap())
    }

    fn nowhere() -> Terminal {
        Terminal::plain(Box::new(io::sink()), Box::new(io::sink()))
    }

    #[test]
    fn the_sample_is_valid_and_fails_over_while_one_looks_on() {
        let (primary, backup) = addresses();
        let found = o1_proto::manifest::parse("only1.yaml", sample(primary, backup).as_bytes()).unwrap();
        assert_eq!(found.fleet.upstreams.len(), 1);
        let upstream = &found.fleet.upstreams[0];
        assert_eq!(upstream.name, "sample");
        assert!(found.warnings.is_empty(), "{:?}", found.warnings);
        let detection = upstream.health.every * upstream.health.unhealthy;
        let restoration = upstream.failover.min_hold.max(upstream.failover.stable);
        assert!(detection <= Duration::from_secs(3) && restoration <= Duration::from_secs(5), "{upstream:?}");
        assert_eq!(upstream.failover.writes, o1_proto::model::Writes::PassThrough, "it is a true peer");
        let uncommented = sample(primary, backup)
            .replace("  # files:", "  files:")
            .replace("  #   ", "    ")
            .replace("    # prefix", "    prefix")
            .replace("  #     - com", "      - com");
        let found = o1_proto::manifest::parse("only1.yaml", uncommented.as_bytes()).unwrap();
        assert_eq!(found.fleet.upstreams.len(), 2, "the examples in its comments work: {uncommented}");
    }

    #[test]
    fn a_temporary_place_goes_away_unless_the_sample_was_edited() {
        let (primary, backup) = addresses();
        let untouched = Place::open(None, false).unwrap();
        let path = untouched.path.clone();
        untouched.write_sample(primary, backup).unwrap();
        untouched.leave(&mut nowhere()).unwrap();
        assert!(!path.exists());

        let edited = Place::open(None, false).unwrap();
        let path = edited.path.clone();
        let file = edited.write_sample(primary, backup).unwrap();
        fs::OpenOptions::new().append(true).open(&file).unwrap().write_all(b"# mine\n").unwrap();
        edited.leave(&mut nowhere()).unwrap();
        let kept = file.exists();
        fs::remove_dir_all(path).unwrap();
        assert!(kept);
    }

    #[test]
    fn a_configuration_of_somebody_else_is_never_overwritten() {
        let (primary, backup) = addresses();
        let dir = tempfile::tempdir().unwrap();
        let place = Place::open(Some(dir.path()), false).unwrap();
        place.write_sample(primary, backup).unwrap();
        let file = place.write_sample(backup, primary).expect("our own may be written again");
        fs::write(&file, "upstreams: {}\n").unwrap();
        let (what, hint) = place.write_sample(primary, backup).unwrap_err().words();
        assert!(what.contains("left alone") && hint.contains("--config"), "{what} / {hint}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "upstreams: {}\n");
    }

    #[test]
    fn a_second_pair_in_the_same_place_is_told_what_it_needs() {
        let dir = tempfile::tempdir().unwrap();
        let _first = Place::open(Some(dir.path()), true).unwrap();
        let (what, hint) = Place::open(Some(dir.path()), true).err().unwrap().words();
        assert!(what.contains("in use by process"), "{what}");
        assert!(hint.contains("--state-dir") && hint.contains("ports"), "{hint}");
    }

    #[test]
    fn a_taken_port_is_named_with_its_flag() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let any = "127.0.0.1:0".parse().unwrap();
        let (what, hint) = free(any, "--listen", address, "--control-listen").unwrap_err().words();
        assert_eq!(what, format!("port {} is taken: something else listens on {address}", address.port()));
        assert!(hint.contains("--control-listen 127.0.0.1:0"), "{hint}");
        drop(taken);
        free(any, "--listen", address, "--control-listen").expect("now it is free");
        assert!(matches!(free(address, "--listen", address, "--control-listen"), Err(Error::Usage { .. })));
    }
}
