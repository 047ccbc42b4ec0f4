//! Restart: the daemon is replaced under traffic, and nothing that is attached notices.
mod common;

use common::{Background, Switch, TestNs, inside, ip, ping, privileged, wait_for};
use std::process::Stdio;

/// Connections of a TCP stream that lasts; ping every 10 ms.
struct Traffic {
    iperf: Background,
    ping: Background,
    _server: Background,
}

impl Traffic {
    fn start(a: &TestNs, b: &TestNs, address: &str, seconds: &str) -> Self {
        let server = Background::start(inside(b, &["iperf3", "-s", "-1"]).stdout(Stdio::null()));
        let listens =
            || inside(b, &["ss", "-ltn"]).output().is_ok_and(|out| String::from_utf8_lossy(&out.stdout).contains(":5201"));
        wait_for("iperf3 listens", listens);
        let client = ["iperf3", "-c", address, "-t", seconds, "-C", "cubic", "-J"];
        let iperf = Background::start(inside(a, &client).stdout(Stdio::piped()));
        // A number of pings, not a time: at a deadline the one is lost whose answer is on its way.
        let count = (seconds.parse::<u32>().unwrap() * 60).to_string();
        let echo = ["ping", "-i", "0.01", "-W", "2", "-c", &count, "-q", address];
        let ping = Background::start(inside(a, &echo).stdout(Stdio::piped()));
        Self { iperf, ping, _server: server }
    }

    /// The stream lived to its end, and every ping was answered.
    fn end(mut self) {
        let mut said = String::new();
        std::io::Read::read_to_string(self.iperf.0.stdout.as_mut().unwrap(), &mut said).unwrap();
        let result: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert!(result.get("error").is_none(), "{said}");
        assert!(result["end"]["sum_received"]["bytes"].as_u64().unwrap() > 1 << 20);
        let mut said = String::new();
        std::io::Read::read_to_string(self.ping.0.stdout.as_mut().unwrap(), &mut said).unwrap();
        assert!(said.contains(" 0% packet loss"), "{said}");
    }
}

fn pair(switch: &Switch) -> (TestNs, TestNs, String) {
    let (a, b) = (TestNs::new("restart-a"), TestNs::new("restart-b"));
    switch.ok(&["attach", &a.name, "--name", "a", "--isolated", "--mtu", "1400"]);
    let address = switch.attach(&[&b.name, "--name", "b", "--type", "veth"]);
    (a, b, address)
}

#[test]
fn ten_restarts_under_traffic() {
    let Some(()) = privileged() else { return };
    let switch = Switch::new();
    let (a, b, address) = pair(&switch);
    ping(&a, &address);
    switch.ok(&["set", "switch", "ageing=77", "group-forward=2"]);
    switch.ok(&["fdb", "add", "02:00:00:00:00:99", "b"]);
    let (show, index) = (switch.json(&["show"]), ip(&["-n", &a.name, "-o", "link", "show", "eth0"]));
    let traffic = Traffic::start(&a, &b, &address, "6");
    let mut pid = switch.pid().unwrap();
    for _ in 0..10 {
        let said = switch.ok(&["restart"]);
        let new = switch.pid().unwrap();
        assert!(
            said.contains(&format!("({pid}) -> ")) && said.contains(&format!("({new}), 2 attached, no frame read for ")),
            "{said}"
        );
        pid = new;
        common::say(said.trim());
    }
    traffic.end();
    // Everything is as it was: ports, settings, addresses, counters, the link itself.
    let after = switch.json(&["show"]);
    for key in ["attached", "network", "gateway_mac", "ageing", "group_forward", "fdb_capacity", "owner"] {
        assert_eq!(show[key], after[key], "{key}");
    }
    assert_eq!(after["restarts"], 10);
    assert_eq!(index, ip(&["-n", &a.name, "-o", "link", "show", "eth0"]), "the link did not flap");
    assert!(switch.ok(&["fdb"]).lines().any(|line| line.contains("02:00:00:00:00:99") && line.contains("static")));
    let stats = switch.assert_balanced();
    assert!(stats["rx"].as_u64().unwrap() > 1_000, "{stats}");
    // Namespaces are still watched.
    drop(b);
    switch.wait_until_gone("b");
    assert_eq!(switch.ok(&["down"]), "vswitch down: 1 detached\n");
    assert!(!switch.run_dir().exists());
}

