//! The requirements of 802.1D/802.1Q on an edge bridge, each a test named after its number: L01-L09, L11-L13, L17-L22.
//! L10, L14 and L15 are in `storm_loop.rs`. Of L09 only the layer 2 half is here. Half of L20 (the mirror's file) and of L21
//! (a write to a downed interface) is the business of `io` and tested there.
mod common;
use common::*;
use std::time::Duration;
use vswitch_switch::port::Guard;
use vswitch_switch::{
    Csum, DropCounts, DropReason, FdbLimits, FramePool, Gso, GsoKind, Mac, PortConfig, PortId, SwitchEvent, Tag, Time, Tpid, Vid,
};

/// "Who has 10.88.0.3? Tell 10.88.0.2", 42 octets, from A to everybody.
#[rustfmt::skip]
const ARP_REQUEST: [u8; 42] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0x58, 0x0a, 0x58, 0x00, 0x02, 0x08, 0x06,
    0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x01,
    0x02, 0x58, 0x0a, 0x58, 0x00, 0x02, 0x0a, 0x58, 0x00, 0x02,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x0a, 0x58, 0x00, 0x03,
];
/// "10.88.0.2 is at A", gratuitous (RFC 5227 2.3), 42 octets.
#[rustfmt::skip]
const ARP_ANNOUNCEMENT: [u8; 42] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0x58, 0x0a, 0x58, 0x00, 0x02, 0x08, 0x06,
    0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x01,
    0x02, 0x58, 0x0a, 0x58, 0x00, 0x02, 0x0a, 0x58, 0x00, 0x02,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x0a, 0x58, 0x00, 0x02,
];
/// EtherType IPv4 and two octets of garbage: a switch does not look.
const IP: [u8; 4] = [0x08, 0x00, 0x45, 0x00];
const GW: PortId = PortId::GATEWAY;

#[test]
fn l01_reserved_group_is_dropped() {
    let mut lab = Lab::new();
    let [one, two] = lab.ports();
    for last in 0..=0x0f {
        assert_eq!(lab.send(one, &eth([0x01, 0x80, 0xc2, 0, 0, last], A, &[0x00, 0x03, 0x42])), Err(DropReason::ReservedGroup));
    }
    let beyond = lab.reach(one, &eth([0x01, 0x80, 0xc2, 0, 0, 0x10], A, &[0x00, 0x03, 0x42]));
    assert_eq!(beyond, Ok(vec![GW, two]), "01-80-C2-00-00-10 is a group like any other");
}

#[test]
fn l01_each_reserved_group_but_pause_can_be_let_through() {
    let mut lab = Lab::new();
    let [one, two] = lab.ports();
    for asked in 0..=0x0f_u8 {
        lab.switch.set_group_forward(1 << asked);
        for last in 0..=0x0f_u8 {
            let verdict = lab.reach(one, &eth([0x01, 0x80, 0xc2, 0, 0, last], A, &[0x88, 0xcc]));
            let passes = last == asked && last != 1;
            assert_eq!(verdict, if passes { Ok(vec![GW, two]) } else { Err(DropReason::ReservedGroup) }, "{asked} {last}");
        }
    }
}

#[test]
fn l02_group_or_zero_source_is_dropped_and_not_learned() {
    let mut lab = Lab::new();
    let [one, _] = lab.ports();
    for src in [ALL, [0; 6], [0x01, 0, 0x5e, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1], [0x03, 0x58, 0, 0, 0, 1]] {
        assert_eq!(lab.send(one, &eth(B, src, &IP)), Err(DropReason::SourceInvalid));
        assert_eq!(lab.knows(src), None);
    }
    assert!(lab.switch.fdb().is_empty());
}

