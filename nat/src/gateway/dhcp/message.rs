//! The messages of DHCP (RFC 2131 2), read and written over smoltcp's packet, which knows where the fields are.
//!
//! A client's message counts only when it is whole: IP header and UDP with right checksums, from the hardware address that it names. Options
//! that are read: message type, requested address, server identifier, client identifier, parameter request list; with an overload (RFC 2132
//! 9.3) in `file` and `sname` too. One that reaches past its field, or is not as long as it has to be, makes the whole message malformed:
//! half a message would be answered as another one. Of an option that is there twice the first counts.
use crate::checksum;
use alloc::vec::Vec;
use core::cell::Cell;
use core::net::Ipv4Addr;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    DhcpMessageType, DhcpOption, DhcpPacket, DhcpRepr, EthernetAddress, IpAddress, IpProtocol, Ipv4Packet, Ipv4Repr, UdpPacket,
    UdpRepr,
};
use vswitch_switch::head::ETHERNET_HEADER;
use vswitch_switch::{Csum, DropReason, FrameBuf, Head, Mac, UnicastMac};

/// The server's and the client's port (RFC 2131 4.1).
pub const SERVER_PORT: u16 = 67;
/// See [`SERVER_PORT`].
pub const CLIENT_PORT: u16 = 68;

/// Octets of the headers in front of a message, Ethernet's aside.
const HEADERS: usize = 20 + 8;
/// Octets of a message's fixed part, the magic included.
const HEADER: usize = 240;
/// Octets of the options that every answer has, and of the end: message type, server, lease.
const ALWAYS: usize = 3 + 6 + 6 + 1;
/// Octets of a message at the least: BOOTP's, which some relays and clients want (RFC 1542 2.1).
const SHORTEST: usize = 300;
/// And at the most: what every client takes (RFC 2131 2: 576 octets of IP, in 548 of DHCP).
const LONGEST: usize = 548;
/// RFC 1700; of a message that goes no further than its link.
const TTL: u8 = 64;
const BOOTREQUEST: u8 = 1;
const ETHERNET: u8 = 1;
const MAGIC: u32 = 0x6382_5363;

/// Options (RFC 2132, by their numbers).
pub mod option {
    /// 3.14: the client's name.
    pub const HOST_NAME: u8 = 12;
    /// 3.17.
    pub const DOMAIN_NAME: u8 = 15;
    /// 5.1.
    pub const INTERFACE_MTU: u8 = 26;
    /// 5.3.
    pub const BROADCAST: u8 = 28;
    /// 3.3.
    pub const SUBNET_MASK: u8 = 1;
    /// 3.5.
    pub const ROUTER: u8 = 3;
    /// 3.8.
    pub const DNS: u8 = 6;
    /// 9.1.
    pub const REQUESTED: u8 = 50;
    /// 9.6.
    pub const MESSAGE_TYPE: u8 = 53;
    /// 9.7.
    pub const SERVER: u8 = 54;
    /// 9.8.
    pub const PARAMETERS: u8 = 55;
    /// 9.3.
    pub const OVERLOAD: u8 = 52;
    /// 9.11.
    pub const T1: u8 = 58;
    /// 9.12.
    pub const T2: u8 = 59;
    /// 9.14.
    pub const CLIENT_ID: u8 = 61;
}

/// What a client says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// What it asks or tells.
    pub kind: DhcpMessageType,
    /// By which it knows the answer.
    pub xid: u32,
    /// Its hardware address.
    pub mac: UnicastMac,
    /// The address that it has (`ciaddr`), or unspecified.
    pub client: Ipv4Addr,
    /// The relay (`giaddr`), or unspecified.
    pub relay: Ipv4Addr,
    /// It takes broadcasts only, as long as it has no address.
    pub broadcast: bool,
    /// The address that it asks for.
    pub requested: Option<Ipv4Addr>,
    /// The server that it means.
    pub server: Option<Ipv4Addr>,
    /// What it calls itself, to be given back (RFC 6842 3).
    pub id: Vec<u8>,
    /// What it wants to know; without, everything.
    pub parameters: Option<Vec<u8>>,
}

