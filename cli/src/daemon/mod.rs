//! The daemon: one control thread beside the worker. It holds who is attached, answers the command line, and waits for namespaces to go.
//!
//! It starts with whatever rights its user has, takes what needs them (run directory, lock, socket), and gives them up before the first
//! thread. Everything else comes to it as fds that the command line opened. It never waits for a peer: see [`crate::api::server`].
mod advert;
mod beginning;
mod confine;
mod events;
mod groups;
mod handover;
mod inspect;
mod judge;
mod leases;
mod log;
mod names;
pub mod network;
pub mod network6;
mod notify;
mod outside;
mod registry;
mod resolvers;
mod saver;
mod verbs;
mod watches;

use crate::api::events::EventKind;
use crate::api::server::{ConnectionId, Server};
use crate::api::types::{Answer, Mirrored, NsId};
use crate::args::Up;
use crate::errors::{self, DaemonProblem, VerbProblem};
use crate::rundir::{self, RunDir};
use crate::settings::{self, Unregistered};
use crate::state;
use anyhow::{Context, Result};
use beginning::Beginning;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use notify::Notify;
use registry::Registry;
pub use registry::{NAME_OCTETS, check_kind, check_name, holder};
use resolvers::Resolvers;
use saver::Saver;
use std::collections::HashMap;
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};
use vswitch_io::capture::Captured;
use vswitch_io::netns;
use vswitch_io::privilege;
use vswitch_io::sys::process;
use vswitch_io::worker::{self, Ticket, WorkerConfig, WorkerEvent, WorkerHandle};
use vswitch_switch::{PortId, SwitchConfig};
use watches::Watches;

const LISTENER: Token = Token(0);
const SIGNALS: Token = Token(1);
const WORKER: Token = Token(2);
const RESOLVERS: Token = Token(3);
const ROUTES: Token = Token(4);
const FIRST_CONNECTION: usize = 16;
const FIRST_WATCH: usize = 1_024;
/// Requests answered before the rest of the world has its turn.
const REQUESTS_PER_TURN: usize = 64;
/// How long a restart waits for what is under way.
const LEAVE_PATIENCE: Duration = Duration::from_secs(5);
/// Without a request for that long, a connection keeps no restart waiting.
const IDLE: Duration = Duration::from_millis(500);
/// Between two looks whether it may begin.
const LOOK: Duration = Duration::from_millis(20);
/// How long a detach waits for its port to be closed.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);

/// What a connection is in the middle of.
enum Session {
    Attaching { name: String, publish: Vec<String> },
    Detaching { ticket: Ticket, until: Instant },
    Mirroring { ticket: Ticket, port: PortId, name: String },
    Listening(events::Listener),
}

/// Another daemon waits to take over.
struct Leaving {
    /// Who asked.
    id: ConnectionId,
    channel: OwnedFd,
    until: Instant,
}

/// What does not change.
struct Facts {
    dir: RunDir,
    owner: u32,
    uid: u32,
    started: Instant,
    restarts: u32,
    activated: bool,
    /// As the lock file names this process.
    signature: String,
    confinement: String,
    journal: Option<String>,
    open_files_limit: u64,
    /// The network namespace it runs in: the host's.
    ns: NsId,
}

/// See the module's text.
struct Daemon {
    poll: Poll,
    signals: SignalFd,
    server: Server,
    worker: WorkerHandle,
    registry: Registry,
    outside: outside::Outside,
    resolvers: Option<Resolvers>,
    routes: advert::Routes,
    saver: Saver,
    watches: Watches,
    sessions: HashMap<ConnectionId, Session>,
    facts: Facts,
    news: log::Budget,
    /// Held as long as it is open, here or in the daemon that follows.
    lock: File,
    leaving: Option<Leaving>,
    /// The PID of another one that has taken over.
    left: Option<u32>,
    lost: events::Lost,
    running: bool,
}

