//! The uplink's packet socket, in namespaces of the test's own.
#![allow(missing_docs)]
mod common;

use common::{TestNs, ip, privileged};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use vswitch_io::link::{Addressing, IfName, Netlink, TapOptions, configure, open_tap};
use vswitch_io::netns::{Namespace, NsSpec};
use vswitch_io::port::Port;
use vswitch_io::sys::packet;
use vswitch_io::worker::{WorkerConfig, WorkerEvent, WorkerHandle, spawn};
use vswitch_nat::gateway::GatewayConfig;
use vswitch_nat::nat::NatConfig;
use vswitch_nat::station::{AddressGuard, Limits, Station};
use vswitch_nat::wan::WanConfig;
use vswitch_switch::{DropReason, FdbLimits, PortConfig, PortId, SwitchConfig, UnicastMac};

const OURS: [u8; 6] = [2, 0x58, 1, 1, 1, 1];
const HOSTS: [u8; 6] = [2, 0x59, 1, 1, 1, 1];

#[test]
fn only_frames_for_us_or_groups_come() {
    let Some(()) = privileged() else { return };
    let ns = TestNs::new("upl");
    Namespace::open(&NsSpec::parse(&ns.name).unwrap()).unwrap().enter().unwrap();
    ip(&["link", "add", "up0", "address", "02:59:01:01:01:01", "type", "veth", "peer", "name", "far0"]);
    ip(&["link", "set", "up0", "up"]);
    ip(&["link", "set", "far0", "up"]);
    let mut netlink = Netlink::open().unwrap();
    let mut index = |name| netlink.index(&IfName::parse(name).unwrap()).unwrap().unwrap();
    let (fd, _) = packet::open_uplink(index("up0"), OURS).unwrap();
    packet::verify(fd.as_fd()).unwrap();
    let far = packet::open(index("far0")).unwrap();
    for (dst, marker) in [(HOSTS, 1u8), (OURS, 2), ([0xff; 6], 3), ([2, 0x58, 1, 1, 1, 2], 4), ([1, 0, 0x5e, 0, 0, 1], 5)] {
        let frame = [&[0; 10][..], &dst, &[2, 9, 9, 9, 9, 9], &[0x88, 0xb6], &[marker; 46]].concat();
        assert_eq!(nix::unistd::write(&far, &frame).unwrap(), frame.len());
    }
    std::thread::sleep(std::time::Duration::from_millis(50));
    let (mut buffer, mut seen) = ([0; 2048], vec![]);
    while let Ok(n) = nix::unistd::read(&fd, &mut buffer) {
        if buffer[22..24] == [0x88, 0xb6] {
            seen.push(buffer[n - 1]);
        }
    }
    assert_eq!(seen, [2, 3, 5]);
}

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);
const CONTAINER: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 2);
const WAN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const FAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Octets of the stream; enough for many GSO frames.
const STREAM: usize = 8 << 20;
/// How long an uplink that is back may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Runs `job` on a thread that has entered `name`.
fn inside<T: Send + 'static>(name: &str, job: impl FnOnce() -> T + Send + 'static) -> T {
    let namespace = Namespace::open(&NsSpec::parse(name).unwrap()).unwrap();
    let entered = move || {
        namespace.enter().unwrap();
        job()
    };
    thread::spawn(entered).join().unwrap()
}

fn index(name: &str) -> u32 {
    Netlink::open().unwrap().index(&IfName::parse(name).unwrap()).unwrap().unwrap()
}

/// A container behind a worker, whose uplink up0 is a veth in a namespace of its own; the far end is in another.
struct World {
    worker: WorkerHandle,
    container: TestNs,
    host: TestNs,
    far: TestNs,
}

impl World {
    fn new(label: &str) -> Self {
        let [container, host, far] = ["c", "h", "f"].map(|end| TestNs::new(&format!("{label}{end}")));
        let mac = UnicastMac::for_ipv4(GATEWAY.octets());
        let switch = SwitchConfig { mac, fdb: FdbLimits::default(), group_forward: 0, flood_unregistered: true, seed: 1 };
        let poll = mio::Poll::new().unwrap();
        let notify = Arc::new(mio::Waker::new(poll.registry(), mio::Token(0)).unwrap());
        let gateway = Some(GatewayConfig { mac, address: GATEWAY, prefix: 20, v6: None });
        let worker = spawn(WorkerConfig { switch, gateway, key: [1, 2], paused: false, workers: 1 }, notify).unwrap();
        let world = Self { worker, container, host, far };
        world.plug_container();
        world.make_link();
        world.set_uplink();
        world
    }

