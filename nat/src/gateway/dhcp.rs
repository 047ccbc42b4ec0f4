//! The DHCP server (RFC 2131) behind the gateway's address.
//!
//! Theory. It gives no address away by itself. The station of a port has the one that the daemon gave its container ([`Stations`]), under its
//! own hardware address; so the same container always gets the same one, and to answer takes no state at all. What is remembered of it is
//! until when it was told that it may have it.
//!
//! A further station behind a port (a virtual machine, where the port's guard is off) has a *binding*, which the daemon makes: its question
//! waits ([`LeaseNews::Wanted`]) and is answered as soon as [`DhcpServer::bind`] is called, or at the client's next try.
//!
//! On our own switch we are the authority: a client that asks for an address that is not its own is told so (NAK), known or not, in every
//! state. What is not told: a client that has chosen another server, and messages through a relay ([`DropReason::DhcpRelayed`]).
//!
//! An answer is written over its question and goes to the hardware address that asked, whatever IP address it has to have (RFC 2131 4.1),
//! so it never floods.
//!
//! exception: RFC 2131 3.1 wants an address probed before it is offered. Whoever sends from an address that is not its own is dropped by the
//! switch, and each address has one holder in the daemon's table; a probe would only make every container wait.
//!
//! A further station is acknowledged only when the daemon is told: else its table would have the lease end first, and give the address to
//! another one. So news that nobody fetches keep it waiting, and never two holders.
//!
//! Limits: [`BINDINGS`], [`PER_PORT`] of one port, [`WAITING`] questions, each for [`PATIENCE`] where others wait too.
pub mod message;

use super::{Gateway, GatewayConfig, Routed, Side};
use crate::packet::address_frame;
use crate::station::Stations;
use alloc::collections::{BTreeMap, VecDeque};
use core::net::Ipv4Addr;
use core::time::Duration;
use message::{Answer, Message};
use smoltcp::wire::DhcpMessageType;
use vswitch_switch::{DropReason, FrameBuf, FramePool, Head, Time, UnicastMac};

/// For how long an address is given: seconds.
pub const LEASE: u32 = 3_600;
/// The domain in which containers are named.
pub const DOMAIN: &str = "vswitch.internal";
/// Further stations with an address, of all ports.
pub const BINDINGS: usize = 1_024;
/// And of one port: more would let one container have the subnet.
pub const PER_PORT: usize = 64;
/// How long a question waits for its address when there is no room for another one: clients ask again long before (RFC 2131 4.1).
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Questions that wait for an address, and news that nobody fetched.
pub const WAITING: usize = 64;

/// What the daemon is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeaseNews {
    /// A further station behind a port wants an address: this one, if it can be.
    Wanted {
        /// The port's number.
        port: u16,
        /// The station.
        mac: UnicastMac,
        /// What it asked for.
        requested: Option<Ipv4Addr>,
    },
    /// It goes on with the one that it has.
    Renewed {
        /// The address.
        address: Ipv4Addr,
        /// Until then.
        until: Time,
    },
    /// It needs it no longer.
    Released {
        /// The address.
        address: Ipv4Addr,
    },
    /// A client found its address in use by somebody else.
    Declined {
        /// The port's number.
        port: u16,
        /// The client.
        mac: UnicastMac,
        /// The address.
        address: Ipv4Addr,
    },
}

/// An address of a further station's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Binding {
    address: Ipv4Addr,
    until: Time,
}

/// What a client is told, and how the frame counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    /// Its address, offered or given.
    Give(DhcpMessageType, Ipv4Addr),
    /// What it wants to know, and no address.
    Inform,
    /// It may not have what it asked for.
    Refuse,
    /// Nothing.
    Silence,
}

/// See the module's theory.
#[derive(Debug, Default)]
pub struct DhcpServer {
    /// Until when a port's own station was told that it has its address.
    granted: BTreeMap<u16, Time>,
    bindings: BTreeMap<(u16, UnicastMac), Binding>,
    /// With when it was asked.
    waiting: BTreeMap<(u16, UnicastMac), (Message, Time)>,
    /// Those of them that can be answered.
    answers: VecDeque<(u16, Message)>,
    news: VecDeque<LeaseNews>,
}

impl DhcpServer {
    /// Gives a further station behind a port an address, or another end; answers it if it waits. `false` when there are too many. One that
    /// was behind another port is there no longer.
    pub fn bind(&mut self, port: u16, mac: UnicastMac, address: Ipv4Addr, until: Time) -> bool {
        let is_new = !self.bindings.contains_key(&(port, mac));
        let of_port = self.of_port(port);
        if is_new && (self.bindings.len() >= BINDINGS || of_port >= PER_PORT) {
            return false;
        }
        self.bindings.retain(|(of, other), _| *other != mac || *of == port);
        self.bindings.insert((port, mac), Binding { address, until });
        if let Some((message, _)) = self.waiting.remove(&(port, mac)) {
            self.answers.push_back((port, message));
        }
        true
    }