/// Runs until it is told to end. `ready` is called once it answers, with the time for which no frame was read where another one was
/// taken over.
pub fn run(options: &Up, ready: impl FnOnce(Option<Duration>)) -> Result<()> {
    let owner = nix::unistd::geteuid().as_raw();
    let service = privilege::service_user();
    let dir = RunDir::of_user();
    let mut beginning = if options.take_over { Beginning::taken()? } else { Beginning::fresh(options, &dir, service)? };
    if options.detached {
        log::to_file(&dir, service)?;
    } else {
        log::to_stderr();
    }
    let (notify, journal) = (Notify::from_env(), if options.detached { None } else { notify::journal() });
    // /proc is out of reach later.
    let signature = rundir::signature()?;
    let ns = netns::NsId::own().map(|ns| NsId { dev: ns.dev, ino: ns.ino })?;
    let open_files_limit = process::raise_open_files().context(DaemonProblem::OpenFiles)?;
    // Blocked here, so that every thread inherits it: the signals come through an fd.
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
    signals.thread_block()?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    let routes = advert::Routes::open();
    let report = privilege::drop_privileges(&confine::confinement(&dir, service))?;
    let facts = Facts {
        dir: dir.clone(),
        owner,
        uid: report.identity.uid,
        started: beginning.started,
        restarts: beginning.restarts,
        activated: beginning.activated,
        signature,
        confinement: confine::describe(&report, owner),
        journal,
        open_files_limit,
        ns,
    };
    let mut channel = beginning.channel.take();
    let mut daemon = Daemon::start(beginning, (signals, routes), facts, channel.is_some())?;
    let gap = channel.as_mut().map(|channel| daemon.take_over(channel)).transpose()?;
    if channel.is_none() {
        // What needs no privilege and no choice is there from the start.
        daemon.begin_sockets()?;
    }
    daemon.advertise();
    if let Some(channel) = channel {
        channel.end();
    }
    let (network, gateway) = (daemon.registry.network, daemon.registry.network.gateway());
    tracing::info!("vswitch {} up: network {network}, gateway {} ({})", env!("CARGO_PKG_VERSION"), gateway.address, gateway.mac);
    ready(gap);
    notify.ready(&format!("network {network}"));
    let result = daemon.serve();
    match daemon.left {
        Some(pid) => notify.follower(pid),
        None => notify.stopping(),
    }
    tracing::info!("ending, {} attached{}", daemon.registry.len(), if daemon.left.is_some() { ", handed over" } else { "" });
    if daemon.left.is_none() && !daemon.facts.activated {
        let _ = std::fs::remove_file(dir.socket());
    }
    daemon.worker.stop();
    result
}

impl Daemon {
    fn start(beginning: Beginning, (signals, routes): (SignalFd, advert::Routes), facts: Facts, paused: bool) -> Result<Self> {
        let Beginning { network, fdb, group_forward, spread, workers, listener, lock, .. } = beginning;
        let poll = Poll::new().context(DaemonProblem::NoEvents)?;
        let notify = Arc::new(Waker::new(poll.registry(), WORKER).context(DaemonProblem::NoEvents)?);
        poll.registry()
            .register(&mut SourceFd(&signals.as_raw_fd()), SIGNALS, Interest::READABLE)
            .context(DaemonProblem::NoEvents)?;
        routes.register(poll.registry(), ROUTES).context(DaemonProblem::NoEvents)?;
        let resolvers = Resolvers::watched(poll.registry(), RESOLVERS);
        let server =
            Server::new(listener, facts.owner, poll.registry(), LISTENER, FIRST_CONNECTION).context(DaemonProblem::NoEvents)?;
        // The standard library's hash keys are the kernel's random numbers.
        let random = || RandomState::new().build_hasher().finish();
        let (seed, key) = (random(), [random(), random()]);
        let gateway = network.gateway();
        let saver = Saver::new(
            facts.dir.clone(),
            state::Network {
                subnet: network.subnet(),
                gateway: gateway.address,
                ageing: fdb.ageing.as_secs(),
                fdb_limit: fdb.entries,
                group_forward: settings::group_list(group_forward),
                ipv6: network.ipv6(),
                spread,
                workers,
            },
        );
        let flood_unregistered = spread.unregistered == Unregistered::Flood;
        let switch = SwitchConfig { mac: gateway.mac, fdb, group_forward, flood_unregistered, seed };
        let config = WorkerConfig { switch, gateway: Some(gateway), key, paused, workers: usize::from(workers.0) };
        let worker = worker::spawn(config, notify).context(DaemonProblem::NoWorker)?;
        worker.set_spread(Some(spread.suppress), None)?;
        let daemon = Self {
            poll,
            signals,
            server,
            worker,
            registry: Registry::new(network),
            outside: outside::Outside::default(),
            resolvers,
            routes,
            saver,
            watches: Watches::new(FIRST_WATCH),
            sessions: HashMap::new(),
            lock,
            leaving: None,
            left: None,
            facts,
            news: log::Budget::new(),
            lost: events::Lost::default(),
            running: true,
        };
        daemon.set_resolvers()?;
        Ok(daemon)
    }

