//! Names: the gateway asks the resolvers of the host, which is a namespace with an /etc/netns/NAME/resolv.conf of its own.
mod common;

use common::outside::within;
use common::{Background, Switch, TestNs, inside, inside_ok, ip, privileged, skip, wait_for};
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::Stdio;

const GATEWAY: &str = "10.77.0.1";
/// Outside: one without a resolver, which refuses, and two with.
const REFUSES: &str = "198.51.100.1";
const FIRST: &str = "198.51.100.3";
const SECOND: &str = "198.51.100.4";
/// There is nobody.
const DEAD: &str = "198.51.100.9";
/// A resolver: each A record is the address it was given, and what begins with "big" does not fit into a datagram.
const RESOLVER: &str = r#"
import socket, struct, sys, threading
here, address = sys.argv[1], socket.inet_aton(sys.argv[2])
def answer(query, is_tcp):
    end = 12
    while query[end]:
        end += 1 + query[end]
    question = query[12:end + 5]
    big = query[13:16].lower() == b"big"
    if big and not is_tcp:
        return query[:2] + struct.pack("!HHHHH", 0x8380, 1, 0, 0, 0) + question
    count = (100 if big else 1) if question[-4:-2] == b"\0\1" else 0
    record = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4" + address
    return query[:2] + struct.pack("!HHHHH", 0x8180, 1, count, 0, 0) + question + record * count
def serve(connection):
    while head := connection.recv(2, socket.MSG_WAITALL):
        said = answer(connection.recv(struct.unpack("!H", head)[0], socket.MSG_WAITALL), True)
        connection.sendall(struct.pack("!H", len(said)) + said)
def listen():
    while True:
        threading.Thread(target=serve, args=(tcp.accept()[0],), daemon=True).start()
udp, tcp = socket.socket(type=socket.SOCK_DGRAM), socket.create_server((here, 53))
udp.bind((here, 53))
threading.Thread(target=listen, daemon=True).start()
print("ready", flush=True)
while True:
    query, client = udp.recvfrom(4096)
    udp.sendto(answer(query, False), client)
"#;

/// A directory of /etc/netns, removed however the test ends.
struct Etc(PathBuf);

impl Etc {
    fn new(ns: &TestNs) -> Self {
        let directory = PathBuf::from("/etc/netns").join(&ns.name);
        std::fs::create_dir_all(&directory).unwrap();
        Self(directory)
    }

    /// In place: the daemon has it as a mount.
    fn write(&self, text: &str) {
        std::fs::write(self.0.join("resolv.conf"), text).unwrap();
    }
}

