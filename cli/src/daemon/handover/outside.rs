//! What is handed over of the outside: the uplink's socket, what is published, and the NAT's sessions.
//!
//! Sessions are sent twice: all of them while the old daemon forwards, and those that were used meanwhile once it has stopped, so that the
//! gap does not grow with the table. The clock is the machine's, the same for both.
use super::super::outside::Publication;
use super::*;
use crate::api::types::UplinkOrder;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::BorrowedFd;
use vswitch_io::clock;
use vswitch_nat::Gateway;
use vswitch_nat::flow::{Address, Tuple};
use vswitch_nat::forward::RuleId;
use vswitch_nat::nat::Family;
use vswitch_nat::session::{Count, Session};
use vswitch_nat::tcp_state::{Phase, Side, Sides};
use vswitch_switch::Time;

/// Slots of the session table behind one message.
const FLOW_SLOTS: u32 = 1_024;

/// Uplink and published ports.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct OutsideState {
    uplink: Option<UplinkOrder>,
    sockets: bool,
    published: Vec<PublishedState>,
    last_rule: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct PublishedState {
    id: u32,
    spec: String,
    names: Vec<String>,
    from: Vec<String>,
}

/// A session: addresses and ports of the original tuple, of the reply one, and the rest.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FlowState {
    original: (IpAddr, u16, IpAddr, u16),
    reply: (IpAddr, u16, IpAddr, u16),
    protocol: u8,
    port: u16,
    phase: u8,
    from_outside: bool,
    is_mapped: bool,
    created: u32,
    rule: u32,
    /// acked, limit, scale, known of each side.
    sides: [(u32, u32, u8, bool); 2],
    packets: [u64; 2],
    bytes: [u64; 2],
    /// Nanoseconds of the clock.
    seen: u64,
}

fn ends<A: Address>(tuple: &Tuple<A>) -> (IpAddr, u16, IpAddr, u16) {
    (tuple.src.into(), tuple.sport, tuple.dst.into(), tuple.dport)
}

fn tuple<A: Address>((src, sport, dst, dport): (IpAddr, u16, IpAddr, u16), protocol: u8) -> Option<Tuple<A>> {
    Some(Tuple { src: A::of(src)?, sport, dst: A::of(dst)?, dport, protocol })
}

impl FlowState {
    fn of<A: Address>(original: &Tuple<A>, session: &Session<A>, seen: Time) -> Self {
        let side = |side: Side| (side.acked, side.limit, side.scale, side.known);
        let ([first, second], [out, back]) = (session.sides.0, session.counts);
        Self {
            original: ends(original),
            reply: ends(&session.reply),
            protocol: original.protocol,
            port: session.owner.port,
            phase: session.phase as u8,
            from_outside: session.from_outside,
            is_mapped: session.is_mapped,
            created: session.created,
            rule: session.rule.0,
            sides: [side(first), side(second)],
            packets: [out.packets, back.packets],
            bytes: [out.bytes, back.bytes],
            seen: seen.nanos(),
        }
    }

    fn enter<A: Family>(&self, gateway: &mut Gateway) -> Option<()> {
        let (uplink, stations) = gateway.uplink_mut()?;
        let side = |(acked, limit, scale, known)| Side { acked, limit, scale, known };
        let [first, second] = self.sides;
        let [out, back] = self.packets;
        let [out_bytes, back_bytes] = self.bytes;
        let session = Session {
            reply: tuple::<A>(self.reply, self.protocol)?,
            owner: stations.owner(self.port),
            phase: Phase::ALL.get(usize::from(self.phase)).copied()?,
            from_outside: self.from_outside,
            is_mapped: self.is_mapped,
            created: self.created,
            rule: RuleId(self.rule),
            sides: Sides([side(first), side(second)]),
            counts: [Count { packets: out, bytes: out_bytes }, Count { packets: back, bytes: back_bytes }],
        };
        uplink.nat.adopt(stations, tuple::<A>(self.original, self.protocol)?, session, Time::from_nanos(self.seen));
        Some(())
    }
}

impl Daemon {
    /// The uplink and what is published; says whether there is an uplink, and since when sessions count as used meanwhile.
    pub(super) fn offer_outside(&self, channel: &mut Channel) -> Result<(bool, Time)> {
        let published = self.outside.published.iter().map(|(id, publication)| PublishedState {
            id: *id,
            spec: publication.spec.to_string(),
            names: publication.names.clone(),
            from: publication.from.clone(),
        });
        let state = OutsideState {
            uplink: self.outside.uplink.clone(),
            sockets: self.outside.sockets,
            published: published.collect(),
            last_rule: self.outside.last_rule,
        };
        let fd = match &state.uplink {
            Some(_) => Some(
                self.worker
                    .port_fd(PortId::UPLINK)?
                    .map_err(|error| HandoverProblem::PortNotPassed { name: "uplink".into(), error })?,
            ),
            None => None,
        };
        let fds: Vec<BorrowedFd<'_>> = fd.iter().map(AsFd::as_fd).collect();
        let has_uplink = fd.is_some();
        channel.send(&Message::Outside(Box::new(state)), &fds)?;
        self.offer_bound(channel)?;
        let begun = clock::now();
        if has_uplink {
            self.offer_flows(channel, Time::ZERO)?;
        }
        Ok((has_uplink, begun))
    }

    /// Sessions that were used since a time.
    pub(super) fn offer_flows(&self, channel: &mut Channel, since: Time) -> Result<()> {
        for is_v6 in [false, true] {
            let mut cursor = Some(0);
            while let Some(at) = cursor {
                let page = self.worker.gateway(move |gateway, _| {
                    let mut flows = Vec::new();
                    let next = if is_v6 {
                        page::<Ipv6Addr>(gateway, at, since, &mut flows)
                    } else {
                        page::<Ipv4Addr>(gateway, at, since, &mut flows)
                    };
                    (flows, next)
                })?;
                let (flows, next) = page.unwrap_or_default();
                if !flows.is_empty() {
                    channel.send(&Message::Flows { flows }, &[])?;
                }
                cursor = next;
            }
        }
        Ok(())
    }

    pub(super) fn adopt_outside(&mut self, state: OutsideState, channel: &mut Channel) -> Result<()> {
        for published in state.published {
            let PublishedState { id, spec, names, from } = published;
            self.outside.published.insert(id, Publication { spec: spec.parse()?, names, from });
        }
        self.outside.last_rule = state.last_rule;
        if state.sockets {
            self.begin_sockets()?;
            self.enforce_all()?;
        }
        if let Some(order) = state.uplink {
            let port = order.port(channel.one_fd()?)?;
            self.plug_uplink(order, port)?;
        }
        Ok(())
    }

    pub(super) fn adopt_flows(&self, flows: Vec<FlowState>) -> Result<()> {
        self.worker.gateway(move |gateway, _| {
            for flow in flows {
                let is_v6 = flow.original.0.is_ipv6();
                // One that does not fit is gone, as when a table is full.
                let _ = if is_v6 { flow.enter::<Ipv6Addr>(gateway) } else { flow.enter::<Ipv4Addr>(gateway) };
            }
        })?;
        Ok(())
    }
}

fn page<A: Family>(gateway: &Gateway, at: u32, since: Time, flows: &mut Vec<FlowState>) -> Option<u32> {
    let uplink = gateway.uplink()?;
    uplink.nat.table::<A>().sessions.page(at, FLOW_SLOTS, &gateway.stations, |original, session, seen| {
        if seen >= since {
            flows.push(FlowState::of(original, session, seen));
        }
    })
}