#[test]
fn l03_learns_vlan_and_source_after_the_filters() {
    let mut lab = Lab::new();
    let one = lab.port(trunk("10,20", None));
    let two = lab.port(access(10));
    let three = lab.port(access(20));
    assert_eq!(lab.send(one, &eth(ALL, A, &IP)), Err(DropReason::Vlan), "no native VLAN");
    assert_eq!(lab.send(two, &eth(ALL, A, &[0x81, 0, 0, 20, 0x08, 0])), Err(DropReason::Vlan));
    assert!(lab.switch.fdb().is_empty(), "a frame that is not admitted teaches nothing");

    assert_eq!(lab.reach(one, &eth(ALL, A, &[0x81, 0, 0, 10, 0x08, 0])), Ok(vec![two]));
    assert_eq!(lab.switch.fdb().lookup(vid(10), Mac(A), START), Some(one));
    assert_eq!(lab.switch.fdb().lookup(vid(20), Mac(A), START), None, "each VLAN learns for itself");
    assert_eq!(lab.reach(three, &eth(A, B, &IP)), Ok(vec![one]), "flooded in VLAN 20, where only the trunk is");
}

#[test]
fn l03_a_port_that_does_not_learn() {
    let mut lab = Lab::new();
    let one = lab.port(PortConfig { learn: false, ..PortConfig::default() });
    let two = lab.port(PortConfig::default());
    assert_eq!(lab.reach(one, &eth(ALL, A, &IP)), Ok(vec![GW, two]));
    assert_eq!(lab.knows(A), None);
}

#[test]
fn l04_entries_age_and_are_refreshed() {
    let mut lab = Lab::new();
    let [one, two, three] = lab.ports();
    lab.send(one, &eth(ALL, A, &IP)).unwrap();
    lab.now = START.after(Duration::from_secs(300));
    assert_eq!(lab.reach(two, &eth(A, B, &IP)), Ok(vec![one]), "300 s are not more than 300 s");
    lab.now = START.after(Duration::from_nanos(300_000_000_001));
    assert_eq!(lab.reach(two, &eth(A, B, &IP)), Ok(vec![GW, one, three]), "being a destination refreshes nothing");

    lab.send(one, &eth(B, A, &IP)).unwrap();
    lab.now = lab.now.after(Duration::from_secs(299));
    lab.send(one, &eth(B, A, &IP)).unwrap();
    lab.now = lab.now.after(Duration::from_secs(299));
    assert_eq!(lab.reach(two, &eth(A, B, &IP)), Ok(vec![one]), "refreshed");
    lab.now = lab.now.after(Duration::from_secs(1_000));
    lab.switch.tick(lab.now, 10_000);
    assert!(lab.switch.fdb().is_empty(), "memory is given back");
}

#[test]
fn l04_ageing_time_can_be_set_and_statics_never_age() {
    let mut lab = Lab::with(FdbLimits { ageing: Duration::from_secs(10), ..FdbLimits::default() });
    let [one, two, _] = lab.ports();
    lab.switch.fdb_mut().add_static(Vid::DEFAULT, Mac(C), two, START).unwrap();
    lab.send(one, &eth(ALL, A, &IP)).unwrap();
    lab.now = START.after(Duration::from_secs(11));
    assert_eq!((lab.knows(A), lab.knows(C)), (None, Some(two)));
    lab.switch.fdb_mut().set_ageing(Duration::from_secs(1_000_000));
    assert_eq!(lab.knows(A), Some(one));
    lab.now = Time::from_secs(100_000_000);
    lab.switch.tick(lab.now, 10_000);
    assert_eq!((lab.knows(A), lab.knows(C)), (None, Some(two)));
}

#[test]
fn l04_detach_forgets_at_once() {
    let mut lab = Lab::new();
    let [one, two, three] = lab.ports();
    lab.send(one, &eth(ALL, A, &IP)).unwrap();
    lab.send(two, &eth(ALL, B, &IP)).unwrap();
    lab.switch.fdb_mut().add_static(Vid::DEFAULT, Mac(C), one, START).unwrap();
    assert!(lab.switch.remove_port(one));
    assert_eq!((lab.knows(A), lab.knows(B), lab.knows(C)), (None, Some(two), None));
    assert_eq!(lab.reach(two, &eth(A, B, &IP)), Ok(vec![GW, three]));
    assert_eq!(lab.send(one, &eth(B, A, &IP)), Err(DropReason::PortGone));
    assert!(!lab.switch.remove_port(one) && !lab.switch.remove_port(GW), "the gateway stays");
}

