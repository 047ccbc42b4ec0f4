//! The host's resolvers, behind the gateway's port 53 by TCP.
use super::{Dial, Exchange};
use crate::flow::protocol;
use crate::gateway::GatewayConfig;
use crate::station::Stations;
use core::net::SocketAddr;

impl Exchange {
    /// The host's resolvers, in the order in which they are to be asked.
    pub(crate) fn set_resolvers(&mut self, resolvers: &[SocketAddr]) {
        self.resolvers = resolvers.to_vec();
    }

    /// The resolver behind the one that a flow's socket is to go to; `None` where it is the last, or the flow goes to none.
    #[must_use]
    pub fn resolver_behind(&self, stations: &Stations, config: &GatewayConfig, slot: u32) -> Option<SocketAddr> {
        let flow = self.flows.get(slot).filter(|flow| !flow.from_outside)?;
        if self.dial(stations, config, flow.owner.port, flow.remote, protocol::TCP) != Dial::Resolver {
            return None;
        }
        self.resolvers.iter().skip_while(|resolver| **resolver != flow.dialed).nth(1).copied()
    }
}
