use super::*;
use crate::packet::tcp::{ACK, FIN, PSH, RST, SYN};
use std::vec::Vec;

/// The numbers of the two SYNs, ours near the end of sequence space: every test that sends enough goes across it.
const OURS: u32 = 0xffff_fc00;
const THEIRS: u32 = 0x7fff_ffff;
/// What the container announces, and its window.
const MSS: u32 = 1_000;
const WINDOW: u16 = 8_000;
/// What we grant at first (0xffff) as it is told scaled.
const FIRST: u32 = 0xff00;
const BEGIN: Time = Time::from_secs(1_000);

/// A segment of ours with numbers counted from the first octet of each direction, the window in octets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Said {
    flags: u8,
    at: i64,
    ack: i64,
    window: u32,
}

/// The container's end of a machine, spoken by hand.
struct Line {
    tcp: Tcp,
    now: Time,
    window: u16,
}

fn relative(number: u32, first: u32) -> i64 {
    i64::from(number.wrapping_sub(first).wrapping_sub(1).cast_signed())
}

fn syn() -> Segment {
    Segment { seq: THEIRS, flags: SYN, window: WINDOW, scale: Some(0), mss: Some(MSS as u16), ..Segment::default() }
}

impl Line {
    fn of(tcp: Tcp) -> Self {
        Self { tcp, now: BEGIN, window: WINDOW }
    }

    fn connecting() -> Self {
        Self::of(Tcp::accept(&syn(), OURS, 1_460, BEGIN))
    }

    fn received() -> Self {
        let mut line = Self::connecting();
        line.tcp.connected(BEGIN);
        assert_eq!(line.polled().map(|emit| emit.flags), Some(SYN | ACK));
        line
    }

    fn asked() -> Self {
        let mut line = Self::of(Tcp::dial(OURS, 1_460, BEGIN));
        assert_eq!(line.polled().map(|emit| emit.flags), Some(SYN));
        line
    }

    /// By the container.
    fn accepted() -> Self {
        let mut line = Self::received();
        assert_eq!(line.hears(ACK, 0, 0, 0), Taken::default());
        line.is_quiet();
        line
    }

    /// By the host.
    fn dialled() -> Self {
        let mut line = Self::asked();
        let answer = Segment { flags: SYN | ACK, ack: OURS.wrapping_add(1), ..syn() };
        assert_eq!(line.tcp.segment(&answer, BEGIN), Taken::default());
        assert_eq!(line.acks(), (0, FIRST));
        line
    }

    fn both() -> [Self; 2] {
        [Self::accepted(), Self::dialled()]
    }

    /// The container sends `len` octets from its octet `at` on, and acknowledges all of ours before `ack`.
    fn hears(&mut self, flags: u8, at: i64, ack: i64, len: u32) -> Taken {
        let number = |first: u32, at: i64| first.wrapping_add(1).wrapping_add(at as u32);
        let ack = if flags & ACK == 0 { 0 } else { number(OURS, ack) };
        let segment = Segment { seq: number(THEIRS, at), ack, flags, window: self.window, len, ..Segment::default() };
        self.tcp.segment(&segment, self.now)
    }

    fn polled(&mut self) -> Option<Emit> {
        self.tcp.poll(self.now)
    }

    fn said(emit: Emit) -> Said {
        let ack = if emit.flags & ACK == 0 { 0 } else { relative(emit.ack, THEIRS) };
        Said { flags: emit.flags, at: relative(emit.seq, OURS), ack, window: u32::from(emit.window) << SCALE }
    }

    fn says(&mut self) -> Option<Said> {
        self.polled().map(Self::said)
    }

    /// Exactly one acknowledgement: its number and window.
    fn acks(&mut self) -> (i64, u32) {
        let said = self.says().expect("an acknowledgement");
        assert_eq!(said.flags, ACK);
        self.is_quiet();
        (said.ack, said.window)
    }

    fn is_quiet(&mut self) {
        assert_eq!(self.says(), None);
    }

    /// Sends what may be sent of `len` octets, in segments, and says the octets in front of each.
    fn sends(&mut self, mut len: u32) -> Vec<i64> {
        let mut sent = Vec::new();
        loop {
            let part = self.tcp.may_send().min(len).min(u32::from(self.tcp.mss()));
            if part == 0 {
                return sent;
            }
            let emit = self.tcp.send(part, self.now);
            assert_eq!(emit.flags, ACK | PSH);
            sent.push(relative(emit.seq, OURS));
            len -= part;
        }
    }

    /// Goes to the deadline: how long that took and what it came to.
    fn expires(&mut self) -> (Duration, Expired) {
        let due = self.tcp.deadline().expect("a timer");
        let waited = due.since(self.now);
        self.now = self.now.max(due);
        (waited, self.tcp.expire(self.now))
    }

    fn waits(&mut self, secs: u64) {
        self.now = self.now.after(Duration::from_secs(secs));
    }

    fn is_over(&self) -> bool {
        let over = self.tcp.state() == State::Over;
        assert!(!over || self.tcp.deadline().is_none());
        over
    }

    /// Ends with our RST, and nothing after it.
    fn resets(&mut self) {
        let said = self.says().expect("a RST");
        assert_eq!(said.flags & RST, RST);
        self.is_quiet();
        assert!(self.is_over());
    }
}

const SECOND: Duration = Duration::from_secs(1);

// Handshakes.

#[test]
fn the_host_is_connected_before_the_container_is_answered() {
    let mut line = Line::connecting();
    line.is_quiet();
    assert_eq!((line.tcp.state(), line.tcp.deadline()), (State::Connecting, None));
    // The SYN again, and an acknowledgement of nothing.
    assert_eq!(line.tcp.segment(&syn(), BEGIN), Taken::default());
    assert_eq!(line.hears(ACK, 0, 0, 0), Taken::default());
    line.is_quiet();
    line.tcp.connected(BEGIN);
    let offer = Some(Offer { mss: 1_460, scale: Some(SCALE) });
    let answer = Emit { seq: OURS, ack: THEIRS.wrapping_add(1), flags: SYN | ACK, window: 0xffff, offer };
    assert_eq!(line.polled(), Some(answer));
    line.is_quiet();
    assert_eq!(line.tcp.may_send(), 0);
    // With data in the segment that completes it.
    let taken = line.hears(ACK | PSH, 0, 0, 10);
    assert_eq!(taken, Taken { len: 10, ..Taken::default() });
    assert_eq!((line.tcp.state(), line.tcp.may_send(), line.tcp.in_flight()), (State::Established, WINDOW.into(), 0));
    assert_eq!(line.acks().0, 10);
}

