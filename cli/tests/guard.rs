//! Addresses of containers (L09, L16, L22) with the tools that users have: who may use which, who answers for whom, who listens to what.
mod common;

use common::{Background, Sniffer, Switch, TestNs, has, inside, inside_ok, ip, ping, privileged, send_frames, silent, wait_for};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Stdio;

/// In hexadecimal.
fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn mac(address: &str) -> [u8; 6] {
    let [a, b, c, d] = address.parse::<Ipv4Addr>().unwrap().octets();
    [0x02, 0x58, a, b, c, d]
}

/// An IPv4 packet from `src` with a UDP datagram, from the station `own`, to everybody.
fn udp(own: &str, src: &str, sport: u16, dport: u16) -> String {
    let mut ip = [&[0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0][..], &src.parse::<Ipv4Addr>().unwrap().octets(), &[255; 4]].concat();
    let sum = ip.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum::<u32>();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    hex(&[&[0xff; 6][..], &mac(own), &[8, 0], &ip, &sport.to_be_bytes(), &dport.to_be_bytes(), &[0, 8, 0, 0]].concat())
}

/// ARP from `own`: a request (1) or reply (2) that says that `sender` is there, about `target`.
fn arp(own: &str, operation: u8, sender: &str, target: &str) -> String {
    let [sender, target] = [sender, target].map(|address| address.parse::<Ipv4Addr>().unwrap().octets());
    let fixed = [8, 6, 0, 1, 8, 0, 6, 4, 0, operation];
    hex(&[&[0xff; 6][..], &mac(own), &fixed, &mac(own), &sender, &[0; 6], &target].concat())
}

/// A router advertisement of 2001:db8::/64 for half an hour, from the link-local address of `own`.
fn advertisement(own: &str) -> String {
    let [a, b, c, d, e, f] = mac(own);
    let src = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f];
    let dst = "ff02::1".parse::<Ipv6Addr>().unwrap().octets();
    let prefix = "2001:db8::".parse::<Ipv6Addr>().unwrap().octets();
    let prefix = [&[3, 4, 64, 0xc0, 0, 0, 7, 8, 0, 0, 7, 8, 0, 0, 0, 0][..], &prefix].concat();
    let mut message = [&[134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0][..], &[1, 1], &mac(own), &prefix].concat();
    let pseudo = [&src[..], &dst, &[0, 0, 0, message.len() as u8, 0, 0, 0, 58], &message].concat();
    let mut sum = pseudo.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    message[2..4].copy_from_slice(&(!sum as u16).to_be_bytes());
    let header = [0x60, 0, 0, 0, 0, message.len() as u8, 58, 255];
    hex(&[&[0x33, 0x33, 0, 0, 0, 1][..], &mac(own), &[0x86, 0xdd], &header, &src, &dst, &message].concat())
}

/// Events as they come.
struct Events {
    _listener: Background,
    said: BufReader<std::process::ChildStdout>,
}

impl Events {
    fn of(switch: &Switch) -> Self {
        let mut child = switch.command(&["events"]).stdout(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Self { _listener: Background(child), said }
    }

    /// The next of a kind.
    fn next(&mut self, kind: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(self.said.read_line(&mut line).unwrap() > 0, "no {kind}");
            if line.split_whitespace().nth(1) == Some(kind) {
                return line;
            }
        }
    }
}

#[test]
fn l09_no_container_sends_from_what_is_not_its_own() {
    let Some(()) = privileged() else { return };
    let (switch, a, b) = (Switch::new(), silent("own-a"), silent("own-b"));
    switch.ok(&["up", "--subnet", "10.10.1.0/24"]);
    let own = switch.attach(&[&a.name]);
    let other = switch.attach(&[&b.name, "--type", "veth"]);
    let before = switch.ok(&["show"]);
    assert!(before.contains("suppress on, unregistered flood") && before.contains("IP-GUARD"), "{before}");
    for (reason, frame) in [
        ("source-taken", udp(&own, &other, 1_000, 1_000)),
        ("source-taken", udp(&own, "10.10.1.1", 1_000, 1_000)),
        ("source-outside", udp(&own, "192.0.2.1", 1_000, 1_000)),
        ("rogue-dhcp", udp(&own, &own, 67, 68)),
        ("arp-spoof", arp(&own, 2, "192.0.2.1", &other)),
        ("rogue-ra", advertisement(&own)),
    ] {
        let before = switch.drops(reason);
        send_frames(&a, "eth0", &[&frame]);
        wait_for(reason, || switch.drops(reason) == before + 1);
    }
    // A further address of the subnet is whoever's uses it first.
    ip(&["-n", &a.name, "address", "add", "10.10.1.99/24", "dev", "eth0"]);
    inside_ok(&a, &["ping", "-c", "1", "-W", "2", "-I", "10.10.1.99", &other]);
    let before = switch.drops("source-taken");
    send_frames(&b, "eth0", &[&udp(&other, "10.10.1.99", 1, 1)]);
    wait_for("the further address is taken", || switch.drops("source-taken") == before + 1);
    // Off for one port, it may be anybody.
    let mut heard = Sniffer::start(&b, "eth0", "1", "src host 192.0.2.1");
    switch.ok(&["set", &a.name, "ip-guard=off"]);
    send_frames(&a, "eth0", &[&udp(&own, "192.0.2.1", 1_000, 1_000)]);
    assert!(heard.next().contains("192.0.2.1"));
    let inspected = switch.json(&["inspect", &a.name]);
    assert!(inspected["settings"].as_array().unwrap().iter().any(|setting| setting == "ip-guard=off"), "{inspected}");
    // It stays off for the daemon that follows.
    switch.ok(&["restart"]);
    assert!(switch.json(&["inspect", &a.name])["settings"].as_array().unwrap().iter().any(|setting| setting == "ip-guard=off"));
    switch.assert_balanced();
}

