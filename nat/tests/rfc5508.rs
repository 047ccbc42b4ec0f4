//! What RFC 5508 asks of a NAT for ICMP, each a test named after its number: N39-N50, and N79. That every checksum which comes out is
//! right, the quoted IP header's too, is asserted of each packet that these tests see.
mod common;
use common::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use vswitch_nat::icmp_error::{IcmpError, Limiter, deserves_error, write_error};
use vswitch_nat::nat::{Filtering, NatConfig};
use vswitch_nat::packet::Packet;
use vswitch_switch::{DropReason, FramePool};

/// B's port 5,000 is not 5,000 outside: A has it. Gives B's packet to X as it leaves.
fn translated(w: &mut World, n: &Net) -> Seen {
    w.out(&udp((n.a, 5_000), (n.x, 7), b"")).unwrap();
    let sent = w.out(&udp((n.b, 5_000), (n.x, 7), b"payload")).unwrap();
    assert_ne!(sent.src.port(), 5_000);
    sent
}

fn changed(octets: &[u8], at: usize, by: u8) -> Vec<u8> {
    let mut octets = octets.to_vec();
    octets[at] ^= by;
    octets
}

/// Octets of the IP header.
fn header(n: &Net) -> usize {
    if n.a.is_ipv4() { 20 } else { 40 }
}

#[test]
fn n39_an_echo_is_answered_with_its_own_identifier() {
    for n in BOTH {
        let mut w = World::new();
        assert_eq!(w.out(&ping((n.a, 77), n.x)).unwrap().ends(), ends((n.e, 77), (n.x, 0)));
        let out = w.out(&ping((n.b, 77), n.x)).unwrap();
        assert_ne!(out.src.port(), 77);
        let back = w.in_(&pong(n.x, host(out.src))).unwrap();
        assert_eq!(back.ends(), ends((n.x, 0), (n.b, 77)));
        assert_eq!(back.payload(), b"abcdefgh");
    }
}

#[test]
fn n39_an_identifiers_mapping_is_independent_of_the_remote() {
    for n in BOTH {
        let mut w = World::new();
        w.out(&ping((n.a, 77), n.x)).unwrap();
        let first = w.out(&ping((n.b, 77), n.x)).unwrap();
        assert_eq!(w.out(&ping((n.b, 77), n.y)).unwrap().src, first.src);
    }
}

#[test]
fn n39_replies_that_nobody_asked_for_go_nowhere() {
    for n in BOTH {
        let mut w = World::new();
        w.out(&ping((n.a, 77), n.x)).unwrap();
        assert_eq!(w.in_(&pong(n.y, (n.e, 77))), Err(DropReason::Unsolicited));
        assert_eq!(w.in_(&pong(n.x, (n.e, 78))), Err(DropReason::Unsolicited));
        assert_eq!(w.in_(&ping((n.x, 77), n.e)), Err(DropReason::Unsolicited));
        assert_eq!(w.out(&pong(n.a, (n.x, 9))), Err(DropReason::NatState));
    }
}

#[test]
fn n40_a_query_lives_59_s_and_61_s_no_longer() {
    for n in BOTH {
        let mut w = World::new();
        w.out(&ping((n.a, 77), n.x)).unwrap();
        w.wait(59);
        assert_eq!(w.in_(&pong(n.x, (n.e, 77))).unwrap().dst, at(n.a, 77));
        w.wait(61);
        assert_eq!(w.in_(&pong(n.x, (n.e, 77))), Err(DropReason::Unsolicited));
    }
}

#[test]
fn n41_two_hosts_with_one_identifier_are_told_apart() {
    for n in BOTH {
        let mut w = World::new();
        let a = w.out(&ping((n.a, 77), n.x)).unwrap().src;
        let b = w.out(&ping((n.b, 77), n.x)).unwrap().src;
        assert_ne!(a, b);
        assert_eq!(w.in_(&pong(n.x, host(b))).unwrap().dst, at(n.b, 77));
        assert_eq!(w.in_(&pong(n.x, host(a))).unwrap().dst, at(n.a, 77));
    }
}

#[test]
fn n42_an_error_with_a_bad_checksum_is_dropped() {
    for n in BOTH {
        let mut w = World::new();
        let sent = translated(&mut w, &n);
        let error = icmp_error(n.router, n.e, n.time_exceeded(), &sent.frame);
        let l4 = L3 + header(&n);
        for at in [l4 + 1, l4 + 2, error.len() - 1] {
            assert_eq!(w.in_(&changed(&error, at, 1)), Err(DropReason::PacketMalformed));
        }
        assert!(w.in_(&error).is_ok());
    }
}

