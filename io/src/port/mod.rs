//! Ports: a closed set, one file a kind. A port receives frames into buffers and sends borrowed frames; it decides nothing.
//!
//! [`Tap`] and [`MemoryPort`] send at once; a [`PacketSocket`] queues and sends in batches at the end of the breath.
mod memory;
mod packet;
mod tap;

pub use memory::MemoryPort;
pub use packet::PacketSocket;
pub use tap::Tap;

use crate::sys::IfName;
use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::{BorrowedFd, OwnedFd};
use vswitch_switch::frame::GsoKind;
use vswitch_switch::{DropReason, FrameBuf, TagOp};

/// TUN_F_CSUM (linux/if_tun.h).
const CSUM: u32 = 0x01;
/// TUN_F_TSO4.
const TSO4: u32 = 0x02;
/// TUN_F_TSO6.
const TSO6: u32 = 0x04;
/// TUN_F_USO4 and TUN_F_USO6, which only come together.
const USO: u32 = 0x60;

/// Whatever a container hangs on.
#[derive(Debug)]
pub enum Port {
    /// A TAP in its namespace.
    Tap(Tap),
    /// The host end of a veth, through AF_PACKET.
    Packet(PacketSocket),
    /// A pair of queues, for tests and benches.
    Memory(MemoryPort),
}

/// Why an fd is no port.
#[derive(Debug)]
pub struct NotAPort(String);

impl fmt::Display for NotAPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotAPort {}

/// What a system call's error means for a frame.
pub(crate) fn drop_reason(error: &io::Error) -> DropReason {
    match error.raw_os_error() {
        Some(libc::EIO | libc::ENETDOWN | libc::ENXIO | libc::ENODEV) => DropReason::PortDown,
        Some(libc::EBADFD) => DropReason::PortGone,
        Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => DropReason::EgressFull,
        _ => DropReason::EgressRefused,
    }
}

impl Port {
    /// A port on a TAP whose offloads are set to `mask`.
    ///
    /// # Errors
    /// The fd is not such a TAP.
    pub fn tap(fd: OwnedFd, mask: u32) -> Result<Self, NotAPort> {
        Tap::new(fd, mask).map(Self::Tap).map_err(|e| NotAPort(e.to_string()))
    }

    /// A port on a bound packet socket.
    ///
    /// # Errors
    /// The fd is not such a socket.
    pub fn packet(fd: OwnedFd) -> Result<Self, NotAPort> {
        PacketSocket::new(fd).map(Self::Packet).map_err(|e| NotAPort(e.to_string()))
    }

    /// A port on the uplink's packet socket, see [`PacketSocket::uplink`].
    ///
    /// # Errors
    /// The fd is not such a socket.
    pub fn uplink(fd: OwnedFd, ifname: IfName, mac: [u8; 6]) -> Result<Self, NotAPort> {
        PacketSocket::uplink(fd, ifname, mac).map(Self::Packet).map_err(|e| NotAPort(e.to_string()))
    }

    /// Whether its interface is known to be down: it takes no frame.
    #[inline]
    #[must_use]
    pub const fn is_down(&self) -> bool {
        match self {
            Self::Packet(socket) => socket.is_down(),
            Self::Tap(_) | Self::Memory(_) => false,
        }
    }

    /// Whether its interface is known to be removed, and is not waited for.
    #[must_use]
    pub const fn is_gone(&self) -> bool {
        match self {
            Self::Packet(socket) => socket.is_gone(),
            Self::Tap(_) | Self::Memory(_) => false,
        }
    }

    /// The kind's name in views.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Tap(_) => "tap",
            Self::Packet(_) => "veth",
            Self::Memory(_) => "memory",
        }
    }

    /// The fd to wait for; a memory port has none.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Tap(tap) => Some(tap.fd()),
            Self::Packet(socket) => Some(socket.fd()),
            Self::Memory(_) => None,
        }
    }

    /// The same port on a second fd, to be read elsewhere.
    ///
    /// # Errors
    /// Too many fds are open, or it has none.
    pub(crate) fn second(&self) -> io::Result<Self> {
        match self {
            Self::Tap(tap) => tap.second().map(Self::Tap),
            Self::Packet(socket) => socket.second().map(Self::Packet),
            Self::Memory(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// TUN_F_* mask of what it takes.
    #[must_use]
    pub const fn offload(&self) -> u32 {
        match self {
            Self::Tap(tap) => tap.mask(),
            Self::Packet(_) => CSUM | TSO4 | TSO6 | USO,
            Self::Memory(memory) => memory.mask(),
        }
    }

    /// Whether the frame can leave as it is, or must be cut or its checksum finished first.
    #[inline]
    #[must_use]
    pub fn takes(&self, frame: &FrameBuf) -> bool {
        let needed = match frame.meta.gso.map(|gso| gso.kind) {
            None if frame.meta.csum == vswitch_switch::Csum::Complete => return true,
            None => CSUM,
            Some(GsoKind::TcpV4) => CSUM | TSO4,
            Some(GsoKind::TcpV6) => CSUM | TSO6,
            Some(GsoKind::UdpL4) => CSUM | USO,
        };
        self.offload() & needed == needed
    }

    /// Sends a frame that is sealed, at once.
    ///
    /// # Errors
    /// The reason for which the frame ends here.
    #[inline]
    pub fn send(&mut self, frame: &FrameBuf, tag: TagOp) -> Result<(), DropReason> {
        match (&self, tag) {
            (Self::Tap(tap), TagOp::Untagged) => tap.send_whole(frame.sealed()).map_err(|error| drop_reason(&error)),
            (Self::Tap(_), TagOp::Tagged(_)) | (Self::Packet(_) | Self::Memory(_), _) => {
                self.send_parts(&frame.meta.to_vnet(tag), frame.parts(), tag)
            }
        }
    }

    /// Sends octets with a virtio_net_hdr, at once. `parts` are addresses and the rest.
    ///
    /// # Errors
    /// The reason for which the frame ends here.
    #[inline]
    pub fn send_parts(&mut self, vnet: &[u8], parts: (&[u8], &[u8]), tag: TagOp) -> Result<(), DropReason> {
        let octets = match tag {
            TagOp::Untagged => None,
            TagOp::Tagged(tag) => Some(tag.to_bytes()),
        };
        let tag = octets.as_ref().map_or(&[][..], |octets| &octets[..]);
        match self {
            Self::Tap(tap) => tap
                .send(&[IoSlice::new(vnet), IoSlice::new(parts.0), IoSlice::new(tag), IoSlice::new(parts.1)])
                .map_err(|error| drop_reason(&error)),
            Self::Packet(socket) => socket.send_one(&[vnet, parts.0, tag, parts.1]).map_err(|error| drop_reason(&error)),
            Self::Memory(memory) => {
                memory.push(&[vnet, parts.0, tag, parts.1]);
                Ok(())
            }
        }
    }
}
