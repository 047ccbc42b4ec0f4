//! What RFC 5382 asks of a NAT for TCP, and what RFC 6146 and experience add, each a test named after its number: N21-N38, less N30,
//! which is in `published.rs`.
mod common;
use common::*;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use vswitch_nat::nat::{Filtering, MappingMode, NatConfig};
use vswitch_nat::station::Limits;
use vswitch_nat::tcp_state::Phase;
use vswitch_nat::timeouts::Timeouts;
use vswitch_switch::DropReason;

/// Window scale by 7, padded (RFC 7323 2.2).
const SCALE_7: [u8; 4] = [3, 3, 7, 1];

fn independent(filtering: Filtering) -> World {
    World::with(NatConfig { tcp: MappingMode::EndpointIndependent, filtering, ..NatConfig::default() })
}

/// Both sides close, from A's side first. Numbers as after [`World::connect`].
fn close(w: &mut World, n: &Net, external: (IpAddr, u16)) {
    let (a, x) = ((n.a, 5_000), (n.x, 80));
    w.out(&segment(a, x, FIN | ACK, 101, 5_001, b"")).unwrap();
    w.in_(&segment(x, external, FIN | ACK, 5_001, 102, b"")).unwrap();
    w.out(&segment(a, x, ACK, 102, 5_002, b"")).unwrap();
}

#[test]
fn n21_mapping_is_independent_of_the_remote_when_set() {
    for n in BOTH {
        let mut w = independent(Filtering::AddressAndPortDependent);
        w.out(&tcp((n.a, 5_000), (n.x, 80), SYN)).unwrap();
        let first = w.out(&tcp((n.b, 5_000), (n.x, 80), SYN)).unwrap();
        let second = w.out(&tcp((n.b, 5_000), (n.y, 81), SYN)).unwrap();
        assert_eq!(first.src, second.src);
        assert_ne!(first.src, at(n.e, 5_000));
    }
}

#[test]
fn n22_handshake_data_and_half_close() {
    for n in BOTH {
        let (mut w, a, x) = (World::new(), (n.a, 5_000), (n.x, 80));
        let e = host(w.connect(a, x));
        assert_eq!(w.phases(), [Phase::TcpEstablished]);
        assert_eq!(w.out(&segment(a, x, ACK, 101, 5_001, b"GET /")).unwrap().payload(), b"GET /");
        assert_eq!(w.in_(&segment(x, e, ACK, 5_001, 106, b"200 OK")).unwrap().payload(), b"200 OK");
        w.out(&segment(a, x, FIN | ACK, 106, 5_007, b"")).unwrap();
        w.in_(&segment(x, e, ACK, 5_007, 107, b"")).unwrap();
        // Half-closed, the server goes on for five minutes, silent for most of each.
        let mut seq = 5_007;
        for _ in 0..5 {
            w.wait(60);
            assert_eq!(w.in_(&segment(x, e, ACK, seq, 107, b"more")).unwrap().ends(), ends(x, a));
            seq += 4;
            assert_eq!(w.out(&segment(a, x, ACK, 107, seq, b"")).unwrap().src, e.into());
        }
        w.wait(600);
        w.in_(&segment(x, e, FIN | ACK, seq, 107, b"")).unwrap();
        w.out(&segment(a, x, ACK, 107, seq + 1, b"")).unwrap();
        assert_eq!(w.phases(), [Phase::TcpClosed]);
        assert_eq!(w.nat.counts().invalid, 0);
        w.wait(242);
        assert_eq!(w.len(), 0);
    }
}

#[test]
fn n23_simultaneous_open() {
    for n in BOTH {
        let (mut w, a, x) = (World::new(), (n.a, 5_000), (n.x, 80));
        let e = host(w.out(&segment(a, x, SYN, 100, 0, b"")).unwrap().src);
        assert_eq!(w.in_(&segment(x, e, SYN, 5_000, 0, b"")).unwrap().ends(), ends(x, a));
        assert_eq!(w.out(&segment(a, x, SYN | ACK, 100, 5_001, b"")).unwrap().ends(), ends(e, x));
        assert_eq!(w.in_(&segment(x, e, SYN | ACK, 5_000, 101, b"")).unwrap().ends(), ends(x, a));
        assert_eq!(w.phases(), [Phase::TcpEstablished]);
        w.out(&segment(a, x, ACK, 101, 5_001, b"data")).unwrap();
        assert_eq!(w.nat.counts().invalid, 0);
    }
}

