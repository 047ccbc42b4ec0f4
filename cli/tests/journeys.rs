//! Journeys through the daemon, as root, with the tools that users have.
mod common;

use common::{
    Background, Sniffer, Switch, TestNs, holder, inside, inside_ok, ip, iperf, ping, privileged, send_frames, silent, wait_for,
};
use std::process::Stdio;

#[test]
fn the_seed_exercise() {
    let Some(()) = privileged() else { return };
    let (switch, ns1, ns2) = (Switch::new(), TestNs::new("seed1"), TestNs::new("seed2"));
    switch.ok(&["up", "--subnet", "10.10.1.0/24", "--gateway", "10.10.1.254"]);
    let line = switch.ok(&["attach", &ns1.name, "--ip", "10.10.1.1"]);
    let name = &ns1.name;
    assert_eq!(
        line,
        format!(
            "{name}: 10.10.1.1/24 on eth0, mac 02:58:0a:0a:01:01, mtu 1500, gateway 10.10.1.254, switch port 1, uplink socket\n"
        )
    );
    switch.ok(&["attach", &ns2.name, "--ip", "10.10.1.2"]);
    ping(&ns1, "10.10.1.2");
    ping(&ns2, "10.10.1.1");
    ping(&ns1, "10.10.1.254");
    let fdb = switch.json(&["fdb"]);
    let known = |mac: &str| fdb.as_array().unwrap().iter().find(|row| row["mac"] == mac).map(|row| row["name"].clone());
    assert_eq!(known("02:58:0a:0a:01:01").unwrap(), ns1.name.as_str());
    assert_eq!(known("02:58:0a:0a:01:02").unwrap(), ns2.name.as_str());
    assert_eq!(known("02:58:0a:0a:01:fe").unwrap(), "gateway");
    // Addresses, default route and a permanent neighbour are set; lo is up.
    let link = ip(&["-n", name, "address", "show", "dev", "eth0"]);
    assert!(link.contains("inet 10.10.1.1/24") && link.contains("mtu 1500"), "{link}");
    assert!(ip(&["-n", name, "route"]).contains("default via 10.10.1.254"));
    assert!(ip(&["-n", name, "neigh"]).contains("10.10.1.254 dev eth0 lladdr 02:58:0a:0a:01:fe PERMANENT"));
    assert!(ip(&["-n", name, "link", "show", "lo"]).contains("UP,LOWER_UP"));
    let stats = switch.assert_balanced();
    assert!(stats["rx"].as_u64().unwrap() >= 15, "{stats}");
}

/// Ping and a TCP stream each way; the counters agree with what iperf3 says it moved.
fn talk(kind_a: &str, kind_b: &str) {
    let Some(()) = privileged() else { return };
    let (switch, a, b) = (Switch::new(), TestNs::new("talk-a"), TestNs::new("talk-b"));
    let ip_a = switch.attach(&[&a.name, "--type", kind_a]);
    let ip_b = switch.attach(&[&b.name, "--type", kind_b]);
    ping(&a, &ip_b);
    ping(&b, &ip_a);
    let [forth, back] = iperf(&a, &b, &ip_b);
    let (port_a, port_b) = (switch.port(&a.name), switch.port(&b.name));
    for (octets, from, to) in [(forth, &port_a, &port_b), (back, &port_b, &port_a)] {
        assert!(octets > 1 << 20, "{octets} octets in a second");
        let (sent, received) = (from["rx_bytes"].as_u64().unwrap(), to["tx_bytes"].as_u64().unwrap());
        // Headers come on top, of which a GSO frame has one set.
        assert!(sent >= octets && received >= octets, "iperf3 moved {octets}, the ports {sent} and {received}");
    }
    assert_eq!((port_a["type"].as_str(), port_b["type"].as_str()), (Some(kind_a), Some(kind_b)));
    switch.assert_balanced();
}

#[test]
fn tap_to_tap() {
    talk("tap", "tap");
}

#[test]
fn veth_to_veth() {
    talk("veth", "veth");
}

#[test]
fn tap_to_veth() {
    talk("tap", "veth");
}

#[test]
fn veth_to_tap() {
    talk("veth", "tap");
}

