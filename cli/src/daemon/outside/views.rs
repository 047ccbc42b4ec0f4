//! What is listed of the outside: published ports, rules, sessions, neighbours.
use super::*;
use crate::api::outside::Neighbor;
use crate::api::types::{Flow, Inside, NatRow, Page, Published};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use vswitch_nat::Gateway;
use vswitch_nat::forward::{Forwards, RuleCounts};
use vswitch_nat::nat::Family;
use vswitch_nat::session::Count;
use vswitch_nat::slirp::datagrams::Via;
use vswitch_nat::slirp::tcp::State as TcpState;
use vswitch_switch::{PortId, Time, UnicastMac};

/// Slots of the session table behind one page.
const PAGE_SLOTS: u32 = 512;

impl Daemon {
    pub(in crate::daemon) fn published(&self) -> Result<Value> {
        let counts = self.worker.gateway(|gateway, _| {
            let mut counts = BTreeMap::<u32, RuleCounts>::new();
            if let Some(exchange) = gateway.exchange() {
                let v4 = exchange.v4.iter().map(|(rule, counts)| (rule.id.0, counts));
                let v6 = exchange.v6.iter().map(|(rule, counts)| (rule.id.0, counts));
                add_counts(&mut counts, v4.chain(v6));
                for (rule, through) in exchange.through() {
                    let sum = counts.entry(rule).or_default();
                    (sum.packets, sum.bytes) = (sum.packets + through.packets, sum.bytes + through.bytes);
                }
            }
            if let Some(uplink) = gateway.uplink() {
                let v4 = uplink.nat.table::<Ipv4Addr>().forwards.iter().map(|(rule, counts)| (rule.id.0, counts));
                let v6 = uplink.nat.table::<Ipv6Addr>().forwards.iter().map(|(rule, counts)| (rule.id.0, counts));
                add_counts(&mut counts, v4.chain(v6));
            }
            counts
        })?;
        let counts = counts.unwrap_or_default();
        let row = |(id, publication): (&u32, &Publication)| {
            let counts = counts.get(id).copied().unwrap_or_default();
            let Publication { spec, names, from } = publication;
            Published {
                spec: spec.to_string(),
                address: spec.address.map(|address| address.to_string()),
                protocol: spec.protocol.to_string(),
                first: spec.first,
                last: spec.last,
                to: spec.to,
                names: names.clone(),
                from: from.clone(),
                sessions: counts.sessions,
                packets: counts.packets,
                bytes: counts.bytes,
                refused: counts.refused,
            }
        };
        value(self.outside.published.iter().map(row).collect::<Vec<_>>())
    }

    /// The NAT's rules as `iptables -t nat -vnL` would list them, masquerade last.
    pub(in crate::daemon) fn nat(&self) -> Result<Value> {
        let rows = self.worker.gateway(|gateway, _| {
            let mut rows = Vec::new();
            if let Some(exchange) = gateway.exchange() {
                family_forwards(&exchange.v4, &mut rows);
                family_forwards(&exchange.v6, &mut rows);
            }
            if let Some(uplink) = gateway.uplink() {
                family_rules::<Ipv4Addr>(&uplink.nat, &mut rows);
                family_rules::<Ipv6Addr>(&uplink.nat, &mut rows);
            }
            rows
        })?;
        value(rows.unwrap_or_default())
    }

    /// A page of sessions: those of IPv4 first. The cursor's upper half says which family, the lower where.
    pub(in crate::daemon) fn flows(&self, cursor: u64) -> Result<Value> {
        let page = self.worker.gateway(move |gateway, now| {
            let (family, at) = (cursor >> 32, cursor as u32);
            let mut rows = Vec::new();
            if gateway.exchange().is_some() {
                let next = socket_flows(gateway, (family, at), now, &mut rows);
                return (rows, next);
            }
            let next = match family {
                0 => match family_flows::<Ipv4Addr>(gateway, at, now, &mut rows) {
                    Some(next) => Some(u64::from(next)),
                    None => Some(1 << 32),
                },
                _ => family_flows::<Ipv6Addr>(gateway, at, now, &mut rows).map(|next| 1 << 32 | u64::from(next)),
            };
            (rows, next)
        })?;
        let (mut rows, next) = page.unwrap_or_default();
        for (flow, port) in &mut rows {
            flow.container = PortId::new(*port).map_or_else(|| "-".into(), |port| self.registry.port_name(port).to_owned());
        }
        value(Page { rows: rows.into_iter().map(|(flow, _)| flow).collect(), next })
    }

