//! What the daemon does for each request. A result is answered at once, but for detach and the end of a mirror, which wait for the kernel.
use super::{CLOSE_PATIENCE, Daemon, LEAVE_PATIENCE, Leaving, Session, registry};
use crate::api::events::EventKind;
use crate::api::outside::Plugged;
use crate::api::server::{ConnectionId, PATIENCE};
use crate::api::stats as counted;
use crate::api::types::{self, FdbEntry, Info, Kind, NsId, PAGE_ROWS, Page, Reach, Reserve, Verb, WatchKind};
use crate::errors::VerbProblem;
use crate::settings::{self, Unregistered};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant, SystemTime};
use vswitch_io::counters::PortStats;
use vswitch_io::netns::{self, Watch};
use vswitch_io::port::Port;
use vswitch_io::worker::MirrorError;
use vswitch_switch::fdb::{FdbError, FdbRow};
use vswitch_switch::switch::PortError;
use vswitch_switch::{DropCounts, DropReason, Mac, PortId, Vid};

/// How long the command line may take between two steps of attach.
const ATTACH_PATIENCE: Duration = Duration::from_secs(30);

/// Fds that a daemon has with nothing attached, about: its files, epoll and event fds.
const FIXED_FILES: u64 = 18;

/// Success with nothing to say.
pub fn done() -> Result<Value> {
    Ok(Value::Null)
}

/// An answer.
pub fn value(of: impl serde::Serialize) -> Result<Value> {
    Ok(serde_json::to_value(of)?)
}

impl Daemon {
    /// Answers a request, now or later.
    pub(super) fn handle(&mut self, id: ConnectionId, verb: Verb, fds: Vec<OwnedFd>) {
        let result = match verb {
            Verb::Attach(wanted) => self.attach(id, &wanted),
            Verb::Plug { kind, mask, watch } => self.plug(id, kind, mask, watch, fds),
            Verb::Ready => self.ready(id),
            Verb::Detach { name, ns } => match self.detach(id, &name, ns) {
                Ok(true) => done(),
                Ok(false) => return,
                Err(error) => Err(error),
            },
            Verb::Set { name, settings } => self.set(&name, &settings),
            Verb::Fdb { cursor } => self.fdb(cursor),
            Verb::FdbAdd { vlan, mac, name } => self.fdb_add(vlan, &mac, &name),
            Verb::FdbDel { vlan, mac } => self.fdb_del(vlan, &mac),
            Verb::FdbFlush { name } => self.fdb_flush(name.as_deref()),
            Verb::Mirror { name } => self.mirror(id, &name, fds),
            Verb::MirrorEnd => match self.mirror_end(id) {
                Ok(()) => return,
                Err(error) => Err(error),
            },
            Verb::Events { name } => self.subscribe(id, name),
            Verb::Inspect { name } => self.inspect(&name),
            Verb::Uplink => self.uplink(),
            Verb::UplinkPacket(order) => self.set_uplink(order, fds),
            Verb::UplinkSocket => self.set_sockets(id),
            Verb::Stage => self.stage(id, fds),
            Verb::UplinkNone => self.clear_uplink(),
            Verb::Publish { spec, names, from } => self.publish(id, &spec, names, from),
            Verb::Unpublish { port, name } => self.unpublish(&port, name.as_deref()),
            Verb::Published => self.published(),
            Verb::Flows { cursor } => self.flows(cursor),
            Verb::FlushFlows { name } => self.flush_flows(&name),
            Verb::Nat => self.nat(),
            Verb::Groups { cursor } => self.groups(cursor),
            Verb::Names => self.names(),
            Verb::Neighbors => self.neighbors(),
            Verb::Leases { after } => self.leases(after),
            Verb::ReserveAddress { address, holder } => self.reserve_address(address, &holder),
            Verb::UnreserveAddress { address } => self.unreserve_address(address),
            Verb::RestoreAddresses(addresses) => {
                self.adopt_addresses(&addresses);
                done()
            }
            Verb::Info => self.info(),
            Verb::Containers { after } => self.containers(after.as_deref()),
            Verb::Stats => self.stats(),
            Verb::Ports { from } => self.ports(from),
            Verb::Down => {
                self.running = false;
                self.saver.discard();
                done()
            }
            Verb::HandOver => match self.leave(id, fds) {
                Ok(()) => return,
                Err(error) => Err(error),
            },
        };
        self.answer(id, result);
    }