/// L11 and L12 on real interfaces: tags beside the frame (auxdata) on a veth, within it on a TAP.
#[test]
fn tags_made_by_hand() {
    let Some(()) = privileged() else { return };
    let switch = Switch::new();
    let [trunk_veth, trunk_tap, access] = ["vlan-v", "vlan-t", "vlan-a"].map(silent);
    switch.ok(&["attach", &trunk_veth.name, "--type", "veth", "--trunk", "10,20", "--native", "1"]);
    switch.ok(&["attach", &trunk_tap.name, "--trunk", "10"]);
    switch.ok(&["attach", &access.name, "--vlan", "10"]);
    let broadcast = |src: &str, rest: &str| format!("ffffffffffff{src}{rest}");
    let payload = "88b5".to_owned() + &"5a".repeat(60);
    // From a trunk, tagged 10 with priority 5: to the access port without the tag, to the other trunk with it.
    for (from, src) in [(&trunk_veth, "02000000aa01"), (&trunk_tap, "02000000aa02")] {
        let other = if std::ptr::eq(from, &trunk_veth) { &trunk_tap } else { &trunk_veth };
        let filter = format!(
            "ether src {}",
            src.as_bytes().chunks(2).map(|p| std::str::from_utf8(p).unwrap()).collect::<Vec<_>>().join(":")
        );
        let (mut plain, mut tagged) = (Sniffer::start(&access, "eth0", "1", &filter), Sniffer::start(other, "eth0", "1", &filter));
        send_frames(from, "eth0", &[&broadcast(src, &format!("8100a00a{payload}"))]);
        let line = plain.next();
        assert!(line.contains("ethertype Unknown (0x88b5)") && !line.contains("vlan"), "{line}");
        let line = tagged.next();
        assert!(line.contains("vlan 10, p 5"), "{line}");
    }
    // From the access port, untagged: to the trunks tagged 10.
    let mut tagged = [&trunk_veth, &trunk_tap].map(|ns| Sniffer::start(ns, "eth0", "1", "ether proto 0x8100 or vlan"));
    send_frames(&access, "eth0", &[&broadcast("02580a580004", &payload)]);
    for sniffer in &mut tagged {
        let line = sniffer.next();
        assert!(line.contains("vlan 10, p 0"), "{line}");
    }
    // Not admitted: 20 on the TAP's trunk, 30 anywhere, any tag but its own on the access port.
    let before = switch.drops("vlan");
    send_frames(
        &trunk_tap,
        "eth0",
        &[&broadcast("02000000aa02", &format!("81000014{payload}")), &broadcast("02000000aa02", &payload)],
    );
    send_frames(&trunk_veth, "eth0", &[&broadcast("02000000aa01", &format!("8100001e{payload}"))]);
    send_frames(&access, "eth0", &[&broadcast("02580a580004", &format!("81000014{payload}"))]);
    wait_for("four frames of other VLANs dropped", || switch.drops("vlan") == before + 4);
    switch.assert_balanced();
}

#[test]
fn sixty_four_namespaces() {
    let Some(()) = privileged() else { return };
    let switch = Switch::new();
    let all: Vec<TestNs> = (0..64).map(|number| TestNs::new(&format!("many{number}"))).collect();
    let addresses: Vec<String> = all
        .iter()
        .enumerate()
        .map(|(number, ns)| switch.attach(&[&ns.name, "--type", if number % 2 == 0 { "tap" } else { "veth" }]))
        .collect();
    assert_eq!(switch.attached().len(), 64);
    for address in &addresses[1..] {
        inside_ok(&all[0], &["ping", "-c", "1", "-W", "2", address]);
    }
    let fdb = switch.json(&["fdb"]);
    assert!(fdb.as_array().unwrap().len() >= 64, "{fdb}");
    switch.assert_balanced();
    let down = std::time::Instant::now();
    assert_eq!(switch.ok(&["down"]), "vswitch down: 64 detached\n");
    common::say(&format!("64 ports down in {:?}", down.elapsed()));
    for ns in &all {
        wait_for("the interfaces' end", || !ip(&["-n", &ns.name, "link"]).contains("eth0"));
    }
    assert!(!switch.run_dir().exists());
}

