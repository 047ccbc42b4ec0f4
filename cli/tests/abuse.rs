//! Bad input: commands that cannot be, requests that make no sense, fds that are something else. Each is one error, and the switch goes on.
mod common;

use common::{Api, Switch, TestNs, inside, ip, ping, privileged, send_frames, silent, wait_for};
use std::fs::File;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};
use vswitch_io::link::{IfName, TapOptions, open_tap};
use vswitch_io::netns::{Namespace, NsSpec};

#[test]
fn commands_that_cannot_be() {
    let Some(()) = privileged() else { return };
    let (switch, ns, other) = (Switch::new(), TestNs::new("bad"), TestNs::new("bad2"));
    let name = ns.name.as_str();
    assert!(switch.fails(3, &["show"]).starts_with("no vswitch runs for root"));
    for verb in
        [&["down"][..], &["ports"], &["stats"], &["fdb"], &["detach", "web"], &["set", "web", "vlan=1"], &["mirror", "web", "-"]]
    {
        switch.fails(3, verb);
    }
    switch.ok(&["up", "--subnet", "10.10.1.0/24"]);
    switch.ok(&["attach", name, "--name", "web"]);
    for (args, part) in [
        (&["attach", "none"][..], "no network namespace \"none\" in /run/netns: \"ip netns add none\", or give a path or pid:N"),
        (&["attach", "pid:2147483647"], "no process 2147483647 runs"),
        (&["attach", "/dev/null"], "/dev/null is no network namespace"),
        (&["attach", "/none/x"], "no file /none/x"),
        (&["attach", ""], "is empty"),
        (&["attach", &std::process::id().to_string()], "is in the host's own namespace"),
        (&["attach", name], "this namespace is already attached as \"web\" (port 1, 10.10.1.2): \"vswitch detach web\" first"),
        (&["attach", &other.name, "--name", "web"], "the name is taken by \"web\" (port 1, 10.10.1.2): pass --name"),
        (&["attach", &other.name, "--name", "a b"], "\"a b\" cannot be a name"),
        (&["attach", &other.name, "--name", "gateway"], "means the gateway itself"),
        (
            &["attach", &other.name, "--ip", "10.10.2.1"],
            "--ip 10.10.2.1 is outside network default (10.10.1.0/24): choose 10.10.1.2-10.10.1.254",
        ),
        (&["attach", &other.name, "--ip", "10.10.1.1"], "is the gateway's"),
        (&["attach", &other.name, "--ip", "10.10.1.2"], "is taken by \"web\""),
        (&["attach", &other.name, "--mac", "02:58:0a:0a:01:02"], "is taken by \"web\""),
        (&["attach", &other.name, "--ifname", "a/b"], "--ifname"),
        (&["attach", &other.name, "--ifname", "lo"], "the namespace already has an interface lo: pass --ifname lo1"),
        (
            &["attach", &other.name, "--ifname", "lo", "--type", "veth"],
            "the namespace already has an interface lo: pass --ifname lo1",
        ),
        (&["detach", "none"], "nothing is attached as \"none\": \"vswitch show\" lists what is"),
        (&["set", "none", "vlan=1"], "nothing is attached as \"none\""),
        (&["set", "web", "vlan"], "\"vlan\" is no setting: write KEY=VALUE"),
        (&["set", "web", "vlan=10", "colour=red"], "there is no such key"),
        (&["set", "switch", "colour=red"], "the switch has no key \"colour\": choose of ageing, group-forward"),
        (&["fdb", "add", "02:00:00:00:00:01", "none"], "nothing is attached as \"none\""),
        (&["fdb", "add", "02:00:00:00:00:01", "web", "--vlan", "9"], "web is not in VLAN 9"),
        (&["fdb", "del", "02:00:00:00:00:01"], "is not known in VLAN 1"),
        (&["fdb", "flush", "none"], "nothing is attached as \"none\""),
        (&["mirror", "none", "-"], "nothing is attached as \"none\""),
        (&["mirror", "web", "/none/x.pcap"], "cannot write /none/x.pcap: choose another file"),
        (&["up"], "one runs already"),
    ] {
        let error = switch.fails(1, args);
        assert!(error.contains(part), "{args:?}: {error}");
    }
    // What is no command at all is told by the usage, with status 2.
    for args in [
        &["attach"][..],
        &["attach", name, "--ip", "x"],
        &["attach", name, "--mac", "01:00:5e:00:00:01"],
        &["attach", name, "--mtu", "67"],
        &["attach", name, "--vlan", "0"],
        &["attach", name, "--vlan", "1", "--trunk", "2"],
        &["attach", name, "--native", "1"],
        &["attach", name, "--type", "bridge"],
        &["fdb", "add", "x", "web"],
        &["up", "--ageing", "1"],
        &["set", "web"],
        &["dance"],
    ] {
        assert_eq!(switch.output(args).status.code(), Some(2), "{args:?}");
    }
    assert_eq!(switch.attached(), ["web"], "nothing of it was half done");
    assert!(!ip(&["-n", &other.name, "link"]).contains("eth0"));
    let vlan = switch.json(&["show"])["attached"][0]["vlan"].clone();
    assert_eq!(vlan, "1", "of several settings all are applied or none");
}

