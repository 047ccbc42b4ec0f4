//! What is handed to another process: each socket with what is known of it. Both have it open meanwhile, so that its other end notices
//! nothing; neither may read or write before the other has stopped.
use super::datagram::Datagrams;
use super::listen::Listener;
use super::tcp::Stream;
use super::*;
use socket2::Socket;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use vswitch_nat::session::Count;
use vswitch_nat::slirp::datagrams::{DatagramSession, Ends, Kind, Via};
use vswitch_nat::slirp::tcp::{Saved, State, Tcp};
use vswitch_nat::slirp::wire::Link;
use vswitch_switch::UnicastMac;

/// A TCP flow.
#[derive(Debug)]
pub struct CarriedStream {
    /// Its socket.
    pub fd: OwnedFd,
    /// The container's port.
    pub port: u16,
    /// The container's hardware address.
    pub mac: UnicastMac,
    /// The container's end, the other as the container sees it, and as the socket does.
    pub ends: (SocketAddr, SocketAddr, SocketAddr),
    /// Whether the other end began.
    pub from_outside: bool,
    /// The published port's rule, or 0.
    pub rule: u32,
    /// Seconds of the clock when it began.
    pub created: u32,
    /// From and to the container.
    pub counts: [Count; 2],
    /// The translation.
    pub tcp: Saved,
    /// What the socket has not taken yet.
    pub spill: Vec<u8>,
    /// The container's end of data goes on behind it.
    pub finish: bool,
}

/// A mapping of UDP or echo.
#[derive(Debug)]
pub struct CarriedMapping {
    /// Its socket.
    pub fd: OwnedFd,
    /// Its slot there.
    pub slot: u32,
    /// The container's port.
    pub port: u16,
    /// Which protocol.
    pub kind: Kind,
    /// The container's end.
    pub inside: SocketAddr,
}

/// A session of UDP or echo.
#[derive(Clone, Copy, Debug)]
pub struct CarriedSession {
    /// Who.
    pub ends: Ends,
    /// What of it.
    pub session: DatagramSession,
    /// When its last packet came.
    pub seen: Time,
}

/// A published port's socket.
#[derive(Debug)]
pub struct CarriedBound {
    /// It.
    pub fd: OwnedFd,
    /// Its slot there.
    pub slot: u32,
    /// Its rule.
    pub rule: u32,
}

impl Sockets {
    /// Flows from slot `at` on, `most` at the most, and where to go on.
    ///
    /// # Errors
    /// No more files may be open.
    pub fn export_streams(&mut self, gateway: &Gateway, at: u32, most: usize) -> io::Result<(Vec<CarriedStream>, Option<u32>)> {
        let mut carried = Vec::new();
        let Some(exchange) = gateway.exchange() else { return Ok((carried, None)) };
        let count = u32::try_from(self.tcp.len()).unwrap_or(u32::MAX);
        for slot in at..count {
            if carried.len() >= most {
                return Ok((carried, Some(slot)));
            }
            let (Some(flow), Some(stream)) = (exchange.flows.get(slot), self.tcp.get_mut(slot as usize).and_then(Option::as_mut))
            else {
                continue;
            };
            stream.consume();
            carried.push(CarriedStream {
                fd: stream.socket.as_fd().try_clone_to_owned()?,
                port: flow.owner.port,
                mac: flow.link.dst,
                ends: (flow.inside, flow.remote, flow.dialed),
                from_outside: flow.from_outside,
                rule: flow.rule,
                created: flow.created,
                counts: flow.counts,
                tcp: flow.tcp.save(),
                spill: stream.spill.get(stream.sent..).unwrap_or_default().to_vec(),
                finish: stream.finish,
            });
        }
        Ok((carried, None))
    }

