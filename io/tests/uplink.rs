//! The uplink's packet socket, in namespaces of the test's own.
#![allow(missing_docs)]
mod common;

use common::{TestNs, ip, privileged};
use std::os::fd::AsFd;
use vswitch_io::link::{IfName, Netlink};
use vswitch_io::netns::{Namespace, NsSpec};
use vswitch_io::sys::packet;

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
