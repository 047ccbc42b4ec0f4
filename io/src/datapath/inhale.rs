//! Reading ports: a turn of bounded frames and octets, one frame at a time or a batch, metadata judged as it comes.
//!
//! A port whose flood of unknown unicast is not through is not read; what a batch brought beyond that flood waits in the port's backlog, in
//! order.
use super::*;
use std::io;

impl Inhaled {
    /// What a TAP's error means: EBADFD that its interface was removed.
    pub(crate) fn of_tap(error: &io::Error) -> Self {
        if error.raw_os_error() == Some(libc::EBADFD) { Self::Gone } else { Self::Idle }
    }
}

impl Datapath {
    /// Reads one port until it is empty or its turn is over.
    pub fn inhale(&mut self, id: PortId, now: Time) -> Inhaled {
        let (mut frames, mut octets, mut drained) = (0, 0, false);
        while frames < FRAMES_PER_TURN && octets < BYTES_PER_TURN {
            let Some(Some(attached)) = self.ports.get_mut(id.index()) else { return Inhaled::Idle };
            if attached.unknown > 0 {
                return Inhaled::More;
            }
            if let Some(frame) = attached.backlog.pop_front() {
                (frames, octets) = (frames + 1, octets + frame.len());
                self.from_port(id, frame, now);
                continue;
            }
            if attached.place.is_some() {
                return if attached.port.is_gone() { Inhaled::Gone } else { Inhaled::Idle };
            }
            if drained {
                return Inhaled::Idle;
            }
            match &mut attached.port {
                Port::Packet(_) => match self.inhale_batch(id, now) {
                    // A batch that is not full found the queue empty: what comes now wakes us again.
                    Ok((count, bytes, full)) => (frames, octets, drained) = (frames + count, octets + bytes, !full),
                    Err(end) => return end,
                },
                Port::Tap(_) | Port::Memory(_) => match self.inhale_one(id, now) {
                    Ok(bytes) => (frames, octets) = (frames + 1, octets + bytes),
                    Err(end) => return end,
                },
            }
        }
        Inhaled::More
    }

    /// Octets that have come in this breath, from ports and from sockets.
    #[must_use]
    pub const fn inhaled(&self) -> usize {
        self.inhaled
    }

    #[inline]
    fn inhale_one(&mut self, id: PortId, now: Time) -> Result<usize, Inhaled> {
        let Some(Some(attached)) = self.ports.get_mut(id.index()) else { return Err(Inhaled::Idle) };
        let Some(mut frame) = self.pool.take() else { return Err(Inhaled::More) };
        let read = match &mut attached.port {
            Port::Tap(tap) => tap.receive(&mut frame).map(|octets| Received { octets, tag: None }),
            Port::Memory(memory) => match memory.receive(&mut frame) {
                Some((octets, tag)) => Ok(Received { octets, tag }),
                None => Err(io::ErrorKind::WouldBlock.into()),
            },
            Port::Packet(_) => Err(io::ErrorKind::WouldBlock.into()),
        };
        match read {
            Ok(one) => {
                let octets = one.octets;
                let admitted = self.admit(id, &mut frame, one);
                self.received(id, frame, admitted, now);
                Ok(octets)
            }
            Err(error) => {
                self.pool.put(frame);
                Err(Inhaled::of_tap(&error))
            }
        }
    }

    /// Frames, octets, and whether the batch was full.
    fn inhale_batch(&mut self, id: PortId, now: Time) -> Result<(usize, usize, bool), Inhaled> {
        let Some(Some(attached)) = self.ports.get_mut(id.index()) else { return Err(Inhaled::Idle) };
        let Port::Packet(socket) = &mut attached.port else { return Err(Inhaled::Idle) };
        while self.batch.len() < socket.batch() {
            let Some(frame) = self.pool.take() else { break };
            self.batch.push(frame);
        }
        if self.batch.is_empty() {
            // All buffers wait for packet ports: send them.
            self.exhale();
            return Err(Inhaled::More);
        }
        let mut received = [Received { octets: 0, tag: None }; BATCH];
        let wanted = self.batch.len();
        let count = match socket.receive(&mut self.batch, &mut received) {
            Ok(count) => count,
            Err(_) => {
                let end = if socket.is_gone() { Inhaled::Gone } else { Inhaled::Idle };
                self.return_batch();
                return Err(end);
            }
        };
        let mut octets = 0;
        let mut batch = std::mem::take(&mut self.batch);
        let mut admitted = [Ok(()); BATCH];
        for ((frame, one), admitted) in batch.iter_mut().zip(received).zip(&mut admitted).take(count) {
            octets += one.octets;
            *admitted = self.admit(id, frame, one);
        }
        if count > 1
            && let Some(gateway) = &self.gateway
        {
            let side = if id == PortId::UPLINK { Side::Uplink } else { Side::Inside };
            gateway.look_ahead(side, batch.iter().take(count));
        }
        for (frame, admitted) in batch.drain(..count.min(wanted)).zip(admitted) {
            let behind = self.attached(id).is_some_and(|attached| attached.unknown > 0);
            if behind { self.hold_back(id, frame, admitted) } else { self.received(id, frame, admitted, now) }
        }
        self.batch = batch;
        self.return_batch();
        Ok((count, octets, count >= wanted))
    }

