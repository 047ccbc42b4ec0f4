//! The next resolver for a connection to the gateway's port 53.
use super::*;
use socket2::Socket;

impl Sockets {
    /// Lets the first resolver but the last be waited for not as long as a host: the client waits too.
    pub(super) fn hurry(&self, gateway: &mut Gateway, slot: u32, socket: &Socket) {
        let behind =
            gateway.exchange_mut().and_then(|(exchange, stations, config)| exchange.resolver_behind(stations, config, slot));
        if behind.is_some() {
            // Without it the next is asked later.
            let _ = socket::give_up_soon(socket);
        }
    }

    /// Connects a flow to the next resolver that can be connected to, where the one before could not; says whether there is one.
    pub(super) fn redial(&mut self, gateway: &mut Gateway, slot: u32) -> bool {
        while let Some((exchange, stations, config)) = gateway.exchange_mut()
            && let Some(resolver) = exchange.resolver_behind(stations, config, slot)
        {
            if let Some(flow) = exchange.flows.get_mut(slot) {
                flow.dialed = resolver;
            }
            let opened = socket::connect_stream(resolver, None).and_then(|(socket, peeks)| {
                self.hurry(gateway, slot, &socket);
                self.enter(slot, tcp::Stream::new(socket, peeks))
            });
            if opened.is_ok() {
                return true;
            }
        }
        false
    }
}
