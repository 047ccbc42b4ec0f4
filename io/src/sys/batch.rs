//! The datapath's system calls: read(2) and writev(2) on a TAP, recvmmsg(2) and sendmmsg(2) on a packet socket.
//! Nothing here allocates; batches live on the stack. read and write are made without the C library's wrapper, which in a program of more
//! threads pays for cancellation, twice a frame.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd};

use vswitch_switch::frame::{FrameBuf, MAX_FRAME, TAG_LEN, Tag, TagOp, VNET_HEADER};
use vswitch_switch::vlan::Tpid;

/// Frames of one recvmmsg or sendmmsg call.
pub const BATCH: usize = 32;
/// Room for one tpacket_auxdata control message, aligned as cmsghdr wants it.
const CONTROL_WORDS: usize = 8;
/// tp_status bits of linux/if_packet.h.
const VLAN_VALID: u32 = 1 << 4;
const VLAN_TPID_VALID: u32 = 1 << 6;

/// What recvmmsg said of one frame.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// Octets, virtio_net_hdr included; more than a frame holds where it was cut.
    pub octets: usize,
    /// The tag that came out of band.
    pub tag: Option<Tag>,
}

/// Reads one frame of a TAP, its virtio_net_hdr first, into `frame`'s space.
///
/// # Errors
/// EAGAIN: nothing there; EBADFD: the device is gone.
#[inline]
pub fn read_tap(fd: BorrowedFd<'_>, frame: &mut FrameBuf) -> io::Result<usize> {
    let space = frame.space();
    // SAFETY: `space` is writable for its whole length during the call.
    let n = unsafe { libc::syscall(libc::SYS_read, fd.as_raw_fd(), space.as_mut_ptr(), space.len()) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// Writes one frame, virtio_net_hdr and octets in one piece, to a TAP.
///
/// # Errors
/// As [`write_tap`].
#[inline]
pub fn write_tap_whole(fd: BorrowedFd<'_>, frame: &[u8]) -> io::Result<()> {
    // SAFETY: `frame` is readable for its whole length during the call.
    let n = unsafe { libc::syscall(libc::SYS_write, fd.as_raw_fd(), frame.as_ptr(), frame.len()) };
    if n < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Writes one frame, given in parts, to a TAP.
///
/// # Errors
/// EIO: the interface is down; EBADFD: it is gone; EINVAL: the header contradicts the frame.
#[inline]
pub fn write_tap(fd: BorrowedFd<'_>, parts: &[IoSlice<'_>]) -> io::Result<()> {
    // SAFETY: IoSlice is guaranteed to have iovec's layout, and the slices live during the call.
    let n = unsafe { libc::writev(fd.as_raw_fd(), parts.as_ptr().cast(), parts.len() as libc::c_int) };
    if n < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn auxiliary(header: &libc::msghdr) -> Option<Tag> {
    // SAFETY: the kernel filled the control buffer that `header` names; CMSG_FIRSTHDR and CMSG_NXTHDR stay inside its length, and
    // each message is read unaligned only after its length was compared.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while let Some(cmsg) = message.as_ref() {
            let wanted = libc::CMSG_LEN(size_of::<libc::tpacket_auxdata>() as u32) as usize;
            if cmsg.cmsg_level == libc::SOL_PACKET && cmsg.cmsg_type == libc::PACKET_AUXDATA && cmsg.cmsg_len >= wanted {
                let aux: libc::tpacket_auxdata = std::ptr::read_unaligned(libc::CMSG_DATA(message).cast());
                let tpid = if aux.tp_status & VLAN_TPID_VALID != 0 { Tpid::from_u16(aux.tp_vlan_tpid)? } else { Tpid::Dot1q };
                return (aux.tp_status & VLAN_VALID != 0).then_some(Tag { tpid, tci: aux.tp_vlan_tci });
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    None
}

/// Receives up to `frames.len()` (at most [`BATCH`]) frames; says how many, and of each in `received`.
///
/// # Errors
/// EAGAIN: nothing there; ENETDOWN: the interface went down, once.
pub fn receive_packets(fd: BorrowedFd<'_>, frames: &mut [FrameBuf], received: &mut [Received; BATCH]) -> io::Result<usize> {
    let count = frames.len().min(BATCH);
    // SAFETY: mmsghdr is plain data for which all zeroes is valid.
    let mut headers: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
    let mut slices = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; BATCH];
    let mut controls = [[0u64; CONTROL_WORDS]; BATCH];
    for (((header, slice), control), frame) in headers.iter_mut().zip(&mut slices).zip(&mut controls).zip(frames.iter_mut()) {
        let space = frame.space();
        *slice = libc::iovec { iov_base: space.as_mut_ptr().cast(), iov_len: space.len() };
        header.msg_hdr.msg_iov = slice;
        header.msg_hdr.msg_iovlen = 1;
        header.msg_hdr.msg_control = control.as_mut_ptr().cast();
        header.msg_hdr.msg_controllen = size_of_val(control) as _;
    }
    // SAFETY: the first `count` headers name live, distinct buffers: a frame's space, one iovec and one control block each.
    let n = unsafe { libc::recvmmsg(fd.as_raw_fd(), headers.as_mut_ptr(), count as u32, libc::MSG_DONTWAIT, std::ptr::null_mut()) };
    let n = usize::try_from(n).map_err(|_| io::Error::last_os_error())?;
    for (header, out) in headers.iter().take(n).zip(received.iter_mut()) {
        let cut = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
        let octets = if cut { VNET_HEADER + MAX_FRAME + 1 } else { header.msg_len as usize };
        *out = Received { octets, tag: auxiliary(&header.msg_hdr) };
    }
    Ok(n)
}

/// Sends up to [`BATCH`] frames, sealed, with their tags; says how many the kernel took, from the first on.
///
/// # Errors
/// That of the first frame: EAGAIN or ENOBUFS: full; ENETDOWN or ENXIO: down; EMSGSIZE, EINVAL: refused.
pub fn send_packets<'a>(fd: BorrowedFd<'_>, frames: impl Iterator<Item = (&'a FrameBuf, TagOp)>) -> io::Result<usize> {
    // SAFETY: mmsghdr is plain data for which all zeroes is valid.
    let mut headers: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
    let mut slices = [[libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; 4]; BATCH];
    let mut prefixes = [[0u8; VNET_HEADER + TAG_LEN]; BATCH];
    let mut count = 0;
    let of = |octets: &[u8]| libc::iovec { iov_base: octets.as_ptr().cast_mut().cast(), iov_len: octets.len() };
    for ((((frame, tag), header), slice), prefix) in frames.zip(&mut headers).zip(&mut slices).zip(&mut prefixes) {
        header.msg_hdr.msg_iov = slice.as_mut_ptr();
        match tag {
            TagOp::Untagged => {
                slice[0] = of(frame.sealed());
                header.msg_hdr.msg_iovlen = 1;
            }
            TagOp::Tagged(octets) => {
                let (vnet, place) = prefix.split_at_mut(VNET_HEADER);
                vnet.copy_from_slice(&frame.meta.to_vnet(tag));
                place.copy_from_slice(&octets.to_bytes());
                let (addresses, rest) = frame.parts();
                *slice = [of(vnet), of(addresses), of(place), of(rest)];
                header.msg_hdr.msg_iovlen = slice.len() as _;
            }
        }
        count += 1;
    }
    // SAFETY: the first `count` headers name iovecs whose buffers (prefixes on this stack, frames borrowed for 'a) are live and only read.
    let n = unsafe { libc::sendmmsg(fd.as_raw_fd(), headers.as_mut_ptr(), count, libc::MSG_DONTWAIT) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}