    /// Has a port's frames come by [`Datapath::take_in`], from that place.
    pub fn read_elsewhere(&mut self, id: PortId, place: u32) {
        if let Some(Some(attached)) = self.ports.get_mut(id.index()) {
            attached.place = Some(place);
        }
    }

    /// Where a port is read, if not here.
    #[must_use]
    pub fn place(&self, id: PortId) -> Option<u32> {
        self.attached(id).and_then(|attached| attached.place)
    }

    /// Whether a port takes a frame now: what waits behind a flood of it is no more than a batch.
    #[must_use]
    pub fn takes_in(&self, id: PortId) -> bool {
        self.attached(id).is_none_or(|attached| attached.backlog.len() < BATCH)
    }

    /// Takes a frame that was read elsewhere, and gives a spare buffer for it; the frame back where there is none. Says whether it waits, so
    /// that [`Datapath::inhale`] is to go on with it.
    ///
    /// # Errors
    /// The frame: there is no buffer in its place.
    pub fn take_in(&mut self, id: PortId, mut frame: FrameBuf, one: Received, now: Time) -> Result<(FrameBuf, bool), FrameBuf> {
        let Some(spare) = self.pool.take() else { return Err(frame) };
        let admitted = self.admit(id, &mut frame, one);
        let waits = self.attached(id).is_some_and(|attached| attached.unknown > 0 || !attached.backlog.is_empty());
        if waits {
            self.hold_back(id, frame, admitted)
        } else {
            self.received(id, frame, admitted, now)
        }
        Ok((spare, waits))
    }

    /// Counts a frame of a port that is gone.
    pub fn came_late(&mut self) {
        self.closed.rx_frames += 1;
        self.closed.drops.count(DropReason::PortGone);
    }

    /// A port that a send has found gone, and nobody reads here.
    pub fn found_gone(&mut self) -> Option<PortId> {
        self.gone.pop()
    }

    fn return_batch(&mut self) {
        while let Some(frame) = self.batch.pop() {
            self.pool.put(frame);
        }
    }

    /// A frame has come and was admitted, or not: lets it go its way.
    #[inline]
    fn received(&mut self, id: PortId, frame: FrameBuf, admitted: Result<(), DropReason>, now: Time) {
        match admitted {
            Ok(()) if id == PortId::UPLINK => self.uplink_gives(frame, now),
            Ok(()) => self.from_port(id, frame, now),
            Err(reason) => self.drop_frame(id, frame, reason),
        }
    }

    /// The same, once what it came behind is through.
    fn hold_back(&mut self, id: PortId, frame: FrameBuf, admitted: Result<(), DropReason>) {
        match admitted {
            Ok(()) => {
                if let Some(Some(attached)) = self.ports.get_mut(id.index()) {
                    attached.backlog.push_back(frame);
                }
            }
            Err(reason) => self.drop_frame(id, frame, reason),
        }
    }

    /// Judges a frame's metadata and counts it.
    #[inline]
    fn admit(&mut self, id: PortId, frame: &mut FrameBuf, one: Received) -> Result<(), DropReason> {
        let tpid = self.switch.port_config(id).map_or_else(Default::default, |config| config.tpid);
        let Some(Some(attached)) = self.ports.get_mut(id.index()) else { return Err(DropReason::PortGone) };
        attached.counters.rx_frames += 1;
        frame.receive(one.octets, one.tag, tpid)?;
        attached.counters.rx_bytes += frame.len() as u64;
        self.inhaled += frame.len();
        if let Some(capture) = &mut attached.capture {
            capture.offer(frame, frame.meta.tag);
        }
        Ok(())
    }
}