#[test]
fn rfc9293_3_10_7_1_a_refused_connection_is_reset_with_the_number_behind_the_syn() {
    let mut line = Line::connecting();
    line.tcp.reset();
    let said = line.polled().expect("a RST");
    assert_eq!((said.flags, said.ack, said.offer), (RST | ACK, THEIRS.wrapping_add(1), None));
    line.is_quiet();
    assert!(line.is_over());
    // Once is enough, and a connection that is over stays so.
    line.tcp.reset();
    line.tcp.connected(BEGIN);
    line.is_quiet();
    assert_eq!(line.hears(ACK, 0, 0, 5), Taken::default());
}

#[test]
fn a_container_that_gives_up_connecting_is_believed() {
    for (at, believed) in [(0, true), (-1, true), (1, false), (-2, false)] {
        let mut line = Line::connecting();
        assert_eq!(line.hears(RST, at, 0, 0), Taken { reset: believed, ..Taken::default() });
        assert_eq!(line.is_over(), believed);
        line.is_quiet();
    }
}

#[test]
fn rfc6298_2_a_syn_is_sent_again_and_given_up_after_a_minute() {
    for (mut line, flags) in [(Line::received(), SYN | ACK), (Line::asked(), SYN)] {
        for wait in [1, 2, 4, 8, 16] {
            assert_eq!(line.expires(), (SECOND * wait, Expired::Goes));
            let emit = line.polled().expect("the same again");
            assert_eq!((emit.flags, emit.seq, emit.window), (flags, OURS, 0xffff));
            assert!(emit.offer.is_some());
            line.is_quiet();
        }
        assert_eq!(line.expires(), (SECOND * 32, Expired::Abort));
        line.resets();
    }
}

#[test]
fn a_container_that_was_asked_is_reset_without_an_acknowledgement() {
    // Linux drops one of a wrong number, RST or not, before its side is established.
    let mut line = Line::asked();
    line.tcp.reset();
    assert_eq!(line.polled().map(|emit| (emit.flags, emit.seq, emit.ack)), Some((RST, OURS.wrapping_add(1), 0)));
    line.is_quiet();
}

#[test]
fn rfc9293_3_10_7_an_acknowledgement_of_another_connection_is_reset() {
    // 3.5.1: the container has half a connection of before, and answers our SYN with where that is.
    for mut line in [Line::asked(), Line::received()] {
        let state = line.tcp.state();
        for ack in [-1, 1, 70_000] {
            assert_eq!(line.hears(ACK, 30, ack, 0), Taken::default());
            let emit = line.polled().expect("a RST");
            assert_eq!((emit.flags, relative(emit.seq, OURS), emit.ack), (RST, ack, 0));
            line.is_quiet();
        }
        assert_eq!(line.tcp.state(), state);
        assert_eq!(line.expires().1, Expired::Goes);
        assert_eq!(line.polled().map(|emit| emit.seq), Some(OURS));
    }
}

#[test]
fn a_syn_that_comes_again_is_answered_again() {
    let mut line = Line::received();
    assert_eq!(line.tcp.segment(&syn(), BEGIN), Taken::default());
    assert_eq!(line.polled().map(|emit| (emit.flags, emit.seq)), Some((SYN | ACK, OURS)));
    assert_eq!(line.hears(ACK, 0, 0, 0), Taken::default());
    assert_eq!(line.tcp.state(), State::Established);
}

#[test]
fn the_container_is_asked_when_the_host_has_accepted() {
    let mut line = Line::of(Tcp::dial(OURS, 1_460, BEGIN));
    let offer = Some(Offer { mss: 1_460, scale: Some(SCALE) });
    assert_eq!(line.polled(), Some(Emit { seq: OURS, ack: 0, flags: SYN, window: 0xffff, offer }));
    line.is_quiet();
    let answer = Segment { flags: SYN | ACK, ack: OURS.wrapping_add(1), ..syn() };
    assert_eq!(line.tcp.segment(&answer, BEGIN), Taken::default());
    assert_eq!(line.says(), Some(Said { flags: ACK, at: 0, ack: 0, window: FIRST }));
    assert_eq!((line.tcp.state(), line.tcp.may_send()), (State::Established, WINDOW.into()));
    // Our acknowledgement was lost.
    assert_eq!(line.tcp.segment(&answer, BEGIN), Taken::default());
    assert_eq!(line.acks(), (0, FIRST));
}

#[test]
fn rfc9293_3_10_7_3_a_refusal_is_believed_where_it_acknowledges_our_syn() {
    for (flags, ack, believed) in [(RST | ACK, 0, true), (RST | ACK, 1, false), (RST | ACK, -1, false), (RST, 0, false)] {
        let mut line = Line::asked();
        assert_eq!(line.hears(flags, -1, ack, 0).reset, believed);
        assert_eq!(line.is_over(), believed);
        line.is_quiet();
    }
}

