//! The host's resolvers, behind the gateway's port 53.
use super::super::dns::{Answered, Asked, Client};
use super::{Dial, Exchange};
use crate::flow::protocol;
use crate::gateway::GatewayConfig;
use crate::station::Stations;
use alloc::vec::Vec;
use core::net::SocketAddr;
use vswitch_switch::Time;

impl Exchange {
    /// The host's resolvers, in the order in which they are to be asked.
    pub fn set_resolvers(&mut self, resolvers: Vec<SocketAddr>) {
        self.resolvers.clear();
        for resolver in resolvers {
            if !self.resolvers.contains(&resolver) {
                self.resolvers.push(resolver);
            }
        }
    }

    /// Those that are asked.
    #[must_use]
    pub fn resolvers(&self) -> &[SocketAddr] {
        &self.resolvers
    }

    /// A client's query to the host's resolvers.
    pub fn query(&mut self, client: Client, message: &[u8]) -> Asked {
        self.queries.begin(client, message)
    }

    /// The next resolver for a query, and what it is sent: see [`Queries::next`].
    pub fn ask_next(&mut self, slot: u32, now: Time) -> Option<(SocketAddr, &[u8])> {
        let id = self.random.bits() as u16;
        self.queries.next(slot, &self.resolvers, id, now)
    }

    /// What came from a resolver: see [`Queries::answer`].
    pub fn answered(&mut self, slot: u32, message: &mut [u8]) -> Answered {
        self.queries.answer(slot, message, self.resolvers.len())
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
