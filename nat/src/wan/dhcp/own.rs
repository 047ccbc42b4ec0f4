//! What a DHCP client says that smoltcp does not: that it has come back with its address (RFC 2131 3.2, INIT-REBOOT), and that the address is
//! somebody else's (RFC 2131 3.1 (5), DHCPDECLINE).
//!
//! Theory. The question of one that comes back has the transaction of smoltcp's latest message, so smoltcp takes the answer for that of a
//! renewal: an ACK begins the lease anew, a NAK ends it. Without an answer the lease goes on (RFC 2131 3.2 (4)), and is asked about
//! [`REBOOTS`] times in all. After a DECLINE smoltcp begins from the start, once the time that RFC 2131 3.1 (5) asks for is over.
use super::*;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{EthernetRepr, Ipv4Repr, UdpRepr};

/// How often the server is asked about a lease after the link is back.
pub const REBOOTS: u32 = 4;
/// After the first question; twice that after each other (RFC 2131 4.1).
const REBOOT_INTERVAL: Duration = Duration::from_secs(4);
/// RFC 2131 3.1 (5): before one that declined asks anew.
pub const DECLINED: Duration = Duration::from_secs(10);
/// RFC 5227 1.1, MAX_CONFLICTS: after so many, it asks every [`RATE_LIMIT`] only.
pub const MAX_CONFLICTS: u32 = 10;
/// RFC 5227 1.1, RATE_LIMIT_INTERVAL.
pub const RATE_LIMIT: Duration = Duration::from_secs(60);
/// What is asked for (RFC 2132 9.8), as smoltcp does: mask, routers, DNS servers.
const PARAMETERS: &[u8] = &[1, 3, 6];
/// RFC 2132 9.10, as smoltcp says it: of the MTU, without the longest IP header and UDP's.
const MAX_SIZE: u16 = (MTU - 60 - 8) as u16;

/// One that comes back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reboot {
    asked: u32,
    due: Time,
}

impl DhcpClient {
    /// The link is back, and may be another: the server is asked about our lease at once; without one, for one.
    pub fn reconfirm(&mut self, now: Time) {
        if self.lease.is_some() {
            self.reboot = Some(Reboot { asked: 0, due: now });
        } else if self.pause.is_none() {
            self.sockets.get_mut::<Socket<'_>>(self.handle).reset();
        }
    }

    /// Somebody else has the address of our lease: it is given up, the server told, and another asked for, after a while.
    pub fn decline(&mut self, now: Time) {
        let (Some(lease), Some(server)) = (self.lease.take(), self.server_id) else { return };
        self.send(now, DhcpMessageType::Decline, lease.address, Some(server));
        let socket = self.sockets.get_mut::<Socket<'_>>(self.handle);
        socket.reset();
        // That there is no lease any more is no news.
        let _ = socket.poll();
        self.interface.update_ip_addrs(|addresses| addresses.clear());
        (self.event, self.reboot) = (None, None);
        self.declined = self.declined.saturating_add(1);
        self.pause = Some(now.after(if self.declined < MAX_CONFLICTS { DECLINED } else { RATE_LIMIT }));
    }

    /// Whether nothing may be asked for yet, after a DECLINE.
    pub(super) fn is_paused(&mut self, now: Time) -> bool {
        self.pause = self.pause.filter(|until| *until > now);
        self.pause.is_some()
    }

    /// Asks about our lease, where that is due.
    pub(super) fn reboot(&mut self, now: Time) {
        let (Some(reboot), Some(lease)) = (self.reboot, self.lease) else { return self.reboot = None };
        if reboot.due > now || self.wire.credit == 0 {
            return;
        }
        self.reboot = (reboot.asked < REBOOTS)
            .then(|| Reboot { asked: reboot.asked + 1, due: now.after(REBOOT_INTERVAL.saturating_mul(1 << reboot.asked)) });
        if self.reboot.is_some() {
            // RFC 2131 4.3.2, INIT-REBOOT: to everybody, with the address and no server.
            self.send(now, DhcpMessageType::Request, lease.address, None);
        }
    }

    pub(super) fn reboot_due(&self) -> Option<Time> {
        self.reboot.map(|reboot| reboot.due)
    }

    fn send(&mut self, now: Time, message_type: DhcpMessageType, address: Ipv4Addr, server: Option<Ipv4Addr>) {
        let Some(xid) = self.wire.xid else { return };
        let own = EthernetAddress(self.mac.mac().0);
        let nobody = Ipv4Addr::UNSPECIFIED;
        let asks = message_type == DhcpMessageType::Request;
        let repr = DhcpRepr {
            message_type,
            transaction_id: xid,
            secs: 0,
            client_hardware_address: own,
            client_ip: nobody,
            your_ip: nobody,
            server_ip: nobody,
            router: None,
            subnet_mask: None,
            relay_agent_ip: nobody,
            broadcast: false,
            requested_ip: Some(address),
            // RFC 2131 2: the same in all messages.
            client_identifier: Some(own),
            server_identifier: server,
            parameter_request_list: asks.then_some(PARAMETERS),
            dns_servers: None,
            max_size: asks.then_some(MAX_SIZE),
            lease_duration: None,
            renew_duration: None,
            rebind_duration: None,
            additional_options: &[],
        };
        self.wire.refill(now);
        self.wire.say(frame(own, &repr));
    }
}

/// A message from nobody to everybody.
fn frame(own: EthernetAddress, repr: &DhcpRepr<'_>) -> Vec<u8> {
    let checksums = ChecksumCapabilities::default();
    let udp = UdpRepr { src_port: CLIENT_PORT, dst_port: SERVER_PORT };
    let ip = Ipv4Repr {
        src_addr: Ipv4Addr::UNSPECIFIED,
        dst_addr: Ipv4Addr::BROADCAST,
        next_header: IpProtocol::Udp,
        payload_len: udp.header_len() + repr.buffer_len(),
        hop_limit: 64,
    };
    let ethernet = EthernetRepr { src_addr: own, dst_addr: EthernetAddress::BROADCAST, ethertype: EthernetProtocol::Ipv4 };
    let mut octets = vec![0; ethernet.buffer_len() + ip.buffer_len() + ip.payload_len];
    let mut frame = EthernetFrame::new_unchecked(&mut octets[..]);
    ethernet.emit(&mut frame);
    let mut packet = Ipv4Packet::new_unchecked(frame.payload_mut());
    ip.emit(&mut packet, &checksums);
    let mut datagram = UdpPacket::new_unchecked(packet.payload_mut());
    let (src, dst) = (IpAddress::Ipv4(ip.src_addr), IpAddress::Ipv4(ip.dst_addr));
    udp.emit(
        &mut datagram,
        &src,
        &dst,
        repr.buffer_len(),
        |payload| {
            // Its buffer is as long as it says.
            let _ = repr.emit(&mut DhcpPacket::new_unchecked(payload));
        },
        &checksums,
    );
    octets
}
