//! Journeys through the uplink, as root, with the tools that users have: out, in, and what is not let through.
mod common;

use common::outside::{Answer, Asker, Call, GATEWAY, HOSTS, OURS, ROUTER, World, any, connection, serve, stream, to, within};
use common::{Background, inside, inside_ok, ip, iperf, ping, wait_for};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;

#[test]
fn out_to_a_web_server_and_ping() {
    let Some(world) = World::new("web", &["curl", "python3", "ping"]) else { return };
    let inmate = world.attach("client");
    let files = tempfile::tempdir().unwrap();
    let page: String = (0..200_000).map(|number| format!("{number}\n")).collect();
    std::fs::write(files.path().join("page"), &page).unwrap();
    let dir = files.path().to_str().unwrap();
    let _server =
        Background::start(&mut inside(&world.outside, &["python3", "-m", "http.server", "-d", dir, "-b", HOSTS[0], "80"]));
    let url = format!("http://{}/page", HOSTS[0]);
    let said =
        inside_ok(&inmate.ns, &["curl", "-sS", "--retry", "20", "--retry-connrefused", "--retry-delay", "1", "-m", "10", &url]);
    assert!(said == page, "{} octets of {}", said.len(), page.len());
    ping(&inmate.ns, HOSTS[0]);
    ping(&inmate.ns, ROUTER);
    ping(&inmate.ns, GATEWAY);
    // Larger than the link: it leaves in fragments, and so does the answer come.
    inside_ok(&inmate.ns, &["ping", "-c", "1", "-W", "2", "-s", "8000", HOSTS[1]]);
    world.end();
}

/// RFC 4787 REQ-1 and REQ-8: one external port for all it talks to, and nobody else comes in there.
#[test]
fn udp_both_ways() {
    let Some(world) = World::new("udp", &[]) else { return };
    let inmate = world.attach("client");
    for (host, name) in HOSTS.iter().zip(["one", "two", "three"]) {
        serve(&world.outside, name, to(host, 53));
    }
    let asker = Asker::new(&inmate.ns, any(5_000));
    let answers = [0, 1, 0].map(|host| asker.ask(to(HOSTS[host], 53), "hello"));
    let Answer { peer, .. } = &answers[0];
    assert_eq!(peer.ip().to_string(), OURS);
    for (answer, name) in answers.iter().zip(["one", "two", "one"]) {
        assert_eq!((answer.name.as_str(), &answer.peer), (name, peer));
    }
    // Longer than the link, in fragments both ways.
    let long = "x".repeat(1_900);
    assert_eq!(asker.ask(to(HOSTS[0], 53), &long).text, long);
    // A second client with the same port has another outside.
    let other = world.attach("other");
    assert_ne!(Asker::new(&other.ns, any(5_000)).ask(to(HOSTS[0], 53), "hello").peer, *peer);
    world.end();
}

#[test]
fn traceroute_shows_the_gateway_first() {
    let Some(world) = World::new("trace", &["traceroute"]) else { return };
    let inmate = world.attach("client");
    serve(&world.outside, "web", to(HOSTS[0], 80));
    for kind in [&[][..], &["-I"], &["-T", "-p", "80"]] {
        let said = inside_ok(&inmate.ns, &[&["traceroute", "-n", "-q", "1", "-w", "2", "-m", "4"], kind, &[HOSTS[0]]].concat());
        let hops: Vec<&str> = said.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
        assert_eq!(hops, [GATEWAY, HOSTS[0]], "{kind:?}: {said}");
    }
    world.end();
}

#[test]
fn tcp_both_ways_arrives_as_it_was_sent() {
    let Some(world) = World::new("tcp", &["iperf3"]) else { return };
    let inmate = world.attach("client");
    let [client, server] = connection(&inmate.ns, to(HOSTS[0], 9_000), &world.outside, any(9_000));
    assert_eq!(server.peer_addr().unwrap().ip().to_string(), OURS);
    stream(client.try_clone().unwrap(), server.try_clone().unwrap(), 64 * MIB);
    stream(server, client, 64 * MIB);
    // In, likewise.
    world.publish(&["9001:9002", "client"]);
    let [client, server] = connection(&world.outside, to(OURS, 9_001), &inmate.ns, any(9_002));
    stream(client.try_clone().unwrap(), server.try_clone().unwrap(), 16 * MIB);
    stream(server, client, 16 * MIB);
    for octets in iperf(&inmate.ns, &world.outside, HOSTS[0]) {
        assert!(octets > MIB as u64, "{octets} octets in a second");
    }
    world.end();
}

