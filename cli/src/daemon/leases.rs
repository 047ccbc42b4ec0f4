//! The network's addresses: who has which, what the DHCP server asks and tells, and what is reserved.
//!
//! The table is the registry's ([`vswitch_nat::ipam`]), so attach and DHCP give from one. A container's own address is in it as long as it
//! is attached; the gateway's DHCP server only tells it. A further station behind a port asks the server, which asks here
//! ([`LeaseNews::Wanted`]): it gets one of the network's, until its lease ends.
use super::Daemon;
use super::verbs::{done, value};
use crate::api::leases::{AddressState, Addresses, Kept, Lease, Leased};
use crate::api::types::{PAGE_ROWS, Page};
use crate::daemon::registry::holder;
use crate::errors::NameProblem;
use anyhow::{Result, bail};
use serde_json::Value;
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Duration;
use vswitch_io::clock;
use vswitch_nat::gateway::dhcp::{LEASE, LeaseNews};
use vswitch_nat::ipam::{Holder, IpamError, QUARANTINE, Use};
use vswitch_switch::{PortId, Time, UnicastMac};

/// How long a further station's address is kept for it before it has taken it.
const OFFERED: Duration = Duration::from_secs(120);

/// How long an address is kept beyond its lease: what its client was told last may be on its way to us when that ends.
const GRACE: Duration = Duration::from_secs(5);

/// Time before or after now, which seconds of another process tell.
fn before(now: Time, seconds: u64) -> Time {
    Time::from_nanos(now.nanos().saturating_sub(seconds.saturating_mul(1_000_000_000)))
}

impl Daemon {
    /// What the DHCP server asks and tells.
    pub(super) fn lease_news(&mut self, news: LeaseNews) {
        self.saver.mark();
        let ipam = &mut self.registry.ipam;
        match news {
            LeaseNews::Wanted { port, mac, requested } => match ipam.offer(&[Holder::Mac(mac)], requested, clock::now()) {
                Ok(address) => self.lease(port, mac, address, clock::now().after(OFFERED)),
                Err(_) if !self.news.admits() => {}
                Err(error) => tracing::warn!("no address for {mac} behind {}: {error:?}", self.port_name(port)),
            },
            LeaseNews::Renewed { address, until } => drop(ipam.extend(address, Some(until.after(GRACE)))),
            LeaseNews::Released { address } => drop(ipam.release(address, clock::now())),
            LeaseNews::Declined { port, mac, address } => {
                // A container's own stays its own.
                let is_leased = matches!(ipam.get(address), Some((Holder::Mac(_), Use::Held { .. })));
                if is_leased {
                    ipam.decline(address, clock::now());
                }
                if self.news.admits() {
                    let name = self.port_name(port);
                    tracing::warn!("{mac} behind {name} declines {address}: somebody else answers there, see \"vswitch neigh\"");
                }
            }
        }
    }

    fn port_name(&self, port: u16) -> &str {
        PortId::new(port).map_or("-", |port| self.registry.port_name(port))
    }

    /// Gives a further station behind a port an address.
    fn lease(&mut self, port: u16, mac: UnicastMac, address: Ipv4Addr, until: Time) {
        let bound = self.worker.gateway(move |gateway, _| gateway.dhcp.bind(port, mac, address, until));
        if let Ok(Some(true)) = bound {
            self.registry.ipam.hold(address, Holder::Mac(mac), Some(until.after(GRACE)));
        }
    }

    /// A port goes, and with it the stations behind it.
    pub(super) fn release_leases(&mut self, port: PortId) {
        let bound = self.worker.gateway(|gateway, _| gateway.dhcp.bindings().collect::<Vec<_>>()).ok().flatten();
        for (_, _, address, _) in bound.into_iter().flatten().filter(|(of, ..)| *of == port.get()) {
            self.registry.ipam.release(address, clock::now());
        }
    }

    /// Ends leases whose time is over.
    pub(super) fn expire_leases(&mut self) {
        for address in self.registry.ipam.expire(clock::now()) {
            self.saver.mark();
            let _ = self.worker.gateway(move |gateway, _| gateway.dhcp.unbind(address));
        }
    }

    /// When [`Daemon::expire_leases`] has something to do, from now.
    pub(super) fn leases_due(&self) -> Option<Duration> {
        self.registry.ipam.deadline().map(|deadline| deadline.since(clock::now()))
    }

    pub(super) fn leases(&self, after: Option<Ipv4Addr>) -> Result<Value> {
        let (ipam, now) = (&self.registry.ipam, clock::now());
        let told = self.told_by_dhcp()?;
        let reserved: HashMap<Ipv4Addr, String> =
            ipam.reservations().map(|(address, holder)| (address, holder.to_string())).collect();
        let mut addresses: Vec<Ipv4Addr> = ipam.after(after).map(|(address, ..)| address).collect();
        addresses.extend(reserved.keys().filter(|address| after.is_none_or(|after| **address > after)));
        addresses.sort_unstable();
        addresses.dedup();
        let next = addresses.get(PAGE_ROWS - 1).copied().filter(|_| addresses.len() > PAGE_ROWS);
        addresses.truncate(PAGE_ROWS);
        let row = |address| self.lease_row(address, reserved.get(&address), told.get(&address), now);
        value(Page { rows: addresses.into_iter().map(row).collect::<Vec<_>>(), next })
    }

