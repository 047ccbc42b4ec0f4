//! Published ports, each a test named after its number: N30, N62, N64, N66, N69, N70, and what else is promised of them. A container's
//! address reached from outside by routing (N63) and the host's own ports (N65, N67, N68) are the business of the uplink and the daemon.
mod common;
use common::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;
use vswitch_nat::flow::{Address, Tuple};
use vswitch_nat::forward::{Backend, ForwardError, Rule, RuleCounts, RuleId};
use vswitch_nat::nat::{Family, NatConfig};
use vswitch_nat::station::Limits;
use vswitch_nat::tcp_state::Phase;
use vswitch_switch::DropReason;

/// A's port 80 at 8,080 of all our addresses.
fn web(n: &Net) -> World {
    let mut w = World::new();
    w.publish(1, TCP, None, 8_080..=8_080, &[(1, n.a, 80)]).unwrap();
    w
}

fn counts(w: &World, n: &Net, id: u32) -> RuleCounts {
    fn of<A: Family>(w: &World, id: u32) -> RuleCounts {
        w.nat.table::<A>().forwards.iter().find(|(rule, _)| rule.id == RuleId(id)).unwrap().1
    }
    if n.a.is_ipv4() { of::<Ipv4Addr>(w, id) } else { of::<Ipv6Addr>(w, id) }
}

#[test]
fn n62_the_client_keeps_its_address_and_its_port() {
    for n in BOTH {
        let (mut w, x, e, a) = (web(&n), (n.x, 4_000), (n.e, 8_080), (n.a, 80));
        assert_eq!(w.in_(&segment(x, e, SYN, 100, 0, b"")).unwrap().ends(), ends(x, a));
        assert_eq!(w.out(&segment(a, x, SYN | ACK, 5_000, 101, b"")).unwrap().ends(), ends(e, x));
        assert_eq!(w.in_(&segment(x, e, ACK, 101, 5_001, b"GET /")).unwrap().payload(), b"GET /");
        assert_eq!(w.phases(), [Phase::TcpEstablished]);
        assert_eq!(w.out(&segment(a, x, ACK, 5_001, 106, b"200 OK")).unwrap().ends(), ends(e, x));
        let RuleCounts { sessions, packets, refused, .. } = counts(&w, &n, 1);
        assert_eq!((sessions, packets, refused), (1, 4, 0));
        // UDP is another protocol.
        assert_eq!(w.in_(&udp(x, e, b"")), Err(DropReason::Unsolicited));
    }
}

#[test]
fn n62_nothing_but_a_syn_begins_a_connection() {
    for n in BOTH {
        let mut w = web(&n);
        for flags in [ACK, SYN | ACK, FIN | ACK, RST, SYN | RST, 0] {
            assert_eq!(w.in_(&tcp((n.x, 4_000), (n.e, 8_080), flags)), Err(DropReason::Unsolicited), "{flags}");
        }
        assert_eq!(w.len(), 0);
    }
}

#[test]
fn n62_a_rule_for_one_address_is_for_that_address() {
    for n in BOTH {
        let mut w = World::new();
        w.two_addresses();
        w.publish(1, TCP, Some(n.e), 80..=80, &[(1, n.a, 80)]).unwrap();
        w.publish(2, TCP, Some(n.e2), 80..=80, &[(2, n.b, 80)]).unwrap();
        assert_eq!(w.in_(&tcp((n.x, 4_000), (n.e, 80), SYN)).unwrap().dst, at(n.a, 80));
        assert_eq!(w.in_(&tcp((n.x, 4_000), (n.e2, 80), SYN)).unwrap().dst, at(n.b, 80));
        assert_eq!(w.out(&tcp((n.a, 80), (n.x, 4_000), SYN | ACK)).unwrap().src, at(n.e, 80));
        assert_eq!(w.out(&tcp((n.b, 80), (n.x, 4_000), SYN | ACK)).unwrap().src, at(n.e2, 80));
    }
}