    fn serve(&mut self) -> Result<()> {
        let mut events = Events::with_capacity(256);
        let mut more = false;
        while self.running {
            let timeout = if more { Some(Duration::ZERO) } else { self.until_deadline() };
            if let Err(error) = self.poll.poll(&mut events, timeout)
                && error.kind() != std::io::ErrorKind::Interrupted
            {
                return Err(error).context(DaemonProblem::NoEvents);
            }
            more = false;
            for event in &events {
                match event.token() {
                    LISTENER => {}
                    SIGNALS => self.running &= !matches!(self.signals.read_signal(), Ok(Some(_))),
                    WORKER => {}
                    RESOLVERS => self.resolvers_changed(),
                    ROUTES => more |= self.routes_changed(),
                    token if self.server.ready(token) => {}
                    token => self.vanished(token),
                }
            }
            if self.leaving.is_none() {
                more |= self.server.accept(self.poll.registry(), Instant::now());
            }
            more |= self.more_routes();
            self.fetch_news();
            for turn in 1..=REQUESTS_PER_TURN {
                let Some((id, verb, fds)) = self.server.next_request() else { break };
                self.handle(id, verb, fds);
                more |= turn == REQUESTS_PER_TURN;
            }
            self.sweep(Instant::now());
            self.expire_leases();
            more |= self.try_to_leave();
            self.tell_lost(Instant::now());
            if self.left.is_none() && self.saver.is_due(Instant::now()) {
                self.save();
            }
        }
        if let Some(leaving) = self.leaving.take() {
            self.answer(leaving.id, Err(DaemonProblem::ToldToEnd.into()));
        }
        if self.left.is_none() && self.saver.has_changed() {
            self.save();
        }
        Ok(())
    }

    /// Writes the state file.
    fn save(&mut self) {
        let addresses = self.addresses();
        self.saver.save(&self.registry, &self.outside, addresses, Instant::now());
    }

    /// Hands over to the daemon that waits for it, once nothing is half done. Says whether connections wait that were not taken meanwhile.
    fn try_to_leave(&mut self) -> bool {
        let Some(asked) = self.leaving.as_ref().map(|leaving| leaving.id) else { return false };
        // Listeners wait for nothing: they connect again. Nor do those that have asked nothing for a while.
        let listens = |session: &Session| matches!(session, Session::Listening(_));
        let waits = |id: &ConnectionId| *id != asked && !self.sessions.get(id).is_some_and(listens);
        let is_quiet = self.sessions.values().all(listens) && !self.server.active(IDLE, Instant::now()).any(|id| waits(&id));
        let Some(leaving) = self.leaving.take_if(|leaving| is_quiet || leaving.until <= Instant::now()) else {
            return false;
        };
        let result = self.hand_over(leaving.channel);
        match &result {
            Ok(()) => self.running = false,
            Err(error) => tracing::warn!("no restart: {error:#}"),
        }
        self.answer(leaving.id, result.and_then(|()| verbs::done()));
        true
    }