    fn attach(&mut self, id: ConnectionId, wanted: &Reserve) -> Result<Value> {
        if self.sessions.contains_key(&id) {
            bail!(VerbProblem::Busy);
        }
        // The host is where the daemon runs, which is why its namespace needs no watch.
        match (wanted.reach == Reach::Host, wanted.ns == self.facts.ns) {
            (true, false) => bail!(VerbProblem::OtherHost { pid: std::process::id() }),
            (false, true) => bail!(VerbProblem::IsHost),
            (true, true) | (false, false) => {}
        }
        let lease = self.registry.reserve(wanted)?;
        self.sessions.insert(id, Session::Attaching { name: lease.name.clone(), publish: wanted.publish.clone() });
        self.server.set_patience(id, Some(ATTACH_PATIENCE));
        value(lease)
    }

    /// The name that this connection attaches.
    fn attaching(&self, id: ConnectionId) -> Result<String> {
        match self.sessions.get(&id) {
            Some(Session::Attaching { name, .. }) => Ok(name.clone()),
            Some(Session::Detaching { .. } | Session::Mirroring { .. } | Session::Listening(_)) | None => {
                bail!(VerbProblem::NotAttaching)
            }
        }
    }

    fn plug(&mut self, id: ConnectionId, kind: Kind, mask: u32, watch: Option<WatchKind>, fds: Vec<OwnedFd>) -> Result<Value> {
        let name = self.attaching(id)?;
        let container = self.registry.get(&name).context(VerbProblem::Detached)?;
        if container.port.is_some() || container.kind != kind {
            bail!(VerbProblem::NotReserved { name });
        }
        let (count, mut fds) = (fds.len(), fds.into_iter());
        let (Some(port), watched, None) = (fds.next(), fds.next(), fds.next()) else {
            bail!(VerbProblem::PlugFds { count });
        };
        let watch = match (watch, watched) {
            (Some(kind), Some(fd)) => Some((kind, fd)),
            (None, None) if container.reach == Reach::Host => None,
            (Some(_) | None, _) => bail!(VerbProblem::PlugFds { count }),
        };
        let port = match kind {
            Kind::Tap => Port::tap(port, mask),
            Kind::Veth => Port::packet(port),
        };
        let port = port.map_err(|error| VerbProblem::PortFd { error: error.to_string() })?;
        let watch = watch.map(|(kind, fd)| checked_watch(kind, fd, container.ns)).transpose()?;
        let watch_text = registry::watch_text(watch.as_ref().map(|watch| &watch.kind));
        let (config, mtu) = (container.config.port.clone(), container.mtu);
        let port = self.worker.add_port(port, config, mtu)?.map_err(|error| port_error(error, &name))?;
        // The number may be that of a port that went just now: what the worker tells of that one comes before ours.
        self.fetch_news();
        self.registry.plug(&name, port, watch_text);
        self.enter_station(&name)?;
        if let Some(watch) = watch
            && self.watches.add(self.poll.registry(), &name, watch).context(VerbProblem::NotWatched)?
        {
            self.forget(&name, "its namespace is gone");
            bail!(VerbProblem::NamespaceGone);
        }
        value(Plugged { port: port.get(), uplink: self.outside.kind() })
    }