    fn lease_row(&self, address: Ipv4Addr, reserved: Option<&String>, told: Option<&Told>, now: Time) -> Lease {
        let seconds = |since: Time| now.since(since).as_secs();
        let (holder, state, age) = match (self.registry.ipam.get(address), reserved) {
            (Some((holder, Use::Held { until: None })), _) => (holder.to_string(), AddressState::Attached, None),
            (Some((holder, Use::Held { until: Some(_) })), _) => (holder.to_string(), AddressState::Leased, None),
            (Some((holder, Use::Declined { since })), _) => (holder.to_string(), AddressState::Declined, Some(seconds(since))),
            (_, Some(holder)) => (holder.clone(), AddressState::Reserved, None),
            (Some((holder, Use::Kept { since })), None) if now.since(since) < QUARANTINE => {
                (holder.to_string(), AddressState::Quarantine, Some(seconds(since)))
            }
            (Some((holder, Use::Kept { since })), None) => (holder.to_string(), AddressState::Free, Some(seconds(since))),
            (None, None) => (String::new(), AddressState::Free, None),
        };
        Lease {
            address,
            holder,
            state,
            container: told.map(|told| told.container.clone()),
            mac: told.map(|told| told.mac.to_string()),
            reserved_for: reserved.cloned(),
            dhcp: told.and_then(|told| told.until).map(|until| until.since(now).as_secs()),
            age,
        }
    }

    /// By address: who is there, and until when DHCP said so.
    fn told_by_dhcp(&self) -> Result<HashMap<Ipv4Addr, Told>> {
        let granted = self.worker.gateway(|gateway, _| {
            let granted: HashMap<u16, Time> =
                gateway.stations.iter().filter_map(|(port, _)| Some((port, gateway.dhcp.granted(port)?))).collect();
            (granted, gateway.dhcp.bindings().collect::<Vec<_>>())
        })?;
        let (granted, bindings) = granted.unwrap_or_default();
        let own = self.registry.after(None).map(|(container, port)| {
            let until = granted.get(&port.get()).copied();
            (container.ip, Told { container: container.name.clone(), mac: container.mac, until })
        });
        let further = bindings
            .into_iter()
            .map(|(port, mac, address, until)| (address, Told { container: self.port_name(port).into(), mac, until: Some(until) }));
        Ok(own.chain(further).collect())
    }

    pub(super) fn reserve_address(&mut self, address: Ipv4Addr, text: &str) -> Result<Value> {
        let holders = self.registry.holders(text)?;
        self.registry.network.check(address)?;
        let problem = match self.registry.ipam.reserve(address, &holders) {
            Ok(()) => {
                self.saver.mark();
                return done();
            }
            Err(IpamError::Taken(holder)) => NameProblem::ReserveTaken { ip: address, at: self.registry.at(&holder) },
            Err(IpamError::Reserved(holder)) => NameProblem::ReserveReserved { ip: address, holder: holder.to_string() },
            Err(IpamError::Full | IpamError::Exhausted(_) | IpamError::NoHost) => NameProblem::ReserveFull,
        };
        bail!(problem)
    }

    pub(super) fn unreserve_address(&mut self, address: Ipv4Addr) -> Result<Value> {
        if self.registry.ipam.unreserve(address).is_none() {
            bail!(NameProblem::NotReserved { ip: address });
        }
        self.saver.mark();
        done()
    }

    /// What the daemon that follows is to know of addresses that no container has.
    pub(super) fn addresses(&self) -> Addresses {
        let (ipam, now) = (&self.registry.ipam, clock::now());
        let told = self.told_by_dhcp().unwrap_or_default();
        let mut all = Addresses::default();
        for (address, holder, r#use) in ipam.after(None) {
            let (declined, since) = match r#use {
                Use::Held { .. } => continue,
                Use::Kept { since } => (false, since),
                Use::Declined { since } => (true, since),
            };
            all.kept.push(Kept { address, holder: holder.to_string(), declined, age: now.since(since).as_secs() });
        }
        for (address, told) in told {
            let Some(until) = told.until else { continue };
            let seconds = until.since(now).as_secs();
            match ipam.get(address) {
                Some((Holder::Mac(mac), _)) => {
                    all.leased.push(Leased { address, mac: mac.to_string(), container: told.container, seconds });
                }
                Some((Holder::Name(_), _)) | None => all.granted.push((told.container, seconds)),
            }
        }
        all.reserved = ipam.reservations().map(|(address, holder)| (address, holder.to_string())).collect();
        all
    }

    /// What the daemon before knew; containers that it names are there already, or are passed over.
    pub(super) fn adopt_addresses(&mut self, all: &Addresses) {
        let now = clock::now();
        for (address, text) in &all.reserved {
            if let Ok(holders) = self.registry.holders(text) {
                let _ = self.registry.ipam.reserve(*address, &holders);
            }
        }
        for Kept { address, holder: text, declined, age } in &all.kept {
            let since = before(now, *age);
            let r#use = if *declined { Use::Declined { since } } else { Use::Kept { since } };
            if let Ok(holder) = holder(text) {
                self.registry.ipam.remember(*address, holder, r#use);
            }
        }
        let port = |daemon: &Self, name: &str| daemon.registry.attached(name).ok().map(|(_, port)| port.get());
        for Leased { address, mac, container, seconds } in &all.leased {
            let until = now.after(Duration::from_secs((*seconds).min(LEASE.into())));
            let is_free = |daemon: &Self, mac| daemon.registry.ipam.check(*address, &[Holder::Mac(mac)]).is_ok();
            if let (Ok(mac), Some(port)) = (mac.parse(), port(self, container))
                && is_free(self, mac)
            {
                self.lease(port, mac, *address, until);
            }
        }
        for (name, seconds) in &all.granted {
            if let Some(port) = port(self, name) {
                let until = now.after(Duration::from_secs(*seconds));
                let _ = self.worker.gateway(move |gateway, _| gateway.dhcp.grant(port, until));
            }
        }
        self.saver.mark();
    }
}

/// Who is at an address.
struct Told {
    container: String,
    mac: UnicastMac,
    until: Option<Time>,
}
