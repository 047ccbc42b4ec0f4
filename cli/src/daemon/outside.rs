//! The outside: the uplink, published ports, and what goes through them.
//!
//! What is published is kept here by containers' names, whether there is an uplink or not; the gateway has it as rules while there is
//! one. A container that goes takes its ports with it: its share of a balanced one, or the whole.
use super::Daemon;
use crate::api::types::{Flow, Inside, NatRow, Neighbor, Page, Published, UplinkOrder};
use crate::errors::PublishProblem;
use crate::publish::{Protocol, Spec, parse_net, parse_port};
use anyhow::{Result, bail};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use vswitch_io::link::IfName;
use vswitch_io::port::Port;
use vswitch_nat::Gateway;
use vswitch_nat::flow::Address;
use vswitch_nat::forward::{Backend, ForwardError, Rule, RuleCounts, RuleId};
use vswitch_nat::nat::{Family, NatConfig};
use vswitch_nat::station::{Limits, Station};
use vswitch_nat::wan::WanConfig;
use vswitch_switch::{PortId, Time, UnicastMac};

/// Slots of the session table behind one page.
const PAGE_SLOTS: u32 = 512;

/// A publication's rules, one of each family at the most.
type Rules = (Option<Rule<Ipv4Addr>>, Option<Rule<Ipv6Addr>>);

/// A published range.
#[derive(Clone, Debug)]
pub struct Publication {
    pub spec: Spec,
    pub names: Vec<String>,
    /// As they were written.
    pub from: Vec<String>,
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct Outside {
    pub uplink: Option<UplinkOrder>,
    pub published: BTreeMap<u32, Publication>,
    pub last_rule: u32,
}

impl Outside {
    /// The uplink's interface, for the log.
    pub fn iface(&self) -> &str {
        self.uplink.as_ref().map_or("-", |uplink| &uplink.iface)
    }
}

impl UplinkOrder {
    /// The port on its socket, which waits for the interface where that goes.
    pub fn port(&self, socket: OwnedFd) -> Result<Port> {
        let refused = |error: String| PublishProblem::UplinkFd { error };
        let iface = IfName::parse(&self.iface).map_err(|error| refused(error.to_string()))?;
        let mac = self.own_mac()?.mac().0;
        Ok(Port::uplink(socket, iface, mac).map_err(|error| refused(error.to_string()))?)
    }

    fn own_mac(&self) -> Result<UnicastMac> {
        Ok(self.mac.parse().map_err(|error| PublishProblem::UplinkFd { error: format!("{}: {error}", self.mac) })?)
    }

    /// As the gateway takes it.
    fn wan(&self) -> Result<WanConfig> {
        let mac = self.own_mac()?;
        let net = |text: &String| parse_net(text).map_err(|_| PublishProblem::UplinkAddress { text: text.clone() });
        let addresses = self.addresses.iter().map(net).collect::<Result<Vec<_>, _>>()?;
        let v4 = addresses.iter().filter_map(|(address, prefix)| Some((Ipv4Addr::of(*address)?, *prefix))).collect();
        let v6 = addresses.iter().filter_map(|(address, prefix)| Some((Ipv6Addr::of(*address)?, *prefix))).collect();
        let gateway = |is_v4: bool| self.gateways.iter().find(|gateway| gateway.is_ipv4() == is_v4).copied();
        Ok(WanConfig {
            mac,
            mtu: self.mtu,
            v4,
            v6,
            gateway_v4: gateway(true).and_then(Ipv4Addr::of),
            gateway_v6: gateway(false).and_then(Ipv6Addr::of),
        })
    }

    /// In one line, for `show`.
    pub fn describe(&self) -> String {
        format!("packet {} ({})", self.iface, self.addresses.join(", "))
    }
}

fn value(of: impl serde::Serialize) -> Result<Value> {
    Ok(serde_json::to_value(of)?)
}

impl Daemon {
    /// Tells the gateway who is behind a port.
    pub(super) fn enter_station(&self, name: &str) -> Result<()> {
        let (container, port) = self.registry.attached(name)?;
        let station = Station {
            mac: container.mac,
            v4: Some(container.ip),
            v6: Some(self.registry.network.ip6(container.ip)),
            mtu: container.mtu,
            limits: Limits::default(),
        };
        self.worker.gateway(move |gateway, _| gateway.stations.set(port.get(), station))?;
        Ok(())
    }

