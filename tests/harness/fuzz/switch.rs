//! A switch of small tables under a sequence of commands and frames, eight octets each: the properties of
//! `switch/tests/properties.rs`, with a fuzzer's patience.
use std::time::Duration;
use vswitch_switch::port::{FloodTakes, Guard};
use vswitch_switch::storm::StormLimits;
use vswitch_switch::{
    Egress, FdbLimits, Forward, Head, Mac, PortConfig, PortId, Switch, SwitchConfig, Tag, TagOp, Time, Tpid, UnicastMac, Vid,
    VidSet, VlanMode,
};

const STEP: usize = 8;

fn port(octet: u8) -> PortId {
    PortId::new(u16::from(octet % 12)).unwrap_or(PortId::GATEWAY)
}

pub(super) fn station(octet: u8) -> UnicastMac {
    UnicastMac::for_ipv4([10, 88, 0, octet % 16])
}

pub(super) fn vid(octet: u8) -> Vid {
    Vid::new(u16::from(octet % 4) + 1).unwrap_or(Vid::DEFAULT)
}

/// All that a port can be set to, from five octets.
pub(super) fn config(&[kind, vlans, flags, rate, owner]: &[u8; 5]) -> PortConfig {
    let flag = |bit: u8| flags >> bit & 1 == 1;
    let mut allowed = VidSet::new();
    (0..4).filter(|bit| vlans >> bit & 1 == 1).for_each(|bit| allowed.insert(vid(bit)));
    let vlan = match kind & 3 {
        0 | 1 => VlanMode::Access(vid(vlans)),
        2 => VlanMode::Trunk { allowed, native: None },
        _ => VlanMode::Trunk { allowed, native: Some(vid(vlans >> 4)) },
    };
    let storm = (rate != 0).then(|| u32::from(rate) - 1);
    PortConfig {
        vlan,
        tpid: if kind & 4 == 0 { Tpid::Dot1q } else { Tpid::Dot1ad },
        group: kind >> 3 & 3,
        guard: if kind & 0xc0 == 0xc0 { Guard::Bound(station(owner)) } else { Guard::Off },
        hairpin: flag(0),
        learn: !flag(1),
        flood: FloodTakes { unknown: !flag(2), broadcast: !flag(3), multicast: !flag(4) },
        storm: StormLimits { broadcast: storm, multicast: storm, unknown: storm },
        fdb_limit: u32::from(flags >> 5),
    }
}

fn check_egress(switch: &Switch, ingress: PortId, head: &Head, egress: PortId, op: TagOp, flooded: bool) {
    let (Some(from), Some(to)) = (switch.port_config(ingress), switch.port_config(egress)) else {
        panic!("a frame from or to a port that is not there");
    };
    assert!(egress != ingress || (from.hairpin && !flooded), "back to where it came from");
    assert!(from.group == 0 || from.group != to.group || egress == ingress, "isolated to isolated");
    let vid = from.vlan.classify(head.tag).expect("admitted");
    assert!(to.vlan.carries(vid), "not a member of the VLAN");
    let tag = match op {
        TagOp::Untagged => None,
        TagOp::Tagged(tag) => Some(tag),
    };
    assert_eq!(to.vlan.classify(tag), Ok(vid));
    if let Guard::Bound(owner) = from.guard {
        assert_eq!(owner, head.src);
    }
}

fn frame(switch: &mut Switch, ingress: PortId, head: &Head, now: Time) {
    match switch.forward(ingress, head, now) {
        Forward::Drop(_) => {}
        Forward::To(Egress::One(egress, op)) => check_egress(switch, ingress, head, egress, op, false),
        Forward::To(Egress::Flood(mut flood)) => {
            let (mut visited, mut last) = (0, None);
            while let Some((egress, op)) = switch.flood_next(&mut flood) {
                check_egress(switch, ingress, head, egress, op, true);
                assert!(last < Some(egress) && !switch.is_blocked(egress));
                (visited, last) = (visited + 1, Some(egress));
            }
            assert_eq!(visited, flood.copies());
        }
    }
}

fn step(switch: &mut Switch, now: &mut Time, &[what, a, b, c, d, e, f, g]: &[u8; STEP]) {
    match what {
        0..=15 => drop(switch.add_port(config(&[a, b, c, d, e]))),
        16..=31 => drop(switch.set_port(port(f), config(&[a, b, c, d, e]))),
        32..=39 => drop(switch.remove_port(port(a))),
        40..=47 => {
            if switch.port_config(port(a)).is_some() {
                let _ = switch.fdb_mut().add_static(vid(b), station(c).mac(), port(a), *now);
            }
        }
        48..=51 => drop(switch.fdb_mut().remove(vid(b), station(c).mac())),
        52..=55 => switch.set_group_forward(u16::from_be_bytes([a, b])),
        56..=63 => switch.tick(*now, u32::from(a)),
        64..=71 => while switch.next_probe().is_some() || switch.next_event().is_some() {},
        72.. => {
            let dst = match b >> 5 {
                0 => Mac::BROADCAST,
                1 => Mac([0x01, 0x80, 0xc2, 0, 0, b & 31]),
                _ => station(b).mac(),
            };
            let tpid = if what & 1 == 0 { Tpid::Dot1q } else { Tpid::Dot1ad };
            let tag = (what & 2 == 0).then_some(Tag { tpid, tci: u16::from_be_bytes([d, e % 6]) });
            *now = now.after(Duration::from_millis(u64::from(g)));
            let ethertype = if f == 0 { [0x88, 0xb5] } else { [0x08, f] };
            let octets = [&dst.0[..], &station(c).mac().0, &ethertype].concat();
            if let Ok(head) = Head::parse(&octets, tag) {
                frame(switch, port(a), &head, *now);
            }
        }
    }
}

/// One input, see the module.
///
/// # Panics
/// A property does not hold.
pub fn run(data: &[u8]) {
    let fdb = FdbLimits { entries: 8, ageing: Duration::from_secs(10) };
    let mut switch = Switch::new(SwitchConfig { mac: station(1), fdb, group_forward: 0, flood_unregistered: true, seed: 7 });
    let mut now = Time::from_secs(1_000);
    let (steps, _) = data.as_chunks::<STEP>();
    for octets in steps {
        step(&mut switch, &mut now, octets);
        assert!(switch.fdb().len() <= switch.fdb().capacity());
        let _ = switch.fdb().page(0, u32::MAX, now, |row| assert!(switch.port_config(row.port).is_some(), "{row:?}"));
    }
}
