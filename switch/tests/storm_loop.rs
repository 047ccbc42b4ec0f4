//! What must not melt the switch, each a test named after its requirement: made-up addresses (L10), storms (L14), loops (L15).
mod common;
use common::*;
use std::collections::VecDeque;
use std::time::Duration;
use vswitch_switch::port::{DEFAULT_FDB_PORT_LIMIT, Guard};
use vswitch_switch::storm::StormLimits;
use vswitch_switch::switch::{GUARDED_FLOODS, LOOP_HOLD};
use vswitch_switch::{DropReason, Egress, FdbLimits, Mac, PortConfig, PortId, SwitchEvent, UnicastMac};

const IP: [u8; 4] = [0x08, 0x00, 0x45, 0x00];
const GW: PortId = PortId::GATEWAY;
/// Source addresses that an attacker makes up.
const MADE_UP: u32 = 100_000;

/// xorshift64: the same made-up addresses in every run.
fn made_up() -> impl Iterator<Item = [u8; 6]> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let [_, _, mac @ ..] = state.to_be_bytes();
        mac
    })
    .filter(|&mac| UnicastMac::new(Mac(mac)).is_some())
}

#[test]
fn l10_made_up_addresses_push_out_only_each_other() {
    // Both limits in turn: the port's own, and a table that fills up first.
    for (entries, fdb_limit) in [(65_536, DEFAULT_FDB_PORT_LIMIT), (1_000, 1 << 20)] {
        let mut lab = Lab::with(FdbLimits { entries, ..FdbLimits::default() });
        let attacker = lab.port(PortConfig { fdb_limit, ..PortConfig::default() });
        let [two, three] = lab.ports();
        lab.send(two, &eth(ALL, B, &IP)).unwrap();
        for last in 0..200 {
            lab.send(three, &eth(B, [0x02, 0, 0, 0, 0, last], &IP)).unwrap();
        }
        for (sent, src) in made_up().take(MADE_UP as usize).enumerate() {
            assert_eq!(lab.reach(attacker, &eth(B, src, &IP)), Ok(vec![two]));
            if sent % 500 == 0 {
                let last = (sent / 500) as u8;
                assert_eq!(lab.reach(two, &eth([0x02, 0, 0, 0, 0, last], B, &IP)), Ok(vec![three]), "no flood");
            }
            assert!(lab.switch.fdb().len() <= entries && lab.switch.fdb().port_len(attacker) <= fdb_limit);
        }
        assert_eq!((lab.switch.fdb().port_len(two), lab.switch.fdb().port_len(three)), (1, 200));
        assert!(lab.switch.fdb().evicted() > 90_000);
    }
}

#[test]
fn l10_a_guarded_port_teaches_one_address() {
    let mut lab = Lab::new();
    let one = lab.port(guarded(A));
    lab.send(one, &eth(ALL, A, &IP)).unwrap();
    for src in made_up().take(10_000) {
        assert_eq!(lab.send(one, &eth(ALL, src, &IP)), Err(DropReason::Spoof));
    }
    assert_eq!(lab.switch.fdb().len(), 1);
}

#[test]
fn l10_a_table_full_of_statics_still_forwards() {
    let mut lab = Lab::with(FdbLimits { entries: 2, ..FdbLimits::default() });
    let [one, two] = lab.ports();
    let now = lab.now;
    for mac in [B, C] {
        lab.switch.fdb_mut().add_static(vid(1), Mac(mac), two, now).unwrap();
    }
    assert!(lab.switch.fdb_mut().add_static(vid(1), Mac(A), two, now).is_err());
    assert_eq!(lab.reach(one, &eth(B, A, &IP)), Ok(vec![two]));
    assert_eq!(lab.reach(two, &eth(A, B, &IP)), Ok(vec![GW, one]), "never learned, so flooded");
}

#[test]
fn l14_copies_a_second_are_limited_for_each_class_and_port() {
    let mut lab = Lab::new();
    let ports: [PortId; 11] = lab.ports();
    let [one, two, ..] = ports;
    lab.send(two, &eth(ALL, B, &IP)).unwrap();
    // 11 copies a frame (10 ports, the gateway); 40,000 frames in a second.
    let mut admitted = 0;
    for _ in 0..40_000 {
        lab.now = lab.now.after(Duration::from_micros(25));
        match lab.send(one, &eth(ALL, A, &IP)) {
            Ok(copies) => admitted += copies.len(),
            Err(reason) => assert_eq!(reason, DropReason::Storm),
        }
    }
    assert!((20_000..=25_100).contains(&admitted), "{admitted}: 20,000 copies a second and a burst of 5,000");
    assert_eq!(lab.send(one, &eth(ALL, A, &IP)), Err(DropReason::Storm));
    assert!(lab.send(one, &eth([0x01, 0, 0x5e, 0, 0, 1], A, &IP)).is_ok(), "multicast has its own budget");
    assert!(lab.send(one, &eth(C, A, &IP)).is_ok(), "unknown unicast too");
    assert_eq!(lab.reach(one, &eth(B, A, &IP)), Ok(vec![two]), "known unicast has no limit");
    assert!(lab.send(two, &eth(ALL, B, &IP)).is_ok(), "nor do others suffer");
}

