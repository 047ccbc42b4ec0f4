//! The host end of a veth: an AF_PACKET socket, received and sent in batches.
//!
//! The batch adapts: it grows while batches come back full and shrinks when frames are large, for 32 GSO frames
//! would push each other out of the cache.
//!
//! The uplink is one too, on an interface that others remove, make again, and set down and up: it knows the interface's name
//! and comes back with it ([`PacketSocket::revive`]); until then it is down and takes no frame. A veth's end that says that it
//! is down is gone.
use crate::sys::packet::{Attachment, NotOurSocket};
use crate::sys::{IfName, batch, packet};
use nix::sys::socket::{MsgFlags, SockaddrStorage, sendmsg};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use vswitch_switch::{FrameBuf, TagOp};

/// Frames of the first batch.
const FIRST_BATCH: usize = 4;
/// Octets of a batch above which the next one is smaller.
const LARGE_BATCH: usize = 128 << 10;
/// Frames that wait for the end of the breath at the most; more are sent before.
pub const QUEUE_LIMIT: usize = 128;

/// What an uplink needs to come back.
#[derive(Debug)]
struct Home {
    ifname: IfName,
    /// Our hardware address there.
    mac: [u8; 6],
    /// The memberships are those of the interface that it is bound to.
    joined: bool,
}

/// See the module.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
    batch: usize,
    /// Arena slots and tags of frames to be sent at exhale.
    pub(crate) queue: VecDeque<(u32, TagOp)>,
    kernel_drops: u64,
    /// A call said that the interface is down. Unless it is an uplink nobody else reaches the namespace it is in: it was removed.
    down: bool,
    /// Of an uplink.
    home: Option<Home>,
}

impl PacketSocket {
    /// Verifies that `fd` is a packet socket as `sys::packet::open` makes it.
    ///
    /// # Errors
    /// [`NotOurSocket`] names what was wrong.
    pub fn new(fd: OwnedFd) -> Result<Self, NotOurSocket> {
        packet::verify(fd.as_fd())?;
        Ok(Self::on(fd, false, None))
    }

    /// Verifies that `fd` is a packet socket as `sys::packet::open_uplink` makes it, whose interface may be gone: `ifname`, on
    /// which our address is `mac`.
    ///
    /// # Errors
    /// [`NotOurSocket`] names what was wrong.
    pub fn uplink(fd: OwnedFd, ifname: IfName, mac: [u8; 6]) -> Result<Self, NotOurSocket> {
        packet::verify_uplink(fd.as_fd())?;
        let found = packet::attachment(fd.as_fd())?;
        let home = Home { ifname, mac, joined: found != Attachment::Removed };
        Ok(Self::on(fd, found != Attachment::Up, Some(home)))
    }

    fn on(fd: OwnedFd, down: bool, home: Option<Home>) -> Self {
        Self { fd, batch: FIRST_BATCH, queue: VecDeque::with_capacity(QUEUE_LIMIT), kernel_drops: 0, down, home }
    }

    /// The same socket on a second fd, of a container's.
    ///
    /// # Errors
    /// Too many fds are open.
    pub(super) fn second(&self) -> io::Result<Self> {
        Ok(Self::on(self.fd.try_clone()?, self.down, None))
    }

    /// The fd to wait for.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Frames to ask for next.
    #[must_use]
    pub const fn batch(&self) -> usize {
        self.batch
    }

    /// Receives into `frames`; says how many came and notes how large they were.
    ///
    /// # Errors
    /// EAGAIN: nothing there; ENETDOWN: went down.
    pub fn receive(&mut self, frames: &mut [FrameBuf], received: &mut [batch::Received; batch::BATCH]) -> io::Result<usize> {
        let count = batch::receive_packets(self.fd.as_fd(), frames, received).inspect_err(|error| self.note(error))?;
        let octets: usize = received.iter().take(count).map(|one| one.octets).sum();
        if octets > LARGE_BATCH {
            self.batch = (self.batch / 2).max(FIRST_BATCH);
        } else if count == frames.len() {
            self.batch = (self.batch * 2).min(batch::BATCH);
        }
        Ok(count)
    }

    /// Sends one frame now.
    ///
    /// # Errors
    /// EAGAIN, ENOBUFS: full; ENETDOWN: down; EMSGSIZE, EINVAL: refused.
    pub fn send_one(&mut self, parts: &[&[u8]; 4]) -> io::Result<()> {
        let slices = parts.map(IoSlice::new);
        let sent = sendmsg::<SockaddrStorage>(self.fd.as_raw_fd(), &slices, &[], MsgFlags::MSG_DONTWAIT, None);
        sent.map(drop).map_err(io::Error::from).inspect_err(|error| self.note(error))
    }

    /// Keeps in mind what the kernel says only once, to whichever call comes first.
    pub(crate) fn note(&mut self, error: &io::Error) {
        self.down |= matches!(error.raw_os_error(), Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV));
    }

    /// Whether the interface was removed, and is not waited for.
    #[must_use]
    pub const fn is_gone(&self) -> bool {
        self.down && self.home.is_none()
    }

    /// Whether the interface is down or gone.
    #[must_use]
    pub const fn is_down(&self) -> bool {
        self.down
    }

    /// Looks whether an uplink's interface is back, and binds to it again where it was removed. Says whether frames go through it.
    pub fn revive(&mut self) -> bool {
        let Some(home) = &mut self.home else { return !self.down };
        let fd = self.fd.as_fd();
        let mut found = packet::attachment(fd);
        if matches!(found, Ok(Attachment::Removed)) {
            home.joined = false;
        }
        if !home.joined {
            // Not there yet, mostly.
            home.joined = packet::rebind_uplink(fd, &home.ifname, home.mac).is_ok();
            found = packet::attachment(fd);
        }
        self.down = !(home.joined && matches!(found, Ok(Attachment::Up)));
        !self.down
    }

    /// Frames that the kernel dropped because we did not read fast enough, since the port was made.
    pub fn kernel_drops(&mut self) -> u64 {
        if let Ok(statistics) = packet::statistics(self.fd.as_fd()) {
            self.kernel_drops += u64::from(statistics.drops);
        }
        self.kernel_drops
    }
}
