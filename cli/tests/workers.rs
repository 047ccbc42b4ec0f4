//! Journeys with two workers: what two containers do at once comes to the one owner of what is decided through two threads.
mod common;

use common::outside::{Answer, Asker, HOSTS, World, any, connection, serve, stream, to, within};
use common::{Background, TestNs, inside, inside_ok, iperf, wait_for};
use std::collections::HashMap;
use std::net::{SocketAddrV4, TcpStream, UdpSocket};
use std::process::Stdio;
use std::sync::Barrier;
use std::time::Duration;

/// Sockets of each container.
const SOCKETS: u16 = 1_000;
const LIMIT: Duration = Duration::from_secs(10);

/// How many frames the second worker has read.
fn read(world: &World) -> u64 {
    let read = world.switch.json(&["stats"])["read"].as_array().unwrap().clone();
    assert_eq!(read.len(), 1, "{read:?}");
    read[0].as_u64().unwrap()
}

/// A and AAAA of one socket at once: the peer that the server has seen, of both.
fn two_queries(socket: &UdpSocket, server: SocketAddrV4) -> SocketAddrV4 {
    for query in ["A?", "AAAA?"] {
        socket.send_to(query.as_bytes(), server).unwrap();
    }
    let mut answers = Vec::new();
    for _ in 0..2 {
        let mut datagram = [0; 128];
        let (len, from) = socket.recv_from(&mut datagram).expect("both are answered");
        assert_eq!(from, server.into());
        let said = std::str::from_utf8(&datagram[..len]).unwrap().trim_end().to_owned();
        let words: Vec<&str> = said.split(' ').collect();
        answers.push((words[2].to_owned(), words[1].parse().unwrap()));
    }
    answers.sort();
    assert_eq!((answers[0].0.as_str(), answers[1].0.as_str()), ("A?", "AAAA?"));
    let peers: [SocketAddrV4; 2] = [answers[0].1, answers[1].1];
    assert_eq!(peers[0], peers[1], "one mapping");
    peers[0]
}

/// Does the same in both namespaces at the same moment, number by number.
fn at_once<T: Send>(both: [&TestNs; 2], job: impl Fn(u16) -> T + Sync) -> [Vec<T>; 2] {
    let (barrier, job) = (Barrier::new(2), &job);
    std::thread::scope(|scope| {
        let threads = both.map(|ns| {
            let barrier = &barrier;
            scope.spawn(move || {
                within(ns, || {
                    let each = (0..SOCKETS).map(|number| {
                        barrier.wait();
                        job(number)
                    });
                    each.collect()
                })
            })
        });
        threads.map(|thread| thread.join().unwrap())
    })
}

fn assert_unlike(peers: [Vec<SocketAddrV4>; 2]) {
    let mut seen = HashMap::new();
    for (container, peers) in peers.into_iter().enumerate() {
        for (number, peer) in peers.into_iter().enumerate() {
            let other = seen.insert(peer, (container, number));
            assert_eq!(other, None, "{peer} is also that of {:?}", (container, number));
        }
    }
    assert_eq!(seen.len(), 2 * usize::from(SOCKETS));
}

/// N60, N61: the same ports in two containers, each socket with two queries at once; all sockets stay open.
#[test]
fn n60_n61_two_workers_give_every_socket_one_mapping_of_its_own() {
    let Some(world) = World::with("wrk", &[], &["--workers", "2"]) else { return };
    let [one, two] = ["one", "two"].map(|name| world.attach(name));
    serve(&world.outside, "host", to(HOSTS[0], 53));
    let server = to(HOSTS[0], 53);
    let before = read(&world);
    let udp = at_once([&one.ns, &two.ns], |number| {
        let socket = UdpSocket::bind(any(20_000 + number)).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        (two_queries(&socket, server), socket)
    });
    assert_unlike(udp.each_ref().map(|sockets| sockets.iter().map(|(peer, _)| *peer).collect()));
    // One of the two containers is the second worker's to read.
    let queries = 2 * u64::from(SOCKETS);
    assert!(read(&world) - before >= queries, "{} frames", read(&world) - before);
    let tcp = at_once([&one.ns, &two.ns], |_| TcpStream::connect_timeout(&server.into(), LIMIT).unwrap());
    let peers = tcp.each_ref().map(|sockets| {
        let peers = sockets.iter().map(|socket| {
            let mut call = common::outside::Call(std::io::BufReader::new(socket.try_clone().unwrap()));
            call.say("hello").peer
        });
        peers.collect()
    });
    assert_unlike(peers);
    drop((udp, tcp));
    world.end();
}

