//! What RFC 7857 and RFC 6888 add, each a test named after its number: N51-N61. N58 at its full size is in `load.rs`. Of N56
//! only the rewriting is here; the gateway says which packets get one. N60 and N61 with two workers are in `cli/tests/workers.rs`.
mod common;
use common::*;
use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use vswitch_nat::nat::{Filtering, MappingMode, NatConfig};
use vswitch_nat::packet::Packet;
use vswitch_nat::ports::PortPolicy;
use vswitch_nat::session::Class;
use vswitch_nat::station::Limits;
use vswitch_nat::tcp_state::Phase;
use vswitch_nat::timeouts::Timeouts;
use vswitch_switch::{DropReason, FramePool};

/// Who sends a segment.
#[derive(Clone, Copy, Debug)]
enum Side {
    Inside,
    Outside,
}
use Side::{Inside as I, Outside as O};

/// Sends A's and X's segments, numbers in the window throughout, and gives the phase after them; `None` when the session is no more.
fn run(n: &Net, published: bool, segments: &[(Side, u8)]) -> Option<Phase> {
    let mut w = World::new();
    let (inside, outside) = if published { ((n.a, 80), (n.x, 4_000)) } else { ((n.a, 5_000), (n.x, 80)) };
    let external = (n.e, if published { 8_080 } else { 5_000 });
    w.publish(1, TCP, None, 8_080..=8_080, &[(1, n.a, 80)]).unwrap();
    for (from, flags) in segments {
        match from {
            Side::Inside => w.out(&segment(inside, outside, *flags, 1, 1, b"")).unwrap(),
            Side::Outside => w.in_(&segment(outside, external, *flags, 1, 1, b"")).unwrap(),
        };
    }
    w.phases().first().copied()
}

#[test]
fn n51_states_are_those_of_rfc_6146() {
    let shake = [(I, SYN), (O, SYN | ACK), (I, ACK)];
    let table: &[(&[(Side, u8)], Phase)] = &[
        (&[], Phase::TcpEstablished),
        (&[(I, FIN | ACK)], Phase::TcpOriginalClosed),
        (&[(O, FIN | ACK)], Phase::TcpReplyClosed),
        // The same side's FIN again.
        (&[(I, FIN | ACK), (I, FIN | ACK)], Phase::TcpOriginalClosed),
        (&[(I, FIN | ACK), (O, ACK)], Phase::TcpOriginalClosed),
        (&[(I, FIN | ACK), (O, FIN | ACK)], Phase::TcpClosed),
        (&[(O, FIN | ACK), (I, FIN | ACK)], Phase::TcpClosed),
        (&[(O, FIN | ACK), (I, FIN | ACK), (O, ACK)], Phase::TcpClosed),
        (&[(I, RST)], Phase::TcpReset),
        (&[(O, RST)], Phase::TcpReset),
        (&[(O, RST), (O, RST)], Phase::TcpReset),
        (&[(O, RST), (I, ACK)], Phase::TcpEstablished),
        (&[(I, FIN | ACK), (O, RST)], Phase::TcpReset),
        // A SYN in its midst is no other connection (RFC 5961 4: the receiver challenges it).
        (&[(I, SYN)], Phase::TcpEstablished),
        (&[(O, SYN)], Phase::TcpEstablished),
        // Both sides closed, or reset: another one.
        (&[(I, FIN | ACK), (O, FIN | ACK), (I, SYN)], Phase::TcpOpening),
        (&[(O, RST), (I, SYN)], Phase::TcpOpening),
    ];
    for n in BOTH {
        for (more, phase) in table {
            assert_eq!(run(&n, false, &[&shake[..], more].concat()), Some(*phase), "{more:?}");
        }
        assert_eq!(run(&n, false, &[(I, SYN)]), Some(Phase::TcpOpening));
        assert_eq!(run(&n, false, &[(I, SYN), (I, SYN)]), Some(Phase::TcpOpening));
        assert_eq!(run(&n, false, &[(I, SYN), (I, ACK)]), Some(Phase::TcpOpening));
        assert_eq!(run(&n, false, &[(I, SYN), (O, SYN | ACK)]), Some(Phase::TcpAnswered));
        assert_eq!(run(&n, false, &[(I, SYN), (O, RST | ACK)]), Some(Phase::TcpReset));
    }
}

