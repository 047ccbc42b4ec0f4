//! What waited in the gateway and comes out again, and what is asked on its behalf.
use super::*;

impl Uplink {
    /// Without a buffer nothing is cut and nobody asked, so what waits for that would keep its own for ever: the earliest gives way.
    fn relieve(&mut self) -> Option<Routed> {
        let cut = self.cutting.pop_front().map(|(_, fragmenter)| fragmenter.into_frame());
        cut.or_else(|| self.wan.abandon()).map(|frame| Routed::Drop(frame, DropReason::NoBuffer))
    }
}

impl Gateway {
    /// What waited here and goes on now, or what is to be asked; `None` when nothing is ready. To be called until then, after each breath.
    #[must_use]
    pub fn poll_output(&mut self, pool: &mut FramePool, now: Time) -> Option<Routed> {
        if let Some(answer) = self.poll_dhcp_server(pool, now) {
            return Some(answer);
        }
        if let Some(routed) = self.poll_advert(pool, now) {
            return Some(routed);
        }
        if self.exchange.is_some() {
            return self.poll_reassembly(now);
        }
        let uplink = self.uplink.as_deref_mut()?;
        let has_buffer = pool.available() > 0;
        if let Some((side, fragmenter)) = uplink.cutting.front_mut().filter(|_| has_buffer) {
            let side = *side;
            let mut buffer = pool.take()?;
            if fragmenter.next_into(&mut buffer) {
                return Some(Routed::Generated(side, buffer));
            }
            pool.put(buffer);
            return uplink.cutting.pop_front().map(|(_, fragmenter)| Routed::Consumed(fragmenter.into_frame()));
        }
        while let Some(releasing) = uplink.releasing.front() {
            match releasing {
                Releasing::V4(datagram) => {
                    if let Some((p, known)) = uplink.v4.release(&{ *datagram }) {
                        return Some(self.released(p, known, now));
                    }
                }
                Releasing::V6(datagram) => {
                    if let Some((p, known)) = uplink.v6.release(&{ *datagram }) {
                        return Some(self.released(p, known, now));
                    }
                }
            }
            uplink.releasing.pop_front();
        }
        if let Some(frame) = uplink.poll_dhcp(pool, now) {
            return Some(Routed::Generated(Side::Uplink, frame));
        }
        if let Some(lease) = uplink.take_lease(now) {
            self.lease(lease, now);
        }
        let uplink = self.uplink.as_deref_mut()?;
        if let Some(p) = uplink.v4.expire(now) {
            return Some(Routed::Drop(p.into_frame(), DropReason::Fragment));
        }
        if let Some(p) = uplink.v6.expire(now) {
            return Some(Routed::Drop(p.into_frame(), DropReason::Fragment));
        }
        let Some(output) = uplink.wan.poll(pool, now) else {
            return if has_buffer { None } else { uplink.relieve() };
        };
        match output {
            WanOutput::Send { frame, generated: true } => Some(Routed::Generated(Side::Uplink, frame)),
            WanOutput::Send { frame, generated: false } => {
                let mtu = usize::from(uplink.wan.config().mtu);
                Some(uplink.depart(Side::Uplink, frame, mtu))
            }
            WanOutput::Failed(frame) => Some(self.unreachable(frame, now)),
        }
    }

    /// A later fragment whose first has been translated meanwhile.
    fn released<A: Routable>(&mut self, mut p: Packet<A>, known: Known<A>, now: Time) -> Routed {
        let before = *p.tuple();
        known.apply(&mut p);
        let from = if A::is_inside(&self.config, before.src) { Side::Inside } else { Side::Uplink };
        if from == Side::Inside {
            p.take_hop();
        }
        self.onward(p, before, from, now)
    }

    /// The next hop does not answer: the sender is told, about the packet that he sent.
    fn unreachable(&mut self, frame: FrameBuf, now: Time) -> Routed {
        match Head::parse(frame.bytes(), None).map(|head| head.ethertype) {
            Ok(EtherType::IPV4) => self.untranslate::<Ipv4Addr>(frame, now),
            Ok(EtherType::IPV6) => self.untranslate::<Ipv6Addr>(frame, now),
            Ok(_) | Err(_) => Routed::Drop(frame, DropReason::NoNeighbour),
        }
    }

    fn untranslate<A: Routable>(&mut self, frame: FrameBuf, now: Time) -> Routed {
        let reason = DropReason::NoNeighbour;
        let mut p = match Packet::<A>::parse(frame, vswitch_switch::head::ETHERNET_HEADER) {
            Ok(p) => p,
            Err((frame, _)) => return Routed::Drop(frame, reason),
        };
        let Self { config, stations, uplink, limiters, .. } = self;
        let undone = uplink.as_deref().and_then(|uplink| uplink.nat.undo(stations, &mut p));
        let way = undone.and_then(|_| stations.way(p.tuple().src));
        let limiter = undone.and_then(|owner| limiters.get_mut(usize::from(owner)));
        let (Some(way), Some(limiter)) = (way, limiter) else { return Routed::Drop(p.into_frame(), reason) };
        // As if it had just come from its sender.
        p.address(config.mac, way.mac);
        refuse(p, (IcmpError::Unreachable, reason), A::own(config), limiter, (Side::Inside, config.mac), now)
    }
}
