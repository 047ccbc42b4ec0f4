//! Names: the gateway asks the resolvers of the host, which is a namespace with an /etc/netns/NAME/resolv.conf of its own.
mod common;

use common::outside::within;
use common::{Background, Switch, TestNs, has, inside, inside_ok, ip, privileged, wait_for};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

const GATEWAY: &str = "10.77.0.1";
/// Outside: one without a resolver, which refuses, and two with.
const REFUSES: &str = "198.51.100.1";
const FIRST: &str = "198.51.100.3";
const SECOND: &str = "198.51.100.4";
/// There is nobody.
const DEAD: &str = "198.51.100.9";
/// A resolver: each A record is the address it was given, what begins with "big" does not fit into a datagram, "keep" may be kept, and "lower"
/// is answered in lower case by UDP. It writes down what it is asked.
const RESOLVER: &str = r#"
import socket, struct, sys, threading
here, address = sys.argv[1], socket.inet_aton(sys.argv[2])
log = open(sys.argv[3], "a")
def answer(query, is_tcp):
    end = 12
    while query[end]:
        end += 1 + query[end]
    question = query[12:end + 5]
    print(question[:-5].lower(), is_tcp, file=log, flush=True)
    if question[1:6].lower() == b"lower" and not is_tcp:
        question = question[:-4].lower() + question[-4:]
    big = query[13:16].lower() == b"big"
    if big and not is_tcp:
        return query[:2] + struct.pack("!HHHHH", 0x8380, 1, 0, 0, 0) + question
    count = (100 if big else 1) if question[-4:-2] == b"\0\1" else 0
    ttl = b"\x3c" if question[1:5].lower() == b"keep" else b"\0"
    record = b"\xc0\x0c\0\1\0\1\0\0\0" + ttl + b"\0\4" + address
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
    /// What the resolvers were asked.
    asked: tempfile::NamedTempFile,
}

