//! What is judged, answered and read of frames between containers, under a sequence of frames: raw ones, and such as were made well and then
//! damaged. Four ports: two guarded, one whose hardware address is free, one that may send anything.
//!
//! Whatever comes, no IPv4 packet and no ARP with an address that was given to another gets past a guard, an answer is one, and the
//! switch's table of groups stays within its bounds.
use super::Commands;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use vswitch_nat::checksum;
use vswitch_nat::gateway::{Gateway, GatewayConfig, GatewayV6};
use vswitch_nat::inspect::{self, Inspected, membership};
use vswitch_nat::ndp::link_local;
use vswitch_nat::station::{AddressGuard, Limits, Station};
use vswitch_switch::groups::{GROUPS, MEMBERSHIPS, PER_PORT};
use vswitch_switch::{Csum, FdbLimits, FrameBuf, FramePool, Head, PortConfig, PortId, Switch, SwitchConfig, Time, UnicastMac};

/// Ports, each with the station of the next number.
const PORTS: u16 = 4;
const GUARDS: [AddressGuard; 4] = [AddressGuard::Bound, AddressGuard::Bound, AddressGuard::Addresses, AddressGuard::Off];

fn v4(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 88, 0, number)
}

fn v6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number.into())
}

fn mac(number: u8) -> UnicastMac {
    UnicastMac::for_ipv4(v4(number).octets())
}

/// Frames of the kinds that are looked into, from station `own`, about station `about`.
fn made(kind: u8, own: u8, about: u8) -> Vec<u8> {
    let (source, target) = (mac(own).mac().0, v6(about).octets());
    let all = [0xff; 6];
    let arp = |operation, sender: Ipv4Addr| {
        let fixed = [8, 6, 0, 1, 8, 0, 6, 4, 0, operation];
        [&all[..], &source, &fixed, &source, &sender.octets(), &[0; 6], &v4(about).octets()].concat()
    };
    let ip4 = |number, payload: &[u8]| {
        let fixed = [8, 0, 0x45, 0, 0, 20 + payload.len() as u8, 0, 0, 0, 0, 1, number, 0, 0];
        [&[1, 0, 0x5e, 1, 2, about][..], &source, &fixed, &v4(own).octets(), &[239, 1, 2, about], payload].concat()
    };
    let ip6 = |from: Ipv6Addr, (next, hops), payload: &[u8]| {
        let fixed = [0x86, 0xdd, 0x60, 0, 0, 0, 0, payload.len() as u8, next, hops];
        let to = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, about.into()).octets();
        [&[0x33, 0x33, 0xff, 0, 0, about][..], &source, &fixed, &from.octets(), &to, payload].concat()
    };
    match kind / 2 % 10 {
        0 => arp(1, v4(own)),
        1 => arp(1, Ipv4Addr::UNSPECIFIED),
        2 => arp(2, v4(about)),
        3 => ip6(v6(own), (58, 255), &[&[135, 0, 0, 0, 0, 0, 0, 0][..], &target, &[1, 1], &source].concat()),
        4 => ip6(Ipv6Addr::UNSPECIFIED, (58, 255), &[&[135, 0, 0, 0, 0, 0, 0, 0][..], &target].concat()),
        5 => ip6(v6(own), (58, 255), &[&[136, 0, 0, 0, 0x20, 0, 0, 0][..], &target, &[2, 1], &source].concat()),
        6 => ip6(link_local(mac(own)), (60, 255), &[58, 0, 1, 4, 0, 0, 0, 0, 134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0]),
        7 => ip4(
            2,
            &[&[0x22, 0, 0, 0, 0, 0, 0, 2, 4, 0, 0, 1, 239, 1, 2, about, 9, 9, 9, 9][..], &[3, 0, 0, 0, 239, 9, 9, 9]].concat(),
        ),
        8 => {
            let record = [&[4, 0, 0, 0, 0xff, 5][..], &[0; 13], &[about]].concat();
            let message = [&[58, 0, 5, 2, 0, 0, 1, 0, 143, 0, 0, 0, 0, 0, 0, 1][..], &record].concat();
            ip6(link_local(mac(own)), (0, 1), &message)
        }
        _ => ip4(17, &[0, 67, 0, 68, 0, 8, 0, 0]),
    }
}

/// Makes the checksum of IGMP or ICMPv6 right, where there is one.
fn finish(frame: &mut [u8]) {
    let (start, offset, pseudo) = match frame {
        [_, _, _, _, _, _, _, _, _, _, _, _, 8, 0, rest @ ..] if rest.get(9) == Some(&2) => (34, 2, 0),
        [_, _, _, _, _, _, _, _, _, _, _, _, 0x86, 0xdd, rest @ ..] if rest.len() >= 44 => {
            let start = if rest[6] == 58 { 54 } else { 62 };
            let (source, to) = (rest[8..24].try_into().unwrap_or_default(), rest[24..40].try_into().unwrap_or_default());
            (start, 2, checksum::pseudo_v6(source, to, 58, (rest.len() + 14).saturating_sub(start) as u32))
        }
        _ => return,
    };
    if frame.len() < start + offset + 2 {
        return;
    }
    frame[start + offset..start + offset + 2].copy_from_slice(&pseudo.to_be_bytes());
    let _ = checksum::finish(frame, start, offset);
}

