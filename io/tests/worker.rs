//! The worker on real TAPs and veths in namespaces of the test's own, with ping and a TCP stream through it.
#![allow(missing_docs)]
mod common;

use common::{TestNs, privileged};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use vswitch_io::link::{Addressing, IfName, Netlink, TapOptions, VethOptions, configure, open_tap, open_veth};
use vswitch_io::netns::{Namespace, NsSpec};
use vswitch_io::port::Port;
use vswitch_io::worker::{WorkerConfig, WorkerEvent, WorkerHandle, spawn};
use vswitch_nat::gateway::GatewayConfig;
use vswitch_switch::port::Guard;
use vswitch_switch::{FdbLimits, PortConfig, SwitchConfig, UnicastMac};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);
/// Octets of the stream; enough for many GSO frames.
const STREAM: usize = 64 << 20;

#[derive(Clone, Copy)]
enum Kind {
    Tap { rung: usize },
    Veth,
}

fn worker(workers: usize) -> WorkerHandle {
    let mac = UnicastMac::for_ipv4(GATEWAY.octets());
    let switch = SwitchConfig { mac, fdb: FdbLimits::default(), group_forward: 0, flood_unregistered: true, seed: 1 };
    let poll = mio::Poll::new().unwrap();
    let notify = Arc::new(mio::Waker::new(poll.registry(), mio::Token(0)).unwrap());
    spawn(
        WorkerConfig {
            switch,
            gateway: Some(GatewayConfig { mac, address: GATEWAY, prefix: 20, v6: None }),
            key: [1, 2],
            paused: false,
            workers,
        },
        notify,
    )
    .unwrap()
}

/// Runs `job` on a thread that has entered `name`.
fn inside<T: Send + 'static>(name: &str, job: impl FnOnce(&Namespace) -> T + Send + 'static) -> T {
    let namespace = Namespace::open(&NsSpec::parse(name).unwrap()).unwrap();
    thread::spawn(move || {
        namespace.enter().unwrap();
        job(&namespace)
    })
    .join()
    .unwrap()
}

fn plug(worker: &WorkerHandle, ns: &TestNs, kind: Kind, host: u8) -> Ipv4Addr {
    let address = Ipv4Addr::new(10, 88, 0, host);
    let mac = UnicastMac::for_ipv4(address.octets());
    let octets = mac.mac().0;
    let port = inside(&ns.name, move |namespace| {
        let eth0 = IfName::parse("eth0").unwrap();
        match kind {
            Kind::Tap { rung } => {
                let options = TapOptions { mac: octets, mtu: 1_500, txqueuelen: 256, max_rung: rung };
                let (fd, mask) = open_tap(&eth0, &options).unwrap();
                Port::tap(fd, mask).unwrap()
            }
            Kind::Veth => {
                let home = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
                let _ = namespace;
                Port::packet(open_veth(home.as_fd(), &eth0, &VethOptions { mac: octets, mtu: 1_500 }).unwrap()).unwrap()
            }
        }
    });
    let config = PortConfig { guard: Guard::Bound(mac), ..PortConfig::default() };
    worker.add_port(port, config, 1_500).unwrap().unwrap();
    inside(&ns.name, move |_| {
        let mut netlink = Netlink::open().unwrap();
        let index = netlink.index(&IfName::parse("eth0").unwrap()).unwrap().unwrap();
        let gateway_mac = UnicastMac::for_ipv4(GATEWAY.octets()).mac().0;
        configure(&mut netlink, index, &Addressing { address, prefix: 20, gateway: GATEWAY, gateway_mac }).unwrap();
    });
    address
}

fn ping(ns: &TestNs, to: Ipv4Addr, size: &str) {
    let args = ["netns", "exec", &ns.name, "ping", "-c3", "-i0.05", "-W2", "-s", size, &to.to_string()].map(String::from);
    let out = Command::new("ip").args(args).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
}

/// A TCP stream from one namespace to the other; every octet is compared.
fn stream(from: &TestNs, to: &TestNs, address: Ipv4Addr) {
    let listener = inside(&to.name, move |_| TcpListener::bind((address, 5_201)).unwrap());
    let server = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let (mut buffer, mut total) = (vec![0; 1 << 18], 0usize);
        loop {
            let n = socket.read(&mut buffer).unwrap();
            if n == 0 {
                return total;
            }
            assert!(buffer[..n].iter().zip(total..).all(|(&octet, at)| octet == (at % 251) as u8), "octets differ near {total}");
            total += n;
        }
    });
    let mut socket =
        inside(&from.name, move |_| TcpStream::connect_timeout(&(address, 5_201).into(), Duration::from_secs(5)).unwrap());
    let octets: Vec<u8> = (0..STREAM).map(|at| (at % 251) as u8).collect();
    socket.write_all(&octets).unwrap();
    drop(socket);
    assert_eq!(server.join().unwrap(), STREAM);
}

fn journey(label: &str, a: Kind, b: Kind) {
    with_workers(label, a, b, 1);
}

