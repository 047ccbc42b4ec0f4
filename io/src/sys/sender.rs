//! A send-only AF_PACKET socket, for load generators: the switch's own ports are [`super::packet`]'s.
//!
//! It is bound with protocol 0, so that the kernel never queues a frame to it, and goes past the interface's queueing discipline, so
//! that what is measured is the receiver and what lies between, not the sender's queue.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{AddressFamily, LinkAddr, SockFlag, SockType, bind, setsockopt, socket, sockopt};

/// Bytes of send buffer asked for: room for any number of batches in flight.
const SEND_BUFFER_BYTES: usize = 64 << 20;

/// Opens a blocking send-only socket on the interface of `link` (from `getifaddrs`, in the namespace of the calling thread).
///
/// # Errors
/// `PermissionDenied` without CAP_NET_RAW in the namespace; what bind() says, of an interface that has gone.
pub fn open(link: &LinkAddr) -> io::Result<OwnedFd> {
    let fd = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
    bypass_queueing(fd.as_fd())?;
    // A larger buffer is a help, not a need: an unprivileged user does without it.
    let _ = setsockopt(&fd, sockopt::SndBufForce, &SEND_BUFFER_BYTES);
    bind(fd.as_raw_fd(), link)?;
    Ok(fd)
}

/// PACKET_QDISC_BYPASS, packet(7).
fn bypass_queueing(fd: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    super::setsockopt(fd, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, &on)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_packet_sockets_go_past_the_queue() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(bypass_queueing(one.as_fd()).is_err());
    }

    #[test]
    fn opens_on_an_interface_where_privilege_allows() {
        // Loopback is everywhere; nothing is sent.
        let lo = nix::ifaddrs::getifaddrs()
            .unwrap()
            .filter(|each| each.interface_name == "lo")
            .find_map(|each| each.address.as_ref().and_then(|address| address.as_link_addr().copied()))
            .unwrap();
        match open(&lo) {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
                println!("SKIP: no CAP_NET_RAW");
            }
        }
    }
}