#[test]
fn l14_limits_can_be_set_and_lifted() {
    let mut lab = Lab::new();
    let limits = StormLimits { broadcast: Some(0), multicast: None, unknown: Some(1) };
    let one = lab.port(PortConfig { storm: limits, ..PortConfig::default() });
    let [_two] = lab.ports();
    assert_eq!(lab.send(one, &eth(ALL, A, &IP)), Err(DropReason::Storm));
    assert!((0..100_000).all(|_| lab.send(one, &eth([0x01, 0, 0x5e, 0, 0, 1], A, &IP)).is_ok()));
    assert!(lab.send(one, &eth(C, A, &IP)).is_ok());
    assert_eq!(lab.send(one, &eth(C, A, &IP)), Err(DropReason::Storm));
    lab.switch.set_port(one, no_storm_control(PortConfig::default())).unwrap();
    assert!((0..100_000).all(|_| lab.send(one, &eth(ALL, A, &IP)).is_ok()));
}

/// A container that bridges two of the switch's ports: whatever one of them gets comes in again through the other.
struct Bridged {
    lab: Lab,
    ends: [PortId; 2],
    /// Frames on their way back in, with the port where they arrive.
    back: VecDeque<(PortId, Vec<u8>)>,
    spoofs: usize,
    copies: usize,
}

impl Bridged {
    fn new(mut lab: Lab, ends: [PortId; 2]) -> Self {
        // The container's stack is up: nothing else is learned yet.
        lab.now = START;
        Self { lab, ends, back: VecDeque::new(), spoofs: 0, copies: 0 }
    }

    fn reflect(&mut self, egress: PortId, octets: Vec<u8>) {
        let [one, two] = self.ends;
        if egress == one {
            self.back.push_back((two, octets));
        } else if egress == two {
            self.back.push_back((one, octets));
        }
    }

    fn send(&mut self, ingress: PortId, octets: &[u8]) {
        match self.lab.send(ingress, octets) {
            Ok(copies) => {
                self.copies += copies.len();
                copies.into_iter().for_each(|(egress, octets)| self.reflect(egress, octets));
            }
            Err(DropReason::Spoof) => self.spoofs += 1,
            Err(_) => {}
        }
        // What `io` does: a probe through each port that the switch names.
        let probe = eth([0x03, 0x58, 0, 0, 0, 1], GATEWAY, &[0x88, 0xb5, b'p', b'r', b'o', b'b', b'e']);
        while let Some((egress, _)) = self.lab.switch.next_probe() {
            self.copies += 1;
            self.reflect(egress, probe.clone());
        }
    }

    /// Lets it circle, 10 us a hop; gives the number of hops until silence.
    fn settle(&mut self) -> usize {
        for hop in 0..100_000 {
            let Some((ingress, octets)) = self.back.pop_front() else { return hop };
            self.lab.now = self.lab.now.after(Duration::from_micros(10));
            self.send(ingress, &octets);
        }
        panic!("it circles for ever: {} copies, {} frames on their way", self.copies, self.back.len());
    }

    fn loops(&mut self) -> Vec<PortId> {
        std::iter::from_fn(|| self.lab.switch.next_event())
            .filter_map(|event| match event {
                SwitchEvent::Loop { port } => Some(port),
                SwitchEvent::Learned { .. }
                | SwitchEvent::Moved { .. }
                | SwitchEvent::Flap { .. }
                | SwitchEvent::Guard { .. }
                | SwitchEvent::Storm { .. } => None,
            })
            .collect()
    }
}

#[test]
fn l15_a_loop_through_unguarded_ports_dies_and_is_blocked() {
    for broadcast in [ALL, [0x01, 0, 0x5e, 0, 0, 1], C] {
        // Without storm control: the loop guard has to do it alone.
        let mut lab = Lab::new();
        let [speaker, one, two] = std::array::from_fn(|_| lab.port(no_storm_control(PortConfig::default())));
        let mut bridged = Bridged::new(lab, [one, two]);
        bridged.send(speaker, &eth(broadcast, A, &IP));
        let hops = bridged.settle();
        assert!(hops < 50, "{hops}");
        let loops = bridged.loops();
        let blocked = [one, two].map(|port| bridged.lab.switch.is_blocked(port));
        assert!(blocked.contains(&true) && loops.len() == blocked.iter().filter(|&&blocked| blocked).count());
        assert!(!bridged.lab.switch.is_blocked(speaker));
        // From then on the blocked port neither sends nor receives.
        let dead = if blocked[0] { one } else { two };
        assert_eq!(bridged.lab.send(dead, &eth(ALL, C, &IP)), Err(DropReason::Loop));
        assert!(!bridged.lab.reach(speaker, &eth(ALL, A, &IP)).unwrap().contains(&dead));
    }
}

