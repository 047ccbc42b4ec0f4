//! TAP and veth ports in namespaces of the test's own. They need root (or a user namespace with CAP_NET_ADMIN and
//! CAP_SYS_ADMIN) and /dev/net/tun; elsewhere they say SKIP, in CI (VSWITCH_CI=1) they fail.

mod common;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use common::{TestNs, ip, privileged};
use vswitch_io::link::{
    Addressing, Addressing6, IfName, Ipv4Net, LinkError, Netlink, TapOptions, VethOptions, configure, configure_host,
    configure_host6, open_tap, open_veth, refuse_advertisements,
};
use vswitch_io::netns::{Namespace, NetnsError, NsSpec};
use vswitch_io::sys::{packet, tun};

const MAC: [u8; 6] = [2, 0x58, 10, 88, 0, 2];
const TAP: TapOptions = TapOptions { mac: MAC, mtu: 1400, txqueuelen: 256, max_rung: 0 };
const VETH: VethOptions = VethOptions { mac: MAC, mtu: 1400 };
const TO: Addressing = Addressing {
    address: Ipv4Addr::new(10, 88, 0, 2),
    prefix: 20,
    gateway: Ipv4Addr::new(10, 88, 0, 1),
    gateway_mac: [2, 0x58, 10, 88, 0, 1],
};

fn eth0() -> IfName {
    IfName::parse("eth0").unwrap()
}

fn open(ns: &TestNs) -> Namespace {
    Namespace::open(&NsSpec::parse(&ns.name).unwrap()).unwrap()
}

#[test]
fn a_tap_is_made_and_configured() {
    let Some(()) = privileged() else { return };
    let ns = TestNs::new("tap");
    let namespace = open(&ns);
    assert_eq!(namespace.suggested_name(), ns.name);
    namespace.refuse_host().unwrap();
    namespace.enter().unwrap();
    let (fd, mask) = open_tap(&eth0(), &TAP).unwrap();
    assert!(tun::OFFLOAD_LADDER.contains(&mask));
    let iff = tun::verify(fd.as_fd()).unwrap();
    assert_eq!(iff.name, eth0());
    let shown = ip(&["-d", "link", "show", "eth0"]);
    for part in ["mtu 1400", "qlen 256", "02:58:0a:58:00:02", "state DOWN"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let mut netlink = Netlink::open().unwrap();
    let index = netlink.index(&eth0()).unwrap().unwrap();
    configure(&mut netlink, index, &TO).unwrap();
    assert!(ip(&["-4", "addr", "show", "eth0"]).contains("10.88.0.2/20 brd 10.88.15.255"));
    assert!(ip(&["route"]).contains("default via 10.88.0.1 dev eth0"));
    assert!(ip(&["neigh"]).contains("10.88.0.1 dev eth0 lladdr 02:58:0a:58:00:01 PERMANENT"));
    assert!(ip(&["link", "show", "lo"]).contains(",UP"));
    let used = netlink.ipv4_in_use().unwrap();
    let subnet = Ipv4Net { address: Ipv4Addr::new(10, 88, 0, 0), prefix: 20 };
    assert!(used.contains(&subnet), "{used:?}");
    let again = configure(&mut netlink, index, &TO).unwrap_err();
    assert!(matches!(again, LinkError::AddressExists(_)), "{again}");
}

/// As `attach --host` does, in a namespace that stands for the host's.
#[test]
fn one_of_the_hosts_is_no_way_out() {
    let Some(()) = privileged() else { return };
    let ns = TestNs::new("host");
    open(&ns).enter().unwrap();
    let lo = ip(&["addr", "show", "lo"]);
    let (_fd, _) = open_tap(&eth0(), &TAP).unwrap();
    refuse_advertisements(&eth0()).unwrap();
    assert_eq!(std::fs::read_to_string("/proc/sys/net/ipv6/conf/eth0/accept_ra").unwrap(), "0\n");
    let mut netlink = Netlink::open().unwrap();
    assert!(netlink.may_change());
    let index = netlink.index(&eth0()).unwrap().unwrap();
    configure_host(&mut netlink, index, &TO).unwrap();
    let [address, gateway] = [2, 1].map(|end| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, end));
    let to6 = Addressing6 { address, prefix: 64, gateway, gateway_mac: TO.gateway_mac };
    assert!(configure_host6(&mut netlink, index, &to6).unwrap());
    assert_eq!(ip(&["addr", "show", "lo"]), lo);
    assert_eq!(ip(&["route"]).lines().count(), 1, "its own network only");
    assert!(!ip(&["-6", "route"]).contains("default"));
    let neighbours = ip(&["neigh"]);
    for gateway in ["10.88.0.1", "fd00::1"] {
        assert!(neighbours.contains(&format!("{gateway} dev eth0 lladdr 02:58:0a:58:00:01 PERMANENT")), "{neighbours}");
    }
    assert!(matches!(configure_host(&mut netlink, index, &TO).unwrap_err(), LinkError::AddressExists(_)));
}