struct World {
    switch: Switch,
    gateway: Gateway,
    pool: FramePool,
    now: Time,
}

impl World {
    fn new(suppress: bool) -> Self {
        let own = mac(1);
        let mut switch = Switch::new(SwitchConfig {
            mac: own,
            fdb: FdbLimits { entries: 64, ageing: Duration::from_secs(300) },
            group_forward: 0,
            flood_unregistered: suppress,
            seed: 7,
        });
        let v6 = Some(GatewayV6 { address: v6(1), prefix: 64, link_local: link_local(own) });
        let mut gateway = Gateway::new(GatewayConfig { mac: own, address: v4(1), prefix: 24, v6 }, [1, 2]);
        gateway.set_suppress(suppress);
        for (number, guard) in (2..).zip(GUARDS) {
            let Ok(id) = switch.add_port(PortConfig::default()) else { unreachable!("four ports") };
            let (v4, v6) = (Some(v4(number)), Some(self::v6(number)));
            let limits = Limits::default();
            gateway.stations.set(id.get(), Station { mac: mac(number), v4, v6, mtu: 1_500, limits, guard });
        }
        Self { switch, gateway, pool: FramePool::new(2), now: Time::from_secs(1_000) }
    }

    fn feed(&mut self, port: u16, octets: &[u8], partial: bool) {
        let Some(mut frame) = self.pool.take() else { unreachable!("no buffer is kept") };
        assert!(frame.fill(octets), "it fits");
        if partial {
            frame.meta.csum = Csum::Partial { start: 14, offset: 0 };
        }
        if let (Some(id), Ok(head)) = (PortId::new(port), Head::parse(frame.bytes(), None)) {
            self.judge(id, &head, &mut frame);
        }
        self.pool.put(frame);
        let groups = self.switch.groups();
        assert!(groups.len() <= MEMBERSHIPS && groups.len() <= PER_PORT * u32::from(PORTS) && GROUPS > 0);
    }

    fn judge(&mut self, id: PortId, head: &Head, frame: &mut FrameBuf) {
        let Ok(from) = self.switch.admit(id, head, self.now) else { return };
        let inspected = self.gateway.inspect(frame, head, id.get(), self.now);
        let own = id.get() as u8 + 1;
        if !matches!(inspected, Inspected::Drop(_)) && GUARDS[id.index() - 1] != AddressGuard::Off {
            let octets = frame.bytes();
            let sender = match (octets.get(12..14), octets.len()) {
                (Some([8, 0]), 34..) => octets.get(26..30),
                (Some([8, 6]), 42..) if octets[16..20] == [8, 0, 6, 4] => octets.get(28..32),
                _ => None,
            };
            let is_anothers = |sender: &[u8]| (1..=5).any(|number| number != own && sender == v4(number).octets());
            assert!(!sender.is_some_and(is_anothers), "{id}: {inspected:?} {octets:02x?}");
        }
        match inspected {
            Inspected::Asked(asked) | Inspected::Claimed(asked) => {
                assert_ne!(asked.owner, id.get(), "nobody is told of himself");
                assert!(inspect::answer(frame, head, &asked), "what can be asked can be answered");
                assert_eq!((&frame.bytes()[6..12], frame.meta), (&asked.mac.mac().0[..], Default::default()));
            }
            Inspected::Report => {
                let _ = self.switch.report(from, head, membership::changes(frame, head), self.now);
            }
            Inspected::Pass => drop(self.switch.onward(from, head, self.now)),
            Inspected::Drop(_) => {}
        }
    }

    fn command(&mut self, commands: &mut Commands<'_>) -> Option<()> {
        let [what, port] = commands.octets()?;
        let port = u16::from(port) % PORTS + 1;
        match what {
            0..=79 => {
                let [length] = commands.octets()?;
                self.feed(port, commands.slice(length), what & 1 == 1);
            }
            80..=223 => {
                let [about, at, octet] = commands.octets()?;
                let mut frame = made(what, port as u8 + 1, about % 8);
                // Of one frame in two an octet is another.
                if what & 1 == 1
                    && let Some(place) = frame.get_mut(usize::from(at))
                {
                    *place = octet;
                }
                finish(&mut frame);
                self.feed(port, &frame, false);
            }
            224..=247 => {
                let [seconds] = commands.octets()?;
                self.now = self.now.after(Duration::from_secs(seconds.into()));
                self.switch.tend_groups(self.now);
                while self.switch.next_query().is_some() {}
                while self.gateway.guard_news().is_some() {}
            }
            248..=255 => {
                self.switch.tick(self.now, 1_000);
                self.gateway.tick(self.now, 1_000);
            }
        }
        Some(())
    }
}

/// One input, see the module.
///
/// # Panics
/// A property does not hold.
pub fn run(data: &[u8]) {
    let &[how, ref rest @ ..] = data else { return };
    let mut world = World::new(how & 1 == 0);
    let mut commands = Commands(rest);
    while world.command(&mut commands).is_some() {}
}
