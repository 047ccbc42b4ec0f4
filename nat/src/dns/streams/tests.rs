use super::*;
use crate::packet::tcp::{ACK, FIN, PSH, RST, SYN};
use crate::packet::{Packet, Transport};
use crate::station::{AddressGuard, Limits, Station};
use core::net::Ipv4Addr;
use proptest::prelude::*;
use std::vec;
use vswitch_switch::UnicastMac;
use vswitch_switch::head::ETHERNET_HEADER;

const OURS: u32 = 0xffff_ff00;
const THEIRS: u32 = 0x7fff_fff0;
const MTU: u16 = 1_500;
const MAC: UnicastMac = UnicastMac::for_ipv4([10, 88, 0, 2]);

fn at(millis: u64) -> Time {
    Time::from_nanos((1_000_000 + millis) * 1_000_000)
}

fn station() -> Station {
    let (limits, guard) = (Limits::default(), AddressGuard::default());
    Station { mac: MAC, v4: Some(Ipv4Addr::new(10, 88, 0, 2)), v6: None, mtu: MTU, limits, guard }
}

/// Who serves, the table of stations, and what the next client's port is.
struct World {
    streams: Streams,
    stations: Stations,
    pool: FramePool,
    port: u16,
}

/// A client's end, spoken by hand.
struct Client {
    id: StreamId,
    next: u32,
    ack: u32,
    window: u16,
}

/// What a frame is.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Said {
    port: u16,
    segment: Segment,
    payload: Vec<u8>,
}

impl World {
    fn new() -> Self {
        let mut stations = Stations::new(1);
        for port in 1..=40 {
            stations.set(port, station());
        }
        Self { streams: Streams::new(1), stations, pool: FramePool::new(2), port: 40_000 }
    }

    fn syn(&mut self, port: u16, now: Time) -> Result<StreamId, Refusal> {
        self.port += 1;
        let inside = SocketAddr::from(([10, 88, 0, 2], self.port));
        let gateway = SocketAddr::from(([10, 88, 0, 1], 53));
        let owner = self.stations.owner(port);
        let syn = Segment { seq: THEIRS, flags: SYN, window: 0xffff, scale: Some(0), mss: Some(1_000), ..Segment::default() };
        self.streams.accept::<Ipv4Addr>((owner, Link { dst: MAC, src: MAC }), (inside, gateway), &syn, (OURS, MTU), now)
    }

    fn poll(&mut self, now: Time) -> Option<Said> {
        let frame = self.streams.poll(&mut self.pool, now)?;
        let size = frame.meta.gso.map_or(usize::MAX, |gso| usize::from(gso.size.get()));
        let p = Packet::<Ipv4Addr>::parse(frame, ETHERNET_HEADER).expect("a packet");
        let Transport::Tcp(segment) = p.transport() else { panic!("no segment") };
        let octets = p.payload();
        let payload = octets[octets.len() - segment.len as usize..].to_vec();
        assert!(size == 1_000 || payload.len() <= 1_000, "the client's maximum");
        let said = Said { port: p.tuple().dport, segment, payload };
        self.pool.put(p.into_frame());
        Some(said)
    }

    /// A client that is there.
    fn client(&mut self, port: u16, now: Time) -> Client {
        let id = self.syn(port, now).expect("room");
        let said = self.poll(now).expect("an answer");
        assert_eq!((said.segment.flags, said.segment.seq, said.segment.ack), (SYN | ACK, OURS, THEIRS.wrapping_add(1)));
        assert_eq!((said.segment.mss, said.segment.scale), (Some(1_460), Some(8)));
        let mut client = Client { id, next: THEIRS.wrapping_add(1), ack: OURS.wrapping_add(1), window: 0xffff };
        self.send(&mut client, ACK, b"", now);
        client
    }

    fn send(&mut self, client: &mut Client, flags: u8, payload: &[u8], now: Time) {
        let segment = Segment {
            seq: client.next,
            ack: client.ack,
            flags,
            window: client.window,
            len: payload.len() as u32,
            ..Segment::default()
        };
        client.next = client.next.wrapping_add(segment.len + u32::from(segment.has(FIN)));
        self.streams.segment(client.id, &segment, payload, now);
    }

    fn ask(&mut self) -> Option<(StreamId, Vec<u8>)> {
        match self.streams.ask()? {
            (id, Asks::Message(message)) => Some((id, message)),
            (_, Asks::Senseless) => panic!("too long"),
        }
    }

