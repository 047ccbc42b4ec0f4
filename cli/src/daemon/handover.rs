//! Restart without a gap: one daemon hands everything over to another and ends.
//!
//! The new daemon is started by `vswitch restart` with one end of a socket pair as its standard input; the old one is given the other
//! end. They speak lines of JSON, with fds beside them. What each may do until when:
//!
//! 1. The old one sends `hello` (with listening socket and lock), a `container` each (with the port's fd and the watch's), `fdb` rows. It
//!    still forwards. The new one builds all of it, reads no frame, and says `prepared`.
//! 2. The old one stops reading, sends what waits, and says `commit` with what was counted. Frames wait in the kernel now.
//! 3. The new one says `running`, waits for `go`, reads, and says `reading`. The old one says `go` and ends.
//!
//! Both hold every fd meanwhile, so no interface notices. Whoever is killed leaves the other one running: the old one goes on when the new
//! one is gone before `reading`, or is late before `go`; it then says `abort` if it can. The new one ends at `abort`; when the old one was
//! killed after `hello`, nobody else is there, and it goes on with what it was given. What it was not given `vswitch restart` attaches
//! again, by the state file, which the old one writes before it begins; so it does with everything where no daemon is left.
mod channel;
mod counts;
mod outside;
mod sockets;

use super::registry::{self, Container};
use super::watches::Watches;
use super::{Daemon, network6::Ipv6};
use crate::api::leases::Addresses;
use crate::api::types::{FdbEntry, Kind, NsId, Reach, WatchKind};
use crate::errors::HandoverProblem;
use crate::rundir::{self, Other};
use crate::settings::{self, Settings};
use anyhow::{Context, Result, bail};
pub use channel::Channel;
use channel::Silence;
use counts::{Counters, NatCounted, SocketsCounted};
use outside::{FlowState, OutsideState};
use serde::{Deserialize, Serialize};
use sockets::{BoundState, MappingState, SessionState, StreamState};
use std::collections::BTreeMap;
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant, UNIX_EPOCH};
use vswitch_io::counters::{Carried, PortCounters};
use vswitch_io::link::IfName;
use vswitch_io::netns;
use vswitch_io::port::Port;
use vswitch_switch::fdb::FdbRow;
use vswitch_switch::{DropCounts, DropReason, Mac, PortId, Vid};

/// Raised with every change that another version would misread.
pub const VERSION: u32 = 5;
/// FDB rows of a message.
const ROWS: usize = 512;

#[derive(Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
enum Message {
    /// Fds: listening socket, lock.
    Hello(Hello),
    /// Fds: port, watch if there is one.
    Container(Box<State>),
    Fdb {
        rows: Vec<FdbEntry>,
    },
    /// Addresses that no container has, and what containers were told of theirs.
    Addresses(Box<Addresses>),
    /// With the uplink's fd, if there is one.
    Outside(Box<OutsideState>),
    Flows {
        flows: Vec<FlowState>,
    },
    /// Published ports' sockets, an fd each.
    Bound {
        bound: Vec<BoundState>,
    },
    /// TCP flows that end in sockets, an fd each.
    Streams {
        streams: Vec<StreamState>,
    },
    /// Mappings of UDP and echo, an fd each.
    Mappings {
        mappings: Vec<MappingState>,
    },
    Sessions {
        sessions: Vec<SessionState>,
    },
    /// All was sent.
    End,
    Prepared,
    Commit(Box<Counted>),
    Running {
        pid: u32,
    },
    Go,
    Reading,
    Abort {
        why: String,
    },
}

/// What the switch is.
#[derive(Debug, Serialize, Deserialize)]
pub struct Hello {
    pub version: u32,
    pub gateway: Ipv4Addr,
    pub prefix: u8,
    /// Seconds.
    pub ageing: u64,
    pub fdb_limit: u32,
    pub group_forward: u16,
    /// An older daemon has the default one.
    #[serde(default)]
    pub ipv6: Ipv6,
    #[serde(default)]
    pub spread: settings::Spread,
    #[serde(default)]
    pub workers: settings::Workers,
    /// Seconds since the first start.
    pub uptime: u64,
    pub restarts: u32,
    /// The listening socket is the service manager's.
    pub activated: bool,
}