#[test]
fn l05_known_unicast_goes_to_one_port_and_never_back() {
    let mut lab = Lab::new();
    let [one, two, _] = lab.ports();
    lab.send(one, &eth(ALL, A, &IP)).unwrap();
    lab.send(one, &eth(ALL, C, &IP)).unwrap();
    let frame = eth(A, B, &[0x08, 0, 1, 2, 3]);
    assert_eq!(lab.send(two, &frame), Ok(vec![(one, frame.clone())]));
    assert_eq!(lab.send(one, &eth(A, C, &IP)), Err(DropReason::Filtered));
    lab.switch.set_port(one, PortConfig { hairpin: true, ..PortConfig::default() }).unwrap();
    assert_eq!(lab.reach(one, &eth(A, C, &IP)), Ok(vec![one]), "hairpin");
}

#[test]
fn l06_unknown_broadcast_and_multicast_flood() {
    let mut lab = Lab::new();
    let [one, two] = lab.ports();
    let other_vlan = lab.port(access(10));
    let kinds = [C, ALL, [0x01, 0, 0x5e, 1, 2, 3]];
    for dst in kinds {
        let frame = eth(dst, A, &[0x86, 0xdd, 0x60]);
        assert_eq!(lab.send(one, &frame), Ok(vec![(GW, frame.clone()), (two, frame.clone())]));
        assert_eq!(lab.send(other_vlan, &frame), Err(DropReason::NoEgress));
    }
    let deaf = [takes(false, true, true), takes(true, false, true), takes(true, true, false)].map(|config| lab.port(config));
    for (dst, deaf) in kinds.into_iter().zip(deaf) {
        let reached = lab.reach(one, &eth(dst, A, &IP)).unwrap();
        assert_eq!(reached.len(), 4);
        assert!(!reached.contains(&deaf) && !reached.contains(&one) && !reached.contains(&other_vlan));
    }
}

#[test]
fn l07_an_address_moves_at_once_and_is_reported() {
    let mut lab = Lab::new();
    let [one, two, three] = lab.ports();
    lab.send(one, &eth(ALL, A, &IP)).unwrap();
    lab.send(two, &eth(ALL, A, &IP)).unwrap();
    assert_eq!(lab.reach(three, &eth(A, B, &IP)), Ok(vec![two]));
    assert_eq!(lab.switch.next_event(), Some(SwitchEvent::Moved { vid: Vid::DEFAULT, mac: mac(A), from: one, to: two }));
    assert_eq!(lab.switch.next_event(), None);
}

#[test]
fn l07_flapping_is_held_and_released() {
    let mut lab = Lab::new();
    let [one, two] = lab.ports();
    lab.send(one, &eth(ALL, A, &IP)).unwrap();
    for moves in 0..5 {
        lab.now = lab.now.after(Duration::from_secs(1));
        lab.send([two, one][moves % 2], &eth(ALL, A, &IP)).unwrap();
    }
    assert_eq!(lab.knows(A), Some(two));
    assert_eq!(lab.send(one, &eth(ALL, A, &IP)), Err(DropReason::Flap), "the sixth move in 180 s");
    let last = std::iter::from_fn(|| lab.switch.next_event()).last();
    assert_eq!(last, Some(SwitchEvent::Flap { vid: Vid::DEFAULT, mac: mac(A), held: two, seen: one }));
    assert_eq!(lab.reach(two, &eth(ALL, A, &IP)), Ok(vec![GW, one]), "where it is held, it works");
    lab.now = lab.now.after(Duration::from_secs(29));
    assert_eq!(lab.send(one, &eth(ALL, A, &IP)), Err(DropReason::Flap));
    assert_eq!(lab.switch.next_event(), None, "one alarm a hold");
    lab.now = lab.now.after(Duration::from_secs(1));
    assert_eq!(lab.reach(one, &eth(ALL, A, &IP)), Ok(vec![GW, two]));
    assert_eq!(lab.knows(A), Some(one));
}

#[test]
fn l07_roaming_now_and_then_is_no_flap() {
    let mut lab = Lab::new();
    let [one, two] = lab.ports();
    for moves in 0..100 {
        lab.now = lab.now.after(Duration::from_secs(46));
        lab.send([one, two][moves % 2], &eth(ALL, A, &IP)).unwrap();
    }
}

