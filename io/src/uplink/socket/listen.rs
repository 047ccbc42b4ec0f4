//! Published ports: sockets that were bound by the command line, each with its rule.
use super::datagram::{Datagrams, Place};
use super::*;
use socket2::{Socket, Type};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use vswitch_nat::slirp::datagrams::{DatagramSession, Ends, Kind, Via};

/// Connections accepted from one listener in one turn.
const ACCEPTS: usize = 16;

/// A bound socket.
#[derive(Debug)]
enum Bound {
    Stream { socket: Socket, is_listed: bool },
    Datagrams(Datagrams),
}

#[derive(Debug)]
pub(super) struct Listener {
    bound: Bound,
    rule: u32,
    local: SocketAddr,
}

/// All of them, by slot.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    slots: slab::Slab<Listener>,
    ready: VecDeque<u32>,
}

impl Listeners {
    pub(super) fn datagrams(&mut self, slot: u32) -> Option<&mut Datagrams> {
        match &mut self.slots.get_mut(slot as usize)?.bound {
            Bound::Datagrams(datagrams) => Some(datagrams),
            Bound::Stream { .. } => None,
        }
    }

    pub(super) fn has_work(&self) -> bool {
        !self.ready.is_empty()
    }
}

impl Sockets {
    /// Takes the bound sockets of a published port's rule.
    ///
    /// # Errors
    /// One of them is neither a TCP nor a UDP socket; then none is taken.
    pub fn publish(&mut self, rule: u32, fds: Vec<OwnedFd>) -> io::Result<()> {
        let listeners = fds.into_iter().map(|fd| Listener::new(fd, rule)).collect::<io::Result<Vec<_>>>()?;
        listeners.into_iter().try_for_each(|listener| self.listen(listener).map(drop))
    }

    /// Waits for a bound socket; gives its slot.
    pub(super) fn listen(&mut self, listener: Listener) -> io::Result<u32> {
        let entry = self.listeners.slots.vacant_entry();
        let slot = entry.key();
        self.registry.register(
            &mut SourceFd(&listener.socket().as_raw_fd()),
            Token(PUBLISHED_TOKENS + slot),
            Interest::READABLE,
        )?;
        entry.insert(listener);
        Ok(u32::try_from(slot).unwrap_or(u32::MAX))
    }

    /// Closes the sockets of a published port's rule. TCP connections go on; UDP sessions have lost their socket.
    pub fn unpublish(&mut self, gateway: &mut Gateway, rule: u32) {
        let slots: Vec<usize> =
            self.listeners.slots.iter().filter(|(_, listener)| listener.rule == rule).map(|(slot, _)| slot).collect();
        for slot in slots {
            self.listeners.slots.remove(slot);
        }
        if let Some((exchange, stations, _)) = gateway.exchange_mut() {
            let closed =
                exchange.datagrams.end(stations, |_, session| session.rule == rule && matches!(session.via, Via::Published(..)));
            self.close_mappings(closed);
        }
    }

    /// The bound sockets with their slots and rules.
    pub(super) fn bound(&self) -> impl Iterator<Item = (u32, u32, BorrowedFd<'_>)> {
        let slot = |slot: usize| u32::try_from(slot).unwrap_or(u32::MAX);
        self.listeners.slots.iter().map(move |(at, listener)| (slot(at), listener.rule, listener.socket().as_fd()))
    }

    pub(super) fn published_event(&mut self, slot: u32, event: Event) {
        match self.listeners.slots.get_mut(slot as usize).map(|listener| &mut listener.bound) {
            Some(Bound::Stream { is_listed: true, .. }) | None => {}
            Some(Bound::Stream { is_listed, .. }) => {
                *is_listed = true;
                self.listeners.ready.push_back(slot);
            }
            Some(Bound::Datagrams(_)) => self.datagram_event(Place::Published(slot), event),
        }
    }

