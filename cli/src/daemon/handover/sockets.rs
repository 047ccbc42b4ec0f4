//! What is handed over of the socket uplink: published ports' sockets while the old daemon works, and once it has stopped all flows with
//! theirs.
//!
//! Fds are duplicated a page at a time, for there may be nearly as many as may be open.
use super::*;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;
use vswitch_io::sys::scm::MAX_FDS;
use vswitch_io::uplink::{CarriedBound, CarriedMapping, CarriedSession, CarriedStream};
use vswitch_nat::session::Count;
use vswitch_nat::slirp::datagrams::{DatagramSession, Ends, Kind as Protocol, Via};
use vswitch_nat::slirp::tcp::Saved;
use vswitch_nat::slirp::wire::Link;
use vswitch_nat::station::Owner;
use vswitch_switch::{Time, UnicastMac};

/// Slots of the table of sessions behind one message.
const SESSION_SLOTS: u32 = 1_024;
/// Octets spilled that one message carries.
const SPILL_OCTETS: usize = 1 << 20;
/// Flows of one message: one that has spilled is alone soon. Their fds are there twice meanwhile, which where few may be open must be few.
fn page_of(open_files_limit: u64) -> usize {
    usize::try_from(open_files_limit / 16).unwrap_or(MAX_FDS).clamp(1, MAX_FDS)
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct BoundState {
    slot: u32,
    rule: u32,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StreamState {
    port: u16,
    mac: String,
    /// The container's end, the other as the container sees it, and as the socket does.
    ends: (SocketAddr, SocketAddr, SocketAddr),
    from_outside: bool,
    rule: u32,
    created: u32,
    packets: [u64; 2],
    bytes: [u64; 2],
    #[serde(with = "TcpState")]
    tcp: Saved,
    /// Hexadecimal.
    spill: String,
    finish: bool,
}

/// [`Saved`] as it is written: the crate that has it knows no format.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Saved")]
struct TcpState {
    state: u8,
    una: u32,
    next: u32,
    max: u32,
    window: u32,
    said: (u32, u32),
    shift: u8,
    mss: u16,
    fin: Option<u32>,
    rcv: u32,
    granted: u32,
    told: u32,
    scale: u8,
    offer_mss: u16,
    offer_scale: Option<u8>,
    finished: bool,
    ack_due: bool,
    syn_due: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct MappingState {
    slot: u32,
    port: u16,
    echo: bool,
    inside: SocketAddr,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SessionState {
    port: u16,
    mac: String,
    echo: bool,
    inside: SocketAddr,
    remote: SocketAddr,
    dialed: SocketAddr,
    slot: u32,
    /// Through a published port's socket.
    published: bool,
    /// The address of ours that the client used.
    used: Option<IpAddr>,
    rule: u32,
    created: u32,
    packets: [u64; 2],
    bytes: [u64; 2],
    /// Nanoseconds of the clock.
    seen: u64,
}

fn hex(octets: &[u8]) -> String {
    use std::fmt::Write;
    octets.iter().fold(String::with_capacity(octets.len() * 2), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

fn mac_of(mac: &str) -> Result<UnicastMac> {
    Ok(mac.parse().map_err(|error| HandoverProblem::Mac { mac: mac.into(), error })?)
}

const fn split(counts: [Count; 2]) -> ([u64; 2], [u64; 2]) {
    let [out, back] = counts;
    ([out.packets, back.packets], [out.bytes, back.bytes])
}

const fn join([out, back]: [u64; 2], [out_bytes, back_bytes]: [u64; 2]) -> [Count; 2] {
    [Count { packets: out, bytes: out_bytes }, Count { packets: back, bytes: back_bytes }]
}

const fn protocol(echo: bool) -> Protocol {
    if echo { Protocol::Echo } else { Protocol::Udp }
}

impl StreamState {
    fn of(carried: &CarriedStream) -> Self {
        let (packets, bytes) = split(carried.counts);
        Self {
            port: carried.port,
            mac: carried.mac.to_string(),
            ends: carried.ends,
            from_outside: carried.from_outside,
            rule: carried.rule,
            created: carried.created,
            packets,
            bytes,
            tcp: carried.tcp,
            spill: hex(&carried.spill),
            finish: carried.finish,
        }
    }

    fn carried(&self, fd: OwnedFd) -> Result<CarriedStream> {
        Ok(CarriedStream {
            fd,
            port: self.port,
            mac: mac_of(&self.mac)?,
            ends: self.ends,
            from_outside: self.from_outside,
            rule: self.rule,
            created: self.created,
            counts: join(self.packets, self.bytes),
            tcp: self.tcp,
            spill: unhex(&self.spill).context(HandoverProblem::OutOfStep)?,
            finish: self.finish,
        })
    }
}

impl SessionState {
    fn of(ends: &Ends, session: &DatagramSession, seen: Time) -> Self {
        let (packets, bytes) = split(session.counts);
        let (slot, published, used) = match session.via {
            Via::Mapping(slot) => (slot, false, None),
            Via::Published(slot, used) => (slot, true, used),
        };
        Self {
            port: session.owner.port,
            mac: session.link.dst.to_string(),
            echo: ends.kind == Protocol::Echo,
            inside: ends.inside,
            remote: ends.remote,
            dialed: session.dialed,
            slot,
            published,
            used,
            rule: session.rule,
            created: session.created,
            packets,
            bytes,
            seen: seen.nanos(),
        }
    }

    fn carried(&self) -> Result<CarriedSession> {
        let mac = mac_of(&self.mac)?;
        Ok(CarriedSession {
            ends: Ends { kind: protocol(self.echo), inside: self.inside, remote: self.remote },
            session: DatagramSession {
                owner: Owner { port: self.port, generation: 0 },
                // The gateway's is written where it is known.
                link: Link { dst: mac, src: mac },
                via: if self.published { Via::Published(self.slot, self.used) } else { Via::Mapping(self.slot) },
                dialed: self.dialed,
                rule: self.rule,
                created: self.created,
                counts: join(self.packets, self.bytes),
            },
            seen: Time::from_nanos(self.seen),
        })
    }
}

fn not_passed(error: std::io::Error) -> HandoverProblem {
    HandoverProblem::PortNotPassed { name: "uplink".into(), error }
}

impl Daemon {
    /// Published ports' sockets: nobody takes from them what the other waits for before it has stopped.
    pub(super) fn offer_bound(&self, channel: &Channel) -> Result<()> {
        let most = page_of(self.facts.open_files_limit);
        let mut cursor = Some(0);
        while let Some(at) = cursor {
            let page = self.worker.sockets(move |sockets, _, _| sockets.export_bound(at, most))?;
            let Some(page) = page else { return Ok(()) };
            let (bound, next) = page.map_err(not_passed)?;
            let fds: Vec<BorrowedFd<'_>> = bound.iter().map(|bound| bound.fd.as_fd()).collect();
            let states = bound.iter().map(|CarriedBound { slot, rule, .. }| BoundState { slot: *slot, rule: *rule }).collect();
            if !fds.is_empty() {
                channel.send(&Message::Bound { bound: states }, &fds)?;
            }
            cursor = next;
        }
        Ok(())
    }

    /// All flows. This daemon has stopped.
    pub(super) fn offer_sockets(&self, channel: &Channel) -> Result<()> {
        if !self.outside.sockets {
            return Ok(());
        }
        let most = page_of(self.facts.open_files_limit);
        let mut cursor = Some(0);
        while let Some(at) = cursor {
            let page = self.worker.sockets(move |sockets, gateway, _| sockets.export_streams(gateway, at, most))?;
            let Some(page) = page else { return Ok(()) };
            let (streams, next) = page.map_err(not_passed)?;
            offer_streams(channel, &streams)?;
            cursor = next;
        }
        let mut cursor = Some(0);
        while let Some(at) = cursor {
            let page = self.worker.sockets(move |sockets, gateway, _| sockets.export_mappings(gateway, at, most))?;
            let Some(page) = page else { return Ok(()) };
            let (mappings, next) = page.map_err(not_passed)?;
            let fds: Vec<BorrowedFd<'_>> = mappings.iter().map(|mapping| mapping.fd.as_fd()).collect();
            let state = |CarriedMapping { slot, port, kind, inside, .. }: &CarriedMapping| MappingState {
                slot: *slot,
                port: *port,
                echo: *kind == Protocol::Echo,
                inside: *inside,
            };
            if !fds.is_empty() {
                channel.send(&Message::Mappings { mappings: mappings.iter().map(state).collect() }, &fds)?;
            }
            cursor = next;
        }
        self.offer_sessions(channel)
    }

    fn offer_sessions(&self, channel: &Channel) -> Result<()> {
        let mut cursor = Some(0);
        while let Some(at) = cursor {
            let page = self.worker.sockets(move |_, gateway, _| {
                let mut sessions = Vec::new();
                let next = gateway.exchange().and_then(|exchange| {
                    let each = |ends: &Ends, session: &DatagramSession, seen| sessions.push(SessionState::of(ends, session, seen));
                    exchange.datagrams.page(at, SESSION_SLOTS, each)
                });
                (sessions, next)
            })?;
            let (sessions, next) = page.unwrap_or_default();
            if !sessions.is_empty() {
                channel.send(&Message::Sessions { sessions }, &[])?;
            }
            cursor = next;
        }
        Ok(())
    }

    pub(super) fn adopt_bound(&self, bound: Vec<BoundState>, channel: &mut Channel) -> Result<()> {
        let carried = |BoundState { slot, rule }: BoundState| Ok(CarriedBound { fd: channel.one_fd()?, slot, rule });
        let bound = bound.into_iter().map(carried).collect::<Result<Vec<_>>>()?;
        self.adopt_each(move |sockets, _, _| bound.into_iter().try_for_each(|bound| sockets.adopt_bound(bound)))
    }

    pub(super) fn adopt_streams(&self, streams: Vec<StreamState>, channel: &mut Channel) -> Result<()> {
        let streams = streams.iter().map(|state| state.carried(channel.one_fd()?)).collect::<Result<Vec<_>>>()?;
        self.adopt_each(move |sockets, gateway, now| {
            streams.into_iter().try_for_each(|stream| sockets.adopt_stream(gateway, stream, now))
        })
    }

    pub(super) fn adopt_mappings(&self, mappings: Vec<MappingState>, channel: &mut Channel) -> Result<()> {
        let carried = |MappingState { slot, port, echo, inside }: MappingState| {
            Ok(CarriedMapping { fd: channel.one_fd()?, slot, port, kind: protocol(echo), inside })
        };
        let mappings = mappings.into_iter().map(carried).collect::<Result<Vec<_>>>()?;
        self.adopt_each(move |sockets, gateway, _| {
            mappings.into_iter().try_for_each(|mapping| sockets.adopt_mapping(gateway, mapping))
        })
    }

    pub(super) fn adopt_sessions(&self, sessions: Vec<SessionState>) -> Result<()> {
        let sessions = sessions.iter().map(SessionState::carried).collect::<Result<Vec<_>>>()?;
        self.adopt_each(move |sockets, gateway, _| {
            sessions.into_iter().for_each(|session| sockets.adopt_session(gateway, session));
            Ok(())
        })
    }

    fn adopt_each(
        &self,
        job: impl FnOnce(&mut vswitch_io::uplink::Sockets, &mut vswitch_nat::Gateway, Time) -> std::io::Result<()> + Send + 'static,
    ) -> Result<()> {
        match self.worker.sockets(job)? {
            None | Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(HandoverProblem::PortFd { error: error.to_string() }.into()),
        }
    }
}

/// In messages that none becomes too long for what has been spilled.
fn offer_streams(channel: &Channel, mut streams: &[CarriedStream]) -> Result<()> {
    while !streams.is_empty() {
        let mut octets = 0;
        let fits = |stream: &&CarriedStream| {
            let was_empty = octets == 0;
            octets += stream.spill.len() + 1;
            was_empty || octets <= SPILL_OCTETS
        };
        let count = streams.iter().take_while(fits).count();
        let (some, rest) = streams.split_at(count);
        let fds: Vec<BorrowedFd<'_>> = some.iter().map(|stream| stream.fd.as_fd()).collect();
        channel.send(&Message::Streams { streams: some.iter().map(StreamState::of).collect() }, &fds)?;
        streams = rest;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_as_text() {
        for octets in [&[][..], &[0, 1, 0xff, 0x80]] {
            assert_eq!(unhex(&hex(octets)).as_deref(), Some(octets));
        }
        assert_eq!(hex(&[0xa, 0xb0]), "0ab0");
        for text in ["0", "xx", "0x1"] {
            assert!(unhex(text).is_none_or(|octets| text.len() % 2 == 1 && octets.len() == 1), "{text}");
        }
    }
}