#[test]
fn restarts_beside_attach_and_detach() {
    let Some(()) = privileged() else { return };
    let switch = Switch::new();
    let (a, b, address) = pair(&switch);
    let others: Vec<TestNs> = (0..4).map(|number| TestNs::new(&format!("beside{number}"))).collect();
    let traffic = Traffic::start(&a, &b, &address, "4");
    std::thread::scope(|scope| {
        let churn = scope.spawn(|| {
            for _ in 0..5 {
                for ns in &others {
                    switch.ok(&["attach", &ns.name]);
                }
                for ns in &others {
                    switch.ok(&["detach", &ns.name]);
                }
            }
        });
        while !churn.is_finished() {
            switch.ok(&["restart"]);
        }
        churn.join().unwrap();
    });
    traffic.end();
    assert_eq!(switch.attached(), ["a", "b"]);
    switch.assert_balanced();
}

/// Whoever is connected and asks nothing keeps nobody waiting.
#[test]
fn idle_connections_do_not_delay_it() {
    let Some(()) = privileged() else { return };
    let switch = Switch::new();
    switch.ok(&["up"]);
    let mut idle: Vec<_> = (0..8).map(|_| switch.connect()).collect();
    assert!(idle[0].ask(r#"{"version":3,"verb":"stats"}"#, &[]).starts_with(r#"{"ok""#));
    let begun = std::time::Instant::now();
    switch.ok(&["restart"]);
    assert!(begun.elapsed() < std::time::Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(idle.iter_mut().all(common::Api::is_closed));
    assert_eq!(switch.json(&["show"])["restarts"], 1);
}

/// Exactly one daemon, which forwards, watches and can be restarted.
fn assert_works(switch: &Switch, a: &TestNs, b: TestNs, address: &str, step: &str) {
    let daemons = switch.daemons();
    assert_eq!(daemons, [switch.pid().unwrap()], "{step}");
    assert_eq!(switch.attached(), ["a", "b"], "{step}");
    ping(a, address);
    Traffic::start(a, &b, address, "1").end();
    switch.assert_balanced();
    assert!(switch.json(&["inspect", "a"])["settings"].to_string().contains("group=1"), "{step}");
    assert!(ip(&["-n", &a.name, "-o", "link", "show", "eth0"]).contains("mtu 1400"), "{step}");
    switch.ok(&["restart"]);
    ping(a, address);
    drop(b);
    switch.wait_until_gone("b");
}

/// A new daemon that dies at any step before it reads leaves the old one running.
#[test]
fn a_new_daemon_that_dies() {
    let Some(()) = privileged() else { return };
    let switch = Switch::new();
    let (a, b, address) = pair(&switch);
    let pid = switch.pid();
    for step in ["new-greeted", "new-adopting", "new-prepared", "new-committed", "new-going"] {
        let output = switch.command(&["restart"]).env("VSWITCH_TEST_DIE", step).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && error.contains(&format!("pid {} goes on", pid.unwrap())), "{step}: {error}");
        assert_eq!(switch.daemons(), [pid.unwrap()], "{step}");
        ping(&a, &address);
        assert_eq!(switch.attached(), ["a", "b"], "{step}");
    }
    assert_works(&switch, &a, b, &address, "all");
}

/// Once it reads, the old one has ended: "restart" starts another and attaches again.
#[test]
fn a_new_daemon_that_dies_at_last() {
    let Some(()) = privileged() else { return };
    let switch = Switch::new();
    let (a, b, address) = pair(&switch);
    let output = switch.command(&["restart"]).env("VSWITCH_TEST_DIE", "new-reading").output().unwrap();
    let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("2 restored, 0 gone"), "{said}{error}");
    assert!(error.contains("the new daemon did not come up") && error.contains("attaching again"), "{error}");
    assert_works(&switch, &a, b, &address, "new-reading");
}

/// An old daemon that dies at any step leaves the new one running, with all ports: those it had passed on have not noticed, the others
/// are attached again. One that had passed on nothing is followed by a daemon like it.
#[test]
fn an_old_daemon_that_dies() {
    let Some(()) = privileged() else { return };
    for (step, passed) in [
        ("old-asked", None),
        ("old-greeted", Some(0)),
        ("old-passing", Some(1)),
        ("old-passed", Some(2)),
        ("old-sent", Some(2)),
        ("old-paused", Some(2)),
        ("old-committed", Some(2)),
        ("old-gone", Some(2)),
    ] {
        let switch = Switch::new();
        let up = switch.command(&["up", "--ageing", "77"]).env("VSWITCH_TEST_DIE", step).output().unwrap();
        assert!(up.status.success());
        let (a, b, address) = pair(&switch);
        let index = |ns: &TestNs| ip(&["-n", &ns.name, "-o", "link", "show", "eth0"]);
        let (pid, links) = (switch.pid(), [index(&a), index(&b)]);
        let output = switch.command(&["restart"]).output().unwrap();
        let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        common::say(&format!("{step}: {said}{error}"));
        assert!(output.status.success() && error.contains("the daemon that ran was killed meanwhile"), "{step}: {said}{error}");
        match passed {
            None => assert!(said.contains("2 restored, 0 gone") && error.contains("did not come up"), "{step}: {said}{error}"),
            Some(2) => assert!(said.contains(", 2 attached") && !error.contains("again"), "{step}: {said}{error}"),
            Some(given) => {
                let rest = 2 - given;
                assert!(said.contains(&format!("{rest} restored, 0 gone\n")) && said.contains(", 2 attached"), "{step}: {said}");
                assert!(error.contains(&format!("{given} of its ports came with it, attaching {rest} again")), "{step}: {error}");
            }
        }
        assert_ne!(switch.pid(), pid, "{step}");
        // The link of what was passed on did not flap.
        let kept = [&a, &b].iter().zip(&links).filter(|(ns, link)| index(ns) == **link).count();
        assert!(kept >= passed.unwrap_or(0), "{step}: {kept}");
        assert_eq!(switch.json(&["show"])["ageing"], 77, "{step}");
        assert_works(&switch, &a, b, &address, step);
    }
}

/// The same by SIGKILL, at whatever moment that comes.
#[test]
fn an_old_daemon_that_is_killed_some_time() {
    let Some(()) = privileged() else { return };
    let switch = Switch::new();
    let (a, _b, address) = pair(&switch);
    let others: Vec<TestNs> = (0..6).map(|number| TestNs::new(&format!("kill{number}"))).collect();
    for (number, ns) in others.iter().enumerate() {
        switch.ok(&["attach", &ns.name, "--type", if number % 2 == 0 { "tap" } else { "veth" }]);
    }
    let attached = switch.attached();
    for round in 0..16 {
        let old = switch.pid().unwrap();
        // The state file may be a second behind; a hand-over writes it.
        wait_for("the state is saved", || {
            let state = std::fs::read_to_string(switch.run_dir().join("state.json")).unwrap_or_default();
            attached.iter().all(|name| state.contains(&format!("\"{name}\"")))
        });
        let restart = switch.command(&["restart"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(round * 2));
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(old), nix::sys::signal::Signal::SIGKILL);
        let output = restart.wait_with_output().unwrap();
        let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        common::say(&format!("after {} ms: {said}{error}", round * 2));
        if !output.status.success() {
            // Killed before it was asked: there was nothing to restart.
            assert_eq!(output.status.code(), Some(3), "{round}: {said}{error}");
            switch.ok(&["restore"]);
        }
        assert_eq!(switch.daemons(), [switch.pid().unwrap()], "{round}");
        assert_eq!(switch.attached(), attached, "{round}");
        ping(&a, &address);
        switch.assert_balanced();
    }
}

/// sd_notify(3): the service manager is told who goes on, not that the service stops.
#[test]
fn systemd_is_told_who_follows() {
    let Some(()) = privileged() else { return };
    let switch = Switch::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    let heard = || {
        let mut octets = [0; 256];
        let length = socket.recv(&mut octets).unwrap();
        String::from_utf8_lossy(&octets[..length]).into_owned()
    };
    let mut daemon = Background::start(switch.command(&["up", "--foreground"]).env("NOTIFY_SOCKET", &path).stderr(Stdio::null()));
    assert!(heard().starts_with("READY=1"));
    switch.ok(&["restart"]);
    assert!(daemon.0.wait().unwrap().success());
    assert_eq!(heard(), format!("MAINPID={}\n", switch.pid().unwrap()));
}
