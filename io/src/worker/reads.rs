//! What readers have read, in the first worker.
use super::reader::Read;
use super::*;
use std::sync::atomic::fence;

/// Frames of one reader in one breath: as many as four ports' turns.
const FRAMES_PER_READER: usize = 4 * crate::datapath::FRAMES_PER_TURN;

impl Worker {
    /// Who reads a port: none but this thread where it is the first's, or the uplink.
    pub(super) fn reader_of(&self, id: PortId) -> Option<&Reader> {
        let of = id.index() % (self.readers.len() + 1);
        self.readers.get(of.checked_sub(1)?).filter(|_| id != PortId::UPLINK)
    }

    /// Has a reader read a port, if it is one's; says whether it does.
    pub(super) fn give_to_reader(&mut self, id: PortId) -> bool {
        self.placed = self.placed.wrapping_add(1);
        let place = Place { port: id, number: self.placed };
        let (Some(reader), Some(port)) = (self.reader_of(id), self.datapath.port(id)) else { return false };
        if !reader.read(place, port) {
            return false;
        }
        self.datapath.read_elsewhere(id, place.number);
        true
    }

    /// Whether this thread may sleep: from now on readers wake it.
    pub(super) fn falls_asleep(&self) -> bool {
        self.awake.store(false, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let waits = !self.paused && self.readers.iter().any(Reader::has_reads);
        if waits {
            self.awake.store(true, Ordering::SeqCst);
        }
        !waits
    }

    /// Goes on with what readers have read, a bounded number of frames. Says whether there may be more.
    pub(super) fn take_reads(&mut self, now: Time) -> bool {
        if self.paused || self.readers.is_empty() {
            return false;
        }
        let mut more = false;
        for index in 0..self.readers.len() {
            let mut budget = FRAMES_PER_READER;
            while budget > 0 && self.take_read(index, now) {
                budget -= 1;
            }
            if let Some(reader) = self.readers.get_mut(index) {
                reader.feed();
                more |= reader.has_reads();
            }
            self.datapath.flush_sockets(now);
        }
        more
    }

    /// One of them; says whether it could be.
    fn take_read(&mut self, index: usize, now: Time) -> bool {
        let Some(reader) = self.readers.get_mut(index) else { return false };
        let Some(read) = reader.take() else { return false };
        let Place { port: id, number } = read.place();
        let is_there = self.datapath.place(id) == Some(number);
        match read {
            Read::Frame(_, frame, _) if !is_there => {
                self.datapath.came_late();
                reader.give_back(frame);
            }
            Read::Gone(_) if !is_there => {}
            Read::Gone(_) => {
                self.close(id, Ticket(0));
                self.teller.tell(WorkerEvent::PortGone(id));
            }
            read @ Read::Frame(..) if !self.datapath.takes_in(id) => {
                reader.next = Some(read);
                return false;
            }
            Read::Frame(place, frame, one) => match self.datapath.take_in(id, frame, one, now) {
                Ok((spare, waits)) => {
                    reader.give_back(spare);
                    if waits {
                        self.mark_ready(id);
                    }
                }
                Err(frame) => {
                    reader.next = Some(Read::Frame(place, frame, one));
                    // All buffers wait for packet ports: send them.
                    self.datapath.exhale();
                    return false;
                }
            },
        }
        true
    }

    /// Stops the readers, and goes on with what they have read: after that nothing of it is missing.
    pub(super) fn pause_readers(&mut self, now: Time) {
        self.readers.iter().for_each(Reader::pause);
        for index in 0..self.readers.len() {
            // Bounded: nothing is added, and settling frees what a frame waits for.
            while self.readers.get(index).is_some_and(Reader::has_reads) {
                if !self.take_read(index, now) {
                    self.datapath.settle(now);
                }
            }
            if let Some(reader) = self.readers.get_mut(index) {
                reader.feed();
            }
        }
    }
}