#[test]
fn n24_filtering_of_syns_is_that_of_udp() {
    let modes = [
        (Filtering::EndpointIndependent, [true, true, true]),
        (Filtering::AddressDependent, [true, true, false]),
        (Filtering::AddressAndPortDependent, [true, false, false]),
    ];
    for n in BOTH {
        for (filtering, expected) in modes {
            let mut w = independent(filtering);
            w.out(&tcp((n.a, 5_000), (n.x, 80), SYN)).unwrap();
            let reached = [(n.x, 80), (n.x, 81), (n.y, 80)].map(|from| match w.in_(&tcp(from, (n.e, 5_000), SYN)) {
                Ok(seen) => seen.dst == at(n.a, 5_000),
                Err(reason) => {
                    assert_eq!(reason, DropReason::Unsolicited);
                    false
                }
            });
            assert_eq!(reached, expected, "{filtering:?}");
            // Whatever the filter: nothing but a SYN begins a connection from outside.
            for flags in [ACK, SYN | ACK, FIN | ACK, RST, RST | ACK, 0] {
                assert_eq!(w.in_(&tcp((n.y, 82), (n.e, 5_000), flags)), Err(DropReason::Unsolicited));
            }
        }
    }
}

#[test]
fn n25_an_unsolicited_syn_is_dropped_in_silence_and_leaves_nothing() {
    for n in BOTH {
        let (mut w, a, x) = (World::new(), (n.a, 5_000), (n.x, 80));
        assert_eq!(w.in_(&segment(x, (n.e, 5_000), SYN, 5_000, 0, b"")), Err(DropReason::Unsolicited));
        assert_eq!(w.len(), 0);
        // REQ-4: A's own SYN to the same peer within 6 s goes through as if that had not been.
        w.wait(3);
        assert_eq!(w.connect(a, x), at(n.e, 5_000));
        assert_eq!(w.phases(), [Phase::TcpEstablished]);
    }
}

#[test]
fn n26_established_lives_7439_s_idle_and_7441_s_no_longer() {
    for n in BOTH {
        let (mut w, a, x) = (World::new(), (n.a, 5_000), (n.x, 80));
        let e = host(w.connect(a, x));
        w.wait(7_439);
        assert_eq!(w.in_(&segment(x, e, ACK, 5_001, 101, b"late")).unwrap().dst, a.into());
        w.wait(7_441);
        assert_eq!(w.in_(&segment(x, e, ACK, 5_005, 101, b"later")), Err(DropReason::Unsolicited));
    }
}

#[test]
fn n27_half_open_lives_239_s_idle() {
    for n in BOTH {
        for answered in [false, true] {
            let (mut w, a, x) = (World::new(), (n.a, 5_000), (n.x, 80));
            let e = host(w.out(&segment(a, x, SYN, 100, 0, b"")).unwrap().src);
            if answered {
                w.in_(&segment(x, e, SYN | ACK, 5_000, 101, b"")).unwrap();
            }
            w.wait(239);
            assert!(w.in_(&segment(x, e, SYN | ACK, 5_000, 101, b"")).is_ok());
            w.wait(241);
            assert_eq!(w.in_(&segment(x, e, SYN | ACK, 5_000, 101, b"")), Err(DropReason::Unsolicited));
        }
    }
}

#[test]
fn n27_opening_and_closing_have_a_timer_each() {
    for n in BOTH {
        let timeouts = Timeouts { tcp_opening: Duration::from_secs(30), ..Timeouts::default() };
        let mut w = World::with(NatConfig { timeouts, ..NatConfig::default() });
        let e = host(w.connect((n.a, 5_000), (n.x, 80)));
        close(&mut w, &n, e);
        w.out(&tcp((n.a, 5_001), (n.x, 80), SYN)).unwrap();
        assert_eq!(w.len(), 2);
        w.wait(31);
        assert_eq!(w.phases(), [Phase::TcpClosed]);
        w.wait(208);
        assert_eq!(w.phases(), [Phase::TcpClosed]);
        w.wait(2);
        assert_eq!(w.len(), 0);
    }
}