    fn of_port(&self, port: u16) -> usize {
        self.bindings.keys().filter(|(of, _)| *of == port).count()
    }

    /// Whether somebody who waited can be answered.
    pub(super) fn has_answers(&self) -> bool {
        !self.answers.is_empty()
    }

    /// Takes the address of a further station away.
    pub fn unbind(&mut self, address: Ipv4Addr) {
        self.bindings.retain(|_, binding| binding.address != address);
    }

    /// A port is gone, or its station has another address.
    pub(super) fn forget(&mut self, port: u16) {
        self.granted.remove(&port);
        self.bindings.retain(|(of, _), _| *of != port);
        self.waiting.retain(|(of, _), _| *of != port);
        self.answers.retain(|(of, _)| *of != port);
    }

    /// Until when a port's own station was told that it has its address; `None` when it never asked, or gave it back.
    #[must_use]
    pub fn granted(&self, port: u16) -> Option<Time> {
        self.granted.get(&port).copied()
    }

    /// What another process told a port's station.
    pub fn grant(&mut self, port: u16, until: Time) {
        self.granted.insert(port, until);
    }

    /// Further stations: port, hardware address, address, and until when.
    pub fn bindings(&self) -> impl Iterator<Item = (u16, UnicastMac, Ipv4Addr, Time)> {
        self.bindings.iter().map(|((port, mac), binding)| (*port, *mac, binding.address, binding.until))
    }

    /// What the daemon is to be told next.
    pub fn news(&mut self) -> Option<LeaseNews> {
        self.news.pop_front()
    }

    /// Says whether there was room.
    fn tell(&mut self, news: LeaseNews) -> bool {
        let is_known = |known: &LeaseNews| match (known, &news) {
            (LeaseNews::Renewed { address, .. }, LeaseNews::Renewed { address: other, .. }) => address == other,
            (known, news) => known == news,
        };
        let has_room = self.news.len() < WAITING;
        match self.news.iter_mut().find(|known| is_known(known)) {
            Some(known) => *known = news,
            None if has_room => self.news.push_back(news),
            None => return false,
        }
        true
    }

    /// The address of a client, if it has one.
    fn address(&self, stations: &Stations, port: u16, mac: UnicastMac, now: Time) -> Option<Ipv4Addr> {
        match stations.station(port) {
            Some(station) if station.mac == mac => station.v4,
            Some(_) => self.bindings.get(&(port, mac)).filter(|binding| binding.until > now).map(|binding| binding.address),
            None => None,
        }
    }

    fn judge(&mut self, config: &GatewayConfig, stations: &Stations, port: u16, message: &Message, now: Time) -> Verdict {
        let address = self.address(stations, port, message.mac, now);
        let is_ours = message.server.is_none_or(|server| server == config.address);
        match message.kind {
            DhcpMessageType::Discover => match address {
                Some(address) => Verdict::Give(DhcpMessageType::Offer, address),
                None => {
                    self.want(stations, port, message, now);
                    Verdict::Silence
                }
            },
            DhcpMessageType::Request => self.judge_request(config, address, message),
            DhcpMessageType::Decline | DhcpMessageType::Release if !is_ours => Verdict::Silence,
            DhcpMessageType::Decline => {
                if let Some(address) = address.filter(|address| message.requested == Some(*address)) {
                    self.end(stations, port, message.mac);
                    self.tell(LeaseNews::Declined { port, mac: message.mac, address });
                }
                Verdict::Silence
            }
            DhcpMessageType::Release => {
                if let Some(address) = address.filter(|address| message.client == *address)
                    && self.end(stations, port, message.mac)
                {
                    self.tell(LeaseNews::Released { address });
                }
                Verdict::Silence
            }
            // RFC 2131 4.3.5: an answer to the address that it has; without one there is nowhere to answer.
            DhcpMessageType::Inform if config.is_neighbour(message.client) => Verdict::Inform,
            // A server's messages are no client's.
            DhcpMessageType::Inform
            | DhcpMessageType::Offer
            | DhcpMessageType::Ack
            | DhcpMessageType::Nak
            | DhcpMessageType::Unknown(_) => Verdict::Silence,
        }
    }

    /// RFC 2131 4.3.2: what state the client is in, its fields say.
    fn judge_request(&self, config: &GatewayConfig, address: Option<Ipv4Addr>, message: &Message) -> Verdict {
        let wanted = match (message.server, message.requested) {
            // SELECTING another server.
            (Some(server), _) if server != config.address => return Verdict::Silence,
            // SELECTING us; INIT-REBOOT.
            (Some(_) | None, Some(requested)) => requested,
            // RENEWING, REBINDING; some clients name the server nevertheless.
            (Some(_) | None, None) if !message.client.is_unspecified() => message.client,
            (Some(_) | None, None) => return Verdict::Silence,
        };
        match address {
            Some(address) if address == wanted => Verdict::Give(DhcpMessageType::Ack, address),
            Some(_) | None => Verdict::Refuse,
        }
    }