    fn plug_container(&self) {
        let mac = UnicastMac::for_ipv4(CONTAINER.octets());
        let port = inside(&self.container.name, move || {
            let options = TapOptions { mac: mac.mac().0, mtu: 1_500, txqueuelen: 256, max_rung: 0 };
            let (fd, mask) = open_tap(&IfName::parse("eth0").unwrap(), &options).unwrap();
            Port::tap(fd, mask).unwrap()
        });
        let id = self.worker.add_port(port, PortConfig::default(), 1_500).unwrap().unwrap();
        inside(&self.container.name, move || {
            let gateway_mac = UnicastMac::for_ipv4(GATEWAY.octets()).mac().0;
            let addressing = Addressing { address: CONTAINER, prefix: 20, gateway: GATEWAY, gateway_mac };
            configure(&mut Netlink::open().unwrap(), index("eth0"), &addressing).unwrap();
        });
        let station =
            Station { mac, v4: Some(CONTAINER), v6: None, mtu: 1_500, limits: Limits::default(), guard: AddressGuard::default() };
        self.worker.gateway(move |gateway, _| gateway.stations.set(id.get(), station)).unwrap();
    }

    fn make_link(&self) {
        let peer = ["peer", "name", "far0", "netns", &self.far.name];
        let made = [&["-n", &self.host.name, "link", "add", "up0", "type", "veth"][..], &peer].concat();
        ip(&made);
        ip(&["-n", &self.far.name, "link", "set", "far0", "address", "02:59:01:01:01:02", "up"]);
        ip(&["-n", &self.far.name, "addr", "add", "192.0.2.1/24", "dev", "far0"]);
        self.link(&["set", "up0", "up"]);
    }

    fn link(&self, args: &[&str]) {
        ip(&[&["-n", &self.host.name, "link"], args].concat());
    }

    /// The uplink's socket, opened in its namespace.
    fn open(&self) -> OwnedFd {
        inside(&self.host.name, || packet::open_uplink(index("up0"), OURS).unwrap().0)
    }

    fn set_uplink(&self) {
        let mac = UnicastMac::new(vswitch_switch::Mac(OURS)).unwrap();
        let wan = WanConfig { mac, mtu: 1_500, v4: vec![(WAN, 24)], v6: vec![], gateway_v4: None, gateway_v6: None };
        self.worker.gateway(|gateway, now| gateway.set_uplink(NatConfig::default(), wan, now)).unwrap().unwrap();
        let port = Port::uplink(self.open(), IfName::parse("up0").unwrap(), OURS).unwrap();
        self.worker.set_uplink(Some((port, 1_500))).unwrap().unwrap();
    }

    fn reaches_far(&self) -> bool {
        let args = ["netns", "exec", &self.container.name, "ping", "-c1", "-W1", &FAR.to_string()].map(String::from);
        Command::new("ip").args(args).output().unwrap().status.success()
    }

    fn wait_for_far(&self) {
        let since = Instant::now();
        while !self.reaches_far() {
            assert!(since.elapsed() < PATIENCE, "no traffic: {:?}", self.worker.stats().unwrap());
        }
    }

    fn event(&self) -> WorkerEvent {
        let since = Instant::now();
        loop {
            match self.worker.next_event() {
                Some(WorkerEvent::Switch(_)) => {}
                Some(event) => return event,
                None => thread::sleep(Duration::from_millis(10)),
            }
            assert!(since.elapsed() < PATIENCE, "no event");
        }
    }

    fn down_drops(&self) -> u64 {
        self.worker.stats().unwrap().drops.get(DropReason::PortDown)
    }

    /// Without its interface: frames to it are counted, and the worker sleeps.
    fn is_down(&self) {
        assert_eq!(self.event(), WorkerEvent::UplinkDown);
        let before = self.down_drops();
        assert!(!self.reaches_far());
        assert!(self.down_drops() > before, "each frame has its fate");
        let (spent, since) = (worker_seconds(), Instant::now());
        assert!(spent > 0.0, "the worker is found");
        thread::sleep(Duration::from_secs(2));
        let spent = worker_seconds() - spent;
        assert!(spent < 0.3, "{spent} s of {:?}", since.elapsed());
        assert_eq!(self.worker.next_event(), None, "it is told once");
        let ports = self.worker.stats().unwrap().ports;
        assert!(ports.iter().any(|(id, _)| *id == PortId::UPLINK), "the uplink stays");
    }

