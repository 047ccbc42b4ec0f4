//! The uplink's packet socket: on an interface that the host uses too, so it takes only what is for our address or for
//! groups. The filter is locked: whoever holds the fd later cannot see the host's traffic through it.
//!
//! Source: packet(7), socket(7), Documentation/networking/filter.rst.

use super::*;

/// Instructions of the filter.
const INSTRUCTIONS: usize = 8;

/// Classic BPF: destination is a group (broadcast is one) or `mac`.
fn program(mac: [u8; 6]) -> [libc::sock_filter; INSTRUCTIONS] {
    let [a, b, c, d, e, f] = mac;
    let op = |code: u32, k, jt, jf| libc::sock_filter { code: code as u16, jt, jf, k };
    let (load, jump) = (libc::BPF_LD | libc::BPF_ABS, libc::BPF_JMP | libc::BPF_K);
    [
        op(load | libc::BPF_B, 0, 0, 0),
        op(jump | libc::BPF_JSET, 1, 4, 0),
        op(load | libc::BPF_W, 0, 0, 0),
        op(jump | libc::BPF_JEQ, u32::from_be_bytes([a, b, c, d]), 0, 3),
        op(load | libc::BPF_H, 4, 0, 0),
        op(jump | libc::BPF_JEQ, u32::from(u16::from_be_bytes([e, f])), 0, 1),
        op(libc::BPF_RET | libc::BPF_K, u32::MAX, 0, 0),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
    ]
}

/// Opens the uplink's socket on interface `ifindex` of the current namespace. Says whether the interface had to become
/// promiscuous, for it takes no second unicast address.
///
/// # Errors
/// As [`open`](super::open).
pub fn open_uplink(ifindex: u32, mac: [u8; 6]) -> io::Result<(OwnedFd, bool)> {
    let fd = prepare()?;
    let mut instructions = program(mac);
    let filter = libc::sock_fprog { len: INSTRUCTIONS as libc::c_ushort, filter: instructions.as_mut_ptr() };
    setsockopt(&fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &filter)?;
    setsockopt(&fd, libc::SOL_SOCKET, libc::SO_LOCK_FILTER, &1i32)?;
    bind(&fd, ifindex)?;
    let promiscuous = join_uplink(fd.as_fd(), ifindex, mac)?;
    Ok((fd, promiscuous))
}

/// Asks the interface for what the filter lets through; says whether it had to become promiscuous.
fn join_uplink(fd: BorrowedFd<'_>, ifindex: u32, mac: [u8; 6]) -> io::Result<bool> {
    join(fd, ifindex, libc::PACKET_MR_ALLMULTI, &[])?;
    match join(fd, ifindex, libc::PACKET_MR_UNICAST, &mac) {
        Ok(()) => Ok(false),
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENODEV | libc::EOPNOTSUPP)) => {
            join(fd, ifindex, libc::PACKET_MR_PROMISC, &[])?;
            Ok(true)
        }
        Err(e) => Err(e),
    }
}

/// What there is of the interface that a socket is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// It is up.
    Up,
    /// It was set down: the kernel goes on by itself when it is set up.
    Down,
    /// It was removed: the socket is bound to nothing and has no memberships.
    Removed,
}

/// Asks what there is of the socket's interface, whatever its name is now.
///
/// # Errors
/// Those of getsockname(2) and netdevice(7).
pub fn attachment(fd: BorrowedFd<'_>) -> io::Result<Attachment> {
    let (_, ifindex) = binding(fd)?;
    if ifindex <= 0 {
        return Ok(Attachment::Removed);
    }
    let mut request =
        libc::ifreq { ifr_name: [0; libc::IFNAMSIZ], ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_ifindex: ifindex } };
    ask(fd, libc::SIOCGIFNAME as _, &mut request)?;
    ask(fd, libc::SIOCGIFFLAGS as _, &mut request)?;
    // SAFETY: SIOCGIFFLAGS succeeded, so the kernel wrote the flags; any octets are valid ones.
    let flags = libc::c_int::from(unsafe { request.ifr_ifru.ifru_flags });
    Ok(if flags & libc::IFF_UP == 0 { Attachment::Down } else { Attachment::Up })
}

/// One of netdevice(7)'s questions, in the namespace of the socket.
fn ask(fd: BorrowedFd<'_>, what: libc::Ioctl, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: all of these read and write one `ifreq`, which `request` is.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), what, std::ptr::from_mut(request)) })?;
    Ok(())
}

/// Binds the socket to the interface `name` of its namespace, with the memberships, after the one it had was removed: its
/// memberships went with it (NETDEV_UNREGISTER). Needs no capability. The interface may be down yet.
///
/// # Errors
/// ENODEV: there is no such interface; others of packet(7).
pub fn rebind_uplink(fd: BorrowedFd<'_>, name: &IfName, mac: [u8; 6]) -> io::Result<()> {
    let mut request = libc::ifreq { ifr_name: name.to_kernel(), ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_ifindex: 0 } };
    ask(fd, libc::SIOCGIFINDEX as _, &mut request)?;
    // SAFETY: SIOCGIFINDEX succeeded, so the kernel wrote the index; any octets are a valid one.
    let ifindex = unsafe { request.ifr_ifru.ifru_ifindex };
    let ifindex = u32::try_from(ifindex).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
    bind(fd, ifindex)?;
    join_uplink(fd, ifindex, mac).map(drop)
}

/// As [`verify`](super::verify), but the interface may have been removed.
///
/// # Errors
/// As [`verify`](super::verify).
pub fn verify_uplink(fd: BorrowedFd<'_>) -> Result<(), NotOurSocket> {
    verify_any(fd).map(drop)
}
