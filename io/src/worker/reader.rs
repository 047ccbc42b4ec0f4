//! Further workers: threads that read ports for the first one.
//!
//! Theory. What is decided has one owner, the first worker: its switch learns, its NAT gives out ports, and there is nothing that two could
//! give twice. What costs are the system calls, and of those the reads can be made elsewhere: a *reader* has second fds of its ports, reads
//! them in turns as the first worker does its own, and passes buffers on through a bounded queue, in order. The first worker gives a spare
//! buffer back for each, so both pools stay as large as they are; a reader without buffers waits. Writes stay where they are decided, for
//! the kernel serialises those to one fd anyway.
//!
//! Who sleeps is woken, who is awake is not: `awake` says whether the first worker looks at the queues anyway, `starved` whether a reader
//! waits for buffers. Each side sets its flag, then looks at the queue once more; the other fills the queue, then looks at the flag; a fence
//! between the two on both sides sees to it that one of them notices.
//!
//! A port's number may be another's by the time that a frame of it is looked at, so each has its *place*: which of those with that number.
use super::Closing;
use crate::datapath::{BYTES_PER_TURN, FRAMES_PER_TURN, Inhaled};
use crate::port::Port;
use crate::sys::batch::{BATCH, Received};
use crossbeam_channel::{Receiver, Sender, bounded};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::thread;
use std::time::Duration;
use vswitch_switch::{FrameBuf, FramePool, PortId};

/// Workers at the most, the first included.
pub const MAX_WORKERS: usize = 16;
/// Buffers of a reader: 8 MiB of address space, touched as needed.
const POOL_FRAMES: usize = 128;
const ORDERS: Token = Token(usize::MAX);
/// How long the first worker waits for a reader to stop.
const PATIENCE: Duration = Duration::from_secs(2);

/// Which port, and which of those with its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) port: PortId,
    pub(super) number: u32,
}

/// What a reader has for the first worker.
#[derive(Debug)]
pub(super) enum Read {
    /// A frame.
    Frame(Place, FrameBuf, Received),
    /// The interface is gone.
    Gone(Place),
}

impl Read {
    pub(super) const fn place(&self) -> Place {
        match self {
            Self::Frame(place, ..) | Self::Gone(place) => *place,
        }
    }
}

/// What the first worker wants of a reader.
enum Order {
    /// Read that one, a port on a second fd.
    Take(Place, Port),
    /// No more; and when its fd is closed the other one is to be, too.
    Leave(PortId, Closing),
    /// Not for now; say so when it is so.
    Pause(Sender<()>),
    /// Go on, with all of them.
    Resume,
    End,
}

/// The first worker's end of a reader.
#[derive(Debug)]
pub(super) struct Reader {
    reads: Receiver<Read>,
    spares: Sender<FrameBuf>,
    orders: Sender<Order>,
    waker: Waker,
    starved: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
    /// Taken out of the queue, and not to be gone on with yet.
    pub(super) next: Option<Read>,
    gives_back: bool,
    /// Taken so far.
    pub(super) frames: u64,
}

/// Tells a first worker that sleeps that there is something.
#[derive(Clone, Debug)]
pub(super) struct Bell {
    pub(super) awake: Arc<AtomicBool>,
    pub(super) waker: Arc<Waker>,
}

impl Bell {
    fn ring(&self) {
        fence(Ordering::SeqCst);
        if !self.awake.load(Ordering::SeqCst) && !self.awake.swap(true, Ordering::SeqCst) {
            // A worker whose epoll instance is gone reads nothing any more.
            let _ = self.waker.wake();
        }
    }
}