/// CVE-2020-13401: what a container advertises, its neighbours' kernels would take for their router.
#[test]
fn l09_a_rogue_router_advertisement_changes_no_neighbour() {
    let Some(()) = privileged() else { return };
    let (switch, a, b) = (Switch::new(), TestNs::new("ra-a"), TestNs::new("ra-b"));
    switch.ok(&["up", "--subnet", "10.10.1.0/24"]);
    let own = switch.attach(&[&a.name]);
    switch.attach(&[&b.name]);
    inside_ok(&b, &["sysctl", "-q", "-w", "net.ipv6.conf.eth0.accept_ra=2"]);
    let routes = || ip(&["-n", &b.name, "-6", "route"]);
    send_frames(&a, "eth0", &[&advertisement(&own)]);
    wait_for("it is dropped", || switch.drops("rogue-ra") >= 1);
    assert!(!routes().contains("2001:db8:"), "{}", routes());
    switch.ok(&["set", &a.name, "ip-guard=off"]);
    send_frames(&a, "eth0", &[&advertisement(&own)]);
    wait_for("without the guard the neighbour believes it", || routes().contains("2001:db8:"));
}

#[test]
fn arp_is_answered_for_who_is_known_and_nobody_else_is_asked() {
    let Some(()) = privileged().and_then(|()| has(&["arping"])) else { return };
    let (switch, all) = (Switch::new(), ["arp-a", "arp-b", "arp-c"].map(silent));
    switch.ok(&["up", "--subnet", "10.10.1.0/24"]);
    let [own, other, _] = [0, 1, 2].map(|number: usize| switch.attach(&[&all[number].name]));
    let [a, b, c] = &all;
    let mut asked = Sniffer::start(c, "eth0", "1", "arp");
    let said = inside_ok(a, &["arping", "-c", "2", "-I", "eth0", &other]);
    assert!(said.to_lowercase().contains("02:58:0a:0a:01:03") && said.contains("Received 2 response"), "{said}");
    ping(a, &other);
    // RFC 5227: who asks as if to take it is told that it is taken; its own and a free one are not.
    let probe = ["arping", "-D", "-c", "1", "-w", "1", "-I", "eth0", &other];
    assert!(!inside(a, &probe).output().unwrap().status.success(), "taken");
    assert!(switch.drops("duplicate-claim") > 0);
    let mut events = Events::of(&switch);
    // Again and again: when it is told is up to who listens.
    let again = format!("while sleep 0.3; do {} >/dev/null; done", probe.join(" "));
    let mut prober = Background::start(&mut inside(a, &["sh", "-c", &again]));
    let told = events.next("duplicate");
    prober.kill();
    assert!(told.contains(&a.name) && told.contains(&format!("{other} is {}'s", b.name)), "{told}");
    // Claims of it end at the switch.
    let before = switch.drops("duplicate-claim");
    send_frames(a, "eth0", &[&arp(&own, 1, &other, &other), &arp(&own, 2, &other, &other)]);
    wait_for("both are refused", || switch.drops("duplicate-claim") == before + 2);
    // L22: what it announces of its own is the first frame that the third one sees.
    inside_ok(a, &["arping", "-U", "-c", "1", "-I", "eth0", "-s", &own, &own]);
    let first = asked.next();
    assert!(first.contains(&own) && !first.contains(&other), "{first}");
    // Without suppression the third one is asked.
    switch.ok(&["set", "switch", "suppress=off"]);
    let mut asked = Sniffer::start(c, "eth0", "1", "arp");
    inside_ok(a, &["arping", "-c", "1", "-I", "eth0", &other]);
    let seen = asked.next();
    assert!(seen.contains(&format!("who-has {other}")) || seen.contains(&other), "{seen}");
    switch.ok(&["restart"]);
    assert!(switch.ok(&["show"]).contains("suppress off"), "it is kept");
    switch.assert_balanced();
}