#[test]
fn n28_payload_with_addresses_in_it_is_left_alone() {
    for n in BOTH {
        let ftp = if n.a.is_ipv4() { &b"PORT 10,0,0,2,19,137\r\n"[..] } else { b"EPRT |2|fd00::2|5001|\r\n" };
        let mut w = World::new();
        w.connect((n.a, 5_000), (n.x, 21));
        let out = w.out(&segment((n.a, 5_000), (n.x, 21), ACK, 101, 5_001, ftp)).unwrap();
        assert_eq!(out.payload(), ftp);
        assert_eq!(w.in_(&tcp((n.x, 20), (n.e, 5_001), SYN)), Err(DropReason::Unsolicited), "nothing is opened by it");
    }
}

#[test]
fn n29_no_port_is_overloaded_towards_one_remote() {
    for n in BOTH {
        for tcp_mode in [MappingMode::EndpointIndependent, MappingMode::AddressAndPortDependent] {
            let mut w = World::with(NatConfig { tcp: tcp_mode, ..NatConfig::default() });
            let a = w.connect((n.a, 5_000), (n.x, 80));
            let b = w.connect((n.b, 5_000), (n.x, 80));
            assert_ne!(a, b);
            let to_a = w.in_(&segment((n.x, 80), host(a), ACK, 5_001, 101, b"a")).unwrap();
            let to_b = w.in_(&segment((n.x, 80), host(b), ACK, 5_001, 101, b"b")).unwrap();
            assert_eq!((to_a.dst, to_b.dst), (at(n.a, 5_000), at(n.b, 5_000)));
            // exception of RFC 7857 3: another remote tells them apart.
            let shared = w.out(&tcp((n.b, 5_000), (n.y, 80), SYN)).unwrap().src;
            assert_eq!(shared == a, tcp_mode == MappingMode::AddressAndPortDependent);
        }
    }
}

#[test]
fn n31_path_mtu_discovery_reaches_the_sender() {
    for n in BOTH {
        let mut w = World::new();
        w.connect((n.b, 5_000), (n.x, 80));
        // B's port is not its own outside.
        w.connect((n.a, 5_001), (n.x, 80));
        let e = w.connect((n.b, 5_001), (n.x, 80));
        let sent = w.out(&segment((n.b, 5_001), (n.x, 80), ACK, 101, 5_001, &[7; 600])).unwrap();
        assert_eq!(sent.src, e);
        let seen = w.in_(&icmp_error_with(n.router, n.e, n.too_big(1_400), &sent.frame[L3..])).unwrap();
        assert_eq!((seen.src.ip(), seen.dst.ip()), (n.router, n.b));
        let before = n.too_big(1_400);
        assert_eq!((&seen.message()[..2], &seen.message()[4..8]), (&before[..2], &before[4..8]), "type, code and MTU");
        let quoted = seen.quoted_whole();
        assert_eq!(quoted.ends(), ends((n.b, 5_001), (n.x, 80)));
        assert_eq!(quoted.payload(), [7; 600]);
    }
}

#[test]
fn n32_an_icmp_error_ends_no_connection() {
    for n in BOTH {
        let (mut w, a, x) = (World::new(), (n.a, 5_000), (n.x, 80));
        let e = host(w.connect(a, x));
        let sent = w.out(&segment(a, x, ACK, 101, 5_001, b"data")).unwrap();
        for [kind, code] in [n.port_unreachable(), n.time_exceeded()] {
            assert!(w.in_(&icmp_error(n.x, n.e, [kind, code], &sent.frame)).is_ok());
        }
        assert_eq!(w.phases(), [Phase::TcpEstablished]);
        assert_eq!(w.in_(&segment(x, e, ACK, 5_001, 105, b"")).unwrap().dst, a.into());
    }
}

#[test]
fn n33_a_connection_in_its_midst_is_taken_up_from_inside_only() {
    for n in BOTH {
        let (mut w, a, x, e) = (World::new(), (n.a, 5_000), (n.x, 80), (n.e, 5_000));
        assert_eq!(w.in_(&segment(x, e, ACK, 5_001, 101, b"?")), Err(DropReason::Unsolicited));
        assert_eq!(w.out(&segment(a, x, ACK, 101, 5_001, b"on")).unwrap().src, e.into());
        assert_eq!(w.phases(), [Phase::TcpEstablished]);
        assert_eq!(w.in_(&segment(x, e, ACK, 5_001, 103, b"and on")).unwrap().dst, a.into());
        assert_eq!(w.nat.counts().invalid, 0);
        // A SYN+ACK or a RST is not the midst of anything.
        for flags in [SYN | ACK, RST, RST | ACK] {
            assert_eq!(w.out(&tcp((n.a, 5_001), x, flags)), Err(DropReason::NatState));
        }
        let mut w = World::with(NatConfig { loose: false, ..NatConfig::default() });
        assert_eq!(w.out(&segment(a, x, ACK, 101, 5_001, b"on")), Err(DropReason::NatState));
        assert_eq!(w.len(), 0);
    }
}

