//! From the host's sockets to containers: control segments first, then what sockets have, flow after flow, a frame at a time.
use super::*;

impl Sockets {
    pub(in crate::uplink::socket) fn poll_tcp(
        &mut self,
        gateway: &mut Gateway,
        pool: &mut FramePool,
        now: Time,
    ) -> Option<FrameBuf> {
        while let Some((slot, expired)) = gateway.exchange_mut().and_then(|(exchange, ..)| exchange.flows.expire(now)) {
            match expired {
                Expired::Goes => {
                    // What is to be sent again is in the socket.
                    if let Some(stream) = self.stream(slot)
                        && !std::mem::replace(&mut stream.is_listed, true)
                    {
                        self.ready.push_back(slot);
                    }
                }
                Expired::Abort => {
                    if let Some(stream) = self.stream(slot) {
                        let _ = stream.socket.set_linger(Some(Duration::ZERO));
                    }
                    self.forget(slot);
                }
            }
        }
        if let Some(frame) = self.poll_told(gateway, pool, now) {
            return Some(frame);
        }
        if let Some(frame) = self.poll_control(gateway, pool, now) {
            return Some(frame);
        }
        while let Some(&slot) = self.ready.front() {
            let frame = pool.take()?;
            match self.pump(gateway, slot, frame, now) {
                Pumped::Sent(frame) => {
                    // Its turn is over: the next frame is another's.
                    self.ready.rotate_left(1);
                    return Some(frame);
                }
                Pumped::Idle(frame) => {
                    pool.put(frame);
                    self.ready.pop_front();
                    if let Some(stream) = self.stream(slot) {
                        stream.is_listed = false;
                    }
                    // Its end, or a reset, is to be said.
                    if let Some(frame) = self.poll_control(gateway, pool, now) {
                        return Some(frame);
                    }
                }
            }
        }
        None
    }

    /// Acknowledgements and the like; a flow that has said all may be over.
    fn poll_control(&mut self, gateway: &mut Gateway, pool: &mut FramePool, now: Time) -> Option<FrameBuf> {
        while let Some((slot, frame)) = gateway.exchange_mut().and_then(|(exchange, ..)| exchange.flows.poll(pool, now)) {
            if frame.is_some() {
                return frame;
            }
            self.settle(gateway, slot);
        }
        None
    }

    /// Closes a flow that is over, once its spill is through.
    pub(super) fn settle(&mut self, gateway: &mut Gateway, slot: u32) {
        let over =
            gateway.exchange().and_then(|exchange| exchange.flows.get(slot)).is_some_and(|flow| flow.tcp.state() == State::Over);
        if !over {
            return;
        }
        if let Some(stream) = self.stream(slot) {
            if stream.spilled() > 0 {
                return;
            }
            // A socket that is closed with something unread resets the connection.
            stream.consume();
        }
        self.close(gateway, slot);
    }

    /// One frame of what a flow's socket has.
    fn pump(&mut self, gateway: &mut Gateway, slot: u32, mut frame: FrameBuf, now: Time) -> Pumped {
        let Some((exchange, ..)) = gateway.exchange_mut() else { return Pumped::Idle(frame) };
        let Some(flow) = exchange.flows.get_mut(slot) else { return Pumped::Idle(frame) };
        let Some(stream) = self.tcp.get_mut(slot as usize).and_then(Option::as_mut) else { return Pumped::Idle(frame) };
        if flow.tcp.take_seek() && stream.peeks {
            let _ = socket::set_peek_offset(&stream.socket, stream.unconsumed + flow.tcp.in_flight());
            stream.readable = true;
        }
        if !stream.readable || !flow.tcp.takes_data() {
            return Pumped::Idle(frame);
        }
        let (mss, is_v6) = (flow.tcp.mss(), flow.inside.is_ipv6());
        let room = (flow.tcp.may_send() as usize).min(longest(is_v6, mss));
        if room == 0 {
            flow.tcp.stall(now);
            exchange.flows.touched(slot);
            return Pumped::Idle(frame);
        }
        let wanted = if room > usize::from(mss) { room / usize::from(mss) * usize::from(mss) } else { room };
        let headers = tcp_headers(is_v6);
        if !frame.begin(headers + wanted) {
            return Pumped::Idle(frame);
        }
        let into = frame.bytes_mut().get_mut(headers..).unwrap_or_default();
        let peeked = if stream.peeks {
            socket::peek(&stream.socket, into)
        } else {
            self.waste.resize(1 << 16, 0);
            let skip = (stream.unconsumed + flow.tcp.in_flight()) as usize;
            socket::peek_behind(&stream.socket, skip, &mut self.waste, into)
        };
        match peeked {
            Ok(0) => {
                stream.readable = false;
                flow.tcp.end(now);
                exchange.flows.touched(slot);
                exchange.flows.is_due(slot);
                Pumped::Idle(frame)
            }
            Ok(len) => {
                // A stream that is closed has nothing behind what is less than asked for (epoll(7)); a reset one is told by its next peek.
                let is_last = len < wanted && stream.closed && !stream.failed;
                stream.readable = !is_last && (len == wanted || stream.closed);
                let emit = if is_last { flow.tcp.send_last(len as u32, now) } else { flow.tcp.send(len as u32, now) };
                if is_last {
                    exchange.flows.is_due(slot);
                }
                let Some(flow) = exchange.flows.get_mut(slot) else { return Pumped::Idle(frame) };
                let (link, remote, inside) = (flow.link, flow.remote, flow.inside);
                let written = write_tcp(&mut frame, link, remote, inside, &emit, len, mss);
                flow.count_in(frame.len() - ETHERNET_HEADER);
                exchange.flows.touched(slot);
                if written { Pumped::Sent(frame) } else { Pumped::Idle(frame) }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                stream.readable = false;
                Pumped::Idle(frame)
            }
            Err(_) => {
                self.broken(gateway, slot);
                Pumped::Idle(frame)
            }
        }
    }

    /// The ICMP error about a SYN whose connection could not be.
    fn poll_told(&mut self, gateway: &mut Gateway, pool: &mut FramePool, now: Time) -> Option<FrameBuf> {
        while let Some((flow, error, source)) = self.told.pop_front() {
            let Some(mut frame) = pool.take() else {
                self.told.push_front((flow, error, source));
                return None;
            };
            let link = Link { dst: flow.link.src, src: flow.link.dst };
            let syn = Emit { seq: flow.tcp.first(), ack: 0, flags: flags::SYN, window: 0xffff, offer: None };
            let written = write_tcp(&mut frame, link, flow.inside, flow.remote, &syn, 0, u16::MAX);
            if !written {
                pool.put(frame);
                continue;
            }
            match gateway.complain(frame, flow.owner.port, error, source, now) {
                Ok(frame) => return Some(frame),
                Err(frame) => pool.put(frame),
            }
        }
        None
    }
}

enum Pumped {
    Sent(FrameBuf),
    Idle(FrameBuf),
}
