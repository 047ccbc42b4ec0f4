//! What can be seen: events, one container, logs, the machine, and what systemd is told.
mod common;

use common::{Background, PROGRAM, Switch, TestNs, holder, inside_ok, privileged, send_frames, silent, skip, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{ChildStderr, ChildStdout, Command, Stdio};
use std::time::Duration;

const MADE_UP: &str = "020000000099";
const GATEWAY: &str = "02580a0a0101";
const ALL: &str = "ffffffffffff";

/// A switch with a known gateway.
fn up() -> Switch {
    let switch = Switch::new();
    switch.ok(&["up", "--subnet", "10.10.1.0/24"]);
    switch
}

/// A frame with nothing of interest in it.
fn frame(to: &str, from: &str) -> String {
    format!("{to}{from}88b6{}", "00".repeat(46))
}

/// `events`, listening.
struct Events(Background, BufReader<ChildStdout>, BufReader<ChildStderr>);

impl Events {
    fn listen(switch: &Switch, args: &[&str]) -> Self {
        let mut command = switch.command(&[&["events"], args].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        errors.read_line(&mut line).unwrap();
        assert_eq!(line, "listening, ^C ends it\n");
        let out = BufReader::new(child.stdout.take().unwrap());
        Self(Background(child), out, errors)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.1.read_line(&mut line).unwrap() > 0, "events ended");
        line
    }

    /// The next event of a kind. (A test that waits in vain is ended by its runner.)
    fn next(&mut self, kind: &str) -> Value {
        loop {
            let event: Value = serde_json::from_str(&self.line()).unwrap();
            if event["event"] == kind {
                return event;
            }
        }
    }
}

/// Without its time, which is checked.
fn timeless(mut event: Value) -> Value {
    let time = event.as_object_mut().unwrap().remove("time").unwrap();
    let time = time.as_str().unwrap();
    assert!(time.len() == 24 && time.starts_with("20") && time.ends_with('Z') && &time[10..11] == "T", "{time}");
    event
}

#[test]
fn events_of_every_kind() {
    let Some(()) = privileged() else { return };
    let switch = up();
    let [web, free, other] = ["ev-web", "ev-free", "ev-other"].map(silent);
    let mut events = Events::listen(&switch, &["--json"]);
    let mut of_web = Events::listen(&switch, &["web"]);
    switch.ok(&["attach", &web.name, "--name", "web"]);
    assert_eq!(timeless(events.next("attached")), json!({"event": "attached", "name": "web", "port": 1}));
    switch.ok(&["attach", &free.name, "--name", "free", "--no-guard"]);
    switch.ok(&["attach", &other.name, "--name", "other", "--no-guard"]);

    inside_ok(&web, &["ping", "-c1", "-W2", "10.10.1.1"]);
    let learned = timeless(events.next("learned"));
    assert_eq!(learned, json!({"event": "learned", "name": "web", "port": 1, "mac": "02:58:0a:0a:01:02", "vlan": 1}));

    send_frames(&web, "eth0", &[&frame(ALL, MADE_UP)]);
    let guard = timeless(events.next("guard"));
    let reason = "not its own address";
    assert_eq!(guard, json!({"event": "guard", "name": "web", "port": 1, "mac": "02:00:00:00:00:99", "vlan": 1, "reason": reason}));

    send_frames(&free, "eth0", &[&frame(ALL, MADE_UP)]);
    assert_eq!(events.next("learned")["mac"], "02:00:00:00:00:99");
    send_frames(&other, "eth0", &[&frame(ALL, MADE_UP)]);
    let moved = timeless(events.next("moved"));
    assert_eq!(
        moved,
        json!({"event": "moved", "name": "other", "port": 3, "mac": "02:00:00:00:00:99", "vlan": 1, "from": "free", "to": "other"})
    );
    // It moved once; with the fifth move from now on it is held.
    for _ in 0..3 {
        for ns in [&free, &other] {
            send_frames(ns, "eth0", &[&frame(ALL, MADE_UP)]);
        }
    }
    let flap = events.next("flap");
    assert_eq!((flap["from"].as_str(), flap["to"].as_str(), flap["name"].as_str()), (Some("other"), Some("free"), Some("other")));

    switch.ok(&["set", "web", "storm-broadcast=0"]);
    let flood = vec![frame(ALL, "02580a0a0102"); 50];
    send_frames(&web, "eth0", &flood.iter().map(String::as_str).collect::<Vec<_>>());
    let storm = timeless(events.next("storm"));
    assert_eq!(storm, json!({"event": "storm", "name": "web", "port": 1, "reason": "broadcast beyond its budget"}));

    send_frames(&free, "eth0", &[&frame(ALL, GATEWAY)]);
    assert_eq!((events.next("loop")["name"].as_str(), switch.port("free")["blocked"].as_bool()), (Some("free"), Some(true)));

    switch.ok(&["detach", "web"]);
    let detached = timeless(events.next("detached"));
    assert_eq!(detached, json!({"event": "detached", "name": "web", "port": 1, "reason": "asked to"}));

    // Who asked for one container was told of that one only, in words.
    let mut lines = vec![of_web.line()];
    while !lines.last().unwrap().contains("  detached  ") {
        lines.push(of_web.line());
    }
    let kinds: Vec<&str> = lines.iter().map(|line| line.split_whitespace().nth(1).unwrap()).collect();
    assert_eq!(kinds, ["attached", "learned", "guard", "storm", "detached"], "{lines:?}");
    assert!(lines[1].ends_with("Z  learned   web (port 1)  02:58:0a:0a:01:02 VLAN 1\n"), "{lines:?}");
    let log = switch.ok(&["logs"]);
    for part in
        ["guard: web (port 1) sent from 02:00:00:00:00:99", "storm: web (port 1) floods broadcast", "loop: ", "moved from free"]
    {
        assert!(log.contains(part), "no {part:?} in {log}");
    }
    assert_eq!(log.matches("storm: ").count(), 1, "{log}");
}

#[test]
fn a_listener_that_does_not_read_is_told_what_it_missed() {
    let Some(()) = privileged() else { return };
    let switch = up();
    let [to, one, two] = ["slow-to", "slow-one", "slow-two"].map(silent);
    switch.ok(&["attach", &to.name]);
    for ns in [&one, &two] {
        switch.ok(&["attach", &ns.name, "--no-guard"]);
    }
    inside_ok(&to, &["ping", "-c1", "-W2", "10.10.1.1"]);
    let mut deaf = switch.connect();
    assert_eq!(deaf.ask(r#"{"version":3,"verb":"events"}"#, &[]), "{\"ok\":null}\n");
    // 3,000 addresses that move to and fro, five times each: a flap is not before the sixth.
    let script = "import socket, sys, time\n\
                  s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\n\
                  s.bind((sys.argv[1], 0))\n\
                  for n in range(3000):\n\
                  \x20   s.send(bytes.fromhex('02580a0a0102') + b'\\x02\\0\\0\\0' + n.to_bytes(2) + b'\\x88\\xb6' + bytes(46))\n\
                  \x20   if n % 50 == 49: time.sleep(0.005)\n";
    for ns in [&one, &two, &one, &two, &one] {
        inside_ok(ns, &["python3", "-c", script, "eth0"]);
    }
    assert_eq!(switch.attached().len(), 3, "the daemon answers");
    let mut moved = 0;
    let lost = loop {
        let event: Value = serde_json::from_str(&deaf.line()).unwrap();
        match event["ok"]["event"].as_str() {
            Some("moved") => moved += 1,
            Some("lost") if event["ok"]["reason"] == "events lost: you read too slowly" => {
                break event["ok"]["count"].as_u64().unwrap();
            }
            _ => {}
        }
    };
    assert!(lost > 0 && moved > 1_000 && moved + lost < 15_000, "{moved} moved, {lost} lost");
    // From here on it is told again.
    switch.ok(&["detach", &to.name]);
    loop {
        let event: Value = serde_json::from_str(&deaf.line()).unwrap();
        if event["ok"]["event"] == "detached" {
            break;
        }
    }
}

#[test]
fn there_is_an_end_to_listeners_and_they_end() {
    let Some(()) = privileged() else { return };
    let switch = up();
    let subscribe = r#"{"version":3,"verb":"events"}"#;
    let mut all: Vec<_> = (0..16).map(|_| switch.connect()).collect();
    for listener in &mut all {
        assert_eq!(listener.ask(subscribe, &[]), "{\"ok\":null}\n");
    }
    assert!(switch.fails(1, &["events"]).starts_with("16 connections are told of events already: "));
    assert!(all[0].ask(subscribe, &[]).contains("in the middle of something"));
    all.clear();
    // Where its reader goes, it ends, though nothing happens.
    let Events(mut process, out, _errors) = Events::listen(&switch, &["--json"]);
    drop(out);
    assert!(process.0.wait().unwrap().success());
    // Where the daemon ends for good, it says so.
    let Events(mut process, _out, mut errors) = Events::listen(&switch, &["--json"]);
    switch.ok(&["down"]);
    assert_eq!(process.0.wait().unwrap().code(), Some(3));
    let mut error = String::new();
    errors.read_line(&mut error).unwrap();
    assert!(error.starts_with("vswitch events: vswitch has just ended, see "), "{error}");
}

/// Whether it follows one that was killed, or takes over from one that runs.
#[test]
fn events_go_on_with_the_next_daemon() {
    let Some(()) = privileged() else { return };
    let (switch, ns, stays) = (up(), TestNs::new("ev-next"), TestNs::new("ev-stays"));
    let mut events = Events::listen(&switch, &["--json"]);
    let pid = switch.pid().unwrap();
    let started = std::time::Instant::now();
    switch.ok(&["attach", &stays.name, "--name", "stays"]);
    let before = switch.json(&["inspect", "stays"]);
    switch.ok(&["restart"]);
    assert!(started.elapsed() < Duration::from_secs(4), "a listener holds no restart up");
    assert_eq!(timeless(events.next("restart")), json!({"event": "restart", "reason": "another daemon took over"}));
    switch.ok(&["attach", &ns.name, "--name", "next"]);
    assert_eq!(timeless(events.next("attached")), json!({"event": "attached", "name": "next", "port": 2}));
    // What is known of a container stays known.
    let after = switch.json(&["inspect", "stays"]);
    assert_eq!(after["watch"], before["watch"]);
    assert_eq!(after["since"].as_str().unwrap()[..19], before["since"].as_str().unwrap()[..19]);
    assert_ne!(switch.pid(), Some(pid));

    kill(Pid::from_raw(switch.pid().unwrap()), Signal::SIGKILL).unwrap();
    wait_for("its end", || !switch.output(&["show"]).status.success());
    switch.ok(&["up"]);
    events.next("restart");
    switch.ok(&["attach", &ns.name]);
    switch.ok(&["detach", &ns.name]);
    assert_eq!(events.next("detached")["name"], ns.name.as_str());
}

#[test]
fn everything_about_one_container() {
    let Some(()) = privileged() else { return };
    let switch = up();
    let [web, db] = ["in-web", "in-db"].map(silent);
    switch.ok(&["attach", &web.name, "--name", "web", "--vlan", "1", "--isolated"]);
    let address = switch.attach(&[&db.name, "--name", "db", "--type", "veth"]);
    assert_eq!(address, "10.10.1.3");
    inside_ok(&web, &["ping", "-c1", "-W2", "10.10.1.1"]);
    send_frames(&web, "eth0", &[&frame(ALL, MADE_UP), &frame(ALL, MADE_UP)]);
    switch.ok(&["fdb", "add", "02:00:00:00:00:77", "web"]);
    wait_for("two spoofed frames", || switch.drops("spoof") == 2);

    let seen = switch.json(&["inspect", "web"]);
    for (key, value) in [
        ("name", json!("web")),
        ("port", json!(1)),
        ("type", json!("tap")),
        ("ip", json!("10.10.1.2")),
        ("mac", json!("02:58:0a:0a:01:02")),
        ("mtu", json!(1500)),
        ("netns", json!(std::fs::metadata(format!("/run/netns/{}", web.name)).unwrap().ino())),
        ("watch", json!(format!("name /run/netns/{}", web.name))),
    ] {
        assert_eq!(seen[key], value, "{key}");
    }
    assert!(seen["settings"].as_array().unwrap().contains(&json!("group=1")));
    assert!(seen["since"].as_str().unwrap().ends_with('Z'));
    assert_eq!((&seen["counters"]["dropped"], &seen["counters"]["drops"]["spoof"]), (&json!(2), &json!(2)));
    assert_eq!(seen["counters"], switch.port("web"));
    let [drop] = seen["dropped"].as_array().unwrap().as_slice() else { panic!("{seen}") };
    assert_eq!((drop["reason"].as_str(), drop["frames"].as_u64()), (Some("spoof"), Some(2)));
    assert!(drop["explanation"].as_str().unwrap().len() > 10);
    let macs: Vec<&str> = seen["fdb"].as_array().unwrap().iter().map(|entry| entry["mac"].as_str().unwrap()).collect();
    assert_eq!(macs, ["02:00:00:00:00:77", "02:58:0a:0a:01:02"]);

    let text = switch.ok(&["inspect", "web"]);
    for part in [
        "name       web\n",
        "port       1 (tap), forwarding\n",
        "address    10.10.1.2/24 on eth0, mac 02:58:0a:0a:01:02, mtu 1500\n",
        "           2 spoof: ",
        "addresses  2 known\n",
        "           02:00:00:00:00:77 VLAN 1, static\n",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    let process = holder(&switch);
    switch.ok(&["attach", &process.pid(), "--name", "process"]);
    assert_eq!(switch.json(&["inspect", "process"])["watch"], "process");
    assert!(switch.fails(1, &["inspect", "nobody"]).starts_with("nothing is attached as \"nobody\": "));
}

#[test]
fn logs_of_daemons_that_run_and_that_ran() {
    let Some(()) = privileged() else { return };
    let (switch, ns) = (Switch::new(), TestNs::new("logs"));
    assert!(switch.fails(1, &["logs"]).starts_with("there is no log in "));
    switch.ok(&["up"]);
    let first = switch.ok(&["logs"]);
    assert!(first.contains(" up: network default"), "{first}");
    let mut command = switch.command(&["logs", "-f", "-n", "0"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let follower = Background(child);
    // It may look for the first time only now: what comes after is told in any case.
    let mut line = String::new();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| said.read_line(&mut line).unwrap());
        while !reader.is_finished() {
            switch.attach(&[&ns.name]);
            switch.ok(&["detach", &ns.name]);
        }
    });
    assert!(line.contains(&ns.name) && line.contains("tached"), "{line}");
    drop(follower);
    let last = switch.ok(&["logs", "-n", "1"]);
    assert!(last.lines().count() == 1 && last.contains("detached: asked to"), "{last}");
    // One that was killed leaves its log; the file before it comes first.
    kill(Pid::from_raw(switch.pid().unwrap()), Signal::SIGKILL).unwrap();
    std::fs::write(switch.run_dir().join("log.old"), "older\n").unwrap();
    let all = switch.ok(&["logs"]);
    assert!(all.starts_with("older\n") && all.contains(&first) && all.ends_with(&last), "{all}");
}

#[test]
fn a_log_in_the_journal_is_said_to_be_there() {
    let Some(()) = privileged() else { return };
    let switch = Switch::new();
    let dir = tempfile::tempdir().unwrap();
    let log = std::fs::File::create(dir.path().join("journal")).unwrap();
    let meta = log.metadata().unwrap();
    let stream = format!("{}:{}", meta.dev(), meta.ino());
    let mut command = switch.command(&["up", "--foreground"]);
    let mut daemon = Background::start(command.env("JOURNAL_STREAM", stream).stderr(log));
    wait_for("the daemon", || switch.output(&["show"]).status.success());
    let said = switch.ok(&["logs", "-f"]);
    assert!(said.starts_with("the daemon logs to the journal: journalctl ") && said.ends_with(" -f\n"), "{said}");
    switch.ok(&["down"]);
    assert!(daemon.0.wait().unwrap().success());
}

/// The daemon connects before it changes its user and is confined: neither a directory of another user's is in its way, nor Landlock.
#[test]
fn systemd_is_told_of_readiness_and_end() {
    let Some(()) = privileged() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let name = format!("vswitch-notify-{}", std::process::id());
    let by_path = UnixDatagram::bind(&path).unwrap();
    let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    for (address, socket) in [(path.into_os_string(), by_path), (format!("@{name}").into(), by_name)] {
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let switch = Switch::new();
        let mut command = switch.command(&["up", "--foreground", "--subnet", "10.10.1.0/24"]);
        let mut daemon = Background::start(command.env("NOTIFY_SOCKET", &address).stderr(Stdio::null()));
        let heard = || {
            let mut octets = [0; 512];
            let length = socket.recv(&mut octets).unwrap();
            String::from_utf8(octets[..length].into()).unwrap()
        };
        assert_eq!(heard(), "READY=1\nSTATUS=network default (10.10.1.0/24)\n");
        // Ready means that it answers.
        assert_eq!(switch.attached(), Vec::<String>::new());
        switch.ok(&["down"]);
        assert_eq!(heard(), "STOPPING=1\n");
        assert!(daemon.0.wait().unwrap().success());
        // One that "up" starts in the background does not speak for the unit that "up" is run by.
        assert!(switch.command(&["up"]).env("NOTIFY_SOCKET", &address).status().unwrap().success());
        switch.ok(&["down"]);
        socket.set_nonblocking(true).unwrap();
        assert!(socket.recv(&mut [0; 16]).is_err());
    }
}

/// A script that is PID 1 of a PID namespace, with a /run and an /etc of its own; %P is the program.
fn in_a_world_of_its_own(script: &str) -> String {
    let script = format!("set -e\nmount -t tmpfs none /run\n{}", script.replace("%P", PROGRAM));
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", &script]);
    let output = command.env_remove("VSWITCH_RUN_DIR").stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// systemd-run, played: it tells what it was asked, starts the program, and waits for its READY as systemd would.
const SYSTEMD_RUN: &str = r#"#!/usr/bin/env python3
import os, socket, subprocess, sys
end = sys.argv.index('--')
open('/run/asked', 'w').write(' '.join(sys.argv[1:end]))
assert 'READY' not in os.environ
environment = dict(os.environ, NOTIFY_SOCKET='/run/notify')
environment.update(a.split('=', 1)[1].split('=', 1) for a in sys.argv[1:end] if a.startswith('--setenv='))
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.bind('/run/notify')
notify.settimeout(10)
null = subprocess.DEVNULL
subprocess.Popen(sys.argv[end + 1:], env=environment, stdin=null, stdout=null, stderr=null, start_new_session=True)
assert notify.recv(512).startswith(b'READY=1\n')
"#;

#[test]
fn under_systemd_it_becomes_a_unit_or_else_a_session() {
    let Some(()) = privileged() else { return };
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("systemd-run");
    let path = dir.path().display();
    for (text, is_unit) in [(SYSTEMD_RUN, true), ("#!/bin/sh\necho asked > /run/asked\nexit 1\n", false)] {
        std::fs::write(&program, text).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        let said = in_a_world_of_its_own(&format!(
            "mkdir -p /run/systemd/system\nPATH={path}:$PATH %P up --subnet 10.10.1.0/24\ncat /run/asked\necho\n%P show\n%P logs\n%P down"
        ));
        let lines: Vec<&str> = said.lines().collect();
        assert!(lines[0].starts_with("vswitch up: network default (10.10.1.0/24), gateway 10.10.1.1, pid "), "{said}");
        if is_unit {
            assert!(lines[1].starts_with("--quiet --collect --unit=vswitch --description="), "{said}");
            assert!(lines[1].ends_with("--setenv=VSWITCH_RUN_DIR=/run/vswitch"), "{said}");
        } else {
            assert_eq!(lines[1], "asked");
        }
        assert!(said.contains("socket  /run/vswitch/control.sock") && said.contains(" up: network default"), "{said}");
        assert_eq!(lines.last(), Some(&"vswitch down: 0 detached"));
    }
}

#[test]
fn a_user_without_a_daemon_is_told_of_roots() {
    let Some(()) = privileged() else { return };
    let user = Switch::ordinary(4_242);
    let own = user.program_path();
    let said = in_a_world_of_its_own(&format!(
        "%P up --subnet 10.10.1.0/24\n\
         ask() {{ setpriv --reuid 4242 --regid 4242 --clear-groups {own} show 2>&1 || echo \"status $?\"; }}\n\
         ask\n%P down\nask"
    ));
    let told = "no vswitch runs for uid 4242, one runs for root: \"sudo vswitch show\", or start yours with \"vswitch up\"";
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!((lines[1], lines[2]), (format!("vswitch show: {told}").as_str(), "status 3"), "{said}");
    assert!(lines[4].starts_with("vswitch show: no vswitch runs for uid 4242 (no ") && lines[5] == "status 3", "{said}");
}

#[test]
fn show_warns_near_the_limit_of_open_files() {
    let Some(()) = privileged() else { return };
    let (switch, ns) = (Switch::new(), TestNs::new("nofile"));
    let output = switch.program("prlimit", &["--nofile=27:27", switch.program_path(), "up"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(switch.json(&["show"])["warnings"], json!([]));
    switch.attach(&[&ns.name]);
    let show = switch.json(&["show"]);
    let [warning] = show["warnings"].as_array().unwrap().as_slice() else { panic!("{show}") };
    assert!(warning.as_str().unwrap().starts_with("the daemon needs about 21 of 27 open files: raise the hard limit"), "{warning}");
    assert!(switch.ok(&["show"]).contains("\nwarning the daemon needs about 21 of 27 open files: "));
    // The estimate is not below what it has, once the connections and the state file of just now are closed.
    let estimate = show["open_files"].as_u64().unwrap();
    let fds = format!("/proc/{}/fd", switch.pid().unwrap());
    wait_for("no more open files than estimated", || {
        let open = std::fs::read_dir(&fds).unwrap().count() as u64;
        (open..open + 8).contains(&estimate)
    });
}

/// What `doctor` finds: check -> (state, text), and its exit status.
fn findings(output: &std::process::Output) -> (Vec<(String, String, String)>, Option<i32>) {
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let rows = found.as_array().unwrap().iter();
    let rows =
        rows.map(|row| (text(&row["check"]), text(&row["state"]), format!("{}: {}", text(&row["what"]), text(&row["remedy"]))));
    (rows.collect(), output.status.code())
}

fn of<'a>(rows: &'a [(String, String, String)], check: &str) -> (&'a str, &'a str) {
    rows.iter().find(|row| row.0 == check).map(|row| (row.1.as_str(), row.2.as_str())).unwrap()
}

#[test]
fn the_doctor_looks_at_this_machine() {
    let Some(()) = privileged() else { return };
    let (switch, ns) = (Switch::new(), TestNs::new("doctor"));
    let (before, code) = findings(&switch.output(&["doctor", "--json"]));
    let problems = before.iter().filter(|row| row.1 == "problem").count();
    assert_eq!(code, Some(i32::from(problems > 0)), "{before:?}");
    assert_eq!(of(&before, "tun").0, "ok", "the tests need one too");
    // What it tried is what an attach gets.
    switch.attach(&[&ns.name]);
    let mask = switch.port(&ns.name)["offload"].as_u64().unwrap();
    assert!(of(&before, "offload").1.contains(&format!("({mask:#04x})")), "{before:?}");
    assert!(of(&before, "run directory").1.contains("no daemon runs"));
    let (running, _) = findings(&switch.output(&["doctor", "--json"]));
    assert!(of(&running, "run directory").1.contains("a daemon runs and answers"));
    kill(Pid::from_raw(switch.pid().unwrap()), Signal::SIGKILL).unwrap();
    wait_for("its end", || !switch.output(&["show"]).status.success());
    let (killed, _) = findings(&switch.output(&["doctor", "--json"]));
    assert_eq!(of(&killed, "run directory").0, "note", "{killed:?}");
    // The table says the same.
    let text = String::from_utf8(switch.output(&["doctor"]).stdout).unwrap();
    assert!(text.starts_with("STATE") && text.lines().count() == before.len() + 1, "{text}");
    switch.ok(&["up"]);
}

#[test]
fn the_doctor_says_what_is_missing() {
    let Some(()) = privileged() else { return };
    let said = in_a_world_of_its_own(
        "mkdir -p /run/netns\nmount -t tmpfs none /dev/net\n%P doctor --json || echo \"status $?\"\n%P doctor 2>&1 | tail -1",
    );
    let (json, rest) = said.split_once("status ").unwrap();
    let rows: Value = serde_json::from_str(json).unwrap();
    let tun = rows.as_array().unwrap().iter().find(|row| row["check"] == "tun").unwrap();
    assert_eq!((tun["state"].as_str(), tun["what"].as_str()), (Some("problem"), Some("/dev/net/tun does not exist")));
    assert!(rest.starts_with("1\n") && rest.contains("vswitch doctor: ") && rest.contains(" found: do what "), "{rest}");
}

/// For an ordinary user it tries a user namespace and a TAP in it.
#[test]
fn the_doctor_of_an_ordinary_user() {
    let Some(()) = privileged() else { return };
    if let Err(error) = std::fs::set_permissions("/dev/net/tun", PermissionsExt::from_mode(0o666)) {
        let _ = skip(&format!("/dev/net/tun's mode cannot be set ({error})"));
        return;
    }
    let user = Switch::ordinary(4_242);
    let (rows, _) = findings(&user.output(&["doctor", "--json"]));
    assert_eq!(of(&rows, "user namespaces"), ("ok", "can be made: "), "{rows:?}");
    assert!(of(&rows, "offload").1.starts_with("TAPs "), "{rows:?}");
    let holders = [holder(&user), holder(&user)];
    for holder in &holders {
        user.attach(&[&holder.pid()]);
    }
    let rows = findings(&user.output(&["doctor", "--json"])).0;
    assert!(of(&rows, "neighbour table").1.contains("2 attached"), "{rows:?}");
}