fn with_workers(label: &str, a: Kind, b: Kind, workers: usize) {
    let Some(()) = privileged() else { return };
    let (one, two) = (TestNs::new(&format!("{label}a")), TestNs::new(&format!("{label}b")));
    let worker = worker(workers);
    let first = plug(&worker, &one, a, 2);
    let second = plug(&worker, &two, b, 3);
    ping(&one, second, "56");
    ping(&two, first, "1400");
    ping(&one, GATEWAY, "56");
    ping(&one, GATEWAY, "5000");
    stream(&one, &two, second);
    stream(&two, &one, first);
    thread::sleep(Duration::from_millis(50));
    let stats = worker.stats().unwrap();
    assert!(stats.accounts.balanced(), "{:?}", stats.accounts);
    assert_eq!(stats.accounts.held, 0);
    assert!(stats.ports.iter().skip(1).all(|(_, port)| port.counters.rx_bytes > STREAM as u64));
    // By number: 1 and 2 of 3 are further workers', 1 of 2.
    assert_eq!(stats.read.len(), workers - 1);
    assert!(stats.read.iter().all(|frames| *frames > 1_000), "{:?}", stats.read);
    worker.stop();
}

#[test]
fn tap_to_tap() {
    journey("wtt", Kind::Tap { rung: 0 }, Kind::Tap { rung: 0 });
}

#[test]
fn veth_to_veth() {
    journey("wvv", Kind::Veth, Kind::Veth);
}

#[test]
fn tap_to_veth() {
    journey("wtv", Kind::Tap { rung: 0 }, Kind::Veth);
}

#[test]
fn every_rung_of_the_offload_ladder() {
    for rung in 1..4 {
        journey(&format!("wr{rung}"), Kind::Tap { rung: 0 }, Kind::Tap { rung });
    }
}

/// Ports 1 and 2 are read by different threads, the uneven ones by the second.
#[test]
fn readers_read_taps_and_veths() {
    with_workers("w2t", Kind::Tap { rung: 0 }, Kind::Tap { rung: 0 }, 2);
    with_workers("w2v", Kind::Veth, Kind::Veth, 2);
    with_workers("w3x", Kind::Tap { rung: 0 }, Kind::Veth, 3);
}

/// Waits for an event, at most 10 s.
fn event(worker: &WorkerHandle, wanted: impl Fn(&WorkerEvent) -> bool) {
    for _ in 0..1_000 {
        while let Some(event) = worker.next_event() {
            if wanted(&event) {
                return;
            }
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("no such event");
}

/// Interfaces that go are noticed by whoever reads them; numbers are given to others while frames of before may wait.
#[test]
fn readers_ports_come_and_go() {
    let Some(()) = privileged() else { return };
    let [one, two] = ["wgoa", "wgob"].map(TestNs::new);
    let worker = worker(2);
    for kind in [Kind::Tap { rung: 0 }, Kind::Veth] {
        let first = plug(&worker, &one, kind, 2);
        let second = plug(&worker, &two, kind, 3);
        ping(&one, second, "56");
        ping(&two, first, "56");
        // In the middle of traffic.
        let mut storm = Command::new("ip")
            .args(["netns", "exec", &one.name, "ping", "-f", "-q", "-w2", &second.to_string()])
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(300));
        let odd = vswitch_switch::PortId::new(1).unwrap();
        let ticket = worker.remove_port(odd).unwrap().expect("it is there");
        event(&worker, |event| *event == WorkerEvent::Closed(ticket));
        let links = Command::new("ip").args(["-n", &one.name, "link"]).output().unwrap();
        assert!(!String::from_utf8_lossy(&links.stdout).contains("eth0"), "it is closed on every fd");
        storm.wait().unwrap();
        // Another has the number.
        plug(&worker, &one, kind, 2);
        ping(&one, second, "56");
        for (ns, id) in [(&one, 1), (&two, 2)] {
            let deleted = Command::new("ip").args(["-n", &ns.name, "link", "del", "eth0"]).status().unwrap();
            assert!(deleted.success());
            let id = vswitch_switch::PortId::new(id).unwrap();
            event(&worker, |event| *event == WorkerEvent::PortGone(id));
        }
        let stats = worker.stats().unwrap();
        assert!(stats.accounts.balanced() && stats.accounts.held == 0, "{:?}", stats.accounts);
        assert_eq!(stats.ports.len(), 1, "the gateway's is left");
    }
    worker.stop();
}

/// What was read when readers stop is not lost, and nothing is read until they go on.
#[test]
fn readers_pause_and_go_on() {
    let Some(()) = privileged() else { return };
    let [one, two] = ["wpaa", "wpab"].map(TestNs::new);
    let worker = worker(3);
    plug(&worker, &one, Kind::Tap { rung: 0 }, 2);
    let second = plug(&worker, &two, Kind::Tap { rung: 0 }, 3);
    let mut flood = Command::new("ip")
        .args(["netns", "exec", &one.name, "ping", "-f", "-q", "-c20000", "-w20", &second.to_string()])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    for _ in 0..50 {
        let (carried, ports) = worker.pause().unwrap();
        thread::sleep(Duration::from_millis(2));
        let (again, same) = worker.pause().unwrap();
        assert_eq!((format!("{carried:?}"), format!("{ports:?}")), (format!("{again:?}"), format!("{same:?}")), "nothing moves");
        worker.resume().unwrap();
        thread::sleep(Duration::from_millis(5));
    }
    let mut said = String::new();
    flood.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(flood.wait().unwrap().success() && said.contains(" 0% packet loss"), "{said}");
    let stats = worker.stats().unwrap();
    assert!(stats.accounts.balanced() && stats.accounts.held == 0, "{:?}", stats.accounts);
    worker.stop();
}
