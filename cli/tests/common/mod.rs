//! A switch for one test: a run directory of its own, the command line run as a user would, and its end however the test ends.
#![allow(dead_code, unused_imports)] // each test file uses its part

pub mod outside;
pub mod sockets;

use std::io::{BufRead, BufReader, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use vswitch_io::sys::scm;
pub use vswitch_tests::netns::{TestNs, has, ip, privileged, skip};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_vswitch");

pub struct Switch {
    dir: TempDir,
    program: PathBuf,
    /// How a program is started as the switch's user.
    user: Vec<String>,
}

impl Switch {
    /// For root.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // The daemon gives up root and must still reach its own directory inside.
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o711)).unwrap();
        Self { dir, program: PROGRAM.into(), user: Vec::new() }
    }

    /// For an ordinary user, played by root.
    pub fn ordinary(uid: u32) -> Self {
        let mut switch = Self::new();
        std::os::unix::fs::chown(switch.dir.path(), Some(uid), Some(uid)).unwrap();
        let dir = switch.dir.path().join("bin");
        std::fs::create_dir(&dir).unwrap();
        // The directory it was built in may be closed to others.
        switch.program = dir.join("vswitch");
        std::fs::copy(PROGRAM, &switch.program).unwrap();
        let uid = uid.to_string();
        switch.user = ["setpriv", "--reuid", &uid, "--regid", &uid, "--clear-groups"].map(Into::into).into();
        switch
    }

    /// The same, whose programs are started by way of another, as "nsenter ... --".
    pub fn by_way_of(mut self, words: &[String]) -> Self {
        self.user.splice(0..0, words.iter().cloned());
        self
    }

    pub fn run_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    /// Any program, as the switch's user and with its run directory.
    pub fn program(&self, program: &str, args: &[&str]) -> Command {
        let words: Vec<&str> = self.user.iter().map(String::as_str).chain([program]).chain(args.iter().copied()).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).env("VSWITCH_RUN_DIR", self.run_dir()).stdin(Stdio::null());
        // The daemon may need no system call that it is not allowed.
        command.env("VSWITCH_TEST_DENIED", "fatal");
        command
    }

    pub fn program_path(&self) -> &str {
        self.program.to_str().unwrap()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        // All journeys with more workers: for whoever changes those.
        match std::env::var("VSWITCH_TEST_WORKERS") {
            Ok(workers) if args.first() == Some(&"up") && !args.contains(&"--workers") => {
                self.program(self.program_path(), &[args, &["--workers", &workers]].concat())
            }
            Ok(_) | Err(_) => self.program(self.program_path(), args),
        }
    }

    pub fn output(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// What a command that succeeds prints.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.output(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The error of a command that fails with `code`: one line that names the verb.
    pub fn fails(&self, code: i32, args: &[&str]) -> String {
        let output = self.output(args);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
        let line = error.trim_end();
        assert!(!line.contains('\n') && line.starts_with(&format!("vswitch {}: ", args[0])), "{line}");
        let (what, remedy) = line.split_once(": ").unwrap().1.split_once(": ").unwrap_or(("", ""));
        assert!(!what.is_empty() && !remedy.is_empty(), "no remedy: {line}");
        line.split_once(": ").unwrap().1.into()
    }

    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.ok(&[args, &["--json"]].concat())).unwrap()
    }

    /// `attach` and its address.
    pub fn attach(&self, args: &[&str]) -> String {
        let line = self.ok(&[&["attach"], args].concat());
        line.split_once(": ").unwrap().1.split_once('/').unwrap().0.into()
    }

    pub fn pid(&self) -> Option<i32> {
        std::fs::read_to_string(self.run_dir().join("lock")).ok()?.split_whitespace().next()?.parse().ok()
    }

    /// The PIDs of its daemons: those that are not ending.
    pub fn daemons(&self) -> Vec<i32> {
        let dir = format!("VSWITCH_RUN_DIR={}", self.run_dir().display());
        let has = |pid: i32, file: &str, word: &str| {
            let words = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            words.split(|octet| *octet == 0).any(|octets| octets == word.as_bytes())
        };
        let pids = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
        pids.filter(|pid| has(*pid, "cmdline", "--foreground") && has(*pid, "environ", &dir)).collect()
    }

    /// The names of what is attached.
    pub fn attached(&self) -> Vec<String> {
        let show = self.json(&["show"]);
        show["attached"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap().into()).collect()
    }

    /// Waits until a container is gone from the switch.
    pub fn wait_until_gone(&self, name: &str) {
        wait_for(&format!("{name} gone"), || !self.attached().iter().any(|attached| attached == name));
    }

    /// Asserts the law of accounting, once nothing moves.
    pub fn assert_balanced(&self) -> serde_json::Value {
        let stats = self.json(&["stats"]);
        assert_eq!(stats["balanced"], true, "{stats}");
        stats
    }

    pub fn drops(&self, reason: &str) -> u64 {
        let stats = self.json(&["stats"]);
        let drop = stats["drops"].as_array().unwrap().iter().find(|drop| drop["reason"] == reason);
        drop.unwrap()["frames"].as_u64().unwrap()
    }

    pub fn port(&self, name: &str) -> serde_json::Value {
        let ports = self.json(&["ports"]);
        ports.as_array().unwrap().iter().find(|port| port["name"] == name).unwrap().clone()
    }

    pub fn connect(&self) -> Api {
        let stream = UnixStream::connect(self.run_dir().join("control.sock")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Api(BufReader::new(stream))
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.run_dir().join("log")).unwrap_or_default();
            eprintln!("the daemon's log:\n{log}\n{}", String::from_utf8_lossy(&self.output(&["stats"]).stdout));
        }
        let _ = self.output(&["down"]);
    }
}

