//! The outside: the uplink, published ports, and what goes through them.
//!
//! What is published is kept here by containers' names, whether there is an uplink or not; the gateway has it as rules while there is
//! one. A container that goes takes its ports with it: its share of a balanced one, or the whole.
mod health;
mod sockets;
mod views;

use super::Daemon;
use super::network::Network;
use super::verbs::{done, value};
use crate::api::server::ConnectionId;
use crate::api::types::{Reach, UplinkOrder};
use crate::errors::PublishProblem;
use crate::publish::{Protocol, Spec, judge, parse_net, parse_port};
use anyhow::{Result, bail};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use vswitch_io::link::IfName;
use vswitch_io::port::Port;
use vswitch_nat::flow::Address;
use vswitch_nat::forward::{Backend, ForwardError, Rule, RuleId};
use vswitch_nat::gateway::route::DhcpNews;
use vswitch_nat::nat::NatConfig;
use vswitch_nat::station::{Limits, Station};
use vswitch_nat::wan::WanConfig;
use vswitch_nat::wan::dhcp::Lease;
use vswitch_switch::UnicastMac;

/// Open files that containers' flows never have, at the most: 4,095 ports, and published ports.
const RESERVED_FILES: u64 = 16_384;

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
    /// The host's sockets, in place of it.
    pub sockets: bool,
    pub published: BTreeMap<u32, Publication>,
    pub last_rule: u32,
    /// Bound sockets that connections passed and have not published yet.
    pub staged: HashMap<ConnectionId, Vec<OwnedFd>>,
    /// The uplink's interface is down.
    is_down: bool,
    /// Routers that do not answer.
    silent: Vec<IpAddr>,
}

impl Outside {
    /// The uplink in one line.
    pub fn describe(&self) -> String {
        match &self.uplink {
            Some(uplink) => uplink.describe(),
            None if self.sockets => "socket".into(),
            None => "none".into(),
        }
    }

    /// What kind the uplink is, and on which interface.
    pub fn kind(&self) -> String {
        match &self.uplink {
            Some(uplink) => format!("packet {}", uplink.iface),
            None if self.sockets => "socket".into(),
            None => "none".into(),
        }
    }

    /// The uplink's interface, for the log.
    pub fn iface(&self) -> &str {
        self.uplink.as_ref().map_or("-", |uplink| &uplink.iface)
    }

    /// Gives the uplink the IPv4 address and router of a lease, or none; as it is now.
    fn readdress(&mut self, lease: Option<Lease>) -> Option<String> {
        let order = self.uplink.as_mut()?;
        order.addresses.retain(|address| address.contains(':'));
        order.gateways.retain(IpAddr::is_ipv6);
        self.silent.retain(IpAddr::is_ipv6);
        if let Some(lease) = lease {
            order.addresses.insert(0, format!("{}/{}", lease.address, lease.prefix));
            order.gateways.extend(lease.gateway.map(IpAddr::V4));
        }
        Some(order.describe())
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

    /// Whether it can be the uplink of a network, as far as its addresses tell.
    pub fn judge(&self, network: &Network) -> Result<()> {
        Ok(super::judge::uplink(&self.wan()?, &self.gateways, network)?)
    }

    /// In one line, for `show`.
    pub fn describe(&self) -> String {
        let asked = if self.dhcp { "dhcp " } else { "" };
        let addresses = if self.addresses.is_empty() { "no address yet".into() } else { self.addresses.join(", ") };
        format!("packet {} ({asked}{addresses})", self.iface)
    }
}

impl Daemon {
    /// Tells the gateway who is behind a port.
    pub(super) fn enter_station(&self, name: &str) -> Result<()> {
        let (container, port) = self.registry.attached(name)?;
        let station = Station {
            mac: container.mac,
            v4: Some(container.ip),
            v6: self.registry.network.ip6(container.ip),
            mtu: container.mtu,
            limits: Limits { sessions: container.config.max_flows, ..Limits::default() },
            guard: container.config.address_guard(),
        };
        let (reach, name, aliases) = (container.config.reach.clone(), container.name.clone(), container.config.aliases.clone());
        self.worker.gateway(move |gateway, _| {
            let port = port.get();
            let was_there = gateway.stations.station(port).is_some();
            let before = gateway.stations.reach(port).cloned().unwrap_or_default();
            gateway.stations.set(port, station);
            // What it had begun and might no longer begin is not left to it.
            if was_there && !reach.covers(&before) {
                gateway.flush(port);
            }
            gateway.stations.set_reach(port, reach);
            gateway.stations.set_name(port, &name);
            gateway.stations.set_aliases(port, &aliases);
        })?;
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
        done()
    }

    pub(super) fn plug_uplink(&mut self, order: UplinkOrder, port: Port) -> Result<()> {
        let wan = order.wan()?;
        let dhcp = order.dhcp;
        if wan.v4.is_empty() && wan.v6.is_empty() && !dhcp {
            bail!(PublishProblem::NoAddress);
        }
        order.judge(&self.registry.network)?;
        if std::mem::take(&mut self.outside.sockets) {
            self.worker.set_sockets(false)??;
        }
        let mtu = order.mtu;
        // The port first: what the gateway has to say at once would be lost without it.
        self.worker.set_uplink(Some((port, mtu)))?.map_err(|error| PublishProblem::UplinkFd { error: format!("{error:?}") })?;
        self.worker.gateway(move |gateway, now| {
            gateway.set_uplink(NatConfig::default(), wan, now);
            if dhcp { gateway.start_dhcp() } else { gateway.stop_dhcp() }
        })?;
        tracing::info!("uplink {}", order.describe());
        self.outside.uplink = Some(order);
        (self.outside.is_down, self.outside.silent) = (false, Vec::new());
        self.advertise();
        self.enforce_all()
    }