/// A container, plugged and ready.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    name: String,
    ns: NsId,
    reach: Reach,
    kind: Kind,
    ip: Ipv4Addr,
    mac: String,
    ifname: String,
    mtu: u16,
    settings: Vec<String>,
    port: u16,
    mask: u32,
    watch: Option<WatchKind>,
    /// When it was attached, seconds of Unix time.
    #[serde(default)]
    since: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Counted {
    closed: Counters,
    gateway: Counters,
    generated: u64,
    copied: u64,
    consumed: u64,
    /// Frames from uplinks that are gone, and to them.
    #[serde(default)]
    uplinks: (u64, u64),
    ports: Vec<(u16, Counters)>,
    /// An older daemon hands none over: they begin anew.
    #[serde(default)]
    nat: Option<NatCounted>,
    #[serde(default)]
    sockets: Option<SocketsCounted>,
}

/// Ends this process at a named step, when a test asks for it.
fn checkpoint(step: &str) {
    if cfg!(debug_assertions) && std::env::var("VSWITCH_TEST_DIE").is_ok_and(|wanted| wanted == step) {
        std::process::exit(86);
    }
}

impl Daemon {
    /// Hands everything over. Ok: the other one runs, and this one is to end.
    pub(super) fn hand_over(&mut self, fd: OwnedFd) -> Result<()> {
        let mut channel = Channel::new(fd)?;
        // For who attaches again what is not passed on, should this process be killed meanwhile.
        self.save();
        let result = self.offer(&mut channel);
        if let Err(error) = &result {
            channel.abort(error);
            // The other one may have signed already.
            rundir::sign(&self.lock, &self.facts.signature)?;
            self.worker.resume()?;
        }
        result
    }

    fn offer(&mut self, channel: &mut Channel) -> Result<()> {
        checkpoint("old-asked");
        let stats = self.worker.stats()?;
        let gateway = self.registry.network.gateway();
        let hello = Hello {
            version: VERSION,
            gateway: gateway.address,
            prefix: gateway.prefix,
            ageing: stats.ageing.as_secs(),
            fdb_limit: stats.fdb_capacity,
            group_forward: stats.group_forward,
            ipv6: self.registry.network.ipv6(),
            spread: self.saver.spread(),
            workers: self.saver.workers(),
            uptime: self.facts.started.elapsed().as_secs(),
            restarts: self.facts.restarts,
            activated: self.facts.activated,
        };
        channel.send(&Message::Hello(hello), &[self.server.listener(), self.lock.as_fd()])?;
        checkpoint("old-greeted");
        for (container, port) in self.registry.after(None) {
            let offload = stats.ports.iter().find(|(id, _)| *id == port).map_or(0, |(_, stats)| stats.offload);
            let (state, watch) = state(container, port, offload, &self.watches)?;
            let fd = self.worker.port_fd(port)?;
            match fd {
                Ok(fd) => {
                    let fds: Vec<_> = [fd.as_fd()].into_iter().chain(watch.as_ref().map(|watch| watch.as_fd())).collect();
                    channel.send(&Message::Container(Box::new(state)), &fds)?;
                }
                Err(error) => bail!(HandoverProblem::PortNotPassed { name: container.name.clone(), error }),
            }
            checkpoint("old-passing");
        }
        checkpoint("old-passed");
        let mut cursor = Some(0);
        while let Some(at) = cursor {
            let (rows, next) = self.worker.fdb_page(at)?;
            for rows in rows.chunks(ROWS) {
                let rows = rows.iter().map(|row| self.fdb_entry(row)).collect();
                channel.send(&Message::Fdb { rows }, &[])?;
            }
            cursor = next;
        }
        channel.send(&Message::Addresses(Box::new(self.addresses())), &[])?;
        let (has_uplink, begun) = self.offer_outside(channel)?;
        channel.send(&Message::End, &[])?;
        checkpoint("old-sent");
        let Message::Prepared = channel.receive()? else { bail!(HandoverProblem::OutOfStep) };
        let (carried, ports) = self.worker.pause()?;
        checkpoint("old-paused");
        if has_uplink {
            self.offer_flows(channel, begun)?;
        }
        self.offer_sockets(channel)?;
        let counted = self.counted(&carried, &ports)?;
        channel.send(&Message::Commit(Box::new(counted)), &[])?;
        checkpoint("old-committed");
        let Message::Running { pid } = channel.receive()? else { bail!(HandoverProblem::OutOfStep) };
        channel.send(&Message::Go, &[])?;
        checkpoint("old-gone");
        match channel.receive() {
            // It may read already.
            Err(Silence::Late(_)) => {}
            message => {
                let Message::Reading = message? else { bail!(HandoverProblem::OutOfStep) };
            }
        }
        self.left = Some(pid);
        Ok(())
    }