/// N62: the client's address is not ours to change.
#[test]
fn a_published_port_shows_the_clients_own_address() {
    let Some(world) = World::new("pub", &[]) else { return };
    let web = world.attach("web");
    serve(&web.ns, "web", any(80));
    world.publish(&["8080:80", "web"]);
    world.publish(&["8080:80/udp", "web"]);
    for host in HOSTS {
        let mut call = Call::from(&world.outside, host, to(OURS, 8_080), Duration::from_secs(5)).unwrap();
        let answer = call.say("hello");
        assert_eq!((SocketAddr::from(answer.peer), answer.peer.ip().to_string().as_str()), (call.own(), host));
        let answer = Asker::new(&world.outside, to(host, 6_000)).ask(to(OURS, 8_080), "hello");
        assert_eq!(answer.peer, to(host, 6_000));
    }
    let published = world.switch.json(&["published"]);
    let tcp = published.as_array().unwrap().iter().find(|row| row["protocol"] == "tcp").unwrap();
    assert_eq!((&tcp["first"], &tcp["to"], &tcp["names"]), (&json!(8_080), &json!(80), &json!(["web"])));
    assert!(tcp["packets"].as_u64().unwrap() >= 9, "{tcp}");
    // What it begins itself goes out as always.
    serve(&world.outside, "host", to(HOSTS[0], 80));
    assert_eq!(Call::new(&web.ns, to(HOSTS[0], 80)).say("hello").peer.ip().to_string(), OURS);
    // A published port is closed with a refusal while nobody listens, as on any host.
    world.publish(&["8081:81", "web"]);
    let error = Call::from(&world.outside, "0.0.0.0", to(OURS, 8_081), Duration::from_secs(5)).err().unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    world.switch.ok(&["unpublish", "8080"]);
    assert!(Call::is_in_vain(&world.outside, "0.0.0.0", to(OURS, 8_080)));
    Asker::new(&world.outside, any(0)).ask(to(OURS, 8_080), "UDP still");
    world.end();
}

#[test]
fn from_admits_and_refuses() {
    let Some(world) = World::new("from", &[]) else { return };
    let web = world.attach("web");
    serve(&web.ns, "web", any(80));
    world.publish(&["8080:80", "web", "--from", "203.0.113.2/31"]);
    world.publish(&["8080:80/udp", "web", "--from", "203.0.113.2/31"]);
    for host in &HOSTS[1..] {
        Call::from(&world.outside, host, to(OURS, 8_080), Duration::from_secs(5)).unwrap().say("hello");
        Asker::new(&world.outside, to(host, 0)).ask(to(OURS, 8_080), "hello");
    }
    for host in [HOSTS[0], ROUTER] {
        assert!(Call::is_in_vain(&world.outside, host, to(OURS, 8_080)));
        assert!(Asker::new(&world.outside, to(host, 0)).is_in_vain(to(OURS, 8_080)));
    }
    wait_for("four refused", || world.switch.drops("publish-from") == 4);
    for row in world.switch.json(&["published"]).as_array().unwrap() {
        assert_eq!(row["refused"], 2, "{row}");
    }
    world.end();
}

/// N12 and N30: from another container, and from the one it is published to.
#[test]
fn hairpin() {
    let Some(world) = World::new("hairpin", &[]) else { return };
    let (web, client) = (world.attach("web"), world.attach("client"));
    serve(&web.ns, "web", any(80));
    world.publish(&["8080:80", "web"]);
    world.publish(&["8080:80/udp", "web"]);
    for inmate in [&client, &web] {
        for address in [OURS, GATEWAY] {
            let answer = Call::new(&inmate.ns, to(address, 8_080)).say("hello");
            assert_eq!((answer.name.as_str(), answer.peer.ip().to_string().as_str()), ("web", OURS), "{address}");
            let answer = Asker::new(&inmate.ns, any(0)).ask(to(address, 8_080), "hello");
            assert_eq!((answer.name.as_str(), answer.peer.ip().to_string().as_str()), ("web", OURS), "{address}");
        }
    }
    let [near, far] = connection(&client.ns, to(web.ip, 9_000), &web.ns, any(9_000));
    stream(near, far, MIB);
    world.publish(&["9001:9001", "web"]);
    let [near, far] = connection(&client.ns, to(OURS, 9_001), &web.ns, any(9_001));
    stream(near.try_clone().unwrap(), far.try_clone().unwrap(), 16 * MIB);
    stream(far, near, 16 * MIB);
    world.end();
}