#[test]
fn n42_an_error_that_quotes_a_broken_ip_header_is_dropped() {
    let (n, mut w) = (V4, World::new());
    let sent = translated(&mut w, &n);
    let broken = changed(&sent.frame, L3 + 10, 1);
    assert_eq!(w.in_(&icmp_error(n.router, n.e, [11, 0], &broken)), Err(DropReason::PacketMalformed));
}

#[test]
fn n42_options_of_a_quoted_header_are_walked() {
    let (n, mut w) = (V4, World::new());
    let sent = translated(&mut w, &n);
    // Router alert (RFC 2113), put in on the way.
    let quote = ip_packet(n.e, n.x, UDP, &[148, 4, 0, 0], sent.message());
    let seen = w.in_(&icmp_error_with(n.router, n.e, [11, 0, 0, 0, 0, 0, 0, 0], &quote)).unwrap();
    assert_eq!(seen.dst.ip(), n.b);
    assert_eq!(seen.quoted_whole().ends(), ends((n.b, 5_000), (n.x, 7)));
}

#[test]
fn n42_a_quoted_layer_4_checksum_is_not_judged() {
    for n in BOTH {
        let mut w = World::new();
        let sent = translated(&mut w, &n);
        let broken = changed(&sent.frame, L3 + header(&n) + 6, 0x55);
        let seen = w.in_(&icmp_error(n.router, n.e, n.time_exceeded(), &broken)).unwrap();
        assert_eq!(seen.quoted(), ends((n.b, 5_000), (n.x, 7)));
    }
}

#[test]
fn n42_extensions_are_left_alone() {
    for n in BOTH {
        let mut w = World::new();
        let sent = translated(&mut w, &n);
        // RFC 4884 4: the quote padded to 128 octets, its length in 32-bit words (IPv4, the 6th octet) or 64-bit ones (IPv6, the 5th).
        let mut quote = sent.frame[L3..].to_vec();
        quote.resize(128, 0);
        let [kind, code] = n.time_exceeded();
        let first = if n.a.is_ipv4() { [kind, code, 0, 0, 0, 32, 0, 0] } else { [kind, code, 0, 0, 16, 0, 0, 0] };
        // RFC 4950: an MPLS label stack object.
        let extension = [0x20, 0, 0x9d, 0x2e, 0, 8, 1, 1, 0, 0x3e, 0x81, 1];
        let seen = w.in_(&icmp_error_with(n.router, n.e, first, &[&quote[..], &extension].concat())).unwrap();
        assert_eq!(seen.quoted(), ends((n.b, 5_000), (n.x, 7)));
        assert_eq!(seen.message()[4..8], first[4..8]);
        assert_eq!(seen.message()[8 + 128..], extension);
    }
}

#[test]
fn n43_an_error_about_nothing_that_was_sent_is_dropped() {
    for n in BOTH {
        let mut w = World::new();
        let sent = translated(&mut w, &n);
        for about in [
            udp((n.e, 9_999), (n.x, 7), b""),
            udp(host(sent.src), (n.y, 7), b""),
            udp(host(sent.src), (n.x, 8), b""),
            tcp(host(sent.src), (n.x, 7), SYN),
            ping(host(sent.src), n.x),
        ] {
            assert_eq!(w.in_(&icmp_error(n.router, n.e, n.time_exceeded(), &about)), Err(DropReason::Unsolicited));
        }
        // Nor one that is told to another than who sent the packet.
        assert!(w.in_(&icmp_error(n.router, n.e2, n.time_exceeded(), &sent.frame)).is_err());
    }
}