#[test]
fn l07_a_static_address_never_moves() {
    let mut lab = Lab::new();
    let [one, two] = lab.ports();
    lab.switch.fdb_mut().add_static(Vid::DEFAULT, Mac(A), one, START).unwrap();
    assert_eq!(lab.send(two, &eth(ALL, A, &IP)), Err(DropReason::Spoof));
    assert_eq!(lab.knows(A), Some(one));
    assert_eq!(lab.reach(one, &eth(ALL, A, &IP)), Ok(vec![GW, two]));
}

#[test]
fn l08_a_guarded_port_uses_its_own_address_only() {
    let mut lab = Lab::new();
    let one = lab.port(guarded(A));
    let two = lab.port(PortConfig::default());
    assert_eq!(lab.reach(one, &eth(ALL, A, &IP)), Ok(vec![GW, two]));
    for src in [B, GATEWAY, [0x02, 0x58, 10, 88, 1, 2]] {
        assert_eq!(lab.send(one, &eth(ALL, src, &IP)), Err(DropReason::Spoof));
        assert_eq!(lab.knows(src), None);
    }
    assert_eq!(lab.send(two, &eth(ALL, A, &IP)), Err(DropReason::Spoof), "nor may an unguarded port use it");
    assert!(lab.switch.add_port(guarded(A)).is_err(), "one owner");
    lab.switch.set_port(one, PortConfig { guard: Guard::Off, ..PortConfig::default() }).unwrap();
    assert_eq!(lab.reach(two, &eth(ALL, A, &IP)), Ok(vec![GW, one]), "let go");
}

#[test]
fn l08_an_address_squatted_before_its_owner_came_is_given_up() {
    let mut lab = Lab::new();
    let [squatter, other] = lab.ports();
    lab.send(squatter, &eth(ALL, A, &IP)).unwrap();
    let owner = lab.port(guarded(A));
    assert_eq!(lab.reach(other, &eth(A, C, &IP)), Ok(vec![owner]), "before its owner has said a word");

    lab.send(squatter, &eth(ALL, B, &IP)).unwrap();
    lab.switch.set_port(owner, guarded(B)).unwrap();
    assert_eq!(lab.knows(B), None);
    lab.switch.fdb_mut().add_static(Vid::DEFAULT, Mac(C), other, START).unwrap();
    lab.port(guarded(C));
    assert_eq!(lab.knows(C), Some(other), "what was entered by hand stays");
}

/// The layer 2 half: an ARP packet passes only with a source address of the port's own, announcements and probes too. Whether
/// the sender's hardware and protocol addresses agree with it is layer 3 and not built.
#[test]
fn l09_arp_passes_with_the_ports_own_source_only() {
    let mut lab = Lab::new();
    let one = lab.port(guarded(A));
    let two = lab.port(guarded(B));
    for arp in [ARP_REQUEST, ARP_ANNOUNCEMENT] {
        assert_eq!(lab.reach(one, &arp), Ok(vec![GW, two]));
        assert_eq!(lab.send(two, &arp), Err(DropReason::Spoof));
    }
}

#[test]
fn l11_access_port() {
    let mut lab = Lab::new();
    let [one, two] = [(); 2].map(|()| lab.port(access(10)));
    let plain = eth(ALL, A, &[0x08, 0, 1, 2]);
    for tag in [&[][..], &[0x81, 0, 0, 0], &[0x81, 0, 0xe0, 0], &[0x81, 0, 0, 10], &[0x81, 0, 0xf0, 10]] {
        let frame = eth(ALL, A, &[tag, &[0x08, 0, 1, 2]].concat());
        assert_eq!(lab.send(one, &frame), Ok(vec![(two, plain.clone())]), "untagged, priority-tagged or its own VLAN: {tag:x?}");
    }
    for bad in [1, 11, 4094, 4095] {
        let [high, low] = u16::to_be_bytes(bad);
        assert_eq!(lab.send(one, &eth(ALL, A, &[0x81, 0, high, low, 0x08, 0])), Err(DropReason::Vlan), "{bad}");
    }
}

