//! `o1ctl up` around planes that are shell scripts: who is stopped, in which order, and who is told.

use super::program;
use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    thread,
    time::Duration,
};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(20);

/// What every fake does: says where it "listens", tells its pid, and waits for SIGTERM.
const SCRIPT: &str = r#"#!/bin/sh
echo "$0 $*" >> "$(dirname "$0")/calls"
while [ $# -gt 0 ]; do [ "$1" = --state-dir ] && dir=$2; shift; done
mkdir -p "$dir"
echo $$ > "$(dirname "$0")/NAME.pid"
echo "NAME says hello" >&2
printf '{"listen":"127.0.0.1:1","admin":"ADMIN"}' > "$dir/new" && mv "$dir/new" "$dir/addresses.json"
trap 'echo "NAME stops" >&2; exit 0' TERM
EXTRA
while :; do sleep 0.05; done
"#;

/// A folder with o1ctl and two fakes, and an admin server that is always ready.
struct Stage {
    dir: TempDir,
    admin: String,
}

impl Stage {
    fn new() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let admin = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _request = stream.read(&mut [0; 1024]);
                let _sent = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nready\n");
            }
        });
        let stage = Self { dir: tempfile::tempdir().unwrap(), admin };
        let own = stage.path("o1ctl");
        let program = env!("CARGO_BIN_EXE_o1ctl");
        fs::hard_link(program, &own).or_else(|_| fs::copy(program, &own).map(drop)).unwrap();
        stage.fake("o1-control-plane", "");
        stage.fake("o1-data-plane", "");
        stage
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn fake(&self, name: &str, extra: &str) {
        let script = SCRIPT.replace("NAME", name).replace("ADMIN", &self.admin).replace("EXTRA", extra);
        fs::write(self.path(name), script).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn up(&self) -> Up {
        fs::write(self.path("only1.yaml"), "upstreams: {a: {primary: [{url: http://127.0.0.1:1/mcp}]}}\n")
            .unwrap();
        let mut command = Command::new(self.path("o1ctl"));
        command.args(["up", "--listen", "127.0.0.1:0", "--control-listen", "127.0.0.1:0", "--config"]);
        command.arg(self.path("only1.yaml")).arg("--state-dir").arg(self.path("state"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let out = lines(child.stdout.take().unwrap());
        let err = lines(child.stderr.take().unwrap());
        Up { child, out, err, seen: Vec::new() }
    }

    fn pid(&self, name: &str) -> u32 {
        fs::read_to_string(self.path(&format!("{name}.pid"))).unwrap().trim().parse().unwrap()
    }

    fn is_alive(&self, name: &str) -> bool {
        // A zombie that nobody waits for any more is as dead as can be.
        fs::read_to_string(format!("/proc/{}/stat", self.pid(name)))
            .is_ok_and(|stat| !stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')))
    }
}

fn lines(from: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (send, receive) = sync_channel(1000);
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    receive
}

/// A running `o1ctl up`; killed if the test fails.
struct Up {
    child: Child,
    out: Receiver<String>,
    err: Receiver<String>,
    /// Everything from standard error so far.
    seen: Vec<String>,
}

impl Drop for Up {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

impl Up {
    fn ready(&self) {
        until(&self.out, "Ctrl-C stops everything.", &mut Vec::new());
    }

    fn said(&mut self, wanted: &str) {
        until(&self.err, wanted, &mut self.seen);
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Its exit code, once it has ended by itself.
    fn code(&mut self) -> Option<i32> {
        loop {
            match self.err.recv_timeout(SOON) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("up does not end: {:#?}", self.seen),
            }
        }
        self.child.wait().unwrap().code()
    }

    /// The position of the first line that holds this.
    fn at(&self, wanted: &str) -> usize {
        let found = self.seen.iter().position(|line| line.contains(wanted));
        found.unwrap_or_else(|| panic!("`{wanted}` is not in {:#?}", self.seen))
    }
}

fn until(lines: &Receiver<String>, wanted: &str, seen: &mut Vec<String>) {
    loop {
        match lines.recv_timeout(SOON) {
            Ok(line) => {
                seen.push(line);
                if seen.last().is_some_and(|line| line.contains(wanted)) {
                    return;
                }
            }
            Err(error) => panic!("`{wanted}` did not come ({error}), but: {seen:#?}"),
        }
    }
}

#[test]
fn the_planes_get_their_flags_and_stop_in_order_when_asked() {
    for signal in ["-INT", "-TERM"] {
        let stage = Stage::new();
        let mut up = stage.up();
        up.ready();
        let calls = fs::read_to_string(stage.path("calls")).unwrap();
        let calls: Vec<_> = calls.lines().collect();
        let state = stage.path("state");
        let config = stage.path("only1.yaml");
        let control = format!(
            "o1-control-plane --config {} --listen 127.0.0.1:0 --admin 127.0.0.1:0 --state-dir {}",
            config.display(),
            state.join("control").display()
        );
        let data = format!(
            "--control http://127.0.0.1:1 --node-id local --listen 127.0.0.1:0 --admin 127.0.0.1:0 --state-dir {}",
            state.join("data").display()
        );
        assert!(calls[0].ends_with(&control), "{calls:?}");
        assert!(calls[1].contains("o1-data-plane ") && calls[1].ends_with(&data), "{calls:?}");
        up.signal(signal);
        assert_eq!(up.code(), Some(0), "{:#?}", up.seen);
        assert!(up.seen.contains(&"control │ o1-control-plane says hello".to_owned()), "{:#?}", up.seen);
        assert!(up.at("data    │ o1-data-plane stops") < up.at("control │ o1-control-plane stops"));
        assert!(!stage.is_alive("o1-control-plane") && !stage.is_alive("o1-data-plane"));
    }
}

#[test]
fn a_plane_that_dies_is_named_with_its_last_words_and_the_other_is_stopped() {
    for (dying, other, name) in [
        ("o1-data-plane", "o1-control-plane", "the data plane"),
        ("o1-control-plane", "o1-data-plane", "the control plane"),
    ] {
        let stage = Stage::new();
        stage.fake(dying, "trap 'echo famous last words >&2; exit 7' USR1");
        let mut up = stage.up();
        up.ready();
        Command::new("kill").args(["-USR1", &stage.pid(dying).to_string()]).status().unwrap();
        assert_eq!(up.code(), Some(1), "{:#?}", up.seen);
        assert!(
            up.at(&format!("{other} stops")) < up.at(&format!("The last lines of {name}:")),
            "{:#?}",
            up.seen
        );
        assert!(up.seen.contains(&"    famous last words".to_owned()), "{:#?}", up.seen);
        let end = format!(
            "error: {name} (process {}) ended with exit status 7; everything else was stopped",
            stage.pid(dying)
        );
        assert!(up.seen.contains(&end), "{:#?}", up.seen);
        assert!(!stage.is_alive(other));
    }
}

#[test]
fn a_plane_that_does_not_come_up_ends_it_at_once() {
    let stage = Stage::new();
    fs::write(stage.path("o1-data-plane"), "#!/bin/sh\necho 'the disk is full' >&2\nexit 3\n").unwrap();
    let mut up = stage.up();
    assert_eq!(up.code(), Some(1));
    assert!(up.at("o1-control-plane stops") < up.at("the data plane (process "), "{:#?}", up.seen);
    assert!(up.seen.contains(&"    the disk is full".to_owned()), "{:#?}", up.seen);
    assert_eq!(
        up.out.recv_timeout(SOON),
        Err(RecvTimeoutError::Disconnected),
        "nobody was told that it is up"
    );
}

#[test]
fn asking_twice_kills_what_does_not_stop() {
    let stage = Stage::new();
    stage.fake("o1-data-plane", "trap 'echo not now >&2' TERM");
    let mut up = stage.up();
    up.ready();
    up.signal("-INT");
    up.said("data    │ not now");
    up.signal("-INT");
    assert_eq!(up.code(), Some(1), "{:#?}", up.seen);
    assert!(up.at("o1ctl   │ killing the data plane") < up.at("o1-control-plane stops"), "{:#?}", up.seen);
    assert!(!stage.is_alive("o1-data-plane"));
}

#[cfg(target_os = "linux")]
#[test]
fn even_kill_9_leaves_no_plane_behind() {
    let stage = Stage::new();
    let mut up = stage.up();
    up.ready();
    assert!(stage.is_alive("o1-control-plane") && stage.is_alive("o1-data-plane"));
    up.signal("-KILL");
    assert_eq!(up.code(), None);
    let mut tries = 0;
    while stage.is_alive("o1-control-plane") || stage.is_alive("o1-data-plane") {
        tries += 1;
        assert!(tries < 1000, "a plane outlives `up`");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_is_missing_or_in_the_way_is_said_before_anything_starts() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let port = taken.local_addr().unwrap().port();
    let stage = Stage::new();
    let up = |arguments: &[&str]| {
        let mut command = Command::new(stage.path("o1ctl"));
        super::done(command.arg("up").args(arguments).arg("--state-dir").arg(stage.path("state")))
    };
    let busy = up(&["--listen", &address, "--control-listen", "127.0.0.1:0"]);
    assert_eq!((busy.code, busy.out.as_str()), (Some(1), ""));
    assert!(
        busy.err.starts_with(&format!("error: port {port} is taken: something else listens on {address}\n")),
        "{}",
        busy.err
    );
    assert!(busy.err.contains("--listen 127.0.0.1:0"), "{}", busy.err);

    fs::write(stage.path("bad.yaml"), "upstreams: {a: {primry: []}}\n").unwrap();
    let file = stage.path("bad.yaml");
    let bad = up(&[
        "--listen",
        "127.0.0.1:0",
        "--control-listen",
        "127.0.0.1:0",
        "--config",
        file.to_str().unwrap(),
    ]);
    assert_eq!((bad.code, bad.out.as_str()), (Some(1), ""));
    assert!(
        bad.err.contains("bad.yaml:1:17: error: ") && bad.err.contains("nothing was started"),
        "{}",
        bad.err
    );

    fs::remove_file(stage.path("o1-data-plane")).unwrap();
    let missing = up(&[]);
    assert_eq!(missing.code, Some(1));
    assert!(missing.err.starts_with("error: o1-data-plane is not beside o1ctl"), "{}", missing.err);
    assert!(missing.err.contains("cargo build --release"), "{}", missing.err);
    assert!(!stage.path("calls").exists(), "nothing was started");
}

#[test]
fn the_sample_server_says_where_it_is_and_stops_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = program();
    command.args(["sample-server", "--name", "x", "--state-dir"]).arg(dir.path());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let out = lines(child.stdout.take().unwrap());
    let err = lines(child.stderr.take().unwrap());
    let said = out.recv_timeout(SOON).unwrap();
    let mut server = Up { child, out, err, seen: Vec::new() };
    let addresses = fs::read_to_string(dir.path().join("addresses.json")).unwrap();
    let address = addresses.trim_start_matches("{\"listen\":\"").trim_end_matches("\"}");
    assert_eq!(said, format!("sample server x serves MCP at http://{address}/mcp"));
    server.signal("-TERM");
    assert_eq!(server.code(), Some(0), "{:#?}", server.seen);
}