    pub(super) fn enforce_all(&self) -> Result<()> {
        self.outside.published.keys().try_for_each(|id| self.enforce(*id))
    }

    /// The uplink's address came or went.
    pub(super) fn dhcp_news(&mut self, news: DhcpNews) {
        let iface = self.outside.iface().to_owned();
        match news {
            DhcpNews::Leased(lease) => {
                let described = self.outside.readdress(Some(lease)).unwrap_or_default();
                tracing::info!("uplink {described}, for {} s", lease.seconds);
            }
            DhcpNews::Lost => {
                self.outside.readdress(None);
                tracing::warn!("uplink {iface}: its DHCP lease is lost, asking for another");
            }
            DhcpNews::Inside(lease) => {
                self.outside.readdress(None);
                tracing::warn!(
                    "uplink {iface}: DHCP gives {}, which is in the containers' network: \"vswitch up --subnet\" with another",
                    lease.address
                );
            }
            // It was never used.
            DhcpNews::Taken(lease) => {
                tracing::warn!(
                    "uplink {iface}: DHCP gives {}, which somebody else there has: declined, asking anew",
                    lease.address
                );
            }
        }
        self.saver.mark();
    }

    /// Takes the uplink away; what is published stays for the next one.
    pub(super) fn clear_uplink(&mut self) -> Result<Value> {
        if std::mem::take(&mut self.outside.sockets) {
            self.worker.set_sockets(false)??;
            self.saver.mark();
        }
        self.worker.set_uplink(None)?.map_err(|error| PublishProblem::UplinkFd { error: format!("{error:?}") })?;
        self.worker.clear_uplink()?;
        self.outside.silent.clear();
        if self.outside.uplink.take().is_some() {
            tracing::info!("uplink none");
            self.saver.mark();
        }
        self.advertise();
        done()
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
        let v6 = stations
            .iter()
            .filter_map(|(port, ip)| Some(Backend { owner: port.get(), address: network.ip6(*ip)?, port: to, draining: false }));
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
            if let Some((exchange, ..)) = gateway.exchange_mut() {
                return exchange.publish(v4, v6);
            }
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
        let overlap = |other: &Publication| spec.overlap(&other.spec).map(|port| (port, other.names.join(",")));
        let (port, by) = self.outside.published.values().find_map(overlap)?;
        Some(PublishProblem::Taken { spec: spec.to_string(), port, by })
    }

    pub(super) fn publish(&mut self, connection: ConnectionId, spec: &str, names: Vec<String>, from: Vec<String>) -> Result<Value> {
        let spec: Spec = spec.parse()?;
        judge(&spec, &names)?;
        if spec.address.is_some_and(|address| address.is_ipv6()) && self.registry.network.gateway6().is_none() {
            bail!(PublishProblem::SpecWithoutIpv6 { spec: spec.to_string() });
        }
        for name in &names {
            if self.registry.attached(name)?.0.reach == Reach::Host {
                bail!(PublishProblem::ToHost { spec: spec.to_string(), name: name.clone() });
            }
        }
        if let Some(conflict) = self.conflict(&spec) {
            bail!(conflict);
        }
        let publication = Publication { spec, names, from };
        let id = self.outside.last_rule.wrapping_add(1).max(1);
        let sockets = if self.outside.sockets {
            let mut staged = self.outside.staged.remove(&connection).unwrap_or_default();
            let sockets = sockets::take_sockets(&mut staged, &spec)?;
            if !staged.is_empty() {
                self.outside.staged.insert(connection, staged);
            }
            sockets
        } else {
            Vec::new()
        };
        self.try_rules(id, &publication)?;
        if self.outside.sockets {
            self.worker.publish_sockets(id, sockets)??;
        }
        self.outside.last_rule = id;
        self.outside.published.insert(id, publication);
        self.saver.mark();
        done()
    }

    pub(super) fn unpublish(&mut self, port: &str, name: Option<&str>) -> Result<Value> {
        let (address, port, protocol) = parse_port(port)?;
        let of = |Publication { spec, .. }: &Publication| {
            let is_there = address.is_none() || spec.address == address;
            spec.protocol == protocol && is_there && (spec.first..=spec.last).contains(&port)
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
        done()
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
        self.worker.unpublish_sockets(id)?;
        self.worker.gateway(move |gateway, _| {
            if let Some((exchange, ..)) = gateway.exchange_mut() {
                exchange.unpublish(RuleId(id));
            }
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
}

/// Sockets that containers' flows may have, of so many open files: what is left is for ports, published ports and the daemon itself.
fn sockets_of(open_files: u64) -> usize {
    let reserved = (open_files / 4).min(RESERVED_FILES);
    usize::try_from(open_files - reserved).unwrap_or(usize::MAX)
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
