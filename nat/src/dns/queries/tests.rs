use super::super::streams::Streams;
use super::*;
use crate::packet::{Segment, tcp};
use crate::station::{AddressGuard, Limits, Station};
use core::net::Ipv4Addr;
use proptest::prelude::*;
use vswitch_switch::UnicastMac;

/// A and AAAA of "www.example", recursion desired.
const QUERY: &[u8] = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07example\x00\x00\x01\x00\x01";
const QUERY6: &[u8] = b"\x12\x35\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07example\x00\x00\x1c\x00\x01";
/// The same with an OPT record: 1,232 octets (RFC 6891).
const EDNS: &[u8] =
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\x03www\x07example\x00\x00\x01\x00\x01\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00";
/// What is answered when all have failed.
const FAILURE: &[u8] = b"\x12\x34\x81\x82\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07example\x00\x00\x01\x00\x01";

fn at(millis: u64) -> Time {
    Time::from_nanos(millis * 1_000_000)
}

fn resolver(number: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, number], 53))
}

fn client(port: u16) -> Client {
    let mac = UnicastMac::for_ipv4([10, 88, 0, 2]);
    Client {
        owner: Owner { port, generation: 0 },
        link: Link { dst: mac, src: mac },
        inside: SocketAddr::from(([10, 88, 0, 2], 40_000)),
        gateway: SocketAddr::from(([10, 88, 0, 1], 53)),
        stream: None,
    }
}

/// No letter's case is changed.
fn draw(id: u16) -> Draw {
    Draw { id, case: [0; CASES] }
}

fn ask(queries: &mut Queries, client: Client, message: &[u8]) -> Asked {
    match Question::of_query(message) {
        Some(question) => queries.begin(client, message, &question, None),
        None => Asked::Malformed,
    }
}

fn begin(queries: &mut Queries, message: &[u8]) -> u32 {
    assert_eq!(ask(queries, client(3), message), Asked::Waits);
    queries.expire(at(0)).unwrap()
}

