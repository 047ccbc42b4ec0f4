//! The worker: one thread that owns a [`Datapath`] and breathes. Further ones read ports for it: see `worker/reader.rs`.
//!
//! A breath: wait for readiness (not at all while work is left), read the time once, resume floods, read each ready port for its turn, send
//! what packet ports queued, a few commands, a tick. mio is edge-triggered, so a port that was not read to its end stays on the
//! ready list.
//!
//! The control plane talks to it through a [`WorkerHandle`]: bounded channels, a waker each way. Port fds are closed by a small pool of
//! threads, for closing a TAP takes 20 ms; the pool grows at the end, for a process that exits closes its fds one after another.
use crate::asking::Asking;
use crate::capture::{Capture, Captured};
use crate::clock;
use crate::counters::{Carried, PortCounters, Stats};
use crate::datapath::{Datapath, Inhaled};
use crate::port::Port;
use crate::uplink::{self, Sockets};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use vswitch_nat::gateway::dhcp::LeaseNews;
use vswitch_nat::gateway::route::DhcpNews;
use vswitch_nat::gateway::{Gateway, GatewayConfig};
use vswitch_nat::inspect::GuardNews;
use vswitch_nat::wan::reach::RouterNews;
use vswitch_switch::fdb::{FdbError, FdbRow};
use vswitch_switch::groups::GroupRow;
use vswitch_switch::switch::PortError;
use vswitch_switch::{Mac, PortConfig, PortId, Switch, SwitchConfig, SwitchEvent, Time, Vid};

/// Commands that wait at the most.
const COMMAND_LIMIT: usize = 64;
/// Commands of one breath.
const COMMANDS_PER_BREATH: usize = 8;
/// Events for the control plane that wait at the most.
const EVENT_LIMIT: usize = 4_096;
/// Of them news of the switch: how many there are the network decides, and an end of a port must not be lost to them.
const NEWS_LIMIT: usize = EVENT_LIMIT / 2;
/// How long the control plane waits for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Threads that close fds.
const CLOSERS: usize = 4;
/// Threads that close what is left at the end.
const CLOSERS_AT_END: usize = 32;
/// Mirrors at the most, those whose file is slow to end included.
const CAPTURE_LIMIT: usize = 64;
/// Between ticks while anything ages; an idle switch sleeps for ever.
const TICK: Duration = Duration::from_secs(10);
/// FDB entries that a tick looks at.
const TICK_BUDGET: u32 = 8_192;
/// Between ticks of the NAT while it has sessions.
const NAT_TICK: Duration = Duration::from_secs(1);
/// Sessions of one timer that a tick of the NAT looks at: 0.5 ms.
const NAT_TICK_BUDGET: u32 = 4_096;
/// Between two looks for an uplink's interface that is down or gone.
const UPLINK_RETRY: Duration = Duration::from_secs(1);
/// Slots of the FDB behind one page.
const PAGE_SLOTS: u32 = 512;
const COMMANDS: Token = Token(usize::MAX);

/// What a worker starts with.
#[derive(Clone, Copy, Debug)]
pub struct WorkerConfig {
    /// The switch's.
    pub switch: SwitchConfig,
    /// The gateway's, if there is one.
    pub gateway: Option<GatewayConfig>,
    /// 128 bits that nobody outside knows, for the NAT.
    pub key: [u64; 2],
    /// Begins only with [`WorkerHandle::resume`].
    pub paused: bool,
    /// How many there are, 1 to [`MAX_WORKERS`]: all but the first read ports only.
    pub workers: usize,
}

/// What the worker tells on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerEvent {
    /// The interface is gone; the port was removed. The uplink's is waited for.
    PortGone(PortId),
    /// The uplink's interface is down or gone: once, until it is back or the uplink another.
    UplinkDown,
    /// It is back, and our addresses are announced there.
    UplinkUp,
    /// A port that was removed is closed: its interface and its namespace are free.
    Closed(Ticket),
    /// A mirror ended: its port went, its file could not be written, or it was asked to.
    MirrorEnded(Ticket, Captured),
    /// See [`SwitchEvent`].
    Switch(SwitchEvent),
    /// See [`GuardNews`].
    Guard(GuardNews),
    /// The kernel refuses echo sockets (net.ipv4.ping_group_range).
    PingForbidden,
    /// See [`DhcpNews`].
    Dhcp(DhcpNews),
    /// See [`RouterNews`].
    Router(RouterNews),
    /// See [`LeaseNews`].
    Lease(LeaseNews),
}

/// Names something that ends later than the call that asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