#[test]
fn n34_a_syn_may_carry_data() {
    for n in BOTH {
        let (mut w, a, x) = (World::new(), (n.a, 5_000), (n.x, 80));
        // RFC 7413 2: a cookie of 8 octets, padded.
        let options = [34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1];
        let syn = Tcp { flags: SYN, seq: 100, options: &options, payload: b"GET /", ..Tcp::default() };
        let out = w.out(&syn.from(a, x)).unwrap();
        assert_eq!((out.payload(), &out.message()[20..32]), (&b"GET /"[..], &options[..]));
        let back = w.in_(&segment(x, host(out.src), SYN | ACK, 5_000, 106, b"200 OK")).unwrap();
        assert_eq!(back.payload(), b"200 OK");
        w.out(&segment(a, x, ACK, 106, 5_007, b"")).unwrap();
        assert_eq!((w.phases(), w.nat.counts().invalid), (vec![Phase::TcpEstablished], 0));
    }
}

#[test]
fn n35_windows_are_scaled_by_what_the_syns_say() {
    for n in BOTH {
        let (mut w, a, x) = (World::new(), (n.a, 5_000), (n.x, 80));
        let syn = Tcp { flags: SYN, seq: 100, options: &SCALE_7, ..Tcp::default() };
        let e = host(w.out(&syn.from(a, x)).unwrap().src);
        w.in_(&Tcp { flags: SYN | ACK, seq: 5_000, ack: 101, ..syn }.from(x, e)).unwrap();
        // 1,000 << 7 octets from 5,001 on are X's to send. What looks like an option later on says nothing.
        w.out(&Tcp { flags: ACK, seq: 101, ack: 5_001, options: &[3, 3, 0, 1], ..syn }.from(a, x)).unwrap();
        w.in_(&segment(x, e, ACK, 5_001 + 128_000 - 4, 101, b"last")).unwrap();
        assert_eq!(w.nat.counts().invalid, 0);
        w.in_(&segment(x, e, ACK, 5_001 + 128_001, 101, b"beyond")).unwrap();
        assert_eq!(w.nat.counts().invalid, 1);
    }
}

#[test]
fn n35_a_segment_outside_the_window_passes_unless_checking_is_strict() {
    for n in BOTH {
        for strict_windows in [false, true] {
            let mut w = World::with(NatConfig { strict_windows, ..NatConfig::default() });
            let (a, x) = ((n.a, 5_000), (n.x, 80));
            let e = host(w.connect(a, x));
            let verdict = w.in_(&segment(x, e, FIN | ACK, 1_000_000, 101, b"stray"));
            if strict_windows {
                assert_eq!(verdict, Err(DropReason::TcpWindow));
            } else {
                assert_eq!(verdict.unwrap().dst, a.into());
            }
            assert_eq!((w.nat.counts().invalid, w.phases()), (1, vec![Phase::TcpEstablished]), "it changes nothing");
            assert!(w.in_(&segment(x, e, ACK, 5_001, 101, b"fine")).is_ok());
        }
    }
}

#[test]
fn n36_a_reset_within_the_window_leaves_the_session_for_4_minutes() {
    for n in BOTH {
        let (mut w, a, x) = (World::new(), (n.a, 5_000), (n.x, 80));
        let e = host(w.connect(a, x));
        assert_eq!(w.in_(&segment(x, e, RST, 5_001, 0, b"")).unwrap().ends(), ends(x, a));
        assert_eq!(w.phases(), [Phase::TcpReset]);
        w.wait(239);
        assert_eq!(w.phases(), [Phase::TcpReset]);
        w.wait(2);
        assert_eq!(w.len(), 0);
    }
}

#[test]
fn n36_four_minutes_from_the_reset_not_from_the_last_data() {
    for n in BOTH {
        let (mut w, a, x) = (World::new(), (n.a, 5_000), (n.x, 80));
        let e = host(w.connect(a, x));
        w.wait(1_000);
        w.in_(&segment(x, e, RST, 5_001, 0, b"")).unwrap();
        w.wait(239);
        // RFC 6146 3.5.2.2: the RST was not taken, data brings the connection back.
        assert_eq!(w.in_(&segment(x, e, ACK, 5_001, 101, b"alive")).unwrap().dst, a.into());
        assert_eq!(w.phases(), [Phase::TcpEstablished]);
        w.wait(7_000);
        assert_eq!(w.phases(), [Phase::TcpEstablished]);
    }
}

