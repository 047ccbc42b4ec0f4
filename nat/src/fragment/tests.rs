use super::*;
use crate::checksum;
use crate::packet::Readable;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::time::Duration;
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;
use vswitch_switch::{FrameBuf, FramePool};

const SRC: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 2);
const DST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const SRC6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
const DST6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);
const PORT: u16 = 3;
const NOW: Time = Time::from_secs(100);
const DROP: DropReason = DropReason::Fragment;

fn frame_of(octets: &[u8]) -> FrameBuf {
    let mut frame = FramePool::new(1).take().unwrap();
    assert!(frame.fill(octets));
    frame
}

fn parse<A: Readable>(octets: &[u8]) -> Packet<A> {
    Packet::parse(frame_of(octets), 14).map_err(|(_, reason)| reason).unwrap()
}

/// A UDP datagram's octets `offset..offset + len` between two hosts.
fn between(src: Ipv4Addr, dst: Ipv4Addr, id: u16, offset: u16, len: u16, more: bool) -> Packet<Ipv4Addr> {
    let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0];
    ip[2..4].copy_from_slice(&(20 + len).to_be_bytes());
    ip[4..6].copy_from_slice(&id.to_be_bytes());
    ip[6..8].copy_from_slice(&((offset / 8) | if more { 0x2000 } else { 0 }).to_be_bytes());
    ip.extend(src.octets());
    ip.extend(dst.octets());
    let sum = checksum::checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut payload: Vec<u8> = (offset..offset + len).map(|i| i as u8).collect();
    if offset == 0 {
        payload[..8].copy_from_slice(&[0x9c, 0x40, 0, 53, 0, 8, 0xbe, 0xef]);
    }
    parse(&[&[0; 12], &[8, 0][..], &ip, &payload].concat())
}

fn v4(id: u16, offset: u16, len: u16, more: bool) -> Packet<Ipv4Addr> {
    between(SRC, DST, id, offset, len, more)
}

/// The same over IPv6; `next` is what the fragment header says follows.
fn v6(id: u32, next: u8, offset: u16, more: bool, payload: &[u8]) -> Packet<Ipv6Addr> {
    let mut octets = vec![0; 12];
    octets.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
    octets.extend((8 + payload.len() as u16).to_be_bytes());
    octets.extend([44, 64]);
    octets.extend(SRC6.octets());
    octets.extend(DST6.octets());
    octets.extend([next, 0]);
    octets.extend((offset | u16::from(more)).to_be_bytes());
    octets.extend(id.to_be_bytes());
    octets.extend(payload);
    parse(&octets)
}

fn admit<A: Address>(fragments: &mut Fragments<A>, p: &Packet<A>, now: Time) -> Fate<A> {
    let (datagram, fragment) = Datagram::of(p, PORT).unwrap();
    fragments.admit(datagram, fragment, now)
}

fn known(id: u32) -> Known<Ipv4Addr> {
    Known { src: Ipv4Addr::new(203, 0, 113, 1), dst: DST, id }
}

fn learn(fragments: &mut Fragments<Ipv4Addr>, first: &Packet<Ipv4Addr>, id: u32) {
    fragments.learn(&Datagram::of(first, PORT).unwrap().0, known(id), NOW);
}

#[test]
fn in_order_they_go_the_way_of_the_first() {
    let mut fragments = Fragments::new(1);
    let first = v4(7, 0, 1_480, true);
    assert_eq!(admit(&mut fragments, &first, NOW), Fate::First);
    learn(&mut fragments, &first, 77);
    let mut later = v4(7, 1_480, 1_000, true);
    assert_eq!(admit(&mut fragments, &later, NOW), Fate::Later(known(77)));
    known(77).apply(&mut later);
    assert_eq!((later.tuple().src, later.tuple().dst, later.fragment().unwrap().id), (known(0).src, DST, 77));
    let again: Packet<Ipv4Addr> = parse(later.frame().bytes());
    assert_eq!((again.tuple(), again.fragment()), (later.tuple(), later.fragment()), "and the header's checksum is right");
    assert_eq!(again.payload(), v4(7, 1_480, 1_000, true).payload());
    assert_eq!(admit(&mut fragments, &v4(7, 2_480, 3, false), NOW), Fate::Later(known(77)));
}

