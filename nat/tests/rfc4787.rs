//! What RFC 4787 asks of a NAT for UDP, each a test named after its number: N01-N16. Fragments (N17-N20) are tested where they are cut
//! and joined.
mod common;
use common::*;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use vswitch_nat::nat::{Filtering, MappingMode, NatConfig};
use vswitch_nat::ports::PortPolicy;
use vswitch_nat::station::Limits;
use vswitch_switch::DropReason;

fn filtering(filtering: Filtering) -> World {
    World::with(NatConfig { filtering, ..NatConfig::default() })
}

#[test]
fn n01_mapping_is_independent_of_the_remote() {
    for n in BOTH {
        let mut w = World::new();
        let first = w.out(&udp((n.a, 5_000), (n.x, 7), b"x")).unwrap();
        let second = w.out(&udp((n.a, 5_000), (n.y, 9), b"y")).unwrap();
        assert_eq!(first.ends(), ends((n.e, 5_000), (n.x, 7)));
        assert_eq!(second.ends(), ends((n.e, 5_000), (n.y, 9)));
        // Also when the port could not be kept.
        let first = w.out(&udp((n.b, 5_000), (n.x, 7), b"x")).unwrap();
        let second = w.out(&udp((n.b, 5_000), (n.y, 9), b"y")).unwrap();
        assert_eq!(first.src, second.src);
        assert_ne!(first.src.port(), 5_000);
    }
}

#[test]
fn n01_mapping_by_remote_keeps_the_port_where_it_is_free() {
    for n in BOTH {
        let mut w = World::with(NatConfig { udp: MappingMode::AddressAndPortDependent, ..NatConfig::default() });
        for remote in [(n.x, 7), (n.y, 9)] {
            assert_eq!(w.out(&udp((n.a, 5_000), remote, b"")).unwrap().src, at(n.e, 5_000));
        }
        assert_ne!(w.out(&udp((n.b, 5_000), (n.x, 7), b"")).unwrap().src, at(n.e, 5_000));
        let shared = w.out(&udp((n.b, 5_000), (n.x, 8), b"")).unwrap();
        assert_eq!(shared.src, at(n.e, 5_000), "free towards this remote (RFC 7857 3)");
        assert_eq!(w.in_(&udp((n.x, 8), (n.e, 5_000), b"")).unwrap().dst, at(n.b, 5_000));
        assert_eq!(w.in_(&udp((n.x, 7), (n.e, 5_000), b"")).unwrap().dst, at(n.a, 5_000));
    }
}

#[test]
fn n02_mapping_is_the_same_after_60_s() {
    for n in BOTH {
        let mut w = World::new();
        w.out(&udp((n.b, 5_000), (n.x, 7), b"")).unwrap();
        let before = w.out(&udp((n.a, 5_000), (n.x, 7), b"")).unwrap();
        w.wait(60);
        assert_eq!(w.out(&udp((n.a, 5_000), (n.x, 7), b"")).unwrap(), before);
    }
}

#[test]
fn n03_flows_of_one_host_leave_from_one_address() {
    for n in BOTH {
        let mut w = World::new();
        w.two_addresses();
        let mut used = BTreeSet::new();
        for port in 1..33_u16 {
            let station = station(port + 1, Limits::default());
            w.stations.set(port, station);
            let inside = if n.a.is_ipv4() { station.v4.map(IpAddr::from) } else { station.v6.map(IpAddr::from) }.unwrap();
            let mut own = BTreeSet::new();
            for flow in 0..10 {
                let (from, to) = ((inside, 5_000 + flow), (n.x, 7 + flow));
                for packet in [udp(from, to, b""), tcp(from, to, SYN), ping(from, n.x)] {
                    own.insert(w.out(&packet).unwrap().src.ip());
                }
            }
            assert_eq!(own.len(), 1, "{inside}: {own:?}");
            used.extend(own);
        }
        assert_eq!(used, BTreeSet::from([n.e, n.e2]), "hosts are spread over both");
    }
}

#[test]
fn n04_no_port_is_overloaded() {
    for n in BOTH {
        let mut w = World::new();
        let a = w.out(&udp((n.a, 5_000), (n.x, 7), b"")).unwrap().src;
        let b = w.out(&udp((n.b, 5_000), (n.x, 7), b"")).unwrap().src;
        assert_ne!(a, b);
        assert_eq!(w.in_(&udp((n.x, 7), host(a), b"for a")).unwrap().ends(), ends((n.x, 7), (n.a, 5_000)));
        assert_eq!(w.in_(&udp((n.x, 7), host(b), b"for b")).unwrap().ends(), ends((n.x, 7), (n.b, 5_000)));
    }
}