    fn is_back(&self) {
        self.wait_for_far();
        assert_eq!(self.event(), WorkerEvent::UplinkUp);
        assert_eq!(self.worker.next_event(), None);
        let stats = self.worker.stats().unwrap();
        assert!(stats.accounts.balanced(), "{:?}", stats.accounts);
    }
}

/// Whether an ARP announcement of our address waits in a socket.
fn announced(far: &OwnedFd) -> bool {
    let mut buffer = [0; 2_048];
    let mut frames = std::iter::from_fn(|| nix::unistd::read(far, &mut buffer).ok().map(|n| buffer[10..n].to_vec()));
    // To all, of type ARP, sender and target the same.
    frames.any(|frame| {
        frame[..6] == [0xff; 6] && frame[12..14] == [8, 6] && frame[28..32] == WAN.octets() && frame[38..42] == WAN.octets()
    })
}

/// CPU time of this process's workers.
fn worker_seconds() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let workers = tasks.filter(|task| std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "worker"));
    let nanos = workers.map(|task| {
        let text = std::fs::read_to_string(task.join("schedstat")).unwrap();
        text.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    });
    nanos.sum::<u64>() as f64 / 1e9
}

#[test]
fn an_interface_that_goes_and_comes_back_is_used_again() {
    let Some(()) = privileged() else { return };
    let world = World::new("back");
    world.wait_for_far();
    world.link(&["set", "up0", "down"]);
    world.is_down();
    let far = inside(&world.far.name, || packet::open(index("far0")).unwrap());
    world.link(&["set", "up0", "up"]);
    world.is_back();
    assert!(announced(&far), "switches out there are told where we are");
    drop(far);
    // The veth's far end goes with it, as another NIC's would not.
    world.link(&["del", "up0"]);
    world.is_down();
    world.make_link();
    world.is_back();
    // The second time too, and with the new one still down at first.
    world.link(&["del", "up0"]);
    world.is_down();
    world.make_link();
    world.link(&["set", "up0", "down"]);
    thread::sleep(Duration::from_millis(1_500));
    world.link(&["set", "up0", "up"]);
    world.wait_for_far();
    world.worker.stop();
}

#[test]
fn an_uplink_is_taken_over_without_its_interface() {
    let Some(()) = privileged() else { return };
    let world = World::new("over");
    world.wait_for_far();
    world.link(&["del", "up0"]);
    assert_eq!(world.event(), WorkerEvent::UplinkDown);
    let fd = world.worker.port_fd(PortId::UPLINK).unwrap().unwrap();
    assert!(Port::packet(fd.try_clone().unwrap()).is_err(), "a container's port must have one");
    let port = Port::uplink(fd, IfName::parse("up0").unwrap(), OURS).unwrap();
    assert!(port.is_down());
    world.worker.set_uplink(Some((port, 1_500))).unwrap().unwrap();
    world.make_link();
    world.wait_for_far();
    world.worker.stop();
}

/// The kernel's segments come in one frame, with what is left to do.
#[test]
fn frames_come_unsegmented() {
    let Some(()) = privileged() else { return };
    let world = World::new("gso");
    world.wait_for_far();
    let observer = world.open();
    let listener = inside(&world.far.name, || TcpListener::bind((FAR, 5_201)).unwrap());
    let server = thread::spawn(move || listener.accept().unwrap().0.write_all(&vec![7; STREAM]).unwrap());
    let mut client = inside(&world.container.name, || TcpStream::connect_timeout(&(FAR, 5_201).into(), PATIENCE).unwrap());
    let mut octets = Vec::new();
    client.read_to_end(&mut octets).unwrap();
    server.join().unwrap();
    assert!(octets.len() == STREAM && octets.iter().all(|octet| *octet == 7));
    let (mut frame, mut unsegmented) = (vec![0; 70_000], 0);
    while let Ok(n) = nix::unistd::read(&observer, &mut frame) {
        // virtio_net_hdr: flags, gso_type (1: TCP over IPv4), hdr_len, gso_size.
        let (kind, size) = (frame[1], u16::from_ne_bytes([frame[4], frame[5]]));
        unsegmented += u32::from(n > 10 + 1_514 && kind == 1 && size <= 1_460);
    }
    assert!(unsegmented > 0);
    let stats = world.worker.stats().unwrap();
    assert!(stats.accounts.balanced(), "{:?}", stats.accounts);
    world.worker.stop();
}