    /// Sets the uplink, with its socket's fd.
    pub(super) fn set_uplink(&mut self, order: UplinkOrder, mut fds: Vec<OwnedFd>) -> Result<Value> {
        let (Some(socket), true) = (fds.pop(), fds.is_empty()) else {
            bail!(PublishProblem::UplinkFd { error: "none came".into() });
        };
        let port = order.port(socket)?;
        self.plug_uplink(order, port)?;
        self.saver.mark();
        super::verbs::done()
    }

    pub(super) fn plug_uplink(&mut self, order: UplinkOrder, port: Port) -> Result<()> {
        let wan = order.wan()?;
        if wan.v4.is_empty() && wan.v6.is_empty() {
            bail!(PublishProblem::NoAddress);
        }
        let inside = self.registry.network.gateway();
        // N10: what is inside and outside at once could be routed to neither.
        if let Some((address, _)) =
            wan.v4.iter().find(|(address, prefix)| inside.is_inside(*address) || inside.address.has_prefix(*address, *prefix))
        {
            bail!(PublishProblem::Inside { address: (*address).into(), network: self.registry.network.to_string() });
        }
        let on_link = |gateway: IpAddr| match gateway {
            IpAddr::V4(gateway) => wan.v4.iter().any(|(address, prefix)| gateway.has_prefix(*address, *prefix)),
            IpAddr::V6(gateway) => {
                gateway.is_unicast_link_local() || wan.v6.iter().any(|(address, prefix)| gateway.has_prefix(*address, *prefix))
            }
        };
        if let Some(gateway) = order.gateways.iter().find(|gateway| !on_link(**gateway)) {
            bail!(PublishProblem::Gateway { gateway: *gateway });
        }
        let mtu = order.mtu;
        self.worker.gateway(move |gateway, now| gateway.set_uplink(NatConfig::default(), wan, now))?;
        self.worker.set_uplink(Some((port, mtu)))?.map_err(|error| PublishProblem::UplinkFd { error: format!("{error:?}") })?;
        tracing::info!("uplink {}", order.describe());
        self.outside.uplink = Some(order);
        for id in self.outside.published.keys().copied().collect::<Vec<_>>() {
            self.enforce(id)?;
        }
        Ok(())
    }

    /// Takes the uplink away; what is published stays for the next one.
    pub(super) fn clear_uplink(&mut self) -> Result<Value> {
        self.worker.set_uplink(None)?.map_err(|error| PublishProblem::UplinkFd { error: format!("{error:?}") })?;
        self.worker.clear_uplink()?;
        if self.outside.uplink.take().is_some() {
            tracing::info!("uplink none");
            self.saver.mark();
        }
        super::verbs::done()
    }

    pub(super) fn uplink(&self) -> Result<Value> {
        value(&self.outside.uplink)
    }

    /// The rules of a publication, for either family.
    fn rules(&self, id: u32, publication: &Publication) -> Result<Rules> {
        let stations = publication
            .names
            .iter()
            .map(|name| self.registry.attached(name).map(|(container, port)| (port, container.ip)))
            .collect::<Result<Vec<_>>>()?;
        let from = publication.from.iter().map(|net| parse_net(net)).collect::<Result<Vec<_>, _>>()?;
        let to = publication.spec.to;
        let network = self.registry.network;
        let v4 = stations.iter().map(|(port, ip)| Backend { owner: port.get(), address: *ip, port: to, draining: false });
        let v6 =
            stations.iter().map(|(port, ip)| Backend { owner: port.get(), address: network.ip6(*ip), port: to, draining: false });
        Ok((rule(id, publication, &from, v4.collect()), rule(id, publication, &from, v6.collect())))
    }

    /// Makes a publication's rules what it says, where there is an uplink.
    fn enforce(&self, id: u32) -> Result<()> {
        let Some(publication) = self.outside.published.get(&id) else { return Ok(()) };
        self.try_rules(id, publication)
    }

