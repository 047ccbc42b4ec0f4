//! Where containers may go, and how many sessions they may have: sockets as the uplink, the host a namespace of its own, as root.
mod common;

use common::outside::{HOSTS, World, within};
use common::{Switch, TestNs, ip, privileged, wait_for};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// The host's address, and that of the one beyond its link.
const HOST: &str = "198.51.100.2";
const FAR: &str = "198.51.100.10";
const OTHER: &str = "198.51.100.11";
/// What clouds have at this address: credentials.
const METADATA: &str = "169.254.169.254";
const GATEWAY: &str = "10.77.0.1";
const LIMIT: Duration = Duration::from_secs(10);
/// What "at once" is, on a busy machine.
const AT_ONCE: Duration = Duration::from_millis(900);

struct Realm {
    switch: Switch,
    host: TestNs,
    outside: TestNs,
}

impl Realm {
    fn new(what: &str) -> Option<Self> {
        privileged()?;
        let [host, outside] = ["h", "o"].map(|end| TestNs::new(&format!("{what}-{end}")));
        let way = ["ip", "netns", "exec", &host.name].map(String::from);
        let realm = Self { switch: Switch::new().by_way_of(&way), host, outside };
        let (h, o) = (&realm.host.name, &realm.outside.name);
        ip(&["-n", h, "link", "add", "up0", "type", "veth", "peer", "name", "far0", "netns", o]);
        for (ns, iface, addresses) in [(h, "up0", &[HOST][..]), (o, "far0", &[FAR, OTHER, METADATA])] {
            for address in addresses {
                ip(&["-n", ns, "address", "add", &format!("{address}/24"), "dev", iface]);
            }
            ip(&["-n", ns, "link", "set", "lo", "up"]);
            ip(&["-n", ns, "link", "set", iface, "up"]);
        }
        ip(&["-n", h, "route", "add", "default", "via", FAR]);
        realm.switch.ok(&["up", "--subnet", "10.77.0.0/24"]);
        realm.switch.ok(&["uplink", "set", "socket"]);
        Some(realm)
    }

    fn attach(&self, name: &str, flags: &[&str]) -> TestNs {
        let ns = TestNs::new(name);
        self.switch.attach(&[&[ns.name.as_str(), "--name", name], flags].concat());
        ns
    }
}

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

/// Greets who connects, and answers datagrams, to the test's end.
fn serve(ns: &TestNs, at: SocketAddr) {
    let (tcp, udp) = within(ns, || (TcpListener::bind(at).unwrap(), UdpSocket::bind(at).unwrap()));
    std::thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            std::thread::spawn(move || {
                let _ = stream.write_all(b"!");
                // To its end.
                let _ = std::io::copy(&mut stream, &mut std::io::sink());
            });
        }
    });
    std::thread::spawn(move || {
        let mut datagram = [0; 64];
        loop {
            if let Ok((len, peer)) = udp.recv_from(&mut datagram) {
                let _ = udp.send_to(&datagram[..len], peer);
            }
        }
    });
}

fn dial(ns: &TestNs, to: SocketAddr) -> std::io::Result<TcpStream> {
    within(ns, || {
        let mut stream = TcpStream::connect_timeout(&to, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.read_exact(&mut [0])?;
        Ok(stream)
    })
}

fn reaches(ns: &TestNs, to: SocketAddr) -> TcpStream {
    dial(ns, to).unwrap_or_else(|error| panic!("{to}: {error}"))
}

/// The errno that a connection ends with, at once.
fn refusal(ns: &TestNs, to: SocketAddr) -> i32 {
    let start = Instant::now();
    let error = dial(ns, to).err().unwrap_or_else(|| panic!("{to} is connected to"));
    assert!(start.elapsed() < AT_ONCE, "{to}: {error} after {:?}", start.elapsed());
    error.raw_os_error().unwrap_or_else(|| panic!("{to}: {error}"))
}

/// ICMP prohibited is EHOSTUNREACH (net/ipv4/icmp.c, icmp_err_convert).
fn is_prohibited(ns: &TestNs, to: SocketAddr) {
    assert_eq!(refusal(ns, to), libc::EHOSTUNREACH, "{to}");
}

fn answers(ns: &TestNs, to: SocketAddr) -> bool {
    let socket = within(ns, || UdpSocket::bind("0.0.0.0:0").unwrap());
    socket.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
    socket.connect(to).unwrap();
    socket.send(b"?").unwrap();
    socket.recv(&mut [0; 64]).is_ok()
}

fn setting(realm: &Realm, name: &str, key: &str) -> String {
    let container = realm.switch.json(&["inspect", name]);
    let settings = container["settings"].as_array().unwrap_or_else(|| panic!("{container}"));
    let value = settings.iter().find_map(|setting| setting.as_str().unwrap().strip_prefix(key)?.strip_prefix('='));
    value.unwrap().into()
}

#[test]
fn the_hosts_loopback_is_closed_unless_it_is_allowed() {
    let Some(realm) = Realm::new("rloop") else { return };
    let closed = realm.attach("rclosed", &[]);
    let open = realm.attach("ropen", &["--allow", "host-loopback"]);
    serve(&realm.host, at("127.0.0.1", 8_080));
    reaches(&open, at(GATEWAY, 8_080));
    assert!(answers(&open, at(GATEWAY, 8_080)));
    assert_eq!(refusal(&closed, at(GATEWAY, 8_080)), libc::ECONNREFUSED);
    assert!(!answers(&closed, at(GATEWAY, 8_080)));
    // Live, and back: what was begun ends.
    realm.switch.ok(&["set", "rclosed", "reach=allow:host-loopback"]);
    let mut stream = reaches(&closed, at(GATEWAY, 8_080));
    realm.switch.ok(&["set", "rclosed", "reach="]);
    assert_eq!(refusal(&closed, at(GATEWAY, 8_080)), libc::ECONNREFUSED);
    // The connection has no socket any more: what is sent on it is answered with a reset.
    stream.write_all(b"?").unwrap();
    assert!(stream.read(&mut [0]).is_err(), "its connection goes on");
    reaches(&open, at(GATEWAY, 8_080));
    realm.switch.assert_balanced();
}

#[test]
fn the_first_rule_decides() {
    let Some(realm) = Realm::new("rrule") else { return };
    let flags = ["--allow", "198.51.100.10:53/udp", "--deny", "198.51.100.10:53", "--deny", "198.51.100.11"];
    let ruled = realm.attach("rruled", &flags);
    for (address, port) in [(FAR, 53), (FAR, 80), (OTHER, 80)] {
        serve(&realm.outside, at(address, port));
    }
    assert_eq!(setting(&realm, "rruled", "reach"), "allow:198.51.100.10:53/udp,deny:198.51.100.10:53,deny:198.51.100.11");
    let check = || {
        assert!(answers(&ruled, at(FAR, 53)));
        is_prohibited(&ruled, at(FAR, 53));
        is_prohibited(&ruled, at(OTHER, 80));
        reaches(&ruled, at(FAR, 80));
    };
    check();
    assert!(realm.switch.drops("reach") > 0);
    // A new daemon is told.
    realm.switch.ok(&["restart"]);
    check();
    // And so is one after a crash.
    let state = realm.switch.run_dir().join("state.json");
    wait_for("the saved rules", || std::fs::read_to_string(&state).is_ok_and(|text| text.contains("deny:198.51.100.11")));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(realm.switch.pid().unwrap()), nix::sys::signal::Signal::SIGKILL).unwrap();
    assert!(realm.switch.ok(&["restore"]).ends_with("1 restored, 0 gone\n"));
    check();
    realm.switch.ok(&["set", "rruled", "reach=deny:all"]);
    is_prohibited(&ruled, at(FAR, 80));
    realm.switch.ok(&["set", "rruled", "reach="]);
    reaches(&ruled, at(OTHER, 80));
    let said = realm.switch.fails(1, &["set", "rruled", "reach=deny:all,deny:nowhere"]);
    assert!(said.contains("rule 2: \"nowhere\" is no rule"), "{said}");
    realm.switch.assert_balanced();
}

