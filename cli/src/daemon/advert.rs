//! What the host's routes mean: whether IPv6 leads anywhere, which the gateway says to containers that configure themselves; and whether one
//! leads where the network is.
//!
//! With sockets that is what the host's own routes say, which are watched; with a packet uplink, whether it has an IPv6 router; without an
//! uplink, no. Where it is no, containers get no default route, and are refused at once instead of waiting.
use super::Daemon;
use super::network::overlap;
use crate::api::events::{Event, EventKind};
use crate::api::types::Reach;
use crate::errors::NameProblem;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use vswitch_io::link::{Ipv4Net, Netlink, RouteWatch, leads_out_v6};

/// The host's routes.
pub struct Routes {
    watch: Option<RouteWatch>,
    lead_out: bool,
    /// Asks for the IPv4 ones.
    netlink: Option<Netlink>,
    /// The one that the network collides with.
    collision: Option<Ipv4Net>,
    /// More may have come than one look reads.
    more: bool,
}

impl Routes {
    /// To be opened with the rights that a daemon begins with: its sandbox has no such sockets.
    pub fn open() -> Self {
        let watch = RouteWatch::open().inspect_err(|error| tracing::warn!("the host's routes cannot be watched: {error}")).ok();
        Self { watch, lead_out: leads_out_v6(), netlink: Netlink::open().ok(), collision: None, more: false }
    }

    pub fn register(&self, registry: &Registry, token: Token) -> std::io::Result<()> {
        match &self.watch {
            Some(watch) => registry.register(&mut SourceFd(&watch.as_raw_fd()), token, Interest::READABLE),
            None => Ok(()),
        }
    }
}

impl Daemon {
    /// Routes of the host may have changed. Says whether there is more to read.
    pub(super) fn routes_changed(&mut self) -> bool {
        let Some(watch) = &mut self.routes.watch else { return false };
        let (changed, more) = watch.drain();
        self.routes.more = more;
        if !changed || more {
            return more;
        }
        self.judge_routes();
        let lead_out = leads_out_v6();
        if std::mem::replace(&mut self.routes.lead_out, lead_out) != lead_out {
            self.advertise();
        }
        more
    }

    /// Tells of a route of the host that begins to lead where the network is, or no longer does: who is there containers reach no more.
    fn judge_routes(&mut self) {
        let Some(in_use) = self.routes.netlink.as_mut().and_then(|netlink| netlink.ipv4_in_use().ok()) else { return };
        let network = self.registry.network;
        // What attach gave the host is no other way there.
        let host = self.registry.after(None).find(|(container, _)| container.reach == Reach::Host).map(|(host, _)| host.ip);
        let own = host.map(|host| network.routes_of(host));
        let is_ours = |route: &Ipv4Net| own.is_some_and(|own| own.contains(route));
        let in_use: Vec<Ipv4Net> = in_use.into_iter().filter(|route| !is_ours(route)).collect();
        let collision = overlap(network.net(), &in_use);
        if std::mem::replace(&mut self.routes.collision, collision) == collision {
            return;
        }
        let reason = self.collision().unwrap_or_else(|| "over".into());
        match collision {
            Some(_) => tracing::warn!("{reason}"),
            None => tracing::info!("network {network} collides with no route of the host any longer"),
        }
        self.tell(&Event { reason: Some(reason), ..Event::new(EventKind::Collision) });
    }

    /// What the network collides with, and what to do.
    pub(super) fn collision(&self) -> Option<String> {
        let route = self.routes.collision?;
        let (network, route) = (self.registry.network.to_string(), format!("{}/{}", route.address, route.prefix));
        Some(NameProblem::Collision { network, route }.to_string())
    }

    /// The rest of what [`Daemon::routes_changed`] began to read.
    pub(super) fn more_routes(&mut self) -> bool {
        self.routes.more && self.routes_changed()
    }

    /// Has the gateway advertise itself as the router that it is now.
    pub(super) fn advertise(&self) {
        if self.registry.network.gateway().v6.is_none() {
            return;
        }
        let leads_out = match &self.outside.uplink {
            Some(uplink) => uplink.gateways.iter().any(IpAddr::is_ipv6),
            None => self.outside.sockets && self.routes.lead_out,
        };
        let before = self.worker.gateway(move |gateway, now| {
            let before = gateway.advertises();
            gateway.advertise(leads_out, now);
            before
        });
        match before {
            Ok(Some(before)) if before != Some(leads_out) => {
                tracing::info!("containers are told that IPv6 {}", if leads_out { "leads out" } else { "leads nowhere" });
            }
            Ok(_) => {}
            Err(error) => tracing::error!("{error}"),
        }
    }
}