    fn try_rules(&self, id: u32, publication: &Publication) -> Result<()> {
        let (v4, v6) = self.rules(id, publication)?;
        let set = self.worker.gateway(move |gateway, _| {
            let Some((uplink, _)) = gateway.uplink_mut() else { return Ok(()) };
            if let Some(rule) = v4 {
                uplink.nat.publish(rule)?;
            }
            if let Some(rule) = v6
                && let Err(error) = uplink.nat.publish(rule)
            {
                uplink.nat.unpublish::<Ipv4Addr>(RuleId(id));
                return Err(error);
            }
            Ok(())
        })?;
        match set {
            None | Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(self.refused(&publication.spec, &error).into()),
        }
    }

    fn refused(&self, spec: &Spec, error: &ForwardError) -> PublishProblem {
        let text = spec.to_string();
        match error {
            ForwardError::Taken { by, port } => {
                let by = self.outside.published.get(&by.0).map_or_else(|| "another".into(), |other| other.names.join(","));
                PublishProblem::Taken { spec: text, port: *port, by }
            }
            ForwardError::Range => PublishProblem::Range { spec: text },
            ForwardError::Backends => PublishProblem::Backends { spec: text },
            ForwardError::Full => PublishProblem::Full { spec: text },
        }
    }

    /// Whether `spec` has a port that is published already: also known where no uplink has the rules.
    fn conflict(&self, spec: &Spec) -> Option<PublishProblem> {
        let overlap = |other: &&Publication| {
            let other = &other.spec;
            let same_address = other.address == spec.address || other.address.is_none() || spec.address.is_none();
            other.protocol == spec.protocol && same_address && other.first <= spec.last && spec.first <= other.last
        };
        let other = self.outside.published.values().find(overlap)?;
        let (port, by) = (other.spec.first.max(spec.first), other.names.join(","));
        Some(PublishProblem::Taken { spec: spec.to_string(), port, by })
    }

    pub(super) fn publish(&mut self, spec: &str, names: Vec<String>, from: Vec<String>) -> Result<Value> {
        let spec: Spec = spec.parse()?;
        if names.is_empty() || names.len() > vswitch_nat::forward::BACKENDS {
            bail!(PublishProblem::Backends { spec: spec.to_string() });
        }
        for (number, name) in names.iter().enumerate() {
            self.registry.attached(name)?;
            if names.iter().take(number).any(|earlier| earlier == name) {
                bail!(PublishProblem::Twice { spec: spec.to_string(), name: name.clone() });
            }
        }
        if let Some(conflict) = self.conflict(&spec) {
            bail!(conflict);
        }
        if usize::from(spec.last - spec.first) + usize::from(spec.to) > usize::from(u16::MAX) {
            bail!(PublishProblem::Range { spec: spec.to_string() });
        }
        let publication = Publication { spec, names, from };
        let id = self.outside.last_rule.wrapping_add(1).max(1);
        self.try_rules(id, &publication)?;
        self.outside.last_rule = id;
        self.outside.published.insert(id, publication);
        self.saver.mark();
        super::verbs::done()
    }

    pub(super) fn unpublish(&mut self, port: &str, name: Option<&str>) -> Result<Value> {
        let (port, protocol) = parse_port(port)?;
        let of = |publication: &Publication| {
            publication.spec.protocol == protocol && (publication.spec.first..=publication.spec.last).contains(&port)
        };
        let ids: Vec<u32> = self.outside.published.iter().filter(|(_, publication)| of(publication)).map(|(id, _)| *id).collect();
        if ids.is_empty() {
            bail!(PublishProblem::NotPublished { port, protocol: protocol.to_string() });
        }
        let mut found = false;
        for id in ids {
            found |= match name {
                Some(name) => self.withdraw(id, name)?,
                None => {
                    self.end_publication(id)?;
                    true
                }
            };
        }
        if !found {
            let name = name.unwrap_or_default().to_owned();
            bail!(PublishProblem::NotTo { port, protocol: protocol.to_string(), name });
        }
        self.saver.mark();
        super::verbs::done()
    }