/// N64 and N68.
#[test]
fn ten_thousand_ports_in_one_command() {
    let Some(world) = World::new("range", &[]) else { return };
    let (a, b) = (world.attach("a"), world.attach("b"));
    let start = Instant::now();
    world.publish(&["10000-19999:20000-29999/udp", "a"]);
    let took = start.elapsed();
    common::say(&format!("10,000 ports published in {took:?}"));
    assert!(took < Duration::from_secs(2), "{took:?}");
    let asker = Asker::new(&world.outside, any(0));
    for port in [10_000, 14_321, 19_999] {
        serve(&a.ns, "a", any(port + 10_000));
        assert_eq!(asker.ask(to(OURS, port), "hello").name, "a");
    }
    serve(&a.ns, "a", any(30_000));
    assert!(asker.is_in_vain(to(OURS, 20_000)));
    // A conflict of one port refuses the range whole, and says who has it.
    let before = world.switch.json(&["published"]);
    let error = world.switch.fails(1, &["publish", "19999-20005:1000-1006/udp", "b"]);
    assert!(error.contains("port 19999 is published to a already, nothing was published"), "{error}");
    assert!(world.switch.fails(1, &["publish", "198.51.100.2:10000:53/udp", "b"]).contains("to a already"));
    assert_eq!(world.switch.json(&["published"]), before);
    serve(&b.ns, "b", any(1_001));
    assert!(asker.is_in_vain(to(OURS, 20_000)));
    // Of the other protocol they are free.
    world.publish(&["19999-20005:1000-1006/tcp", "b"]);
    assert_eq!(Call::new(&world.outside, to(OURS, 20_000)).say("hello").name, "b");
    world.end();
}

/// N69: those that are there go on.
#[test]
fn two_balance_and_one_is_drained() {
    let Some(world) = World::new("balance", &[]) else { return };
    let (a, b) = (world.attach("a"), world.attach("b"));
    serve(&a.ns, "a", any(80));
    serve(&b.ns, "b", any(80));
    world.publish(&["8080:80", "a,b"]);
    let mut calls: Vec<(Call, String)> = (0..24)
        .map(|_| {
            let mut call = Call::new(&world.outside, to(OURS, 8_080));
            let name = call.say("hello").name;
            (call, name)
        })
        .collect();
    let names: BTreeSet<&str> = calls.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(names, BTreeSet::from(["a", "b"]));
    world.switch.ok(&["unpublish", "8080", "a"]);
    for (call, name) in &mut calls {
        assert_eq!(call.say("still there?").name, *name);
    }
    for _ in 0..24 {
        assert_eq!(Call::new(&world.outside, to(OURS, 8_080)).say("hello").name, "b");
    }
    assert_eq!(world.switch.json(&["published"])[0]["names"], json!(["b"]));
    assert!(world.switch.fails(1, &["unpublish", "8080", "a"]).starts_with("8080/tcp is not published to \"a\""));
    for (call, name) in &mut calls {
        assert_eq!(call.say("and now?").name, *name);
    }
    world.end();
}

