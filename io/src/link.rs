//! Interfaces of containers: TAPs and veth pairs, and their configuration over rtnetlink.
//!
//! All works in the network namespace of the calling thread ([`crate::netns::Namespace::enter`]) and blocks; nothing
//! waits or retries. Requests go to the kernel in batches, one round trip each ([`Netlink::apply`]), so that an attach
//! costs the kernel's own work (about a millisecond or two for a device) and little else.
//!
//! **TAP** ([`open_tap`]): the device lives in the container's namespace, its fd is the port. It is left down: the
//! daemon should hold the fd before the container's kernel sends its first frame. It ends when the fd closes.
//!
//! **veth** ([`open_veth`]): one end in the container's namespace, the other in an anonymous namespace made for it, in
//! which an AF_PACKET socket is bound to it. That socket is the port and all that keeps the anonymous namespace alive:
//! when it closes, the kernel removes the namespace and with it the pair. Nothing on the host ever sees the pair. The
//! host end would speak for itself (MLD reports, neighbour and router solicitations); it is kept silent by IFF_NOARP,
//! no generated IPv6 address and no IPv6 at all, all of it before it comes up.
//!
//! Not here: which addresses a container gets.

mod netlink;
mod routes;

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;

use nix::sched::{CloneFlags, setns, unshare};

pub use crate::sys::{IfName, IfNameError};
use crate::sys::{packet, tun};
pub use netlink::{Change, Ipv4Net, LinkSettings, Netlink, NetlinkError, VethPeer};
pub use routes::{RouteWatch, leads_out_v6};

/// Smallest MTU of a container's interface in bytes (RFC 791: every link carries 68).
pub const MTU_MIN: u32 = 68;

/// Largest MTU in bytes: what a TAP takes (65,535 less the Ethernet header).
pub const MTU_MAX: u32 = 65_521;

/// Index asked for the host end: the first that is free in a new namespace, where 1 is lo.
const HOST_END_INDEX: u32 = 2;

/// Index of lo in every namespace.
const LOOPBACK_INDEX: u32 = 1;

/// How a TAP is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TapOptions {
    /// The container's hardware address.
    pub mac: [u8; 6],
    /// [`MTU_MIN`] to [`MTU_MAX`] bytes.
    pub mtu: u32,
    /// Frames that wait for us at most (each up to 64 KB).
    pub txqueuelen: u32,
    /// First rung tried of [`tun::OFFLOAD_LADDER`]; 0 unless an offload is to be avoided.
    pub max_rung: usize,
}

/// How a veth's container end is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VethOptions {
    /// The container's hardware address.
    pub mac: [u8; 6],
    /// [`MTU_MIN`] to [`MTU_MAX`] bytes, of both ends.
    pub mtu: u32,
}

/// What a container's interface is given once its port is plugged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addressing {
    /// The container's address.
    pub address: Ipv4Addr,
    /// Its prefix length, 0 to 32.
    pub prefix: u8,
    /// Default router, on the same link.
    pub gateway: Ipv4Addr,
    /// The router's hardware address, entered as a permanent neighbour: those do not count against the kernel's limit.
    pub gateway_mac: [u8; 6],
}

/// The same for IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addressing6 {
    /// The container's address.
    pub address: Ipv6Addr,
    /// Its prefix length, 0 to 128.
    pub prefix: u8,
    /// Default router, on the same link.
    pub gateway: Ipv6Addr,
    /// The router's hardware address.
    pub gateway_mac: [u8; 6],
}

