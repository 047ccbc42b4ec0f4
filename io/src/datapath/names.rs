//! The part that the host's resolvers have of a breath.
use super::*;
use mio::{Registry, Token};
use std::net::SocketAddr;

/// Answers of one breath.
const ANSWERS_PER_BREATH: usize = 64;

impl Datapath {
    /// The host's resolvers; sockets to them will be waited for with `registry`.
    pub fn set_resolvers(&mut self, resolvers: &[SocketAddr], registry: Registry) {
        if let Some(gateway) = &mut self.gateway {
            gateway.set_resolvers(resolvers);
            self.asking.get_or_insert_with(|| Box::new(Asking::new(registry)));
        }
    }

    /// A resolver's socket has something.
    pub fn resolver_event(&mut self, token: Token) {
        if let Some(asking) = &mut self.asking {
            asking.event(token);
        }
    }

    /// Lets resolvers speak: a bounded number of frames. Says whether there may be more.
    pub fn serve_names(&mut self, now: Time) -> bool {
        for _ in 0..ANSWERS_PER_BREATH {
            let (Some(asking), Some(gateway)) = (&mut self.asking, &mut self.gateway) else { return false };
            let Some(frame) = asking.poll(gateway, &mut self.pool, now) else { break };
            self.generated += 1;
            self.gateway_gives(Side::Inside, frame, now);
        }
        matches!((&self.asking, &self.gateway), (Some(asking), Some(gateway)) if asking.has_work(gateway))
    }
}