#[test]
fn rfc7323_2_2_windows_scale_where_both_say_so() {
    // What the container says, how far its window is shifted, and ours.
    for (scale, shift, ours) in [(None, 0, 0), (Some(0), 0, 8), (Some(7), 7, 8), (Some(14), 14, 8), (Some(200), 14, 8)] {
        let mut line = Line::of(Tcp::accept(&Segment { scale, ..syn() }, OURS, 1_460, BEGIN));
        line.tcp.connected(BEGIN);
        let emit = line.polled().expect("SYN|ACK");
        // 1.3: the option is sent in a SYN|ACK only if the SYN had it.
        assert_eq!(emit.offer, Some(Offer { mss: 1_460, scale: scale.map(|_| SCALE) }));
        // The window of a SYN does not scale.
        assert_eq!(emit.window, 0xffff);
        line.window = 100;
        line.hears(ACK, 0, 0, 1);
        assert_eq!(line.tcp.may_send(), 100 << shift);
        line.tcp.grant(u32::MAX);
        let most = if ours == 0 { 0xffff } else { MAX_WINDOW };
        let emit = line.polled().expect("an acknowledgement");
        assert_eq!(u32::from(emit.window) << ours, most);
    }
    let mut line = Line::asked();
    let answer = Segment { flags: SYN | ACK, ack: OURS.wrapping_add(1), scale: None, ..syn() };
    line.tcp.segment(&answer, BEGIN);
    assert_eq!(line.polled().map(|emit| emit.window), Some(0xffff));
}

#[test]
fn rfc9293_3_7_1_segments_are_no_longer_than_either_end_takes() {
    for (announced, link, mss) in [
        (Some(1_460), 1_460, 1_460),
        (Some(1_460), 65_480, 1_460),
        (Some(9_000), 1_440, 1_440),
        (None, 1_460, 536),
        (None, 500, 500),
        (Some(0), 1_460, 64),
        (Some(u16::MAX), u16::MAX, u16::MAX),
    ] {
        let tcp = Tcp::accept(&Segment { mss: announced, ..syn() }, OURS, link, BEGIN);
        assert_eq!(tcp.mss(), mss, "{announced:?} on {link}");
    }
    assert_eq!(Tcp::dial(OURS, 1_460, BEGIN).mss(), 536, "nobody has answered");
    assert_eq!(Line::dialled().tcp.mss(), 1_000);
}

#[test]
fn a_connection_handed_over_in_its_handshake_is_peeked_at_its_first_octet() {
    for mut line in [Line::received(), Line::asked()] {
        line.tcp = Tcp::restore(&line.tcp.save(), line.now).expect("a connection");
        // Our SYN is on the way, and no octet of the socket's.
        assert!(line.tcp.take_seek());
        assert_eq!(line.tcp.in_flight(), 0);
        if line.tcp.state() == State::SynReceived {
            line.hears(ACK, 0, 0, 0);
        } else {
            line.tcp.segment(&Segment { flags: SYN | ACK, ack: OURS.wrapping_add(1), ..syn() }, BEGIN);
        }
        assert_eq!((line.tcp.state(), line.tcp.take_seek(), line.tcp.in_flight()), (State::Established, false, 0));
        assert_eq!(line.sends(10), [0]);
        assert_eq!(line.tcp.in_flight(), 10);
    }
}

// Data of the container's.

#[test]
fn what_the_container_sends_is_taken_once_and_acknowledged_at_once() {
    for mut line in Line::both() {
        assert_eq!(line.hears(ACK | PSH, 0, 0, 1_000), Taken { len: 1_000, ..Taken::default() });
        line.tcp.grant(0xffff);
        assert_eq!(line.acks(), (1_000, FIRST));
        // All of it again, a part of it again, and with more.
        assert_eq!(line.hears(ACK, 0, 0, 1_000), Taken { skip: 1_000, ..Taken::default() });
        assert_eq!(line.acks().0, 1_000);
        assert_eq!(line.hears(ACK, 400, 0, 100), Taken::default());
        assert_eq!(line.acks().0, 1_000);
        assert_eq!(line.hears(ACK, 400, 0, 1_000), Taken { skip: 600, len: 400, ..Taken::default() });
        assert_eq!(line.acks().0, 1_400);
        // Behind a gap: asked for again.
        assert_eq!(line.hears(ACK, 1_401, 0, 1_000), Taken::default());
        assert_eq!(line.acks().0, 1_400);
        assert_eq!(line.hears(ACK, 1_400, 0, 1_001), Taken { len: 1_001, ..Taken::default() });
        assert_eq!(line.acks().0, 2_401);
    }
}

#[test]
fn data_beyond_the_window_is_cut_off() {
    let mut line = Line::accepted();
    assert_eq!(line.hears(ACK, 0, 0, 65_000).len, 65_000);
    // 535 octets are left of 65,535; the wire says 512 of them.
    assert_eq!(line.acks(), (65_000, 512));
    assert_eq!(line.hears(ACK | FIN, 64_900, 0, 1_000), Taken { skip: 100, len: 535, ..Taken::default() });
    assert!(!line.tcp.is_finished());
    assert_eq!(line.acks(), (65_535, 0));
    assert_eq!(line.hears(ACK | FIN, 65_535, 0, 365), Taken::default());
    assert_eq!(line.acks(), (65_535, 0));
}

#[test]
fn segments_across_the_end_of_sequence_space_are_taken_like_any_other() {
    for seq in [u32::MAX - 1_001, u32::MAX - 500, u32::MAX - 1, u32::MAX, i32::MAX as u32 - 1] {
        let mut tcp = Tcp::accept(&Segment { seq, ..syn() }, OURS, 1_460, BEGIN);
        tcp.connected(BEGIN);
        tcp.poll(BEGIN);
        let first = seq.wrapping_add(1);
        let segment = |at: u32, len| {
            let seq = first.wrapping_add(at);
            Segment { seq, ack: OURS.wrapping_add(1), flags: ACK, window: WINDOW, len, ..Segment::default() }
        };
        assert_eq!(tcp.segment(&segment(0, 1_000), BEGIN).len, 1_000);
        assert_eq!(tcp.segment(&segment(2_000, 10), BEGIN), Taken::default());
        assert_eq!(tcp.segment(&segment(900, 200), BEGIN), Taken { skip: 100, len: 100, ..Taken::default() });
        assert_eq!(tcp.poll(BEGIN).map(|emit| emit.ack), Some(first.wrapping_add(1_100)));
    }
}