#[test]
fn n51_states_are_the_same_from_outside() {
    let shake = [(O, SYN), (I, SYN | ACK), (O, ACK)];
    let table: &[(&[(Side, u8)], Phase)] = &[
        (&[], Phase::TcpEstablished),
        (&[(O, FIN | ACK)], Phase::TcpOriginalClosed),
        (&[(I, FIN | ACK), (O, FIN | ACK)], Phase::TcpClosed),
        (&[(I, RST)], Phase::TcpReset),
        (&[(O, FIN | ACK), (I, FIN | ACK), (O, SYN)], Phase::TcpOpening),
    ];
    for n in BOTH {
        for (more, phase) in table {
            assert_eq!(run(&n, true, &[&shake[..], more].concat()), Some(*phase), "{more:?}");
        }
        assert_eq!(run(&n, true, &[(O, SYN)]), Some(Phase::TcpOpening));
        assert_eq!(run(&n, true, &[(O, SYN), (I, RST | ACK)]), Some(Phase::TcpReset));
    }
}

#[test]
fn n51_each_phase_has_the_timer_of_its_class() {
    let timeouts = Timeouts::default();
    let seconds = |phase| Class::of(phase).timeout(&timeouts).as_secs();
    for (phase, expected) in [
        (Phase::TcpOpening, 240),
        (Phase::TcpAnswered, 240),
        (Phase::TcpEstablished, 7_440),
        (Phase::TcpOriginalClosed, 7_440),
        (Phase::TcpReplyClosed, 7_440),
        (Phase::TcpClosed, 240),
        (Phase::TcpReset, 240),
        (Phase::UdpOpening, 300),
        (Phase::Udp, 300),
        (Phase::UdpShort, 30),
        (Phase::Icmp, 60),
    ] {
        assert_eq!(seconds(phase), expected, "{phase:?}");
    }
}

#[test]
fn n52_a_packet_that_the_filter_refuses_refreshes_nothing() {
    for n in BOTH {
        for filtering in [Filtering::AddressDependent, Filtering::AddressAndPortDependent] {
            let mut w = World::with(NatConfig { filtering, ..NatConfig::default() });
            w.out(&udp((n.a, 5_000), (n.x, 7), b"")).unwrap();
            for _ in 0..3 {
                w.wait(100);
                assert_eq!(w.in_(&udp((n.y, 7), (n.e, 5_000), b"")), Err(DropReason::Unsolicited));
            }
            w.wait(1);
            assert_eq!(w.in_(&udp((n.x, 7), (n.e, 5_000), b"")), Err(DropReason::Unsolicited));
        }
    }
}

#[test]
fn n53_an_error_that_answers_refreshes_nothing() {
    for n in BOTH {
        let mut w = World::new();
        w.publish(1, UDP, None, 8_080..=8_080, &[(1, n.a, 80)]).unwrap();
        let inside = w.in_(&udp((n.x, 4_000), (n.e, 8_080), b"")).unwrap();
        for _ in 0..3 {
            w.wait(100);
            w.out(&icmp_error(n.a, n.x, n.port_unreachable(), &inside.frame)).unwrap();
        }
        w.wait(1);
        assert_eq!(w.len(), 0);
    }
}

#[test]
fn n53_a_reset_that_answers_refreshes_nothing() {
    for n in BOTH {
        let mut w = World::new();
        w.publish(1, TCP, None, 8_080..=8_080, &[(1, n.a, 80)]).unwrap();
        w.in_(&segment((n.x, 4_000), (n.e, 8_080), SYN, 100, 0, b"")).unwrap();
        for _ in 0..3 {
            w.wait(80);
            w.out(&segment((n.a, 80), (n.x, 4_000), RST | ACK, 0, 101, b"")).unwrap();
        }
        w.wait(1);
        assert_eq!(w.len(), 0);
    }
}

#[test]
fn n53_a_reset_outside_the_window_refreshes_nothing() {
    for n in BOTH {
        let mut w = World::new();
        let e = host(w.connect((n.a, 5_000), (n.x, 80)));
        w.wait(7_400);
        let _ = w.in_(&segment((n.x, 80), e, RST, 1, 0, b""));
        w.wait(41);
        assert_eq!(w.len(), 0);
        // Nor does one within it, that late.
        let e = host(w.connect((n.a, 5_000), (n.x, 80)));
        w.wait(7_400);
        w.in_(&segment((n.x, 80), e, RST, 5_001, 0, b"")).unwrap();
        w.wait(41);
        assert_eq!(w.len(), 0);
    }
}