#[test]
fn link_local_is_closed_unless_it_is_allowed() {
    let Some(realm) = Realm::new("rlink") else { return };
    let closed = realm.attach("rlclosed", &["--allow", "all"]);
    let open = realm.attach("rlopen", &["--allow", "link-local", "--deny", "169.254.169.254:81"]);
    ip(&["-n", &realm.host.name, "route", "add", METADATA, "dev", "up0"]);
    serve(&realm.outside, at(METADATA, 80));
    reaches(&open, at(METADATA, 80));
    assert!(answers(&open, at(METADATA, 80)));
    is_prohibited(&open, at(METADATA, 81));
    assert!(!answers(&closed, at(METADATA, 80)));
    let refused = within(&closed, || TcpStream::connect_timeout(&at(METADATA, 80), Duration::from_millis(500)));
    assert!(refused.is_err());
    realm.switch.assert_balanced();
}

#[test]
fn one_that_has_all_it_may_does_not_harm_another() {
    let Some(realm) = Realm::new("rmany") else { return };
    let (many, other) = (realm.attach("rmany1", &["--max-flows", "5"]), realm.attach("rother", &[]));
    serve(&realm.outside, at(FAR, 80));
    let held: Vec<TcpStream> = (0..5).map(|_| reaches(&many, at(FAR, 80))).collect();
    for _ in 0..3 {
        is_prohibited(&many, at(FAR, 80));
    }
    assert!(realm.switch.drops("nat-quota") >= 3);
    reaches(&other, at(FAR, 80));
    realm.switch.ok(&["set", "rmany1", "max-flows=6"]);
    let sixth = reaches(&many, at(FAR, 80));
    is_prohibited(&many, at(FAR, 80));
    drop((held, sixth));
    wait_for("room", || dial(&many, at(FAR, 80)).is_ok());
    realm.switch.assert_balanced();
}

/// The rules are of the container, not of an uplink; and a file has them.
#[test]
fn packets_obey_the_rules_too() {
    let Some(world) = World::new("rpacket", &[]) else { return };
    let ns = TestNs::new("rpruled");
    let rule = format!("{}:53/tcp", HOSTS[0]);
    world.switch.attach(&[&ns.name, "--name", "ruled", "--deny", &rule, "--max-flows", "3"]);
    for host in &HOSTS[..2] {
        serve(&world.outside, at(host, 53));
    }
    is_prohibited(&ns, at(HOSTS[0], 53));
    assert!(answers(&ns, at(HOSTS[0], 53)));
    // The datagram's session gives way to them.
    let _held = [0; 3].map(|_| reaches(&ns, at(HOSTS[1], 53)));
    is_prohibited(&ns, at(HOSTS[1], 53));
    assert!(world.switch.drops("reach") > 0 && world.switch.drops("nat-quota") > 0);
    let file = world.switch.ok(&["show", "--config"]);
    assert!(file.contains(&format!("reach = \"deny:{rule}\"\nmax-flows = 3\n")), "{file}");
    world.switch.ok(&["set", "ruled", "reach=", "max-flows=65536"]);
    reaches(&ns, at(HOSTS[0], 53));
    world.end();
}
