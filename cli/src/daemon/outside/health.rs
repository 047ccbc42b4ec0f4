//! How the uplink is: its interface, its routers, and who else claims its addresses. What changes is logged and told to listeners, once.
//!
//! While the interface is down its routers are silent of course, so nothing is said of them.
use super::*;
use crate::api::events::{Event, EventKind};
use crate::api::outside::{Listed, PacketUplink, Sessions, Uplink};
use vswitch_nat::nat::NatCounts;
use vswitch_nat::wan::reach::RouterNews;

impl Daemon {
    fn tell_uplink(&mut self, reason: &str) {
        self.tell(&Event { reason: Some(reason.into()), ..Event::new(EventKind::Uplink) });
    }

    /// The uplink's interface went or came back.
    pub(in crate::daemon) fn uplink_link(&mut self, is_up: bool) {
        let iface = self.outside.iface().to_owned();
        (self.outside.is_down, self.outside.silent) = (!is_up, Vec::new());
        if is_up {
            tracing::info!("uplink {iface} is back");
            self.tell_uplink(&format!("{iface} is back"));
        } else {
            tracing::warn!("uplink {iface} is down");
            self.tell_uplink(&format!("{iface} is down"));
        }
    }

    /// A router is silent, or answers again.
    pub(in crate::daemon) fn router_news(&mut self, RouterNews { router, answers }: RouterNews) {
        let Some(order) = &self.outside.uplink else { return };
        if self.outside.is_down {
            return;
        }
        let was_silent = self.outside.silent.contains(&router);
        self.outside.silent.retain(|silent| *silent != router);
        if !answers {
            let problem =
                PublishProblem::RouterSilent { gateway: router, mac: order.mac.clone(), iface: order.iface.clone() }.to_string();
            self.outside.silent.push(router);
            tracing::warn!("uplink: {problem}");
            self.tell_uplink(&problem);
        } else if was_silent {
            tracing::info!("uplink {}: gateway {router} answers", self.outside.iface());
            self.tell_uplink(&format!("gateway {router} answers"));
        }
    }

    /// What was set, and how it is.
    pub(in crate::daemon) fn uplink(&self) -> Result<Value> {
        let Some(order) = self.outside.uplink.clone() else {
            return value(self.outside.sockets.then(|| self.listed(Uplink::Socket)));
        };
        let conflicts = self.worker.gateway(|gateway, _| gateway.uplink().map_or(0, |uplink| uplink.wan.conflicts()))?;
        let silent = self.outside.silent.clone();
        let uplink = Uplink::Packet(PacketUplink { order, silent, conflicts: conflicts.unwrap_or_default() });
        value(Some(self.listed(uplink)))
    }

    /// With whom names are asked of, whichever it is.
    fn listed(&self, uplink: Uplink) -> Listed {
        Listed { uplink, resolvers: self.resolver_list() }
    }

    /// The NAT's sessions, if there is an uplink.
    pub(in crate::daemon) fn sessions(&self) -> Result<Option<Sessions>> {
        let sessions = self.worker.gateway(|gateway, _| {
            let nat = &gateway.uplink()?.nat;
            let sessions = nat.table::<Ipv4Addr>().sessions.len() + nat.table::<Ipv6Addr>().sessions.len();
            let NatCounts { begun, ended, reclaimed, invalid } = nat.counts();
            Some(Sessions { sessions: sessions.into(), begun, ended, reclaimed, invalid })
        })?;
        Ok(sessions.flatten())
    }
}