#[test]
fn n54_protocols_have_ports_of_their_own() {
    for n in BOTH {
        let config =
            NatConfig { tcp: MappingMode::EndpointIndependent, filtering: Filtering::EndpointIndependent, ..NatConfig::default() };
        let mut w = World::with(config);
        w.out(&udp((n.a, 5_000), (n.x, 7), b"")).unwrap();
        assert!(w.in_(&udp((n.y, 9), (n.e, 5_000), b"")).is_ok());
        assert_eq!(w.in_(&tcp((n.y, 9), (n.e, 5_000), SYN)), Err(DropReason::Unsolicited));
        assert_eq!(w.in_(&pong(n.y, (n.e, 5_000))), Err(DropReason::Unsolicited));
        // And B may have the same one for TCP.
        assert_eq!(w.out(&tcp((n.b, 5_000), (n.x, 7), SYN)).unwrap().src, at(n.e, 5_000));
        assert_eq!(w.in_(&tcp((n.y, 9), (n.e, 5_000), SYN)).unwrap().dst, at(n.b, 5_000));
    }
}

#[test]
fn n55_ports_are_not_to_be_foretold() {
    for n in BOTH {
        let ports = PortPolicy { preserve: false, ..PortPolicy::default() };
        let mut w = World::with(NatConfig { ports, ..NatConfig::default() });
        let external: Vec<u16> =
            (0..1_000).map(|flow| w.out(&udp((n.a, 20_000 + flow), (n.x, 7), b"")).unwrap().src.port()).collect();
        assert_eq!(external.iter().collect::<HashSet<_>>().len(), 1_000);
        assert!(external.iter().all(|port| *port >= 1_024));
        // No step occurs often, the range is used evenly, and the inside port says nothing.
        let mut steps = BTreeMap::new();
        external.windows(2).for_each(|pair| *steps.entry(pair[1].wrapping_sub(pair[0])).or_insert(0) += 1);
        assert!(steps.values().all(|count| *count <= 3), "{steps:?}");
        let mut eighths = [0; 8];
        external.iter().for_each(|port| eighths[usize::from(port >> 13)] += 1);
        assert!(eighths.iter().all(|count| (80..180).contains(count)), "{eighths:?}");
        let kept = (20_000..).zip(&external).filter(|(inside, external)| *inside == **external).count();
        assert!(kept <= 2, "{kept}");
    }
}

#[test]
fn n55_a_port_that_cannot_be_kept_is_not_to_be_foretold() {
    for n in BOTH {
        let mut w = World::new();
        for port in 20_000..20_500 {
            assert_eq!(w.out(&udp((n.a, port), (n.x, 7), b"")).unwrap().src.port(), port);
        }
        let other: Vec<u16> = (20_000..20_500).map(|port| w.out(&udp((n.b, port), (n.x, 7), b"")).unwrap().src.port()).collect();
        let neighbours = other.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) < 16).count();
        assert!(neighbours < 10, "{neighbours}");
    }
}

#[test]
fn n56_a_packet_gets_another_identification_and_nothing_else_changes() {
    let n = V4;
    let octets = udp((n.a, 5_000), (n.x, 7), b"payload");
    for id in [0, 1, 0x1234, 0xffff] {
        let mut frame = FramePool::new(1).take().unwrap();
        assert!(frame.fill(&octets));
        let mut p = Packet::<Ipv4Addr>::parse(frame, L3).unwrap();
        p.set_id(id);
        let seen = Seen::read(p.frame().bytes());
        assert_eq!(seen.frame[L3 + 4..L3 + 6], (id as u16).to_be_bytes());
        let mut back = seen.frame;
        back[L3 + 4..L3 + 6].copy_from_slice(&octets[L3 + 4..L3 + 6]);
        back[L3 + 10..L3 + 12].copy_from_slice(&octets[L3 + 10..L3 + 12]);
        assert_eq!(back, octets);
    }
}

#[test]
fn n57_a_query_mapping_goes_with_its_last_session() {
    for n in BOTH {
        let mut w = World::new();
        w.out(&ping((n.a, 77), n.x)).unwrap();
        w.wait(30);
        w.out(&ping((n.a, 77), n.y)).unwrap();
        assert_eq!((w.len(), w.mappings(), w.stations.usage(1)), (2, 1, (2, 1)));
        w.wait(31);
        assert_eq!((w.len(), w.mappings(), w.stations.usage(1)), (1, 1, (1, 1)));
        w.wait(30);
        assert_eq!((w.len(), w.stations.usage(1)), (0, (0, 0)));
        // What is left is held for its host alone (N59), and lets nobody in.
        assert_eq!(w.in_(&pong(n.x, (n.e, 77))), Err(DropReason::Unsolicited));
        w.wait(121);
        assert_eq!(w.mappings(), 0);
    }
}

