//! The socket uplink's part of a breath.
use super::*;
use crate::uplink::Event;
use mio::{Registry, Token};
use vswitch_nat::gateway::sockets::SocketPacket;

/// Frames that sockets may give in one breath.
const FRAMES_PER_BREATH: usize = 64;

impl Datapath {
    /// Makes the host's sockets the uplink, waited for with `registry`, or no longer: then all their flows end.
    pub fn set_sockets(&mut self, registry: Option<Registry>, now: Time) {
        let Some(gateway) = &mut self.gateway else { return };
        match registry {
            Some(registry) => {
                gateway.set_exchange(true);
                self.sockets.get_or_insert_with(|| Box::new(Sockets::new(registry)));
            }
            None => {
                self.flush_sockets(now);
                self.abandon_held();
                if let (Some(gateway), Some(mut sockets)) = (&mut self.gateway, self.sockets.take()) {
                    gateway.flush_all();
                    sockets.sweep(gateway);
                    gateway.set_exchange(false);
                }
            }
        }
    }

    /// The sockets and what they need, for the control plane.
    pub fn sockets_mut(&mut self) -> Option<(&mut Sockets, &mut Gateway)> {
        Some((self.sockets.as_deref_mut()?, self.gateway.as_mut()?))
    }

    /// A packet whose flow ends in a socket.
    pub(super) fn socket_takes(&mut self, from: PortId, packet: SocketPacket, now: Time) {
        let (Some(sockets), Some(gateway)) = (&mut self.sockets, &mut self.gateway) else {
            return self.drop_frame(from, packet.packet.into_frame(), DropReason::GatewayUnserved);
        };
        let routed = sockets.take(gateway, packet, &mut self.pool, now);
        self.consumed += sockets.take_done();
        self.routed(from, routed, now);
    }

    /// Something happened to a socket.
    pub fn socket_event(&mut self, token: Token, event: Event, now: Time) {
        if let (Some(sockets), Some(gateway)) = (&mut self.sockets, &mut self.gateway) {
            sockets.event(gateway, token, event, now);
        }
    }

    /// Sends what a port's turn gave to sockets.
    pub fn flush_sockets(&mut self, now: Time) {
        if let (Some(sockets), Some(gateway)) = (&mut self.sockets, &mut self.gateway) {
            sockets.flush(gateway, &mut self.pool, now);
            self.consumed += sockets.take_done();
        }
        while let Some(routed) = self.sockets.as_mut().and_then(|sockets| sockets.take_routed()) {
            self.routed(PortId::GATEWAY, routed, now);
        }
    }

    /// When sockets are to be served though nothing has happened.
    #[must_use]
    pub fn sockets_deadline(&self) -> Option<Time> {
        self.sockets.as_ref().and_then(|sockets| sockets.deadline())
    }

    /// Ends what has been idle in sockets for too long, `budget` looks of each kind. Says once that echo sockets are forbidden.
    pub fn tick_sockets(&mut self, now: Time, budget: u32) -> bool {
        match (&mut self.sockets, &mut self.gateway) {
            (Some(sockets), Some(gateway)) => {
                sockets.tick(gateway, now, budget);
                sockets.take_ping_forbidden()
            }
            _ => false,
        }
    }

    /// Lets sockets speak: a bounded number of frames. Says whether there may be more.
    pub fn serve_sockets(&mut self, now: Time) -> bool {
        self.flush_sockets(now);
        let mut octets = 0;
        for _ in 0..FRAMES_PER_BREATH {
            let (Some(sockets), Some(gateway)) = (&mut self.sockets, &mut self.gateway) else { return false };
            let Some(frame) = sockets.poll(gateway, &mut self.pool, now) else { break };
            octets += frame.len();
            self.inhaled += frame.len();
            self.generated += 1;
            self.gateway_gives(Side::Inside, frame, now);
            if octets >= BYTES_PER_TURN {
                break;
            }
        }
        matches!((&self.sockets, &self.gateway), (Some(sockets), Some(gateway)) if sockets.has_work(gateway))
    }
}
