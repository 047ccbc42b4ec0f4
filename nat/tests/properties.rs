//! Properties that hold for any packets, in any order, at any time.
mod common;
use common::*;
use proptest::prelude::*;
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use vswitch_nat::flow::Address;
use vswitch_nat::forward::RuleId;
use vswitch_nat::nat::{Family, Filtering, MappingMode, NatConfig};
use vswitch_nat::ports::PortPolicy;
use vswitch_nat::station::Limits;
use vswitch_nat::tcp_state::Phase;

/// Longer than any session lives.
const FOREVER: u64 = 7_500;

fn nets() -> impl Strategy<Value = Net> {
    prop_oneof![Just(V4), Just(V6)]
}

fn modes() -> impl Strategy<Value = MappingMode> {
    prop_oneof![Just(MappingMode::EndpointIndependent), Just(MappingMode::AddressAndPortDependent)]
}

fn filters() -> impl Strategy<Value = Filtering> {
    prop_oneof![Just(Filtering::EndpointIndependent), Just(Filtering::AddressDependent), Just(Filtering::AddressAndPortDependent),]
}

/// Small tables and small quotas, so that they are full now and then.
fn configs() -> impl Strategy<Value = NatConfig> {
    (modes(), modes(), modes(), filters(), any::<bool>(), any::<[bool; 3]>(), 4..40_u32, 4..40_u32).prop_map(
        |(udp, tcp, icmp, filtering, loose, [preserve, keep_class, keep_parity], sessions, mappings)| NatConfig {
            udp,
            tcp,
            icmp,
            filtering,
            loose,
            ports: PortPolicy { preserve, keep_class, keep_parity },
            sessions_v4: sessions,
            sessions_v6: sessions,
            mappings,
            ..NatConfig::default()
        },
    )
}

/// What a packet carries.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Udp,
    Tcp(u8),
    Echo,
    Sctp,
}

fn kinds() -> impl Strategy<Value = Kind> {
    let flags = prop_oneof![4 => Just(SYN), 3 => Just(ACK), 2 => Just(SYN | ACK), 2 => Just(FIN | ACK), 1 => Just(RST)];
    prop_oneof![3 => Just(Kind::Udp), 6 => flags.prop_map(Kind::Tcp), 2 => Just(Kind::Echo), 1 => Just(Kind::Sctp)]
}