    fn ready(&mut self, id: ConnectionId) -> Result<Value> {
        let name = self.attaching(id)?;
        let publish = match self.sessions.get_mut(&id) {
            Some(Session::Attaching { publish, .. }) => std::mem::take(publish),
            Some(Session::Detaching { .. } | Session::Mirroring { .. } | Session::Listening(_)) | None => Vec::new(),
        };
        // One that is refused ends the attach, and with it those before.
        for spec in publish {
            self.publish(id, &spec, vec![name.clone()], Vec::new())?;
        }
        let container = self.registry.get_mut(&name).filter(|container| container.port.is_some());
        let container = container.context(VerbProblem::NotPlugged)?;
        container.ready = true;
        container.since = SystemTime::now();
        self.saver.mark();
        let (ip, port) = (container.ip, container.port.unwrap_or(PortId::GATEWAY));
        tracing::info!("{name} (port {port}, {ip}) attached");
        self.sessions.remove(&id);
        self.server.set_patience(id, Some(PATIENCE));
        self.tell_of(EventKind::Attached, &name, port, None);
        done()
    }

    /// True when it is done, false when it will be answered.
    fn detach(&mut self, id: ConnectionId, name: &str, ns: Option<NsId>) -> Result<bool> {
        if self.sessions.contains_key(&id) {
            bail!(VerbProblem::Busy);
        }
        let by_name = self.registry.get(name);
        let name = match by_name.or_else(|| self.registry.by_ns(ns?)) {
            Some(container) if container.ready => container.name.clone(),
            Some(container) => bail!(VerbProblem::BeingAttached { name: container.name.clone() }),
            None => return self.registry.attached(name).map(|_| true),
        };
        match self.forget(&name, "asked to") {
            None => Ok(true),
            Some(ticket) => {
                self.sessions.insert(id, Session::Detaching { ticket, until: Instant::now() + CLOSE_PATIENCE });
                Ok(false)
            }
        }
    }

    fn set(&mut self, name: &str, wanted: &[String]) -> Result<Value> {
        if name == "switch" {
            let set = settings::of_switch(wanted)?;
            self.worker.set_switch(set.ageing, set.group_forward)?;
            self.worker.set_spread(set.suppress, set.unregistered.map(|what| what == Unregistered::Flood))?;
            self.saver.set_switch(&set);
            return done();
        }
        let (container, port) = self.registry.attached(name)?;
        let config = settings::apply(&container.config, container.mac, wanted)?;
        self.registry.check_aliases(name, &config.aliases)?;
        self.worker.set_port(port, config.port.clone(), container.mtu)?.map_err(|error| port_error(error, name))?;
        if let Some(container) = self.registry.get_mut(name) {
            container.config = config;
            self.saver.mark();
        }
        self.enter_station(name)?;
        done()
    }

    fn fdb(&self, cursor: u32) -> Result<Value> {
        let (rows, next) = self.worker.fdb_page(cursor)?;
        value(Page { rows: rows.iter().map(|row| self.fdb_entry(row)).collect(), next })
    }

    /// An address as it is listed.
    pub(super) fn fdb_entry(&self, row: &FdbRow) -> FdbEntry {
        FdbEntry {
            vlan: row.vid.get(),
            mac: row.mac.to_string(),
            port: row.port.get(),
            name: self.registry.port_name(row.port).into(),
            r#static: row.is_static,
            age: row.age.as_secs(),
        }
    }

    fn fdb_add(&self, vlan: u16, mac: &str, name: &str) -> Result<Value> {
        let (vid, mac) = vlan_and_mac(vlan, mac)?;
        let (container, port) = self.registry.attached(name)?;
        if !container.config.port.vlan.carries(vid) {
            bail!(VerbProblem::NotInVlan { name: name.into(), vid });
        }
        self.worker.fdb_add(vid, mac, port)?.map_err(|error| match error {
            FdbError::Full => VerbProblem::FdbFull,
        })?;
        done()
    }

    fn fdb_del(&self, vlan: u16, mac: &str) -> Result<Value> {
        let (vid, mac) = vlan_and_mac(vlan, mac)?;
        if !self.worker.fdb_del(vid, mac)? {
            bail!(VerbProblem::NotKnown { mac, vid });
        }
        done()
    }

    fn fdb_flush(&self, name: Option<&str>) -> Result<Value> {
        let port = name.map(|name| self.registry.attached(name).map(|(_, port)| port)).transpose()?;
        value(self.worker.fdb_flush(port)?)
    }