#[test]
fn n62_containers_use_the_clients_port_themselves_too() {
    // A's own connection from port 80 to X:4000 and X's from 4000 to A's port 80 are one and the same to A.
    for n in BOTH {
        let mut w = web(&n);
        w.in_(&segment((n.x, 4_000), (n.e, 8_080), SYN, 100, 0, b"")).unwrap();
        assert_eq!(w.out(&segment((n.a, 80), (n.x, 4_000), SYN | ACK, 5_000, 101, b"")).unwrap().src, at(n.e, 8_080));
        assert_eq!(w.out(&tcp((n.a, 80), (n.x, 4_001), SYN)).unwrap().src, at(n.e, 80));
    }
}

#[test]
fn n64_a_range_is_one_rule_whose_every_port_has_its_place() {
    for n in BOTH {
        let mut w = World::new();
        let before = Instant::now();
        w.publish(1, UDP, None, 10_000..=20_000, &[(1, n.a, 30_000)]).unwrap();
        assert!(before.elapsed().as_millis() < 100);
        for port in 10_000..=20_000 {
            let seen = w.in_(&udp((n.x, 4_000), (n.e, port), b"")).unwrap();
            assert_eq!(seen.ends(), ends((n.x, 4_000), (n.a, port + 20_000)));
        }
        assert_eq!(w.out(&udp((n.a, 35_000), (n.x, 4_000), b"")).unwrap().src, at(n.e, 15_000));
        for port in [9_999, 20_001] {
            assert_eq!(w.in_(&udp((n.x, 4_000), (n.e, port), b"")), Err(DropReason::Unsolicited));
        }
    }
}

#[test]
fn n64_what_overlaps_is_refused_whole() {
    for n in BOTH {
        let mut w = World::new();
        w.publish(1, UDP, None, 10_000..=10_010, &[(1, n.a, 10_000)]).unwrap();
        let taken = Err(ForwardError::Taken { by: RuleId(1), port: 10_010 });
        assert_eq!(w.publish(2, UDP, None, 10_010..=10_020, &[(2, n.b, 10_010)]), taken);
        assert_eq!(w.in_(&udp((n.x, 4_000), (n.e, 10_011), b"")), Err(DropReason::Unsolicited));
        assert_eq!(w.in_(&udp((n.x, 4_000), (n.e, 10_010), b"")).unwrap().dst, at(n.a, 10_010));
    }
}

#[test]
fn n66_a_peer_that_never_stops_sending_reaches_the_restarted_container_at_once() {
    for n in BOTH {
        for is_swept in [false, true] {
            let mut w = World::new();
            // The host's port is not the container's.
            w.publish(1, UDP, None, 8_125..=8_125, &[(1, n.a, 125)]).unwrap();
            let packet = udp((n.x, 4_000), (n.e, 8_125), b"stat");
            for _ in 0..10 {
                assert_eq!(w.in_(&packet).unwrap().dst, at(n.a, 125));
                w.wait(5);
            }
            // It goes, packets meet nobody; it comes back under another address.
            w.stations.remove(1);
            w.nat.unpublish::<Ipv4Addr>(RuleId(1));
            w.nat.unpublish::<Ipv6Addr>(RuleId(1));
            if is_swept {
                w.nat.begin_sweep();
            }
            w.wait(5);
            assert_eq!(w.in_(&packet), Err(DropReason::Unsolicited));
            w.wait(5);
            let back = station(9, Limits::default());
            w.stations.set(1, back);
            let new: IpAddr = if n.a.is_ipv4() { back.v4.unwrap().into() } else { back.v6.unwrap().into() };
            w.publish(1, UDP, None, 8_125..=8_125, &[(1, new, 125)]).unwrap();
            assert_eq!(w.in_(&packet).unwrap().dst, at(new, 125), "the first packet");
            assert_eq!(w.out(&udp((new, 125), (n.x, 4_000), b"ok")).unwrap().ends(), ends((n.e, 8_125), (n.x, 4_000)));
            assert_eq!(w.len(), 1);
        }
    }
}

#[test]
fn n66_the_same_at_a_renumbering_without_a_pause() {
    for n in BOTH {
        let mut w = World::new();
        w.publish(1, UDP, None, 8_125..=8_125, &[(1, n.a, 125)]).unwrap();
        let packet = udp((n.x, 4_000), (n.e, 8_125), b"stat");
        w.in_(&packet).unwrap();
        let back = station(9, Limits::default());
        let new: IpAddr = if n.a.is_ipv4() { back.v4.unwrap().into() } else { back.v6.unwrap().into() };
        w.stations.set(1, back);
        w.publish(1, UDP, None, 8_125..=8_125, &[(1, new, 125)]).unwrap();
        assert_eq!(w.in_(&packet).unwrap().dst, at(new, 125));
        assert_eq!(w.out(&udp((new, 125), (n.x, 4_000), b"ok")).unwrap().src, at(n.e, 8_125));
    }
}

