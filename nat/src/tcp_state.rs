//! A TCP connection as a NAT sees it: RFC 6146 3.5.2 with the states of RFC 7857 2, and the windows that tell a blind reset.
//!
//! Theory. The one who sends the first SYN is the *original* side, the other the *reply* side.
//! ```text
//! Opening --SYN of the reply side--> Answered --ACK of either--> Established --FIN--> Closing(one side) --the other's FIN--> Closed
//!    any of them --RST within the window--> Reset --anything but a RST--> Established (RFC 6146: the RST was not taken)
//! ```
//! A connection of which one side has closed lives as long as an established one: half-closed, the other may send for minutes (N22).
//! A SYN in Closed or Reset begins another connection: the caller sees [`Phase::is_over`] and makes a session anew (N37, N38).
//!
//! Windows (N35, N36): per side, what the peer has acknowledged and how far the peer lets it send. A segment outside is *invalid*: it
//! passes all the same (dropping it makes peers reset each other), unless checking is strict, but it changes no state. A RST counts only
//! from what the peer has acknowledged up to its window's end (RFC 9293 3.10.7.4), so one who guesses ports alone ends nothing.
//!
//! What it does not do: reassemble, or follow selective acknowledgements.
use crate::packet::{Segment, tcp};

/// Slack below the acknowledged: retransmissions of what has arrived, at most a window, as nf_conntrack has it.
const SLACK: u32 = 66_000;
/// No window scale option was seen.
const UNSCALED: u8 = 0xff;

/// Who of the two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Direction {
    /// As the session's first packet.
    Original = 0,
    /// Against it.
    Reply = 1,
}

/// Where a session is in its life. The first seven are TCP's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Phase {
    /// One SYN.
    TcpOpening,
    /// A SYN from either side.
    TcpAnswered,
    /// The handshake is through.
    TcpEstablished,
    /// The original side has sent its FIN.
    TcpOriginalClosed,
    /// The reply side has.
    TcpReplyClosed,
    /// Both have.
    TcpClosed,
    /// A RST within the window.
    TcpReset,
    /// UDP, no answer yet.
    UdpOpening,
    /// UDP both ways.
    Udp,
    /// UDP to a port that answers at once.
    UdpShort,
    /// Echo.
    Icmp,
    /// Another protocol.
    Other,
}

impl Phase {
    /// All, in the order of the enum.
    pub const ALL: &'static [Self] = &[
        Self::TcpOpening,
        Self::TcpAnswered,
        Self::TcpEstablished,
        Self::TcpOriginalClosed,
        Self::TcpReplyClosed,
        Self::TcpClosed,
        Self::TcpReset,
        Self::UdpOpening,
        Self::Udp,
        Self::UdpShort,
        Self::Icmp,
        Self::Other,
    ];

    /// Its name in views.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TcpOpening => "opening",
            Self::TcpAnswered => "answered",
            Self::TcpEstablished => "established",
            Self::TcpOriginalClosed | Self::TcpReplyClosed => "half-closed",
            Self::TcpClosed => "closed",
            Self::TcpReset => "reset",
            Self::UdpOpening => "unreplied",
            Self::Udp | Self::UdpShort => "replied",
            Self::Icmp => "echo",
            Self::Other => "any",
        }
    }

    /// Whether nothing is expected any more: the session may be given up for another.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::TcpClosed | Self::TcpReset)
    }
}

/// What one side may send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Side {
    /// The peer has acknowledged up to here.
    pub acked: u32,
    /// The peer lets it send up to here.
    pub limit: u32,
    /// Shift of the windows that it announces, 255 for none.
    pub scale: u8,
    /// Whether the two above were ever said.
    pub known: bool,
}

/// Both sides of a connection, by [`Direction`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sides(pub [Side; 2]);

impl Default for Sides {
    fn default() -> Self {
        Self([Side { acked: 0, limit: 0, scale: UNSCALED, known: false }; 2])
    }
}

/// What became of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// The phase after it.
    pub phase: Phase,
    /// Whether it was within the window. An invalid one refreshes nothing.
    pub is_valid: bool,
}

