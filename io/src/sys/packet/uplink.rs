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
    join(&fd, ifindex, libc::PACKET_MR_ALLMULTI, &[])?;
    let promiscuous = match join(&fd, ifindex, libc::PACKET_MR_UNICAST, &mac) {
        Ok(()) => false,
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENODEV | libc::EOPNOTSUPP)) => {
            join(&fd, ifindex, libc::PACKET_MR_PROMISC, &[])?;
            true
        }
        Err(e) => return Err(e),
    };
    Ok((fd, promiscuous))
}