#[test]
fn n19_the_second_waits_for_the_first() {
    let mut fragments = Fragments::new(1);
    for offset in [2_960, 1_480] {
        let p = v4(7, offset, 1_480, offset == 1_480);
        assert_eq!(admit(&mut fragments, &p, NOW), Fate::Hold);
        let datagram = Datagram::of(&p, PORT).unwrap().0;
        assert!(fragments.hold(p, datagram, NOW).is_none());
        assert!(fragments.release(&datagram).is_none(), "not yet");
    }
    assert_eq!(fragments.held(), 2);
    let first = v4(7, 0, 1_480, true);
    let datagram = Datagram::of(&first, PORT).unwrap().0;
    assert_eq!(admit(&mut fragments, &first, NOW), Fate::First);
    learn(&mut fragments, &first, 7);
    for offset in [2_960, 1_480] {
        let (p, way) = fragments.release(&datagram).unwrap();
        assert_eq!((p.fragment().unwrap().offset, way), (offset, known(7)), "in the order of their coming");
    }
    assert!(fragments.release(&datagram).is_none() && fragments.held() == 0 && fragments.deadline().is_none());
}

#[test]
fn n20_without_a_first_they_are_bounded_and_harm_nobody() {
    let mut fragments = Fragments::new(1);
    let mine = v4(1, 0, 1_480, true);
    assert_eq!(admit(&mut fragments, &mine, NOW), Fate::First);
    learn(&mut fragments, &mine, 1);
    let mut displaced = 0;
    for id in 0..10_000 {
        let p = between(Ipv4Addr::new(192, 0, 2, 1), SRC, id, 1_480, 1_480, true);
        assert_eq!(admit(&mut fragments, &p, NOW), Fate::Hold);
        let datagram = Datagram::of(&p, PORT).unwrap().0;
        displaced += usize::from(fragments.hold(p, datagram, NOW).is_some());
        assert!(fragments.len() <= DATAGRAMS && fragments.held() <= HELD);
        if id % 1_000 == 0 {
            let offset = 1_480 + id / 1_000 * 1_480;
            assert_eq!(admit(&mut fragments, &v4(1, offset, 1_480, true), NOW), Fate::Later(known(1)), "one in use goes on");
        }
    }
    assert_eq!(displaced, 10_000 - HELD);
    // Among the last few of the flood, one out of order is still served.
    let late = v4(2, 1_480, 100, false);
    assert_eq!(admit(&mut fragments, &late, NOW), Fate::Hold);
    let datagram = Datagram::of(&late, PORT).unwrap().0;
    assert!(fragments.hold(late, datagram, NOW).is_some(), "the oldest goes");
    let first = v4(2, 0, 1_480, true);
    assert_eq!(admit(&mut fragments, &first, NOW), Fate::First);
    learn(&mut fragments, &first, 2);
    assert!(fragments.release(&datagram).is_some());
    // All end by themselves.
    let later = fragments.deadline().unwrap();
    assert!(later > NOW && later <= NOW.after(FRAGMENT + Duration::from_millis(1)));
    let mut expired = 0;
    while fragments.expire(later).is_some() {
        expired += 1;
    }
    assert_eq!((expired, fragments.held(), fragments.len()), (HELD - 1, 0, 0));
}

#[test]
fn one_datagram_holds_only_a_few() {
    let mut fragments = Fragments::new(1);
    for number in 1..=HELD_PER_DATAGRAM as u16 + 3 {
        let p = v4(7, number * 8, 8, true);
        assert_eq!(admit(&mut fragments, &p, NOW), Fate::Hold);
        let datagram = Datagram::of(&p, PORT).unwrap().0;
        let back = fragments.hold(p, datagram, NOW);
        assert_eq!(back.is_some(), usize::from(number) > HELD_PER_DATAGRAM);
    }
    assert_eq!(fragments.held(), HELD_PER_DATAGRAM);
}