    fn until_deadline(&self) -> Option<Duration> {
        let detaching = self.sessions.values().filter_map(|session| match session {
            Session::Detaching { until, .. } => Some(*until),
            Session::Attaching { .. } | Session::Mirroring { .. } | Session::Listening(_) => None,
        });
        let leaving = self.leaving.as_ref().map(|leaving| leaving.until.min(Instant::now() + LOOK));
        let deadline = detaching.chain(self.server.deadline()).chain(leaving);
        let leases = self.leases_due().map(|due| Instant::now() + due);
        let deadline = deadline.chain(self.lost_deadline()).chain(self.saver.deadline()).chain(leases).min()?;
        // Rounded up: epoll counts milliseconds.
        Some(deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1))
    }

    /// Forgets connections that ended, and what they were in the middle of.
    fn sweep(&mut self, now: Instant) {
        let late: Vec<ConnectionId> = self
            .sessions
            .iter()
            .filter(|(_, session)| matches!(session, Session::Detaching { until, .. } if *until <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            self.sessions.remove(&id);
            self.answer(id, Err(VerbProblem::SlowKernel.into()));
        }
        for id in self.server.sweep(now) {
            self.outside.staged.remove(&id);
            match self.sessions.remove(&id) {
                Some(Session::Attaching { name, .. }) => drop(self.forget(&name, "its attach was given up")),
                Some(Session::Mirroring { port, .. }) => drop(self.worker.end_mirror(port)),
                Some(Session::Listening(_)) => self.unsubscribed(),
                Some(Session::Detaching { .. }) | None => {}
            }
        }
    }

    fn vanished(&mut self, token: Token) {
        for name in self.watches.ready(token) {
            self.forget(&name, "its namespace is gone");
        }
    }

    /// Takes a container out of everything; its port is closed soon after.
    fn forget(&mut self, name: &str, why: &str) -> Option<Ticket> {
        self.withdraw_all(name);
        let container = self.registry.remove(name)?;
        self.saver.mark();
        self.watches.remove(self.poll.registry(), name);
        self.sessions.retain(|_, session| !matches!(session, Session::Attaching { name: attaching, .. } if attaching == name));
        let port = container.port?;
        self.release_leases(port);
        tracing::info!("{name} (port {port}, {}) detached: {why}", container.ip);
        if container.ready {
            self.tell_of(EventKind::Detached, name, port, Some(why));
        }
        self.worker.remove_port(port).unwrap_or_else(|error| {
            tracing::error!("{error}");
            None
        })
    }

    /// Takes what the worker has to tell.
    fn fetch_news(&mut self) {
        while let Some(event) = self.worker.next_event() {
            match event {
                WorkerEvent::UplinkDown => self.uplink_link(false),
                WorkerEvent::UplinkUp => self.uplink_link(true),
                // Never told: it is waited for.
                WorkerEvent::PortGone(PortId::UPLINK) => {}
                WorkerEvent::PortGone(port) => {
                    let name = self.registry.port_name(port).to_owned();
                    self.forget(&name, "its interface is gone");
                }
                WorkerEvent::Closed(ticket) => self.closed(ticket),
                WorkerEvent::MirrorEnded(ticket, captured) => self.mirror_ended(ticket, captured),
                WorkerEvent::Switch(event) => self.switch_event(event),
                WorkerEvent::Guard(news) => self.guard_news(news),
                WorkerEvent::PingForbidden => tracing::warn!(
                    "the kernel lets us send no echo: containers ping the gateway and each other only; \
                     \"sysctl -w net.ipv4.ping_group_range='0 2147483647'\" allows it"
                ),
                WorkerEvent::Dhcp(news) => self.dhcp_news(news),
                WorkerEvent::Router(news) => self.router_news(news),
                WorkerEvent::Lease(news) => self.lease_news(news),
            }
        }
    }

    fn closed(&mut self, closed: Ticket) {
        let waits = |session: &Session| matches!(session, Session::Detaching { ticket, .. } if *ticket == closed);
        if let Some(id) = self.sessions.iter().find(|(_, session)| waits(session)).map(|(id, _)| *id) {
            self.sessions.remove(&id);
            self.answer(id, verbs::done());
        }
    }

    fn mirror_ended(&mut self, ended: Ticket, captured: Captured) {
        let of = |session: &Session| matches!(session, Session::Mirroring { ticket, .. } if *ticket == ended);
        let Some(id) = self.sessions.iter().find(|(_, session)| of(session)).map(|(id, _)| *id) else { return };
        self.sessions.remove(&id);
        let result = match captured.error {
            None => Ok(serde_json::to_value(Mirrored { frames: captured.written, lost: captured.lost }).unwrap_or_default()),
            Some(errno) => {
                let error = std::io::Error::from_raw_os_error(errno);
                Err(VerbProblem::MirrorNotWritten { error, frames: captured.written }.into())
            }
        };
        self.answer(id, result);
        self.server.close(id);
    }

    fn answer(&mut self, id: ConnectionId, result: Result<serde_json::Value>) {
        let answer = match result {
            Ok(value) => Answer::Ok(value),
            Err(error) => Answer::Error(errors::line(&error)),
        };
        self.server.answer(id, &answer, Instant::now());
    }
}