    pub(in crate::daemon) fn flush_flows(&self, name: &str) -> Result<Value> {
        let (_, port) = self.registry.attached(name)?;
        let flushed = self.worker.gateway(move |gateway, _| {
            let before = gateway.stations.usage(port.get()).0;
            gateway.flush(port.get());
            before
        })?;
        value(flushed.unwrap_or(0))
    }

    pub(in crate::daemon) fn neighbors(&self) -> Result<Value> {
        let rows = self.worker.gateway(|gateway, now| {
            let mut rows = Vec::new();
            for (port, station) in gateway.stations.iter() {
                for address in [station.v4.map(IpAddr::V4), station.v6.map(IpAddr::V6)].into_iter().flatten() {
                    rows.push((neighbor("inside", address, Some(station.mac), "attached", None), Some(port)));
                }
            }
            gateway.stations.learned(now, |address, mac, port, age| {
                rows.push((neighbor("inside", address, Some(mac), "learned", Some(age.as_secs())), Some(port)));
            });
            if let Some(uplink) = gateway.uplink() {
                uplink.wan.neighbors(now, |address, mac, state, age| {
                    rows.push((neighbor("uplink", address, mac, state, Some(age.as_secs())), None));
                });
            }
            rows
        })?;
        let named = |(mut row, port): (Neighbor, Option<u16>)| {
            row.name = port.and_then(PortId::new).map(|port| self.registry.port_name(port).to_owned());
            row
        };
        value(rows.unwrap_or_default().into_iter().map(named).collect::<Vec<_>>())
    }
}

fn neighbor(side: &str, address: IpAddr, mac: Option<UnicastMac>, state: &str, age: Option<u64>) -> Neighbor {
    Neighbor { side: side.into(), address, mac: mac.map(|mac| mac.to_string()), state: state.into(), age, name: None }
}

fn family_rules<A: Family>(nat: &vswitch_nat::nat::Nat, rows: &mut Vec<NatRow>) {
    let table = nat.table::<A>();
    let externals: Vec<String> = table.externals().iter().map(ToString::to_string).collect();
    family_forwards(&table.forwards, rows);
    if !externals.is_empty() {
        let counts = table.masquerade;
        rows.push(NatRow {
            target: "masquerade".into(),
            protocol: "all".into(),
            source: "inside".into(),
            destination: "any".into(),
            to: externals.join(","),
            sessions: counts.sessions,
            packets: counts.packets,
            bytes: counts.bytes,
        });
    }
}

fn family_forwards<A: Address>(forwards: &Forwards<A>, rows: &mut Vec<NatRow>) {
    for (rule, counts) in forwards.iter() {
        let protocol = if rule.protocol == Protocol::Tcp.number() { Protocol::Tcp } else { Protocol::Udp };
        let range = |first: u16| {
            if rule.first == rule.last { first.to_string() } else { format!("{first}-{}", first + (rule.last - rule.first)) }
        };
        let to = rule.backends.iter().map(|backend| format!("{}:{}", backend.address, range(backend.port))).collect::<Vec<_>>();
        let from = rule.from.iter().map(|(net, prefix)| format!("{net}/{prefix}")).collect::<Vec<_>>();
        rows.push(NatRow {
            target: "dnat".into(),
            protocol: protocol.to_string(),
            source: if from.is_empty() { "any".into() } else { from.join(",") },
            destination: format!(
                "{}:{}",
                rule.address.map_or_else(|| "any".into(), |address| address.to_string()),
                range(rule.first)
            ),
            to: to.join(","),
            sessions: counts.sessions,
            packets: counts.packets,
            bytes: counts.bytes,
        });
    }
}

fn add_counts(sums: &mut BTreeMap<u32, RuleCounts>, counts: impl Iterator<Item = (u32, RuleCounts)>) {
    for (id, more) in counts {
        let sum = sums.entry(id).or_default();
        sum.sessions += more.sessions;
        sum.packets += more.packets;
        sum.bytes += more.bytes;
        sum.refused += more.refused;
    }
}

/// What a flow is in a table of sockets.
struct SocketRow {
    ends: (SocketAddr, SocketAddr),
    dialed: SocketAddr,
    inbound: bool,
    counts: [Count; 2],
    created: u32,
    expires: Duration,
}