/// Why an interface cannot be made or configured. Each text is one line, "what: remedy".
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// An interface of that name exists.
    #[error("the namespace already has an interface {name}: pass --ifname {}", next_name(.name))]
    Taken {
        /// The name.
        name: IfName,
    },
    /// MTU out of range.
    #[error("MTU {0} cannot be set: choose {MTU_MIN} to {MTU_MAX}")]
    Mtu(u32),
    /// Multicast or zero hardware address.
    #[error("{} is no address of an interface: choose a unicast one such as 02:58:0a:58:00:02", mac_text(.0))]
    Mac([u8; 6]),
    /// No /dev/net/tun.
    #[error("/dev/net/tun does not exist: \"sudo modprobe tun\"; inside Docker start with --device /dev/net/tun")]
    NoTun,
    /// /dev/net/tun's mode keeps the user out.
    #[error("/dev/net/tun is mode {mode:04o}, you need read-write: \"sudo chmod 0666 /dev/net/tun\" (the usual mode)")]
    TunMode {
        /// Its permission bits.
        mode: u32,
    },
    /// A device cgroup or security module keeps the user out.
    #[error("/dev/net/tun is forbidden to this container: inside Docker start with --device /dev/net/tun")]
    TunForbidden,
    /// No capability in the namespace.
    #[error("you may not {what} in this namespace: use sudo, or a namespace of your own (\"unshare -Urn\")")]
    NotAllowed {
        /// What was tried.
        what: &'static str,
    },
    /// /proc/sys is read-only.
    #[error("{name} would let containers set the host's routes (accept_ra: {source}): run where /proc/sys can be written")]
    Advertisements {
        /// The interface.
        name: IfName,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The namespace has a default route.
    #[error("the namespace already has a default route: \"ip route del default\" there first")]
    RouteExists,
    /// The namespace has the address.
    #[error("the interface already has the address {0}: remove it, or choose another --ip")]
    AddressExists(Ipv4Addr),
    /// Another system call failed.
    #[error("cannot {what} ({source}): check the kernel's log")]
    System {
        /// What was tried.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// A name to propose beside one that is taken: the number at its end plus one.
fn next_name(taken: &IfName) -> String {
    let text = taken.as_str();
    let stem = text.trim_end_matches(|c: char| c.is_ascii_digit());
    let number = text.get(stem.len()..).and_then(|n| n.parse::<u32>().ok());
    let proposed = format!("{stem}{}", number.map_or(1, |n| n.saturating_add(1)));
    if IfName::parse(&proposed).is_ok() { proposed } else { "eth1".into() }
}

fn mac_text(mac: &[u8; 6]) -> String {
    mac.map(|b| format!("{b:02x}")).join(":")
}

fn system(what: &'static str) -> impl Fn(io::Error) -> LinkError {
    move |e| match e.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => LinkError::NotAllowed { what },
        _ => LinkError::System { what, source: e },
    }
}

/// What the kernel would refuse with one EINVAL for all.
fn check(mac: [u8; 6], mtu: u32) -> Result<(), LinkError> {
    if !(MTU_MIN..=MTU_MAX).contains(&mtu) {
        return Err(LinkError::Mtu(mtu));
    }
    if mac[0] & 1 != 0 || mac == [0; 6] {
        return Err(LinkError::Mac(mac));
    }
    Ok(())
}

/// Opens /dev/net/tun and says what keeps one from it.
fn open_tun() -> Result<OwnedFd, LinkError> {
    tun::open().map_err(|e| match e.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO | libc::ENOTDIR) => LinkError::NoTun,
        Some(libc::EACCES) => match std::fs::metadata(tun::DEVICE).map(|m| m.permissions().mode() & 0o7777) {
            Ok(mode) if mode & 0o006 != 0o006 => LinkError::TunMode { mode },
            Ok(_) | Err(_) => LinkError::TunForbidden,
        },
        Some(libc::EPERM) => LinkError::TunForbidden,
        _ => LinkError::System { what: "open /dev/net/tun", source: e },
    })
}

/// Makes the TAP `ifname` in the current namespace, with hardware address, MTU and queue length set, and left down.
/// Returns its fd (non-blocking) and the offload mask the kernel took.
///
/// # Errors
/// [`LinkError`]; the TAP is gone again then.
pub fn open_tap(ifname: &IfName, options: &TapOptions) -> Result<(OwnedFd, u32), LinkError> {
    check(options.mac, options.mtu)?;
    let fd = open_tun()?;
    tun::set_iff(&fd, ifname, tun::FLAGS | libc::IFF_TUN_EXCL).map_err(|e| {
        match e.raw_os_error() {
            // With TUN_EXCL an existing TAP, EINVAL an existing interface of another kind.
            Some(libc::EBUSY | libc::EEXIST | libc::EINVAL) => LinkError::Taken { name: ifname.clone() },
            _ => system("make a TAP")(e),
        }
    })?;
    tun::set_vnet_header_size(&fd, tun::HEADER_BYTES).map_err(system("set the TAP's header"))?;
    let mask = tun::climb_offloads(&fd, options.max_rung).map_err(system("set the TAP's offloads"))?;
    let settings = LinkSettings {
        mac: Some(options.mac),
        mtu: Some(options.mtu),
        txqueuelen: Some(options.txqueuelen),
        ..LinkSettings::default()
    };
    let mut netlink = Netlink::open().map_err(system("open rtnetlink"))?;
    netlink.apply(&[Change::SetByName { name: ifname.clone(), settings }]).map_err(|e| system("configure the TAP")(e.source))?;
    Ok((fd, mask))
}

