//! One rtnetlink socket: changes in batches, and the few questions that we have.
//!
//! A batch is one datagram of many requests; the kernel works through them in order and answers each, going on after a
//! failure. The first failure is reported with its position; what follows it was tried all the same, so a batch is for
//! changes that its caller undoes as one.
//!
//! Source: netlink(7), rtnetlink(7).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::BorrowedFd;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::IfName;
use request::{excused, request};

mod request;

/// Room for one datagram from the kernel, in bytes: it never makes larger ones than 32 KB (NLMSG_GOODSIZE for dumps).
const DATAGRAM_BYTES: usize = 64 << 10;

/// Most datagrams read for one request: a dump of some ten million routes.
const DATAGRAMS: usize = 1 << 16;

/// An index that no link has: the kernel counts up from 1.
const NO_LINK: u32 = i32::MAX.cast_unsigned();

/// Most changes in one batch.
pub const BATCH: usize = 64;

/// An IPv4 prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ipv4Net {
    /// An address within, host bits as they came.
    pub address: Ipv4Addr,
    /// 0 to 32.
    pub prefix: u8,
}

impl Ipv4Net {
    /// Whether the two have an address in common.
    #[must_use]
    pub fn overlaps(&self, other: &Ipv4Net) -> bool {
        let shorter = u32::from(self.prefix.min(other.prefix));
        let mask = u32::MAX.checked_shl(32 - shorter.min(32)).unwrap_or(0);
        (self.address.to_bits() ^ other.address.to_bits()) & mask == 0
    }
}

/// What is changed of a link; None is left as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkSettings {
    /// Hardware address.
    pub mac: Option<[u8; 6]>,
    /// In bytes, without the Ethernet header.
    pub mtu: Option<u32>,
    /// Transmit queue in frames.
    pub txqueuelen: Option<u32>,
    /// IFF_UP.
    pub up: Option<bool>,
    /// The opposite of IFF_NOARP.
    pub arp: Option<bool>,
    /// Generate no IPv6 link-local address (IN6_ADDR_GEN_MODE_NONE). Not an error where the kernel has no IPv6.
    pub no_ipv6_address: bool,
}

/// The other end of a veth pair.
#[derive(Clone, Debug)]
pub struct VethPeer<'a> {
    /// Its name.
    pub name: IfName,
    /// The namespace it is made in.
    pub namespace: BorrowedFd<'a>,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// Its MTU in bytes.
    pub mtu: u32,
}

/// One request of a batch.
#[derive(Clone, Debug)]
pub enum Change<'a> {
    /// Makes a veth pair, `name` with index `index` here, the peer elsewhere. EEXIST: one of the names is taken.
    Veth {
        /// Name of this end.
        name: IfName,
        /// Index of this end.
        index: u32,
        /// MTU of this end in bytes.
        mtu: u32,
        /// Whether this end uses ARP.
        arp: bool,
        /// The other end.
        peer: VethPeer<'a>,
    },
    /// Removes a link.
    DeleteLink {
        /// Its index.
        index: u32,
    },
    /// Changes a link.
    Set {
        /// Its index.
        index: u32,
        /// What is changed.
        settings: LinkSettings,
    },
    /// Changes a link known by its name, which spares the question for its index.
    SetByName {
        /// Its name.
        name: IfName,
        /// What is changed.
        settings: LinkSettings,
    },
    /// Adds an IPv4 address, with the broadcast address of its prefix. EEXIST: it is there.
    Address {
        /// The link.
        index: u32,
        /// The address.
        address: Ipv4Addr,
        /// Prefix length.
        prefix: u8,
    },
    /// Adds a default route of the gateway's family. EEXIST: there is one.
    DefaultRoute {
        /// The link.
        index: u32,
        /// Next hop on the link.
        gateway: IpAddr,
    },
    /// Adds an IPv6 address that is good at once: whoever gives it away knows that it is nobody else's (IFA_F_NODAD).
    Address6 {
        /// The link.
        index: u32,
        /// The address.
        address: Ipv6Addr,
        /// Prefix length.
        prefix: u8,
    },
    /// Enters (or replaces) a permanent neighbour.
    Neighbour {
        /// The link.
        index: u32,
        /// Its address.
        address: IpAddr,
        /// Its hardware address.
        mac: [u8; 6],
    },
}

