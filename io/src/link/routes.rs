//! Whether IPv6 leads anywhere from this namespace, and when that may have changed.
//!
//! The kernel is asked the very question that a flow will ask it: for a way to an address that is far from here. A connected UDP socket is
//! that question, and sends nothing; so every route, rule and metric counts as it will, and a default route in halves is one too. When to ask
//! again rtnetlink tells: a route or an address changed, no matter which.
use std::io;
use std::net::{Ipv6Addr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// The lowest global unicast address (RFC 4291 2.4, IANA): nobody has it.
const FAR: Ipv6Addr = Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 1);

/// Discard (RFC 863): nothing is sent to it.
const PORT: u16 = 9;

/// Multicast groups of rtnetlink, as bits: addresses and routes of IPv4, of IPv6.
const GROUPS: u32 = 0x10 | 0x40 | 0x100 | 0x400;

/// Octets read of a message: nothing is made of it.
const ROOM: usize = 64;

/// Messages read in one look: a routing daemon may change thousands of routes.
const MESSAGES: usize = 1_024;

/// Whether there is a way to the world in IPv6.
#[must_use]
pub fn leads_out_v6() -> bool {
    UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).and_then(|socket| socket.connect((FAR, PORT))).is_ok()
}

/// Tells that routes or addresses changed: its fd is readable.
#[derive(Debug)]
pub struct RouteWatch(Socket);

impl RouteWatch {
    /// Of the namespace of the calling thread.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, GROUPS))?;
        socket.set_non_blocking(true)?;
        Ok(Self(socket))
    }

    /// Reads what has come: whether there was anything, and whether there may be more.
    pub fn drain(&mut self) -> (bool, bool) {
        for number in 0..MESSAGES {
            let mut room = [0_u8; ROOM];
            match self.0.recv(&mut &mut room[..], 0) {
                Ok(_) => {}
                // What did not fit is a change too.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(_) => return (number > 0, false),
            }
        }
        (true, true)
    }
}

impl AsRawFd for RouteWatch {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
