//! What the switch tells of itself, and that no flood drowns it.
mod common;
use common::*;
use std::time::Duration;
use vswitch_switch::storm::{FloodClass, StormLimits};
use vswitch_switch::switch::{EVENT_INTERVAL, EVENT_LIMIT, LEARNED_PER_SECOND};
use vswitch_switch::{DropReason, Mac, PortConfig, SwitchEvent, UnicastMac};

const IP: [u8; 4] = [0x08, 0x00, 0x45, 0x00];

fn told(lab: &mut Lab) -> Vec<SwitchEvent> {
    std::iter::from_fn(|| lab.switch.next_event()).collect()
}

/// The n-th made-up address.
fn made_up(n: u32) -> [u8; 6] {
    let [a, b, c, d] = n.to_be_bytes();
    [0x02, 0, a, b, c, d]
}

#[test]
fn learned_is_told_only_while_somebody_asks() {
    let mut lab = Lab::new();
    let [one, two] = lab.ports();
    lab.send(one, &eth(ALL, A, &IP)).unwrap();
    assert_eq!(told(&mut lab), []);
    lab.switch.set_learned_events(true);
    // What is known already is no news.
    lab.send(one, &eth(ALL, A, &IP)).unwrap();
    lab.send(two, &eth(A, B, &IP)).unwrap();
    lab.send(two, &eth(A, B, &IP)).unwrap();
    assert_eq!(told(&mut lab), [SwitchEvent::Learned { vid: vid(1), mac: mac(B), port: two }]);
    lab.switch.set_learned_events(false);
    lab.send(two, &eth(A, C, &IP)).unwrap();
    assert_eq!((told(&mut lab), lab.switch.events_lost()), (vec![], 0));
}

#[test]
fn made_up_addresses_neither_fill_the_queue_nor_hide_a_move() {
    let mut lab = Lab::new();
    let [attacker, other, two, three] = lab.ports();
    lab.switch.set_learned_events(true);
    lab.send(two, &eth(ALL, A, &IP)).unwrap();
    for n in 0..10_000 {
        lab.send(attacker, &eth(A, made_up(n), &IP)).unwrap();
    }
    // Another port's are told beside the attacker's.
    lab.send(other, &eth(A, B, &IP)).unwrap();
    lab.send(three, &eth(ALL, A, &IP)).unwrap();
    let news = told(&mut lab);
    let of = |port| news.iter().filter(|event| matches!(event, SwitchEvent::Learned { port: of, .. } if *of == port)).count();
    assert_eq!((of(attacker), of(other), of(two)), (LEARNED_PER_SECOND as usize, 1, 1));
    assert_eq!(news.last(), Some(&SwitchEvent::Moved { vid: vid(1), mac: mac(A), from: two, to: three }));
    assert_eq!(lab.switch.events_lost(), 10_000 - u64::from(LEARNED_PER_SECOND));

    // Many ports at once: half of the queue is kept for what matters more.
    lab.now = lab.now.after(EVENT_INTERVAL);
    for (n, port) in (20_000..).zip([attacker, other, two, three].into_iter().cycle().take(1_000)) {
        lab.send(port, &eth(A, made_up(n), &IP)).unwrap_or_default();
    }
    lab.send(two, &eth(ALL, A, &IP)).unwrap();
    let news = told(&mut lab);
    assert_eq!(news.len(), EVENT_LIMIT / 2 + 1);
    assert!(matches!(news.last(), Some(SwitchEvent::Moved { .. })));
    // A second later it goes on.
    lab.now = lab.now.after(EVENT_INTERVAL);
    lab.send(attacker, &eth(A, made_up(30_000), &IP)).unwrap();
    assert_eq!(told(&mut lab).len(), 1);
}

#[test]
fn the_first_spoofed_frame_of_a_second_is_told() {
    let mut lab = Lab::new();
    let one = lab.port(guarded(A));
    let two = lab.port(guarded(B));
    let free = lab.port(PortConfig::default());
    for _ in 0..3 {
        for n in 0..1_000 {
            assert_eq!(lab.send(one, &eth(ALL, made_up(n), &IP)), Err(DropReason::Spoof));
        }
        lab.now = lab.now.after(EVENT_INTERVAL - Duration::from_nanos(1));
        assert_eq!(lab.send(one, &eth(ALL, C, &IP)), Err(DropReason::Spoof));
        lab.now = lab.now.after(Duration::from_nanos(1));
    }
    let first = SwitchEvent::Guard { vid: vid(1), mac: mac(made_up(0)), port: one };
    assert_eq!(told(&mut lab), [first; 3]);
    // Every port for itself; and what is owned or entered by hand elsewhere is a spoof on an unguarded port too.
    assert_eq!(lab.send(two, &eth(ALL, A, &IP)), Err(DropReason::Spoof));
    assert_eq!(lab.send(free, &eth(ALL, A, &IP)), Err(DropReason::Spoof));
    lab.now = lab.now.after(EVENT_INTERVAL);
    let now = lab.now;
    lab.switch.fdb_mut().add_static(vid(1), Mac(C), two, now).unwrap();
    assert_eq!(lab.send(free, &eth(ALL, C, &IP)), Err(DropReason::Spoof));
    let guard = |port, octets| SwitchEvent::Guard { vid: vid(1), mac: UnicastMac::new(Mac(octets)).unwrap(), port };
    assert_eq!(told(&mut lab), [guard(two, A), guard(free, A), guard(free, C)]);
}

#[test]
fn a_storm_is_told_once_a_second_for_each_class() {
    let mut lab = Lab::new();
    let limits = StormLimits { broadcast: Some(0), multicast: Some(0), unknown: Some(0) };
    let one = lab.port(PortConfig { storm: limits, ..PortConfig::default() });
    let [_two] = lab.ports();
    let classes = [(ALL, FloodClass::Broadcast), ([0x01, 0, 0x5e, 0, 0, 1], FloodClass::Multicast), (C, FloodClass::Unknown)];
    for _ in 0..2 {
        for (dst, _) in classes.iter().cycle().take(3_000) {
            assert_eq!(lab.send(one, &eth(*dst, A, &IP)), Err(DropReason::Storm));
        }
        let storms = classes.map(|(_, class)| SwitchEvent::Storm { port: one, class });
        assert_eq!(told(&mut lab), storms);
        lab.now = lab.now.after(EVENT_INTERVAL);
    }
}