#[test]
fn n05_port_class_is_kept_when_asked() {
    for n in BOTH {
        let ports = PortPolicy { keep_class: true, ..PortPolicy::default() };
        let mut w = World::with(NatConfig { ports, ..NatConfig::default() });
        assert_eq!(w.out(&udp((n.a, 53), (n.x, 7), b"")).unwrap().src.port(), 53);
        assert_eq!(w.out(&udp((n.a, 5_000), (n.x, 7), b"")).unwrap().src.port(), 5_000);
        let low = w.out(&udp((n.b, 53), (n.x, 7), b"")).unwrap().src.port();
        assert!((1..1_024).contains(&low) && low != 53, "{low}");
        let high = w.out(&udp((n.b, 5_000), (n.x, 7), b"")).unwrap().src.port();
        assert!(high >= 1_024 && high != 5_000, "{high}");
    }
}

#[test]
fn n06_parity_is_kept_when_asked() {
    for n in BOTH {
        let ports = PortPolicy { preserve: false, keep_parity: true, ..PortPolicy::default() };
        let mut w = World::with(NatConfig { ports, ..NatConfig::default() });
        for port in 5_000..5_200 {
            let external = w.out(&udp((n.a, port), (n.x, 7), b"")).unwrap().src.port();
            assert_eq!(external % 2, port % 2);
        }
    }
}

#[test]
fn n07_mapping_lives_119_s_idle() {
    for n in BOTH {
        let mut w = World::new();
        let external = w.out(&udp((n.a, 5_000), (n.x, 7), b"")).unwrap().src;
        w.wait(119);
        assert_eq!(w.in_(&udp((n.x, 7), host(external), b"")).unwrap().dst, at(n.a, 5_000));
    }
}

#[test]
fn n07_mapping_lives_the_recommended_300_s_and_no_longer() {
    for n in BOTH {
        for answered in [false, true] {
            let mut w = World::new();
            let external = host(w.out(&udp((n.a, 5_000), (n.x, 7), b"")).unwrap().src);
            if answered {
                w.in_(&udp((n.x, 7), external, b"")).unwrap();
            }
            w.wait(300);
            assert!(w.in_(&udp((n.x, 7), external, b"")).is_ok());
            w.wait(301);
            assert_eq!(w.in_(&udp((n.x, 7), external, b"")), Err(DropReason::Unsolicited));
        }
    }
}

#[test]
fn n08_only_a_well_known_destination_port_has_a_short_timer() {
    for n in BOTH {
        let mut w = World::new();
        let domain = host(w.out(&udp((n.a, 6_000), (n.x, 53), b"")).unwrap().src);
        let other = host(w.out(&udp((n.a, 6_001), (n.x, 5_000), b"")).unwrap().src);
        let from_53 = host(w.out(&udp((n.a, 53), (n.x, 5_000), b"")).unwrap().src);
        w.wait(29);
        assert!(w.in_(&udp((n.x, 53), domain, b"")).is_ok());
        w.wait(31);
        assert_eq!(w.in_(&udp((n.x, 53), domain, b"")), Err(DropReason::Unsolicited));
        w.wait(59);
        assert!(w.in_(&udp((n.x, 5_000), other, b"")).is_ok());
        assert!(w.in_(&udp((n.x, 5_000), from_53, b"")).is_ok());
    }
}

#[test]
fn n09_outbound_packets_keep_the_mapping() {
    for n in BOTH {
        for inbound_refresh in [true, false] {
            let mut w = World::with(NatConfig { inbound_refresh, ..NatConfig::default() });
            let first = w.out(&udp((n.a, 5_000), (n.x, 7), b"")).unwrap();
            for _ in 0..6 {
                w.wait(100);
                assert_eq!(w.out(&udp((n.a, 5_000), (n.x, 7), b"")).unwrap(), first);
            }
            assert_eq!(w.nat.counts().begun, 1);
        }
    }
}

#[test]
fn n09_inbound_packets_keep_it_too_unless_set_otherwise() {
    for n in BOTH {
        for inbound_refresh in [true, false] {
            let mut w = World::with(NatConfig { inbound_refresh, ..NatConfig::default() });
            let external = host(w.out(&udp((n.a, 5_000), (n.x, 7), b"")).unwrap().src);
            for _ in 0..3 {
                w.wait(100);
                assert!(w.in_(&udp((n.x, 7), external, b"")).is_ok());
            }
            w.wait(100);
            assert_eq!(w.in_(&udp((n.x, 7), external, b"")).is_ok(), inbound_refresh);
        }
    }
}

#[test]
fn n10_a_remote_with_an_address_like_those_inside_is_reached() {
    for n in BOTH {
        let remote: IpAddr = if n.a.is_ipv4() { "10.0.0.99".parse().unwrap() } else { "fd00::99".parse().unwrap() };
        let mut w = World::new();
        assert_eq!(w.out(&udp((n.a, 5_000), (remote, 7), b"")).unwrap().ends(), ends((n.e, 5_000), (remote, 7)));
        assert_eq!(w.in_(&udp((remote, 7), (n.e, 5_000), b"")).unwrap().ends(), ends((remote, 7), (n.a, 5_000)));
        assert_eq!(w.in_(&udp((n.b, 7), (n.e, 5_000), b"")), Err(DropReason::Unsolicited));
    }
}