#[test]
fn neighbours_find_each_other_in_ipv6_and_duplicates_are_found() {
    let Some(()) = privileged() else { return };
    let (switch, a, b) = (Switch::new(), TestNs::new("nd-a"), TestNs::new("nd-b"));
    switch.ok(&["up", "--subnet", "10.10.1.0/24"]);
    for ns in [&a, &b] {
        switch.attach(&[&ns.name]);
    }
    let ip6 = |ns: &TestNs| switch.json(&["inspect", &ns.name])["ip6"].as_str().unwrap().to_owned();
    let other = ip6(&b);
    wait_for("IPv6 is ready", || inside(&a, &["ping", "-c", "1", "-W", "1", &other]).output().unwrap().status.success());
    ping(&a, &other);
    let local = ip(&["-n", &b.name, "-6", "-o", "address", "show", "dev", "eth0", "scope", "link"]);
    let local = local.split_whitespace().nth(3).unwrap().split('/').next().unwrap().to_owned();
    let local = format!("{local}%eth0");
    // Once it is no longer tentative.
    wait_for("it is at its link-local address", || {
        inside(&a, &["ping", "-c", "1", "-W", "1", &local]).output().unwrap().status.success()
    });
    // RFC 4862 5.4.3: the kernel is told that the address is another's, and does not use it.
    let before = switch.drops("duplicate-claim");
    ip(&["-n", &a.name, "address", "add", &format!("{other}/64"), "dev", "eth0"]);
    wait_for("it is found to be a duplicate", || {
        ip(&["-n", &a.name, "-6", "address", "show", "dev", "eth0"]).contains("dadfailed")
    });
    assert!(switch.drops("duplicate-claim") > before);
    ping(&b, &ip6(&a));
    switch.assert_balanced();
}

/// Joins groups and says a line for each datagram that it gets.
fn listener(ns: &TestNs, groups: &[&str], port: u16) -> (Background, BufReader<std::process::ChildStdout>) {
    let script = "import socket, struct, sys\n\
                  s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
                  s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n\
                  s.bind(('', int(sys.argv[1])))\n\
                  for g in sys.argv[2:]:\n\
                  \x20   s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(g) + socket.inet_aton('0.0.0.0'))\n\
                  print('joined', flush=True)\n\
                  while True:\n\
                  \x20   data, who = s.recvfrom(2000)\n\
                  \x20   print(who[0], data.decode(), flush=True)\n\
                  \x20   s.sendto(b'here', who)\n";
    let mut command = vec!["python3", "-c", script];
    let port = port.to_string();
    command.push(&port);
    command.extend(groups);
    let mut child = inside(ns, &command).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert_eq!(line, "joined\n");
    (Background(child), said)
}

/// Asks a group, and gets an answer by unicast.
fn discover(ns: &TestNs, group: &str, port: u16) -> bool {
    let script = "import socket, sys\n\
                  s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
                  s.settimeout(2)\n\
                  s.sendto(b'anybody?', (sys.argv[1], int(sys.argv[2])))\n\
                  assert s.recvfrom(100)[0] == b'here'\n";
    inside(ns, &["python3", "-c", script, group, &port.to_string()]).stderr(Stdio::null()).output().unwrap().status.success()
}

/// users-want 4f: what finds its like by multicast does so between containers.
#[test]
fn l16_mdns_and_ssdp_work_and_groups_go_to_their_members() {
    const SSDP: &str = "239.255.255.250";
    const OURS: &str = "239.10.1.1";
    let Some(()) = privileged() else { return };
    let (switch, all) = (Switch::new(), ["group-a", "group-b", "group-c"].map(silent));
    switch.ok(&["up", "--subnet", "10.10.1.0/24", "--unregistered", "drop"]);
    for ns in &all {
        switch.attach(&[&ns.name]);
    }
    let [a, b, c] = &all;
    let _mdns = listener(b, &["224.0.0.251"], 5_353);
    let _ssdp = listener(b, &[SSDP], 1_900);
    assert!(discover(a, "224.0.0.251", 5_353) && discover(a, SSDP, 1_900), "before anything is known");
    assert!(inside_ok(b, &["ip", "maddr", "show", "dev", "eth0"]).contains(SSDP));
    let mut ours = listener(b, &[OURS], 4_000);
    let row = |group: &str| {
        let groups = switch.json(&["groups"]);
        let rows = groups.as_array().unwrap().iter().filter(|row| row["group"] == group);
        rows.map(|row| row["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    wait_for("the reports are heard", || row(SSDP) == [b.name.as_str()] && row(OURS) == [b.name.as_str()]);
    let text = switch.ok(&["groups"]);
    assert!(text.lines().next().unwrap().contains("GROUP") && text.contains("01:00:5e:7f:ff:fa"), "{text}");
    // From 10 s after the first query on members are relied on.
    std::thread::sleep(vswitch_switch::groups::RESPONSE);
    let mut seen = Sniffer::start(c, "eth0", "1", "udp and host 239.10.1.1 or udp port 5353");
    for group in [OURS, "224.0.0.251"] {
        assert!(discover(a, group, if group == OURS { 4_000 } else { 5_353 }), "{group}");
    }
    assert!(discover(a, SSDP, 1_900));
    let first = seen.next();
    assert!(first.contains("224.0.0.251"), "the third one got what it did not ask for: {first}");
    // It leaves: asked whether somebody still listens, and then it gets nothing.
    ours.0.kill();
    wait_for("the membership ends", || row(OURS).is_empty());
    assert_eq!(row(SSDP), [b.name.as_str()]);
    assert!(!discover(a, OURS, 4_000));
    switch.assert_balanced();
}