/// Calls `take` with each option of a field, which its end ends too (as BOOTP had it); `None` when one reaches past it, or `take` says so.
fn each<'a>(mut octets: &'a [u8], mut take: impl FnMut(u8, &'a [u8]) -> Option<()>) -> Option<()> {
    const PAD: u8 = 0;
    const END: u8 = 255;
    while let [kind, rest @ ..] = octets {
        octets = match (*kind, rest) {
            (PAD, rest) => rest,
            (END, _) => return Some(()),
            (kind, rest) => {
                let (len, rest) = rest.split_first()?;
                let (data, rest) = rest.split_at_checked(usize::from(*len))?;
                take(kind, data)?;
                rest
            }
        };
    }
    Some(())
}

/// Whether a frame is a message to the server `own`, or to all: UDP over IPv4, whole, to port 67.
#[must_use]
pub fn is_for_server(frame: &FrameBuf, head: &Head, own: Ipv4Addr) -> bool {
    let packet = frame.bytes().get(usize::from(head.l3)..).unwrap_or_default();
    let [version, .., fragment, offset, _, protocol] = packet.first_chunk::<10>().copied().unwrap_or_default();
    let udp = packet.get(usize::from(version & 0xf) * 4..).unwrap_or_default();
    version >> 4 == 4
        && protocol == 17
        && (fragment & 0x3f, offset) == (0, 0)
        && [Some(&own.octets()[..]), Some(&[0xff; 4])].contains(&packet.get(16..20))
        && udp.get(2..4) == Some(&SERVER_PORT.to_be_bytes())
}

fn unicast(address: EthernetAddress) -> Option<UnicastMac> {
    UnicastMac::new(Mac(address.0))
}

impl Message {
    /// Reads one that [`is_for_server`].
    ///
    /// # Errors
    /// [`DropReason::GatewayMalformed`].
    pub fn read(frame: &mut FrameBuf, head: &Head) -> Result<Self, DropReason> {
        const MALFORMED: DropReason = DropReason::GatewayMalformed;
        if let Csum::Partial { start, offset } = frame.meta.csum {
            if frame.meta.gso.is_some() || !checksum::finish(frame.bytes_mut(), usize::from(start), usize::from(offset)) {
                return Err(MALFORMED);
            }
            frame.meta.csum = Csum::Complete;
        }
        let packet = frame.bytes().get(usize::from(head.l3)..).ok_or(MALFORMED)?;
        let ip = Ipv4Packet::new_checked(packet).map_err(|_| MALFORMED)?;
        let (src, dst) = (IpAddress::Ipv4(ip.src_addr()), IpAddress::Ipv4(ip.dst_addr()));
        let udp = UdpPacket::new_checked(ip.payload()).map_err(|_| MALFORMED)?;
        if !ip.verify_checksum() || !udp.verify_checksum(&src, &dst) {
            return Err(MALFORMED);
        }
        Self::parse(udp.payload(), head.src).ok_or(MALFORMED)
    }