/// N25 and N63: nothing comes in unasked, by our address or by the containers' own.
#[test]
fn a_port_scan_gets_nothing() {
    let Some(world) = World::new("scan", &["ping"]) else { return };
    let inmate = world.attach("web");
    const PORTS: [u16; 5] = [22, 80, 443, 8_080, 65_535];
    for port in PORTS {
        serve(&inmate.ns, "web", any(port));
    }
    world.publish(&["8081:80", "web"]);
    let before = world.switch.drops("unsolicited");
    let outside = &world.outside;
    std::thread::scope(|scope| {
        for port in PORTS {
            scope.spawn(move || assert!(Call::is_in_vain(outside, HOSTS[0], to(OURS, port))));
            scope.spawn(move || assert!(Asker::new(outside, any(0)).is_in_vain(to(OURS, port))));
        }
    });
    wait_for("each counted", || world.switch.drops("unsolicited") >= before + 2 * PORTS.len() as u64);
    // By way of us, to who is behind.
    ip(&["-n", &world.outside.name, "route", "add", "10.77.0.0/24", "via", OURS]);
    for port in [80, 8_081] {
        assert!(Call::is_in_vain(&world.outside, HOSTS[0], to(inmate.ip, port)));
        assert!(Call::is_in_vain(&world.outside, HOSTS[0], to(GATEWAY, port)));
        assert!(Asker::new(&world.outside, any(0)).is_in_vain(to(inmate.ip, port)));
    }
    let pinged = inside(&world.outside, &["ping", "-c", "1", "-W", "1", &inmate.ip.to_string()]).output().unwrap();
    assert!(!pinged.status.success());
    // What is open is open still.
    assert_eq!(Call::new(&world.outside, to(OURS, 8_081)).say("hello").name, "web");
    world.end();
}

/// N17 and N31: a router further on has a smaller link, and says so.
#[test]
fn a_smaller_link_on_the_way() {
    let Some(world) = World::new("pmtu", &["ping"]) else { return };
    let inmate = world.attach("client");
    let far = common::TestNs::new("pmtu-far");
    let (router, host) = (&world.outside.name, &far.name);
    ip(&["-n", router, "link", "add", "far", "type", "veth", "peer", "name", "eth0", "netns", host]);
    ip(&["-n", router, "address", "add", "192.0.2.1/24", "dev", "far"]);
    ip(&["-n", router, "link", "set", "far", "up"]);
    ip(&["-n", host, "address", "add", "192.0.2.2/24", "dev", "eth0"]);
    ip(&["-n", host, "link", "set", "eth0", "up"]);
    ip(&["-n", host, "route", "add", "default", "via", "192.0.2.1"]);
    inside_ok(&world.outside, &["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"]);
    // Neither end knows: its own link takes 1500, so that is what a SYN offers.
    ip(&["-n", router, "route", "replace", "192.0.2.0/24", "dev", "far", "mtu", "lock", "1400"]);
    ping(&inmate.ns, "192.0.2.2");
    let learned = |ns: &common::TestNs, of: &str| ip(&["-n", &ns.name, "route", "get", of]).contains("mtu 1400");
    assert!(!learned(&inmate.ns, "192.0.2.2"));
    let [client, server] = connection(&inmate.ns, to("192.0.2.2", 9_000), &far, any(9_000));
    stream(client, server, 8 * MIB);
    assert!(learned(&inmate.ns, "192.0.2.2"), "the container was not told");
    // The same from a published port.
    inside_ok(&inmate.ns, &["ip", "route", "flush", "cache"]);
    world.publish(&["9001:9001", "client"]);
    let [client, server] = connection(&far, to(OURS, 9_001), &inmate.ns, any(9_001));
    stream(server, client, 8 * MIB);
    let other = world.attach("other");
    let output = inside(&other.ns, &["ping", "-c", "1", "-W", "2", "-M", "do", "-s", "1472", "192.0.2.2"]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains(&format!("From {ROUTER} icmp_seq=1 Frag needed and DF set (mtu = 1400)")), "{said}");
    inside_ok(&other.ns, &["ping", "-c", "1", "-W", "2", "-M", "do", "-s", "1372", "192.0.2.2"]);
    world.end();
}

/// A row of `flows` between the two, in whichever order.
fn flow<'a>(flows: &'a Value, container: &str, protocol: &str) -> &'a Value {
    let rows: Vec<&Value> =
        flows.as_array().unwrap().iter().filter(|row| row["container"] == container && row["protocol"] == protocol).collect();
    assert_eq!(rows.len(), 1, "{flows}");
    rows[0]
}