#[test]
fn two_workers_carry_streams_and_are_two_after_a_restart_and_a_crash() {
    let Some(world) = World::with("wrs", &["iperf3"], &["--workers", "2"]) else { return };
    let [one, two] = ["one", "two"].map(|name| world.attach(name));
    for inmate in [&one, &two] {
        let [client, server] = connection(&inmate.ns, to(HOSTS[0], 9_000), &world.outside, any(9_000));
        stream(client.try_clone().unwrap(), server.try_clone().unwrap(), 16 << 20);
        stream(server, client, 16 << 20);
    }
    for octets in iperf(&one.ns, &two.ns, &two.ip.to_string()) {
        assert!(octets > 1 << 20, "{octets} octets in a second");
    }
    let show = world.switch.json(&["show"]);
    assert!(world.switch.ok(&["show"]).contains("\nworkers 2\n"));
    // What it needs is told before it lacks it.
    let open = std::fs::read_dir(format!("/proc/{}/fd", world.switch.pid().unwrap())).unwrap().count() as u64;
    let told = show["open_files"].as_u64().unwrap();
    assert!(open <= told && told < open + 40, "{open} are open, {told} told");
    // In the middle of a flood that may lose nothing.
    let mut flood = inside(&one.ns, &["ping", "-i", "0.002", "-q", "-c", "1500", "-W", "5", &two.ip.to_string()]);
    let flood = flood.stdout(Stdio::piped()).spawn().unwrap();
    for _ in 0..5 {
        world.switch.ok(&["restart"]);
    }
    let said = String::from_utf8(flood.wait_with_output().unwrap().stdout).unwrap();
    assert!(said.contains(" 0% packet loss"), "{said}");
    assert_eq!(world.switch.json(&["show"])["workers"], 2);
    world.switch.assert_balanced();
    // A file has it, and who comes back after a crash.
    assert!(world.switch.ok(&["show", "--config"]).contains("\nworkers = 2\n"));
    let pid = world.switch.pid().unwrap();
    // Written at most a second after the change.
    wait_for("the state", || {
        std::fs::read_to_string(world.switch.run_dir().join("state.json")).is_ok_and(|state| state.contains("\"two\""))
    });
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    world.switch.ok(&["restore"]);
    assert_eq!(world.switch.json(&["show"])["workers"], 2);
    serve(&world.outside, "host", to(HOSTS[0], 53));
    let Answer { name, .. } = Asker::new(&two.ns, any(5_000)).ask(to(HOSTS[0], 53), "hello");
    assert_eq!(name, "host");
    inside_ok(&one.ns, &["ping", "-c", "1", "-W", "5", &two.ip.to_string()]);
    world.end();
}

/// Whoever floods from the second worker's port does not starve the first's.
#[test]
fn a_flooder_of_one_worker_leaves_the_others_ports_alone() {
    let Some(world) = World::with("wrf", &[], &["--workers", "2"]) else { return };
    let [one, two] = ["one", "two"].map(|name| world.attach(name));
    serve(&world.outside, "host", to(HOSTS[0], 53));
    let broadcast = world.switch.json(&["show"])["gateway"].as_str().unwrap().replace(".0.1", ".0.255");
    let flooders: Vec<_> = (0..2)
        .map(|_| {
            let code = format!(
                "import socket\ns = socket.socket(type=socket.SOCK_DGRAM)\ns.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)\nwhile True:\n    try:\n        s.sendto(b'x' * 64, ('{broadcast}', 9))\n    except OSError:\n        pass\n"
            );
            Background::start(&mut inside(&one.ns, &["python3", "-c", &code]))
        })
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    let asker = Asker::new(&two.ns, any(5_000));
    for number in 0..200 {
        asker.ask(to(HOSTS[0], 53), &number.to_string());
    }
    drop(flooders);
    world.end();
}