/// Why a mirror did not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MirrorError {
    /// There is no such port, or it has a mirror.
    Port,
    /// Too many mirrors, or no thread for it.
    TooMany,
}

/// The worker does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerError;

impl fmt::Display for WorkerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the worker does not answer: \"vswitch down\" and start again, and please report it with the log")
    }
}

impl std::error::Error for WorkerError {}

mod handle;
mod lookout;
mod reader;
mod reads;
use lookout::Lookout;
pub use reader::MAX_WORKERS;
use reader::{Bell, Place, Reader};

type Job = Box<dyn FnOnce(&mut Worker) + Send>;

/// Tells the control plane what happened.
#[derive(Clone, Debug)]
struct Teller {
    events: Sender<WorkerEvent>,
    notify: Arc<Waker>,
}

impl Teller {
    fn tell(&self, event: WorkerEvent) {
        // A control plane that does not keep up misses news, never frames.
        if self.events.try_send(event).is_ok() {
            let _ = self.notify.wake();
        }
    }

    fn takes_news(&self) -> bool {
        self.events.len() < NEWS_LIMIT
    }
}

/// A port to be closed.
#[derive(Debug)]
struct Closing {
    port: Port,
    ticket: Ticket,
}

fn closer(to_close: Receiver<Closing>, teller: Teller) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name("closer".into()).spawn(move || {
        for Closing { port, ticket } in to_close {
            drop(port);
            teller.tell(WorkerEvent::Closed(ticket));
        }
    })
}

/// The control plane's end.
#[derive(Debug)]
pub struct WorkerHandle {
    commands: Sender<Job>,
    events: Receiver<WorkerEvent>,
    waker: Arc<Waker>,
    thread: thread::JoinHandle<()>,
    closers: Vec<thread::JoinHandle<()>>,
    to_close: Receiver<Closing>,
    teller: Teller,
    tickets: AtomicU64,
    captures: Arc<AtomicUsize>,
}

/// The thread's state.
struct Worker {
    datapath: Datapath,
    poll: Poll,
    ready: VecDeque<PortId>,
    is_ready: Vec<bool>,
    commands: Receiver<Job>,
    teller: Teller,
    closers: Sender<Closing>,
    readers: Vec<Reader>,
    /// Whether they need not wake this thread.
    awake: Arc<AtomicBool>,
    /// Ports given to readers so far.
    placed: u32,
    running: bool,
    /// Frames are left to another process.
    paused: bool,
    /// What happened to sockets meanwhile.
    missed: Vec<(Token, uplink::Event)>,
    ticked: Time,
    nat_ticked: Time,
    /// The gateway has more to do than one breath allowed.
    more: bool,
    /// The control plane knows that the uplink is down.
    uplink_told: bool,
    /// When its interface was looked for.
    uplink_tried: Time,
    lookout: Lookout,
}

/// Starts the worker and its closers; `notify` is woken when there are events.
///
/// # Errors
/// No thread or no epoll instance.
pub fn spawn(config: WorkerConfig, notify: Arc<Waker>) -> io::Result<WorkerHandle> {
    let poll = Poll::new()?;
    let waker = Arc::new(Waker::new(poll.registry(), COMMANDS)?);
    let awake = Arc::new(AtomicBool::new(true));
    let bell = Bell { awake: Arc::clone(&awake), waker: Arc::clone(&waker) };
    let (commands, incoming) = bounded(COMMAND_LIMIT);
    let (outgoing, events) = bounded(EVENT_LIMIT);
    let teller = Teller { events: outgoing, notify };
    let (closing, to_close) = bounded::<Closing>(usize::from(vswitch_switch::port::MAX_PORTS));
    let closers = (0..CLOSERS).map(|_| closer(to_close.clone(), teller.clone())).collect::<io::Result<_>>()?;
    let workers = teller.clone();
    let further = 1..config.workers.clamp(1, MAX_WORKERS);
    let readers = further
        .map(|number| Reader::spawn(number, bell.clone(), closing.clone(), config.paused))
        .collect::<io::Result<Vec<_>>>()?;
    let thread = thread::Builder::new().name("worker".into()).spawn(move || {
        let datapath = Datapath::new(Switch::new(config.switch), config.gateway.map(|gateway| Gateway::new(gateway, config.key)));
        let mut worker = Worker {
            datapath,
            poll,
            ready: VecDeque::with_capacity(usize::from(vswitch_switch::port::MAX_PORTS)),
            is_ready: vec![false; PortId::UPLINK.index() + 1],
            commands: incoming,
            teller: workers,
            closers: closing,
            readers,
            awake,
            placed: 0,
            running: true,
            paused: config.paused,
            missed: Vec::new(),
            ticked: clock::now(),
            nat_ticked: clock::now(),
            more: false,
            uplink_told: false,
            uplink_tried: Time::ZERO,
            lookout: Lookout::default(),
        };
        if let Err(error) = worker.run() {
            tracing::error!("worker ended: {error}");
        }
    })?;
    let (tickets, captures) = (AtomicU64::new(0), Arc::default());
    Ok(WorkerHandle { commands, events, waker, thread, closers, to_close, teller, tickets, captures })
}