    fn counted(&self, carried: &Carried, ports: &[(PortId, PortCounters)]) -> Result<Counted> {
        Ok(Counted {
            closed: Counters::of(&carried.closed),
            gateway: Counters::of(&carried.gateway),
            generated: carried.generated,
            copied: carried.copied,
            consumed: carried.consumed,
            uplinks: carried.uplinks,
            ports: ports.iter().map(|(id, counters)| (id.get(), Counters::of(counters))).collect(),
            nat: self.counted_by_nat()?,
            sockets: self.counted_by_sockets()?,
        })
    }
}

fn state(container: &Container, port: PortId, mask: u32, watches: &Watches) -> Result<(State, Option<OwnedFd>)> {
    let (watch, fd) = match &container.reach {
        Reach::Host => (None, None),
        Reach::Name(_) | Reach::Path(_) | Reach::Process { .. } => {
            let (watch, fd) = watches.export(&container.name).context(HandoverProblem::NoWatch)?;
            (Some(watch), Some(fd))
        }
    };
    let state = State {
        name: container.name.clone(),
        ns: container.ns,
        reach: container.reach.clone(),
        kind: container.kind,
        ip: container.ip,
        mac: container.mac.to_string(),
        ifname: container.ifname.to_string(),
        mtu: container.mtu,
        settings: settings::describe(&container.config),
        port: port.get(),
        mask,
        watch,
        since: container.since.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
    };
    Ok((state, fd))
}

/// What the new daemon begins with.
pub struct Taken {
    pub hello: Hello,
    pub listener: OwnedFd,
    pub lock: File,
}

/// The first step of the new daemon: what it needs before it gives up its rights.
pub fn greet(channel: &mut Channel) -> Result<Taken> {
    let Message::Hello(hello) = channel.receive()? else { bail!(HandoverProblem::OutOfStep) };
    if hello.version != VERSION {
        bail!(HandoverProblem::OtherVersion { theirs: hello.version, ours: VERSION });
    }
    let (listener, lock) = channel.two_fds()?;
    let lock = File::from(lock);
    channel.other = Other::of_lock(&lock);
    checkpoint("new-greeted");
    Ok(Taken { hello, listener, lock })
}

impl Daemon {
    /// The other steps of the new daemon. Ok: it is the one that runs, and when it began to read after the old one stopped.
    pub(super) fn take_over(&mut self, channel: &mut Channel) -> Result<Duration> {
        let result = self.receive_all(channel).and_then(|()| {
            // Should the old one be gone, nobody else is there: the next step tells.
            let _ = channel.send(&Message::Prepared, &[]);
            checkpoint("new-prepared");
            self.commit(channel)
        });
        if let Err(error) = &result {
            channel.abort(error);
        }
        result
    }

    fn receive_all(&mut self, channel: &mut Channel) -> Result<()> {
        loop {
            let message = match channel.receive() {
                Err(Silence::Gone) => {
                    tracing::warn!("the other daemon was killed amid the hand-over: {} were passed on", self.registry.len());
                    return Ok(());
                }
                message => message?,
            };
            if let Message::Container(state) = message {
                let port = channel.one_fd()?;
                let watch = state.watch.is_some().then(|| channel.one_fd()).transpose()?;
                let name = state.name.clone();
                self.adopt(*state, port, watch).with_context(|| format!("cannot take {name} over"))?;
                checkpoint("new-adopting");
            } else if let Message::Fdb { rows } = message {
                self.worker.adopt_fdb(rows.iter().filter_map(fdb_row).collect())?;
            } else if let Message::Addresses(addresses) = message {
                self.adopt_addresses(&addresses);
            } else if let Message::Outside(state) = message {
                self.adopt_outside(*state, channel)?;
            } else if let Message::Bound { bound } = message {
                self.adopt_bound(bound, channel)?;
            } else if let Message::Flows { flows } = message {
                self.adopt_flows(flows)?;
            } else if let Message::End = message {
                return Ok(());
            } else {
                bail!(HandoverProblem::OutOfStep);
            }
        }
    }