#[test]
fn n20_an_overlap_ends_the_datagram() {
    // What has come, what overlaps it.
    for ((offset, len), (other, other_len)) in [((1_480, 1_480), (1_472, 16)), ((8, 16), (16, 16)), ((8, 8), (0, 32))] {
        let mut fragments = Fragments::new(1);
        let p = v4(7, offset, len, true);
        assert_eq!(admit(&mut fragments, &p, NOW), Fate::Hold);
        let datagram = Datagram::of(&p, PORT).unwrap().0;
        assert!(fragments.hold(p, datagram, NOW).is_none());
        assert_eq!(admit(&mut fragments, &v4(7, other, other_len, true), NOW), Fate::Drop(DROP));
        assert_eq!(admit(&mut fragments, &v4(7, 0, 8, true), NOW), Fate::Drop(DROP), "all that follows");
        fragments.learn(&datagram, known(7), NOW);
        assert!(fragments.release(&datagram).is_none());
        assert!(fragments.expire(NOW).is_some(), "and what has waited, at once");
        // It is forgotten although more keeps coming.
        let later = NOW.after(FRAGMENT / 2);
        assert_eq!(admit(&mut fragments, &v4(7, 4_000, 8, true), later), Fate::Drop(DROP));
        assert_eq!(admit(&mut fragments, &v4(7, 0, 8, true), NOW.after(FRAGMENT + Duration::from_nanos(1))), Fate::First);
    }
}

#[test]
fn a_datagram_has_one_end() {
    // After one that ends at 2,000: one beyond, another end, an end before what was seen.
    for (offset, len, more) in [(2_000, 8, true), (2_000, 8, false), (1_000, 1_008, true), (8, 9, false)] {
        let mut fragments = Fragments::new(1);
        assert_eq!(admit(&mut fragments, &v4(7, 1_600, 400, false), NOW), Fate::Hold);
        assert_eq!(admit(&mut fragments, &v4(7, offset, len, more), NOW), Fate::Drop(DROP));
        assert_eq!(admit(&mut fragments, &v4(7, 0, 8, true), NOW), Fate::Drop(DROP), "{offset} {len} {more}");
    }
    let mut fragments = Fragments::new(1);
    assert_eq!(admit(&mut fragments, &v4(7, 1_600, 400, true), NOW), Fate::Hold);
    assert_eq!(admit(&mut fragments, &v4(7, 8, 9, false), NOW), Fate::Drop(DROP));
    assert_eq!(admit(&mut fragments, &v4(7, 0, 8, true), NOW), Fate::Drop(DROP));
}

#[test]
fn a_duplicate_is_dropped_and_the_rest_goes_on() {
    let mut fragments = Fragments::new(1);
    let first = v4(7, 0, 16, true);
    assert_eq!(admit(&mut fragments, &first, NOW), Fate::First);
    learn(&mut fragments, &first, 7);
    assert_eq!(admit(&mut fragments, &first, NOW), Fate::Drop(DROP));
    assert_eq!(admit(&mut fragments, &v4(7, 16, 16, true), NOW), Fate::Later(known(7)));
    assert_eq!(admit(&mut fragments, &v4(7, 16, 16, true), NOW), Fate::Drop(DROP));
    assert_eq!(admit(&mut fragments, &v4(7, 32, 16, true), NOW), Fate::Later(known(7)));
}

#[test]
fn a_complete_datagram_frees_its_identification() {
    let mut fragments = Fragments::new(1);
    for round in 0..3 {
        let first = v4(7, 0, 16, true);
        assert_eq!(admit(&mut fragments, &first, NOW), Fate::First, "round {round}");
        learn(&mut fragments, &first, round);
        assert_eq!(admit(&mut fragments, &v4(7, 16, 9, false), NOW), Fate::Later(known(round)));
    }
    // One that begins with its second does not go the way of the last.
    assert_eq!(admit(&mut fragments, &v4(7, 16, 9, false), NOW), Fate::Hold);
}