    /// Takes one container out of a publication; the sessions it has go on. Says whether it was in it.
    fn withdraw(&mut self, id: u32, name: &str) -> Result<bool> {
        let Some(publication) = self.outside.published.get_mut(&id) else { return Ok(false) };
        let before = publication.names.len();
        publication.names.retain(|other| other != name);
        let (now, is_empty) = (publication.names.len(), publication.names.is_empty());
        if is_empty {
            self.end_publication(id)?;
        } else if now < before {
            self.enforce(id)?;
        }
        Ok(now < before)
    }

    fn end_publication(&mut self, id: u32) -> Result<()> {
        self.outside.published.remove(&id);
        self.worker.gateway(move |gateway, _| {
            if let Some((uplink, _)) = gateway.uplink_mut() {
                uplink.nat.unpublish::<Ipv4Addr>(RuleId(id));
                uplink.nat.unpublish::<Ipv6Addr>(RuleId(id));
            }
        })?;
        Ok(())
    }

    /// A container is gone, and with it what was published to it.
    pub(super) fn withdraw_all(&mut self, name: &str) {
        for id in self.outside.published.keys().copied().collect::<Vec<_>>() {
            if let Err(error) = self.withdraw(id, name) {
                tracing::error!("{error:#}");
            }
        }
    }

    pub(super) fn published(&self) -> Result<Value> {
        let counts = self.worker.gateway(|gateway, _| {
            let mut counts = BTreeMap::<u32, RuleCounts>::new();
            if let Some(uplink) = gateway.uplink() {
                let v4 = uplink.nat.table::<Ipv4Addr>().forwards.iter().map(|(rule, counts)| (rule.id.0, counts));
                let v6 = uplink.nat.table::<Ipv6Addr>().forwards.iter().map(|(rule, counts)| (rule.id.0, counts));
                for (id, more) in v4.chain(v6) {
                    let sum = counts.entry(id).or_default();
                    sum.sessions += more.sessions;
                    sum.packets += more.packets;
                    sum.bytes += more.bytes;
                    sum.refused += more.refused;
                }
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
    pub(super) fn nat(&self) -> Result<Value> {
        let rows = self.worker.gateway(|gateway, _| {
            let mut rows = Vec::new();
            if let Some(uplink) = gateway.uplink() {
                family_rules::<Ipv4Addr>(&uplink.nat, &mut rows);
                family_rules::<Ipv6Addr>(&uplink.nat, &mut rows);
            }
            rows
        })?;
        value(rows.unwrap_or_default())
    }

    /// A page of sessions: those of IPv4 first. The cursor's upper half says which family, the lower where.
    pub(super) fn flows(&self, cursor: u64) -> Result<Value> {
        let page = self.worker.gateway(move |gateway, now| {
            let (family, at) = (cursor >> 32, cursor as u32);
            let mut rows = Vec::new();
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

    pub(super) fn flush_flows(&self, name: &str) -> Result<Value> {
        let (_, port) = self.registry.attached(name)?;
        let flushed = self.worker.gateway(move |gateway, _| {
            let before = gateway.stations.usage(port.get()).0;
            gateway.flush(port.get());
            before
        })?;
        value(flushed.unwrap_or(0))
    }

    pub(super) fn neighbors(&self) -> Result<Value> {
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

/// A rule of one family, unless it has no backend of it or is on an address of the other.
fn rule<A: Address>(id: u32, publication: &Publication, from: &[(IpAddr, u8)], backends: Vec<Backend<A>>) -> Option<Rule<A>> {
    let spec = &publication.spec;
    let address = match spec.address {
        Some(address) => Some(A::of(address)?),
        None => None,
    };
    let admitted: Vec<(A, u8)> = from.iter().filter_map(|(net, prefix)| Some((A::of(*net)?, *prefix))).collect();
    // Admitting some of the other family only is admitting nobody of this one.
    if backends.is_empty() || (admitted.is_empty() && !from.is_empty()) {
        return None;
    }
    let Spec { protocol, first, last, .. } = *spec;
    Some(Rule { id: RuleId(id), protocol: protocol.number(), address, first, last, from: admitted, backends })
}

fn family_rules<A: Family>(nat: &vswitch_nat::nat::Nat, rows: &mut Vec<NatRow>) {
    let table = nat.table::<A>();
    let externals: Vec<String> = table.externals().iter().map(ToString::to_string).collect();
    for (rule, counts) in table.forwards.iter() {
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