/// Three containers behind port 80; gives the world and who they are.
fn balanced(n: &Net, draining: &[u16]) -> (World, Vec<IpAddr>) {
    let mut w = World::new();
    let inside: Vec<IpAddr> = (1..4)
        .map(|port| {
            let station = station(port + 1, Limits::default());
            w.stations.set(port, station);
            if n.a.is_ipv4() { IpAddr::V4(station.v4.unwrap()) } else { IpAddr::V6(station.v6.unwrap()) }
        })
        .collect();
    balance(&mut w, &inside, draining);
    (w, inside)
}

/// Publishes port 80 of all, some draining.
fn balance(w: &mut World, inside: &[IpAddr], draining: &[u16]) {
    fn rule<A: Address>(inside: &[IpAddr], draining: &[u16]) -> Rule<A> {
        let backends = (1..).zip(inside).map(|(owner, address)| Backend {
            owner,
            address: A::of(*address).unwrap(),
            port: 8_000,
            draining: draining.contains(&owner),
        });
        Rule { id: RuleId(1), protocol: TCP, address: None, first: 80, last: 80, from: vec![], backends: backends.collect() }
    }
    if inside[0].is_ipv4() {
        w.nat.publish(rule::<Ipv4Addr>(inside, draining)).unwrap();
    } else {
        w.nat.publish(rule::<Ipv6Addr>(inside, draining)).unwrap();
    }
}

/// A whole handshake with whoever answers.
fn shake(w: &mut World, n: &Net, sport: u16) -> SocketEnd {
    let (x, e) = ((n.x, sport), (n.e, 80));
    let backend = host(w.in_(&segment(x, e, SYN, 100, 0, b"")).unwrap().dst);
    w.out(&segment(backend, x, SYN | ACK, 5_000, 101, b"")).unwrap();
    assert_eq!(host(w.in_(&segment(x, e, ACK, 101, 5_001, b"")).unwrap().dst), backend);
    backend
}

type SocketEnd = (IpAddr, u16);

#[test]
fn n69_flows_are_spread_and_stay_where_they_are() {
    for n in BOTH {
        let (mut w, inside) = balanced(&n, &[]);
        let flows: BTreeMap<u16, SocketEnd> = (10_000..10_300).map(|sport| (sport, shake(&mut w, &n, sport))).collect();
        for address in &inside {
            let share = flows.values().filter(|backend| backend.0 == *address).count();
            assert!((60..140).contains(&share), "{share}");
        }
        // IPVS gives up after 900 s (moby#31208).
        w.wait(901);
        for (sport, backend) in &flows {
            let seen = w.in_(&segment((n.x, *sport), (n.e, 80), ACK, 101, 5_001, b"on")).unwrap();
            assert_eq!((host(seen.dst), seen.src), (*backend, at(n.x, *sport)));
        }
    }
}

#[test]
fn n69_a_backend_that_drains_keeps_what_it_has_and_gets_no_more() {
    for n in BOTH {
        let (mut w, inside) = balanced(&n, &[]);
        let flows: BTreeMap<u16, SocketEnd> = (10_000..10_090).map(|sport| (sport, shake(&mut w, &n, sport))).collect();
        balance(&mut w, &inside, &[2]);
        for (sport, backend) in &flows {
            let seen = w.in_(&segment((n.x, *sport), (n.e, 80), ACK, 101, 5_001, b"on")).unwrap();
            assert_eq!(host(seen.dst), *backend);
        }
        let new: BTreeSet<IpAddr> = (20_000..20_090).map(|sport| shake(&mut w, &n, sport).0).collect();
        assert_eq!(new, BTreeSet::from([inside[0], inside[2]]));
        balance(&mut w, &inside, &[1, 2, 3]);
        assert_eq!(w.in_(&tcp((n.x, 30_000), (n.e, 80), SYN)), Err(DropReason::Unsolicited));
    }
}

