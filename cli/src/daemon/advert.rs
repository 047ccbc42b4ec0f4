//! What the gateway says of itself to containers that configure themselves: whether IPv6 leads anywhere.
//!
//! With sockets that is what the host's own routes say, which are watched; with a packet uplink, whether it has an IPv6 router; without an
//! uplink, no. Where it is no, containers get no default route, and are refused at once instead of waiting.
use super::Daemon;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use vswitch_io::link::{RouteWatch, leads_out_v6};

/// The host's IPv6 routes.
#[derive(Debug)]
pub struct Routes {
    watch: Option<RouteWatch>,
    lead_out: bool,
    /// More may have come than one look reads.
    more: bool,
}

impl Routes {
    /// To be opened with the rights that a daemon begins with: its sandbox has no such sockets.
    pub fn open() -> Self {
        let watch = RouteWatch::open().inspect_err(|error| tracing::warn!("the host's routes cannot be watched: {error}")).ok();
        Self { watch, lead_out: leads_out_v6(), more: false }
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
        let lead_out = if changed && !more { leads_out_v6() } else { self.routes.lead_out };
        if std::mem::replace(&mut self.routes.lead_out, lead_out) != lead_out {
            self.advertise();
        }
        more
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