impl Worker {
    fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        while self.running {
            let idle =
                (self.paused || self.ready.is_empty()) && !self.datapath.is_flooding() && self.commands.is_empty() && !self.more;
            let idle = idle && self.falls_asleep();
            self.wait(&mut events, idle)?;
            self.awake.store(true, Ordering::SeqCst);
            let now = clock::now();
            for event in &events {
                if Asking::is_token(event.token()) {
                    // Kept by who asks until the next turn.
                    self.datapath.resolver_event(event.token());
                } else if Sockets::is_token(event.token()) {
                    let failed = event.is_error();
                    let closed = event.is_read_closed() || failed;
                    let (readable, writable) = (event.is_readable(), event.is_writable());
                    let happened = uplink::Event { readable, writable, closed, failed };
                    if self.paused {
                        // Edge-triggered: it is not said again.
                        self.missed.push((event.token(), happened));
                    } else {
                        self.datapath.socket_event(event.token(), happened, now);
                    }
                } else if event.token().0 == PortId::UPLINK.index() {
                    self.mark_ready(PortId::UPLINK);
                } else if let Some(id) = u16::try_from(event.token().0).ok().and_then(PortId::new) {
                    self.mark_ready(id);
                }
            }
            self.breathe(now);
        }
        Ok(())
    }

    /// How long nothing is due.
    fn until_deadline(&self, now: Time) -> Option<Duration> {
        let gateway = self.datapath.gateway.as_ref();
        let tick = self.datapath.switch.needs_tick().then_some(TICK);
        let nat = gateway.filter(|gateway| gateway.needs_tick()).map(|_| NAT_TICK);
        // A paused worker would only be late.
        let due = gateway
            .filter(|_| !self.paused)
            .and_then(Gateway::deadline)
            .map(|deadline| deadline.since(now) + Duration::from_millis(1));
        let is_down = !self.paused && self.datapath.uplink_is_down();
        let sockets = self.datapath.sockets_deadline().filter(|_| !self.paused);
        let sockets = sockets.map(|deadline| deadline.since(now) + Duration::from_millis(1));
        let groups = self.datapath.switch.deadline().filter(|_| !self.paused);
        let groups = groups.map(|deadline| deadline.since(now) + Duration::from_millis(1));
        let retry = is_down.then(|| self.uplink_tried.after(UPLINK_RETRY).since(now) + Duration::from_millis(1));
        tick.into_iter().chain(nat).chain(due).chain(sockets).chain(groups).chain(retry).min()
    }

    /// Looks once a second for an uplink's interface that is down or gone. Paused, it is another process's.
    fn tend_uplink(&mut self, now: Time) {
        if self.paused || !self.datapath.uplink_is_down() {
            return;
        }
        if !std::mem::replace(&mut self.uplink_told, true) {
            self.teller.tell(WorkerEvent::UplinkDown);
        }
        if now.since(self.uplink_tried) < UPLINK_RETRY {
            return;
        }
        self.uplink_tried = now;
        if self.datapath.revive_uplink(now) {
            self.uplink_told = false;
            self.teller.tell(WorkerEvent::UplinkUp);
            // Edge-triggered: what came before this look wakes nobody.
            self.mark_ready(PortId::UPLINK);
        }
    }

    fn mark_ready(&mut self, id: PortId) {
        if let Some(ready) = self.is_ready.get_mut(id.index())
            && !std::mem::replace(ready, true)
        {
            self.ready.push_back(id);
        }
    }

    fn breathe(&mut self, now: Time) {
        self.datapath.begin(now);
        let turns = if self.paused { 0 } else { self.ready.len() };
        for _ in 0..turns {
            let Some(id) = self.ready.pop_front() else { break };
            if let Some(ready) = self.is_ready.get_mut(id.index()) {
                *ready = false;
            }
            match self.datapath.inhale(id, now) {
                Inhaled::Idle => {}
                Inhaled::More => self.mark_ready(id),
                Inhaled::Gone => {
                    self.close(id, Ticket(0));
                    self.teller.tell(WorkerEvent::PortGone(id));
                }
            }
            self.datapath.flush_sockets(now);
        }
        let reads = self.take_reads(now);
        self.more =
            reads | (!self.paused && (self.tend_gateway(now) | self.datapath.serve_names(now) | self.datapath.serve_sockets(now)));
        self.datapath.exhale();
        while let Some(id) = self.datapath.found_gone() {
            self.mark_ready(id);
        }
        self.tend_uplink(now);
        for _ in 0..COMMANDS_PER_BREATH {
            let Ok(job) = self.commands.try_recv() else { break };
            job(self);
        }
        if now.since(self.ticked) >= TICK {
            self.ticked = now;
            self.datapath.switch.tick(now, TICK_BUDGET);
        }
        // What is not fetched stays in the switch, which counts what does not fit.
        while self.teller.takes_news()
            && let Some(event) = self.datapath.switch.next_event()
        {
            self.teller.tell(WorkerEvent::Switch(event));
        }
        while self.teller.takes_news()
            && let Some(news) = self.datapath.gateway.as_mut().and_then(Gateway::guard_news)
        {
            self.teller.tell(WorkerEvent::Guard(news));
        }
    }

    /// Lets go on what waited in the gateway, and ends what is idle. Says whether there is more to do.
    fn tend_gateway(&mut self, now: Time) -> bool {
        self.datapath.tend_groups(now);
        let mut more = self.datapath.drain_gateway(now);
        if let Some(news) = self.datapath.gateway.as_mut().and_then(Gateway::dhcp_news) {
            self.teller.tell(WorkerEvent::Dhcp(news));
        }
        if let Some(news) = self.datapath.gateway.as_mut().and_then(Gateway::router_news) {
            self.teller.tell(WorkerEvent::Router(news));
        }
        // What is not fetched stays in the gateway, which gives no lease meanwhile.
        while self.teller.takes_news()
            && let Some(news) = self.datapath.gateway.as_mut().and_then(|gateway| gateway.dhcp.news())
        {
            self.teller.tell(WorkerEvent::Lease(news));
        }
        if now.since(self.nat_ticked) >= NAT_TICK
            && let Some(gateway) = &mut self.datapath.gateway
        {
            let left = gateway.tick(now, NAT_TICK_BUDGET);
            if self.datapath.tick_sockets(now, NAT_TICK_BUDGET) {
                self.teller.tell(WorkerEvent::PingForbidden);
            }
            more |= left;
            if !left {
                self.nat_ticked = now;
            }
        }
        more
    }

    fn close(&mut self, id: PortId, ticket: Ticket) -> bool {
        let is_read_elsewhere = self.datapath.place(id).is_some();
        let removed = if id == PortId::UPLINK {
            self.uplink_told = false;
            self.datapath.set_uplink(None, 0)
        } else {
            if let Some(gateway) = &mut self.datapath.gateway {
                gateway.forget(id.get());
            }
            self.datapath.remove_port(id)
        };
        let Some(port) = removed else { return false };
        let closing = Closing { port, ticket };
        let left = match self.reader_of(id).filter(|_| is_read_elsewhere) {
            Some(reader) => reader.leave(id, closing),
            None => {
                if let Some(fd) = closing.port.fd() {
                    let _ = self.poll.registry().deregister(&mut SourceFd(&fd.as_raw_fd()));
                }
                Some(closing)
            }
        };
        if let Some(closing) = left {
            // The channel holds as many as there are ports.
            let _ = self.closers.try_send(closing);
        }
        true
    }

    fn add_port(&mut self, port: Port, config: PortConfig, mtu: u16) -> Result<PortId, PortError> {
        let id = self.datapath.add_port(port, config, mtu).map_err(|(port, error)| {
            let _ = self.closers.try_send(Closing { port, ticket: Ticket(0) });
            error
        })?;
        self.listen(id).map(|()| id)
    }

    /// Waits for a port from now on.
    fn listen(&mut self, id: PortId) -> Result<(), PortError> {
        if self.give_to_reader(id) {
            return Ok(());
        }
        let fd = self.datapath.port(id).and_then(Port::fd).map(|fd| fd.as_raw_fd());
        if let Some(fd) = fd
            && let Err(error) = self.poll.registry().register(&mut SourceFd(&fd), Token(id.index()), Interest::READABLE)
        {
            tracing::error!("port {id} cannot be waited for: {error}");
            self.close(id, Ticket(0));
            return Err(PortError::NoPort);
        }
        self.mark_ready(id);
        Ok(())
    }
}
