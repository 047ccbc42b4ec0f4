//! One translated connection under any segments of its container, right or wrong, against the streams that they are cut from; where
//! `slirp_tcp.rs` has a container that behaves.
use proptest::prelude::*;
use std::time::Duration;
use vswitch_nat::packet::Segment;
use vswitch_nat::packet::tcp::{ACK, FIN, RST, SYN};
use vswitch_nat::slirp::tcp::{Expired, SCALE, State, Taken, Tcp};
use vswitch_switch::Time;

const NOW: Time = Time::from_secs(1_000);
const MSS: u32 = 1_000;
/// What is granted at first.
const FIRST: u32 = 0xffff;

/// How a connection came to be as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum How {
    Connecting,
    Asked,
    Received,
    Accepted,
    Dialled,
    HostEnded,
    ContainerEnded,
}

const ALL: [How; 7] =
    [How::Connecting, How::Asked, How::Received, How::Accepted, How::Dialled, How::HostEnded, How::ContainerEnded];

/// The numbers of the two SYNs.
#[derive(Clone, Copy, Debug)]
struct Numbers {
    theirs: u32,
    ours: u32,
}

impl Numbers {
    /// A segment by its octets' places in the two streams.
    fn segment(self, flags: u8, at: u32, ack: u32, window: u16, len: u32) -> Segment {
        let number = |first: u32, at: u32| first.wrapping_add(1).wrapping_add(at);
        Segment { seq: number(self.theirs, at), ack: number(self.ours, ack), flags, window, len, ..Segment::default() }
    }

    fn tcp(self, how: How) -> Tcp {
        let syn =
            Segment { seq: self.theirs, flags: SYN, window: FIRST as u16, scale: Some(0), mss: Some(1_000), ..Segment::default() };
        let mut tcp = match how {
            How::Asked | How::Dialled => Tcp::dial(self.ours, 1_460, NOW),
            How::Connecting | How::Received | How::Accepted | How::HostEnded | How::ContainerEnded => {
                Tcp::accept(&syn, self.ours, 1_460, NOW)
            }
        };
        tcp.connected(NOW);
        match how {
            How::Connecting => return Tcp::accept(&syn, self.ours, 1_460, NOW),
            How::Asked | How::Received => {}
            How::Dialled => {
                assert_eq!(tcp.poll(NOW).map(|emit| emit.flags), Some(SYN));
                tcp.segment(&Segment { flags: SYN | ACK, ack: self.ours.wrapping_add(1), ..syn }, NOW);
            }
            How::Accepted | How::HostEnded | How::ContainerEnded => {
                assert_eq!(tcp.poll(NOW).map(|emit| emit.flags), Some(SYN | ACK));
                tcp.segment(&self.segment(ACK, 0, 0, FIRST as u16, 0), NOW);
                if how == How::HostEnded {
                    tcp.end(NOW);
                } else if how == How::ContainerEnded {
                    assert!(tcp.segment(&self.segment(ACK | FIN, 0, 0, FIRST as u16, 0), NOW).finish);
                }
            }
        }
        while tcp.poll(NOW).is_some() {}
        tcp
    }
}

/// Near the end of sequence space and of its half as often as anywhere.
fn number() -> impl Strategy<Value = u32> {
    let near = |end: u32| (0..20_000_u32).prop_map(move |before| end.wrapping_sub(before));
    prop_oneof![any::<u32>(), near(u32::MAX), near(i32::MAX as u32)]
}

fn numbers() -> impl Strategy<Value = Numbers> {
    (number(), number()).prop_map(|(theirs, ours)| Numbers { theirs, ours })
}

/// Where a number lies from another: there, near it, anywhere.
fn offset() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), 0..3_u32, (1..3_u32).prop_map(u32::wrapping_neg), 0..0x2_0000_u32, any::<u32>()]
}