/// The control socket, by hand.
pub struct Api(pub BufReader<UnixStream>);

impl Api {
    pub fn send(&self, octets: &[u8], fds: &[BorrowedFd<'_>]) {
        let mut rest = octets;
        let mut fds = fds;
        while !rest.is_empty() {
            let Ok(sent) = scm::send(self.0.get_ref(), rest, fds) else { return };
            rest = &rest[sent..];
            fds = &[];
        }
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line
    }

    pub fn ask(&mut self, request: &str, fds: &[BorrowedFd<'_>]) -> String {
        self.send(format!("{request}\n").as_bytes(), fds);
        self.line()
    }

    /// Whether the daemon closed the connection.
    pub fn is_closed(&mut self) -> bool {
        let mut line = String::new();
        matches!(self.0.read_line(&mut line), Ok(0) | Err(_))
    }
}

pub fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < until, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A namespace whose kernel says nothing unasked: no router solicitations, no multicast reports.
pub fn silent(what: &str) -> TestNs {
    let ns = TestNs::new(what);
    for part in ["all", "default"] {
        inside_ok(&ns, &["sysctl", "-q", "-w", &format!("net.ipv6.conf.{part}.disable_ipv6=1")]);
    }
    ns
}

/// A command in a namespace.
pub fn inside(ns: &TestNs, command: &[&str]) -> Command {
    let mut inside = Command::new("ip");
    inside.args(["netns", "exec", &ns.name]).args(command).stdin(Stdio::null());
    inside
}

pub fn inside_ok(ns: &TestNs, command: &[&str]) -> String {
    let output = inside(ns, command).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// Three echo requests, all answered.
pub fn ping(ns: &TestNs, address: &str) {
    let said = inside_ok(ns, &["ping", "-c", "3", "-i", "0.05", "-W", "2", address]);
    assert!(said.contains(" 0% packet loss"), "{said}");
}

/// One TCP stream for a second each way; the octets that the receivers got, forth and back.
pub fn iperf(from: &TestNs, to: &TestNs, address: &str) -> [u64; 2] {
    ["", "-R"].map(|reverse| {
        let mut server = Background(inside(to, &["iperf3", "-s", "-1", "--forceflush"]).stdout(Stdio::piped()).spawn().unwrap());
        let mut said = BufReader::new(server.0.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("listening") {
            line.clear();
            assert!(said.read_line(&mut line).unwrap() > 0, "iperf3 does not listen");
        }
        let mut client = vec!["iperf3", "-c", address, "-t", "1", "-C", "cubic", "-J"];
        client.extend(Some(reverse).filter(|flag| !flag.is_empty()));
        let result: serde_json::Value = serde_json::from_str(&inside_ok(from, &client)).unwrap();
        result["end"]["sum_received"]["bytes"].as_u64().unwrap()
    })
}

/// A process that ends with the test.
pub struct Background(pub Child);

impl Background {
    pub fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    pub fn pid(&self) -> String {
        self.0.id().to_string()
    }

    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A process in a new network namespace, started by `unshare`; for an ordinary user in a user namespace too.
pub fn holder(switch: &Switch) -> Background {
    let flags: &[&str] = if switch.user.is_empty() { &["--net"] } else { &["--user", "--map-root-user", "--net"] };
    let holder = Background::start(&mut switch.program("unshare", &[flags, &["sleep", "300"]].concat()));
    let comm = format!("/proc/{}/comm", holder.pid());
    wait_for("a process in a namespace", || std::fs::read_to_string(&comm).is_ok_and(|comm| comm.trim() == "sleep"));
    holder
}

/// Sends frames, in hexadecimal, out of an interface.
pub fn send_frames(ns: &TestNs, ifname: &str, frames: &[&str]) {
    let script = "import socket, sys\n\
                  s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\n\
                  s.bind((sys.argv[1], 0))\n\
                  [s.send(bytes.fromhex(f)) for f in sys.argv[2:]]\n";
    inside_ok(ns, &[&["python3", "-c", script, ifname], frames].concat());
}

/// tcpdump on an interface, which ends after `count` frames that `filter` lets through.
pub struct Sniffer(Background, BufReader<std::process::ChildStdout>);

impl Sniffer {
    pub fn start(ns: &TestNs, ifname: &str, count: &str, filter: &str) -> Self {
        let args = ["tcpdump", "--immediate-mode", "-l", "-e", "-nn", "-c", count, "-i", ifname, filter];
        let mut child = inside(ns, &args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        while !line.contains("listening on") {
            line.clear();
            assert!(said.read_line(&mut line).unwrap() > 0, "tcpdump does not listen");
        }
        let out = BufReader::new(child.stdout.take().unwrap());
        Self(Background(child), out)
    }

    /// The next frame, as tcpdump prints it. (A test that waits in vain is ended by its runner.)
    pub fn next(&mut self) -> String {
        let mut line = String::new();
        self.1.read_line(&mut line).unwrap();
        line
    }
}

/// Writes what `flush` would hold back.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