#[test]
fn too_many_pieces_with_gaps_end_it() {
    let mut fragments = Fragments::new(1);
    for number in 0..RANGES as u16 {
        assert_eq!(admit(&mut fragments, &v4(7, 16 + number * 16, 8, true), NOW), Fate::Hold);
    }
    // Those that close a gap need no room.
    assert_eq!(admit(&mut fragments, &v4(7, 24, 8, true), NOW), Fate::Hold);
    assert_eq!(admit(&mut fragments, &v4(7, 8_000, 8, true), NOW), Fate::Hold);
    assert_eq!(admit(&mut fragments, &v4(7, 9_000, 8, true), NOW), Fate::Drop(DROP));
    assert_eq!(admit(&mut fragments, &v4(7, 0, 16, true), NOW), Fate::Drop(DROP));
}

#[test]
fn when_the_first_is_refused_so_is_the_rest() {
    let mut fragments = Fragments::new(1);
    let second = v4(7, 16, 16, true);
    let datagram = Datagram::of(&second, PORT).unwrap().0;
    assert_eq!(admit(&mut fragments, &second, NOW), Fate::Hold);
    assert!(fragments.hold(second, datagram, NOW).is_none());
    assert_eq!(admit(&mut fragments, &v4(7, 0, 16, true), NOW), Fate::First);
    fragments.refuse(&datagram, NOW);
    assert_eq!(admit(&mut fragments, &v4(7, 32, 16, true), NOW), Fate::Drop(DROP));
    assert!(fragments.release(&datagram).is_none());
    assert!(fragments.expire(NOW).is_some() && fragments.expire(NOW).is_none());
}

#[test]
fn the_same_name_elsewhere_is_another_datagram() {
    let mut fragments = Fragments::new(1);
    let there = v4(7, 0, 16, true);
    assert_eq!(admit(&mut fragments, &there, NOW), Fate::First);
    learn(&mut fragments, &there, 7);
    // Back, another protocol's, and forged at another port.
    assert_eq!(admit(&mut fragments, &between(DST, SRC, 7, 16, 16, true), NOW), Fate::Hold);
    let (datagram, fragment) = Datagram::of(&v4(7, 16, 16, true), PORT).unwrap();
    let elsewhere = Datagram { protocol: 6, ..datagram };
    assert_eq!(fragments.admit(elsewhere, fragment, NOW), Fate::Hold);
    assert_eq!(fragments.admit(Datagram { ingress: PORT + 1, ..datagram }, fragment, NOW), Fate::Hold);
    assert_eq!(datagram.ingress(), PORT);
    assert_eq!(fragments.admit(datagram, fragment, NOW), Fate::Later(known(7)));
    assert!(Datagram::of(&v4(7, 0, 16, false), PORT).is_none(), "a whole one is no fragment");
}

#[test]
fn it_is_remembered_for_two_seconds_after_its_last() {
    let mut fragments = Fragments::new(1);
    let first = v4(7, 0, 16, true);
    assert_eq!(admit(&mut fragments, &first, NOW), Fate::First);
    learn(&mut fragments, &first, 7);
    assert_eq!(admit(&mut fragments, &v4(7, 16, 8, true), NOW.after(FRAGMENT)), Fate::Later(known(7)));
    assert_eq!(admit(&mut fragments, &v4(7, 24, 8, true), NOW.after(FRAGMENT * 2)), Fate::Later(known(7)));
    assert_eq!(admit(&mut fragments, &v4(7, 32, 8, true), NOW.after(FRAGMENT * 3 + Duration::from_nanos(1))), Fate::Hold);
}

#[test]
fn what_was_held_for_a_forgotten_one_does_not_follow_its_namesake() {
    let mut fragments = Fragments::new(1);
    let old = v4(7, 16, 8, true);
    let datagram = Datagram::of(&old, PORT).unwrap().0;
    assert_eq!(admit(&mut fragments, &old, NOW), Fate::Hold);
    assert!(fragments.hold(old, datagram, NOW).is_none());
    let later = NOW.after(FRAGMENT * 2);
    assert_eq!(admit(&mut fragments, &v4(7, 0, 16, true), later), Fate::First);
    fragments.learn(&datagram, known(7), later);
    assert!(fragments.release(&datagram).is_none());
    assert!(fragments.expire(later).is_some());
}