impl SocketRow {
    fn flow(self, protocol: u8, state: &str, now: Time) -> Flow {
        let Self { ends: (inside, remote), dialed, inbound, counts: [out, back], created, expires } = self;
        let way = |from: SocketAddr, to: SocketAddr| Inside { src: from.ip(), sport: from.port(), dst: to.ip(), dport: to.port() };
        let mut counts = [out, back];
        if inbound {
            counts.reverse();
        }
        Flow {
            container: String::new(),
            protocol: protocol_name(protocol),
            state: state.into(),
            inbound,
            original: if inbound { way(remote, inside) } else { way(inside, remote) },
            reply: if inbound { way(inside, dialed) } else { way(dialed, inside) },
            age: (now.nanos() / 1_000_000_000).saturating_sub(created.into()),
            expires: expires.as_secs(),
            packets: counts.map(|count| count.packets),
            bytes: counts.map(|count| count.bytes),
        }
    }
}

/// A page of flows that end in sockets: TCP first, then datagrams.
fn socket_flows(gateway: &Gateway, (part, at): (u64, u32), now: Time, rows: &mut Vec<(Flow, u16)>) -> Option<u64> {
    let exchange = gateway.exchange()?;
    if part == 0 {
        let (mut count, mut next) = (0, 1 << 32);
        for (slot, flow) in exchange.flows.iter().filter(|(slot, _)| *slot >= at) {
            if count >= PAGE_SLOTS {
                next = u64::from(slot);
                break;
            }
            count += 1;
            let state = match flow.tcp.state() {
                TcpState::Connecting => "connecting",
                TcpState::SynReceived | TcpState::SynSent => "opening",
                TcpState::Established if flow.tcp.is_finished() || flow.tcp.is_ended() => "half-closed",
                TcpState::Established => "established",
                TcpState::Over => "closing",
            };
            let expires = flow.tcp.deadline().map_or(Duration::ZERO, |deadline| deadline.since(now));
            let row = SocketRow {
                ends: (flow.inside, flow.remote),
                dialed: flow.dialed,
                inbound: flow.from_outside,
                counts: flow.counts,
                created: flow.created,
                expires,
            };
            rows.push((row.flow(Protocol::Tcp.number(), state, now), flow.owner.port));
        }
        return Some(next);
    }
    let next = exchange.datagrams.page(at, PAGE_SLOTS, |ends, session, seen| {
        let answered = session.counts.iter().all(|count| count.packets > 0);
        let row = SocketRow {
            ends: (ends.inside, ends.remote),
            dialed: session.dialed,
            inbound: matches!(session.via, Via::Published(..)),
            counts: session.counts,
            created: session.created,
            expires: exchange.datagrams.timeout(ends, answered).saturating_sub(now.since(seen)),
        };
        let number = ends.kind.number(ends.inside.is_ipv6());
        rows.push((row.flow(number, if answered { "answered" } else { "unanswered" }, now), session.owner.port));
    });
    next.map(|next| 1 << 32 | u64::from(next))
}

fn family_flows<A: Family>(gateway: &mut Gateway, at: u32, now: Time, rows: &mut Vec<(Flow, u16)>) -> Option<u32> {
    let uplink = gateway.uplink()?;
    let timeouts = uplink.nat.config().timeouts;
    let now_s = now.nanos() / 1_000_000_000;
    uplink.nat.table::<A>().sessions.page(at, PAGE_SLOTS, &gateway.stations, |original, session, seen| {
        let inside = |tuple: &vswitch_nat::flow::Tuple<A>| Inside {
            src: tuple.src.into(),
            sport: tuple.sport,
            dst: tuple.dst.into(),
            dport: tuple.dport,
        };
        let [out, back] = session.counts;
        let timeout = vswitch_nat::session::Class::of(session.phase).timeout(&timeouts);
        let flow = Flow {
            container: String::new(),
            protocol: protocol_name(original.protocol),
            state: session.phase.name().into(),
            inbound: session.from_outside,
            original: inside(original),
            reply: inside(&session.reply),
            age: now_s.saturating_sub(session.created.into()),
            expires: timeout.saturating_sub(now.since(seen)).as_secs(),
            packets: [out.packets, back.packets],
            bytes: [out.bytes, back.bytes],
        };
        rows.push((flow, session.owner.port));
    })
}

fn protocol_name(number: u8) -> String {
    match number {
        1 => "icmp".into(),
        6 => "tcp".into(),
        17 => "udp".into(),
        58 => "icmpv6".into(),
        132 => "sctp".into(),
        136 => "udplite".into(),
        other => other.to_string(),
    }
}
