//! AF_PACKET sockets on one interface, as a switch port needs them.
//!
//! Order matters: the socket is made with protocol 0, so that nothing is queued before it is bound; the options come
//! before bind(2). With PACKET_VNET_HDR a frame comes with its checksum and segmentation state (without it a veth's
//! frames are broken, not slow); PACKET_IGNORE_OUTGOING hides what others send on the interface; a VLAN tag comes only
//! in PACKET_AUXDATA. The promiscuous membership ends with the socket. The socket pins its network namespace.
//!
//! Source: packet(7), linux/if_packet.h, net/packet/af_packet.c.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, setsockopt as nix_setsockopt, sockopt};

use super::{IfName, check, getsockopt_int, setsockopt};

mod uplink;
pub use uplink::{Attachment, attachment, open_uplink, rebind_uplink, verify_uplink};

/// Receive buffer asked for, in bytes (the kernel counts whole buffers, so a 64 KB frame takes about 80 KB of it).
/// Without CAP_NET_ADMIN in the initial user namespace net.core.rmem_max caps it.
pub const RECEIVE_BUFFER_BYTES: usize = 8 << 20;

/// Send buffer asked for, in bytes; net.core.wmem_max caps it likewise.
pub const SEND_BUFFER_BYTES: usize = 4 << 20;

/// Length in bytes of the virtio-net header: what PACKET_VNET_HDR gives.
pub const HEADER_BYTES: libc::c_int = 10;

/// PACKET_VNET_HDR_SZ (linux/if_packet.h, Linux >= 6.5).
const PACKET_VNET_HDR_SZ: libc::c_int = 24;

/// ETH_P_ALL as bind(2) wants it: in network order.
const ETH_P_ALL_BE: u16 = (libc::ETH_P_ALL as u16).to_be();

/// The index of a socket whose interface was removed (packet_notifier(), net/packet/af_packet.c).
const UNREGISTERED: libc::c_int = -1;

/// Counters of an AF_PACKET socket since they were last read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Frames that passed the filter, dropped ones included.
    pub packets: u32,
    /// Frames dropped because the receive buffer was full.
    pub drops: u32,
}

/// Opens a socket on interface `ifindex` of the current network namespace, ready for a port.
///
/// # Errors
/// EPERM: no CAP_NET_RAW in the namespace; ENODEV: no such interface; and others of packet(7).
pub fn open(ifindex: u32) -> io::Result<OwnedFd> {
    let fd = prepare()?;
    bind(&fd, ifindex)?;
    join(fd.as_fd(), ifindex, libc::PACKET_MR_PROMISC, &[])?;
    Ok(fd)
}

/// A socket with all options, not bound.
fn prepare() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no memory is passed.
    let raw = check(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
    // SAFETY: `raw` is a new fd that nothing else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(raw) };
    setsockopt(&fd, libc::SOL_PACKET, libc::PACKET_VNET_HDR, &1i32)?;
    setsockopt(&fd, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1i32)?;
    setsockopt(&fd, libc::SOL_PACKET, libc::PACKET_AUXDATA, &1i32)?;
    // The forcing variants need a capability in the initial user namespace; the plain ones cap silently.
    if nix_setsockopt(&fd, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES).is_err() {
        nix_setsockopt(&fd, sockopt::RcvBuf, &RECEIVE_BUFFER_BYTES)?;
    }
    if nix_setsockopt(&fd, sockopt::SndBufForce, &SEND_BUFFER_BYTES).is_err() {
        nix_setsockopt(&fd, sockopt::SndBuf, &SEND_BUFFER_BYTES)?;
    }
    Ok(fd)
}

/// Adds a membership: PACKET_MR_*, with an address where it is of one.
fn join(fd: BorrowedFd<'_>, ifindex: u32, kind: libc::c_int, address: &[u8]) -> io::Result<()> {
    let mut mr_address = [0; 8];
    for (to, from) in mr_address.iter_mut().zip(address) {
        *to = *from;
    }
    let membership = libc::packet_mreq {
        mr_ifindex: index_for_kernel(ifindex)?,
        mr_type: kind as libc::c_ushort,
        mr_alen: address.len() as libc::c_ushort,
        mr_address,
    };
    setsockopt(fd, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &membership)
}

/// An interface index as the kernel's `int`.
fn index_for_kernel(ifindex: u32) -> io::Result<libc::c_int> {
    libc::c_int::try_from(ifindex).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))
}

/// Binds an AF_PACKET socket to all protocols on one interface; also to bind it again when the interface came back.
///
/// # Errors
/// ENODEV: no such interface in the socket's namespace.
pub fn bind(fd: impl AsFd, ifindex: u32) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as libc::c_ushort,
        sll_protocol: ETH_P_ALL_BE,
        sll_ifindex: index_for_kernel(ifindex)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: `address` is live for the call and `len` is its size; the kernel only reads it.
    check(unsafe { libc::bind(fd.as_fd().as_raw_fd(), (&raw const address).cast(), len) })?;
    Ok(())
}

