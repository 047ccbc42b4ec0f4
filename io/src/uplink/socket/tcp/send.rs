//! From containers to the host's sockets: what is held goes out in one call, what is not taken is spilled, and what containers have is taken
//! out of the sockets.
use super::*;

impl Sockets {
    /// The container's FIN goes on, once all before it has gone.
    pub(super) fn end_of_container(&mut self, slot: u32) {
        let waits = self.held.iter().any(|held| held.slot == slot);
        if let Some(stream) = self.stream(slot)
            && stream.finish
            && !waits
            && stream.spilled() == 0
        {
            stream.finish = false;
            let _ = stream.socket.shutdown(Shutdown::Write);
        }
    }

    /// Sends what is held, and takes out what containers have. Gives the buffers back.
    pub fn flush(&mut self, gateway: &mut Gateway, pool: &mut FramePool, now: Time) {
        self.flush_datagrams(gateway, pool, now);
        let count = self.held.len();
        let mut held = std::mem::take(&mut self.held);
        let first = |at: usize| held.iter().position(|other| held.get(at).is_some_and(|one| one.slot == other.slot)) == Some(at);
        let crowd = (0..held.len()).filter(|at| first(*at)).count();
        self.crowd = u32::try_from(crowd).unwrap_or(1).max(self.crowd - self.crowd / 8).max(1);
        while let Some(slot) = held.first().map(|first| first.slot) {
            self.send_held(gateway, slot, &held);
            let mut at = 0;
            while at < held.len() {
                if held.get(at).is_some_and(|held| held.slot == slot) {
                    pool.put(held.remove(at).frame);
                } else {
                    at += 1;
                }
            }
            self.end_of_container(slot);
        }
        self.held = held;
        self.done += count as u64;
        self.consume(gateway, now);
    }

    /// One flow's payloads, in their order.
    pub(super) fn send_held(&mut self, gateway: &mut Gateway, slot: u32, held: &[Held]) {
        let Some(stream) = self.tcp.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        let own = || held.iter().filter(|held| held.slot == slot);
        let payload = |held: &Held| {
            held.frame.bytes().get(held.start..held.start + held.len).map_or(0..0, |_| held.start..held.start + held.len)
        };
        let total: usize = own().map(|held| held.len).sum();
        let mut sent = 0;
        if stream.spilled() == 0 {
            let mut pieces = [IoSlice::new(&[]); socket::PIECES];
            let mut count = 0;
            for (piece, held) in pieces.iter_mut().zip(own()) {
                *piece = IoSlice::new(held.frame.bytes().get(payload(held)).unwrap_or_default());
                count += 1;
            }
            match socket::send(&stream.socket, pieces.get(..count).unwrap_or_default()) {
                Ok(octets) => sent = octets,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return self.broken(gateway, slot),
            }
        }
        // What spills is copied: a socket that is full is given less at a time, one that takes all is given more.
        stream.room = if sent < total {
            (stream.room / 2).max(LEAST_ROOM)
        } else {
            stream.room.saturating_add(u32::try_from(sent).unwrap_or(u32::MAX)).min(SPILL)
        };
        if sent < total {
            let mut skip = sent;
            for held in own() {
                let octets = held.frame.bytes().get(payload(held)).unwrap_or_default();
                let rest = octets.get(skip.min(octets.len())..).unwrap_or_default();
                skip = skip.saturating_sub(octets.len());
                stream.spill.extend_from_slice(rest);
                self.spilled += rest.len();
            }
        }
        self.regrant(gateway, slot);
    }

    /// What the host's side can take has changed.
    pub(super) fn regrant(&mut self, gateway: &mut Gateway, slot: u32) {
        let Some(stream) = self.tcp.get(slot as usize).and_then(Option::as_ref) else { return };
        let room = if self.spilled >= SPILL_ALL / 2 { LEAST_ROOM } else { stream.room.min((AHEAD / self.crowd).max(LEAST_ROOM)) };
        let room = room.saturating_sub(u32::try_from(stream.spilled()).unwrap_or(u32::MAX));
        if let Some((exchange, ..)) = gateway.exchange_mut()
            && let Some(flow) = exchange.flows.get_mut(slot)
        {
            flow.tcp.grant(room);
            exchange.flows.is_due(slot);
        }
    }

    /// Takes out of sockets what containers have, or leaves it there for a while.
    pub(super) fn consume(&mut self, gateway: &Gateway, now: Time) {
        let flying = |slot| gateway.exchange().and_then(|exchange| exchange.flows.get(slot)).map_or(0, |flow| flow.tcp.in_flight());
        let mut lazy = std::mem::take(&mut self.lazy);
        for slot in lazy.drain(..) {
            let Some(stream) = self.tcp.get_mut(slot as usize).and_then(Option::as_mut) else { continue };
            // The next acknowledgement brings it back, or the end of its time.
            stream.is_lazy = false;
            let flying = flying(slot);
            if !stream.may_leave(flying) {
                stream.take_out(flying);
            }
            if stream.unconsumed > 0 && !std::mem::replace(&mut stream.is_left, true) {
                self.left.push(slot);
                self.left_until.get_or_insert(now.after(LEFT_FOR));
            }
        }
        self.lazy = lazy;
        if self.left_until.is_some_and(|until| until <= now) {
            self.left_until = None;
            let mut left = std::mem::take(&mut self.left);
            for slot in left.drain(..) {
                let Some(stream) = self.tcp.get_mut(slot as usize).and_then(Option::as_mut) else { continue };
                stream.is_left = false;
                stream.take_out(flying(slot));
            }
            self.left = left;
        }
    }

    pub(super) fn drain_spill(&mut self, gateway: &mut Gateway, slot: u32) {
        let Some(stream) = self.tcp.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        if stream.spilled() == 0 {
            return;
        }
        let rest = stream.spill.get(stream.sent..).unwrap_or_default();
        match socket::send(&stream.socket, &[IoSlice::new(rest)]) {
            Ok(octets) => {
                stream.sent += octets;
                self.spilled -= octets;
                if stream.spilled() == 0 {
                    stream.spill = Vec::new();
                    stream.sent = 0;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => return self.broken(gateway, slot),
        }
        self.end_of_container(slot);
        self.regrant(gateway, slot);
    }
}
