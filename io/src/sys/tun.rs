//! TAP devices through /dev/net/tun.
//!
//! A TAP belongs to the network namespace in which /dev/net/tun was *opened*. Ours always carry the 10-byte
//! virtio-net header (IFF_VNET_HDR) and no packet information (IFF_NO_PI). Which offloads the container's kernel may
//! leave to us is a property of the device, set by TUNSETOFFLOAD: a mask that older kernels refuse as a whole when they
//! do not know a bit, hence the ladder. The device's fd can be handed to a process without any capability, which can
//! still read, write and change the offloads.
//!
//! Source: Documentation/networking/tuntap.rst, linux/if_tun.h, drivers/net/tun.c.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::fcntl::{OFlag, open as open_file};
use nix::sys::stat::Mode;

use super::{IfName, check};

/// Where the kernel offers TAPs.
pub const DEVICE: &str = "/dev/net/tun";

/// Length in bytes of the virtio-net header before every frame: the basic one, the same as that of AF_PACKET.
pub const HEADER_BYTES: libc::c_int = 10;

/// The flags of every TAP of ours; IFF_TUN_EXCL is added to make a new one.
pub const FLAGS: libc::c_int = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;

/// Masks for TUNSETOFFLOAD, tried from the first to the last.
///
/// 0x67: checksum, TCP segmentation for IPv4 and IPv6, UDP segmentation for both (the two only together), Linux >= 6.2.
/// 0x07: without UDP. 0x01: checksum only. 0: none.
pub const OFFLOAD_LADDER: [u32; 4] = [
    libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_USO4 | libc::TUN_F_USO6,
    libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6,
    libc::TUN_F_CSUM,
    0,
];

/// What TUNGETIFF says of a TUN/TAP fd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Iff {
    /// The interface's present name.
    pub name: IfName,
    /// IFF_TAP, IFF_NO_PI, ...
    pub flags: libc::c_int,
}

/// Opens /dev/net/tun, non-blocking, for the current network namespace.
///
/// # Errors
/// Those of open(2): ENOENT and ENODEV (no such device), EACCES (its mode), EPERM (a device cgroup).
pub fn open() -> io::Result<OwnedFd> {
    Ok(open_file(DEVICE, OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC, Mode::empty())?)
}

/// An `ifreq` with name and flags set.
fn ifreq(name: &[libc::c_char; libc::IFNAMSIZ], flags: libc::c_int) -> libc::ifreq {
    let ifru_flags = (flags & 0xffff) as libc::c_short;
    libc::ifreq { ifr_name: *name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags } }
}

/// TUNSETIFF: makes the interface `name`, or attaches to it where it exists and `flags` lacks IFF_TUN_EXCL.
///
/// # Errors
/// EBUSY: the name is taken (with IFF_TUN_EXCL, or attached elsewhere); EPERM: no CAP_NET_ADMIN in the namespace;
/// EINVAL: not a TAP, or unknown flags; EEXIST: the fd has a device already.
pub fn set_iff(fd: impl AsFd, name: &IfName, flags: libc::c_int) -> io::Result<()> {
    let mut request = ifreq(&name.to_kernel(), flags);
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, which `request` is.
    check(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) })?;
    Ok(())
}

/// TUNGETIFF: name and flags of the device behind `fd`.
///
/// # Errors
/// ENOTTY or EINVAL: no TUN/TAP fd; EBADFD: one without a device, or its device was deleted.
pub fn get_iff(fd: impl AsFd) -> io::Result<Iff> {
    let mut request = ifreq(&[0; libc::IFNAMSIZ], 0);
    // SAFETY: TUNGETIFF writes one `ifreq`, which `request` is.
    check(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TUNGETIFF as _, &raw mut request) })?;
    // SAFETY: the union was initialised whole through `ifru_flags`' bytes or by the kernel; TUNGETIFF sets the flags.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    Ok(Iff { name: IfName::from_kernel(&request.ifr_name), flags: libc::c_int::from(flags.cast_unsigned()) })
}

/// TUNSETVNETHDRSZ: the header's length in bytes. It is the device's, not the fd's.
///
/// # Errors
/// EINVAL: less than 10.
pub fn set_vnet_header_size(fd: impl AsFd, bytes: libc::c_int) -> io::Result<()> {
    // SAFETY: TUNSETVNETHDRSZ reads one int.
    check(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TUNSETVNETHDRSZ as _, &raw const bytes) })?;
    Ok(())
}