/// A namespace that is told to be gone by a pair of veths, one in it: it goes with the namespace.
struct Canary(TestNs);

impl Canary {
    fn put(what: &str, into: &str) -> Self {
        let cage = TestNs::new(what);
        ip(&["-n", &cage.name, "link", "add", "canary", "type", "veth", "peer", "name", "inside", "netns", into]);
        Self(cage)
    }

    fn wait_until_gone(&self) {
        wait_for("the namespace's end", || !ip(&["-n", &self.0.name, "link"]).contains("canary"));
    }
}

#[test]
fn a_name_that_goes_takes_the_port_along() {
    let Some(()) = privileged() else { return };
    for kind in ["tap", "veth"] {
        let (switch, stays) = (Switch::new(), TestNs::new("stays"));
        let mut ns = TestNs::new("goes");
        let canary = Canary::put("cage", &ns.name);
        switch.attach(&[&stays.name]);
        let address = switch.attach(&[&ns.name, "--type", kind]);
        ping(&stays, &address);
        ns.delete();
        switch.wait_until_gone(&ns.name);
        canary.wait_until_gone();
        assert!(!switch.ok(&["fdb"]).contains(&ns.name), "its addresses are forgotten");
        // The same name and address again, at once.
        ns.add();
        assert_eq!(switch.attach(&[&ns.name, "--type", kind]), address);
        ping(&stays, &address);
    }
}

#[test]
fn a_process_that_ends_takes_the_port_along() {
    let Some(()) = privileged() else { return };
    let (switch, stays) = (Switch::new(), TestNs::new("waits"));
    switch.attach(&[&stays.name]);
    let mut process = holder(&switch);
    let canary = Canary::put("cage-p", &process.pid());
    let line = switch.ok(&["attach", &process.pid()]);
    let name = line.split(':').next().unwrap().to_owned();
    assert_eq!(name, format!("sleep-{}", process.pid()));
    ping(&stays, line.split_once(": ").unwrap().1.split_once('/').unwrap().0);
    process.kill();
    switch.wait_until_gone(&name);
    canary.wait_until_gone();
}

#[test]
fn an_interface_that_is_deleted_inside_frees_its_port() {
    let Some(()) = privileged() else { return };
    for kind in ["tap", "veth"] {
        let (switch, ns) = (Switch::new(), TestNs::new("deletes"));
        let address = switch.attach(&[&ns.name, "--type", kind]);
        ip(&["-n", &ns.name, "link", "delete", "eth0"]);
        switch.wait_until_gone(&ns.name);
        assert_eq!(switch.attach(&[&ns.name, "--type", kind]), address);
    }
}

#[test]
fn detach_waits_until_the_interface_is_gone() {
    let Some(()) = privileged() else { return };
    let (switch, ns) = (Switch::new(), TestNs::new("detach"));
    for by in ["name", "namespace"] {
        for kind in ["tap", "veth"] {
            switch.ok(&["attach", &ns.name, "--name", "web", "--type", kind]);
            switch.ok(&["detach", if by == "name" { "web" } else { &ns.name }]);
            // (The kernel removes a veth pair in the background: attach knows that and tries again.)
            assert!(kind == "veth" || !ip(&["-n", &ns.name, "link"]).contains("eth0"), "by {by}, {kind}");
        }
    }
    assert_eq!(switch.attached(), Vec::<String>::new());
}

