//! Restart: the daemon is replaced under traffic, and nothing that is attached notices.
mod common;

use common::{Background, Switch, TestNs, inside, inside_ok, ip, ping, privileged, wait_for};
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

/// A new daemon that dies at any step leaves the old one running.
#[test]
fn a_new_daemon_that_dies() {
    let Some(()) = privileged() else { return };
    let switch = Switch::new();
    let (a, _b, address) = pair(&switch);
    let pid = switch.pid();
    for step in ["new-greeted", "new-adopting", "new-prepared", "new-committed"] {
        let output = switch.command(&["restart"]).env("VSWITCH_TEST_DIE", step).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && error.contains(&format!("pid {} goes on", pid.unwrap())), "{step}: {error}");
        assert_eq!(switch.pid(), pid, "{step}");
        ping(&a, &address);
        assert_eq!(switch.attached(), ["a", "b"], "{step}");
    }
    switch.ok(&["restart"]);
    ping(&a, &address);
    switch.assert_balanced();
}

/// An old daemon that dies once all was sent leaves the new one running.
#[test]
fn an_old_daemon_that_dies() {
    let Some(()) = privileged() else { return };
    for step in ["old-paused", "old-committed"] {
        let switch = Switch::new();
        let up = switch.command(&["up"]).env("VSWITCH_TEST_DIE", step).output().unwrap();
        assert!(up.status.success());
        let (a, _b, address) = pair(&switch);
        let pid = switch.pid();
        let said = switch.ok(&["restart"]);
        assert_ne!(switch.pid(), pid, "{step}: {said}");
        assert_eq!(switch.attached(), ["a", "b"], "{step}");
        ping(&a, &address);
        inside_ok(&a, &["ip", "link", "show", "eth0"]);
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
