//! A TAP: one read and one write a frame, offloads in a virtio_net_hdr, sent at once.
use crate::sys::{batch, tun};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use vswitch_switch::FrameBuf;

/// See the module.
#[derive(Debug)]
pub struct Tap {
    fd: OwnedFd,
    mask: u32,
}

impl Tap {
    /// Verifies that `fd` is a TAP as `link::open_tap` makes it.
    ///
    /// # Errors
    /// [`tun::NotOurTap`] names what was wrong.
    pub fn new(fd: OwnedFd, mask: u32) -> Result<Self, tun::NotOurTap> {
        tun::verify(fd.as_fd())?;
        Ok(Self { fd, mask })
    }

    /// The same TAP on a second fd.
    ///
    /// # Errors
    /// Too many fds are open.
    pub(super) fn second(&self) -> io::Result<Self> {
        Ok(Self { fd: self.fd.try_clone()?, mask: self.mask })
    }

    /// The fd to wait for.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// TUN_F_* mask in force.
    #[must_use]
    pub const fn mask(&self) -> u32 {
        self.mask
    }

    /// Reads one frame into `frame`'s space; says how many octets.
    ///
    /// # Errors
    /// EAGAIN: nothing there; EBADFD: gone.
    #[inline]
    pub fn receive(&self, frame: &mut FrameBuf) -> io::Result<usize> {
        batch::read_tap(self.fd.as_fd(), frame)
    }

    /// Writes one frame, virtio_net_hdr and octets in one piece.
    ///
    /// # Errors
    /// As [`Tap::send`].
    #[inline]
    pub fn send_whole(&self, frame: &[u8]) -> io::Result<()> {
        batch::write_tap_whole(self.fd.as_fd(), frame)
    }

    /// Writes one frame, given in parts.
    ///
    /// # Errors
    /// EIO: down; EBADFD: gone; EINVAL: refused.
    #[inline]
    pub fn send(&self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        batch::write_tap(self.fd.as_fd(), parts)
    }
}