    fn mirror(&mut self, id: ConnectionId, name: &str, mut fds: Vec<OwnedFd>) -> Result<Value> {
        if self.sessions.contains_key(&id) {
            bail!(VerbProblem::Busy);
        }
        let (_, port) = self.registry.attached(name)?;
        let (Some(file), true) = (fds.pop(), fds.is_empty()) else {
            bail!(VerbProblem::MirrorFd);
        };
        let ticket = self.worker.start_mirror(port, file)?.map_err(|error| match error {
            MirrorError::Port => VerbProblem::Mirrored { name: name.into() },
            MirrorError::TooMany => VerbProblem::Mirrors,
        })?;
        self.sessions.insert(id, Session::Mirroring { ticket, port, name: name.into() });
        self.server.set_patience(id, None);
        done()
    }

    fn mirror_end(&mut self, id: ConnectionId) -> Result<()> {
        match self.sessions.get(&id) {
            Some(Session::Mirroring { port, name, .. }) => {
                tracing::info!("mirror of {name} ends");
                Ok(self.worker.end_mirror(*port)?)
            }
            Some(Session::Attaching { .. } | Session::Detaching { .. } | Session::Listening(_)) | None => {
                bail!(VerbProblem::NoMirror)
            }
        }
    }

    /// Another daemon is to take over, as soon as nothing is half done.
    fn leave(&mut self, id: ConnectionId, mut fds: Vec<OwnedFd>) -> Result<()> {
        let (Some(channel), true) = (fds.pop(), fds.is_empty()) else {
            bail!(VerbProblem::HandOverFd);
        };
        if self.leaving.is_some() {
            bail!(VerbProblem::Leaving);
        }
        for session in self.sessions.values() {
            match session {
                Session::Mirroring { port, .. } => self.worker.end_mirror(*port)?,
                Session::Attaching { .. } | Session::Detaching { .. } | Session::Listening(_) => {}
            }
        }
        self.leaving = Some(Leaving { id, channel, until: Instant::now() + LEAVE_PATIENCE });
        Ok(())
    }

    fn info(&self) -> Result<Value> {
        let (stats, network) = (self.worker.stats()?, &self.registry.network);
        value(Info {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            owner: self.facts.owner,
            uid: self.facts.uid,
            socket: self.facts.dir.socket(),
            network: network.to_string(),
            subnet: network.subnet(),
            gateway: network.gateway().address,
            gateway_mac: network.gateway().mac.to_string(),
            gateway6: network.gateway6().map(|address| format!("{address}/{}", super::network6::PREFIX6)),
            ipv6: network.ipv6(),
            uplink: self.outside.describe(),
            uptime: self.facts.started.elapsed().as_secs(),
            restarts: self.facts.restarts,
            activated: self.facts.activated,
            containers: u32::try_from(self.registry.after(None).count()).unwrap_or(u32::MAX),
            fdb_entries: stats.fdb_entries,
            fdb_capacity: stats.fdb_capacity,
            ageing: stats.ageing.as_secs(),
            group_forward: settings::group_list(stats.group_forward),
            spread: self.saver.spread(),
            workers: self.saver.workers(),
            collision: self.collision(),
            confinement: self.facts.confinement.clone(),
            journal: self.facts.journal.clone(),
            open_files: self.open_files(),
            open_files_limit: self.facts.open_files_limit,
        })
    }

    /// The directory of our own fds is not ours to read any more.
    fn open_files(&self) -> u64 {
        let files = self.registry.len() + self.watches.len() + self.sessions.len() + self.server.len();
        // Each further worker has an epoll instance and a waker, and second fds of its share of the ports.
        let further = usize::from(self.saver.workers().0).saturating_sub(1);
        let theirs = 2 * further + (self.registry.len() * further).div_ceil(further + 1);
        FIXED_FILES + u64::try_from(files + theirs).unwrap_or(u64::MAX)
    }

    fn containers(&self, after: Option<&str>) -> Result<Value> {
        let rows: Vec<_> =
            self.registry.after(after).take(PAGE_ROWS).map(|(container, port)| self.registry.row(container, port)).collect();
        let next = rows.last().filter(|_| rows.len() == PAGE_ROWS).map(|row| row.name.clone());
        value(Page { rows, next })
    }

