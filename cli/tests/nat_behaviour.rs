//! Journeys through the uplink that judge the NAT as a whole: by another program's NAT discovery, and by ten thousand connections.
mod common;

use common::outside::{Asker, Call, HOSTS, OURS, World, any, serve, to, within};
use common::{Background, inside, inside_ok, wait_for};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// RFC 5780 by coturn: what a STUN server with two addresses and two ports sees of us, a program that we did not write.
#[test]
fn nat_discovery_finds_what_rfc_4787_asks_for() {
    let Some(world) = World::new("stun", &["turnserver", "turnutils_natdiscovery"]) else { return };
    let inmate = world.attach("client");
    let files = tempfile::tempdir().unwrap();
    let [pid, database] = ["pid", "database"].map(|name| files.path().join(name).to_str().unwrap().to_owned());
    let mut server =
        vec!["turnserver", "-n", "-S", "--no-cli", "--no-tls", "--no-dtls", "--no-tcp", "-l", "stdout", "--simple-log"];
    server.extend(["--pidfile", &pid, "-b", &database, "-L", HOSTS[0], "-L", HOSTS[1]]);
    let _server = Background::start(inside(&world.outside, &server).stdout(Stdio::null()).stderr(Stdio::null()));
    let stun = within(&world.outside, || UdpSocket::bind((HOSTS[2], 0)).unwrap());
    stun.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    // A binding request (RFC 5389 6): type, length, cookie, transaction.
    let request = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    wait_for("the STUN server", || stun.send_to(&request, (HOSTS[1], 3_479)).is_ok() && stun.recv(&mut [0; 512]).is_ok());
    let discover = |flag: &str| {
        let said = inside_ok(&inmate.ns, &["timeout", "20", "turnutils_natdiscovery", flag, HOSTS[0]]);
        assert!(said.contains(&format!("UDP reflexive addr: {OURS}:")), "{said}");
        said
    };
    // REQ-1: endpoint-independent mapping.
    let said = discover("-m");
    assert!(said.contains("NAT with Endpoint Independent Mapping!"), "{said}");
    // REQ-10: the addresses in the payload come as they were written (no ALG).
    assert!(said.contains("No ALG: Mapped == XOR-Mapped"), "{said}");
    // REQ-8: address-and-port-dependent filtering, the stricter of the two that it recommends between.
    let said = discover("-f");
    assert!(said.contains("NAT with Address and Port Dependent Filtering!"), "{said}");
    world.end();
}

/// Connections in all, of as many callers at once.
const CONNECTIONS: usize = 10_000;
const CALLERS: usize = 4;

/// Answers each connection with what it said, and ends it first.
fn echo_once(listener: &TcpListener) {
    for stream in listener.incoming() {
        let mut said = [0; 8];
        let answered = stream.and_then(|mut stream| stream.read_exact(&mut said).and_then(|()| stream.write_all(&said)));
        answered.unwrap();
    }
}

/// Calls once; the answer and the end must come in time.
fn call(number: usize) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(to(HOSTS[0], 80))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(&number.to_be_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    assert_eq!(answer, number.to_be_bytes());
    Ok(())
}