#[test]
fn rfc9293_3_8_6_2_2_a_window_that_was_closed_is_opened_by_a_segment_not_by_octets() {
    let mut line = Line::accepted();
    assert_eq!(line.hears(ACK, 0, 0, 65_535).len, 65_535);
    line.tcp.grant(0);
    assert_eq!(line.acks(), (65_535, 0));
    line.tcp.grant(MSS - 1);
    line.is_quiet();
    // Its probe, of an octet that came or of the next one, is answered and not taken.
    assert_eq!(line.hears(ACK, 65_534, 0, 0), Taken::default());
    assert_eq!(line.acks(), (65_535, 0));
    assert_eq!(line.hears(ACK, 65_535, 0, 1), Taken::default());
    assert_eq!(line.acks(), (65_535, 0));
    line.tcp.grant(2_048);
    assert_eq!(line.acks(), (65_535, 2_048));
    // It is open: more is told with the next acknowledgement.
    line.tcp.grant(8_192);
    line.is_quiet();
    assert_eq!(line.hears(ACK, 65_535, 0, 1).len, 1);
    assert_eq!(line.acks(), (65_536, 0x1f00));
}

#[test]
fn rfc9293_3_8_6_a_window_is_never_taken_back() {
    let mut line = Line::accepted();
    line.tcp.grant(0x2_0000);
    assert_eq!(line.hears(ACK, 0, 0, 0x1_0000).len, 0x1_0000);
    assert_eq!(line.acks(), (0x1_0000, 0x1_0000));
    line.tcp.grant(0x4000);
    line.is_quiet();
    assert_eq!(line.hears(ACK, 0x1_0000, 0, 0x8000).len, 0x8000);
    line.tcp.grant(0x4000);
    assert_eq!(line.acks(), (0x1_8000, 0x8000));
    assert_eq!(line.hears(ACK, 0x1_8000, 0, 0x8000).len, 0x8000);
    assert_eq!(line.acks(), (0x2_0000, 0));
}

// Data of the host's.

#[test]
fn rfc9293_3_8_6_a_window_is_not_taken_back_by_a_syn_that_is_sent_again() {
    let mut line = Line::received();
    line.tcp.grant(0x2_0000);
    // One in the window is asked back, with the window that there is.
    for _ in 0..2 {
        line.hears(RST, 1, 0, 0);
        assert_eq!(line.acks(), (0, 0x2_0000));
        line.expires();
        assert_eq!(line.polled().map(|emit| (emit.flags, emit.window)), Some((SYN | ACK, 0xffff)));
    }
}

#[test]
fn what_the_host_sends_is_consumed_as_it_is_acknowledged() {
    for mut line in Line::both() {
        assert_eq!(line.sends(3_000), [0, 1_000, 2_000]);
        assert_eq!(line.tcp.in_flight(), 3_000);
        assert_eq!(line.hears(ACK, 0, 1_500, 0), Taken { consume: 1_500, ..Taken::default() });
        assert_eq!((line.tcp.in_flight(), line.tcp.take_seek()), (1_500, false));
        // An old one, and the same again.
        assert_eq!(line.hears(ACK, 0, 500, 0), Taken::default());
        assert_eq!(line.hears(ACK, 0, 1_500, 0), Taken::default());
        assert_eq!(line.hears(ACK, 0, 3_000, 7), Taken { consume: 1_500, len: 7, ..Taken::default() });
        assert_eq!(line.acks().0, 7);
        // 7,000 octets are across the end of sequence space.
        assert_eq!(line.sends(20_000).len(), 8);
        assert_eq!(line.hears(ACK, 7, 11_000, 0).consume, 8_000);
        assert_eq!(line.tcp.in_flight(), 0);
    }
}

#[test]
fn rfc9293_3_10_7_4_an_acknowledgement_of_what_was_not_sent_is_answered_and_dropped() {
    // Half of sequence space on, neither number comes after the other.
    let mut line = Line::accepted();
    assert_eq!(line.hears(ACK, 0, 1 << 31, 5), Taken::default());
    assert_eq!(line.acks().0, 0);
    let mut line = Line::accepted();
    line.sends(1_000);
    assert_eq!(line.hears(ACK, 0, 1_001, 5), Taken::default());
    assert_eq!(line.acks().0, 0);
    assert_eq!(line.hears(ACK, 0, i64::from(i32::MAX), 5), Taken::default());
    assert_eq!(line.tcp.in_flight(), 1_000);
    // Without the flag the number says nothing (3.10.7.4, fifth), and the segment is dropped.
    line.polled();
    assert_eq!(line.hears(PSH, 0, 1_000, 5), Taken::default());
    line.is_quiet();
}

#[test]
fn rfc9293_3_8_6_2_1_less_than_a_segment_waits_for_what_is_on_the_way() {
    let mut line = Line::accepted();
    line.window = 2_500;
    line.hears(ACK, 0, 0, 0);
    assert_eq!(line.sends(10_000), [0, 1_000]);
    assert_eq!((line.tcp.may_send(), line.tcp.in_flight()), (0, 2_000));
    // A window below a segment is used when nothing else is on the way.
    line.window = 400;
    assert_eq!(line.hears(ACK, 0, 2_000, 0).consume, 2_000);
    assert_eq!(line.sends(10_000), [2_000]);
    assert_eq!(line.tcp.in_flight(), 400);
}

#[test]
fn rfc9293_3_10_7_4_the_window_is_that_of_the_newest_segment() {
    let mut line = Line::accepted();
    line.hears(ACK, 0, 0, 100);
    line.window = 5_000;
    line.hears(ACK, 100, 0, 0);
    assert_eq!(line.tcp.may_send(), 5_000);
    // Overtaken by that one.
    line.window = 1_000;
    line.hears(ACK, 50, 0, 0);
    assert_eq!(line.tcp.may_send(), 5_000);
    line.hears(ACK, 100, 0, 0);
    assert_eq!(line.tcp.may_send(), 1_000);
}

// Loss.