    /// All that comes, acknowledged at once: the payload, and the flags of all.
    fn read(&mut self, client: &mut Client, now: Time) -> (Vec<u8>, u8) {
        let (mut all, mut flags) = (Vec::new(), 0);
        while let Some(said) = self.poll(now) {
            flags |= said.segment.flags;
            if said.payload.is_empty() && !said.segment.has(FIN) {
                continue;
            }
            assert_eq!(said.segment.seq, client.ack, "in order");
            client.ack = client.ack.wrapping_add(said.segment.len + u32::from(said.segment.has(FIN)));
            all.extend(said.payload);
            self.send(client, ACK, b"", now);
        }
        (all, flags)
    }
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

#[test]
fn rfc7766_a_question_is_answered_and_the_next_too() {
    let mut world = World::new();
    let mut client = world.client(1, at(0));
    for (number, question) in [&b"first"[..], b"second"].into_iter().enumerate() {
        let now = at(number as u64);
        world.send(&mut client, ACK | PSH, &framed(question), now);
        assert_eq!(world.ask(), Some((client.id, question.to_vec())));
        assert_eq!(world.ask(), None);
        world.streams.answer(client.id, b"its answer", now);
        let said = world.poll(now).expect("an answer");
        assert_eq!((said.segment.flags, said.segment.ack, &said.payload[..]), (ACK | PSH, client.next, &framed(b"its answer")[..]));
        client.ack = client.ack.wrapping_add(said.segment.len);
        world.send(&mut client, ACK, b"", now);
        assert_eq!(world.poll(now), None, "the answer acknowledges the question");
    }
    assert_eq!(world.ask(), None);
    assert_eq!((world.streams.octets, world.streams.has_work()), (0, false));
}

#[test]
fn rfc7766_8_a_question_comes_in_pieces() {
    let mut world = World::new();
    let mut client = world.client(1, at(0));
    for octet in framed(b"question") {
        assert_eq!(world.ask(), None);
        world.send(&mut client, ACK | PSH, &[octet], at(0));
    }
    assert_eq!(world.ask(), Some((client.id, b"question".to_vec())));
}

#[test]
fn rfc7766_6_2_1_1_questions_come_one_behind_another_and_answers_when_they_are_there() {
    let mut world = World::new();
    let mut client = world.client(1, at(0));
    let questions = [framed(b"one"), framed(b"two"), framed(b"three")].concat();
    world.send(&mut client, ACK | PSH | FIN, &questions, at(0));
    let asked: Vec<_> = core::iter::from_fn(|| world.ask()).map(|(_, message)| message).collect();
    assert_eq!(asked, [&b"one"[..], b"two", b"three"]);
    let mut all = Vec::new();
    for (answer, is_last) in [(&b"three!"[..], false), (b"one!", false), (b"two!", true)] {
        world.streams.answer(client.id, answer, at(1));
        let (octets, flags) = world.read(&mut client, at(1));
        assert_eq!(flags & FIN != 0, is_last, "who has ended is answered, and then ended too");
        all.extend(octets);
    }
    assert_eq!(all, [framed(b"three!"), framed(b"one!"), framed(b"two!")].concat());
    assert!(world.streams.is_empty() && world.streams.octets == 0 && world.streams.deadline().is_none_or(|at| at > Time::ZERO));
}

#[test]
fn a_client_that_ends_is_ended() {
    let mut world = World::new();
    let mut client = world.client(1, at(0));
    world.send(&mut client, ACK | FIN, b"", at(0));
    let (octets, flags) = world.read(&mut client, at(0));
    assert_eq!((octets, flags & FIN), (vec![], FIN));
    assert!(world.streams.is_empty());
    // Half a question before the end is none.
    let mut client = world.client(1, at(0));
    world.send(&mut client, ACK | FIN, b"\0\x09half", at(0));
    assert_eq!(world.ask(), None);
    assert_eq!(world.read(&mut client, at(0)).1 & FIN, FIN);
    assert!(world.streams.is_empty());
}

#[test]
fn behind_what_ends_a_connection_nothing_is_asked() {
    let mut world = World::new();
    let mut client = world.client(1, at(0));
    world.send(&mut client, ACK | PSH, &[framed(b"bad"), framed(b"next")].concat(), at(0));
    assert_eq!(world.ask(), Some((client.id, b"bad".to_vec())));
    world.streams.abort(client.id);
    assert_eq!(world.ask(), None);
    assert_eq!(world.read(&mut client, at(0)).1 & RST, RST);
    // Nor is a length that is none told twice.
    let mut client = world.client(1, at(0));
    world.send(&mut client, ACK | PSH, &[0xff; 9], at(0));
    assert_eq!(world.streams.ask(), Some((client.id, Asks::Senseless)));
    world.streams.abort(client.id);
    assert_eq!(world.streams.ask(), None);
    // Nothing is taken any more, and the end of both is a reset.
    world.send(&mut client, ACK | PSH, &framed(b"more"), at(0));
    assert_eq!(world.streams.ask(), None);
    assert_eq!(world.read(&mut client, at(0)).1 & RST, RST);
    assert!(world.streams.is_empty() && !world.streams.has_work());
}

#[test]
fn what_is_no_length_of_a_question_is_told_apart() {
    let mut world = World::new();
    let mut client = world.client(1, at(0));
    world.send(&mut client, ACK | PSH, &4_097_u16.to_be_bytes(), at(0));
    assert_eq!(world.streams.ask(), Some((client.id, Asks::Senseless)));
    world.streams.abort(client.id);
    let said = world.poll(at(0)).expect("a reset");
    assert!(said.segment.has(RST));
    assert_eq!(world.poll(at(0)), None);
    assert!(world.streams.is_empty());
    assert_eq!(world.streams.ask(), None);
}

#[test]
fn who_resets_is_forgotten_and_his_answers_with_him() {
    let mut world = World::new();
    let mut client = world.client(1, at(0));
    world.send(&mut client, ACK | PSH, &framed(b"one"), at(0));
    world.ask().expect("a question");
    world.send(&mut client, RST, b"", at(0));
    assert!(world.streams.is_empty());
    // Whoever has the slot now gets nothing of it.
    let other = world.client(2, at(0));
    assert_eq!(other.id.slot, client.id.slot);
    world.streams.answer(client.id, b"late", at(1));
    assert_eq!((world.poll(at(1)), world.streams.octets), (None, 0));
}

#[test]
fn a_long_answer_waits_for_the_clients_window() {
    let mut world = World::new();
    let mut client = world.client(1, at(0));
    client.window = 2_000;
    world.send(&mut client, ACK | PSH, &framed(b"q"), at(0));
    world.ask().expect("a question");
    let answer: Vec<u8> = (0..65_535_u32).map(|number| number as u8).collect();
    world.streams.answer(client.id, &answer, at(0));
    let (octets, _) = world.read(&mut client, at(0));
    assert_eq!(octets, framed(&answer));
    // A window of nothing: probed, and the rest comes when it opens.
    world.send(&mut client, ACK | PSH, &framed(b"q"), at(0));
    world.ask().expect("a question");
    client.window = 0;
    world.send(&mut client, ACK, b"", at(0));
    world.streams.answer(client.id, b"later", at(0));
    assert_eq!(world.read(&mut client, at(0)).0, b"");
    assert!(world.streams.deadline().is_some_and(|due| due <= at(300)));
    client.window = 2_000;
    world.send(&mut client, ACK, b"", at(10));
    assert_eq!(world.read(&mut client, at(10)).0, framed(b"later"));
}

#[test]
fn what_is_lost_is_sent_again() {
    let mut world = World::new();
    let mut client = world.client(1, at(0));
    world.send(&mut client, ACK | PSH | FIN, &framed(b"q"), at(0));
    world.ask().expect("a question");
    world.streams.answer(client.id, b"the answer", at(0));
    let lost = world.poll(at(0)).expect("an answer");
    assert!(lost.segment.has(FIN));
    assert_eq!(world.poll(at(299)), None);
    let again = world.poll(at(300)).expect("the same");
    assert_eq!((again.segment.seq, again.payload, again.segment.has(FIN)), (lost.segment.seq, lost.payload, true));
    client.ack = client.ack.wrapping_add(again.segment.len + 1);
    world.send(&mut client, ACK, b"", at(301));
    assert_eq!(world.poll(at(301)), None);
    assert!(world.streams.is_empty());
}

#[test]
fn rfc7766_6_2_3_who_is_idle_is_hung_up_on() {
    let mut world = World::new();
    let mut client = world.client(1, at(0));
    // An octet now and then is no question.
    for millis in [1_000, 5_000, 9_000] {
        world.send(&mut client, ACK | PSH, b"\x01", at(millis));
        world.poll(at(millis + 10));
    }
    let (_, flags) = world.read(&mut client, at(10_000));
    assert_eq!(flags & (FIN | RST), FIN);
    // He does not hang up himself.
    assert_eq!(world.read(&mut client, at(19_999)).1 & RST, 0);
    assert_eq!(world.read(&mut client, at(20_000)).1 & RST, RST);
    assert!(world.streams.is_empty());
    assert_eq!(world.read(&mut client, at(40_000)), (vec![], 0));
    assert_eq!(world.streams.deadline(), None);
}

#[test]
fn who_waits_for_a_resolver_is_not_idle() {
    let mut world = World::new();
    let mut client = world.client(1, at(0));
    world.send(&mut client, ACK | PSH, &framed(b"q"), at(0));
    world.ask().expect("a question");
    assert_eq!(world.read(&mut client, at(15_000)).1 & (FIN | RST), 0);
    world.streams.answer(client.id, b"late", at(15_000));
    assert_eq!(world.read(&mut client, at(15_000)).0, framed(b"late"));
    assert_eq!(world.read(&mut client, at(24_999)).1 & FIN, 0);
    assert_eq!(world.read(&mut client, at(25_000)).1 & FIN, FIN);
    // What he asks now nobody reads.
    world.send(&mut client, ACK | PSH, &framed(b"q"), at(25_001));
    assert_eq!(world.ask(), None);
    assert_eq!(world.read(&mut client, at(25_001)).1 & RST, RST);
}

#[test]
fn who_takes_no_answer_is_reset() {
    let mut world = World::new();
    let mut client = world.client(1, at(0));
    client.window = 0;
    world.send(&mut client, ACK | PSH, &framed(b"q"), at(0));
    world.ask().expect("a question");
    world.streams.answer(client.id, &[0; 1_000], at(0));
    let mut flags = 0;
    for millis in 0..=10_000 {
        while let Some(said) = world.poll(at(millis)) {
            flags |= said.segment.flags;
            if said.segment.has(RST) {
                assert_eq!(millis, 10_000);
            } else {
                world.send(&mut client, ACK, b"", at(millis));
            }
        }
    }
    assert_eq!(flags & (RST | FIN), RST);
    assert!(world.streams.is_empty() && world.streams.octets == 0);
}

#[test]
fn a_container_has_so_many_and_all_together_too() {
    let mut world = World::new();
    for _ in 0..PER_CONTAINER {
        world.syn(1, at(0)).expect("room");
    }
    assert_eq!(world.syn(1, at(0)), Err(Refusal::Quota));
    for port in 2..=(STREAMS / PER_CONTAINER) as u16 {
        for _ in 0..PER_CONTAINER {
            world.syn(port, at(u64::from(port))).expect("room");
        }
    }
    assert_eq!(world.streams.len(), STREAMS);
    // The oldest gives way, which is one of the first container's.
    let id = world.syn(30, at(100)).expect("room");
    assert_eq!((world.streams.len(), world.streams.ends(id).unwrap().0.port), (STREAMS, 30));
    assert!(world.syn(1, at(100)).is_ok(), "it has one less");
}

#[test]
fn so_many_questions_of_one_are_under_way() {
    let mut world = World::new();
    let mut client = world.client(1, at(0));
    let many = framed(b"q").repeat(UNDER_WAY + 5);
    world.send(&mut client, ACK | PSH, &many, at(0));
    assert_eq!(core::iter::from_fn(|| world.ask()).count(), UNDER_WAY);
    world.streams.answer(client.id, b"a", at(0));
    assert_eq!(core::iter::from_fn(|| world.ask()).count(), 1);
    // Answers that nobody takes are as many questions.
    for _ in 0..UNDER_WAY {
        world.streams.answer(client.id, &[0; 4_000], at(0));
    }
    assert_eq!(core::iter::from_fn(|| world.ask()).count(), 0);
    let (octets, _) = world.read(&mut client, at(0));
    assert_eq!(octets.len(), 3 + UNDER_WAY * 4_002);
    assert_eq!(core::iter::from_fn(|| world.ask()).count(), 4);
}

#[test]
fn the_window_is_what_there_is_place_for() {
    let mut world = World::new();
    let mut client = world.client(1, at(0));
    world.poll(at(5));
    // As many questions as are taken, and nobody answers: the rest fills the window.
    let mut edge = client.next.wrapping_add(0xffff);
    while client.next != edge {
        let len = edge.wrapping_sub(client.next).min(1_000) as usize;
        world.send(&mut client, ACK, &framed(&[0; 98]).repeat(10)[..len], at(0));
        while world.ask().is_some() {}
        while let Some(said) = world.poll(at(0)) {
            let told = said.segment.ack.wrapping_add(u32::from(said.segment.window) << 8);
            edge = if told.wrapping_sub(edge).cast_signed() > 0 { told } else { edge };
        }
    }
    let stream = world.streams.streams.values().next().unwrap();
    assert_eq!(stream.under_way, UNDER_WAY);
    assert!(stream.input.len() <= WINDOW as usize, "{}", stream.input.len());
}

#[test]
fn the_octets_of_all_are_bounded() {
    let mut world = World::new();
    let mut resets = 0;
    for port in 1..=40 {
        let mut clients: Vec<_> = (0..10).map(|_| world.client(port, at(0))).collect();
        for client in &mut clients {
            client.window = 0;
            world.send(client, ACK | PSH, &framed(b"q"), at(0));
            world.ask().expect("a question");
            world.streams.answer(client.id, &[0; 65_535], at(0));
        }
        while let Some(said) = world.poll(at(0)) {
            resets += u32::from(said.segment.has(RST));
        }
        assert!(world.streams.octets <= OCTETS);
    }
    assert_eq!(resets, 400 - (OCTETS / 65_537) as u32);
}

#[test]
fn stations_that_go_take_theirs_along() {
    let mut world = World::new();
    let [one, other] = [1, 2].map(|port| world.client(port, at(0)));
    world.stations.remove(1);
    world.streams.end(&world.stations);
    assert!(world.streams.ends(one.id).is_none() && world.streams.ends(other.id).is_some());
}

proptest! {
    /// Whatever is lost, and however questions are cut: every question is asked once, and its answer read whole.
    #[test]
    fn nothing_is_lost_or_asked_twice(
        questions in proptest::collection::vec(1..300_usize, 1..20),
        answers in proptest::collection::vec(1..3_000_usize, 20),
        cuts in proptest::collection::vec(1..900_usize, 1..40),
        losses in proptest::collection::vec(any::<bool>(), 1..200),
    ) {
        let mut world = World::new();
        let mut client = world.client(1, at(0));
        let all: Vec<u8> = questions.iter().enumerate().flat_map(|(number, len)| framed(&vec![number as u8; *len])).collect();
        let (mut sent, mut asked, mut expected, mut got) = (0, 0, Vec::new(), Vec::new());
        // Not more than two in a row: whoever hears nothing for long is hung up on.
        let mut losses = losses.into_iter().enumerate().map(|(number, lost)| lost && number % 3 < 2).chain(core::iter::repeat(false));
        let mut cuts = cuts.into_iter().cycle();
        let mut now = 0;
        let first = client.next;
        // Bounded: some 200 losses, each of at most a timer.
        for _ in 0..2_000 {
            if sent < all.len() {
                let end = (sent + cuts.next().unwrap_or(1)).min(all.len());
                if losses.next() == Some(false) {
                    client.next = first.wrapping_add(sent as u32);
                    world.send(&mut client, ACK | PSH, &all[sent..end], at(now));
                    sent = end;
                }
            }
            while let Some((id, message)) = world.ask() {
                prop_assert_eq!(&message, &vec![asked as u8; questions[asked]]);
                let answer = vec![asked as u8; answers[asked]];
                world.streams.answer(id, &answer, at(now));
                expected.extend(framed(&answer));
                asked += 1;
            }
            while let Some(said) = world.poll(at(now)) {
                if losses.next() == Some(true) || said.payload.is_empty() {
                    continue;
                }
                let skip = client.ack.wrapping_sub(said.segment.seq) as usize;
                if let Some(rest) = said.payload.get(skip..) {
                    got.extend_from_slice(rest);
                    client.ack = client.ack.wrapping_add(rest.len() as u32);
                }
                if losses.next() == Some(false) {
                    world.send(&mut client, ACK, b"", at(now));
                }
            }
            if asked == questions.len() && got.len() == expected.len() {
                break;
            }
            now += 100;
        }
        prop_assert_eq!(asked, questions.len());
        prop_assert_eq!(got, expected);
    }
}