#[test]
fn n43_an_error_from_outside_quotes_what_the_sender_sent() {
    for n in BOTH {
        let mut w = World::new();
        let udp_sent = udp((n.b, 5_000), (n.x, 7), b"payload");
        let tcp_sent = segment((n.b, 5_000), (n.x, 80), SYN, 100, 0, b"");
        let ping_sent = ping((n.b, 5_000), n.x);
        w.out(&udp((n.a, 5_000), (n.x, 7), b"")).unwrap();
        w.out(&tcp((n.a, 5_000), (n.x, 80), SYN)).unwrap();
        w.out(&ping((n.a, 5_000), n.x)).unwrap();
        for inside in [udp_sent, tcp_sent, ping_sent] {
            let out = w.out(&inside).unwrap();
            assert_ne!(out.src.port(), 5_000);
            for [kind, code] in [n.time_exceeded(), n.port_unreachable()] {
                let seen = w.in_(&icmp_error(n.router, n.e, [kind, code], &out.frame)).unwrap();
                assert_eq!((seen.src.ip(), seen.dst.ip()), (n.router, n.b));
                assert_eq!(seen.message()[..2], [kind, code]);
                assert_eq!(eth(&seen.message()[8..]), inside, "octet by octet");
            }
        }
    }
}

#[test]
fn n44_an_error_from_inside_quotes_what_came_from_outside() {
    for n in BOTH {
        let mut w = World::new();
        w.publish(1, UDP, None, 8_080..=8_080, &[(1, n.a, 80)]).unwrap();
        let outside = udp((n.x, 4_000), (n.e, 8_080), b"knock");
        let inside = w.in_(&outside).unwrap();
        assert_eq!(inside.dst, at(n.a, 80));
        let seen = w.out(&icmp_error(n.a, n.x, n.port_unreachable(), &inside.frame)).unwrap();
        assert_eq!((seen.src.ip(), seen.dst.ip()), (n.e, n.x));
        assert_eq!(seen.message()[..2], n.port_unreachable());
        assert_eq!(eth(&seen.message()[8..]), outside, "octet by octet");
    }
}

#[test]
fn n44_an_error_from_inside_about_another_containers_session_is_dropped() {
    for n in BOTH {
        let mut w = World::new();
        w.publish(1, UDP, None, 8_080..=8_080, &[(1, n.a, 80)]).unwrap();
        let inside = w.in_(&udp((n.x, 4_000), (n.e, 8_080), b"knock")).unwrap();
        let error = icmp_error(n.a, n.x, n.port_unreachable(), &inside.frame);
        assert_eq!(w.out_from(2, &error), Err(DropReason::SourceSpoof));
        let about_nothing = icmp_error(n.a, n.x, n.port_unreachable(), &udp((n.x, 4_001), (n.a, 80), b""));
        assert_eq!(w.out(&about_nothing), Err(DropReason::NatState));
    }
}

#[test]
fn n45_an_error_neither_refreshes_nor_ends_a_query() {
    for n in BOTH {
        let mut w = World::new();
        let sent = w.out(&ping((n.a, 77), n.x)).unwrap();
        let error = icmp_error(n.router, n.e, n.time_exceeded(), &sent.frame);
        w.wait(40);
        assert_eq!(w.in_(&error).unwrap().quoted_whole().src, at(n.a, 77));
        assert!(w.in_(&pong(n.x, (n.e, 77))).is_ok(), "not ended");
        w.wait(40);
        w.in_(&error).unwrap();
        w.wait(21);
        assert_eq!(w.in_(&pong(n.x, (n.e, 77))), Err(DropReason::Unsolicited), "not refreshed");
    }
}

#[test]
fn n46_an_error_about_a_hairpinned_packet_reaches_its_sender_in_its_own_view() {
    for n in BOTH {
        let mut w = World::with(NatConfig { filtering: Filtering::EndpointIndependent, ..NatConfig::default() });
        w.out(&udp((n.b, 6_000), (n.x, 7), b"")).unwrap();
        let sent = udp((n.a, 5_000), (n.e, 6_000), b"hello");
        let there = w.hairpin(&sent).unwrap();
        assert_eq!(there.ends(), ends((n.e, 5_000), (n.b, 6_000)));
        let seen = w.hairpin(&icmp_error(n.b, n.e, n.port_unreachable(), &there.frame)).unwrap();
        assert_eq!((seen.src.ip(), seen.dst.ip()), (n.e, n.a));
        assert_eq!(eth(&seen.message()[8..]), sent, "octet by octet");
    }
}