/// Whether X, X from another port and Y reach A, who has sent to X alone.
fn reach(w: &mut World, n: &Net) -> [bool; 3] {
    w.out(&udp((n.a, 5_000), (n.x, 7), b"")).unwrap();
    let sent = [(n.x, 7), (n.x, 8), (n.y, 7)].map(|from| w.in_(&udp(from, (n.e, 5_000), b"?")));
    sent.map(|result| match result {
        Ok(seen) => {
            assert_eq!(seen.dst, at(n.a, 5_000));
            // And what A answers finds its way.
            let back = w.out(&udp((n.a, 5_000), host(seen.src), b"!")).unwrap();
            assert_eq!(back.ends(), (at(n.e, 5_000), seen.src));
            true
        }
        Err(reason) => {
            assert_eq!(reason, DropReason::Unsolicited);
            false
        }
    })
}

#[test]
fn n11_endpoint_independent_filtering_lets_everybody_in() {
    for n in BOTH {
        assert_eq!(reach(&mut filtering(Filtering::EndpointIndependent), &n), [true, true, true]);
    }
}

#[test]
fn n11_address_dependent_filtering_lets_addresses_in_that_were_sent_to() {
    for n in BOTH {
        assert_eq!(reach(&mut filtering(Filtering::AddressDependent), &n), [true, true, false]);
    }
}

#[test]
fn n11_address_and_port_dependent_filtering_lets_endpoints_in_that_were_sent_to() {
    for n in BOTH {
        assert_eq!(reach(&mut World::new(), &n), [true, false, false]);
    }
}

#[test]
fn n11_a_permit_ends_with_the_last_session_to_that_address() {
    for n in BOTH {
        let mut w = filtering(Filtering::AddressDependent);
        w.out(&udp((n.a, 5_000), (n.x, 7), b"")).unwrap();
        for _ in 0..4 {
            w.wait(100);
            w.out(&udp((n.a, 5_000), (n.y, 7), b"")).unwrap();
        }
        assert_eq!(w.in_(&udp((n.x, 8), (n.e, 5_000), b"")), Err(DropReason::Unsolicited));
        assert!(w.in_(&udp((n.y, 8), (n.e, 5_000), b"")).is_ok());
    }
}

#[test]
fn n12_hairpin_presents_the_external_endpoint() {
    for n in BOTH {
        let mut w = filtering(Filtering::EndpointIndependent);
        w.out(&udp((n.b, 6_000), (n.x, 7), b"")).unwrap();
        let there = w.hairpin(&udp((n.a, 5_000), (n.e, 6_000), b"hello")).unwrap();
        assert_eq!(there.ends(), ends((n.e, 5_000), (n.b, 6_000)));
        assert_eq!(there.payload(), b"hello");
        let back = w.hairpin(&udp((n.b, 6_000), (n.e, 5_000), b"there")).unwrap();
        assert_eq!(back.ends(), ends((n.e, 6_000), (n.a, 5_000)));
        assert_eq!(back.payload(), b"there");
        // To oneself, too.
        let own = w.hairpin(&udp((n.b, 7_000), (n.e, 6_000), b"")).unwrap();
        assert_eq!(own.ends(), ends((n.e, 7_000), (n.b, 6_000)));
        assert_eq!(w.hairpin(&udp((n.b, 6_000), (n.e, 7_000), b"")).unwrap().ends(), ends((n.e, 6_000), (n.b, 7_000)));
    }
}

#[test]
fn n12_hairpin_is_filtered_like_anything_from_outside() {
    for n in BOTH {
        let mut w = World::new();
        w.out(&udp((n.b, 6_000), (n.x, 7), b"")).unwrap();
        assert_eq!(w.hairpin(&udp((n.a, 5_000), (n.e, 6_000), b"")), Err(DropReason::Unsolicited));
        // A has sent to B's external endpoint, so that B's packet is awaited, and A's next one after it.
        assert_eq!(w.hairpin(&udp((n.b, 6_000), (n.e, 5_000), b"")).unwrap().ends(), ends((n.e, 6_000), (n.a, 5_000)));
        assert_eq!(w.hairpin(&udp((n.a, 5_000), (n.e, 6_000), b"")).unwrap().ends(), ends((n.e, 5_000), (n.b, 6_000)));
    }
}