#[test]
fn settings_are_obeyed() {
    let Some(()) = privileged() else { return };
    let (switch, a, b) = (Switch::new(), TestNs::new("set-a"), TestNs::new("set-b"));
    switch.ok(&["attach", &a.name, "--name", "a", "--isolated", "--mac", "02:00:00:00:00:0a", "--mtu", "1400", "--ifname", "net0"]);
    let to = switch.attach(&[&b.name, "--name", "b", "--isolated"]);
    let reaches = || inside(&a, &["ping", "-c", "1", "-W", "1", &to]).stdout(Stdio::null()).status().unwrap().success();
    assert!(ip(&["-n", &a.name, "link", "show", "net0"]).contains("mtu 1400"));
    // L17: isolated from each other, both reach the gateway.
    assert!(!reaches());
    ping(&a, "10.88.0.1");
    switch.ok(&["set", "b", "isolated=off"]);
    assert!(reaches());
    // L08: the guard.
    let before = switch.drops("spoof");
    send_frames(&a, "net0", &[&format!("ffffffffffff02000000bb0188b5{}", "00".repeat(46))]);
    wait_for("a foreign source address dropped", || switch.drops("spoof") == before + 1);
    switch.ok(&["set", "a", "guard=off"]);
    send_frames(&a, "net0", &[&format!("ffffffffffff02000000bb0188b5{}", "00".repeat(46))]);
    wait_for("it is learned", || switch.ok(&["fdb"]).contains("02:00:00:00:bb:01"));
    switch.ok(&["set", "b", "vlan=7"]);
    assert!(!reaches());
    switch.ok(&["set", "a", "vlan=7", "fdb-limit=2"]);
    assert!(reaches());
    let a = switch.json(&["show"])["attached"][0].clone();
    assert_eq!((a["vlan"].as_str(), a["mtu"].as_u64(), a["ifname"].as_str()), (Some("7"), Some(1400), Some("net0")));
    // Entries by hand.
    switch.ok(&["fdb", "add", "02:00:00:00:cc:01", "b", "--vlan", "7"]);
    assert!(switch.ok(&["fdb"]).lines().any(|line| line.contains("02:00:00:00:cc:01") && line.contains("static")));
    switch.ok(&["fdb", "flush"]);
    assert!(switch.ok(&["fdb"]).contains("02:00:00:00:cc:01"));
    switch.ok(&["fdb", "del", "02:00:00:00:cc:01", "--vlan", "7"]);
    assert!(!switch.ok(&["fdb"]).contains("02:00:00:00:cc:01"));
    switch.ok(&["set", "switch", "ageing=10", "group-forward=0,14"]);
    let show = switch.json(&["show"]);
    assert_eq!((show["ageing"].as_u64(), show["group_forward"].as_str()), (Some(10), Some("0,14")));
    switch.assert_balanced();
}

/// L20: a mirror is a pcap file that other tools read.
#[test]
fn a_mirror_is_a_capture() {
    let Some(()) = privileged() else { return };
    let (switch, a, b) = (Switch::new(), TestNs::new("mirror-a"), TestNs::new("mirror-b"));
    switch.ok(&["attach", &a.name, "--name", "a"]);
    let to = switch.attach(&[&b.name, "--name", "b"]);
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let mut mirror = Background::start(switch.command(&["mirror", "a", path]).stderr(Stdio::piped()));
    wait_for("the mirror's header", || std::fs::metadata(path).unwrap().len() >= 24);
    assert!(switch.fails(1, &["mirror", "a", "/dev/null"]).contains("a is mirrored already"));
    ping(&a, &to);
    let [forth, _] = iperf(&a, &b, &to);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(mirror.0.id() as i32), nix::sys::signal::Signal::SIGINT).unwrap();
    assert!(mirror.0.wait().unwrap().success());
    let mut said = String::new();
    std::io::Read::read_to_string(mirror.0.stderr.as_mut().unwrap(), &mut said).unwrap();
    let counts: Vec<u64> = said.lines().last().unwrap().split(' ').filter_map(|word| word.parse().ok()).collect();
    let output = std::process::Command::new("tcpdump").args(["-nn", "-r", path]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(text.lines().count() as u64, counts[0], "as many as it said: {said}");
    assert_eq!(text.lines().filter(|line| line.contains("ICMP echo request")).count(), 3);
    assert_eq!(text.lines().filter(|line| line.contains("ICMP echo reply")).count(), 3);
    assert!(!text.contains("bad cksum") && forth > 0);
    // Another may be started, and ends with its container.
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let mut mirror = Background::start(switch.command(&["mirror", "a", path]).stderr(Stdio::null()));
    wait_for("a second mirror", || std::fs::metadata(path).unwrap().len() >= 24);
    switch.ok(&["detach", "a"]);
    assert!(mirror.0.wait().unwrap().success());
}