#[test]
fn n47_exhaustion_has_a_reason_and_the_sender_an_answer() {
    for n in BOTH {
        let mut w = World::with(NatConfig { sessions_v4: 1, sessions_v6: 1, ..NatConfig::default() });
        let external = w.connect((n.a, 5_000), (n.x, 80));
        let refused = tcp((n.b, 5_000), (n.x, 80), SYN);
        assert_eq!(w.out(&refused), Err(DropReason::NatFull));
        assert!(w.in_(&segment((n.x, 80), host(external), ACK, 5_001, 101, b"")).is_ok());
        // What the gateway answers: prohibited (RFC 5508 REQ-8: 3/13; RFC 4443 3.1: 1/1), with the packet as it came.
        let mut frame = FramePool::new(1).take().unwrap();
        assert!(frame.fill(&refused));
        let gateway: IpAddr = if n.a.is_ipv4() { "10.0.0.1".parse().unwrap() } else { "fd00::1".parse().unwrap() };
        let answer = match gateway {
            IpAddr::V4(gateway) => {
                let p = Packet::<Ipv4Addr>::parse(frame, L3).unwrap();
                assert!(deserves_error(&p));
                write_error(p, IcmpError::Prohibited, gateway)
            }
            IpAddr::V6(gateway) => {
                let p = Packet::<Ipv6Addr>::parse(frame, L3).unwrap();
                assert!(deserves_error(&p));
                write_error(p, IcmpError::Prohibited, gateway)
            }
        };
        let answer = Seen::read(answer.bytes());
        assert_eq!((answer.src.ip(), answer.dst.ip()), (gateway, n.b));
        assert_eq!(answer.message()[..2], if n.a.is_ipv4() { [3, 13] } else { [1, 1] });
        assert_eq!(eth(&answer.message()[8..]), refused);
    }
}

#[test]
fn n47_answers_are_limited() {
    let w = World::new();
    let mut limiter = Limiter::new(w.now);
    let burst = (0..1_000).filter(|_| limiter.take(w.now)).count();
    assert_eq!(burst, Limiter::BURST as usize);
    let later = w.now.after(std::time::Duration::from_millis(100));
    assert_eq!((0..1_000).filter(|_| limiter.take(later)).count(), 10);
}

#[test]
fn n48_traceroute_sees_every_hop_whatever_it_sends() {
    for n in BOTH {
        let mut w = World::new();
        let hops: Vec<IpAddr> = (1..=8_u8)
            .map(|hop| {
                if n.a.is_ipv4() {
                    Ipv4Addr::new(192, 0, 2, hop).into()
                } else {
                    Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, u16::from(hop)).into()
                }
            })
            .collect();
        for (number, hop) in (0_u16..).zip(&hops) {
            let probes = [
                udp((n.b, 40_000), (n.x, 33_434 + number), b"probe"),
                segment((n.b, 40_000 + number), (n.x, 443), SYN, 100, 0, b""),
                ping((n.b, 4_711), n.x),
            ];
            for probe in probes {
                let out = w.out(&probe).unwrap();
                let seen = w.in_(&icmp_error(*hop, n.e, n.time_exceeded(), &out.frame)).unwrap();
                assert_eq!((seen.src.ip(), seen.dst.ip()), (*hop, n.b));
                assert_eq!(eth(&seen.message()[8..]), probe);
            }
        }
        // At the end X itself says so: as who it is.
        let out = w.out(&udp((n.b, 40_000), (n.x, 33_442), b"probe")).unwrap();
        let seen = w.in_(&icmp_error(n.x, n.e, n.port_unreachable(), &out.frame)).unwrap();
        assert_eq!((seen.src.ip(), seen.dst.ip()), (n.x, n.b));
    }
}

#[test]
fn n49_eight_octets_of_tcp_are_enough() {
    for n in BOTH {
        let mut w = World::new();
        w.out(&tcp((n.a, 5_000), (n.x, 80), SYN)).unwrap();
        let sent = segment((n.b, 5_000), (n.x, 80), SYN, 0x0102_0304, 0, b"");
        let out = w.out(&sent).unwrap();
        assert_ne!(out.src.port(), 5_000);
        let quote = &out.frame[L3..L3 + header(&n) + 8];
        let [kind, code] = n.time_exceeded();
        let seen = w.in_(&icmp_error_with(n.router, n.e, [kind, code, 0, 0, 0, 0, 0, 0], quote)).unwrap();
        assert_eq!(seen.message()[8..], sent[L3..L3 + header(&n) + 8], "ports and addresses, the sequence number as it was");
        // Behind them nothing is touched, be it a checksum in another packet's place.
        for len in [9, 16, 17] {
            let quote = &out.frame[L3..L3 + header(&n) + len];
            let seen = w.in_(&icmp_error_with(n.router, n.e, [kind, code, 0, 0, 0, 0, 0, 0], quote)).unwrap();
            assert_eq!(seen.message()[8..8 + header(&n) + 16.min(len)], sent[L3..L3 + header(&n) + 16.min(len)], "{len}");
            assert_eq!(seen.message().len(), 8 + header(&n) + len);
        }
    }
}