impl Reader {
    /// Starts one; `paused`, it waits for [`Reader::resume`].
    ///
    /// # Errors
    /// No thread or no epoll instance.
    pub(super) fn spawn(number: usize, bell: Bell, closers: Sender<Closing>, paused: bool) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), ORDERS)?;
        // As many as there are buffers, and each port's end.
        let (sender, reads) = bounded(POOL_FRAMES + usize::from(vswitch_switch::port::MAX_PORTS));
        let (spares, returned) = bounded(POOL_FRAMES);
        let (orders, incoming) = bounded(usize::from(vswitch_switch::port::MAX_PORTS));
        let starved = Arc::new(AtomicBool::new(false));
        let is_starved = Arc::clone(&starved);
        let thread = thread::Builder::new().name(format!("reader-{number}")).spawn(move || {
            let (ports, ready, pool) = (Vec::new(), VecDeque::new(), FramePool::new(POOL_FRAMES));
            let batch = Vec::with_capacity(BATCH);
            let mut it = Thread {
                poll,
                ports,
                ready,
                pool,
                batch,
                reads: sender,
                returned,
                orders: incoming,
                starved: is_starved,
                bell,
                closers,
                paused,
            };
            if let Err(error) = it.run() {
                tracing::error!("reader ended: {error}");
            }
        })?;
        Ok(Self { reads, spares, orders, waker, starved, thread: Some(thread), next: None, gives_back: false, frames: 0 })
    }

    /// Whether there is something to be taken.
    pub(super) fn has_reads(&self) -> bool {
        self.next.is_some() || !self.reads.is_empty()
    }

    /// The next of what was read.
    pub(super) fn take(&mut self) -> Option<Read> {
        self.next.take().or_else(|| self.reads.try_recv().ok())
    }

    /// A spare buffer in place of one that came.
    pub(super) fn give_back(&mut self, spare: FrameBuf) {
        // There is room for all that are out.
        let _ = self.spares.try_send(spare);
        self.frames += 1;
        self.gives_back = true;
    }

    /// Wakes a reader that waits for buffers, if it was given any.
    pub(super) fn feed(&mut self) {
        if !std::mem::take(&mut self.gives_back) {
            return;
        }
        fence(Ordering::SeqCst);
        if self.starved.load(Ordering::SeqCst) && self.starved.swap(false, Ordering::SeqCst) {
            let _ = self.waker.wake();
        }
    }

    fn order(&self, order: Order) -> Result<(), Order> {
        // It never waits for the first worker, so there is place soon.
        let sent = self.orders.send_timeout(order, PATIENCE).map_err(crossbeam_channel::SendTimeoutError::into_inner);
        let _ = self.waker.wake();
        sent
    }

    /// Has it read a port; says whether it does.
    pub(super) fn read(&self, place: Place, port: &Port) -> bool {
        port.second().is_ok_and(|second| self.order(Order::Take(place, second)).is_ok())
    }

    /// Has it read a port no more; the port is closed after that. It is given back where the reader is gone.
    pub(super) fn leave(&self, port: PortId, closing: Closing) -> Option<Closing> {
        match self.order(Order::Leave(port, closing)) {
            Err(Order::Leave(_, closing)) => Some(closing),
            Ok(()) | Err(_) => None,
        }
    }

    /// Stops it: when this is back nothing is read but what is in the queue.
    pub(super) fn pause(&self) {
        let (done, is_done) = bounded(1);
        if self.order(Order::Pause(done)).is_ok() {
            let _ = is_done.recv_timeout(PATIENCE);
        }
    }

    /// Lets it go on, or begin.
    pub(super) fn resume(&self) {
        let _ = self.order(Order::Resume);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.order(Order::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A port that is read here.
struct Held {
    place: Place,
    port: Port,
    is_ready: bool,
    is_gone: bool,
}

/// The thread's state.
struct Thread {
    poll: Poll,
    ports: Vec<Option<Held>>,
    ready: VecDeque<PortId>,
    pool: FramePool,
    batch: Vec<FrameBuf>,
    reads: Sender<Read>,
    returned: Receiver<FrameBuf>,
    orders: Receiver<Order>,
    starved: Arc<AtomicBool>,
    bell: Bell,
    closers: Sender<Closing>,
    paused: bool,
}

impl Thread {
    fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        loop {
            let idle = self.paused || self.ready.is_empty() || !self.has_buffers();
            let timeout = if idle && self.orders.is_empty() { None } else { Some(Duration::ZERO) };
            if let Err(error) = self.poll.poll(&mut events, timeout)
                && error.kind() != io::ErrorKind::Interrupted
            {
                return Err(error);
            }
            for event in &events {
                if let Some(id) = u16::try_from(event.token().0).ok().and_then(PortId::new) {
                    self.mark_ready(id);
                }
            }
            while let Ok(order) = self.orders.try_recv() {
                if !self.obey(order) {
                    return Ok(());
                }
            }
            let turns = if self.paused { 0 } else { self.ready.len() };
            for _ in 0..turns {
                let Some(id) = self.ready.pop_front() else { break };
                if let Some(Some(held)) = self.ports.get_mut(id.index()) {
                    held.is_ready = false;
                }
                match self.turn(id) {
                    Inhaled::Idle => {}
                    Inhaled::More => self.mark_ready(id),
                    Inhaled::Gone => self.gone(id),
                }
                self.bell.ring();
            }
        }
    }

    /// Whether there is a buffer to read into. If not, the first worker knows.
    fn has_buffers(&mut self) -> bool {
        self.fetch_spares();
        if self.pool.available() > 0 {
            return true;
        }
        self.starved.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.fetch_spares();
        self.pool.available() > 0
    }

    fn fetch_spares(&mut self) {
        while let Ok(spare) = self.returned.try_recv() {
            self.pool.put(spare);
        }
    }

    fn mark_ready(&mut self, id: PortId) {
        if let Some(Some(held)) = self.ports.get_mut(id.index())
            && !std::mem::replace(&mut held.is_ready, true)
        {
            self.ready.push_back(id);
        }
    }

    /// Says whether to go on.
    fn obey(&mut self, order: Order) -> bool {
        match order {
            Order::Take(place, port) => self.hold(place, port),
            Order::Leave(id, closing) => {
                self.let_go(id);
                // The channel holds as many as there are ports.
                let _ = self.closers.try_send(closing);
            }
            Order::Pause(done) => {
                self.paused = true;
                let _ = done.send(());
            }
            Order::Resume => self.paused = false,
            Order::End => return false,
        }
        true
    }

    fn hold(&mut self, place: Place, port: Port) {
        let id = place.port;
        self.let_go(id);
        let fd = port.fd().map(|fd| fd.as_raw_fd());
        if self.ports.len() <= id.index() {
            self.ports.resize_with(id.index() + 1, || None);
        }
        if let Some(slot) = self.ports.get_mut(id.index()) {
            *slot = Some(Held { place, port, is_ready: false, is_gone: false });
        }
        match fd.map(|fd| self.poll.registry().register(&mut SourceFd(&fd), Token(id.index()), Interest::READABLE)) {
            Some(Ok(())) => self.mark_ready(id),
            Some(Err(error)) => {
                tracing::error!("port {id} cannot be waited for: {error}");
                self.gone(id);
            }
            None => self.gone(id),
        }
    }

    fn let_go(&mut self, id: PortId) {
        if let Some(held) = self.ports.get_mut(id.index()).and_then(Option::take) {
            if let Some(fd) = held.port.fd() {
                let _ = self.poll.registry().deregister(&mut SourceFd(&fd.as_raw_fd()));
            }
            self.ready.retain(|ready| *ready != id);
        }
    }

    /// Tells once that a port is gone.
    fn gone(&mut self, id: PortId) {
        if let Some(Some(held)) = self.ports.get_mut(id.index())
            && !std::mem::replace(&mut held.is_gone, true)
        {
            let _ = self.reads.try_send(Read::Gone(held.place));
            self.bell.ring();
        }
    }

    /// Reads one port until it is empty or its turn is over.
    fn turn(&mut self, id: PortId) -> Inhaled {
        let Some(Some(held)) = self.ports.get_mut(id.index()) else { return Inhaled::Idle };
        let (mut frames, mut octets) = (0, 0);
        while frames < FRAMES_PER_TURN && octets < BYTES_PER_TURN {
            let before = frames;
            match &mut held.port {
                Port::Tap(tap) => {
                    let Some(mut frame) = self.pool.take() else { return Inhaled::More };
                    match tap.receive(&mut frame) {
                        Ok(len) => {
                            (frames, octets) = (frames + 1, octets + len);
                            let _ = self.reads.try_send(Read::Frame(held.place, frame, Received { octets: len, tag: None }));
                        }
                        Err(error) => {
                            self.pool.put(frame);
                            return Inhaled::of_tap(&error);
                        }
                    }
                }
                Port::Packet(socket) => {
                    while self.batch.len() < socket.batch()
                        && let Some(frame) = self.pool.take()
                    {
                        self.batch.push(frame);
                    }
                    if self.batch.is_empty() {
                        return Inhaled::More;
                    }
                    let mut received = [Received { octets: 0, tag: None }; BATCH];
                    let wanted = self.batch.len();
                    let count = socket.receive(&mut self.batch, &mut received);
                    for (frame, one) in self.batch.drain(..*count.as_ref().unwrap_or(&0)).zip(received) {
                        (frames, octets) = (frames + 1, octets + one.octets);
                        let _ = self.reads.try_send(Read::Frame(held.place, frame, one));
                    }
                    while let Some(frame) = self.batch.pop() {
                        self.pool.put(frame);
                    }
                    match count {
                        // A batch that is not full found the queue empty: what comes now wakes us again.
                        Ok(_) if frames - before < wanted => return Inhaled::Idle,
                        Ok(_) => {}
                        Err(_) if socket.is_gone() => return Inhaled::Gone,
                        Err(_) => return Inhaled::Idle,
                    }
                }
                Port::Memory(_) => return Inhaled::Idle,
            }
        }
        Inhaled::More
    }
}