#[test]
fn flows_are_listed_and_flushed() {
    let Some(world) = World::new("flows", &["ping"]) else { return };
    let (client, web) = (world.attach("client"), world.attach("web"));
    serve(&world.outside, "host", to(HOSTS[0], 53));
    serve(&web.ns, "web", any(80));
    world.publish(&["8080:80", "web"]);
    let asker = Asker::new(&client.ns, any(5_000));
    let outside = asker.ask(to(HOSTS[0], 53), "hello").peer;
    let mut call = Call::from(&world.outside, HOSTS[1], to(OURS, 8_080), Duration::from_secs(5)).unwrap();
    call.say("hello");
    let own = call.own().port();
    let switch = &world.switch;
    let tuple = |src: &str, sport: u16, dst: &str, dport: u16| json!({"src": src, "sport": sport, "dst": dst, "dport": dport});
    let flows = switch.json(&["flows"]);
    let (inmate, row) = (client.ip.to_string(), flow(&flows, "client", "udp"));
    assert_eq!((&row["inbound"], &row["packets"]), (&json!(false), &json!([1, 1])), "{row}");
    assert_eq!(row["original"], tuple(&inmate, 5_000, HOSTS[0], 53), "{row}");
    assert_eq!(row["reply"], tuple(HOSTS[0], 53, OURS, outside.port()), "{row}");
    let (inmate, row) = (web.ip.to_string(), flow(&flows, "web", "tcp"));
    assert_eq!((&row["inbound"], &row["state"]), (&json!(true), &json!("established")), "{row}");
    assert_eq!(row["original"], tuple(HOSTS[1], own, OURS, 8_080), "{row}");
    assert_eq!(row["reply"], tuple(&inmate, 80, HOSTS[1], own), "{row}");
    // The same, narrowed down.
    let only = |words: &[&str]| switch.json(&[&["flows"], words].concat()).as_array().unwrap().len();
    assert_eq!((only(&["web"]), only(&["client"])), (1, 1));
    assert_eq!((only(&["--protocol", "udp"]), only(&["--port", "8080"]), only(&["--port", "9"])), (1, 1, 0));
    // The rules, and who is next to us.
    let nat = switch.json(&["nat"]);
    let rule = |target: &str, to: &str| {
        let row = nat.as_array().unwrap().iter().find(|row| row["target"] == target && row["to"] == to);
        row.unwrap_or_else(|| panic!("no {target} to {to}: {nat}"))
    };
    for row in [rule("dnat", &format!("{inmate}:80")), rule("masquerade", OURS)] {
        assert!(row["sessions"] == 1 && row["packets"].as_u64().unwrap() > 0, "{row}");
    }
    let neigh = switch.json(&["neigh"]);
    let has =
        |side: &str, address: &str| neigh.as_array().unwrap().iter().any(|row| row["side"] == side && row["address"] == address);
    assert!(has("uplink", ROUTER) && has("inside", &inmate) && has("inside", &client.ip.to_string()), "{neigh}");
    // Ended, one's and not the other's.
    assert_eq!(switch.ok(&["flush", "flows", "web"]), "1 ended\n");
    assert_eq!((only(&["web"]), only(&["client"])), (0, 1));
    assert_eq!(switch.ok(&["flush", "flows", "web"]), "0 ended\n");
    switch.fails(1, &["flush", "flows", "nobody"]);
    // A new one is as good as the first.
    Call::new(&world.outside, to(OURS, 8_080)).say("hello");
    world.end();
}

/// N66: a peer that keeps sending from one port reaches whom the port is published to now.
#[test]
fn a_reattached_container_gets_what_comes_for_it_at_once() {
    let Some(world) = World::new("stale", &[]) else { return };
    let old = world.attach("old");
    serve(&old.ns, "old", any(53));
    world.publish(&["5300:53/udp", "old"]);
    let asker = Asker::new(&world.outside, any(6_000));
    assert_eq!(asker.ask(to(OURS, 5_300), "hello").name, "old");
    world.switch.ok(&["detach", "old"]);
    assert_eq!(world.switch.json(&["flows"]), json!([]));
    assert_eq!(world.switch.json(&["published"]), json!([]));
    assert!(asker.is_in_vain(to(OURS, 5_300)));
    let between = world.attach("between");
    let new = world.attach("new");
    assert_ne!(new.ip, old.ip);
    serve(&new.ns, "new", any(54));
    world.publish(&["5300:54/udp", "new"]);
    let answer = asker.ask(to(OURS, 5_300), "hello");
    assert_eq!((answer.name.as_str(), answer.peer), ("new", to(ROUTER, 6_000)));
    // Published elsewhere without a detach: what goes on goes on, until it is ended.
    serve(&between.ns, "between", any(53));
    world.switch.ok(&["unpublish", "5300/udp"]);
    world.publish(&["5300:53/udp", "between"]);
    assert_eq!(asker.ask(to(OURS, 5_300), "hello").name, "new");
    assert_eq!(world.switch.ok(&["flush", "flows", "new"]), "1 ended\n");
    assert_eq!(asker.ask(to(OURS, 5_300), "hello").name, "between");
    world.end();
}