    fn stats(&self) -> Result<Value> {
        let stats = self.worker.stats()?;
        let accounts = stats.accounts;
        let drop = |reason: &DropReason| counted::Drop {
            reason: reason.name().into(),
            frames: stats.drops.get(*reason),
            explanation: reason.explain().into(),
        };
        value(counted::Stats {
            rx: accounts.rx,
            from_uplink: accounts.from_uplink,
            generated: accounts.generated,
            copied: accounts.copied,
            tx: accounts.tx,
            to_uplink: accounts.to_uplink,
            consumed: accounts.consumed,
            held: accounts.held,
            dropped: accounts.dropped,
            balanced: accounts.balanced(),
            drops: DropReason::ALL.iter().map(drop).collect(),
            kernel_drops: stats.ports.iter().map(|(_, port)| port.kernel_drops).sum(),
            fdb_entries: stats.fdb_entries,
            fdb_capacity: stats.fdb_capacity,
            fdb_evicted: stats.fdb_evicted,
            groups: stats.groups,
            groups_full: stats.groups_full,
            nat: self.sessions()?,
            names: self.name_counts()?,
            events_lost: stats.events_lost,
            read: stats.read,
        })
    }

    fn ports(&self, from: u16) -> Result<Value> {
        let stats = self.worker.stats()?;
        let mut ports = stats.ports.iter().filter(|(id, _)| id.get() >= from);
        let rows: Vec<_> = ports.by_ref().take(PAGE_ROWS).map(|(id, stats)| self.port_row(*id, stats)).collect();
        value(Page { rows, next: ports.next().map(|(id, _)| id.get()) })
    }

    pub(super) fn port_row(&self, id: PortId, stats: &PortStats) -> types::Port {
        let counters = &stats.counters;
        types::Port {
            port: id.get(),
            name: self.registry.port_name(id).into(),
            r#type: stats.kind.into(),
            mtu: stats.mtu,
            offload: stats.offload,
            rx_frames: counters.rx_frames,
            rx_bytes: counters.rx_bytes,
            tx_frames: counters.tx_frames,
            tx_bytes: counters.tx_bytes,
            dropped: counters.drops.total(),
            drops: by_reason(&counters.drops),
            kernel_drops: stats.kernel_drops,
            fdb_entries: stats.fdb_entries,
            blocked: stats.blocked,
        }
    }
}

/// A watch that a client sent.
fn checked_watch(kind: WatchKind, fd: OwnedFd, ns: NsId) -> Result<Watch> {
    let kind = match kind {
        WatchKind::Process => netns::WatchKind::Process,
        WatchKind::Name { dir, file } if dir.is_absolute() => {
            netns::WatchKind::Name { dir, file, id: netns::NsId { dev: ns.dev, ino: ns.ino } }
        }
        WatchKind::Name { dir, .. } => bail!(VerbProblem::WatchDir { dir }),
    };
    let watch = Watch { fd, kind };
    if !watch.fd_fits() {
        bail!(VerbProblem::WatchFd);
    }
    Ok(watch)
}

fn by_reason(drops: &DropCounts) -> std::collections::BTreeMap<String, u64> {
    let counted = DropReason::ALL.iter().map(|reason| (reason.name().to_owned(), drops.get(*reason)));
    counted.filter(|(_, frames)| *frames > 0).collect()
}

fn vlan_and_mac(vlan: u16, mac: &str) -> Result<(Vid, Mac)> {
    let vid = Vid::new(vlan).context(VerbProblem::NoVlan { vlan })?;
    let mac = mac.parse().map_err(|error| VerbProblem::NoMac { mac: mac.into(), error })?;
    Ok((vid, mac))
}

fn port_error(error: PortError, name: &str) -> VerbProblem {
    match error {
        PortError::NoPort => VerbProblem::NoPortFree,
        PortError::Number => VerbProblem::PortGone { name: name.into() },
        PortError::MacTaken(mac) => VerbProblem::MacOfPort { mac },
    }
}