    /// A further station has no address yet.
    fn want(&mut self, stations: &Stations, port: u16, message: &Message, now: Time) {
        let key = (port, message.mac);
        let of_port = self.of_port(port);
        if self.waiting.len() >= WAITING {
            // Whom the daemon has nothing for is never answered.
            self.waiting.retain(|_, (_, since)| now.since(*since) < PATIENCE);
        }
        let has_room = self.waiting.len() < WAITING || self.waiting.contains_key(&key);
        if stations.station(port).is_some() && of_port < PER_PORT && has_room {
            self.waiting.insert(key, (message.clone(), now));
            self.tell(LeaseNews::Wanted { port, mac: message.mac, requested: message.requested });
        }
    }

    /// A client gave its address back. Says whether it is anybody's now: a container's own stays its own.
    fn end(&mut self, stations: &Stations, port: u16, mac: UnicastMac) -> bool {
        if stations.station(port).is_some_and(|station| station.mac == mac) {
            self.granted.remove(&port);
            return false;
        }
        self.bindings.remove(&(port, mac)).is_some()
    }

    /// Writes an answer over whatever `frame` holds.
    fn answer(
        &mut self,
        config: &GatewayConfig,
        stations: &Stations,
        (port, message): (u16, &Message),
        verdict: Verdict,
        frame: &mut FrameBuf,
        now: Time,
    ) -> bool {
        let (kind, address) = match verdict {
            Verdict::Give(kind, address) => (kind, address),
            Verdict::Inform => (DhcpMessageType::Ack, Ipv4Addr::UNSPECIFIED),
            Verdict::Refuse => (DhcpMessageType::Nak, Ipv4Addr::UNSPECIFIED),
            Verdict::Silence => return false,
        };
        let is_given = matches!(verdict, Verdict::Give(..));
        let station = stations.station(port);
        let is_own = station.is_some_and(|station| station.mac == message.mac);
        let until = now.after(Duration::from_secs(LEASE.into()));
        let is_ack = verdict == Verdict::Give(DhcpMessageType::Ack, address);
        if is_ack && !is_own && !self.tell(LeaseNews::Renewed { address, until }) {
            return false;
        }
        let answer = Answer {
            kind,
            address,
            server: config.address,
            lease: is_given.then_some(LEASE),
            prefix: config.prefix,
            mtu: station.map_or(1_500, |station| station.mtu),
            name: stations.name(port).filter(|_| is_own),
            domain: DOMAIN,
        };
        if !answer.write(frame, message) {
            return false;
        }
        address_frame(frame, message.mac.mac(), config.mac);
        if is_ack {
            if is_own {
                self.granted.insert(port, until);
            } else if let Some(binding) = self.bindings.get_mut(&(port, message.mac)) {
                binding.until = until;
            }
        }
        true
    }
}

impl Gateway {
    /// A message to a DHCP server.
    pub(super) fn serve_dhcp(&mut self, mut frame: FrameBuf, head: &Head, ingress: u16, now: Time) -> Routed {
        let message = match Message::read(&mut frame, head) {
            Ok(message) => message,
            Err(reason) => return Routed::Drop(frame, reason),
        };
        if !message.relay.is_unspecified() {
            return Routed::Drop(frame, DropReason::DhcpRelayed);
        }
        let Self { config, stations, dhcp, .. } = self;
        let verdict = dhcp.judge(config, stations, ingress, &message, now);
        if dhcp.answer(config, stations, (ingress, &message), verdict, &mut frame, now) {
            frame.meta = vswitch_switch::FrameMeta::default();
            Routed::Reply(Side::Inside, frame)
        } else {
            Routed::Consumed(frame)
        }
    }

    /// The answer to a client that had to wait for its address.
    pub(super) fn poll_dhcp_server(&mut self, pool: &mut FramePool, now: Time) -> Option<Routed> {
        let Self { config, stations, dhcp, .. } = self;
        if dhcp.answers.is_empty() {
            return None;
        }
        let mut frame = pool.take()?;
        while let Some((port, message)) = dhcp.answers.pop_front() {
            let verdict = dhcp.judge(config, stations, port, &message, now);
            if dhcp.answer(config, stations, (port, &message), verdict, &mut frame, now) {
                return Some(Routed::Generated(Side::Inside, frame));
            }
        }
        pool.put(frame);
        None
    }
}

#[cfg(test)]
mod tests;