/// What a container does about what the host sends.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// It acknowledges so many hundredths of what is on the way, with that window.
    Acks(u32, u16),
    /// The same number as it did last, or one before it.
    Again(u32),
    /// Nothing arrives until a timer ends.
    Silent,
    /// The host sends so much.
    Sends(u32),
}

fn answer() -> impl Strategy<Value = Answer> {
    let window = prop_oneof![Just(0_u16), 1..3_000_u16, Just(u16::MAX)];
    prop_oneof![
        (0..=100_u32, window).prop_map(|(part, window)| Answer::Acks(part, window)),
        (0..3_000_u32).prop_map(Answer::Again),
        Just(Answer::Silent),
        (1..5_000_u32).prop_map(Answer::Sends),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// Pieces of a stream in any order, cut anyhow, more than once: each octet is taken once, in order, and not beyond the window.
    #[test]
    fn pieces_of_a_stream_in_any_order_are_taken_as_the_stream(
        numbers in numbers(),
        how in prop::sample::select(vec![How::Accepted, How::Dialled, How::HostEnded]),
        total in 0..100_000_u32,
        pieces in prop::collection::vec((0..1_000_u32, 0..40_000_u32, any::<bool>()), 0..40),
        rooms in prop::collection::vec(prop_oneof![Just(0), 0..200_000_u32], 40),
    ) {
        let mut tcp = numbers.tcp(how);
        let ack = u32::from(how == How::HostEnded);
        let (mut taken_in_all, mut granted, mut finished) = (0, FIRST, false);
        // At last the container sends the rest in order, with room for all.
        let in_order = (0..=total / MSS).map(|piece| (piece * MSS, MSS, true, u32::MAX));
        let pieces = pieces.into_iter().zip(rooms).map(|((at, len, fin), room)| (total / 1_000 * at, len, fin, room));
        for (at, len, fin, room) in pieces.chain(in_order) {
            let at = at.min(total);
            let len = len.min(total - at);
            let fin = fin && at + len == total;
            let flags = if fin { ACK | FIN } else { ACK };
            let taken = tcp.segment(&numbers.segment(flags, at, ack, 100, len), NOW);
            let end = (at + len).min(granted);
            let fits = !finished && at <= taken_in_all && at + len >= taken_in_all;
            let expected = if fits && end > taken_in_all { end - taken_in_all } else { 0 };
            prop_assert_eq!(taken.len, expected, "{} octets from {} on, after {}", len, at, taken_in_all);
            prop_assert!(taken.len == 0 || taken.skip == taken_in_all - at);
            taken_in_all += taken.len;
            prop_assert_eq!(taken.finish, fits && fin && taken_in_all == total);
            prop_assert!(!taken.reset && taken.consume == 0);
            finished |= taken.finish;
            if finished && how == How::HostEnded {
                prop_assert_eq!(tcp.state(), State::Over);
            }
            // Never taken back, and no smaller than a segment.
            let room = room.min(0xffff << SCALE);
            if room >= MSS && tcp.state() == State::Established {
                granted = granted.max(taken_in_all + room);
            }
            tcp.grant(room);
            while let Some(emit) = tcp.poll(NOW) {
                prop_assert_eq!(emit.ack, numbers.segment(ACK, taken_in_all + u32::from(finished), 0, 0, 0).seq);
                let window = u32::from(emit.window) << SCALE;
                prop_assert!(finished || (window <= granted - taken_in_all && granted - taken_in_all - window < 1 << SCALE));
            }
        }
        prop_assert_eq!((taken_in_all, finished, tcp.is_finished()), (total, true, true));
    }

    /// However the container acknowledges and closes its window: what is on the way lies in the stream behind what it has, each octet is
    /// consumed once, and all are.
    #[test]
    fn what_the_host_sends_is_consumed_once_and_in_order(
        numbers in numbers(),
        how in prop::sample::select(vec![How::Accepted, How::Dialled, How::ContainerEnded]),
        answers in prop::collection::vec(answer(), 0..80),
    ) {
        let mut tcp = numbers.tcp(how);
        let at = u32::from(how == How::ContainerEnded);
        let (mut now, mut consumed, mut sent, mut window) = (NOW, 0, 0, u32::from(u16::MAX));
        let host_total = 30_000;
        let last = [Answer::Acks(100, u16::MAX), Answer::Sends(host_total)].repeat(12);
        for answer in answers.into_iter().chain(last) {
            match answer {
                Answer::Acks(part, next) => {
                    let count = tcp.in_flight() * part / 100;
                    let taken = tcp.segment(&numbers.segment(ACK, at, consumed + count, next, 0), now);
                    prop_assert_eq!(taken, Taken { consume: count, ..Taken::default() });
                    (consumed, window) = (consumed + count, next.into());
                }
                Answer::Again(before) => {
                    let ack = consumed - before.min(consumed);
                    // An old one says no window.
                    let taken = tcp.segment(&numbers.segment(ACK, at, ack, window as u16, 0), now);
                    prop_assert_eq!(taken, Taken::default());
                }
                Answer::Silent => {
                    tcp.stall(now);
                    now = now.max(tcp.deadline().expect("a timer"));
                    if tcp.expire(now) == Expired::Abort {
                        return Ok(());
                    }
                }
                Answer::Sends(most) => loop {
                    let begin = consumed + tcp.in_flight();
                    let len = tcp.may_send().min(most).min(MSS).min(host_total - begin);
                    if len == 0 {
                        break;
                    }
                    prop_assert!(begin + len <= consumed + window, "{} octets beyond the window", begin + len - consumed - window);
                    let emit = tcp.send(len, now);
                    prop_assert_eq!(emit.seq, numbers.segment(ACK, 0, begin, 0, 0).ack);
                    sent = sent.max(begin + len);
                },
            }
            prop_assert!(consumed <= sent && consumed + tcp.in_flight() <= sent);
            while tcp.poll(now).is_some() {}
            now = now.after(Duration::from_micros(10));
        }
        prop_assert_eq!((consumed, tcp.in_flight()), (host_total, 0));
        tcp.end(now);
        prop_assert_eq!(tcp.poll(now).map(|emit| emit.flags), Some(ACK | FIN));
        prop_assert_eq!(tcp.segment(&numbers.segment(ACK, at, host_total + 1, 100, 0), now), Taken::default());
        prop_assert_eq!(tcp.state() == State::Over, how == How::ContainerEnded);
    }

    /// RFC 5961 3.2, RFC 9293 3.10.7.3: a RST is believed by its exact number, or by what it acknowledges of our SYN, in every state.
    #[test]
    fn a_reset_is_believed_by_its_number_alone(
        numbers in numbers(),
        how in prop::sample::select(ALL.to_vec()),
        at in offset(),
        ack in offset(),
        has_ack in any::<bool>(),
        len in prop_oneof![Just(0_u32), 1..2_000_u32],
    ) {
        let mut tcp = numbers.tcp(how);
        let before = tcp.state();
        let next = u32::from(how == How::ContainerEnded);
        let flags = if has_ack { RST | ACK } else { RST };
        let segment = numbers.segment(flags, at.wrapping_add(next), ack, 100, len);
        let believed = match how {
            How::Connecting => at == 0 || at == u32::MAX,
            How::Asked => has_ack && ack == 0,
            How::Received | How::Accepted | How::Dialled | How::HostEnded | How::ContainerEnded => at == 0,
        };
        prop_assert_eq!(tcp.segment(&segment, NOW), Taken { reset: believed, ..Taken::default() });
        prop_assert_eq!(tcp.state(), if believed { State::Over } else { before });
        // It is answered with no more than where we are, and only in the window.
        let answer = tcp.poll(NOW);
        let is_inside = at != 0 && at < FIRST - next && !matches!(how, How::Connecting | How::Asked);
        prop_assert!(answer.is_none_or(|emit| is_inside && emit.flags == ACK), "{:?}", answer);
        prop_assert!(!believed || (tcp.deadline().is_none() && tcp.may_send() == 0));
    }
}