/// Enough of RFC 959 and RFC 2428 for a passive client that fetches one file.
fn ftp(listener: &TcpListener, ns: &common::TestNs, file: &[u8]) {
    let (stream, _) = listener.accept().unwrap();
    let mut say = stream.try_clone().unwrap();
    let mut passive = None;
    say.write_all(b"220 ready\r\n").unwrap();
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap();
        let reply = match line.split(' ').next().unwrap() {
            "USER" => "331 password".into(),
            "PASS" => "230 in".into(),
            "PWD" => "257 \"/\"".into(),
            "TYPE" => "200 so be it".into(),
            verb @ ("EPSV" | "PASV") => {
                let data = within(ns, || TcpListener::bind(to(HOSTS[0], 0)).unwrap());
                let port = data.local_addr().unwrap().port();
                passive = Some(data);
                match verb {
                    "EPSV" => format!("229 (|||{port}|)"),
                    _ => format!("227 ({},{},{})", HOSTS[0].replace('.', ","), port >> 8, port & 0xff),
                }
            }
            "SIZE" => format!("213 {}", file.len()),
            "RETR" => {
                let (mut data, _) = passive.take().unwrap().accept().unwrap();
                say.write_all(b"150 here\r\n").unwrap();
                data.write_all(file).unwrap();
                "226 done".into()
            }
            "QUIT" => return say.write_all(b"221 bye\r\n").unwrap(),
            _ => "502 no".into(),
        };
        say.write_all(format!("{reply}\r\n").as_bytes()).unwrap();
    }
}

#[test]
fn passive_ftp() {
    let Some(world) = World::new("ftp", &["curl"]) else { return };
    let inmate = world.attach("client");
    let file: Vec<u8> = (0..300_000_u32).flat_map(|number| format!("{number}\n").into_bytes()).collect();
    let listener = within(&world.outside, || TcpListener::bind(to(HOSTS[0], 21)).unwrap());
    let url = format!("ftp://{}/file", HOSTS[0]);
    for flag in ["--ftp-pasv", "--disable-epsv"] {
        std::thread::scope(|scope| {
            scope.spawn(|| ftp(&listener, &world.outside, &file));
            let said = inside_ok(&inmate.ns, &["curl", "-sS", "-m", "10", flag, &url]);
            assert!(said.as_bytes() == file, "{flag}: {} octets of {}", said.len(), file.len());
        });
    }
    world.end();
}

#[test]
fn a_thousand_connections_in_a_row() {
    let Some(world) = World::new("row", &[]) else { return };
    let (inmate, web) = (world.attach("client"), world.attach("web"));
    serve(&world.outside, "host", to(HOSTS[0], 80));
    serve(&web.ns, "web", any(80));
    world.publish(&["8080:80", "web"]);
    let start = Instant::now();
    for number in 0..1_000 {
        assert_eq!(Call::new(&inmate.ns, to(HOSTS[0], 80)).say(&number.to_string()).name, "host");
        assert_eq!(Call::new(&world.outside, to(OURS, 8_080)).say(&number.to_string()).name, "web");
    }
    common::say(&format!("1,000 connections each way in {:?}", start.elapsed()));
    world.end();
}