/// A change that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("change {position}: {source}")]
pub struct NetlinkError {
    /// Its position in the batch, from 0; that of the first one refused.
    pub position: usize,
    /// The kernel's errno.
    pub source: io::Error,
}

/// An rtnetlink socket of the namespace in which it was opened.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Opens one for the current namespace.
    ///
    /// # Errors
    /// Those of socket(2).
    pub fn open() -> io::Result<Netlink> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Netlink { socket, sequence: 0, buffer: Vec::with_capacity(DATAGRAM_BYTES) })
    }

    /// Makes the changes in order, in one round trip.
    ///
    /// # Errors
    /// [`NetlinkError`] for the first that was refused. More than [`BATCH`] changes are refused as a whole (E2BIG).
    pub fn apply(&mut self, changes: &[Change<'_>]) -> Result<(), NetlinkError> {
        let whole = |source: io::Error| NetlinkError { position: 0, source };
        if changes.len() > BATCH {
            return Err(whole(io::Error::from_raw_os_error(libc::E2BIG)));
        }
        if changes.is_empty() {
            return Ok(());
        }
        let first = self.sequence.wrapping_add(1);
        let mut datagram = Vec::new();
        for change in changes {
            let (message, flags) = request(change);
            self.append(&mut datagram, message, NLM_F_REQUEST | NLM_F_ACK | flags);
        }
        self.socket.send(&datagram, 0).map_err(whole)?;
        let mut failure: Option<NetlinkError> = None;
        let mut answered = 0;
        for _ in 0..DATAGRAMS {
            if answered >= changes.len() {
                break;
            }
            for (header, payload) in self.receive().map_err(whole)? {
                let position = header.sequence_number.wrapping_sub(first) as usize;
                let (NetlinkPayload::Error(answer), Some(change)) = (payload, changes.get(position)) else {
                    continue;
                };
                answered += 1;
                let Some(code) = answer.code else { continue };
                let errno = code.get().saturating_neg();
                if failure.is_none() && !excused(change, errno) {
                    failure = Some(NetlinkError { position, source: io::Error::from_raw_os_error(errno) });
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Whether this process may change links here (CAP_NET_ADMIN over the namespace's owner). Asks for no change of a link that is not
    /// there: the kernel judges the right first.
    #[must_use]
    pub fn may_change(&mut self) -> bool {
        let nothing = Change::Set { index: NO_LINK, settings: LinkSettings::default() };
        !matches!(self.apply(&[nothing]), Err(error) if error.source.raw_os_error() == Some(libc::EPERM))
    }

    /// The index of an interface, None where there is none of that name.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn index(&mut self, name: &IfName) -> io::Result<Option<u32>> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.as_str().into()));
        let mut index = None;
        let asked = self.ask(RouteNetlinkMessage::GetLink(message), 0, |answer| {
            if let RouteNetlinkMessage::NewLink(link) = answer {
                index = Some(link.header.index);
            }
        });
        match asked {
            Ok(()) => Ok(index),
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// All IPv4 prefixes that this namespace has a use for: destinations of routes in any table (a default route is
    /// none), and addresses of interfaces. Sorted, each once. For choosing a subnet that collides with none.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn ipv4_in_use(&mut self) -> io::Result<Vec<Ipv4Net>> {
        let mut nets = Vec::new();
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        self.ask(RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP, |answer| {
            let RouteNetlinkMessage::NewRoute(route) = answer else {
                return;
            };
            let prefix = route.header.destination_prefix_length;
            for attribute in &route.attributes {
                if let RouteAttribute::Destination(RouteAddress::Inet(address)) = attribute
                    && prefix > 0
                {
                    nets.push(Ipv4Net { address: *address, prefix });
                }
            }
        })?;
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        self.ask(RouteNetlinkMessage::GetAddress(message), NLM_F_DUMP, |answer| {
            let RouteNetlinkMessage::NewAddress(found) = answer else {
                return;
            };
            for attribute in &found.attributes {
                // On a point-to-point link Address is the other side.
                if let AddressAttribute::Address(IpAddr::V4(address)) | AddressAttribute::Local(IpAddr::V4(address)) = attribute {
                    nets.push(Ipv4Net { address: *address, prefix: found.header.prefix_len });
                }
            }
        })?;
        nets.sort_unstable();
        nets.dedup();
        Ok(nets)
    }

    /// Adds a request to `datagram` under the next sequence number.
    fn append(&mut self, datagram: &mut Vec<u8>, message: RouteNetlinkMessage, flags: u16) {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let start = datagram.len();
        datagram.resize(start + message.buffer_len(), 0);
        if let Some(room) = datagram.get_mut(start..) {
            message.serialize(room);
        }
    }

    /// Sends one question and hands over each answer.
    fn ask(&mut self, message: RouteNetlinkMessage, flags: u16, mut answer: impl FnMut(RouteNetlinkMessage)) -> io::Result<()> {
        let mut datagram = Vec::new();
        // The answer to a dump ends with "done", the answer to a plain question with the acknowledgement.
        let ack = if flags & NLM_F_DUMP == 0 { NLM_F_ACK } else { 0 };
        self.append(&mut datagram, message, NLM_F_REQUEST | flags | ack);
        self.socket.send(&datagram, 0)?;
        for _ in 0..DATAGRAMS {
            for (header, payload) in self.receive()? {
                if header.sequence_number != self.sequence {
                    continue;
                }
                if let NetlinkPayload::InnerMessage(message) = payload {
                    answer(message);
                } else if let NetlinkPayload::Error(error) = payload {
                    return error.code.map_or(Ok(()), |c| Err(io::Error::from_raw_os_error(c.get().saturating_neg())));
                } else if let NetlinkPayload::Done(_) = payload {
                    return Ok(());
                }
            }
        }
        Err(io::Error::from_raw_os_error(libc::E2BIG))
    }

    /// Reads one datagram. Messages of kinds or with attributes unknown to the parser are left out.
    fn receive(&mut self) -> io::Result<Vec<(NetlinkHeader, NetlinkPayload<RouteNetlinkMessage>)>> {
        self.buffer.clear();
        self.socket.recv(&mut self.buffer, 0)?;
        let mut messages = Vec::new();
        let mut rest = self.buffer.as_slice();
        // Bounded: each turn takes at least one header of 16 bytes.
        while let Some(length) = rest.get(..4).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes) {
            let length = length as usize;
            let Some(bytes) = rest.get(..length).filter(|b| b.len() >= 16) else {
                break;
            };
            if let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) {
                messages.push(message.into_parts());
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(messages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_overlap() {
        let net = |a: [u8; 4], prefix| Ipv4Net { address: a.into(), prefix };
        assert!(net([10, 88, 0, 0], 20).overlaps(&net([10, 88, 15, 255], 32)));
        assert!(!net([10, 88, 0, 0], 20).overlaps(&net([10, 88, 16, 0], 32)));
        assert!(net([10, 0, 0, 0], 8).overlaps(&net([10, 88, 0, 0], 20)));
        assert!(net([0, 0, 0, 0], 0).overlaps(&net([255, 0, 0, 1], 32)));
        assert!(!net([1, 2, 3, 4], 32).overlaps(&net([1, 2, 3, 5], 32)));
    }

    #[test]
    fn questions_are_answered() {
        let mut netlink = Netlink::open().unwrap();
        assert_eq!(netlink.index(&IfName::parse("lo").unwrap()).unwrap(), Some(1));
        assert_eq!(netlink.index(&IfName::parse("vswitch-none").unwrap()).unwrap(), None);
        let nets = netlink.ipv4_in_use().unwrap();
        assert!(nets.iter().all(|n| n.prefix > 0));
        assert!(nets.windows(2).all(|w| w[0] < w[1]));
    }

    #[test]
    fn the_first_refused_change_is_named() {
        let mut netlink = Netlink::open().unwrap();
        netlink.apply(&[]).unwrap();
        let none = Change::DeleteLink { index: 0x7fff_fff0 };
        let error = netlink.apply(&[none.clone(), none.clone()]).unwrap_err();
        assert_eq!(error.position, 0);
        let many = vec![none; BATCH + 1];
        assert_eq!(netlink.apply(&many).unwrap_err().source.raw_os_error(), Some(libc::E2BIG));
    }
}