#[test]
fn n13_payload_with_addresses_in_it_is_left_alone() {
    for n in BOTH {
        let sip =
            format!("REGISTER sip:example.net SIP/2.0\r\nVia: SIP/2.0/UDP {}:5060\r\nContact: <sip:u@{}:5060>\r\n\r\n", n.a, n.a);
        let mut w = World::new();
        let out = w.out(&udp((n.a, 5_060), (n.x, 5_060), sip.as_bytes())).unwrap();
        assert_eq!(out.payload(), sip.as_bytes());
        let back = w.in_(&udp((n.x, 5_060), host(out.src), sip.as_bytes())).unwrap();
        assert_eq!(back.payload(), sip.as_bytes());
    }
}

#[test]
fn n14_behaviour_is_the_same_in_a_table_that_is_nearly_full() {
    for n in BOTH {
        let mut w = World::with(NatConfig { sessions_v4: 1_000, sessions_v6: 1_000, mappings: 1_000, ..NatConfig::default() });
        for port in 10_000..10_990 {
            let out = w.out(&udp((n.a, port), (n.x, 7), b"")).unwrap();
            w.in_(&udp((n.x, 7), host(out.src), b"")).unwrap();
        }
        let first = w.out(&udp((n.a, 5_000), (n.x, 7), b"")).unwrap();
        assert_eq!(w.out(&udp((n.a, 5_000), (n.y, 9), b"")).unwrap().src, first.src);
        let other = w.out(&udp((n.b, 5_000), (n.x, 7), b"")).unwrap();
        assert_ne!(other.src, first.src);
        assert_eq!(w.out(&udp((n.b, 5_000), (n.y, 9), b"")).unwrap().src, other.src);
        assert_eq!(w.in_(&udp((n.x, 7), host(first.src), b"")).unwrap().dst, at(n.a, 5_000));
        assert_eq!(w.in_(&udp((n.x, 7), host(other.src), b"")).unwrap().dst, at(n.b, 5_000));
        assert_eq!(w.in_(&udp((n.y, 7), host(first.src), b"")), Err(DropReason::Unsolicited));
        assert_eq!(w.nat.counts().reclaimed, 0);
    }
}

#[test]
fn n14_a_full_table_gives_up_unanswered_flows_never_those_in_use() {
    for n in BOTH {
        let mut w = World::with(NatConfig { sessions_v4: 100, sessions_v6: 100, ..NatConfig::default() });
        for port in 10_000..10_090 {
            let out = w.out(&udp((n.a, port), (n.x, 7), b"")).unwrap();
            w.in_(&udp((n.x, 7), host(out.src), b"")).unwrap();
        }
        for port in 20_000..20_020 {
            w.out(&udp((n.b, port), (n.x, 7), b"")).unwrap();
        }
        assert_eq!(w.nat.counts().reclaimed, 10);
        for port in 10_000..10_090 {
            assert!(w.in_(&udp((n.x, 7), (n.e, port), b"")).is_ok(), "{port}");
        }
        for port in 20_010..20_020 {
            w.in_(&udp((n.x, 7), (n.e, port), b"")).unwrap();
        }
        assert_eq!(w.out(&udp((n.b, 30_000), (n.x, 7), b"")), Err(DropReason::NatFull));
    }
}

#[test]
fn n15_an_icmp_error_ends_no_mapping() {
    for n in BOTH {
        let mut w = World::new();
        let sent = w.out(&udp((n.a, 5_000), (n.x, 7), b"")).unwrap();
        let error = icmp_error(n.x, n.e, n.port_unreachable(), &sent.frame);
        assert_eq!(w.in_(&error).unwrap().dst.ip(), n.a);
        assert_eq!(w.in_(&udp((n.x, 7), (n.e, 5_000), b"")).unwrap().dst, at(n.a, 5_000));
        assert_eq!(w.out(&udp((n.a, 5_000), (n.x, 7), b"")).unwrap().src, sent.src);
        assert_eq!(w.nat.counts().begun, 1);
    }
}

#[test]
fn n16_icmp_errors_come_from_any_router() {
    for n in BOTH {
        let mut w = World::new();
        let sent = w.out(&udp((n.b, 5_000), (n.x, 7), b"")).unwrap();
        let seen = w.in_(&icmp_error(n.router, n.e, n.time_exceeded(), &sent.frame)).unwrap();
        assert_eq!((seen.src.ip(), seen.dst.ip()), (n.router, n.b));
        assert_eq!(seen.quoted_whole().ends(), ends((n.b, 5_000), (n.x, 7)));
    }
}

#[test]
fn n10_families_do_not_meet() {
    let mut w = World::new();
    w.out(&udp((V4.a, 5_000), (V4.x, 7), b"")).unwrap();
    assert_eq!(w.in_(&udp((V6.x, 7), (V6.e, 5_000), b"")), Err(DropReason::Unsolicited));
    assert_eq!((w.sessions::<Ipv4Addr>().len(), w.sessions::<Ipv6Addr>().len()), (1, 0));
}