    /// Accepts what waits, a bounded number of connections.
    pub(super) fn accept(&mut self, gateway: &mut Gateway, now: Time) {
        for _ in 0..self.listeners.ready.len() {
            let Some(slot) = self.listeners.ready.pop_front() else { return };
            if self.accept_some(gateway, slot, now) {
                self.listeners.ready.push_back(slot);
            } else if let Some(Bound::Stream { is_listed, .. }) =
                self.listeners.slots.get_mut(slot as usize).map(|listener| &mut listener.bound)
            {
                *is_listed = false;
            }
        }
    }

    /// Says whether there may be more.
    fn accept_some(&mut self, gateway: &mut Gateway, slot: u32, now: Time) -> bool {
        for _ in 0..ACCEPTS {
            let Some(listener) = self.listeners.slots.get(slot as usize) else { return false };
            let Bound::Stream { socket, .. } = &listener.bound else { return false };
            let (rule, local) = (listener.rule, listener.local);
            match socket::accept(socket) {
                Ok((accepted, client)) => self.accepted(gateway, accepted, rule, (client, of_family(local, client)), now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                // The client went meanwhile.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ECONNABORTED | libc::EPROTO)) => {}
                // No more fds: the rest waits in the kernel, for the next that comes.
                Err(_) => return false,
            }
        }
        true
    }

    fn accepted(
        &mut self,
        gateway: &mut Gateway,
        accepted: Socket,
        rule: u32,
        (client, local): (SocketAddr, SocketAddr),
        now: Time,
    ) {
        let Some((exchange, stations, config)) = gateway.exchange_mut() else { return };
        let slot = exchange.accepted(stations, config, rule, (client, local), now);
        let given_way = exchange.datagrams.take_given_way();
        self.close_mappings(given_way);
        let Some(slot) = slot else {
            // Refused is a RST, not an end of data.
            let _ = accepted.set_linger(Some(std::time::Duration::ZERO));
            return;
        };
        if self.enter_accepted(slot, accepted).is_err() {
            self.abort(gateway, slot);
        }
    }

    pub(super) fn arrived_published(
        &mut self,
        gateway: &mut Gateway,
        slot: u32,
        received: &socket::Datagram,
        now: Time,
    ) -> Option<(Ends, DatagramSession)> {
        let listener = self.listeners.slots.get(slot as usize)?;
        let (exchange, stations, config) = gateway.exchange_mut()?;
        let to = received.to.filter(|_| listener.local.ip().is_unspecified());
        let local = of_family(SocketAddr::new(to.unwrap_or(listener.local.ip()), listener.local.port()), received.from);
        let ends = (received.from, local, to);
        let arrived = exchange.arrived_published(stations, config, (slot, listener.rule), ends, received.len, now);
        let given_way = exchange.datagrams.take_given_way();
        self.close_mappings(given_way);
        arrived
    }
}

/// Where a client came to, in its own family: a socket of both is bound to the one's unspecified address.
fn of_family(local: SocketAddr, client: SocketAddr) -> SocketAddr {
    match (local.ip(), client.ip()) {
        (IpAddr::V6(_), IpAddr::V4(_)) => SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), local.port()),
        (IpAddr::V4(_) | IpAddr::V6(_), _) => local,
    }
}

impl Listener {
    pub(super) fn new(fd: OwnedFd, rule: u32) -> io::Result<Self> {
        let socket = Socket::from(fd);
        socket.set_nonblocking(true)?;
        let local = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidInput)?;
        let bound = match socket.r#type()? {
            Type::STREAM => Bound::Stream { socket, is_listed: false },
            Type::DGRAM => {
                socket::prepare_udp(&socket, local.is_ipv6())?;
                if local.ip().is_unspecified() {
                    socket::want_destination(&socket, local.is_ipv6())?;
                }
                Bound::Datagrams(Datagrams::new(socket, local.is_ipv6(), Kind::Udp))
            }
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        Ok(Self { bound, rule, local })
    }

    const fn socket(&self) -> &Socket {
        match &self.bound {
            Bound::Stream { socket, .. } => socket,
            Bound::Datagrams(datagrams) => datagrams.socket(),
        }
    }
}