fn packet(kind: Kind, src: (IpAddr, u16), dst: (IpAddr, u16)) -> Vec<u8> {
    match kind {
        Kind::Udp => udp(src, dst, b"any"),
        Kind::Tcp(flags) => tcp(src, dst, flags),
        Kind::Echo => ping(src, dst.0),
        Kind::Sctp => frame(src.0, dst.0, 132, vec![0; 12]),
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// From a station, to a remote or to one of our own addresses, and in again then.
    Out {
        kind: Kind,
        station: u8,
        sport: u16,
        remote: u8,
        dport: u16,
    },
    /// From a remote to an external address.
    In {
        kind: Kind,
        remote: u8,
        sport: u16,
        dport: u16,
    },
    /// The answer to what left last.
    Answer(Kind),
    Wait(u64),
    Renumber(u16, u16),
    Remove(u16),
    Flush(u16),
    Publish {
        id: u32,
        first: u16,
        span: u16,
        backend: u16,
    },
    Unpublish(u32),
    /// One external address, two, or none.
    Addresses(u8),
    Sweep,
}

fn steps() -> impl Strategy<Value = Step> {
    let port = || 0..6_u16;
    prop_oneof![
        12 => (kinds(), 0..3_u8, port(), 0..4_u8, port()).prop_map(|(kind, station, sport, remote, dport)| {
            Step::Out { kind, station, sport: 5_000 + sport, remote, dport: 5_000 + dport }
        }),
        6 => (kinds(), 0..3_u8, port(), port())
            .prop_map(|(kind, remote, sport, dport)| Step::In { kind, remote, sport: 5_000 + sport, dport: 5_000 + dport }),
        8 => kinds().prop_map(Step::Answer),
        3 => prop_oneof![0..3_u64, 50..130_u64, 200..310_u64, Just(FOREVER)].prop_map(Step::Wait),
        1 => (1..4_u16, 2..7_u16).prop_map(|(port, last)| Step::Renumber(port, last)),
        1 => (1..4_u16).prop_map(Step::Remove),
        1 => (1..4_u16).prop_map(Step::Flush),
        1 => (1..4_u32, port(), 0..3_u16, 1..4_u16)
            .prop_map(|(id, first, span, backend)| Step::Publish { id, first: 5_000 + first, span, backend }),
        1 => (1..4_u32).prop_map(Step::Unpublish),
        1 => (0..6_u8).prop_map(Step::Addresses),
        1 => Just(Step::Sweep),
    ]
}

const LIMITS: Limits = Limits { sessions: 12, ports: 6 };

/// A station's address of the family of `n`.
fn address(w: &World, n: &Net, port: u16) -> Option<IpAddr> {
    let station = w.stations.station(port)?;
    if n.a.is_ipv4() { station.v4.map(IpAddr::from) } else { station.v6.map(IpAddr::from) }
}

fn set_addresses(w: &mut World, count: u8) {
    let of = |one: IpAddr, two: IpAddr| match count {
        0 => vec![],
        1..=3 => vec![one],
        _ => vec![one, two],
    };
    let (four, six) = (of(V4.e, V4.e2), of(V6.e, V6.e2));
    w.nat.set_addresses(&mut w.stations, four.into_iter().filter_map(Ipv4Addr::of).collect(), vec![], w.now);
    w.nat.set_addresses(&mut w.stations, six.into_iter().filter_map(Ipv6Addr::of).collect(), vec![], w.now);
}

/// Does a step; `last` is what left last.
fn act(w: &mut World, n: &Net, step: &Step, last: &mut Option<Seen>) {
    let remotes = [n.x, n.y, n.router, n.e];
    match *step {
        Step::Out { kind, station, sport, remote, dport } => {
            let port = u16::from(station) + 1;
            let Some(src) = address(w, n, port) else { return };
            let out = w.out_from(port, &packet(kind, (src, sport), (remotes[usize::from(remote)], dport)));
            if let Ok(out) = out {
                if out.dst.ip() == n.e {
                    let _ = w.in_(&out.frame);
                } else {
                    *last = Some(out);
                }
            }
        }
        Step::In { kind, remote, sport, dport } => {
            let _ = w.in_(&packet(kind, (remotes[usize::from(remote)], sport), (n.e, dport)));
        }
        Step::Answer(kind) => {
            if let Some(out) = last {
                let answer = match (out.protocol, kind) {
                    (UDP, _) => udp(host(out.dst), host(out.src), b"answer"),
                    (TCP, Kind::Tcp(flags)) => tcp(host(out.dst), host(out.src), flags),
                    (ICMP | ICMPV6, _) => pong(out.dst.ip(), host(out.src)),
                    _ => return,
                };
                let _ = w.in_(&answer);
            }
        }
        Step::Wait(seconds) => w.jump(seconds),
        Step::Renumber(port, last) => {
            if (1..4)
                .all(|other| other == port || w.stations.station(other).is_none_or(|other| other.v4 != station(last, LIMITS).v4))
            {
                w.stations.set(port, station(last, LIMITS));
            }
        }
        Step::Remove(port) => w.stations.remove(port),
        Step::Flush(port) => w.stations.flush(port),
        Step::Publish { id, first, span, backend } => {
            if let Some(inside) = address(w, n, backend) {
                let protocol = if id == 1 { TCP } else { UDP };
                let _ = w.publish(id, protocol, None, first..=first + span, &[(backend, inside, 5_000)]);
            }
        }
        Step::Unpublish(id) => {
            w.nat.unpublish::<Ipv4Addr>(RuleId(id));
            w.nat.unpublish::<Ipv6Addr>(RuleId(id));
        }
        Step::Addresses(count) => set_addresses(w, count),
        Step::Sweep => w.nat.begin_sweep(),
    }
}

/// What is true at any time.
fn check<A: Family>(w: &World) -> Result<(), TestCaseError> {
    let table = w.nat.table::<A>();
    let sessions = w.sessions::<A>();
    let mut tuples = HashSet::new();
    for (original, session) in &sessions {
        prop_assert!(tuples.insert(*original), "two sessions have {original:?}");
        prop_assert!(tuples.insert(session.reply), "two sessions have {:?}", session.reply);
    }
    let mut externals = HashSet::new();
    let mut ports = [0; 4];
    let mut wrong = vec![];
    table.mappings.page(0, u32::MAX, |external, mapping| {
        let users =
            sessions.iter().filter(|(original, session)| session.is_mapped && session.external(original) == *external).count();
        if !externals.insert(*external) || mapping.sessions < users as u32 || mapping.inside.protocol != external.protocol {
            wrong.push((*external, *mapping));
        }
        if mapping.sessions > 0 && w.stations.is_current(mapping.owner) {
            ports[usize::from(mapping.owner.port)] += 1;
        }
    });
    prop_assert!(wrong.is_empty(), "{wrong:?}");
    for (original, session) in sessions.iter().filter(|(_, session)| session.is_mapped) {
        let external = session.external(original);
        let inside = if session.from_outside { session.reply.source() } else { original.source() };
        prop_assert_eq!(table.mappings.get(&external).map(|mapping| mapping.inside), Some(inside));
    }
    prop_assert!(table.sessions.len() <= table.sessions.capacity());
    Ok(())
}

/// Quotas count what there is, of both families.
fn check_usage(w: &World) -> Result<(), TestCaseError> {
    for port in 1..4_u16 {
        let (mut sessions, mut ports) = (0, 0);
        let owner = w.stations.owner(port);
        sessions += w.sessions::<Ipv4Addr>().iter().filter(|(_, s)| s.owner == owner && !s.phase.is_over()).count() as u32;
        sessions += w.sessions::<Ipv6Addr>().iter().filter(|(_, s)| s.owner == owner && !s.phase.is_over()).count() as u32;
        w.nat.table::<Ipv4Addr>().mappings.page(0, u32::MAX, |_, m| ports += u32::from(m.owner == owner && m.sessions > 0));
        w.nat.table::<Ipv6Addr>().mappings.page(0, u32::MAX, |_, m| ports += u32::from(m.owner == owner && m.sessions > 0));
        prop_assert_eq!(w.stations.usage(port), (sessions, ports), "port {}", port);
        prop_assert!(sessions <= LIMITS.sessions + 1 && ports <= LIMITS.ports + 1);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// An answer to what left comes back to who sent it, as if there were no NAT: octet by octet.
    #[test]
    fn an_answer_comes_back_as_if_there_were_no_nat(
        n in nets(),
        modes in (modes(), modes(), modes()),
        preserve in any::<bool>(),
        both_take in any::<bool>(),
        (sport, dport) in (1..=u16::MAX, 1..=u16::MAX),
        payload in proptest::collection::vec(any::<u8>(), 0..100),
        kind in 0..3_u8,
    ) {
        let (udp_mode, tcp_mode, icmp_mode) = modes;
        let ports = PortPolicy { preserve, ..PortPolicy::default() };
        let mut w = World::with(NatConfig { udp: udp_mode, tcp: tcp_mode, icmp: icmp_mode, ports, ..NatConfig::default() });
        let there = |from: (IpAddr, u16), to: (IpAddr, u16)| match kind {
            0 => udp(from, to, &payload),
            1 => segment(from, to, SYN, 1, 0, &payload),
            _ => ping(from, to.0),
        };
        let back = |from: (IpAddr, u16), to: (IpAddr, u16)| match kind {
            0 => udp(from, to, &payload),
            1 => segment(from, to, SYN | ACK, 7, 2, &payload),
            _ => pong(from.0, to),
        };
        let (inside, remote) = ((n.b, sport), (n.x, dport));
        if both_take {
            w.out(&there((n.a, sport), remote)).unwrap();
        }
        let out = w.out(&there(inside, remote)).unwrap();
        prop_assert_eq!(out.src.ip(), n.e);
        prop_assert_eq!(&out.frame, &there(host(out.src), remote));
        let answer = w.in_(&back(remote, host(out.src))).unwrap();
        prop_assert_eq!(answer.frame, back(remote, inside));
    }

    /// Whatever happens: no two sessions share a tuple, no two mappings an external endpoint; every session that began lives, has ended or
    /// was given up; quotas count what there is. And in the end nothing is left.
    #[test]
    fn tables_agree_and_in_the_end_they_are_empty(
        n in nets(),
        config in configs(),
        steps in proptest::collection::vec(steps(), 1..120),
    ) {
        let mut w = World::with(config);
        for (port, last) in [(1, 2), (2, 3), (3, 4)] {
            w.stations.set(port, station(last, LIMITS));
        }
        let mut last = None;
        for step in &steps {
            act(&mut w, &n, step, &mut last);
            check::<Ipv4Addr>(&w)?;
            check::<Ipv6Addr>(&w)?;
            check_usage(&w)?;
            let counts = w.nat.counts();
            prop_assert_eq!(counts.begun, u64::from(w.len()) + counts.ended + counts.reclaimed, "after {:?}", step);
        }
        w.jump(FOREVER);
        w.jump(FOREVER);
        let counts = w.nat.counts();
        prop_assert_eq!((w.len(), w.mappings(), counts.begun), (0, 0, counts.ended + counts.reclaimed));
        for port in 1..4 {
            prop_assert_eq!(w.stations.usage(port), (0, 0));
        }
        prop_assert!(!w.nat.is_ageing());
    }
}

/// Begins `count` flows of all kinds from 20 hosts to many remotes, and lets an hour pass.
fn an_hour_later(count: u32) {
    let capacity = count.next_power_of_two();
    let mut w = World::with(NatConfig { sessions_v4: capacity, sessions_v6: 16, ..NatConfig::default() });
    for port in 1..=20 {
        w.stations.set(port, station(port + 1, Limits { sessions: capacity, ..Limits::default() }));
    }
    for number in 0..count {
        let port = (number % 20) as u16 + 1;
        let src = (IpAddr::V4(station(port + 1, LIMITS).v4.unwrap()), 1_024 + (number / 20 % 50_000) as u16);
        let remote = IpAddr::V4(Ipv4Addr::new(203, 0, (number / 50_000) as u8, 1));
        // UDP and echoes have 64,512 ports for all; TCP has them for each remote.
        match number % 64 {
            0 if number < 1 << 21 => drop(w.out(&udp(src, (remote, 7), b"")).unwrap()),
            1 => drop(w.out(&ping(src, remote)).unwrap()),
            2..8 => {
                let out = host(w.out(&tcp(src, (remote, 80), SYN)).unwrap().src);
                w.in_(&tcp((remote, 80), out, RST | ACK)).unwrap();
            }
            _ => drop(w.out(&tcp(src, (remote, 80), SYN)).unwrap()),
        }
        if number % 10_000 == 0 {
            w.jump(1);
        }
    }
    assert_eq!(w.nat.counts().begun, u64::from(count));
    for _ in 0..3_600 {
        w.jump(1);
    }
    assert_eq!((w.len(), w.mappings(), w.nat.counts().ended), (0, 0, u64::from(count)));
    assert!((1..=20).all(|port| w.stations.usage(port) == (0, 0)));
    assert!(w.phases().iter().all(|phase| *phase == Phase::Other) && !w.nat.is_ageing());
}

#[test]
fn an_hour_later_nothing_is_left_of_a_hundred_thousand_flows() {
    an_hour_later(100_000);
}

#[test]
#[ignore = "a million flows take half a minute in a debug build"]
fn an_hour_later_nothing_is_left_of_a_million_flows() {
    an_hour_later(1_000_000);
}