#[test]
fn ipv6_by_identification_alone() {
    let udp = [0x9c, 0x40, 0, 53, 0, 40, 0xbe, 0xef, 1, 2, 3, 4, 5, 6, 7, 8];
    let mut fragments = Fragments::new(1);
    // RFC 8200 4.5: behind the fragment header of the first come destination options, and so says every later one's.
    let first = v6(0xdead_beef, 60, 0, true, &[&[17, 0, 1, 4, 0, 0, 0, 0][..], &udp].concat());
    assert_eq!((first.tuple().protocol, first.tuple().dport), (17, 53));
    assert_eq!(admit(&mut fragments, &first, NOW), Fate::First);
    let way = Known::of(&first).unwrap();
    assert_eq!(way, Known { src: SRC6, dst: DST6, id: 0xdead_beef });
    fragments.learn(&Datagram::of(&first, PORT).unwrap().0, way, NOW);
    // The octets of a later one are payload, whatever they look like: here options that would not end.
    let later = v6(0xdead_beef, 60, 24, false, &[17, 200, 0, 0, 0]);
    assert_eq!(later.fragment().unwrap(), Fragment { id: 0xdead_beef, offset: 24, len: 5, more: false });
    assert_eq!(later.payload(), [17, 200, 0, 0, 0]);
    assert_eq!(admit(&mut fragments, &later, NOW), Fate::Later(way));
    assert_eq!(admit(&mut fragments, &v6(0xdead_bee0, 17, 24, true, &udp), NOW), Fate::Hold, "another datagram");
}

proptest! {
    /// In whatever order, with duplicates, all pieces of a datagram get through once, and no octet twice.
    #[test]
    fn every_piece_once(lens in prop::collection::vec(1_u16..40, 2..12), order in prop::collection::vec(any::<prop::sample::Index>(), 0..40)) {
        let mut pieces = Vec::new();
        let mut offset = 0;
        for (i, len) in lens.iter().enumerate() {
            pieces.push((offset, len * 8, i + 1 < lens.len()));
            offset += len * 8;
        }
        let mut fragments = Fragments::new(1);
        let mut got = Vec::new();
        let picked = order.iter().map(|index| *index.get(&pieces)).chain(pieces.iter().copied());
        for (offset, len, more) in picked {
            if got.len() == pieces.len() {
                break;
            }
            let p = v4(7, offset, len, more);
            let datagram = Datagram::of(&p, PORT).unwrap().0;
            match admit(&mut fragments, &p, NOW) {
                Fate::First => {
                    learn(&mut fragments, &p, 7);
                    got.push(offset);
                    while let Some((p, _)) = fragments.release(&datagram) {
                        got.push(p.fragment().unwrap().offset);
                    }
                }
                Fate::Later(_) => got.push(offset),
                // More than eight wait only if it is shorter in eight: counted as come.
                Fate::Hold => got.extend(fragments.hold(p, datagram, NOW).map(|p| p.fragment().unwrap().offset)),
                Fate::Drop(_) => {}
            }
        }
        got.sort_unstable();
        prop_assert_eq!(got, pieces.iter().map(|piece| piece.0).collect::<Vec<_>>());
    }

    /// Against a plain set of octets: nothing that was let through overlaps, and the table never panics.
    #[test]
    fn no_octet_twice(pieces in prop::collection::vec((0_u16..60, 1_u16..8, any::<bool>()), 1..40)) {
        let mut fragments = Fragments::new(1);
        let mut seen = [false; 1_024];
        for (offset, len, more) in pieces {
            let p = v4(7, offset * 8, len * 8, more);
            if p.fragment().is_none() {
                continue;
            }
            match admit(&mut fragments, &p, NOW) {
                Fate::First | Fate::Later(_) | Fate::Hold => {
                    for octet in &mut seen[usize::from(offset)..usize::from(offset + len)] {
                        prop_assert!(!*octet);
                        *octet = true;
                    }
                }
                Fate::Drop(_) => {}
            }
        }
    }
}