/// What a packet socket is bound to: protocol (network order) and interface index, 0 for all or none, [`UNREGISTERED`].
/// Not by nix, which takes an address as short as the kernel's (it ends with the hardware address) for a broken one.
fn binding(fd: BorrowedFd<'_>) -> io::Result<(u16, libc::c_int)> {
    // SAFETY: sockaddr_ll is plain data for which all zeroes is valid.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    let mut len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: `address` and `len` are live for the call, and `len` is the size of `address`.
    check(unsafe { libc::getsockname(fd.as_raw_fd(), (&raw mut address).cast(), &mut len) })?;
    Ok((address.sll_protocol, address.sll_ifindex))
}

/// PACKET_STATISTICS: reads and resets the socket's counters.
///
/// # Errors
/// Those of getsockopt(2).
pub fn statistics(fd: impl AsFd) -> io::Result<Statistics> {
    let mut stats = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
    let mut len = size_of::<libc::tpacket_stats>() as libc::socklen_t;
    let raw = fd.as_fd().as_raw_fd();
    // SAFETY: `stats` and `len` are live for the call, and `len` is the size of `stats`.
    check(unsafe { libc::getsockopt(raw, libc::SOL_PACKET, libc::PACKET_STATISTICS, (&raw mut stats).cast(), &mut len) })?;
    Ok(Statistics { packets: stats.tp_packets, drops: stats.tp_drops })
}

/// Why an fd that a client passed is not taken as a port's packet socket.
#[derive(Debug, thiserror::Error)]
pub enum NotOurSocket {
    /// No socket, or one of another family.
    #[error("the fd is no AF_PACKET socket: pass one")]
    Family,
    /// SOCK_DGRAM, which cuts the Ethernet header.
    #[error("the packet socket is not SOCK_RAW: make it so")]
    Type,
    /// Not bound to ETH_P_ALL on one interface.
    #[error("the packet socket is not bound to all protocols of one interface: bind it with ETH_P_ALL and its index")]
    Unbound,
    /// An option that the port relies on is off.
    #[error("the packet socket lacks {0}: set it before bind")]
    Option(&'static str),
    /// Another header size than [`HEADER_BYTES`].
    #[error("the packet socket's virtio-net header has {0} bytes: set {HEADER_BYTES} (PACKET_VNET_HDR)")]
    HeaderSize(libc::c_int),
    /// A system call failed.
    #[error("the packet socket cannot be used: {0}")]
    System(#[from] io::Error),
}

/// Checks that `fd`, received from a client, is a packet socket as [`open`] makes it, makes it non-blocking, and
/// returns the index of its interface (in the socket's namespace).
///
/// # Errors
/// [`NotOurSocket`] names what was wrong.
pub fn verify(fd: BorrowedFd<'_>) -> Result<u32, NotOurSocket> {
    let ifindex = verify_any(fd)?;
    u32::try_from(ifindex).map_err(|_| NotOurSocket::Unbound)
}

/// As [`verify`], but the interface may be gone.
fn verify_any(fd: BorrowedFd<'_>) -> Result<libc::c_int, NotOurSocket> {
    match getsockopt_int(fd, libc::SOL_SOCKET, libc::SO_DOMAIN) {
        Ok(libc::AF_PACKET) => {}
        Ok(_) | Err(_) => return Err(NotOurSocket::Family),
    }
    if getsockopt_int(fd, libc::SOL_SOCKET, libc::SO_TYPE)? != libc::SOCK_RAW {
        return Err(NotOurSocket::Type);
    }
    let (protocol, ifindex) = binding(fd)?;
    if protocol != ETH_P_ALL_BE || (ifindex <= 0 && ifindex != UNREGISTERED) {
        return Err(NotOurSocket::Unbound);
    }
    let options = [
        (libc::PACKET_VNET_HDR, "PACKET_VNET_HDR"),
        (libc::PACKET_IGNORE_OUTGOING, "PACKET_IGNORE_OUTGOING"),
        (libc::PACKET_AUXDATA, "PACKET_AUXDATA"),
    ];
    for (option, name) in options {
        if getsockopt_int(fd, libc::SOL_PACKET, option)? == 0 {
            return Err(NotOurSocket::Option(name));
        }
    }
    // Before Linux 6.5 the option is unknown and 10 the only size.
    match getsockopt_int(fd, libc::SOL_PACKET, PACKET_VNET_HDR_SZ) {
        Ok(HEADER_BYTES) => {}
        Ok(other) => return Err(NotOurSocket::HeaderSize(other)),
        Err(e) if e.raw_os_error() == Some(libc::ENOPROTOOPT) => {}
        Err(e) => return Err(e.into()),
    }
    super::set_nonblocking(fd)?;
    Ok(ifindex)
}

/// The socket's address family, for messages.
#[must_use]
pub fn is_packet_socket(fd: BorrowedFd<'_>) -> bool {
    getsockopt_int(fd, libc::SOL_SOCKET, libc::SO_DOMAIN).is_ok_and(|d| d == AddressFamily::Packet as libc::c_int)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_fds_are_refused() {
        let null = std::fs::File::open("/dev/null").unwrap();
        assert!(matches!(verify(null.as_fd()), Err(NotOurSocket::Family)));
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(matches!(verify(udp.as_fd()), Err(NotOurSocket::Family)));
        assert!(matches!(verify_uplink(udp.as_fd()), Err(NotOurSocket::Family)));
        assert!(!is_packet_socket(udp.as_fd()));
        assert!(statistics(&udp).is_err());
        assert!(bind(&udp, 1).is_err());
    }
}
