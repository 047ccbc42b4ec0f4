//! ARP between containers: whose the sender's addresses are (L09), and answers on behalf of who is known.
use super::{Asked, Inspected, Seen};
use crate::gateway::Gateway;
use crate::packet::address_frame;
use core::net::{IpAddr, Ipv4Addr};
use vswitch_switch::{DropReason, FrameBuf, FrameMeta, Head};

/// Octets of an ARP packet for IPv4 over Ethernet.
const LEN: usize = 28;
const REQUEST: u16 = 1;
const REPLY: u16 = 2;

/// What is read of it.
struct Arp {
    operation: u16,
    sender_mac: [u8; 6],
    sender: Ipv4Addr,
    target: Ipv4Addr,
}

/// Of IPv4 over addresses of 6 octets, whatever the hardware type: Linux takes type 6 on Ethernet too (net/ipv4/arp.c).
fn read(packet: &[u8]) -> Option<Arp> {
    let &[_, _, 8, 0, 6, 4, o0, o1, m0, m1, m2, m3, m4, m5, s0, s1, s2, s3, _, _, _, _, _, _, t0, t1, t2, t3] =
        packet.first_chunk::<LEN>()?
    else {
        return None;
    };
    Some(Arp {
        operation: u16::from_be_bytes([o0, o1]),
        sender_mac: [m0, m1, m2, m3, m4, m5],
        sender: Ipv4Addr::new(s0, s1, s2, s3),
        target: Ipv4Addr::new(t0, t1, t2, t3),
    })
}

impl Gateway {
    pub(super) fn inspect_arp(&mut self, seen: &Seen<'_>) -> Inspected {
        // Another kind of ARP is nothing to an IPv4 host.
        let Some(arp) = read(seen.packet) else { return Inspected::Pass };
        let is_probe = arp.sender.is_unspecified();
        if seen.guarded {
            if arp.sender_mac != seen.head.src.mac().0 || (is_probe && arp.operation != REQUEST) {
                return self.refuse(seen, DropReason::ArpSpoof, Some(arp.sender.into()), None);
            }
            if !is_probe && let Some(reason) = self.claims(seen, arp.sender.into(), DropReason::ArpSpoof) {
                return Inspected::Drop(reason);
            }
        } else if !is_probe && self.config().is_neighbour(arp.sender) && arp.sender_mac == seen.head.src.mac().0 {
            self.stations.observe(seen.port, seen.head.src, arp.sender.into(), seen.now);
        }
        // A unicast request is a question whether its owner is still there: that only he can answer.
        if arp.operation != REQUEST || !seen.head.dst.is_broadcast() || arp.sender == arp.target {
            return Inspected::Pass;
        }
        let target = IpAddr::V4(arp.target);
        if is_probe && seen.guarded {
            return self.probes(seen, target);
        }
        self.find(seen, target).map_or(Inspected::Pass, Inspected::Asked)
    }
}

/// The reply, over the request.
pub(super) fn answer(frame: &mut FrameBuf, head: &Head, asked: &Asked) -> bool {
    let Some(octets) = frame.bytes_mut().get_mut(usize::from(head.l3)..).and_then(<[u8]>::first_chunk_mut::<LEN>) else {
        return false;
    };
    let [h0, h1, p0, p1, hl, pl, _, _, rest @ ..] = *octets;
    let [a0, a1, a2, a3, a4, a5, s0, s1, s2, s3, _, _, _, _, _, _, t0, t1, t2, t3] = rest;
    let [m0, m1, m2, m3, m4, m5] = asked.mac.mac().0;
    let [o0, o1] = REPLY.to_be_bytes();
    *octets = [h0, h1, p0, p1, hl, pl, o0, o1, m0, m1, m2, m3, m4, m5, t0, t1, t2, t3, a0, a1, a2, a3, a4, a5, s0, s1, s2, s3];
    frame.meta = FrameMeta::default();
    address_frame(frame, head.src.mac(), asked.mac);
    true
}