#[test]
fn n69_a_backend_that_is_gone_takes_its_flows_and_no_others() {
    for n in BOTH {
        let (mut w, inside) = balanced(&n, &[]);
        let flows: BTreeMap<u16, SocketEnd> = (10_000..10_090).map(|sport| (sport, shake(&mut w, &n, sport))).collect();
        w.stations.remove(3);
        balance(&mut w, &inside[..2], &[]);
        for (sport, backend) in &flows {
            let verdict = w.in_(&segment((n.x, *sport), (n.e, 80), ACK, 101, 5_001, b"on"));
            if backend.0 == inside[2] {
                assert_eq!(verdict, Err(DropReason::Unsolicited));
                // Its client's next connection goes to another.
                assert_ne!(shake(&mut w, &n, *sport).0, inside[2]);
            } else {
                assert_eq!(host(verdict.unwrap().dst), *backend);
            }
        }
    }
}

#[test]
fn n30_a_container_reaches_anothers_published_port_and_its_own() {
    for n in BOTH {
        let mut w = web(&n);
        for inside in [n.b, n.a] {
            let (client, e) = ((inside, 5_000), (n.e, 8_080));
            let syn = w.hairpin(&segment(client, e, SYN, 100, 0, b"")).unwrap();
            assert_eq!(syn.ends().1, at(n.a, 80));
            assert_eq!(syn.src.ip(), n.e, "as from outside, or the answer would not come back this way");
            let answer = w.hairpin(&segment((n.a, 80), host(syn.src), SYN | ACK, 5_000, 101, b"")).unwrap();
            assert_eq!(answer.ends(), ends(e, client));
            let data = w.hairpin(&segment(client, e, ACK, 101, 5_001, b"GET /")).unwrap();
            assert_eq!((data.ends(), data.payload()), (syn.ends(), &b"GET /"[..]));
        }
        assert_eq!(w.phases(), [Phase::TcpEstablished; 4]);
        // Two clients with one port are told apart.
        let sources: BTreeSet<_> = w.sessions_from_outside(&n).into_iter().collect();
        assert_eq!(sources.len(), 2);
    }
}

impl World {
    /// Where the sessions to published ports come from.
    fn sessions_from_outside(&self, n: &Net) -> Vec<(IpAddr, u16)> {
        fn of<A: Family>(w: &World) -> Vec<(IpAddr, u16)> {
            let all = w.sessions::<A>().into_iter();
            all.filter(|(_, session)| session.from_outside).map(|(Tuple { src, sport, .. }, _)| (src.into(), sport)).collect()
        }
        if n.a.is_ipv4() { of::<Ipv4Addr>(self) } else { of::<Ipv6Addr>(self) }
    }
}

#[test]
fn n30_the_same_at_an_alias_from_where_nothing_leaves() {
    for n in BOTH {
        let mut w = web(&n);
        let [IpAddr::V4(four), IpAddr::V6(six)] = [V4.e, V6.e] else { unreachable!() };
        let [IpAddr::V4(alias_four), IpAddr::V6(alias_six)] = [V4.e2, V6.e2] else { unreachable!() };
        w.nat.set_addresses(&mut w.stations, vec![four], vec![alias_four], w.now);
        w.nat.set_addresses(&mut w.stations, vec![six], vec![alias_six], w.now);
        let syn = w.hairpin(&tcp((n.b, 5_000), (n.e2, 8_080), SYN)).unwrap();
        assert_eq!(syn.ends(), ends((n.e, 5_000), (n.a, 80)));
        let answer = w.hairpin(&tcp((n.a, 80), (n.e, 5_000), SYN | ACK)).unwrap();
        assert_eq!(answer.ends(), ends((n.e2, 8_080), (n.b, 5_000)));
        assert_eq!(w.in_(&tcp((n.x, 4_000), (n.e2, 8_080), SYN)).unwrap().dst, at(n.a, 80));
        assert_eq!(w.out(&tcp((n.b, 5_001), (n.x, 80), SYN)).unwrap().src.ip(), n.e);
    }
}