/// TUNGETVNETHDRSZ: the header's length in bytes.
///
/// # Errors
/// As [`get_iff`].
pub fn vnet_header_size(fd: impl AsFd) -> io::Result<libc::c_int> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: TUNGETVNETHDRSZ writes one int.
    check(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TUNGETVNETHDRSZ as _, &raw mut bytes) })?;
    Ok(bytes)
}

/// TUNSETOFFLOAD: what the kernel may leave to us.
///
/// # Errors
/// EINVAL: a bit this kernel does not know, or one without those it needs.
pub fn set_offload(fd: impl AsFd, mask: u32) -> io::Result<()> {
    // SAFETY: TUNSETOFFLOAD takes the mask as the argument itself; no memory is passed.
    check(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TUNSETOFFLOAD as _, libc::c_ulong::from(mask)) })?;
    Ok(())
}

/// Sets the first mask of [`OFFLOAD_LADDER`] that the kernel takes, from rung `first` on (0 is the best; beyond the
/// last means the last), and returns it. Always sets one: a device may have kept the mask of an earlier owner.
///
/// # Errors
/// That of TUNSETOFFLOAD for the last rung, or the first one that is not EINVAL.
pub fn climb_offloads(fd: impl AsFd, first: usize) -> io::Result<u32> {
    let fd = fd.as_fd();
    let last = OFFLOAD_LADDER.len() - 1;
    for mask in OFFLOAD_LADDER.iter().take(last).skip(first) {
        match set_offload(fd, *mask) {
            Ok(()) => return Ok(*mask),
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {}
            Err(e) => return Err(e),
        }
    }
    set_offload(fd, OFFLOAD_LADDER[last]).map(|()| OFFLOAD_LADDER[last])
}

/// Why an fd that a client passed is not taken as a TAP.
#[derive(Debug, thiserror::Error)]
pub enum NotOurTap {
    /// TUNGETIFF failed: no TUN/TAP fd, or one whose device is gone.
    #[error("the fd is no TAP ({0}): pass one from /dev/net/tun")]
    NoTun(io::Error),
    /// A TUN, or flags missing.
    #[error("the TAP has flags {0:#x}: make it with IFF_TAP, IFF_NO_PI and IFF_VNET_HDR")]
    Flags(libc::c_int),
    /// Another header size than [`HEADER_BYTES`].
    #[error("the TAP's virtio-net header has {0} bytes: set {HEADER_BYTES} (TUNSETVNETHDRSZ)")]
    HeaderSize(libc::c_int),
    /// A system call failed.
    #[error("the TAP cannot be used: {0}")]
    System(#[from] io::Error),
}

/// Checks that `fd`, received from a client, is a TAP as ours are, and makes it non-blocking.
///
/// The offload mask cannot be read back: the receiver sets it with [`climb_offloads`].
///
/// # Errors
/// [`NotOurTap`] names what was wrong.
pub fn verify(fd: BorrowedFd<'_>) -> Result<Iff, NotOurTap> {
    let iff = get_iff(fd).map_err(NotOurTap::NoTun)?;
    let mode = libc::IFF_TUN | libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    if iff.flags & mode != FLAGS {
        return Err(NotOurTap::Flags(iff.flags));
    }
    let bytes = vnet_header_size(fd)?;
    if bytes != HEADER_BYTES {
        return Err(NotOurTap::HeaderSize(bytes));
    }
    super::set_nonblocking(fd)?;
    Ok(iff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ladder_is_what_the_kernel_header_says() {
        assert_eq!(OFFLOAD_LADDER, [0x67, 0x07, 0x01, 0]);
    }

    #[test]
    fn other_fds_are_refused() {
        let null = std::fs::File::open("/dev/null").unwrap();
        assert!(matches!(verify(null.as_fd()), Err(NotOurTap::NoTun(_))));
        let (a, _b) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(matches!(verify(a.as_fd()), Err(NotOurTap::NoTun(_))));
        assert!(set_vnet_header_size(&a, HEADER_BYTES).is_err());
        assert!(vnet_header_size(&a).is_err());
        assert!(climb_offloads(&a, 0).is_err());
    }
}