#[test]
fn rfc9293_3_10_7_4_nothing_is_believed_of_a_segment_beyond_the_window() {
    for mut line in Line::both() {
        line.sends(3_000);
        for at in [0x1_0000, 0x7f00_0000] {
            line.window = 0;
            assert_eq!(line.hears(ACK, at, 3_000, 10), Taken::default());
            assert_eq!((line.acks().0, line.tcp.in_flight()), (0, 3_000));
        }
        // At its very edge stands one that has sent all it may.
        line.window = 5_000;
        assert_eq!(line.hears(ACK, 0xffff, 1_000, 0).consume, 1_000);
        assert_eq!(line.tcp.may_send(), 3_000);
    }
    // Behind its FIN there is nothing.
    let mut line = Line::accepted();
    assert!(line.hears(ACK | FIN, 0, 0, 10).finish);
    assert_eq!(line.acks().0, 11);
    line.window = 0;
    assert_eq!(line.hears(ACK, 12, 0, 0), Taken::default());
    assert_eq!((line.acks().0, line.tcp.may_send()), (11, WINDOW.into()));
    // Nor is the handshake over by one.
    let mut line = Line::received();
    assert_eq!(line.hears(ACK, 0x1_0000, 0, 0), Taken::default());
    assert_eq!((line.acks().0, line.tcp.state()), (0, State::SynReceived));
}

#[test]
fn rfc5681_3_2_three_equal_acknowledgements_are_a_loss() {
    let mut line = Line::accepted();
    assert_eq!(line.sends(5_000).len(), 5);
    line.hears(ACK, 0, 1_000, 0);
    for _ in 0..2 {
        assert_eq!(line.hears(ACK, 0, 1_000, 0), Taken::default());
        assert!(!line.tcp.take_seek());
    }
    line.hears(ACK, 0, 1_000, 0);
    assert!(line.tcp.take_seek());
    assert!(!line.tcp.take_seek(), "said once");
    assert_eq!((line.tcp.in_flight(), line.tcp.may_send()), (0, WINDOW.into()));
    // More of the same are about the same.
    for _ in 0..10 {
        line.hears(ACK, 0, 1_000, 0);
    }
    assert!(!line.tcp.take_seek());
    assert_eq!(line.sends(4_000), [1_000, 2_000, 3_000, 4_000]);
    assert_eq!(line.hears(ACK, 0, 5_000, 0).consume, 4_000);
    assert!(!line.tcp.take_seek());
}

#[test]
fn rfc6582_3_2_what_was_sent_twice_is_no_loss() {
    for by_timer in [false, true] {
        let mut line = Line::accepted();
        assert_eq!(line.sends(5_000).len(), 5);
        if by_timer {
            line.expires();
        } else {
            (0..3).for_each(|_| assert_eq!(line.hears(ACK, 0, 0, 0), Taken::default()));
        }
        assert!(line.tcp.take_seek());
        assert_eq!(line.sends(5_000).len(), 5);
        // Only the first was lost; the others are answered a second time, when there is something new on the way.
        assert_eq!(line.hears(ACK, 0, 5_000, 0).consume, 5_000);
        assert_eq!(line.sends(3_000), [5_000, 6_000, 7_000]);
        (0..4).for_each(|_| assert_eq!(line.hears(ACK, 0, 5_000, 0), Taken::default()));
        assert!(!line.tcp.take_seek());
        // Beyond that, it is one again.
        line.hears(ACK, 0, 6_000, 0);
        (0..3).for_each(|_| assert_eq!(line.hears(ACK, 0, 6_000, 0), Taken::default()));
        assert!(line.tcp.take_seek());
    }
}

#[test]
fn rfc5681_2_what_carries_data_a_fin_or_another_window_is_no_equal_acknowledgement() {
    let mut line = Line::accepted();
    line.sends(2_000);
    for turn in 0..6_i64 {
        line.hears(ACK, turn, 0, 1);
    }
    for window in [7_000, 7_001, 7_002, 7_003] {
        line.window = window;
        line.hears(ACK, 6, 0, 0);
    }
    line.hears(ACK | FIN, 6, 0, 0);
    assert!(!line.tcp.take_seek());
    // Nor is one when nothing is on the way.
    let mut line = Line::accepted();
    for _ in 0..6 {
        line.hears(ACK, 0, 0, 0);
    }
    assert!(!line.tcp.take_seek());
}

#[test]
fn rfc6298_5_what_is_not_acknowledged_is_sent_again_ever_later() {
    let mut line = Line::accepted();
    assert_eq!(line.sends(3_000).len(), 3);
    for turn in 0..11_u32 {
        let wait = (RETRANSMIT * (1 << turn.min(10))).min(Duration::from_secs(60));
        assert_eq!(line.expires(), (wait, Expired::Goes));
        assert!(line.tcp.take_seek());
        assert_eq!((line.tcp.in_flight(), line.sends(3_000).len()), (0, 3));
        line.is_quiet();
    }
    // RFC 9293 3.8.3: R2 is 100 s at the least.
    assert_eq!(line.expires().1, Expired::Abort);
    assert!(line.now.since(BEGIN) >= SECOND * 100);
    line.resets();
}

#[test]
fn rfc6298_5_3_progress_begins_the_wait_anew() {
    let mut line = Line::accepted();
    line.sends(3_000);
    for _ in 0..10 {
        line.expires();
        line.sends(3_000);
    }
    line.hears(ACK, 0, 1_000, 0);
    assert_eq!(line.expires(), (RETRANSMIT, Expired::Goes));
    assert_eq!(line.sends(2_000), [1_000, 2_000]);
    line.hears(ACK, 0, 3_000, 0);
    assert_eq!(line.tcp.deadline(), Some(line.now.after(KEEPALIVE)));
    // Too early is nothing.
    assert_eq!(line.tcp.expire(line.now), Expired::Goes);
    line.is_quiet();
}

#[test]
fn an_acknowledgement_that_comes_late_reaches_beyond_what_was_sent_again() {
    let mut line = Line::accepted();
    line.sends(5_000);
    line.expires();
    assert!(line.tcp.take_seek());
    assert_eq!(line.sends(1_000), [0]);
    // Of the first round.
    assert_eq!(line.hears(ACK, 0, 4_000, 0).consume, 4_000);
    assert!(line.tcp.take_seek());
    assert_eq!((line.tcp.in_flight(), line.sends(1_000)), (0, Vec::from([4_000])));
    assert_eq!(line.hears(ACK, 0, 5_000, 0).consume, 1_000);
    assert!(!line.tcp.take_seek());
}