#[test]
fn l11_trunk_and_native_vlan() {
    let mut lab = Lab::new();
    let one = lab.port(trunk("10,20,4094", Some(5)));
    let two = lab.port(trunk("5,10", Some(20)));
    let native = lab.port(access(5));
    let payload = [0x08, 0, 1, 2];
    let tagged = |tci: [u8; 2]| eth(ALL, A, &[&[0x81, 0], &tci[..], &payload].concat());
    // VLAN 10 keeps its tag and priority, PCP 7 and DEI too.
    assert_eq!(lab.send(one, &tagged([0xf0, 10])), Ok(vec![(two, tagged([0xf0, 10]))]));
    // VLAN 20 is the other trunk's native one.
    assert_eq!(lab.send(one, &tagged([0x60, 20])), Ok(vec![(two, eth(ALL, A, &payload))]));
    // Untagged is VLAN 5 here, tagged there; a priority tag's PCP is kept.
    assert_eq!(lab.send(one, &eth(ALL, A, &payload)), Ok(vec![(two, tagged([0, 5])), (native, eth(ALL, A, &payload))]));
    assert_eq!(lab.reach(one, &tagged([0xa0, 0])), Ok(vec![two, native]));
    assert_eq!(lab.send(one, &tagged([0xa0, 0])).unwrap()[0].1, tagged([0xa0, 5]));
    assert_eq!(lab.send(one, &tagged([0x0f, 0xfe])), Err(DropReason::NoEgress), "admitted, but nobody else is in VLAN 4094");
    assert_eq!(lab.send(one, &tagged([0, 11])), Err(DropReason::Vlan));
    assert_eq!(lab.send(one, &tagged([0x0f, 0xff])), Err(DropReason::Vlan), "4095 is reserved");
}

#[test]
fn l11_provider_tags() {
    let mut lab = Lab::new();
    let provider = lab.port(PortConfig { tpid: Tpid::Dot1ad, ..trunk("10", None) });
    let customer = lab.port(trunk("10", None));
    let edge = lab.port(access(10));
    let inner = [0x81, 0, 0x20, 99, 0x08, 0, 1];
    let qinq = eth(ALL, A, &[&[0x88, 0xa8, 0x40, 10], &inner[..]].concat());
    let outer_as_c_tag = eth(ALL, A, &[&[0x81, 0, 0x40, 10], &inner[..]].concat());
    assert_eq!(
        lab.send(provider, &qinq),
        Ok(vec![(customer, outer_as_c_tag.clone()), (edge, eth(ALL, A, &inner))]),
        "the inner tag is payload"
    );
    assert_eq!(lab.send(provider, &outer_as_c_tag), Err(DropReason::Vlan), "another TPID than the port's is payload: untagged");
    assert_eq!(lab.send(customer, &outer_as_c_tag).unwrap()[0], (provider, qinq));
}

#[test]
fn l12_a_tag_beside_the_frame_is_a_tag() {
    let mut lab = Lab::new();
    let one = lab.port(trunk("10", None));
    let two = lab.port(trunk("10", None));
    let payload = [0x08, 0, 1, 2];
    let plain = eth(ALL, A, &payload);
    let tagged = eth(ALL, A, &[&[0x81, 0, 0x60, 10], &payload[..]].concat());
    let in_band = lab.send(one, &tagged);
    let beside = lab.send_beside(one, &plain, Tag { tpid: Tpid::Dot1q, tci: 0x600a });
    assert_eq!(in_band, Ok(vec![(two, tagged)]));
    assert_eq!(beside, in_band);
    // Two tags: the kernel takes the outer one out, the inner one stays.
    let inner = eth(ALL, A, &[0x81, 0, 0, 99, 0x08, 0]);
    let both = eth(ALL, A, &[0x81, 0, 0, 10, 0x81, 0, 0, 99, 0x08, 0]);
    assert_eq!(lab.send_beside(one, &inner, Tag { tpid: Tpid::Dot1q, tci: 10 }), Ok(vec![(two, both)]));
}

#[test]
fn l12_a_foreign_tag_beside_the_frame_goes_into_its_octets() {
    let mut lab = Lab::new();
    let [one, two] = [(); 2].map(|()| lab.port(access(10)));
    let tag = Tag { tpid: Tpid::Dot1ad, tci: 0x400a };
    let expected = eth(ALL, A, &[0x88, 0xa8, 0x40, 10, 0x08, 0, 1]);
    assert_eq!(lab.send_beside(one, &eth(ALL, A, &[0x08, 0, 1]), tag), Ok(vec![(two, expected)]));
}