/// Makes the veth end `ifname` in `container`, left down, and returns the packet socket on the other end (up, silent,
/// promiscuous, non-blocking), which lives in an anonymous namespace. The calling thread is back in its own namespace
/// afterwards. Its user namespace must be capable over `container` (see [`crate::netns::Namespace::enter`]).
///
/// # Errors
/// [`LinkError`]; the pair is gone again then.
pub fn open_veth(container: BorrowedFd<'_>, ifname: &IfName, options: &VethOptions) -> Result<OwnedFd, LinkError> {
    check(options.mac, options.mtu)?;
    let home = File::open("/proc/thread-self/ns/net").map_err(system("open our own namespace"))?;
    unshare(CloneFlags::CLONE_NEWNET).map_err(|e| system("make a namespace")(e.into()))?;
    let port = open_host_end(container, ifname, options);
    setns(&home, CloneFlags::CLONE_NEWNET).map_err(|e| system("return to our own namespace")(e.into()))?;
    port
}

/// The part of [`open_veth`] within the anonymous namespace.
fn open_host_end(container: BorrowedFd<'_>, ifname: &IfName, options: &VethOptions) -> Result<OwnedFd, LinkError> {
    // /proc/sys/net is that of the calling thread's namespace. Where it is read-only (in some containers) or the kernel
    // has no IPv6, the other two measures keep the interface silent alone.
    let _ = std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    let mut netlink = Netlink::open().map_err(system("open rtnetlink"))?;
    let changes = [
        Change::Veth {
            // Both ends by one name: the host end's is seen nowhere.
            name: ifname.clone(),
            index: HOST_END_INDEX,
            mtu: options.mtu,
            arp: false,
            peer: VethPeer { name: ifname.clone(), namespace: container, mac: options.mac, mtu: options.mtu },
        },
        Change::Set { index: HOST_END_INDEX, settings: LinkSettings { no_ipv6_address: true, ..LinkSettings::default() } },
        Change::Set {
            index: HOST_END_INDEX,
            settings: LinkSettings { up: Some(true), arp: Some(false), ..LinkSettings::default() },
        },
    ];
    netlink.apply(&changes).map_err(|e| match (e.position, e.source.raw_os_error()) {
        // The anonymous namespace is empty: the name in the container's is meant.
        (0, Some(libc::EEXIST)) => LinkError::Taken { name: ifname.clone() },
        _ => system("make a veth pair")(e.source),
    })?;
    packet::open(HOST_END_INDEX).map_err(system("open a packet socket"))
}

/// Brings lo up, and nothing else.
///
/// # Errors
/// [`LinkError::System`].
pub fn loopback_up(netlink: &mut Netlink) -> Result<(), LinkError> {
    let up = LinkSettings { up: Some(true), ..LinkSettings::default() };
    let change = Change::Set { index: LOOPBACK_INDEX, settings: up };
    netlink.apply(&[change]).map_err(|e| system("bring lo up")(e.source))
}

/// Brings lo up, gives `ifname` its address, brings it up, and sets default route and the gateway as a permanent
/// neighbour: one round trip. For the time when the port is plugged in.
///
/// # Errors
/// [`LinkError`]. What was set before the failure stays: the caller closes the port, which removes the interface.
pub fn configure(netlink: &mut Netlink, index: u32, to: &Addressing) -> Result<(), LinkError> {
    let [address, up, neighbour] = on_link(index, to);
    let lo = LinkSettings { up: Some(true), ..LinkSettings::default() };
    let lo = Change::Set { index: LOOPBACK_INDEX, settings: lo };
    apply(netlink, &[lo, address, up, Change::DefaultRoute { index, gateway: to.gateway.into() }, neighbour], to)
}

/// Brings an interface up, and lo, and leaves the rest to who is there.
///
/// # Errors
/// [`LinkError`].
pub fn raise(netlink: &mut Netlink, index: u32) -> Result<(), LinkError> {
    let up = |index| Change::Set { index, settings: LinkSettings { up: Some(true), ..LinkSettings::default() } };
    netlink.apply(&[up(LOOPBACK_INDEX), up(index)]).map_err(|e| system("bring the interface up")(e.source))
}

/// The same for an interface of the host: no default route, and lo is let be.
///
/// # Errors
/// As [`configure`].
pub fn configure_host(netlink: &mut Netlink, index: u32, to: &Addressing) -> Result<(), LinkError> {
    apply(netlink, &on_link(index, to), to)
}