    fn parse(message: &[u8], source: UnicastMac) -> Option<Self> {
        let packet = DhcpPacket::new_checked(message).ok()?;
        // smoltcp reads no further than this without a look at the length.
        let is_request = message.first_chunk::<3>() == Some(&[BOOTREQUEST, ETHERNET, 6]);
        if !is_request || packet.magic_number() != MAGIC || unicast(packet.client_hardware_address()) != Some(source) {
            return None;
        }
        let mut read = Self {
            kind: DhcpMessageType::Unknown(0),
            xid: packet.transaction_id(),
            mac: source,
            client: packet.client_ip(),
            relay: packet.relay_agent_ip(),
            broadcast: packet.flags().contains(smoltcp::wire::DhcpFlags::BROADCAST),
            requested: None,
            server: None,
            id: Vec::new(),
            parameters: None,
        };
        let (overload, mut kind) = (Cell::new(None), None);
        let mut take = |option: u8, data: &[u8]| {
            let one = || if let [octet] = data { Some(*octet) } else { None };
            let address = || <[u8; 4]>::try_from(data).ok().map(Ipv4Addr::from);
            match option {
                option::OVERLOAD => overload.set(overload.get().or(Some(one()?))),
                option::MESSAGE_TYPE => kind = kind.or(Some(one()?)),
                option::REQUESTED => read.requested = read.requested.or(Some(address()?)),
                option::SERVER => read.server = read.server.or(Some(address()?)),
                option::PARAMETERS if read.parameters.is_none() => read.parameters = Some(data.to_vec()),
                option::CLIENT_ID if read.id.is_empty() => read.id = data.to_vec(),
                _ => {}
            }
            Some(())
        };
        each(message.get(HEADER..)?, &mut take)?;
        let fields = overload_fields(message, overload.get())?;
        for field in fields.into_iter().flatten() {
            each(field, &mut take)?;
        }
        read.kind = DhcpMessageType::from(kind?);
        matches!(
            read.kind,
            DhcpMessageType::Discover
                | DhcpMessageType::Request
                | DhcpMessageType::Decline
                | DhcpMessageType::Release
                | DhcpMessageType::Inform
        )
        .then_some(read)
    }

    /// Whether it wants to know an option.
    #[must_use]
    pub fn wants(&self, option: u8) -> bool {
        self.parameters.as_ref().is_none_or(|parameters| parameters.contains(&option))
    }
}

/// Where options go on (RFC 2132 9.3): in `file`, then in `sname`.
fn overload_fields(message: &[u8], overload: Option<u8>) -> Option<[Option<&[u8]>; 2]> {
    let (sname, file) = (message.get(44..108)?, message.get(108..236)?);
    match overload {
        None => Some([None, None]),
        Some(1) => Some([Some(file), None]),
        Some(2) => Some([None, Some(sname)]),
        Some(3) => Some([Some(file), Some(sname)]),
        Some(_) => None,
    }
}

/// What a client is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer<'a> {
    /// An offer, an acknowledgement, or that it may not.
    pub kind: DhcpMessageType,
    /// The client's address; unspecified where none is given.
    pub address: Ipv4Addr,
    /// The server's.
    pub server: Ipv4Addr,
    /// For how long, seconds; `None` where no address is given.
    pub lease: Option<u32>,
    /// Bits of the subnet's prefix.
    pub prefix: u8,
    /// The MTU of its link.
    pub mtu: u16,
    /// Its name.
    pub name: Option<&'a str>,
    /// The domain of names.
    pub domain: &'a str,
}