/// Sessions by state.
fn states(world: &World) -> BTreeMap<String, usize> {
    let mut states = BTreeMap::new();
    for flow in world.switch.json(&["flows"]).as_array().unwrap() {
        *states.entry(flow["state"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    states
}

/// RFC 5382 REQ-5: a closed connection keeps its session for 240 s; with them all a container is still far from its quota, for what is
/// over is not counted in it.
#[test]
fn ten_thousand_connections_none_of_which_fails() {
    let Some(world) = World::new("many", &[]) else { return };
    let inmate = world.attach("client");
    let listener = within(&world.outside, || TcpListener::bind(to(HOSTS[0], 80)).unwrap());
    for _ in 0..CALLERS {
        let listener = listener.try_clone().unwrap();
        std::thread::spawn(move || echo_once(&listener));
    }
    let start = Instant::now();
    within(&inmate.ns, || {
        std::thread::scope(|scope| {
            for caller in 0..CALLERS {
                scope.spawn(move || {
                    for number in (caller..CONNECTIONS).step_by(CALLERS) {
                        call(number).unwrap_or_else(|error| panic!("connection {number}: {error}"));
                    }
                });
            }
        });
    });
    common::say(&format!("10,000 connections in {:?}", start.elapsed()));
    // A session each, all of them over; a caller that took a port again took its session's place.
    wait_for("all closed", || states(&world).keys().all(|state| state == "closed"));
    let left = states(&world)["closed"];
    assert!((CONNECTIONS / 2..=CONNECTIONS).contains(&left), "{left} sessions");
    let masquerade = world.switch.json(&["nat"])[0].clone();
    assert_eq!(masquerade["sessions"], CONNECTIONS, "{masquerade}");
    let nat = world.switch.json(&["stats"])["nat"].clone();
    assert_eq!((&nat["sessions"], &nat["begun"], &nat["reclaimed"]), (&json!(left), &json!(CONNECTIONS), &json!(0)), "{nat}");
    assert_eq!(nat["ended"], CONNECTIONS - left, "{nat}");
    assert_eq!(world.switch.drops("nat-full") + world.switch.drops("nat-quota") + world.switch.drops("nat-ports"), 0);
    // What is over counts for nothing, and goes with the container.
    assert_eq!(world.switch.ok(&["flush", "flows", "client"]), "0 ended\n");
    assert_eq!(states(&world), BTreeMap::new());
    within(&inmate.ns, || call(0)).unwrap();
    world.switch.ok(&["detach", "client"]);
    assert_eq!(states(&world), BTreeMap::new());
    world.end();
}

#[test]
fn counters_outlive_a_restart() {
    let Some(world) = World::new("counters", &["python3"]) else { return };
    let (web, switch) = (world.attach("web"), &world.switch);
    serve(&web.ns, "web", any(80));
    serve(&world.outside, "host", to(HOSTS[0], 53));
    world.publish(&["8080:80", "web"]);
    world.publish(&["8080:80/udp", "web", "--from", "203.0.113.2/32"]);
    Call::new(&world.outside, to(OURS, 8_080)).say("hello");
    assert!(Asker::new(&world.outside, to(HOSTS[0], 0)).is_in_vain(to(OURS, 8_080)));
    let asker = Asker::new(&web.ns, any(5_000));
    asker.ask(to(HOSTS[0], 53), "hello");
    // RFC 5227 2.4: somebody claims our address, 198.51.100.2.
    let claim = "ffffffffffff0211000000010806000108000604000102110000000\
                 1c6336402000000000000c6336402";
    common::send_frames(&world.outside, "eth0", &[claim]);
    wait_for("the claim", || switch.json(&["uplink"])["conflicts"] == 1);
    assert!(switch.ok(&["uplink"]).contains(" claims an address of the uplink (times seen: 1): "));
    wait_for("all closed", || states(&world).keys().all(|state| state != "half-closed" && state != "established"));
    let counted = || [switch.json(&["nat"]), switch.json(&["published"]), switch.json(&["stats"])["nat"].clone()];
    let before = counted();
    assert!(before[0][0]["packets"].as_u64().unwrap() > 0 && before[1].as_array().unwrap().len() == 2, "{before:?}");
    assert_eq!((&before[2]["begun"], &before[2]["sessions"]), (&json!(2), &json!(2)), "{before:?}");
    switch.ok(&["restart"]);
    assert_eq!(counted(), before);
    assert_eq!(switch.json(&["uplink"])["conflicts"], 1);
    // And they go on.
    asker.ask(to(HOSTS[0], 53), "hello");
    let masquerade = |rows: &serde_json::Value| {
        let row = rows.as_array().unwrap().iter().find(|row| row["target"] == "masquerade").unwrap();
        row["packets"].as_u64().unwrap()
    };
    assert_eq!(masquerade(&switch.json(&["nat"])), masquerade(&before[0]) + 2);
    world.end();
}

#[test]
fn a_file_has_the_uplink_and_what_is_published() {
    let Some(world) = World::new("file", &[]) else { return };
    let (web, other, switch) = (world.attach("web"), world.attach("other"), &world.switch);
    serve(&web.ns, "web", any(80));
    serve(&other.ns, "other", any(80));
    world.publish(&["8080:80", "web", "--from", "203.0.113.0/30"]);
    let path = switch.run_dir().parent().unwrap().join("net.toml");
    let apply = |text: &str, flags: &[&str]| {
        std::fs::write(&path, text).unwrap();
        switch.ok(&[&["apply", path.to_str().unwrap()], flags].concat())
    };
    let written = switch.ok(&["show", "--config"]);
    let publish = "\"8080:80/tcp\" = { to = \"web\", from = \"203.0.113.0/30\" }\n";
    assert!(written.contains(&format!("interface = \"{}\"\nip = \"{OURS}/24\"\n", world.iface())) && written.contains(publish));
    assert_eq!(apply(&written, &["--prune"]), "nothing to change\n");
    // Another container, and one range more; the rest is let be.
    let more = written.replace(publish, "\"8080:80\" = \"other\"\n\"9000-9001:80-81\" = [\"other\", \"web\"]\n");
    let changes =
        "- publish 8080:80/tcp: other in the file\n+ publish 8080:80/tcp: to other\n+ publish 9000-9001:80-81/tcp: to other, web\n";
    assert_eq!(apply(&more, &["--dry-run"]), changes);
    assert_eq!(apply(&more, &[]), changes);
    assert_eq!(apply(&more, &["--prune"]), "nothing to change\n");
    assert_eq!(Call::new(&world.outside, to(OURS, 8_080)).say("hello").name, "other");
    // Everything goes and comes back.
    let head = |text: &str| text.split("\n[").next().unwrap().to_owned();
    let gone = apply(&format!("{}[uplink]\ntype = \"none\"\n", head(&written)), &["--prune"]);
    assert!(gone.contains("- publish 9000-9001:80-81/tcp: not in the file\n") && gone.ends_with(" -> none\n"), "{gone}");
    assert_eq!(switch.ok(&["uplink"]), "none\n");
    assert_eq!(switch.json(&["published"]), json!([]));
    assert_eq!(apply(&written, &[]).lines().count(), 4);
    assert_eq!(switch.ok(&["show", "--config"]), written);
    // The container's namespace is as it was, its server too.
    let mut call = Call::from(&world.outside, HOSTS[1], to(OURS, 8_080), Duration::from_secs(5)).unwrap();
    assert_eq!(call.say("hello").name, "web");
    // A bad line is named with its place, and nothing has changed.
    std::fs::write(&path, written.replace("to = \"web\"", "to = \"nobody\"")).unwrap();
    let line = written.lines().position(|line| line.contains("8080:80")).unwrap() + 1;
    let error = switch.fails(1, &["apply", path.to_str().unwrap()]);
    assert!(error.contains(&format!("net.toml:{line}:24: there is no container \"nobody\"")), "{error}");
    assert_eq!(switch.ok(&["show", "--config"]), written);
    world.end();
}