#[test]
fn n12_hairpin_of_udp_through_a_published_port() {
    for n in BOTH {
        let mut w = World::new();
        w.publish(1, UDP, None, 8_053..=8_053, &[(1, n.a, 53)]).unwrap();
        let query = w.hairpin(&udp((n.b, 6_000), (n.e, 8_053), b"?")).unwrap();
        assert_eq!(query.ends(), ends((n.e, 6_000), (n.a, 53)));
        let answer = w.hairpin(&udp((n.a, 53), (n.e, 6_000), b"!")).unwrap();
        assert_eq!(answer.ends(), ends((n.e, 8_053), (n.b, 6_000)));
    }
}

#[test]
fn from_admits_whom_it_names_and_counts_the_others() {
    for n in BOTH {
        let bits = if n.a.is_ipv4() { 32 } else { 128 };
        let mut w = World::new();
        w.publish_from(1, TCP, None, 22..=22, &[(n.x, bits), (n.router, 24)], &[(1, n.a, 22)]).unwrap();
        assert!(w.in_(&tcp((n.x, 4_000), (n.e, 22), SYN)).is_ok());
        assert!(w.in_(&tcp((n.router, 4_000), (n.e, 22), SYN)).is_ok());
        if n.a.is_ipv4() {
            for _ in 0..3 {
                assert_eq!(w.in_(&tcp((n.y, 4_000), (n.e, 22), SYN)), Err(DropReason::PublishFrom));
            }
            assert_eq!((counts(&w, &n, 1).sessions, counts(&w, &n, 1).refused), (2, 3));
            // Who is refused leaves nothing behind, and a later rule lets him in.
            assert_eq!(w.len(), 2);
        }
        w.publish_from(1, TCP, None, 22..=22, &[(n.y, bits)], &[(1, n.a, 22)]).unwrap();
        assert_eq!(w.in_(&tcp((n.x, 4_001), (n.e, 22), SYN)), Err(DropReason::PublishFrom));
        assert!(w.in_(&tcp((n.y, 4_000), (n.e, 22), SYN)).is_ok());
        assert!(w.in_(&tcp((n.x, 4_000), (n.e, 22), ACK)).is_ok(), "what is under way goes on");
    }
}

#[test]
fn publishing_over_a_port_held_by_a_dynamic_mapping_lets_its_sessions_finish() {
    for n in BOTH {
        let mut w = World::new();
        w.out(&udp((n.b, 5_000), (n.x, 7), b"")).unwrap();
        w.connect((n.b, 5_000), (n.x, 80));
        w.publish(1, UDP, None, 5_000..=5_000, &[(1, n.a, 53)]).unwrap();
        w.publish(2, TCP, None, 5_000..=5_000, &[(1, n.a, 80)]).unwrap();
        // What B had goes on, both ways.
        assert_eq!(w.in_(&udp((n.x, 7), (n.e, 5_000), b"")).unwrap().dst, at(n.b, 5_000));
        assert_eq!(w.out(&udp((n.b, 5_000), (n.x, 7), b"")).unwrap().src, at(n.e, 5_000));
        assert_eq!(w.in_(&segment((n.x, 80), (n.e, 5_000), ACK, 5_001, 101, b"")).unwrap().dst, at(n.b, 5_000));
        // Everybody else finds A.
        assert_eq!(w.in_(&udp((n.y, 7), (n.e, 5_000), b"")).unwrap().dst, at(n.a, 53));
        assert_eq!(w.in_(&tcp((n.y, 80), (n.e, 5_000), SYN)).unwrap().dst, at(n.a, 80));
        // B's next flow has another port, one for all remotes.
        let next = w.out(&udp((n.b, 5_000), (n.y, 9), b"")).unwrap().src;
        assert_ne!(next, at(n.e, 5_000));
        assert_eq!(w.out(&udp((n.b, 5_000), (n.router, 9), b"")).unwrap().src, next);
        assert_ne!(w.out(&tcp((n.b, 5_000), (n.y, 81), SYN)).unwrap().src, at(n.e, 5_000));
        // And when it is over, B's old peer finds A too.
        w.wait(301);
        assert_eq!(w.in_(&udp((n.x, 7), (n.e, 5_000), b"")).unwrap().dst, at(n.a, 53));
    }
}

#[test]
fn no_dynamic_mapping_takes_a_published_port() {
    for n in BOTH {
        let mut w = World::new();
        w.publish(1, UDP, None, 1_024..=40_000, &[(1, n.a, 1_024)]).unwrap();
        for port in 5_000..5_100 {
            let src = w.out(&udp((n.b, port), (n.x, 7), b"")).unwrap().src;
            assert!(src.port() > 40_000, "{src}");
        }
    }
}

