//! What `io/src/asking.rs` does, with sockets that are none.
use super::*;

impl World {
    /// What `Asking::ask` does.
    fn next(&mut self, slot: u32) {
        self.lines.remove(&slot);
        while let Some(ask) = self.gateway.names.next(slot, self.now) {
            let (message, by_tcp) = (ask.message.to_vec(), ask.by_tcp);
            let Some(read) = Read::of_query(&message) else { panic!("no query") };
            assert!(!read.is_ours(), "a resolver is told of {:?}", read.labels);
            self.tries = self.tries.wrapping_add(1);
            if self.unreachable >> (self.tries & 7) & 1 == 0 {
                self.lines.insert(slot, Line { message, by_tcp });
                return;
            }
        }
    }

    /// What a resolver says, or that it says nothing more.
    pub(super) fn say(&mut self, slot: u32, said: Option<Vec<u8>>) {
        let Some(line) = self.lines.get(&slot) else { return };
        let by_tcp = line.by_tcp;
        let Some(mut message) = said.filter(|said| !by_tcp || !said.is_empty() && said.len() <= 65_535) else {
            return self.next(slot);
        };
        message.truncate(65_507);
        match (self.gateway.names.answered(slot, &mut message, self.now), by_tcp) {
            (Answered::Ignored, false) => {}
            (Answered::Next, _) | (Answered::Ignored, true) => self.next(slot),
            (Answered::Told, _) => drop(self.lines.remove(&slot)),
            (Answered::Deliver(client), by_tcp) => {
                self.lines.remove(&slot);
                assert!(!by_tcp, "by UDP what was asked by TCP");
                if self.gateway.stations.is_current(client.owner) {
                    self.judge_message(client.inside, &message, false);
                }
            }
        }
    }

    /// What `Asking::poll` does for what is no socket's.
    fn poll_datagrams(&mut self) -> bool {
        let changes = self.gateway.stations.changes();
        if std::mem::replace(&mut self.changes, changes) != changes {
            for slot in self.gateway.names.end(&self.gateway.stations) {
                self.lines.remove(&slot);
            }
        }
        while let Some(slot) = self.gateway.names.expire(self.now) {
            self.next(slot);
        }
        while let Some((client, message)) = self.gateway.names.poll(self.now) {
            if self.gateway.stations.is_current(client.owner) {
                self.judge_message(client.inside, &message, true);
                return true;
            }
        }
        false
    }

    fn poll_streams(&mut self) -> bool {
        let Some(frame) = self.gateway.poll_streams(&mut self.pool, self.now) else { return false };
        self.judge(frame, true);
        true
    }

    /// A breath, or as many as there is something to do.
    pub(super) fn turn(&mut self) {
        for _ in 0..20_000 {
            self.streams_first = !self.streams_first;
            let did = self.streams_first && self.poll_streams() || self.poll_datagrams() || self.poll_streams();
            if !did && !self.gateway.names.has_work() {
                while let Some(routed) = self.gateway.poll_output(&mut self.pool, self.now) {
                    match routed {
                        Routed::Generated(Side::Inside, frame) | Routed::Consumed(frame) | Routed::Drop(frame, _) => {
                            self.pool.put(frame)
                        }
                        other @ (Routed::Generated(..)
                        | Routed::Reply(..)
                        | Routed::Refuse(..)
                        | Routed::Forward(..)
                        | Routed::Socket(_)
                        | Routed::Held) => panic!("{other:?}"),
                    }
                }
                assert_eq!(self.lines.len(), self.gateway.names.queries().len(), "a socket a query");
                let gone = self.clients.iter().filter(|(_, client)| !self.gateway.stations.is_current(client.owner));
                assert!(gone.into_iter().all(|(inside, _)| !self.is_open(*inside)), "a connection of one that went");
                return;
            }
        }
        panic!("a turn without an end");
    }
}