/// An interface's address, that it is up, and the gateway.
fn on_link(index: u32, to: &Addressing) -> [Change<'static>; 3] {
    [
        Change::Address { index, address: to.address, prefix: to.prefix },
        Change::Set { index, settings: LinkSettings { up: Some(true), ..LinkSettings::default() } },
        Change::Neighbour { index, address: to.gateway.into(), mac: to.gateway_mac },
    ]
}

fn apply(netlink: &mut Netlink, changes: &[Change<'_>], to: &Addressing) -> Result<(), LinkError> {
    netlink.apply(changes).map_err(|e| match (changes.get(e.position), e.source.raw_os_error()) {
        (Some(Change::Address { .. }), Some(libc::EEXIST)) => LinkError::AddressExists(to.address),
        (Some(Change::DefaultRoute { .. }), Some(libc::EEXIST)) => LinkError::RouteExists,
        _ => system("configure the interface")(e.source),
    })
}

/// Gives an interface that is up its IPv6 address, default route and the gateway as a permanent neighbour: one round trip. `false`, and
/// nothing set, where there is no IPv6: turned off (`disable_ipv6`), not in the kernel, or an MTU below 1,280 (RFC 8200 5).
///
/// # Errors
/// [`LinkError`].
pub fn configure6(netlink: &mut Netlink, index: u32, to: &Addressing6) -> Result<bool, LinkError> {
    let [address, neighbour] = on_link6(index, to);
    apply6(netlink, &[address, Change::DefaultRoute { index, gateway: to.gateway.into() }, neighbour])
}

/// The same for an interface of the host: no default route.
///
/// # Errors
/// As [`configure6`].
pub fn configure_host6(netlink: &mut Netlink, index: u32, to: &Addressing6) -> Result<bool, LinkError> {
    apply6(netlink, &on_link6(index, to))
}

fn on_link6(index: u32, to: &Addressing6) -> [Change<'static>; 2] {
    [
        Change::Address6 { index, address: to.address, prefix: to.prefix },
        Change::Neighbour { index, address: to.gateway.into(), mac: to.gateway_mac },
    ]
}

fn apply6(netlink: &mut Netlink, changes: &[Change<'_>]) -> Result<bool, LinkError> {
    let Err(error) = netlink.apply(changes) else { return Ok(true) };
    match (changes.get(error.position), error.source.raw_os_error()) {
        (
            Some(Change::Address6 { .. }),
            Some(libc::EACCES | libc::EAFNOSUPPORT | libc::EOPNOTSUPP | libc::EINVAL | libc::ENODEV),
        ) => Ok(false),
        // A container that has a default route of its own keeps it.
        (Some(Change::DefaultRoute { .. }), Some(libc::EEXIST)) => Ok(true),
        _ => Err(system("configure IPv6 on the interface")(error.source)),
    }
}

/// Has an interface that is down take no router advertisements (accept_ra): any container could send them, and the host would take its
/// routes from there.
///
/// # Errors
/// [`LinkError::Advertisements`].
pub fn refuse_advertisements(name: &IfName) -> Result<(), LinkError> {
    // /proc/sys/net is that of the calling thread's namespace.
    match std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/accept_ra"), "0") {
        // No IPv6, or none with such an MTU.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        written => written.map_err(|source| LinkError::Advertisements { name: name.clone(), source }),
    }
}

/// Has an interface that is down speak no IPv6 at all, as far as /proc/sys can be written: no link-local address, no multicast reports.
pub fn without_ipv6(name: &IfName) {
    let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_name_is_proposed() {
        for (taken, proposed) in
            [("eth0", "eth1"), ("eth9", "eth10"), ("lo", "lo1"), ("fifteen-bytes-9", "eth1"), ("a4294967295", "a4294967295")]
        {
            assert_eq!(next_name(&IfName::parse(taken).unwrap()), proposed);
        }
        let error = LinkError::Taken { name: IfName::parse("eth0").unwrap() };
        assert_eq!(error.to_string(), "the namespace already has an interface eth0: pass --ifname eth1");
    }

    #[test]
    fn the_texts_of_first_errors() {
        assert_eq!(
            LinkError::TunMode { mode: 0o600 }.to_string(),
            "/dev/net/tun is mode 0600, you need read-write: \"sudo chmod 0666 /dev/net/tun\" (the usual mode)"
        );
        assert!(matches!(check([1, 0, 0, 0, 0, 0], 1500), Err(LinkError::Mac(_))));
        assert!(matches!(check([0; 6], 1500), Err(LinkError::Mac(_))));
        assert!(matches!(check([2, 0, 0, 0, 0, 0], 67), Err(LinkError::Mtu(67))));
        assert!(check([2, 0, 0, 0, 0, 0], MTU_MAX).is_ok());
    }
}