#[test]
fn where_client_and_container_port_are_in_use_only_the_source_port_changes() {
    for n in BOTH {
        let mut w = web(&n);
        w.publish(2, TCP, None, 8_081..=8_081, &[(1, n.a, 80)]).unwrap();
        let x = (n.x, 4_000);
        assert_eq!(w.in_(&tcp(x, (n.e, 8_080), SYN)).unwrap().ends(), ends(x, (n.a, 80)));
        let second = w.in_(&tcp(x, (n.e, 8_081), SYN)).unwrap();
        assert_eq!((second.src.ip(), second.dst), (n.x, at(n.a, 80)));
        assert_ne!(second.src.port(), 4_000);
        assert_eq!(w.out(&tcp((n.a, 80), x, SYN | ACK)).unwrap().ends(), ends((n.e, 8_080), x));
        assert_eq!(w.out(&tcp((n.a, 80), host(second.src), SYN | ACK)).unwrap().ends(), ends((n.e, 8_081), x));
    }
}

#[test]
fn an_unpublished_ports_sessions_go_on_and_none_begins() {
    for n in BOTH {
        let mut w = web(&n);
        w.in_(&segment((n.x, 4_000), (n.e, 8_080), SYN, 100, 0, b"")).unwrap();
        w.out(&segment((n.a, 80), (n.x, 4_000), SYN | ACK, 5_000, 101, b"")).unwrap();
        assert!(w.nat.unpublish::<Ipv4Addr>(RuleId(1)) || w.nat.unpublish::<Ipv6Addr>(RuleId(1)));
        assert!(w.in_(&segment((n.x, 4_000), (n.e, 8_080), ACK, 101, 5_001, b"GET /")).is_ok());
        assert_eq!(w.in_(&tcp((n.x, 4_001), (n.e, 8_080), SYN)), Err(DropReason::Unsolicited));
    }
}

#[test]
fn n58_a_published_containers_quota_is_its_own() {
    for n in BOTH {
        let mut w = World::with(NatConfig::default());
        w.stations.set(1, station(2, Limits { sessions: 5, ports: 5 }));
        w.publish(1, UDP, None, 80..=80, &[(1, n.a, 80)]).unwrap();
        w.publish(2, UDP, None, 81..=81, &[(2, n.b, 80)]).unwrap();
        for sport in 4_000..4_005 {
            w.in_(&udp((n.x, sport), (n.e, 80), b"")).unwrap();
            w.out(&udp((n.a, 80), (n.x, sport), b"")).unwrap();
        }
        assert_eq!(w.in_(&udp((n.x, 5_000), (n.e, 80), b"")), Err(DropReason::NatQuota));
        assert!(w.in_(&udp((n.x, 5_000), (n.e, 81), b"")).is_ok());
    }
}

#[test]
fn n70_sctp_goes_by_address_and_its_checksum_is_left_alone() {
    for n in BOTH {
        // RFC 9260 3.1: ports 5000 and 80, tag, CRC32c (any: it covers no address), an INIT chunk.
        let init =
            [0x13, 0x88, 0, 80, 0, 0, 0, 0, 0xde, 0xad, 0xbe, 0xef, 1, 0, 0, 20, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1];
        let mut w = World::new();
        let out = w.out(&frame(n.a, n.x, 132, init.to_vec())).unwrap();
        assert_eq!((out.src.ip(), out.dst.ip(), out.message()), (n.e, n.x, &init[..]));
        let back = w.in_(&frame(n.x, n.e, 132, init.to_vec())).unwrap();
        assert_eq!((back.src.ip(), back.dst.ip(), back.message()), (n.x, n.a, &init[..]));
        // exception: without ports there is one container to a remote; the second is told.
        assert_eq!(w.out(&frame(n.b, n.x, 132, init.to_vec())), Err(DropReason::NatPorts));
        assert!(w.out(&frame(n.b, n.y, 132, init.to_vec())).is_ok());
        assert_eq!(w.in_(&frame(n.router, n.e, 132, init.to_vec())), Err(DropReason::Unsolicited));
    }
}