fn resolver(ns: &TestNs, here: &str, address: &str, log: &std::path::Path) -> Background {
    let words = ["python3", "-c", RESOLVER, here, address, log.to_str().unwrap()];
    let mut resolver = Background(inside(ns, &words).stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(resolver.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    resolver
}

impl World {
    fn new(label: &str, resolv_conf: &str) -> Option<Self> {
        privileged()?;
        has(&["curl", "dig", "python3"])?;
        let [host, outside, web] = ["h", "o", "w"].map(|end| TestNs::new(&format!("{label}{end}")));
        ip(&["-n", &host.name, "link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", &outside.name]);
        ip(&["-n", &host.name, "addr", "add", "198.51.100.2/24", "dev", "up0"]);
        for address in [REFUSES, FIRST, SECOND] {
            ip(&["-n", &outside.name, "addr", "add", &format!("{address}/24"), "dev", "eth0"]);
        }
        for (ns, link) in [(&host, "up0"), (&host, "lo"), (&outside, "eth0"), (&outside, "lo")] {
            ip(&["-n", &ns.name, "link", "set", link, "up"]);
        }
        let asked = tempfile::NamedTempFile::new().unwrap();
        let resolvers = vec![
            resolver(&outside, FIRST, "203.0.113.1", asked.path()),
            resolver(&outside, SECOND, "203.0.113.2", asked.path()),
            resolver(&host, "127.0.0.53", "203.0.113.53", asked.path()),
        ];
        let etc = Etc::new(&host);
        etc.write(resolv_conf);
        let way = ["ip", "netns", "exec", &host.name].map(String::from);
        let switch = Switch::new().by_way_of(&way);
        switch.ok(&["up", "--subnet", "10.77.0.0/24"]);
        switch.attach(&[&web.name, "--name", "web"]);
        Some(Self { switch, etc, web, host, _outside: outside, _resolvers: resolvers, asked })
    }

    /// What dig says in the container.
    fn dig(&self, words: &[&str]) -> String {
        let output = inside(&self.web, &[&["dig", "+tries=1", "+time=12"], words].concat()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// How often the resolvers were asked for what has this in it.
    fn times(&self, part: &str) -> usize {
        std::fs::read_to_string(self.asked.path()).unwrap().lines().filter(|line| line.contains(part)).count()
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
    let expected = format!("# vswitch: the gateway\nnameserver {GATEWAY}\nsearch vswitch.internal example\noptions ndots:1\n");
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
    // Without an uplink there are still the containers' names.
    switch.ok(&["uplink", "set", "none"]);
    assert_eq!(switch.ok(&["run", "--", "cat", "/etc/resolv.conf"]), expected);
    switch.assert_balanced();
}

#[test]
fn containers_answer_by_name_whatever_the_uplink() {
    let Some(world) = World::new("dnsf", &format!("nameserver {FIRST}\n")) else { return };
    let switch = &world.switch;
    let other = TestNs::new("dnsfd");
    let line = switch.attach(&[&other.name, "--name", "Db", "--alias", "data", "--alias", "api.test"]);
    assert_eq!(line, "10.77.0.3");
    let gateway = at(GATEWAY);
    let ip6 = switch.json(&["names"])[0]["ip6"].as_str().unwrap().to_owned();
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("page"), "hello\n").unwrap();
    let web = ["python3", "-m", "http.server", "-d", files.path().to_str().unwrap(), "-b", "::", "8000"];
    let _web = Background::start(&mut inside(&other, &web));
    let packet = ["uplink", "set", "packet", "up0", "--ip", "198.51.100.7/24"];
    for (uplink, outside) in [(None, "NOERROR"), (Some(&packet[..]), "NOERROR"), (Some(&["uplink", "set", "none"]), "REFUSED")] {
        if let Some(words) = uplink {
            switch.ok(words);
        }
        for name in ["db", "DB.vswitch.internal", "data", "data.vswitch.internal", "api.test"] {
            for way in ["+notcp", "+tcp"] {
                assert_eq!(world.address(&[&gateway, way, name]), "10.77.0.3\n", "{name}, {way}, {uplink:?}");
                assert_eq!(world.address(&[&gateway, way, name, "AAAA"]).trim(), ip6, "{name}, {way}, {uplink:?}");
            }
        }
        for address in ["10.77.0.3", &ip6] {
            assert_eq!(world.address(&[&gateway, "-x", address]), "Db.vswitch.internal.\n", "{address}");
        }
        assert_eq!(world.address(&[&gateway, "gateway"]), "10.77.0.1\n");
        for unknown in [&["nobody"][..], &["nobody.vswitch.internal"], &["-x", "10.77.0.99"]] {
            for way in ["+notcp", "+tcp"] {
                let said = world.dig(&[&[gateway.as_str(), way][..], unknown].concat());
                assert!(said.contains("status: NXDOMAIN") && said.contains("flags: qr aa rd"), "{said}");
            }
        }
        for way in ["+notcp", "+tcp"] {
            let said = world.dig(&[&gateway, way, "www.example"]);
            assert!(said.contains(&format!("status: {outside}")), "{way}, {uplink:?}: {said}");
        }
        let found = switch.ok(&["run", "--", "getent", "ahostsv4", "data"]);
        assert!(found.starts_with("10.77.0.3 "), "{found}");
        for family in ["-4", "-6"] {
            let url = [
                "curl",
                family,
                "-sS",
                "-m",
                "10",
                "--retry",
                "20",
                "--retry-connrefused",
                "http://data.vswitch.internal:8000/page",
            ];
            assert_eq!(switch.ok(&[&["run", "--"], &url[..]].concat()), "hello\n", "{uplink:?}");
        }
    }
    // None of it was asked of a resolver.
    for part in ["internal", "data", "db'", "nobody", "api", "in-addr", "ip6"] {
        assert_eq!(world.times(part), 0, "{part}: {}", std::fs::read_to_string(world.asked.path()).unwrap());
    }
    assert_eq!((world.times("www"), world.times("True")), (4, 2));
    switch.assert_balanced();
}

/// Many in one connection, one after another and at once, and what is no question.
const BY_TCP: &str = r#"
import socket, struct, sys, threading
def query(number, name):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    message = struct.pack("!HHHHHH", number, 0x100, 1, 0, 0, 0) + labels + b"\0\0\1\0\1"
    return struct.pack("!H", len(message)) + message
def answer(connection):
    (length,) = struct.unpack("!H", connection.recv(2, socket.MSG_WAITALL))
    message = connection.recv(length, socket.MSG_WAITALL)
    assert len(message) == length, (len(message), length)
    number, flags, _, answers = struct.unpack("!HHHH", message[:8])
    return number, flags & 15, answers
def connect():
    return socket.create_connection((sys.argv[1], 53), timeout=20)
one = connect()
for number in range(50):
    one.sendall(query(number, "db"))
    assert answer(one) == (number, 0, 1)
# At once, those of a resolver beside ours; they may come in any order.
names = ["big.example", "db", "www.example", "nobody", "keep.example"] * 20
one.sendall(b"".join(query(number, name) for number, name in enumerate(names)))
expected = {"big.example": (0, 100), "db": (0, 1), "www.example": (0, 1), "nobody": (3, 0), "keep.example": (0, 1)}
got = dict((number, rest) for number, *rest in (answer(one) for _ in names))
assert got == {number: list(expected[name]) for number, name in enumerate(names)}, got
# Who has said all gets what is missing, and then the end.
one.sendall(query(7, "big.example") + query(8, "db"))
one.shutdown(socket.SHUT_WR)
assert sorted(answer(one)[0] for _ in range(2)) == [7, 8] and one.recv(1) == b""
# Octet by octet.
slow = connect()
for octet in query(9, "db"):
    slow.sendall(bytes([octet]))
assert answer(slow) == (9, 0, 1)
for wrong in [b"\0\0", b"\0\1?", b"\xff\xff" + b"x" * 100, b"\0\x0c" + b"\x80" * 12]:
    bad = connect()
    bad.sendall(wrong)
    try:
        assert bad.recv(1) == b"", wrong
    except ConnectionResetError:
        pass
def ask():
    with connect() as connection:
        connection.sendall(query(1, "db"))
        assert answer(connection) == (1, 0, 1)
for _ in range(10):
    threads = [threading.Thread(target=ask) for _ in range(20)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
print("good")
"#;

#[test]
fn names_are_asked_by_tcp_in_any_number_and_order() {
    let Some(world) = World::new("dnsi", &format!("nameserver {REFUSES}\nnameserver {FIRST}\n")) else { return };
    let (switch, gateway) = (&world.switch, at(GATEWAY));
    let other = TestNs::new("dnsid");
    switch.attach(&[&other.name, "--name", "db"]);
    let packet = ["uplink", "set", "packet", "up0", "--ip", "198.51.100.7/24"];
    let before = switch.drops("gateway-malformed");
    for uplink in [None, Some(&packet[..])] {
        if let Some(words) = uplink {
            switch.ok(words);
        }
        assert!(switch.ok(&["uplink"]).trim_end().ends_with(&format!("resolvers {REFUSES}, {FIRST}")));
        assert_eq!(inside_ok(&world.web, &["python3", "-c", BY_TCP, GATEWAY]), "good\n");
        // A transfer would leak the names of all, and no stub resolver gives one.
        assert!(world.dig(&[&gateway, "example", "AXFR"]).contains("Transfer failed"));
        assert!(world.dig(&[&gateway, "vswitch.internal", "AXFR"]).contains("Transfer failed"));
    }
    assert_eq!(switch.drops("gateway-malformed"), before, "a connection is reset, no frame is lost");
    for part in ["db", "nobody", "internal"] {
        assert_eq!(world.times(part), 0, "{part}");
    }
    let names = switch.json(&["stats"])["names"].clone();
    assert!(names["by_tcp"].as_u64().unwrap() > 700, "{names}");
    // A container may have the port for itself.
    switch.ok(&["uplink", "set", "socket"]);
    let served = Background(
        inside(&other, &["python3", "-c", RESOLVER, "10.77.0.3", "203.0.113.77", "/dev/null"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap(),
    );
    switch.ok(&["publish", "198.51.100.2:53:53/tcp", "db"]);
    wait_for("the container's answer", || world.address(&[&gateway, "+tcp", "www.example"]) == "203.0.113.77\n");
    assert_eq!(world.address(&[&gateway, "www.example"]), "203.0.113.1\n", "by UDP it is the gateway's still");
    switch.ok(&["unpublish", "198.51.100.2:53/tcp"]);
    assert_eq!(world.address(&[&gateway, "+tcp", "www.example"]), "203.0.113.1\n");
    drop(served);
    switch.ok(&["restart"]);
    assert_eq!(world.address(&[&gateway, "+tcp", "db"]), "10.77.0.3\n");
    switch.assert_balanced();
}

#[test]
fn names_come_and_go_with_containers() {
    let Some(world) = World::new("dnsg", &format!("nameserver {FIRST}\n")) else { return };
    let (switch, gateway) = (&world.switch, at(GATEWAY));
    let other = TestNs::new("dnsgd");
    for words in [&["--name", "WEB"][..], &["--name", "db", "--alias", "Web"]] {
        let said = switch.fails(1, &[&["attach", &other.name], words].concat());
        assert!(said.contains("is taken by \"web\" (port 1, 10.77.0.2)"), "{said}");
    }
    switch.attach(&[&other.name, "--name", "db", "--alias", "data"]);
    assert!(switch.fails(1, &["set", "web", "aliases=DATA"]).contains("is taken by \"db\""));
    switch.ok(&["set", "db", "aliases=store"]);
    assert_eq!([world.address(&[&gateway, "data"]), world.address(&[&gateway, "store"])], ["", "10.77.0.3\n"]);
    let names: Vec<_> =
        switch.ok(&["names"]).lines().skip(1).map(|line| line.split_whitespace().next().unwrap().to_owned()).collect();
    assert_eq!(names, ["db", "gateway", "store", "web"]);
    // Who takes over has them, and so has who comes back after a crash by the same state.
    switch.ok(&["restart"]);
    assert_eq!(world.address(&[&gateway, "store"]), "10.77.0.3\n");
    switch.ok(&["detach", "db"]);
    assert!(world.dig(&[&gateway, "store"]).contains("NXDOMAIN") && world.dig(&[&gateway, "-x", "10.77.0.3"]).contains("NXDOMAIN"));
    // The host asks by its own port.
    switch.ok(&["attach", "--host", "--name", "here"]);
    assert_eq!(inside_ok(&world.host, &["dig", "+short", &gateway, "web.vswitch.internal"]), "10.77.0.2\n");
    assert!(world.address(&[&gateway, "here"]).starts_with("10.77.0."));
    switch.assert_balanced();
}

#[test]
fn what_was_asked_before_is_not_asked_again() {
    let Some(world) = World::new("dnsh", &format!("nameserver {FIRST}\n")) else { return };
    let (switch, gateway) = (&world.switch, at(GATEWAY));
    for name in ["keep.example", "KEEP.example", "keep.Example", "keep.example"] {
        let said = world.dig(&[&gateway, name]);
        assert!(said.contains(&format!("{name}.")) && said.contains("203.0.113.1"), "{said}");
    }
    assert_eq!(world.times("keep"), 1);
    for _ in 0..2 {
        assert_eq!(world.address(&[&gateway, "www.example"]), "203.0.113.1\n");
    }
    assert_eq!(world.times("www"), 2, "it may not be kept");
    let names = switch.json(&["stats"])["names"].clone();
    assert_eq!((names["cached"].as_u64(), names["entries"].as_u64()), (Some(3), Some(1)), "{names}");
    // Other resolvers, another world.
    world.etc.write(&format!("nameserver {SECOND}\n"));
    wait_for("the other resolver", || world.address(&[&gateway, "keep.example"]) == "203.0.113.2\n");
    // Right but for the case of letters: not believed, until it comes by TCP. Digits have none, and a few letters may be drawn as they are.
    assert_eq!(world.address(&[&gateway, "lower-abcdefghijklmnopqrstuvwxyz.example"]), "203.0.113.2\n");
    assert_eq!(world.times("lower-abcdefghijklmnopqrstuvwxyz"), 3, "twice by UDP, then by TCP");
    let names = switch.json(&["stats"])["names"].clone();
    assert_eq!((names["other_case"].as_u64(), names["failed"].as_u64()), (Some(2), Some(1)), "{names}");
    switch.assert_balanced();
}

/// What goes by on the host's uplink to or from port 53, a line each.
struct Capture(Background);

impl Capture {
    fn start(ns: &TestNs, link: &str) -> Self {
        let args = ["tcpdump", "--immediate-mode", "-l", "-nn", "-t", "-i", link, "port 53"];
        let mut tcpdump = inside(ns, &args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(tcpdump.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("listening on") {
            line.clear();
            assert!(said.read_line(&mut line).unwrap() > 0, "tcpdump does not listen");
        }
        Self(Background(tcpdump))
    }

    /// All of it, by the end that is not the resolver's.
    fn end(mut self) -> BTreeMap<String, Vec<String>> {
        // What it has seen last is on its way to us.
        std::thread::sleep(Duration::from_millis(200));
        self.0.kill();
        let mut flows: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in BufReader::new(self.0.0.stdout.take().unwrap()).lines() {
            // "IP A.PORT > B.PORT: ...": a question's letters come in any case.
            let line = line.unwrap().to_lowercase();
            let (from, rest) = line.split_once(' ').unwrap().1.split_once(" > ").unwrap();
            let to = rest.split_once(": ").unwrap().0;
            flows.entry(if from.ends_with(".53") { to } else { from }.into()).or_default().push(line);
        }
        flows
    }
}

#[test]
fn no_name_of_the_inside_leaves_the_host() {
    let Some(world) = World::new("dnsj", &format!("nameserver {FIRST}\nnameserver {SECOND}\n")) else { return };
    let (switch, gateway) = (&world.switch, at(GATEWAY));
    let other = TestNs::new("dnsjd");
    switch.attach(&[&other.name, "--name", "db", "--alias", "data", "--alias", "api.test"]);
    let ip6 = switch.json(&["names"])[0]["ip6"].as_str().unwrap().to_owned();
    let unknown6 = format!("{}:9999", ip6.rsplit_once(':').unwrap().0);
    let inside_names = [
        "db",
        "DB.vswitch.internal",
        "data",
        "data.vswitch.internal",
        "api.test",
        "gateway",
        "web",
        "nobody",
        "com",
        "localhost",
        "nobody.vswitch.internal",
        "_http._tcp.db",
        "_http._tcp.db.vswitch.internal",
        "www.example.vswitch.internal",
        "vswitch.internal",
    ];
    let mut questions: Vec<Vec<&str>> = Vec::new();
    for name in inside_names {
        questions.extend(["A", "AAAA", "MX", "TXT", "SRV", "ANY", "TYPE65"].map(|kind| vec![name, kind]));
    }
    questions.extend(["10.77.0.1", "10.77.0.3", "10.77.0.99", &ip6, &unknown6].map(|address| vec!["-x", address]));
    let packet = ["uplink", "set", "packet", "up0", "--ip", "198.51.100.7/24"];
    for uplink in [None, Some(&packet[..]), Some(&["uplink", "set", "none"])] {
        if let Some(words) = uplink {
            switch.ok(words);
        }
        let capture = Capture::start(&world.host, "up0");
        for way in ["+notcp", "+tcp"] {
            // One dig for all; its flags are each question's.
            let words: Vec<&str> = questions
                .iter()
                .flat_map(|question| [&[gateway.as_str(), way, "+tries=1"], question.as_slice()].concat())
                .collect();
            let said = world.dig(&words);
            assert_eq!(said.matches("status: ").count(), questions.len(), "{way}, {uplink:?}: {said}");
            let answered = said.matches("status: NOERROR").count() + said.matches("status: NXDOMAIN").count();
            assert_eq!(answered, questions.len(), "{way}, {uplink:?}: {said}");
            let said = world.dig(&[&gateway, way, "www.example"]);
            assert!(said.contains(if uplink == Some(&["uplink", "set", "none"]) { "REFUSED" } else { "203.0.113.1" }), "{said}");
        }
        let flows = capture.end();
        if uplink == Some(&["uplink", "set", "none"]) {
            assert_eq!(flows, BTreeMap::new());
            continue;
        }
        let all: Vec<&String> = flows.values().flatten().collect();
        for (client, packets) in &flows {
            assert!(
                packets.iter().any(|packet| packet.contains(" a? www.example. ")),
                "{client} asks for something else: {packets:#?}"
            );
        }
        for packet in &all {
            assert!(!packet.contains("? ") || packet.contains(" a? www.example. "), "{packet}");
            for part in ["internal", "arpa", "nobody", "data"] {
                assert!(!packet.contains(part), "{packet}");
            }
        }
        let is_tcp = |packets: &&Vec<String>| packets[0].contains("flags [s]");
        assert_eq!((flows.len(), flows.values().filter(is_tcp).count()), (2, 1), "one by UDP, one by TCP: {all:#?}");
    }
    switch.assert_balanced();
}

/// Questions in one call of the kernel's, which goes as one frame where the interface takes such, and each one's answer.
const AT_ONCE: &str = r#"
import socket, struct, sys
UDP_SEGMENT = 103
server, count = sys.argv[1], int(sys.argv[2])
kinds = [("web.vswitch.internal", (0, 1)), ("xyz.vswitch.internal", (3, 0)), ("www.abcdefgh.example", (0, 1)), ("keep.abcdefg.example", (0, 1))]
def query(number, name):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!HHHHHH", number, 0x100, 1, 0, 0, 0) + labels + b"\0\0\1\0\1"
asked = {number: kinds[number % len(kinds)] for number in range(count)}
messages = [query(number, name) for number, (name, _) in asked.items()]
size = len(messages[0])
assert all(len(message) == size for message in messages)
# The last one may be shorter.
asked[count] = ("web", (0, 1))
messages.append(query(count, "web"))
s = socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, size)
s.settimeout(8)
s.sendto(b"".join(messages), (server, 53))
got = {}
try:
    while len(got) < len(asked):
        said = s.recv(4096)
        number, flags, _, answers = struct.unpack("!HHHH", said[:8])
        assert number not in got, number
        assert said[12:].startswith(query(number, asked[number][0])[12:]), number
        got[number] = (flags & 15, answers)
except TimeoutError:
    pass
assert got == {number: said for number, (_, said) in asked.items()}, got
print("good")
"#;

#[test]
fn each_of_the_questions_in_a_batch_is_answered() {
    let Some(world) = World::new("dnsk", &format!("nameserver {FIRST}\n")) else { return };
    let switch = &world.switch;
    let veth = TestNs::new("dnskv");
    switch.attach(&[&veth.name, "--name", "other", "--type", "veth"]);
    let show = switch.json(&["show"]);
    let gateway6 = show["gateway6"].as_str().unwrap().split_once('/').unwrap().0;
    let packet = ["uplink", "set", "packet", "up0", "--ip", "198.51.100.7/24"];
    for uplink in [None, Some(&packet[..])] {
        if let Some(words) = uplink {
            switch.ok(words);
        }
        for (ns, name) in [(&world.web, "web"), (&veth, "other")] {
            for server in [GATEWAY, gateway6] {
                // Who the gateway is at its address is known already.
                inside_ok(ns, &["dig", "+tries=1", "+time=12", &at(server), "web"]);
                let before = switch.port(name)["rx_frames"].as_u64().unwrap();
                assert_eq!(inside_ok(ns, &["python3", "-c", AT_ONCE, server, "48"]), "good\n", "{name}, {server}, {uplink:?}");
                let frames = switch.port(name)["rx_frames"].as_u64().unwrap() - before;
                // TUN_F_USO4 and TUN_F_USO6: then it was one, or few with what else is said.
                if switch.port(name)["offload"].as_u64().unwrap() & 0x60 == 0x60 {
                    assert!(frames < 10, "{name}, {server}: {frames} frames are no batch");
                }
            }
        }
    }
    assert_eq!(switch.drops("gateway-malformed"), 0);
    switch.assert_balanced();
}