impl Answer<'_> {
    /// Writes it over the client's message `to`, but for the Ethernet addresses.
    #[must_use]
    pub fn write(&self, frame: &mut FrameBuf, to: &Message) -> bool {
        let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
        let [own, broadcast, mask] = [self.server.to_bits(), self.server.to_bits() | !mask, mask].map(u32::to_be_bytes);
        let mtu = self.mtu.to_be_bytes();
        // RFC 2131 4.4.5.
        let [t1, t2] = self.lease.map_or([0, 0], |lease| [lease / 2, (u64::from(lease) * 7 / 8) as u32]).map(u32::to_be_bytes);
        let is_nak = self.kind == DhcpMessageType::Nak;
        let tells = |option| !is_nak && to.wants(option);
        let mut options = Vec::new();
        let mut room = LONGEST - HEADER - ALWAYS;
        // What does not fit beside a long client identifier is left out: so what matters most comes first.
        let mut say = |kind, data| {
            let option = DhcpOption { kind, data };
            if let Some(left) = room.checked_sub(2 + option.data.len()) {
                room = left;
                options.push(option);
            }
        };
        if self.lease.is_some() {
            say(option::T1, &t1[..]);
            say(option::T2, &t2[..]);
        }
        // RFC 2132 3.3: the mask before the router. smoltcp's own fields come the other way round.
        for (kind, data) in [(option::SUBNET_MASK, &mask), (option::ROUTER, &own), (option::DNS, &own)] {
            if tells(kind) {
                say(kind, &data[..]);
            }
        }
        if !to.id.is_empty() {
            say(option::CLIENT_ID, &to.id);
        }
        for (kind, data) in [
            (option::INTERFACE_MTU, Some(&mtu[..])),
            (option::HOST_NAME, self.name.map(str::as_bytes)),
            (option::DOMAIN_NAME, Some(self.domain.as_bytes())),
            (option::BROADCAST, Some(&broadcast[..])),
        ] {
            if let Some(data) = data.filter(|_| tells(kind)) {
                say(kind, data);
            }
        }
        let repr = DhcpRepr {
            message_type: self.kind,
            transaction_id: to.xid,
            secs: 0,
            client_hardware_address: EthernetAddress(to.mac.mac().0),
            // RFC 2131 4.3.1, table 3.
            client_ip: if self.kind == DhcpMessageType::Ack { to.client } else { Ipv4Addr::UNSPECIFIED },
            your_ip: self.address,
            server_ip: Ipv4Addr::UNSPECIFIED,
            router: None,
            subnet_mask: None,
            relay_agent_ip: Ipv4Addr::UNSPECIFIED,
            broadcast: to.broadcast,
            requested_ip: None,
            client_identifier: None,
            server_identifier: Some(self.server),
            parameter_request_list: None,
            dns_servers: None,
            max_size: None,
            lease_duration: self.lease,
            renew_duration: None,
            rebind_duration: None,
            additional_options: &options,
        };
        self.emit(frame, to, &repr, repr.buffer_len().max(SHORTEST))
    }

    /// RFC 2131 4.1: where to.
    fn destination(&self, to: &Message) -> Ipv4Addr {
        let is_nak = self.kind == DhcpMessageType::Nak;
        if !to.client.is_unspecified() && !is_nak {
            to.client
        } else if to.broadcast || is_nak || self.address.is_unspecified() {
            Ipv4Addr::BROADCAST
        } else {
            self.address
        }
    }

    fn emit(&self, frame: &mut FrameBuf, to: &Message, repr: &DhcpRepr<'_>, len: usize) -> bool {
        let mut octets = [0; ETHERNET_HEADER + HEADERS + LONGEST];
        let checksums = ChecksumCapabilities::default();
        let ip = Ipv4Repr {
            src_addr: self.server,
            dst_addr: self.destination(to),
            next_header: IpProtocol::Udp,
            payload_len: len + 8,
            hop_limit: TTL,
        };
        let udp = UdpRepr { src_port: SERVER_PORT, dst_port: CLIENT_PORT };
        let Some((ethernet, rest)) = octets.split_at_mut_checked(ETHERNET_HEADER) else { return false };
        if let Some(kind) = ethernet.get_mut(12..).and_then(<[u8]>::first_chunk_mut::<2>) {
            *kind = [8, 0];
        }
        let Some(packet) = rest.get_mut(..HEADERS + len) else { return false };
        let mut written = true;
        ip.emit(&mut Ipv4Packet::new_unchecked(&mut packet[..]), &checksums);
        let Some(datagram) = packet.get_mut(20..) else { return false };
        udp.emit(
            &mut UdpPacket::new_unchecked(datagram),
            &IpAddress::Ipv4(ip.src_addr),
            &IpAddress::Ipv4(ip.dst_addr),
            len,
            |message| written = repr.emit(&mut DhcpPacket::new_unchecked(message)).is_ok(),
            &checksums,
        );
        written && octets.get(..ETHERNET_HEADER + HEADERS + len).is_some_and(|octets| frame.fill(octets))
    }
}