#[test]
fn n36_a_blind_reset_ends_nothing() {
    for n in BOTH {
        let (mut w, a, x) = (World::new(), (n.a, 5_000), (n.x, 80));
        let e = host(w.connect(a, x));
        for seq in [0, 5_000, 5_001 + 1_001, u32::MAX] {
            let _ = w.in_(&segment(x, e, RST, seq, 0, b""));
            let _ = w.in_(&segment(x, e, RST | ACK, seq, 101, b""));
        }
        assert_eq!(w.phases(), [Phase::TcpEstablished]);
        w.wait(1_000);
        assert!(w.in_(&segment(x, e, ACK, 5_001, 101, b"data")).is_ok());
    }
}

#[test]
fn n37_a_syn_on_a_connection_that_is_over_begins_another() {
    for n in BOTH {
        for by_reset in [false, true] {
            let (mut w, a, x) = (World::new(), (n.a, 5_000), (n.x, 80));
            let e = host(w.connect(a, x));
            if by_reset {
                w.out(&segment(a, x, RST, 101, 0, b"")).unwrap();
            } else {
                close(&mut w, &n, e);
            }
            w.wait(100);
            // Numbers of its own, far from the old ones.
            let again = w.out(&segment(a, x, SYN, 3_000_000_000, 0, b"")).unwrap();
            assert_eq!(again.src, e.into());
            assert_eq!((w.phases(), w.nat.counts().begun, w.nat.counts().ended), (vec![Phase::TcpOpening], 2, 1));
            w.in_(&segment(x, e, SYN | ACK, 2_000_000_000, 3_000_000_001, b"")).unwrap();
            w.out(&segment(a, x, ACK, 3_000_000_001, 2_000_000_001, b"")).unwrap();
            assert_eq!((w.phases(), w.nat.counts().invalid), (vec![Phase::TcpEstablished], 0));
            w.wait(300);
            assert_eq!(w.phases(), [Phase::TcpEstablished]);
        }
    }
}

#[test]
fn n37_nothing_but_a_syn_brings_a_closed_connection_back() {
    for n in BOTH {
        let (mut w, a, x) = (World::new(), (n.a, 5_000), (n.x, 80));
        let e = host(w.connect(a, x));
        close(&mut w, &n, e);
        // The last FIN again, and its ACK.
        w.in_(&segment(x, e, FIN | ACK, 5_001, 102, b"")).unwrap();
        w.out(&segment(a, x, ACK, 102, 5_002, b"")).unwrap();
        assert_eq!(w.phases(), [Phase::TcpClosed]);
    }
}

#[test]
fn n38_a_port_is_used_again_a_second_after_it_closed() {
    for n in BOTH {
        let (mut w, a, x) = (World::new(), (n.a, 5_000), (n.x, 80));
        for _ in 0..5 {
            let e = host(w.connect(a, x));
            assert_eq!(e, (n.e, 5_000));
            close(&mut w, &n, e);
            w.wait(1);
        }
        assert_eq!((w.nat.counts().begun, w.len()), (5, 1));
        assert_eq!(w.stations.usage(1), (0, 0), "what is over counts for no quota");
    }
}

#[test]
fn n38_a_closed_connections_port_goes_to_another_host_when_no_other_is_left() {
    let n = V4;
    let mut w = World::new();
    w.stations.set(3, station(4, Limits { sessions: 100_000, ..Limits::default() }));
    let (c, x) = (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 4)), (n.x, 80));
    let e = host(w.connect((n.a, 5_000), x));
    close(&mut w, &n, e);
    for port in (1_024..=65_535).filter(|port| *port != 5_000) {
        assert_eq!(w.out(&tcp((c, port), x, SYN)).unwrap().src.port(), port);
    }
    assert_eq!(w.out(&tcp((n.b, 5_000), x, SYN)).unwrap().src, e.into());
    assert_eq!(w.out(&tcp((n.b, 7_000), x, SYN)), Err(DropReason::NatPorts));
    assert!(w.out(&tcp((n.b, 7_000), (n.y, 80), SYN)).is_ok(), "towards another remote all are free");
}