/// `a` at or after `b`, modulo 2^32.
const fn reaches(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) as i32 >= 0
}

impl Sides {
    /// Takes a segment of `direction` and says what follows.
    pub fn step(&mut self, phase: Phase, direction: Direction, segment: &Segment) -> Step {
        let is_valid = self.is_valid(direction, segment, phase);
        if segment.has(tcp::RST) {
            // RFC 7857 2.2: a RST that the receiver will not take ends nothing.
            return Step { phase: if is_valid { Phase::TcpReset } else { phase }, is_valid };
        }
        if !is_valid {
            return Step { phase, is_valid };
        }
        self.note(direction, segment);
        Step { phase: next(phase, direction, segment), is_valid }
    }

    const fn is_valid(&self, direction: Direction, segment: &Segment, phase: Phase) -> bool {
        let side = self.side(direction);
        // A SYN chooses its own numbers, a new connection's first.
        if !side.known || (segment.has(tcp::SYN) && !segment.has(tcp::RST)) {
            return true;
        }
        let end = segment.seq.wrapping_add(segment.len);
        if segment.has(tcp::RST) {
            // Refusing, a closed port has no sequence of its own (RFC 9293 3.10.7.1); it acknowledges the SYN.
            let refuses = matches!(phase, Phase::TcpOpening);
            return refuses || (reaches(segment.seq, side.acked) && reaches(side.limit, segment.seq));
        }
        reaches(side.limit, segment.seq) && reaches(end, side.acked.wrapping_sub(SLACK))
    }

    const fn side(&self, direction: Direction) -> &Side {
        let [original, reply] = &self.0;
        match direction {
            Direction::Original => original,
            Direction::Reply => reply,
        }
    }

    const fn note(&mut self, direction: Direction, segment: &Segment) {
        let [original, reply] = &mut self.0;
        let (mine, theirs) = match direction {
            Direction::Original => (original, reply),
            Direction::Reply => (reply, original),
        };
        if segment.has(tcp::SYN) {
            // N35: only here.
            mine.scale = match segment.scale {
                Some(scale) => scale,
                None => UNSCALED,
            };
        }
        if !segment.has(tcp::ACK) {
            return;
        }
        // RFC 7323 2.2: scaled only when both have said so, and never in a SYN.
        let shift = if segment.has(tcp::SYN) || mine.scale == UNSCALED || theirs.scale == UNSCALED { 0 } else { mine.scale };
        // At least one octet: zero-window probes are valid (RFC 9293 3.8.6.1).
        let window = (segment.window as u32) << shift;
        let limit = segment.ack.wrapping_add(if window == 0 { 1 } else { window });
        if !theirs.known || reaches(segment.ack, theirs.acked) {
            theirs.acked = segment.ack;
        }
        if !theirs.known || reaches(limit, theirs.limit) {
            theirs.limit = limit;
        }
        theirs.known = true;
    }
}

const fn next(phase: Phase, direction: Direction, segment: &Segment) -> Phase {
    let (syn, fin, ack) = (segment.has(tcp::SYN), segment.has(tcp::FIN), segment.has(tcp::ACK));
    let after_fin = match direction {
        Direction::Original => Phase::TcpOriginalClosed,
        Direction::Reply => Phase::TcpReplyClosed,
    };
    match (phase, direction) {
        (Phase::TcpOpening, Direction::Reply) if syn => Phase::TcpAnswered,
        (Phase::TcpAnswered, _) if fin && !syn => after_fin,
        // N23: in a simultaneous open the ACK comes with a SYN.
        (Phase::TcpAnswered, Direction::Original) if ack => Phase::TcpEstablished,
        (Phase::TcpAnswered, Direction::Reply) if ack && !syn => Phase::TcpEstablished,
        (Phase::TcpEstablished, _) if fin => after_fin,
        (Phase::TcpOriginalClosed, Direction::Reply) | (Phase::TcpReplyClosed, Direction::Original) if fin => Phase::TcpClosed,
        (Phase::TcpReset, _) if syn => Phase::TcpAnswered,
        (Phase::TcpReset, _) => Phase::TcpEstablished,
        _ => phase,
    }
}