#[test]
fn each_rung_of_the_ladder() {
    let Some(()) = privileged() else { return };
    let ns = TestNs::new("rung");
    open(&ns).enter().unwrap();
    let mut last = u32::MAX;
    for rung in 0..=tun::OFFLOAD_LADDER.len() {
        let (fd, mask) = open_tap(&eth0(), &TapOptions { max_rung: rung, ..TAP }).unwrap();
        assert!(mask <= tun::OFFLOAD_LADDER[rung.min(3)]);
        if rung < 4 {
            assert!(mask < last || mask < tun::OFFLOAD_LADDER[0], "rung {rung} gave {mask:#x}");
        }
        last = mask;
        drop(fd);
    }
    assert_eq!(last, 0);
}

#[test]
fn a_veth_is_made_and_ends_with_its_socket() {
    let Some(()) = privileged() else { return };
    let ns = TestNs::new("veth");
    let namespace = open(&ns);
    namespace.enter().unwrap();
    let before = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
    let fd = open_veth(namespace.as_fd(), &eth0(), &VETH).unwrap();
    assert_eq!(std::fs::read_link("/proc/thread-self/ns/net").unwrap(), before);
    packet::verify(fd.as_fd()).unwrap();
    let shown = ip(&["link", "show", "eth0"]);
    for part in ["mtu 1400", "02:58:0a:58:00:02", "eth0@"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let mut netlink = Netlink::open().unwrap();
    let index = netlink.index(&eth0()).unwrap().unwrap();
    configure(&mut netlink, index, &TO).unwrap();
    let taken = open_veth(namespace.as_fd(), &eth0(), &VETH).unwrap_err();
    assert!(matches!(taken, LinkError::Taken { .. }), "{taken}");
    // What the container sends comes out of the socket.
    let socket = std::net::UdpSocket::bind("10.88.0.2:0").unwrap();
    socket.send_to(b"out", "10.88.0.1:9").unwrap();
    let mut buf = [0; 2048];
    let mut found = false;
    for _ in 0..64 {
        match nix::unistd::read(&fd, &mut buf) {
            Ok(n) => found |= buf[..n].windows(3).any(|w| w == b"out"),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
        if found {
            break;
        }
    }
    assert!(found);
    assert!(packet::statistics(&fd).unwrap().packets > 0);
    assert_eq!(packet::statistics(&fd).unwrap().packets, 0);
    drop(fd);
    let gone = wait_for(|| netlink.index(&eth0()).unwrap().is_none());
    assert!(gone, "the pair is still there after its socket closed");
}

#[test]
fn the_host_end_of_a_veth_is_silent() {
    let Some(()) = privileged() else { return };
    let ns = TestNs::new("silent");
    let namespace = open(&ns);
    namespace.enter().unwrap();
    let port = open_veth(namespace.as_fd(), &eth0(), &VETH).unwrap();
    let mut netlink = Netlink::open().unwrap();
    let index = netlink.index(&eth0()).unwrap().unwrap();
    let mut buf = [0; 128];
    let capture = packet::open(index).unwrap();
    // Bound while the interface is down, which the socket tells once.
    assert_eq!(nix::unistd::read(&capture, &mut buf), Err(nix::errno::Errno::ENETDOWN));
    configure(&mut netlink, index, &TO).unwrap();
    // Long enough for MLD reports, duplicate address detection and the first router solicitation.
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(nix::unistd::read(&capture, &mut buf), Err(nix::errno::Errno::EAGAIN), "{buf:x?}");
    // The capture itself works.
    let mut frame = vec![0; 10];
    frame.extend_from_slice(&[0xff; 6]);
    frame.extend_from_slice(&[2, 0, 0, 0, 0, 9, 0x88, 0xb5]);
    frame.resize(70, 0);
    nix::unistd::write(&port, &frame).unwrap();
    assert!(wait_for(|| nix::unistd::read(&capture, &mut buf) == Ok(70)));
}

#[test]
fn taken_names_and_bad_values() {
    let Some(()) = privileged() else { return };
    let ns = TestNs::new("taken");
    let namespace = open(&ns);
    namespace.enter().unwrap();
    let (first, _) = open_tap(&eth0(), &TAP).unwrap();
    let error = open_tap(&eth0(), &TAP).unwrap_err();
    assert_eq!(error.to_string(), "the namespace already has an interface eth0: pass --ifname eth1");
    assert!(matches!(open_veth(namespace.as_fd(), &eth0(), &VETH), Err(LinkError::Taken { .. })));
    let lo = IfName::parse("lo").unwrap();
    assert!(matches!(open_tap(&lo, &TAP), Err(LinkError::Taken { .. })));
    assert!(matches!(open_veth(namespace.as_fd(), &lo, &VETH), Err(LinkError::Taken { .. })));
    assert!(matches!(open_tap(&eth0(), &TapOptions { mtu: 70_000, ..TAP }), Err(LinkError::Mtu(_))));
    // A route in the way.
    let mut netlink = Netlink::open().unwrap();
    let index = netlink.index(&eth0()).unwrap().unwrap();
    ip(&["link", "set", "eth0", "up"]);
    ip(&["addr", "add", "192.168.77.2/24", "dev", "eth0"]);
    ip(&["route", "add", "default", "via", "192.168.77.1"]);
    let error = configure(&mut netlink, index, &TO).unwrap_err();
    assert!(matches!(error, LinkError::RouteExists), "{error}");
    drop(first);
}

#[test]
fn wrong_fds_are_named() {
    let Some(()) = privileged() else { return };
    let ns = TestNs::new("wrong");
    open(&ns).enter().unwrap();
    let fresh = tun::open().unwrap();
    assert!(matches!(tun::verify(fresh.as_fd()), Err(tun::NotOurTap::NoTun(_))));
    let plain = tun::open().unwrap();
    tun::set_iff(&plain, &eth0(), libc::IFF_TAP | libc::IFF_NO_PI).unwrap();
    assert!(matches!(tun::verify(plain.as_fd()), Err(tun::NotOurTap::Flags(_))));
    assert_eq!(tun::set_iff(&plain, &eth0(), tun::FLAGS).unwrap_err().raw_os_error(), Some(libc::EEXIST));
    let big = tun::open().unwrap();
    tun::set_iff(&big, &IfName::parse("big").unwrap(), tun::FLAGS).unwrap();
    tun::set_vnet_header_size(&big, 12).unwrap();
    assert!(matches!(tun::verify(big.as_fd()), Err(tun::NotOurTap::HeaderSize(12))));
    assert!(matches!(packet::verify(big.as_fd()), Err(packet::NotOurSocket::Family)));
    let raw = |kind| -> OwnedFd {
        use nix::sys::socket::{AddressFamily, SockFlag, socket};
        socket(AddressFamily::Packet, kind, SockFlag::SOCK_CLOEXEC, None).unwrap()
    };
    let cooked = raw(nix::sys::socket::SockType::Datagram);
    assert!(matches!(packet::verify(cooked.as_fd()), Err(packet::NotOurSocket::Type)));
    let unbound = raw(nix::sys::socket::SockType::Raw);
    assert!(matches!(packet::verify(unbound.as_fd()), Err(packet::NotOurSocket::Unbound)));
    packet::bind(&unbound, 1).unwrap();
    let error = packet::verify(unbound.as_fd()).unwrap_err();
    assert!(matches!(error, packet::NotOurSocket::Option("PACKET_VNET_HDR")), "{error}");
    assert_eq!(packet::open(999).unwrap_err().raw_os_error(), Some(libc::ENODEV));
}

#[test]
fn a_name_that_goes_is_seen() {
    let Some(()) = privileged() else { return };
    let mut ns = TestNs::new("gone");
    let namespace = open(&ns);
    let watch = namespace.watch().unwrap().unwrap();
    assert!(watch.fd_fits());
    let other = TestNs::new("other");
    drop(other);
    assert!(!watch.gone().unwrap());
    ns.delete();
    assert!(watch.gone().unwrap());
    assert!(matches!(namespace.watch(), Err(NetnsError::Gone { .. })));
    // Another namespace of the same name is not the one that was opened.
    ns.add();
    assert!(watch.gone().unwrap());
    assert_ne!(open(&ns).id(), namespace.id());
}

#[test]
fn an_attach_is_quick() {
    let Some(()) = privileged() else { return };
    let ns = TestNs::new("quick");
    let namespace = open(&ns);
    namespace.enter().unwrap();
    for veth in [false, true] {
        let start = Instant::now();
        let fd = if veth { open_veth(namespace.as_fd(), &eth0(), &VETH).unwrap() } else { open_tap(&eth0(), &TAP).unwrap().0 };
        let made = start.elapsed();
        let mut netlink = Netlink::open().unwrap();
        let index = netlink.index(&eth0()).unwrap().unwrap();
        configure(&mut netlink, index, &TO).unwrap();
        println!("veth {veth}: made {made:?}, all {:?}", start.elapsed());
        // A generous bound for busy machines; the aim is 25 ms.
        assert!(start.elapsed() < Duration::from_millis(500));
        drop(fd);
        assert!(wait_for(|| netlink.index(&eth0()).unwrap().is_none()));
    }
}

/// Asks `done` for up to two seconds.
fn wait_for(mut done: impl FnMut() -> bool) -> bool {
    (0..200).any(|_| {
        let yes = done();
        if !yes {
            std::thread::sleep(Duration::from_millis(10));
        }
        yes
    })
}