#[test]
fn n58_a_container_at_its_quota_is_refused_and_no_other_notices() {
    for n in BOTH {
        let mut w = World::new();
        w.stations.set(1, station(2, Limits { sessions: 10, ports: 5 }));
        for port in 0..5 {
            let out = w.out(&udp((n.a, 5_000 + port), (n.x, 7), b"")).unwrap();
            w.in_(&udp((n.x, 7), host(out.src), b"")).unwrap();
        }
        assert_eq!(w.out(&udp((n.a, 6_000), (n.x, 7), b"")), Err(DropReason::NatQuota), "ports");
        for port in 0..5 {
            let out = w.out(&udp((n.a, 5_000 + port), (n.y, 7), b"")).unwrap();
            w.in_(&udp((n.y, 7), host(out.src), b"")).unwrap();
        }
        assert_eq!(w.stations.usage(1), (10, 5));
        assert_eq!(w.out(&udp((n.a, 5_000), (n.x, 8), b"")), Err(DropReason::NatQuota), "sessions");
        assert_eq!(w.out(&tcp((n.a, 5_000), (n.x, 8), SYN)), Err(DropReason::NatQuota), "of any protocol");
        assert!(w.out(&udp((n.a, 5_000), (n.x, 7), b"")).is_ok(), "those that are there go on");
        assert!(w.out(&udp((n.b, 6_000), (n.x, 7), b"")).is_ok());
        assert_eq!(w.nat.counts().reclaimed, 0);
        // What is over makes room.
        w.wait(301);
        assert_eq!(w.stations.usage(1), (0, 0));
        assert!(w.out(&udp((n.a, 6_000), (n.x, 7), b"")).is_ok());
    }
}

#[test]
fn n58_a_container_at_its_quota_gives_up_its_own_half_open_ones() {
    for n in BOTH {
        let mut w = World::new();
        w.stations.set(1, station(2, Limits { sessions: 10, ports: 1_000 }));
        for port in 0..30 {
            assert!(w.out(&tcp((n.a, 5_000 + port), (n.x, 80), SYN)).is_ok());
        }
        assert_eq!((w.stations.usage(1), w.nat.counts().reclaimed), ((10, 0), 20));
    }
}

#[test]
fn n58_a_container_gives_up_its_own_half_open_ones_also_when_anothers_are_older() {
    for n in BOTH {
        let mut w = World::new();
        w.stations.set(1, station(2, Limits { sessions: 10, ports: 1_000 }));
        w.out(&tcp((n.b, 4_000), (n.x, 80), SYN)).unwrap();
        for port in 0..30 {
            let verdict = w.out(&tcp((n.a, 5_000 + port), (n.x, 80), SYN));
            assert!(verdict.is_ok(), "{port}: {verdict:?}");
        }
        assert_eq!(w.stations.usage(2), (1, 0), "nobody else's");
    }
}

#[test]
fn n58_a_refused_session_takes_no_port() {
    for n in BOTH {
        let mut w = World::new();
        w.stations.set(1, station(2, Limits { sessions: 1, ports: 1_000 }));
        w.connect((n.a, 4_000), (n.x, 80));
        for port in 5_000..5_100 {
            assert_eq!(w.out(&udp((n.a, port), (n.x, 7), b"")), Err(DropReason::NatQuota));
        }
        assert_eq!(w.mappings(), 0);
        assert_eq!(w.out(&udp((n.b, 5_000), (n.x, 7), b"")).unwrap().src, at(n.e, 5_000));
    }
}

#[test]
fn n59_a_port_is_not_given_to_another_host_for_120_s() {
    for n in BOTH {
        let mut w = World::new();
        w.out(&udp((n.a, 5_000), (n.x, 7), b"")).unwrap();
        w.wait(301);
        assert_eq!(w.len(), 0);
        w.wait(60);
        let other = w.out(&udp((n.b, 5_000), (n.x, 7), b"")).unwrap();
        assert_ne!(other.src, at(n.e, 5_000));
        // Its own host has it at once.
        assert_eq!(w.out(&udp((n.a, 5_000), (n.x, 7), b"")).unwrap().src, at(n.e, 5_000));
        w.wait(301 + 121);
        w.out(&udp((n.b, 5_001), (n.x, 7), b"")).unwrap();
        assert_eq!(w.out(&udp((n.b, 5_000), (n.x, 7), b"")).unwrap().src, at(n.e, 5_000));
    }
}