#[test]
fn l15_a_block_ends_by_itself() {
    let mut lab = Lab::new();
    let [one, two] = lab.ports();
    assert_eq!(lab.send(one, &eth(B, GATEWAY, &IP)), Err(DropReason::Loop), "our own source");
    assert!(lab.switch.needs_tick());
    lab.now = lab.now.after(LOOP_HOLD);
    lab.switch.tick(lab.now, 100);
    assert!(!lab.switch.is_blocked(one));
    assert_eq!(lab.reach(one, &eth(ALL, A, &IP)), Ok(vec![GW, two]));
    assert_eq!(lab.reach(two, &eth(ALL, B, &IP)), Ok(vec![GW, one]));
}

#[test]
fn l15_reflections_through_guarded_ports_are_spoofs() {
    let mut lab = Lab::new();
    let speaker = lab.port(guarded(A));
    let ends = [lab.port(guarded(B)), lab.port(guarded(C))];
    let mut bridged = Bridged::new(lab, ends);
    for _ in 0..100 {
        bridged.send(speaker, &eth(ALL, A, &IP));
    }
    assert_eq!(bridged.settle(), 200, "one hop a copy");
    assert_eq!(bridged.spoofs, 200);
    assert!(bridged.loops().is_empty(), "both ends work on");
}

/// The one frame that does circle between guarded ports: its source is what the port is bound to. A bridge takes the lowest
/// address of its ports for its own, so this is the common case.
#[test]
fn l15_a_guarded_ports_own_broadcast_does_not_circle() {
    for other in [guarded(C), PortConfig { guard: Guard::Off, ..PortConfig::default() }] {
        let mut lab = Lab::new();
        let speaker = lab.port(guarded(A));
        let ends = [lab.port(no_storm_control(guarded(B))), lab.port(no_storm_control(other))];
        let mut bridged = Bridged::new(lab, ends);
        bridged.send(ends[0], &eth(ALL, B, &IP));
        let hops = bridged.settle();
        assert!(hops <= 2 * GUARDED_FLOODS as usize + 10, "{hops}");
        assert_eq!(bridged.loops().len(), 1);
        assert!(!bridged.lab.switch.is_blocked(speaker));
        assert!(bridged.lab.reach(speaker, &eth(ALL, A, &IP)).is_ok());
    }
}

#[test]
fn l15_a_guarded_port_that_merely_asks_is_not_probed() {
    let mut lab = Lab::new();
    let one = lab.port(guarded(A));
    let [_two] = lab.ports();
    for _ in 0..1_000 {
        lab.now = lab.now.after(Duration::from_millis(11));
        lab.send(one, &eth(ALL, A, &IP)).unwrap();
    }
    assert!(!lab.switch.has_probes());
    // An unguarded one is, once a second, while it floods.
    let [three] = lab.ports();
    let start = lab.now;
    let mut probes = 0;
    for _ in 0..1_000 {
        lab.now = lab.now.after(Duration::from_millis(11));
        lab.send(three, &eth(ALL, C, &IP)).unwrap();
        probes += std::iter::from_fn(|| lab.switch.next_probe()).inspect(|&(port, _)| assert_eq!(port, three)).count() as u64;
    }
    let seconds = lab.now.since(start).as_secs();
    assert!((seconds - 2..=seconds + 1).contains(&probes), "{probes} probes in {seconds} s");
}

#[test]
fn l15_nobody_can_block_another_port() {
    let mut lab = Lab::new();
    let one = lab.port(guarded(A));
    let two = lab.port(guarded(B));
    // A spoofed probe blocks the one who spoofs it, and goes nowhere.
    let spoofed = eth(ALL, GATEWAY, &[0x88, 0xb5, 0, 0]);
    assert_eq!(lab.send(one, &spoofed), Err(DropReason::Loop));
    assert!(lab.switch.is_blocked(one) && !lab.switch.is_blocked(two));
    // From the gateway itself it is a frame like any other.
    assert!(matches!(lab.judge(GW, &spoofed, None, |_, _, egress| egress), Ok(Egress::Flood(_))));
    assert!(!lab.switch.is_blocked(GW));
}