#[test]
fn l13_short_frames_are_delivered_unchanged_runts_and_giants_not() {
    let mut lab = Lab::new();
    let [one, two] = lab.ports();
    assert_eq!(lab.send(one, &ARP_REQUEST), Ok(vec![(GW, ARP_REQUEST.to_vec()), (two, ARP_REQUEST.to_vec())]), "no padding");
    assert_eq!(lab.reach(one, &ARP_REQUEST[..14]), Ok(vec![GW, two]), "a bare header is a frame");
    for short in 0..14 {
        assert_eq!(lab.send(one, &ARP_REQUEST[..short]), Err(DropReason::Runt));
    }
    let mut frame = FramePool::new(1).take().unwrap();
    let room = frame.space().len();
    assert_eq!(frame.receive(room, None, Tpid::Dot1q), Ok(()));
    assert_eq!(frame.receive(room + 1, None, Tpid::Dot1q), Err(DropReason::Giant));
    let cut_in_the_tag = eth(ALL, A, &[0x81, 0, 0, 1, 0x08]);
    for len in 14..=17 {
        let verdict = lab.send(one, &cut_in_the_tag[..len]);
        assert_eq!(verdict, Err(DropReason::Runt), "{len} octets: a tag and no EtherType");
    }
}

#[test]
fn l13_what_is_judged_against_an_mtu() {
    let mut frame = FramePool::new(1).take().unwrap();
    assert!(frame.fill(&[0; 1_514]));
    assert_eq!(frame.mtu_len(), 1_500, "the Ethernet header does not count");
    assert!(frame.fill(&[0; 40_000]));
    frame.meta.csum = Csum::Partial { start: 34, offset: 16 };
    let size = 1_448.try_into().unwrap();
    frame.meta.gso = Some(Gso { kind: GsoKind::TcpV4, ecn: false, size, l4: 34, headers: 66 });
    assert_eq!(frame.mtu_len(), 1_500, "of a GSO frame, the largest segment");
    assert!(frame.fill(&[0; 8]));
    assert_eq!(frame.mtu_len(), 0);
    // A tag does not count either: it is metadata.
    let tagged = [&[0; 22][..], &[0x81, 0, 0, 1], &[0; 1_502]].concat();
    frame.space()[..tagged.len()].copy_from_slice(&tagged);
    assert_eq!(frame.receive(tagged.len(), None, Tpid::Dot1q), Ok(()));
    assert_eq!((frame.len(), frame.mtu_len()), (1_514, 1_500));
}

#[test]
fn l17_isolated_ports_never_reach_each_other() {
    let mut lab = Lab::new();
    let [one, two] = [(); 2].map(|()| lab.port(isolated()));
    let uplink = lab.port(PortConfig::default());
    let other_group = lab.port(PortConfig { group: 2, ..PortConfig::default() });
    lab.send(two, &eth(ALL, B, &IP)).unwrap();
    lab.send(uplink, &eth(ALL, C, &IP)).unwrap();
    // Every EtherType, ARP and IPv6 among them (moby#36355), and 802.3 lengths.
    for ethertype in (0..=u16::MAX).filter(|&ethertype| ethertype != 0x8100) {
        lab.now = lab.now.after(Duration::from_secs(1));
        let kind = ethertype.to_be_bytes();
        assert_eq!(lab.send(one, &eth(B, A, &kind)), Err(DropReason::Isolated), "{ethertype:#x}");
        assert_eq!(lab.reach(one, &eth(ALL, A, &kind)), Ok(vec![GW, uplink, other_group]), "{ethertype:#x}");
        assert_eq!(lab.reach(one, &eth(C, A, &kind)), Ok(vec![uplink]));
        if ethertype % 64 == 0 {
            lab.send(two, &eth(C, B, &IP)).unwrap();
            lab.send(uplink, &eth(A, C, &IP)).unwrap();
        }
    }
}

#[test]
fn l18_the_next_frame_of_a_batch_finds_what_this_one_taught() {
    let mut lab = Lab::new();
    let [one, two, three] = lab.ports();
    // One instant: no tick, nothing but the frames in between.
    assert_eq!(lab.reach(one, &eth(B, A, &IP)), Ok(vec![GW, two, three]));
    assert_eq!(lab.reach(two, &eth(A, B, &IP)), Ok(vec![one]));
    assert_eq!(lab.reach(one, &eth(B, A, &IP)), Ok(vec![two]));
}