#[test]
fn n49_fewer_octets_than_the_ports_are_too_few() {
    for n in BOTH {
        let mut w = World::new();
        let sent = translated(&mut w, &n);
        let [kind, code] = n.time_exceeded();
        for len in 0..header(&n) + 4 {
            let quote = &sent.frame[L3..L3 + len];
            assert!(w.in_(&icmp_error_with(n.router, n.e, [kind, code, 0, 0, 0, 0, 0, 0], quote)).is_err(), "{len}");
        }
    }
}

#[test]
fn n50_packet_too_big_is_translated_and_neighbour_discovery_is_not() {
    let (n, mut w) = (V6, World::new());
    let sent = translated(&mut w, &n);
    let seen = w.in_(&icmp_error_with(n.router, n.e, n.too_big(1_280), &sent.frame[L3..])).unwrap();
    assert_eq!((seen.message()[0], &seen.message()[4..8]), (2, &[0, 0, 0x05, 0x00][..]));
    assert_eq!(seen.quoted_whole().ends(), ends((n.b, 5_000), (n.x, 7)));
    // Router and neighbour solicitation, advertisement, redirect: to a global address, and where it belongs.
    for kind in 133..=137 {
        let message = [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &[0x20; 16]].concat();
        assert_eq!(w.out(&frame(n.a, n.x, ICMPV6, message.clone())), Err(DropReason::NatState), "{kind}");
        assert_eq!(w.in_(&frame(n.x, n.e, ICMPV6, message.clone())), Err(DropReason::Unsolicited), "{kind}");
        let group = "ff02::1".parse().unwrap();
        assert_eq!(w.out(&frame(n.a, group, ICMPV6, message)), Err(DropReason::Martian), "{kind}");
    }
    // A redirect for IPv4 (RFC 792 type 5), a timestamp (13) and an address mask request (17): neither echo nor error.
    for kind in [5, 9, 10, 13, 17] {
        let message = vec![kind, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4];
        assert_eq!(w.out(&frame(V4.a, V4.x, ICMP, message.clone())), Err(DropReason::NatState));
        assert_eq!(w.in_(&frame(V4.x, V4.e, ICMP, message)), Err(DropReason::Unsolicited));
    }
}

#[test]
fn n79_checksums_of_errors_are_right_by_increments_and_whole() {
    // Of lengths even and odd, with payloads that leave the sums in every corner; the checks are in `Seen`.
    for n in BOTH {
        let mut w = World::new();
        w.out(&udp((n.a, 5_000), (n.x, 7), b"")).unwrap();
        for len in 0..64_u16 {
            for octet in [0, 0x7f, 0xff] {
                let sent = udp((n.b, 5_000), (n.x, 7), &vec![octet; usize::from(len)]);
                let out = w.out(&sent).unwrap();
                let seen = w.in_(&icmp_error(n.router, n.e, n.time_exceeded(), &out.frame)).unwrap();
                assert_eq!(eth(&seen.message()[8..]), sent);
            }
        }
        // No checksum (IPv4 alone may do without, RFC 768) stays none.
        if n.a.is_ipv4() {
            let mut sent = udp((n.b, 5_000), (n.x, 7), b"none");
            sent[L3 + 26..L3 + 28].fill(0);
            let out = w.out(&sent).unwrap();
            assert_eq!(out.frame[L3 + 26..L3 + 28], [0, 0]);
            let seen = w.in_(&icmp_error(n.router, n.e, n.time_exceeded(), &out.frame)).unwrap();
            assert_eq!(eth(&seen.message()[8..]), sent);
        }
    }
}

#[test]
fn n43_an_error_about_what_a_container_sent_that_is_gone_is_dropped() {
    for n in BOTH {
        let mut w = World::new();
        let sent = translated(&mut w, &n);
        w.stations.remove(2);
        assert_eq!(w.in_(&icmp_error(n.router, n.e, n.time_exceeded(), &sent.frame)), Err(DropReason::Unsolicited));
    }
}