#[test]
fn rfc5961_3_2_what_carries_no_data_has_a_number_in_the_window_while_data_is_sent_again() {
    for window in [WINDOW, 500] {
        let mut line = Line::accepted();
        line.sends(5_000);
        line.expires();
        assert_eq!(line.sends(1_000), [0]);
        line.window = window;
        // All may have come, and only its acknowledgement not.
        line.hears(ACK, 0, 0, 10);
        let number = i64::from(window.min(5_000));
        assert_eq!(line.says().map(|said| (said.flags, said.at)), Some((ACK, number)));
        line.tcp.reset();
        assert_eq!(line.says().map(|said| (said.flags, said.at)), Some((RST | ACK, number)));
    }
}

// A window of zero.

#[test]
fn rfc9293_3_8_6_1_a_window_of_zero_is_probed_for_ever_while_it_is_answered() {
    let mut line = Line::accepted();
    assert_eq!(line.sends(8_000).len(), 8);
    line.window = 0;
    assert_eq!(line.hears(ACK, 0, 8_000, 0).consume, 8_000);
    line.tcp.stall(line.now);
    let mut waited = Vec::new();
    for _ in 0..300 {
        let (wait, expired) = line.expires();
        assert_eq!(expired, Expired::Goes);
        waited.push(wait);
        // An octet that it has, so that it must answer.
        let said = line.says().expect("a probe");
        assert_eq!((said.flags, said.at, said.ack), (ACK, 7_999, 0));
        line.is_quiet();
        line.hears(ACK, 0, 8_000, 0);
        assert_eq!(line.tcp.may_send(), 0);
    }
    assert_eq!(waited[..3], [PERSIST, PERSIST * 2, PERSIST * 4]);
    assert_eq!(waited[299], SECOND * 60);
    line.window = 3_000;
    assert_eq!(line.hears(ACK, 0, 8_000, 0), Taken::default());
    assert_eq!(line.sends(2_000), [8_000, 9_000]);
    assert_eq!(line.hears(ACK, 0, 10_000, 0).consume, 2_000);
    assert!(!line.is_over());
}

#[test]
fn a_probe_that_is_lost_after_many_is_no_end() {
    let mut line = Line::accepted();
    line.window = 0;
    line.hears(ACK, 0, 0, 0);
    line.tcp.stall(line.now);
    for turn in 0..60 {
        assert_eq!(line.expires().1, Expired::Goes);
        assert!(line.says().is_some());
        if turn % 10 == 0 {
            line.hears(ACK, 0, 0, 0);
        }
    }
}

#[test]
fn rfc9293_3_8_6_a_window_that_shrinks_to_zero_is_probed_and_what_was_in_it_sent_again() {
    let mut line = Line::accepted();
    assert_eq!(line.sends(3_000).len(), 3);
    // Its memory is short: nothing but the first was kept.
    line.window = 0;
    assert_eq!(line.hears(ACK, 0, 1_000, 0).consume, 1_000);
    line.tcp.stall(line.now);
    for _ in 0..100 {
        assert_eq!(line.expires().1, Expired::Goes);
        assert_eq!(line.says().map(|said| (said.flags, said.at)), Some((ACK, 999)));
        line.is_quiet();
        assert_eq!((line.tcp.may_send(), line.tcp.in_flight()), (0, 0));
        line.hears(ACK, 0, 1_000, 0);
    }
    line.window = WINDOW;
    line.hears(ACK, 0, 1_000, 0);
    assert!(line.tcp.take_seek());
    assert_eq!(line.sends(2_000), [1_000, 2_000]);
    assert_eq!(line.hears(ACK, 0, 3_000, 0).consume, 2_000);
}

#[test]
fn rfc9293_3_8_6_a_fin_waits_for_the_window() {
    let mut line = Line::accepted();
    line.sends(8_000);
    line.tcp.end(line.now);
    line.is_quiet();
    line.window = 0;
    line.hears(ACK, 0, 8_000, 0);
    // Longer than data is sent in vain.
    for _ in 0..50 {
        assert_eq!(line.expires().1, Expired::Goes);
        assert_eq!(line.says().map(|said| (said.flags, said.at)), Some((ACK, 7_999)));
        line.is_quiet();
        line.hears(ACK, 0, 8_000, 0);
    }
    line.window = 1;
    line.hears(ACK, 0, 8_000, 0);
    assert_eq!(line.says().map(|said| (said.flags, said.at)), Some((FIN | ACK, 8_000)));
    assert_eq!(line.tcp.deadline(), Some(line.now.after(RETRANSMIT)));
}

#[test]
fn a_container_that_is_silent_with_a_window_of_zero_is_given_up() {
    let mut line = Line::accepted();
    line.window = 0;
    line.hears(ACK, 0, 0, 0);
    line.tcp.stall(line.now);
    let mut probes = 0;
    while line.expires().1 == Expired::Goes {
        assert_eq!(line.says().map(|said| said.at), Some(-1));
        probes += 1;
    }
    assert_eq!(probes, 11);
    assert!(line.now.since(BEGIN) >= SECOND * 100);
    line.resets();
}

// RST and SYN in the middle.

/// One machine in each state that has both numbers, and a name.
fn synchronised() -> Vec<(&'static str, Line)> {
    let mut stalled = Line::accepted();
    stalled.window = 0;
    stalled.hears(ACK, 0, 0, 0);
    stalled.tcp.stall(BEGIN);
    let mut finished = Line::accepted();
    // The octet before 0 is the FIN here, so that all stand at the same number.
    finished.hears(ACK | FIN, 0, 0, 0);
    finished.polled();
    let mut ended = Line::dialled();
    ended.tcp.end(BEGIN);
    ended.polled();
    Vec::from([
        ("received", Line::received()),
        ("accepted", Line::accepted()),
        ("dialled", Line::dialled()),
        ("stalled", stalled),
        ("finished", finished),
        ("ended", ended),
    ])
}