    fn adopt(&mut self, state: State, port: OwnedFd, watch: Option<OwnedFd>) -> Result<()> {
        let id = PortId::new(state.port).context(HandoverProblem::NoSuchPort)?;
        let mac = state.mac.parse().map_err(|error| HandoverProblem::Mac { mac: state.mac.clone(), error })?;
        let config = settings::apply(&Settings::of(mac), mac, &settings::of_older(state.settings.clone()))?;
        let port = match state.kind {
            Kind::Tap => Port::tap(port, state.mask),
            Kind::Veth => Port::packet(port),
        };
        let port = port.map_err(|error| HandoverProblem::PortFd { error: error.to_string() })?;
        let taken = self.worker.adopt_port(id, port, config.port.clone(), state.mtu)?;
        taken.map_err(|error| HandoverProblem::PortNotTaken { id, error })?;
        let id_of_ns = netns::NsId { dev: state.ns.dev, ino: state.ns.ino };
        let watch = state.watch.zip(watch).map(|(kind, fd)| {
            let kind = match kind {
                WatchKind::Process => netns::WatchKind::Process,
                WatchKind::Name { dir, file } => netns::WatchKind::Name { dir, file, id: id_of_ns },
            };
            netns::Watch { fd, kind }
        });
        let ifname =
            IfName::parse(&state.ifname).map_err(|error| HandoverProblem::Ifname { ifname: state.ifname.clone(), error })?;
        let name = state.name.clone();
        self.registry.adopt(Container {
            name: state.name,
            ns: state.ns,
            reach: state.reach,
            kind: state.kind,
            ip: state.ip,
            mac,
            ifname,
            mtu: state.mtu,
            config,
            port: Some(id),
            ready: true,
            watch: registry::watch_text(watch.as_ref().map(|watch| &watch.kind)),
            since: UNIX_EPOCH + Duration::from_secs(state.since),
        });
        self.enter_station(&name)?;
        if let Some(watch) = watch
            && self.watches.add(self.poll.registry(), &name, watch).unwrap_or(false)
        {
            self.forget(&name, "its namespace is gone");
        }
        Ok(())
    }

    fn commit(&mut self, channel: &mut Channel) -> Result<Duration> {
        let counted = loop {
            match channel.receive() {
                // Killed when all was sent: nobody else is there, only the counters begin anew.
                Err(Silence::Gone) => break Box::default(),
                message => match message? {
                    Message::Flows { flows } => self.adopt_flows(flows)?,
                    Message::Streams { streams } => self.adopt_streams(streams, channel)?,
                    Message::Mappings { mappings } => self.adopt_mappings(mappings, channel)?,
                    Message::Sessions { sessions } => self.adopt_sessions(sessions)?,
                    Message::Commit(counted) => break counted,
                    Message::Hello(_)
                    | Message::Container(_)
                    | Message::Fdb { .. }
                    | Message::Addresses(_)
                    | Message::Outside(_)
                    | Message::Bound { .. }
                    | Message::End
                    | Message::Prepared
                    | Message::Running { .. }
                    | Message::Go
                    | Message::Reading
                    | Message::Abort { .. } => bail!(HandoverProblem::OutOfStep),
                },
            }
        };
        let stopped = Instant::now();
        let carried = Carried {
            closed: counted.closed.read(),
            gateway: counted.gateway.read(),
            generated: counted.generated,
            copied: counted.copied,
            consumed: counted.consumed,
            uplinks: counted.uplinks,
        };
        let port = |id: u16| if id == PortId::UPLINK.get() { Some(PortId::UPLINK) } else { PortId::new(id) };
        let ports = counted.ports.iter().filter_map(|(id, counters)| Some((port(*id)?, counters.read())));
        self.worker.adopt(carried, ports.collect())?;
        if let Some(nat) = counted.nat {
            self.adopt_counts(nat)?;
        }
        if let Some(sockets) = counted.sockets {
            self.adopt_socket_counts(sockets)?;
        }
        checkpoint("new-committed");
        // Before the old one ends: a lock that names a process that ends is taken for one that was killed.
        rundir::sign(&self.lock, &self.facts.signature)?;
        // As above.
        let _ = channel.send(&Message::Running { pid: std::process::id() }, &[]);
        match channel.receive() {
            Err(Silence::Gone) => {}
            message => {
                let Message::Go = message? else { bail!(HandoverProblem::OutOfStep) };
            }
        }
        checkpoint("new-going");
        self.worker.resume()?;
        let gap = stopped.elapsed();
        let _ = channel.send(&Message::Reading, &[]);
        checkpoint("new-reading");
        Ok(gap)
    }
}

fn fdb_row(entry: &FdbEntry) -> Option<FdbRow> {
    let mac: Mac = entry.mac.parse().ok()?;
    let age = Duration::from_secs(entry.age);
    Some(FdbRow { vid: Vid::new(entry.vlan)?, mac, port: PortId::new(entry.port)?, is_static: entry.r#static, age })
}