#[test]
fn l18_a_flood_that_stopped_goes_on_where_it_was() {
    let mut lab = Lab::new();
    let ports: Vec<PortId> = (0..1_100).map(|_| lab.port(no_storm_control(PortConfig::default()))).collect();
    let mut flood = lab.flood(ports[0], &eth(ALL, A, &IP));
    assert_eq!((flood.copies(), flood.ingress()), (1_100, ports[0]));
    let mut visited = Vec::new();
    // Stop after every 100 copies; meanwhile others speak, and a port goes and a port comes.
    for pause in 0.. {
        let Some((port, _)) =
            (0..100).map_while(|_| lab.switch.flood_next(&mut flood)).inspect(|&(port, _)| visited.push(port)).last()
        else {
            break;
        };
        assert!(port > ports[0] || port == GW);
        lab.send(ports[1], &eth(A, B, &IP)).unwrap();
        if pause == 2 {
            lab.switch.remove_port(ports[1_000]);
        }
    }
    assert!(visited.is_sorted(), "ascending, none twice");
    assert_eq!(visited.len(), 1_099);
    assert!(!visited.contains(&ports[0]) && !visited.contains(&ports[1_000]));
}

#[test]
fn l19_every_drop_is_counted_under_one_reason() {
    let mut lab = Lab::new();
    let one = lab.port(guarded(A));
    let mut counts = DropCounts::default();
    let frames: [(&[u8], DropReason); 4] = [
        (&[0; 13], DropReason::Runt),
        (&eth(ALL, [0; 6], &IP), DropReason::SourceInvalid),
        (&eth(ALL, B, &IP), DropReason::Spoof),
        (&eth(ALL, A, &[0x81, 0, 0, 7, 0x08, 0]), DropReason::Vlan),
    ];
    for (frame, reason) in frames {
        assert_eq!(lab.send(one, frame), Err(reason));
        counts.count(reason);
    }
    assert_eq!(counts.total(), 4);
    assert!(counts.iter().filter(|&(_, count)| count > 0).all(|(_, count)| count == 1));
    for reason in DropReason::ALL {
        assert!(!reason.explain().is_empty());
        assert!(reason.name().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'));
    }
}

/// The pure half: whoever copies a frame at ingress and at egress sees the same octets, for the switch does not touch them.
#[test]
fn l20_a_mirror_sees_what_was_received_and_what_was_sent() {
    let mut lab = Lab::new();
    let [one, two] = lab.ports();
    let frame = eth(B, A, &[0x12, 0x34, 9, 8, 7]);
    for (_, sent) in lab.send(one, &frame).unwrap() {
        assert_eq!(sent, frame);
    }
    lab.send(two, &eth(A, B, &IP)).unwrap();
    assert_eq!(lab.send(one, &frame), Ok(vec![(two, frame.clone())]));
}

/// The pure half: the switch has no link state. A port that is down is a port; only [`Switch::remove_port`] forgets it.
#[test]
fn l21_a_port_that_is_down_keeps_its_addresses() {
    let mut lab = Lab::new();
    let [one, two] = lab.ports();
    lab.send(one, &eth(ALL, A, &IP)).unwrap();
    lab.now = lab.now.after(Duration::from_secs(60));
    assert_eq!(lab.reach(two, &eth(A, B, &IP)), Ok(vec![one]), "Docker sets the link down, renames it, sets it up");
    assert_ne!(DropReason::PortDown, DropReason::PortGone, "two reasons: transient and final");
}

#[test]
fn l22_gratuitous_arp_is_flooded_and_learned() {
    let mut lab = Lab::new();
    let [one, two, three] = lab.ports();
    for second in 0..3 {
        assert_eq!(lab.send(one, &ARP_ANNOUNCEMENT).unwrap().len(), 3, "announcement {second} reaches everybody");
        assert_eq!(lab.knows(A), Some(one));
        lab.now = lab.now.after(Duration::from_secs(1));
    }
    // The address comes back on another port (a container was started again): the first announcement is enough.
    lab.send(two, &ARP_ANNOUNCEMENT).unwrap();
    assert_eq!(lab.reach(three, &eth(A, B, &IP)), Ok(vec![two]));
}