#[test]
fn rfc5961_3_2_only_the_exact_reset_is_believed() {
    for (name, mut line) in synchronised() {
        let next = i64::from(line.tcp.is_finished());
        for flags in [RST, RST | ACK] {
            for outside in [next - 1, next + 0x1_0000, next - 0x4000_0000, next + 0x4000_0000] {
                assert_eq!(line.hears(flags, outside, 0, 0), Taken::default(), "{name}");
                line.is_quiet();
            }
        }
        assert_eq!(line.hears(RST, next, 0, 0), Taken { reset: true, ..Taken::default() }, "{name}");
        assert!(line.is_over());
        line.is_quiet();
    }
}

#[test]
fn rfc5961_3_2_a_reset_in_the_window_is_asked_back() {
    for (name, mut line) in synchronised() {
        // Nothing is in the window when all has come.
        if line.tcp.is_finished() {
            continue;
        }
        for inside in [1, 1_000, 0xfffe] {
            assert_eq!(line.hears(RST, inside, 0, 0), Taken::default(), "{name}");
            assert_eq!(line.acks().0, 0, "{name}");
        }
        assert!(!line.is_over());
    }
}

#[test]
fn rfc5961_4_2_a_syn_in_the_middle_is_answered_with_where_we_are() {
    for (name, mut line) in synchronised() {
        if name == "received" {
            continue;
        }
        for at in [-1, 0, 1, 0x4000_0000] {
            assert_eq!(line.hears(SYN, at, 0, 10), Taken::default(), "{name}");
            assert_eq!(line.acks().0, i64::from(line.tcp.is_finished()), "{name}");
        }
        assert_eq!(line.hears(SYN | ACK | FIN, 0, 0, 10), Taken::default(), "{name}");
        assert_eq!(line.tcp.state(), State::Established);
    }
}

#[test]
fn the_host_resets_the_container() {
    for (name, mut line) in synchronised() {
        line.tcp.reset();
        let said = line.says().expect(name);
        assert_eq!((said.flags, said.ack), (RST | ACK, i64::from(line.tcp.is_finished())), "{name}");
        line.is_quiet();
        assert!(line.is_over() && line.tcp.may_send() == 0);
    }
}

// Closing.

#[test]
fn the_container_closes_first() {
    for mut line in Line::both() {
        let taken = line.hears(ACK | FIN | PSH, 0, 0, 100);
        assert_eq!(taken, Taken { len: 100, finish: true, ..Taken::default() });
        assert!(line.tcp.is_finished());
        assert_eq!(line.acks().0, 101);
        // Its FIN again, alone and with data.
        assert_eq!(line.hears(ACK | FIN, 100, 0, 0), Taken::default());
        assert_eq!(line.acks().0, 101);
        assert_eq!(line.hears(ACK | FIN, 0, 0, 100), Taken::default());
        assert_eq!(line.acks().0, 101);
        assert_eq!(line.hears(ACK, 101, 0, 5), Taken::default());
        assert_eq!(line.acks().0, 101);
        // The host goes on for long and closes then.
        for turn in 0..30 {
            line.waits(59);
            assert_eq!(line.sends(10), [turn * 10]);
            assert_eq!(line.hears(ACK, 101, turn * 10 + 10, 0).consume, 10);
        }
        line.tcp.end(line.now);
        assert_eq!(line.says().map(|said| (said.flags, said.at, said.ack)), Some((FIN | ACK, 300, 101)));
        line.is_quiet();
        assert_eq!(line.hears(ACK, 101, 301, 0), Taken::default());
        assert!(line.is_over());
        line.is_quiet();
    }
}

#[test]
fn the_host_closes_first() {
    for mut line in Line::both() {
        line.sends(500);
        line.tcp.end(line.now);
        assert!(line.tcp.is_ended() && !line.tcp.takes_data());
        assert_eq!(line.says().map(|said| (said.flags, said.at)), Some((FIN | ACK, 500)));
        line.is_quiet();
        line.tcp.end(line.now);
        line.is_quiet();
        assert_eq!(line.tcp.in_flight(), 500);
        // Its number is no octet of the socket's.
        assert_eq!(line.hears(ACK, 0, 501, 0).consume, 500);
        assert_eq!((line.tcp.in_flight(), line.tcp.may_send()), (0, 0));
        for turn in 0..30 {
            line.waits(59);
            assert_eq!(line.hears(ACK, turn * 10, 501, 10).len, 10);
            line.tcp.grant(0xffff);
            assert_eq!(line.acks(), (turn * 10 + 10, FIRST));
        }
        assert!(line.hears(ACK | FIN, 300, 501, 0).finish);
        assert!(line.is_over());
        assert_eq!(line.acks().0, 301);
    }
}

#[test]
fn rfc9293_3_6_both_close_at_once() {
    for mut line in Line::both() {
        line.tcp.end(line.now);
        assert_eq!(line.says().map(|said| said.flags), Some(FIN | ACK));
        assert!(line.hears(ACK | FIN, 0, 0, 0).finish);
        assert_eq!(line.acks().0, 1);
        assert!(!line.is_over());
        assert_eq!(line.hears(ACK, 1, 1, 0), Taken::default());
        assert!(line.is_over());
    }
}

#[test]
fn a_fin_that_is_lost_is_sent_again_behind_its_data() {
    let mut line = Line::accepted();
    line.sends(1_500);
    line.tcp.end(line.now);
    assert_eq!(line.says().map(|said| said.at), Some(1_500));
    line.expires();
    line.is_quiet();
    assert!(line.tcp.take_seek() && line.tcp.takes_data());
    assert_eq!(line.sends(1_500), [0, 1_000]);
    assert_eq!(line.says().map(|said| (said.flags, said.at)), Some((FIN | ACK, 1_500)));
    assert_eq!(line.hears(ACK, 0, 1_500, 0).consume, 1_500);
    // The FIN alone.
    assert_eq!(line.expires(), (RETRANSMIT, Expired::Goes));
    assert_eq!(line.says().map(|said| (said.flags, said.at)), Some((FIN | ACK, 1_500)));
    line.is_quiet();
    assert_eq!(line.hears(ACK, 0, 1_501, 0), Taken::default());
    assert_eq!(line.tcp.deadline(), Some(line.now.after(HALF_CLOSED)));
}