    /// Goes on with a flow of another process. One for which there is no room ends.
    ///
    /// # Errors
    /// The fd is no connection.
    pub fn adopt_stream(&mut self, gateway: &mut Gateway, carried: CarriedStream, now: Time) -> io::Result<()> {
        let Some((exchange, stations, config)) = gateway.exchange_mut() else { return Ok(()) };
        let Some(machine) = Tcp::restore(&carried.tcp, now) else { return Err(io::ErrorKind::InvalidData.into()) };
        let link = Link { dst: carried.mac, src: config.mac };
        let mut flow = Flow::new(stations.owner(carried.port), link, carried.ends, machine, now);
        (flow.from_outside, flow.rule, flow.created, flow.counts) =
            (carried.from_outside, carried.rule, carried.created, carried.counts);
        let is_connecting = flow.tcp.state() == State::Connecting;
        let Some(slot) = exchange.adopt(stations, flow) else { return Ok(()) };
        let socket = Socket::from(carried.fd);
        let peeks = socket::set_peek_offset(&socket, 0).is_ok();
        let mut stream = Stream::new(socket, peeks);
        // It may have few.
        stream.few_hops = is_connecting;
        self.spilled += carried.spill.len();
        (stream.spill, stream.finish) = (carried.spill, carried.finish);
        let entered = self.enter(slot, stream);
        if entered.is_err() {
            exchange.close(stations, slot);
        }
        self.changes = gateway.stations.changes();
        entered
    }

    /// Mappings from slot `at` on, `most` at the most, and where to go on.
    ///
    /// # Errors
    /// No more files may be open.
    pub fn export_mappings(&self, gateway: &Gateway, at: u32, most: usize) -> io::Result<(Vec<CarriedMapping>, Option<u32>)> {
        let mut carried = Vec::new();
        let Some(exchange) = gateway.exchange() else { return Ok((carried, None)) };
        for (slot, mapping) in exchange.datagrams.mappings().filter(|(slot, _)| *slot >= at) {
            if carried.len() >= most {
                return Ok((carried, Some(slot)));
            }
            let Some(Some(datagrams)) = self.udp.get(slot as usize) else { continue };
            let fd = datagrams.socket().as_fd().try_clone_to_owned()?;
            carried.push(CarriedMapping { fd, slot, port: mapping.owner.port, kind: mapping.kind, inside: mapping.inside });
        }
        Ok((carried, None))
    }

    /// Goes on with a mapping of another process.
    ///
    /// # Errors
    /// The fd cannot be waited for.
    pub fn adopt_mapping(&mut self, gateway: &mut Gateway, carried: CarriedMapping) -> io::Result<()> {
        let Some((exchange, stations, _)) = gateway.exchange_mut() else { return Ok(()) };
        let owner = stations.owner(carried.port);
        let Some(slot) = exchange.adopt_mapping(stations, owner, carried.kind, carried.inside) else { return Ok(()) };
        self.adopted_mappings.insert(carried.slot, slot);
        let datagrams = Datagrams::new(Socket::from(carried.fd), carried.inside.is_ipv6(), carried.kind);
        self.enter_mapping(slot, datagrams)
    }

    /// Goes on with a session of another process, whose mapping or published port was adopted.
    pub fn adopt_session(&mut self, gateway: &mut Gateway, carried: CarriedSession) {
        let Some((exchange, stations, config)) = gateway.exchange_mut() else { return };
        let CarriedSession { ends, mut session, seen } = carried;
        session.owner = stations.owner(session.owner.port);
        session.link.src = config.mac;
        session.via = match session.via {
            Via::Mapping(slot) => match self.adopted_mappings.get(&slot) {
                Some(slot) => Via::Mapping(*slot),
                None => return,
            },
            Via::Published(slot, from) => match self.adopted.get(&slot) {
                Some(slot) => {
                    exchange.adopt_client(*slot, (session.dialed, from), ends);
                    Via::Published(*slot, from)
                }
                None => return,
            },
        };
        exchange.datagrams.adopt(stations, ends, session, seen);
    }

    /// Published ports' sockets from slot `at` on, `most` at the most, and where to go on.
    ///
    /// # Errors
    /// No more files may be open.
    pub fn export_bound(&self, at: u32, most: usize) -> io::Result<(Vec<CarriedBound>, Option<u32>)> {
        let mut carried = Vec::new();
        for (slot, rule, fd) in self.bound().filter(|(slot, ..)| *slot >= at) {
            if carried.len() >= most {
                return Ok((carried, Some(slot)));
            }
            carried.push(CarriedBound { fd: fd.try_clone_to_owned()?, slot, rule });
        }
        Ok((carried, None))
    }

    /// Goes on with a published port's socket of another process.
    ///
    /// # Errors
    /// The fd is no such socket.
    pub fn adopt_bound(&mut self, carried: CarriedBound) -> io::Result<()> {
        let slot = self.listen(Listener::new(carried.fd, carried.rule)?)?;
        self.adopted.insert(carried.slot, slot);
        Ok(())
    }
}
