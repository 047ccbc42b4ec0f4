//! Properties that hold for any configuration, any frames, any order.
mod common;
use common::{GATEWAY, mac, on_the_wire};
use proptest::collection::vec;
use proptest::prelude::*;
use std::time::Duration;
use vswitch_switch::port::{FloodTakes, Guard};
use vswitch_switch::storm::StormLimits;
use vswitch_switch::{
    Egress, FdbLimits, Forward, FramePool, Head, Mac, PortConfig, PortId, Switch, SwitchConfig, Tag, TagOp, Time, Tpid, UnicastMac,
    Vid, VidSet, VlanMode,
};

/// Few VLANs and few addresses, so that they meet.
fn vids() -> impl Strategy<Value = Vid> {
    (1u16..5).prop_map(|vid| Vid::new(vid).unwrap())
}

fn station() -> impl Strategy<Value = UnicastMac> {
    (0u8..12).prop_map(|last| UnicastMac::for_ipv4([10, 88, 0, last]))
}

fn modes() -> impl Strategy<Value = VlanMode> {
    prop_oneof![
        vids().prop_map(VlanMode::Access),
        (vec(vids(), 0..4), proptest::option::of(vids())).prop_map(|(list, native)| {
            let mut allowed = VidSet::new();
            list.into_iter().for_each(|vid| allowed.insert(vid));
            VlanMode::Trunk { allowed, native }
        }),
    ]
}

fn configs() -> impl Strategy<Value = PortConfig> {
    let guard = prop_oneof![4 => Just(Guard::Off), 1 => station().prop_map(Guard::Bound)];
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let storm = proptest::option::of(0u32..1_000).prop_map(|rate| StormLimits { broadcast: rate, multicast: rate, unknown: rate });
    (modes(), 0u8..3, guard, flags, storm, 1u32..5, any::<bool>()).prop_map(
        |(vlan, group, guard, (hairpin, learn, unknown, broadcast, multicast), storm, fdb_limit, provider)| PortConfig {
            vlan,
            tpid: if provider { Tpid::Dot1ad } else { Tpid::Dot1q },
            group,
            guard,
            hairpin,
            learn,
            flood: FloodTakes { unknown, broadcast, multicast },
            storm,
            fdb_limit,
        },
    )
}

fn destinations() -> impl Strategy<Value = Mac> {
    prop_oneof![
        4 => station().prop_map(UnicastMac::mac),
        1 => Just(Mac::BROADCAST),
        1 => (0u8..32).prop_map(|last| Mac([0x01, 0x80, 0xc2, 0, 0, last])),
    ]
}

fn tags() -> impl Strategy<Value = Option<Tag>> {
    let vid = prop_oneof![8 => 0u16..6, 1 => Just(4_095)];
    proptest::option::of((vid, 0u16..16, any::<bool>()).prop_map(|(vid, priority, provider)| Tag {
        tpid: if provider { Tpid::Dot1ad } else { Tpid::Dot1q },
        tci: priority << 12 | vid,
    }))
}

#[derive(Clone, Debug)]
enum Step {
    Frame { ingress: u16, dst: Mac, src: UnicastMac, tag: Option<Tag>, millis: u64 },
    Set(u16, Box<PortConfig>),
    Remove(u16),
    Add(Box<PortConfig>),
    Static(Vid, UnicastMac, u16),
    Tick,
}

fn steps() -> impl Strategy<Value = Step> {
    let ports = 0u16..10;
    prop_oneof![
        30 => (ports.clone(), destinations(), station(), tags(), 0u64..2_000)
            .prop_map(|(ingress, dst, src, tag, millis)| Step::Frame { ingress, dst, src, tag, millis }),
        2 => (ports.clone(), configs()).prop_map(|(port, config)| Step::Set(port, Box::new(config))),
        1 => ports.clone().prop_map(Step::Remove),
        1 => configs().prop_map(|config| Step::Add(Box::new(config))),
        1 => (vids(), station(), ports).prop_map(|(vid, mac, port)| Step::Static(vid, mac, port)),
        1 => Just(Step::Tick),
    ]
}