impl Drop for Etc {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct World {
    // Ended first.
    switch: Switch,
    etc: Etc,
    web: TestNs,
    host: TestNs,
    _outside: TestNs,
    _resolvers: Vec<Background>,
}

fn resolver(ns: &TestNs, here: &str, address: &str) -> Background {
    let mut resolver = Background(inside(ns, &["python3", "-c", RESOLVER, here, address]).stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(resolver.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    resolver
}

impl World {
    fn new(label: &str, resolv_conf: &str) -> Option<Self> {
        privileged()?;
        for program in ["dig", "python3"] {
            if std::process::Command::new(program).arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
                skip(&format!("no {program}"))?;
            }
        }
        let [host, outside, web] = ["h", "o", "w"].map(|end| TestNs::new(&format!("{label}{end}")));
        ip(&["-n", &host.name, "link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", &outside.name]);
        ip(&["-n", &host.name, "addr", "add", "198.51.100.2/24", "dev", "up0"]);
        for address in [REFUSES, FIRST, SECOND] {
            ip(&["-n", &outside.name, "addr", "add", &format!("{address}/24"), "dev", "eth0"]);
        }
        for (ns, link) in [(&host, "up0"), (&host, "lo"), (&outside, "eth0"), (&outside, "lo")] {
            ip(&["-n", &ns.name, "link", "set", link, "up"]);
        }
        let resolvers = vec![
            resolver(&outside, FIRST, "203.0.113.1"),
            resolver(&outside, SECOND, "203.0.113.2"),
            resolver(&host, "127.0.0.53", "203.0.113.53"),
        ];
        let etc = Etc::new(&host);
        etc.write(resolv_conf);
        let way = ["ip", "netns", "exec", &host.name].map(String::from);
        let switch = Switch::new().by_way_of(&way);
        switch.ok(&["up", "--subnet", "10.77.0.0/24"]);
        switch.attach(&[&web.name, "--name", "web"]);
        Some(Self { switch, etc, web, host, _outside: outside, _resolvers: resolvers })
    }

    /// What dig says in the container.
    fn dig(&self, words: &[&str]) -> String {
        let output = inside(&self.web, &[&["dig", "+tries=1", "+time=12"], words].concat()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    fn address(&self, words: &[&str]) -> String {
        self.dig(&[&["+short"], words].concat())
    }
}

fn at(server: &str) -> String {
    format!("@{server}")
}

#[test]
fn resolvers_are_asked_in_their_order() {
    let text = format!("# a comment\nnameserver {REFUSES}\nnameserver {FIRST}\nnameserver {SECOND}\n");
    let Some(world) = World::new("dnsa", &text) else { return };
    let gateway = at(GATEWAY);
    assert_eq!(world.address(&[&gateway, "www.example"]), "203.0.113.1\n");
    assert_eq!(world.address(&[&gateway, "+tcp", "www.example"]), "203.0.113.1\n");
    assert_eq!(world.address(&[&gateway, "+noedns", "www.example"]), "203.0.113.1\n");
    // Truncated, it comes back by TCP.
    assert_eq!(world.address(&[&gateway, "big.example"]).lines().count(), 100);
    assert!(world.dig(&[&gateway, "+ignore", "big.example"]).contains("flags: qr tc rd"), "it was truncated");
    assert_eq!(world.switch.ok(&["uplink"]), format!("socket, resolvers {REFUSES}, {FIRST}, {SECOND}\n"));
    assert_eq!(world.switch.json(&["uplink"])["resolvers"], serde_json::json!([REFUSES, FIRST, SECOND]));
    let show = world.switch.json(&["show"]);
    let gateway6 = at(show["gateway6"].as_str().unwrap().split_once('/').unwrap().0);
    assert_eq!(world.address(&[&gateway6, "www.example"]), "203.0.113.1\n");
    assert_eq!(world.address(&[&gateway6, "+tcp", "www.example"]), "203.0.113.1\n");
    world.switch.assert_balanced();
}

#[test]
fn a_resolver_that_is_silent_is_passed_over() {
    let Some(world) = World::new("dnsb", &format!("nameserver {DEAD}\nnameserver {SECOND}\n")) else { return };
    let gateway = at(GATEWAY);
    assert_eq!(world.address(&[&gateway, "www.example"]), "203.0.113.2\n");
    assert_eq!(world.address(&[&gateway, "+tcp", "www.example"]), "203.0.113.2\n");
    world.switch.assert_balanced();
}

#[test]
fn resolv_conf_changes_while_it_runs() {
    let Some(world) = World::new("dnsc", &format!("nameserver {FIRST}\n")) else { return };
    let gateway = at(GATEWAY);
    assert_eq!(world.address(&[&gateway, "www.example"]), "203.0.113.1\n");
    world.etc.write(&format!("nameserver {SECOND}\n"));
    wait_for("the other resolver", || world.address(&[&gateway, "www.example"]) == "203.0.113.2\n");
    // The host's own, on an address that no container reaches itself.
    world.etc.write("nameserver 127.0.0.53\n");
    wait_for("the host's own", || world.address(&[&gateway, "www.example"]) == "203.0.113.53\n");
    assert_eq!(world.address(&[&gateway, "+tcp", "www.example"]), "203.0.113.53\n");
    // Who takes over reads it too.
    world.switch.ok(&["restart"]);
    assert_eq!(world.address(&[&gateway, "www.example"]), "203.0.113.53\n");
    // None that answers.
    world.etc.write(&format!("nameserver {REFUSES}\n"));
    wait_for("a failure", || world.dig(&[&gateway, "www.example"]).contains("status: SERVFAIL"));
    world.switch.assert_balanced();
}

#[test]
fn what_is_no_query_is_dropped_and_counted() {
    let Some(world) = World::new("dnsd", &format!("nameserver {FIRST}\n")) else { return };
    let before = world.switch.drops("gateway-malformed");
    within(&world.web, || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        for wrong in [&b"?"[..], &[0x80; 12], &[0; 30]] {
            socket.send_to(wrong, (GATEWAY, 53)).unwrap();
        }
    });
    wait_for("three drops", || world.switch.drops("gateway-malformed") == before + 3);
    assert_eq!(world.address(&[&at(GATEWAY), "www.example"]), "203.0.113.1\n");
    world.switch.assert_balanced();
}

#[test]
fn programs_find_the_gateway() {
    let Some(world) = World::new("dnse", &format!("nameserver {FIRST}\nsearch example\noptions ndots:1\n")) else { return };
    let expected = format!("# vswitch: the gateway\nnameserver {GATEWAY}\nsearch example\noptions ndots:1\n");
    let switch = &world.switch;
    assert_eq!(switch.ok(&["run", "--", "cat", "/etc/resolv.conf"]), expected);
    let looked_up = switch.ok(&["run", "--", "getent", "ahostsv4", "www"]);
    assert!(looked_up.starts_with("203.0.113.1 "), "{looked_up}");
    switch.ok(&["run", "-d", "--name", "job", "--", "sleep", "300"]);
    assert_eq!(switch.ok(&["exec", "job", "--", "cat", "/etc/resolv.conf"]), expected);
    switch.ok(&["detach", "job"]);
    // A namespace with a name.
    let named = TestNs::new("dnsen");
    let directory = PathBuf::from("/etc/netns").join(&named.name);
    let said = String::from_utf8(switch.output(&["attach", &named.name]).stderr).unwrap();
    assert!(said.contains(&format!("echo nameserver {GATEWAY} > {}/resolv.conf", directory.display())), "{said}");
    switch.ok(&["detach", &named.name]);
    switch.ok(&["attach", &named.name, "--resolv-conf"]);
    assert!(inside_ok(&named, &["cat", "/etc/resolv.conf"]).starts_with(&expected));
    assert!(inside_ok(&named, &["getent", "ahostsv4", "www"]).starts_with("203.0.113.1 "));
    switch.ok(&["detach", &named.name]);
    assert!(!directory.exists());
    // What is somebody else's stays as it is.
    let etc = Etc::new(&named);
    etc.write("nameserver 192.0.2.1\n");
    assert!(switch.fails(1, &["attach", &named.name, "--resolv-conf"]).contains(" is not ours: "));
    let quiet = switch.output(&["attach", &named.name]);
    assert_eq!((quiet.status.success(), quiet.stderr), (true, Vec::new()), "it has one");
    switch.ok(&["detach", &named.name]);
    assert_eq!(std::fs::read_to_string(directory.join("resolv.conf")).unwrap(), "nameserver 192.0.2.1\n");
    assert!(switch.fails(1, &["attach", &format!("/run/netns/{}", named.name), "--resolv-conf"]).contains("has no name"));
    // Without the host's resolvers behind the gateway, programs have the host's file.
    switch.ok(&["uplink", "set", "none"]);
    let host = inside_ok(&world.host, &["cat", "/etc/resolv.conf"]);
    assert_eq!(switch.ok(&["run", "--", "cat", "/etc/resolv.conf"]), host);
    switch.assert_balanced();
}