#[test]
fn n59_unless_nothing_else_is_left() {
    for n in BOTH {
        // Below 1,024 there are 1,023 ports.
        let ports = PortPolicy { keep_class: true, ..PortPolicy::default() };
        let mut w = World::with(NatConfig { ports, ..NatConfig::default() });
        for port in 1..1_024 {
            assert_eq!(w.out(&udp((n.a, port), (n.x, 7), b"")).unwrap().src.port(), port);
        }
        assert_eq!(w.out(&udp((n.b, 53), (n.x, 7), b"")), Err(DropReason::NatPorts));
        // All are held, none is in use.
        w.wait(301);
        assert_eq!((w.len(), w.mappings()), (0, 1_023));
        let taken = w.out(&udp((n.b, 53), (n.x, 7), b"")).unwrap().src;
        assert!(taken.port() < 1_024);
        // The one whose port it was gets another.
        let own = w.out(&udp((n.a, taken.port()), (n.x, 7), b"")).unwrap().src;
        assert_ne!(own, taken);
        assert_eq!(w.in_(&udp((n.x, 7), host(taken), b"")).unwrap().dst, at(n.b, 53));
    }
}

#[test]
fn n60_two_queries_of_one_socket_are_both_answered() {
    for n in BOTH {
        let mut w = World::new();
        for turn in 0..100_u16 {
            let socket = (n.a, 30_000 + turn);
            let a = w.out(&udp(socket, (n.x, 53), b"A?")).unwrap();
            let aaaa = w.out(&udp(socket, (n.x, 53), b"AAAA?")).unwrap();
            assert_eq!(a.ends(), aaaa.ends());
            for answer in [&b"A"[..], b"AAAA"] {
                let back = w.in_(&udp((n.x, 53), host(a.src), answer)).unwrap();
                assert_eq!((back.dst, back.payload()), (socket.into(), answer));
            }
        }
        assert_eq!(w.nat.counts().begun, 100);
    }
}

#[test]
fn n61_of_100_000_allocations_no_two_are_alike() {
    for n in BOTH {
        let mut w = World::new();
        let mut seen = HashSet::new();
        for remote in [n.x, n.y] {
            for port in 10_000..35_000 {
                for inside in [n.a, n.b] {
                    let out = w.out(&tcp((inside, port), (remote, 80), SYN)).unwrap();
                    assert!(seen.insert(out.ends()), "{:?}", out.ends());
                }
            }
        }
        assert_eq!(seen.len(), 100_000);
        // And each is known by its reply.
        for (src, dst) in seen.iter().take(1_000) {
            let back = w.in_(&tcp(host(*dst), host(*src), SYN | ACK)).unwrap();
            assert!([n.a, n.b].contains(&back.dst.ip()));
        }
    }
}

#[test]
fn n57_no_address_no_mapping() {
    for n in BOTH {
        let mut w = World::new();
        let (none_v4, none_v6): (Vec<Ipv4Addr>, Vec<Ipv6Addr>) = (vec![], vec![]);
        w.out(&udp((n.a, 5_000), (n.x, 7), b"")).unwrap();
        w.nat.set_addresses(&mut w.stations, none_v4, vec![], w.now);
        w.nat.set_addresses(&mut w.stations, none_v6, vec![], w.now);
        assert_eq!((w.len(), w.stations.usage(1)), (0, (0, 0)), "they are gone with the address");
        for packet in [udp((n.a, 5_000), (n.x, 7), b""), tcp((n.a, 5_000), (n.x, 7), SYN), ping((n.a, 77), n.x)] {
            assert_eq!(w.out(&packet), Err(DropReason::NoRoute));
        }
    }
}

#[test]
fn n59_a_new_address_serves_the_old_sockets() {
    for n in BOTH {
        let mut w = World::new();
        w.out(&udp((n.a, 5_000), (n.x, 7), b"")).unwrap();
        let [IpAddr::V4(four), IpAddr::V6(six)] = [V4.e2, V6.e2] else { unreachable!() };
        w.nat.set_addresses(&mut w.stations, vec![four], vec![], w.now);
        w.nat.set_addresses(&mut w.stations, vec![six], vec![], w.now);
        assert_eq!(w.out(&udp((n.a, 5_000), (n.x, 7), b"")).unwrap().src, at(n.e2, 5_000));
        assert_eq!(w.in_(&udp((n.x, 7), (n.e, 5_000), b"")), Err(DropReason::Unsolicited));
        assert_eq!(w.in_(&udp((n.x, 7), (n.e2, 5_000), b"")).unwrap().dst, at(n.a, 5_000));
    }
}