fn port(number: u16) -> PortId {
    PortId::new(number).unwrap()
}

/// What must hold of one port that a frame leaves through.
fn check_egress(
    switch: &Switch,
    ingress: PortId,
    tag: Option<Tag>,
    egress: PortId,
    op: TagOp,
    flooded: bool,
) -> Result<(), TestCaseError> {
    let from = switch.port_config(ingress).unwrap();
    let to = switch.port_config(egress).unwrap();
    prop_assert!(egress != ingress || (from.hairpin && !flooded), "back to where it came from");
    let vid = from.vlan.classify(tag).unwrap();
    prop_assert!(to.vlan.carries(vid), "not a member of the VLAN");
    prop_assert!(from.group == 0 || from.group != to.group || egress == ingress, "isolated to isolated");
    match op {
        TagOp::Untagged => prop_assert_eq!(to.vlan.classify(None), Ok(vid)),
        TagOp::Tagged(tag) => {
            prop_assert_eq!(tag.tpid, to.tpid);
            prop_assert_eq!(to.vlan.classify(Some(tag)), Ok(vid), "the port itself would admit it into another VLAN");
        }
    }
    Ok(())
}

fn check_frame(switch: &mut Switch, ingress: PortId, head: &Head, now: Time) -> Result<(), TestCaseError> {
    let guard = switch.port_config(ingress).map(|config| config.guard);
    let verdict = switch.forward(ingress, head, now);
    match verdict {
        Forward::Drop(_) => {}
        Forward::To(Egress::One(egress, op)) => check_egress(switch, ingress, head.tag, egress, op, false)?,
        Forward::To(Egress::Flood(mut flood)) => {
            let mut last = None;
            let mut visited = 0;
            while let Some((egress, op)) = switch.flood_next(&mut flood) {
                prop_assert!(last < Some(egress), "ascending, none twice");
                prop_assert!(!switch.is_blocked(egress));
                check_egress(switch, ingress, head.tag, egress, op, true)?;
                last = Some(egress);
                visited += 1;
            }
            prop_assert_eq!(visited, flood.copies());
            prop_assert!(switch.flood_next(&mut flood).is_none());
        }
    }
    if let (Forward::To(_), Some(Guard::Bound(owner))) = (verdict, guard) {
        prop_assert_eq!(owner, head.src);
    }
    Ok(())
}