/// The phase of a connection taken up in its midst (N33): both sides' windows are unknown.
#[must_use]
pub const fn midstream(segment: &Segment) -> Phase {
    if segment.has(tcp::FIN) { Phase::TcpOriginalClosed } else { Phase::TcpEstablished }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(flags: u8, seq: u32, ack: u32, len: u32) -> Segment {
        Segment { seq, ack, flags, window: 1_000, len, scale: None, mss: None }
    }

    fn run(steps: &[(Direction, u8)]) -> Phase {
        let (mut sides, mut phase) = (Sides::default(), Phase::TcpOpening);
        for &(direction, flags) in steps {
            phase = sides.step(phase, direction, &segment(flags, 1, 1, 0)).phase;
        }
        phase
    }

    use Direction::{Original as O, Reply as R};

    #[test]
    fn phases() {
        assert_eq!(run(&[(O, tcp::SYN)]), Phase::TcpOpening);
        let shake = [(O, tcp::SYN), (R, tcp::SYN | tcp::ACK), (O, tcp::ACK)];
        assert_eq!(run(&shake[..2]), Phase::TcpAnswered);
        assert_eq!(run(&shake), Phase::TcpEstablished);
        let with = |more: &[(Direction, u8)]| run(&[&shake[..], more].concat());
        assert_eq!(with(&[(O, tcp::FIN | tcp::ACK)]), Phase::TcpOriginalClosed);
        assert_eq!(with(&[(R, tcp::FIN | tcp::ACK), (R, tcp::ACK)]), Phase::TcpReplyClosed);
        assert_eq!(with(&[(R, tcp::FIN | tcp::ACK), (O, tcp::FIN | tcp::ACK)]), Phase::TcpClosed);
        assert_eq!(with(&[(R, tcp::RST)]), Phase::TcpReset);
        assert_eq!(with(&[(R, tcp::RST), (R, tcp::ACK)]), Phase::TcpEstablished);
    }

    #[test]
    fn simultaneous_open() {
        let both = [(O, tcp::SYN), (R, tcp::SYN), (O, tcp::SYN | tcp::ACK), (R, tcp::SYN | tcp::ACK)];
        assert_eq!(run(&both[..2]), Phase::TcpAnswered);
        assert_eq!(run(&both), Phase::TcpEstablished);
    }

    #[test]
    fn a_reset_counts_from_the_acknowledged_to_the_windows_end() {
        let mut sides = Sides::default();
        let mut phase = Phase::TcpOpening;
        for (direction, segment) in [
            (O, segment(tcp::SYN, 100, 0, 0)),
            (R, segment(tcp::SYN | tcp::ACK, 5_000, 101, 0)),
            (O, segment(tcp::ACK, 101, 5_001, 0)),
        ] {
            phase = sides.step(phase, direction, &segment).phase;
        }
        for (seq, ends) in [(5_000, false), (5_001, true), (6_001, true), (6_002, false), (0, false)] {
            let step = sides.step(phase, R, &segment(tcp::RST, seq, 0, 0));
            assert_eq!((step.phase == Phase::TcpReset, step.is_valid), (ends, ends), "{seq}");
        }
    }

    #[test]
    fn windows_are_scaled_when_both_say_so() {
        let with = |original: Option<u8>, reply: Option<u8>| {
            let mut sides = Sides::default();
            let mut syn = segment(tcp::SYN, 0, 0, 0);
            syn.scale = original;
            sides.step(Phase::TcpOpening, O, &syn);
            let mut answer = segment(tcp::SYN | tcp::ACK, 0, 1, 0);
            answer.scale = reply;
            sides.step(Phase::TcpOpening, R, &answer);
            sides.step(Phase::TcpAnswered, O, &segment(tcp::ACK, 1, 1, 0));
            sides.0[1].limit
        };
        assert_eq!(with(Some(7), Some(2)), 1 + (1_000 << 7));
        assert_eq!(with(Some(7), None), 1_001);
        assert_eq!(with(None, Some(7)), 1_001);
    }
}