#[test]
fn bad_starts() {
    let Some(()) = privileged() else { return };
    let switch = Switch::new();
    for (args, part) in [
        (&["up", "--subnet", "10.0.0.0"][..], "--subnet 10.0.0.0 has no length"),
        (&["up", "--subnet", "10.0.0.1/24"], "write 10.0.0.0/24"),
        (&["up", "--subnet", "10.0.0.0/24", "--gateway", "10.0.1.1"], "choose 10.0.0.1-10.0.0.254"),
        (&["up", "--group-forward", "1"], "never forwarded"),
        (&["up", "--foreground", "--subnet", "x/24"], "is no IPv4 subnet"),
    ] {
        let error = switch.fails(1, args);
        assert!(error.contains(part), "{args:?}: {error}");
        switch.fails(3, &["show"]);
    }
    // A run directory that holds something else is never taken: it would be given to another user.
    let dir = tempfile::tempdir().unwrap();
    let up = |path: &std::path::Path| {
        let output = switch.command(&["up"]).env("VSWITCH_RUN_DIR", path).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    File::create(dir.path().join("mine")).unwrap();
    assert!(up(dir.path()).contains("holds mine too: choose an empty directory"));
    assert!(up(std::path::Path::new("/tmp")).contains("is not a directory of yours that only you can write to"));
    let link = dir.path().join("link");
    std::os::unix::fs::symlink("/run", &link).unwrap();
    assert!(up(&link).contains("is not a directory of yours"));
    assert!(up(std::path::Path::new("/none/x")).contains("cannot make /none/x"));
}

fn error(answer: &str) -> String {
    let answer: serde_json::Value = serde_json::from_str(answer).unwrap();
    let error = answer["error"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
    assert!(error.contains(": ") && !error.contains('\n'), "{error}");
    error
}

#[test]
fn requests_that_make_no_sense() {
    let Some(()) = privileged() else { return };
    let switch = Switch::new();
    switch.ok(&["up"]);
    for (request, part) in [
        ("garbage", "no JSON"),
        ("{}", "no version"),
        (r#"{"version":99,"verb":"info"}"#, "speaks protocol 3, not 99"),
        (r#"{"version":3,"verb":"dance"}"#, "not understood"),
        (r#"{"version":3,"verb":"set","name":5}"#, "not understood"),
    ] {
        let mut api = switch.connect();
        assert!(error(&api.ask(request, &[])).contains(part), "{request}");
        assert!(api.is_closed(), "after {request}");
    }
    // Requests that make sense, but not here, leave the connection open.
    let mut api = switch.connect();
    assert!(error(&api.ask(r#"{"version":3,"verb":"ready"}"#, &[])).contains("nothing is being attached"));
    assert!(error(&api.ask(r#"{"version":3,"verb":"mirror-end"}"#, &[])).contains("no mirror runs"));
    assert!(api.ask(r#"{"version":3,"verb":"info"}"#, &[]).contains("\"ok\""));
    // Larger than a request may be; with and without an end.
    for octets in [vec![b' '; 1 << 20], [vec![b'x'; 70_000], b"\n".to_vec()].concat()] {
        let mut api = switch.connect();
        api.send(&octets, &[]);
        assert!(error(&api.line()).contains("at most 65536 octets"));
    }
    // Cut short.
    let mut api = switch.connect();
    api.send(br#"{"version":3,"#, &[]);
    api.0.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
    assert!(error(&api.line()).contains("not complete"));
    assert!(switch.ok(&["show"]).contains("nothing is attached"));
}

#[test]
fn slow_peers_hold_nobody_up() {
    let Some(()) = privileged() else { return };
    let switch = Switch::new();
    switch.ok(&["up"]);
    // As many as there may be, silent or in the middle of a request; the next is told.
    let mut slow: Vec<Api> = (0..64).map(|_| switch.connect()).collect();
    slow[0].send(br#"{"version":3,"#, &[]);
    let start = Instant::now();
    wait_for("all 64 places taken", || {
        let output = switch.output(&["show"]);
        !output.status.success() && String::from_utf8_lossy(&output.stderr).contains("64 connections are open")
    });
    for api in &mut slow {
        assert!(error(&api.line()).contains("no request within 5 s"));
        assert!(api.is_closed());
    }
    assert!(start.elapsed() < Duration::from_secs(15));
    switch.ok(&["show"]);
}

#[test]
fn fds_that_are_something_else() {
    let Some(()) = privileged() else { return };
    let (switch, ns) = (Switch::new(), TestNs::new("fds"));
    switch.ok(&["up"]);
    let namespace = Namespace::open(&NsSpec::parse(&ns.name).unwrap()).unwrap();
    let id = namespace.id();
    let watch = namespace.watch().unwrap().unwrap();
    let reserve = |name: &str, kind: &str, ino: u64| {
        format!(
            r#"{{"version":3,"verb":"attach","name":"{name}","ns":{{"dev":{},"ino":{ino}}},"reach":{{"name":"{name}"}},"kind":"{kind}","ip":null,"mac":null,"mtu":1500,"ifname":"eth0","settings":[]}}"#,
            id.dev
        )
    };
    let plug = |kind: &str| {
        format!(
            r#"{{"version":3,"verb":"plug","kind":"{kind}","mask":0,"watch":{{"name":{{"dir":"/run/netns","file":"{}"}}}}}}"#,
            ns.name
        )
    };
    let null = File::open("/dev/null").unwrap();
    let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    // Not made an interface yet.
    let plain_tun = File::options().read(true).write(true).open("/dev/net/tun").unwrap();
    for (number, kind, fds, part) in [
        (1, "tap", vec![null.as_fd(), watch.fd.as_fd()], "not what it should be"),
        (2, "veth", vec![null.as_fd(), watch.fd.as_fd()], "not what it should be"),
        (3, "tap", vec![socket.as_fd(), watch.fd.as_fd()], "not what it should be"),
        (4, "veth", vec![socket.as_fd(), watch.fd.as_fd()], "not what it should be"),
        (5, "tap", vec![plain_tun.as_fd(), watch.fd.as_fd()], "not what it should be"),
        (6, "tap", vec![null.as_fd()], "1 file descriptors with a port"),
        (7, "tap", vec![], "0 file descriptors with a port"),
    ] {
        let mut api = switch.connect();
        assert!(api.ask(&reserve("x", kind, number), &[]).contains("\"ok\""));
        let answer = error(&api.ask(&plug(kind), &fds));
        assert!(answer.contains(part), "{kind}: {answer}");
        // The other kind than reserved.
        let wrong = if kind == "tap" { "veth" } else { "tap" };
        assert!(error(&api.ask(&plug(wrong), &fds)).contains("another kind"));
        drop(api);
        wait_for("the reservation's end", || switch.attached().is_empty());
    }
    // Only the host goes without a watch, and its namespace is not for the asking.
    let mut api = switch.connect();
    assert!(api.ask(&reserve("x", "tap", id.ino), &[]).contains("\"ok\""));
    let unwatched = r#"{"version":3,"verb":"plug","kind":"tap","mask":0,"watch":null}"#;
    assert!(error(&api.ask(unwatched, &[null.as_fd()])).contains("1 file descriptors with a port"));
    drop(api);
    let mut api = switch.connect();
    let host = reserve("h", "tap", id.ino).replace(r#"{"name":"h"}"#, r#""host""#);
    assert!(error(&api.ask(&host, &[])).contains("in another network namespace than the daemon"));
    // Too many fds end the connection.
    let mut api = switch.connect();
    assert!(error(&api.ask(&plug("tap"), &[null.as_fd(); 251])).contains("file descriptors"));
    assert!(api.is_closed());
    // A good port with a watch that is none.
    let tap = std::thread::scope(|scope| {
        let make = || {
            namespace.enter().unwrap();
            let options = TapOptions { mac: [2, 0, 0, 0, 0, 1], mtu: 1_500, txqueuelen: 256, max_rung: 0 };
            open_tap(&IfName::parse("eth0").unwrap(), &options).unwrap().0
        };
        scope.spawn(make).join().unwrap()
    });
    let mut api = switch.connect();
    assert!(api.ask(&reserve("x", "tap", id.ino), &[]).contains("\"ok\""));
    assert!(error(&api.ask(&plug("tap"), &[tap.as_fd(), null.as_fd()])).contains("watch's file descriptor"));
    // The same connection may go on with the right ones.
    assert!(api.ask(&plug("tap"), &[tap.as_fd(), watch.fd.as_fd()]).contains("\"port\":1"));
    assert_eq!(switch.attached(), ["x"]);
    // Given up before it is ready: rolled back, the interface with it.
    drop((api, tap));
    wait_for("the roll-back", || switch.attached().is_empty());
    wait_for("the interface's end", || !ip(&["-n", &ns.name, "link"]).contains("eth0"));
    // A reservation that nobody completes blocks the name only as long as its connection is there.
    let mut api = switch.connect();
    assert!(api.ask(&reserve("y", "tap", id.ino), &[]).contains("\"ok\""));
    assert!(switch.fails(1, &["attach", &ns.name]).contains("being attached"));
    assert!(switch.fails(1, &["detach", "y"]).contains("is being attached: wait for it"));
    drop(api);
    wait_for("its end", || switch.output(&["attach", &ns.name]).status.success());
}

#[test]
fn frames_that_cannot_be() {
    let Some(()) = privileged() else { return };
    let (switch, a, b) = (Switch::new(), silent("frames-a"), silent("frames-b"));
    switch.ok(&["attach", &a.name, "--name", "a", "--no-guard"]);
    let to = switch.attach(&[&b.name, "--name", "b", "--mtu", "1400"]);
    let to_b = "02580a580003";
    let pad = "00".repeat(50);
    for (frame, reason) in [
        (format!("ffffffffffff01000000000188b5{pad}"), "source-invalid"),
        (format!("ffffffffffff00000000000088b5{pad}"), "source-invalid"),
        (format!("0180c200000002000000000188b5{pad}"), "reserved-group"),
        (format!("0180c200000102000000000188b5{pad}"), "reserved-group"),
        (format!("{to_b}0200000000018100000a88b5{pad}"), "vlan"),
        (format!("{to_b}02000000000188b5{}", "00".repeat(1_450)), "mtu"),
    ] {
        let before = switch.drops(reason);
        send_frames(&a, "eth0", &[&frame]);
        wait_for(reason, || switch.drops(reason) == before + 1);
    }
    // Garbage EtherTypes pass: a switch carries what it does not know (L03).
    let before = switch.port("b")["tx_frames"].as_u64().unwrap();
    let garbage = ["0000", "ffff", "05dd", "0600", "88b5"].map(|ethertype| format!("{to_b}020000000001{ethertype}{pad}"));
    send_frames(&a, "eth0", &garbage.each_ref().map(String::as_str));
    wait_for("five frames through", || switch.port("b")["tx_frames"].as_u64().unwrap() == before + 5);
    // L18: 100,000 random source addresses fill no more than the port's share, and others still talk.
    let script = "import os, socket\n\
                  s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\n\
                  s.bind(('eth0', 0))\n\
                  [s.send(b'\\xff' * 6 + b'\\x02' + os.urandom(5) + b'\\x88\\xb5' + bytes(50)) for _ in range(100_000)]\n";
    assert!(inside(&a, &["python3", "-c", script]).status().unwrap().success());
    let stats = switch.json(&["stats"]);
    assert!(stats["fdb_entries"].as_u64().unwrap() <= 4_096 + 3, "{stats}");
    ping(&a, &to);
    switch.assert_balanced();
}