/// QUERY's answer: a record, and these flags.
fn answer(id: u16, flags: u16) -> Vec<u8> {
    let mut message = QUERY.to_vec();
    message[..2].copy_from_slice(&id.to_be_bytes());
    message[2..4].copy_from_slice(&flags.to_be_bytes());
    message[7] = 1;
    message.extend_from_slice(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x0e\x10\x00\x04\xcb\x00\x71\x07");
    message
}

#[test]
fn a_query_goes_under_another_identifier_and_comes_back_under_its_own() {
    let mut queries = Queries::default();
    let slot = begin(&mut queries, EDNS);
    let Ask { resolver: to, message: sent, by_tcp } = queries.next(slot, &[resolver(1)], draw(0xbeef), at(0)).unwrap();
    assert!(!by_tcp);
    assert_eq!((to, &sent[..2], &sent[2..]), (resolver(1), &[0xbe, 0xef][..], &EDNS[2..]));
    let mut reply = answer(0xbeef, 0x8180);
    assert_eq!(queries.answer(slot, &mut reply, 1, |_, _| {}), Answered::Deliver(client(3)));
    assert_eq!(reply, answer(0x1234, 0x8180));
    assert!(queries.is_empty() && queries.deadline().is_none() && queries.held.is_empty());
    assert_eq!(queries.answer(slot, &mut answer(0xbeef, 0x8180), 1, |_, _| {}), Answered::Ignored, "it is over");
}

/// As it was written, by TCP, and with whom nobody joins in.
#[test]
fn what_came_by_tcp_is_asked_by_tcp() {
    let mut streams = Streams::new(1);
    let (udp, syn) = (client(3), Segment { flags: tcp::SYN, ..Segment::default() });
    let stream = streams.accept::<Ipv4Addr>((udp.owner, udp.link), (udp.inside, udp.gateway), &syn, (1, 1_500), at(0)).unwrap();
    let by_tcp = Client { stream: Some(stream), ..udp };
    let mut queries = Queries::default();
    let question = Question { by_tcp: true, ..Question::of_query(QUERY).unwrap() };
    let key = vec![1, 2, 3];
    assert_eq!(queries.begin(by_tcp, QUERY, &question, Some(key.clone())), Asked::Waits);
    let slot = queries.expire(at(0)).unwrap();
    let other = Question::of_query(QUERY).unwrap();
    assert_eq!(queries.begin(client(4), QUERY, &other, Some(key.clone())), Asked::Waits);
    assert_eq!((queries.len(), queries.counts.joined), (2, 0));
    let ask = queries.next(slot, &[resolver(1)], Draw { id: 7, case: [!0; CASES] }, at(0)).unwrap();
    assert_eq!((ask.by_tcp, &ask.message[2..]), (true, &QUERY[2..]));
    // Whatever its case.
    let mut reply = answer(7, 0x8180);
    reply[13] = b'W';
    let mut kept = None;
    assert_eq!(queries.answer(slot, &mut reply, 1, |key, _| kept = Some(key)), Answered::Deliver(by_tcp));
    assert_eq!((reply, kept), (answer(0x1234, 0x8180), Some(key)));
}

#[test]
fn a_truncated_answer_goes_to_the_client() {
    let mut queries = Queries::default();
    let slot = begin(&mut queries, QUERY);
    queries.next(slot, &[resolver(1)], draw(7), at(0)).unwrap();
    let mut reply = answer(7, 0x8380);
    assert_eq!(queries.answer(slot, &mut reply, 1, |_, _| {}), Answered::Deliver(client(3)));
    assert_eq!(reply[2..4], [0x83, 0x80]);
}

#[test]
fn what_is_not_the_answer_is_ignored() {
    let mut queries = Queries::default();
    let slot = begin(&mut queries, QUERY);
    queries.next(slot, &[resolver(1)], draw(0xbeef), at(0)).unwrap();
    let good = answer(0xbeef, 0x8180);
    let with = |place: usize, octet: u8| {
        let mut message = good.clone();
        message[place] = octet;
        message
    };
    let wrong = [
        ("the client's own identifier", answer(0x1234, 0x8180)),
        ("another identifier", answer(0xbeee, 0x8180)),
        ("a query", answer(0xbeef, 0x0100)),
        ("another opcode", answer(0xbeef, 0xa180)),
        ("no question", with(5, 0)),
        ("two questions", with(5, 2)),
        ("another name", with(13, b'x')),
        ("another label", with(12, 2)),
        ("a compressed name", with(12, 0xc0)),
        ("another type", with(26, 0x1c)),
        ("another class", with(28, 3)),
        ("half a question", good[..27].to_vec()),
        ("half a header", good[..11].to_vec()),
        ("nothing", Vec::new()),
    ];
    let wrong_count = wrong.len() as u64;
    for (what, mut message) in wrong {
        assert_eq!(queries.answer(slot, &mut message, 1, |_, _| {}), Answered::Ignored, "{what}");
    }
    assert_eq!(queries.counts, QueryCounts { sent: 1, ignored: wrong_count, ..QueryCounts::default() });
}

#[test]
fn the_resolvers_are_asked_in_their_order_twice() {
    let mut queries = Queries::default();
    let resolvers = [resolver(1), resolver(2), resolver(3)];
    let slot = begin(&mut queries, QUERY);
    for (number, to) in [1, 2, 3, 1, 2, 3].into_iter().enumerate() {
        let begun = 2_000 * number as u64;
        assert_eq!(queries.next(slot, &resolvers, draw(number as u16), at(begun)).unwrap().resolver, resolver(to));
        assert_eq!(queries.deadline(), Some(at(begun + 2_000)));
        assert_eq!(queries.expire(at(begun + 1_999)), None);
        assert!(!queries.has_work());
        assert_eq!(queries.expire(at(begun + 2_000)), Some(slot));
    }
    assert_eq!(queries.next(slot, &resolvers, draw(9), at(12_000)), None);
    assert!(queries.has_work() && queries.deadline().is_none());
    assert_eq!(queries.poll(), Some((client(3), FAILURE.to_vec())));
    assert!(queries.is_empty() && queries.poll().is_none());
}

#[test]
fn only_the_last_resolvers_identifier_counts() {
    let mut queries = Queries::default();
    let slot = begin(&mut queries, QUERY);
    queries.next(slot, &[resolver(1), resolver(2)], draw(1), at(0)).unwrap();
    queries.next(slot, &[resolver(1), resolver(2)], draw(2), at(10)).unwrap();
    assert_eq!(queries.deadline(), Some(at(2_010)), "it has its whole time");
    assert_eq!(queries.answer(slot, &mut answer(1, 0x8180), 2, |_, _| {}), Answered::Ignored);
    assert_eq!(queries.answer(slot, &mut answer(2, 0x8180), 2, |_, _| {}), Answered::Deliver(client(3)));
}

#[test]
fn one_that_cannot_say_is_passed_over_while_there_are_others() {
    for said in [code::SERVFAIL, code::NOTIMP, code::REFUSED] {
        let mut queries = Queries::default();
        let resolvers = [resolver(1), resolver(2)];
        let slot = begin(&mut queries, QUERY);
        let flags = 0x8180 | u16::from(said);
        queries.next(slot, &resolvers, draw(1), at(0)).unwrap();
        assert_eq!(queries.answer(slot, &mut answer(1, flags), 2, |_, _| {}), Answered::Next);
        queries.next(slot, &resolvers, draw(2), at(1)).unwrap();
        assert_eq!(
            queries.answer(slot, &mut answer(2, flags), 2, |_, _| {}),
            Answered::Deliver(client(3)),
            "the last one's is passed on"
        );
    }
    // That there is no such name is an answer.
    let mut queries = Queries::default();
    let slot = begin(&mut queries, QUERY);
    queries.next(slot, &[resolver(1), resolver(2)], draw(1), at(0)).unwrap();
    assert_eq!(queries.answer(slot, &mut answer(1, 0x8183), 2, |_, _| {}), Answered::Deliver(client(3)));
}

#[test]
fn without_resolvers_the_client_is_told_at_once() {
    let mut queries = Queries::default();
    // Whatever is behind the question is left out.
    let slot = begin(&mut queries, EDNS);
    assert_eq!(queries.next(slot, &[], draw(1), at(0)), None);
    assert_eq!(queries.poll(), Some((client(3), FAILURE.to_vec())));
}

#[test]
fn what_is_no_query_is_malformed() {
    let with = |place: usize, octet: u8| {
        let mut message = QUERY.to_vec();
        message[place] = octet;
        message
    };
    let wrong = [
        ("nothing", Vec::new()),
        ("half a header", QUERY[..11].to_vec()),
        ("half a name", QUERY[..18].to_vec()),
        ("half a question", QUERY[..28].to_vec()),
        ("a response", with(2, 0x81)),
        ("no question", with(5, 0)),
        ("two questions", with(5, 2)),
        ("a compressed name", with(12, 0xc0)),
        ("a long label", with(12, 64)),
        ("too long", [QUERY, &[0; LONGEST]].concat()),
    ];
    let mut queries = Queries::default();
    for (what, message) in wrong {
        assert_eq!(ask(&mut queries, client(3), &message), Asked::Malformed, "{what}");
    }
    // 255 octets of name are the most: four labels of 62 and the root are 253.
    let name = |last: usize| [[62; 63].repeat(4), vec![last as u8; last + 1], vec![0, 0, 1, 0, 1]].concat();
    let long = |last: usize| [&QUERY[..12], &name(last)].concat();
    assert!(matches!(ask(&mut queries, client(3), &long(1)), Asked::Waits));
    assert_eq!(ask(&mut queries, client(3), &long(2)), Asked::Malformed);
    // RFC 2136: an update has a zone where a query has its question.
    assert!(matches!(ask(&mut queries, client(3), &with(2, 0x28)), Asked::Waits));
}

#[test]
fn one_container_cannot_starve_the_rest() {
    let mut queries = Queries::default();
    for _ in 0..PER_CONTAINER {
        assert!(matches!(ask(&mut queries, client(3), QUERY), Asked::Waits));
    }
    assert_eq!(ask(&mut queries, client(3), QUERY), Asked::Quota);
    let mut port = 4;
    while queries.len() < QUERIES {
        for _ in 0..PER_CONTAINER.min(QUERIES - queries.len()) {
            assert!(matches!(ask(&mut queries, client(port), QUERY), Asked::Waits));
        }
        port += 1;
    }
    assert_eq!(ask(&mut queries, client(port), QUERY), Asked::Full);
    // One that is over makes room.
    assert_eq!(queries.next(0, &[], draw(1), at(0)), None);
    assert!(queries.poll().is_some());
    assert_eq!(ask(&mut queries, client(3), QUERY6), Asked::Waits);
}

#[test]
fn a_station_takes_its_queries_with_it() {
    let mut stations = Stations::new(0);
    for port in [3, 4] {
        let octet = port as u8;
        let v4 = Some([10, 88, 0, octet].into());
        let mac = UnicastMac::for_ipv4([10, 88, 0, octet]);
        stations.set(port, Station { mac, v4, v6: None, mtu: 1_500, limits: Limits::default(), guard: AddressGuard::default() });
    }
    let mut queries = Queries::default();
    let of = |stations: &Stations, port| Client { owner: stations.owner(port), ..client(port) };
    let [waiting, failed, other] = [3, 3, 4].map(|port| {
        assert_eq!(ask(&mut queries, of(&stations, port), QUERY), Asked::Waits);
        queries.expire(at(0)).unwrap()
    });
    queries.next(waiting, &[resolver(1)], draw(1), at(0)).unwrap();
    assert_eq!(queries.next(failed, &[], draw(1), at(0)), None);
    queries.next(other, &[resolver(1)], draw(1), at(5)).unwrap();
    assert!(queries.end(&stations).is_empty());
    stations.remove(3);
    assert_eq!(queries.end(&stations), [waiting]);
    assert!(!queries.has_work() && queries.poll().is_none());
    assert_eq!((queries.len(), queries.deadline()), (1, Some(at(2_005))));
}

proptest! {
    #[test]
    fn octets_of_all_kinds(query: Vec<u8>, mut reply: Vec<u8>, at_place in 0..64_usize, octet: u8) {
        let mut queries = Queries::default();
        ask(&mut queries, client(3), &query);
        // And what is a query but for one octet.
        let mut message = EDNS.to_vec();
        if let Some(place) = message.get_mut(at_place) {
            *place = octet;
        }
        let waiting = queries.len();
        if ask(&mut queries, client(4), &message) == Asked::Waits {
            let slot = (0..=waiting).filter_map(|_| queries.expire(at(0))).last().unwrap();
            let sent = queries.next(slot, &[resolver(1)], draw(7), at(0)).unwrap().message.to_vec();
            queries.answer(slot, &mut reply, 1, |_, _| {});
            prop_assert_eq!(queries.answer(slot, &mut reply, 1, |_, _| {}), Answered::Ignored);
            let mut echoed = sent;
            echoed[2] |= RESPONSE;
            // What is behind the question may be no record.
            let answered = queries.answer(slot, &mut echoed, 1, |_, _| {});
            prop_assert!(answered == Answered::Next || (answered == Answered::Deliver(client(4)) && echoed[..2] == message[..2]));
        }
    }
}

#[test]
fn the_case_of_letters_is_drawn_and_checked() {
    let mut queries = Queries::default();
    let slot = begin(&mut queries, QUERY);
    let case = Draw { id: 7, case: [0b10_0000_0010, 0, 0, 0] };
    let resolvers = [resolver(1), resolver(2)];
    let sent = queries.next(slot, &resolvers, case, at(0)).unwrap().message.to_vec();
    assert_eq!(sent[12..24], *b"\x03Www\x07examPle");
    // The right answer as it was asked at first: not believed, and the next one's turn.
    assert_eq!(queries.answer(slot, &mut answer(7, 0x8180), 2, |_, _| {}), Answered::Next);
    assert_eq!(queries.counts.other_case, 1);
    let sent = queries.next(slot, &resolvers, case, at(1)).unwrap().message.to_vec();
    let mut reply = answer(7, 0x8180);
    reply[12..29].copy_from_slice(&sent[12..29]);
    assert_eq!(queries.answer(slot, &mut reply, 2, |_, _| {}), Answered::Deliver(client(3)));
    assert_eq!(reply, answer(0x1234, 0x8180), "the client's own case");
    // Where all do so, the client is to come by TCP.
    let slot = begin(&mut queries, QUERY);
    let other = Draw { id: 7, case: [2, 0, 0, 0] };
    for round in 0..2 {
        queries.next(slot, &[resolver(1)], other, at(round)).unwrap();
        let mut reply = answer(7, 0x8180);
        reply[13] ^= if round == 0 { 0 } else { 0x20 };
        queries.answer(slot, &mut reply, 1, |_, _| {});
    }
    assert_eq!(queries.next(slot, &[resolver(1)], other, at(2)), None);
    assert_eq!(queries.poll().unwrap().1[..4], [0x12, 0x34, 0x83, 0x80], "truncated");
}

#[test]
fn who_asks_the_same_waits_with_the_first() {
    let mut queries = Queries::default();
    let question = Question::of_query(QUERY).unwrap();
    let key = Some(b"key".to_vec());
    for port in [3, 4] {
        assert_eq!(queries.begin(client(port), QUERY, &question, key.clone()), Asked::Waits);
    }
    let slot = queries.expire(at(0)).unwrap();
    assert_eq!((queries.expire(at(0)), queries.len(), queries.counts.joined), (None, 1, 1));
    queries.next(slot, &[resolver(1)], draw(7), at(0)).unwrap();
    let mut shown = None;
    let reply = &mut answer(7, 0x8180);
    assert_eq!(queries.answer(slot, reply, 1, |key, stored| shown = Some((key, stored.lifetime()))), Answered::Deliver(client(3)));
    assert_eq!(shown, Some((b"key".to_vec(), 3_600)));
    assert_eq!(queries.poll(), Some((client(4), answer(0x1234, 0x8180))));
    assert!(queries.is_empty() && queries.held.is_empty() && queries.by_key.is_empty());
}