/// No dynamic entry for an address behind another port than its owner's; no table beyond its limit.
fn check_tables(switch: &Switch, ports: u16, now: Time) -> Result<(), TestCaseError> {
    prop_assert!(switch.fdb().len() <= switch.fdb().capacity());
    let configs = || (0..ports).map(port).filter_map(|id| Some((id, switch.port_config(id)?)));
    let mut wrong = None;
    let _ = switch.fdb().page(0, u32::MAX, now, |row| {
        let stolen =
            configs().any(|(id, config)| matches!(config.guard, Guard::Bound(mac) if mac.mac() == row.mac && id != row.port));
        if !row.is_static && stolen || switch.port_config(row.port).is_none() {
            wrong = Some(row);
        }
    });
    prop_assert_eq!(wrong, None);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Ingress never in egress (unless hairpin), egress always a member of the VLAN and never isolated from ingress, a flood
    /// visits what it promised, guards hold, tables stay within their limits: through any sequence of frames and changes.
    #[test]
    fn the_switch_keeps_its_promises(setup in vec(configs(), 1..8), steps in vec(steps(), 1..200)) {
        let fdb = FdbLimits { entries: 8, ageing: Duration::from_secs(10) };
        let mut switch = Switch::new(SwitchConfig { mac: mac(GATEWAY), fdb, group_forward: 0x5, flood_unregistered: true, seed: 7 });
        for config in setup {
            let _ = switch.add_port(config);
        }
        let mut now = Time::from_secs(1_000);
        for step in steps {
            match step {
                Step::Frame { ingress, dst, src, tag, millis } => {
                    now = now.after(Duration::from_millis(millis));
                    let octets = [&dst.0[..], &src.mac().0, &[0x08, 0x00]].concat();
                    let head = Head::parse(&octets, tag).unwrap();
                    check_frame(&mut switch, port(ingress), &head, now)?;
                }
                Step::Set(id, config) => { let _ = switch.set_port(port(id), *config); }
                Step::Remove(id) => { switch.remove_port(port(id)); }
                Step::Add(config) => { let _ = switch.add_port(*config); }
                Step::Static(vid, mac, id) => if switch.port_config(port(id)).is_some() {
                    let _ = switch.fdb_mut().add_static(vid, mac.mac(), port(id), now);
                },
                Step::Tick => switch.tick(now, 16),
            }
            check_tables(&switch, 300, now)?;
        }
    }

    /// Any octets at any length: a verdict, never a panic, and what comes out is what went in.
    #[test]
    fn octets_survive_lifting_and_insertion(
        octets in vec(any::<u8>(), 0..120),
        kind in prop_oneof![Just([0x08u8, 0x00]), Just([0x81, 0x00]), Just([0x88, 0xa8])],
        provider in any::<bool>(),
        beside in tags(),
    ) {
        let tpid = if provider { Tpid::Dot1ad } else { Tpid::Dot1q };
        let mut octets = octets;
        if let Some(place) = octets.get_mut(12..14) {
            place.copy_from_slice(&kind);
        }
        let mut frame = FramePool::new(1).take().unwrap();
        frame.space()[..10].fill(0);
        frame.space()[10..10 + octets.len()].copy_from_slice(&octets);
        if frame.receive(10 + octets.len(), beside, tpid).is_err() {
            prop_assert!(octets.len() < 18);
            return Ok(());
        }
        if let Some(tag) = frame.meta.tag {
            prop_assert_eq!(tag.tpid, tpid);
        }
        let out = on_the_wire(&frame, frame.meta.tag.map_or(TagOp::Untagged, TagOp::Tagged));
        let expected = match beside {
            None => octets,
            Some(tag) => [&octets[..12], &tag.to_bytes(), &octets[12..]].concat(),
        };
        prop_assert_eq!(out, expected);
    }

    /// Any octets, the virtio_net_hdr included: no panic anywhere, and metadata that agrees with the octets.
    #[test]
    fn arbitrary_octets_never_panic(octets in vec(any::<u8>(), 0..200), small in any::<bool>(), beside in tags(), ingress in 0u16..4) {
        let mut octets = octets;
        if small {
            // Offload headers that are nearly right reach further than random ones.
            for (place, mask) in octets.iter_mut().zip([1, 7, 0xff, 0, 0xff, 0, 63, 0, 31, 0]) {
                *place &= mask;
            }
        }
        let mut frame = FramePool::new(1).take().unwrap();
        frame.space()[..octets.len()].copy_from_slice(&octets);
        if frame.receive(octets.len(), beside, Tpid::Dot1q).is_err() {
            return Ok(());
        }
        if let Some(gso) = frame.meta.gso {
            prop_assert!(gso.l4 >= 14 && gso.headers > gso.l4 && usize::from(gso.headers) <= frame.len());
        }
        if let vswitch_switch::Csum::Partial { start, offset } = frame.meta.csum {
            prop_assert!(start >= 14 && usize::from(start) + usize::from(offset) + 2 <= frame.len());
        }
        prop_assert!(frame.mtu_len() + 14 <= frame.len());
        let Ok(head) = Head::parse(frame.bytes(), frame.meta.tag) else { return Ok(()) };
        let mut switch = Switch::new(SwitchConfig { mac: mac(GATEWAY), fdb: FdbLimits { entries: 4, ..FdbLimits::default() }, group_forward: 0, flood_unregistered: true, seed: 1 });
        for _ in 0..2 {
            let _ = switch.add_port(PortConfig::default());
        }
        check_frame(&mut switch, port(ingress), &head, Time::from_secs(1))?;
    }
}