#[test]
fn a_fin_of_the_containers_waits_for_what_is_before_it() {
    let mut line = Line::accepted();
    assert_eq!(line.hears(ACK | FIN, 100, 0, 50), Taken::default());
    assert_eq!(line.acks().0, 0);
    assert_eq!(line.hears(ACK, 0, 0, 120).len, 120);
    assert_eq!(line.acks().0, 120);
    assert_eq!(line.hears(ACK | FIN, 100, 0, 50), Taken { skip: 20, len: 30, finish: true, ..Taken::default() });
    assert_eq!(line.acks().0, 151);
}

#[test]
fn a_fin_fits_into_a_window_of_zero() {
    let mut line = Line::accepted();
    assert_eq!(line.hears(ACK, 0, 0, 65_535).len, 65_535);
    assert!(line.hears(ACK | FIN, 65_535, 0, 0).finish);
    assert_eq!(line.acks(), (65_536, 0));
    // Nothing is granted any more.
    line.tcp.grant(0xffff);
    line.is_quiet();
}

#[test]
fn a_fin_is_taken_for_no_octet_when_it_comes_back_late() {
    let mut line = Line::accepted();
    line.sends(2_000);
    line.tcp.end(line.now);
    line.polled();
    line.expires();
    assert_eq!(line.sends(1_000), [0]);
    // Data and FIN of the first round.
    assert_eq!(line.hears(ACK, 0, 2_001, 0).consume, 2_000);
    line.is_quiet();
    assert_eq!(line.tcp.in_flight(), 0);
}

// Keepalive.

#[test]
fn rfc9293_3_8_4_a_question_whether_we_are_there_is_answered() {
    let mut line = Line::accepted();
    line.hears(ACK, 0, 0, 10);
    line.polled();
    line.waits(10_000);
    for (at, len) in [(9, 0), (9, 1)] {
        assert_eq!(line.hears(ACK, at, 0, len).len, 0);
        assert_eq!(line.acks().0, 10);
    }
    // A plain acknowledgement is not: two that answer each other never end.
    line.hears(ACK, 10, 0, 0);
    line.is_quiet();
}

#[test]
fn rfc9293_3_8_4_a_container_that_is_silent_is_asked_after_two_hours() {
    let mut line = Line::accepted();
    line.waits(100);
    line.hears(ACK, 0, 0, 0);
    // Heard of in between: later.
    assert_eq!(line.expires(), (KEEPALIVE - SECOND * 100, Expired::Goes));
    line.is_quiet();
    assert_eq!(line.expires(), (SECOND * 100, Expired::Goes));
    assert_eq!(line.says().map(|said| (said.flags, said.at)), Some((ACK, -1)));
    line.waits(1);
    line.hears(ACK, 0, 0, 0);
    line.expires();
    line.is_quiet();
    assert_eq!(line.tcp.deadline().map(|due| due.since(line.now)), Some(KEEPALIVE - SECOND * 74));
    // Not answered.
    let since = line.now;
    for turn in 0..9 {
        let (wait, expired) = line.expires();
        assert_eq!(expired, Expired::Goes);
        assert!(turn == 0 || wait == SECOND * 75);
        assert!(line.says().is_some());
    }
    assert_eq!(line.expires(), (SECOND * 75, Expired::Abort));
    assert_eq!(line.now.since(since), KEEPALIVE - SECOND * 74 + SECOND * 75 * 9);
    line.resets();
}

#[test]
fn half_a_connection_is_asked_after_a_minute_and_lives_as_long_as_it_answers() {
    for is_host in [false, true] {
        let mut line = Line::accepted();
        let (at, ack) = if is_host { (0, 1) } else { (1, 0) };
        if is_host {
            line.tcp.end(line.now);
            line.polled();
            line.hears(ACK, 0, 1, 0);
        } else {
            line.hears(ACK | FIN, 0, 0, 0);
            line.polled();
        }
        // A day.
        let mut questions = 0;
        while line.now.since(BEGIN) < SECOND * 86_400 {
            assert_eq!(line.expires().1, Expired::Goes);
            if let Some(said) = line.says() {
                questions += 1;
                assert_eq!(said.at, ack - 1);
                assert_eq!(line.hears(ACK, at, ack, 0), Taken::default());
                line.is_quiet();
            }
        }
        assert!((600..=1_440).contains(&questions), "{questions}");
        // Its kernel knows it no longer.
        assert!(line.hears(RST, at, 0, 0).reset && line.is_over());
    }
}

/// RFC 9293 3.8.6.3: one segment for the end of both, or after a while one for theirs alone.
#[test]
fn the_acknowledgement_of_their_end_waits_for_ours_a_moment() {
    for [mut line, mut late] in [Line::both(), Line::both()] {
        line.tcp.delay_acks(ACK_DELAY);
        assert!(line.hears(ACK | FIN, 0, 0, 10).finish);
        line.is_quiet();
        line.tcp.end(line.now);
        let said = line.says().expect("our end");
        assert_eq!((said.flags, said.at, said.ack), (FIN | ACK, 0, 11));
        line.is_quiet();
        late.tcp.delay_acks(ACK_DELAY);
        late.hears(ACK | FIN, 0, 0, 0);
        assert_eq!(late.expires(), (ACK_DELAY, Expired::Goes));
        assert_eq!(late.acks().0, 1);
        // Ours is there already: nothing is to come that it could go with.
        let mut first = Line::accepted();
        first.tcp.delay_acks(ACK_DELAY);
        first.tcp.end(first.now);
        assert!(first.says().is_some_and(|said| said.flags == FIN | ACK));
        first.hears(ACK | FIN, 0, 1, 0);
        assert_eq!(first.acks().0, 1);
        assert!(first.is_over());
    }
}