/// An error is one line with a remedy, and nothing has changed.
#[test]
fn bad_input() {
    let Some(world) = World::new("bad", &[]) else { return };
    let (switch, iface) = (&world.switch, world.iface());
    let inmate = world.attach("web");
    serve(&inmate.ns, "web", any(80));
    world.publish(&["8080:80", "web"]);
    let state = || [&["uplink"][..], &["published"], &["show", "--config"]].map(|view| switch.ok(view));
    let before = state();
    let specs = [
        "",
        ":",
        "80",
        "80:",
        ":80",
        "0:80",
        "80:0",
        "80:65536",
        "80:80:80:80",
        "80-79:80-79",
        "80-82:80-81",
        "80:80/sctp",
        "80:80/",
        "80:80/tcp/udp",
        "-1:80",
        "+80:80x",
        "1-2-3:1-2-3",
        "x:80:80",
        "::1:80:80",
        "[::1:80:80",
        "[10.0.0.1]:80:80",
        "80:80 ",
        "８０:80",
        "256.0.0.1:80:80",
        "99999999999999999999:80",
    ];
    for spec in specs {
        switch.fails(1, &["publish", "--", spec, "web"]);
    }
    let over = switch.fails(1, &["publish", "60000-60100:65500-65535", "web"]);
    assert!(over.contains("101 ports outside and 36 inside"), "{over}");
    for words in [
        &["9090:90", "nobody"][..],
        &["9090:90", ""],
        &["9090:90", "web,"],
        &["9090:90", "web,web"],
        &["9090:90", "web,nobody"],
        &["9090:90", "web", "--from", "x"],
        &["9090:90", "web", "--from", "10.0.0.0/33"],
        &["8080:81", "web"],
        &["127.0.0.1:8080:81", "web"],
    ] {
        switch.fails(1, &[&["publish"], words].concat());
    }
    for words in [&["81"][..], &["8080/udp"], &["8080", "nobody"], &["x"], &["8080/x"], &["0"], &["8080-8081"]] {
        switch.fails(1, &[&["unpublish"], words].concat());
    }
    let set = |words: &[&str]| switch.fails(1, &[&["uplink", "set", "packet"], words].concat());
    assert!(set(&["lo", "--ip", "198.51.100.3/24"]).starts_with("\"lo\" is no Ethernet interface: "));
    for gone in ["nothere", "", "a/b", "../lo", "a-name-that-is-too-long"] {
        assert!(set(&[gone, "--ip", "198.51.100.3/24"]).starts_with(&format!("there is no interface \"{gone}\": ")));
    }
    for inside in ["10.77.0.9/24", "10.77.0.1/32", "10.0.0.1/8"] {
        assert!(set(&[iface, "--ip", inside]).contains(" in the containers' network default (10.77.0.0/24): "), "{inside}");
    }
    assert!(set(&[iface]).starts_with("no --ip: "));
    for address in ["198.51.100.3", "198.51.100.3/33", "x/24", "/24", "198.51.100.3/", "198.51.100.3/-1", ""] {
        assert!(set(&[iface, "--ip", address]).starts_with(&format!("--ip {address} is no address: ")), "{address}");
    }
    for address in
        ["0.0.0.0/32", "127.0.0.1/8", "224.0.0.1/24", "255.255.255.255/32", "198.51.100.0/24", "198.51.100.255/24", "ff02::1/64"]
    {
        assert!(set(&[iface, "--ip", address]).contains(" can be no host's on that link: "), "{address}");
    }
    let gateway = |words: &[&str]| set(&[&[iface, "--ip", "198.51.100.3/24", "--gateway"], words].concat());
    assert!(gateway(&["203.0.113.1"]).starts_with("--gateway 203.0.113.1 is on no link of --ip: "));
    assert!(gateway(&["2001:db8::1"]).starts_with("--gateway 2001:db8::1 is on no link of --ip: "));
    assert!(gateway(&["198.51.100.3"]).starts_with("--gateway 198.51.100.3 is --ip itself: "));
    assert!(gateway(&["198.51.100.255"]).contains(" can be no host's on that link: "));
    assert!(gateway(&["198.51.100.1", "--gateway", "198.51.100.4"]).contains(" is a second one of its family: "));
    // Words that are no arguments are the parser's to refuse.
    for words in [&["--gateway", "x"][..], &["--mac", "01:00:5e:00:00:01"], &["--mac", "x"], &["--nothing"]] {
        let output = switch.output(&[&["uplink", "set", "packet", iface, "--ip", "198.51.100.3/24"], words].concat());
        assert_eq!(output.status.code(), Some(2), "{words:?}");
    }
    assert_eq!(state(), before);
    assert_eq!(Call::new(&world.outside, to(OURS, 8_080)).say("hello").name, "web");
    world.end();
}
