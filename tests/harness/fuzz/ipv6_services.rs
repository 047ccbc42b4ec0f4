//! The gateway's IPv6 services under a sequence of commands: ICMPv6 messages and DHCPv6 messages of any octets, their checksums made right or
//! not, frames of any octets behind the Ethernet addresses, and time that passes.
//!
//! Nothing panics. A frame has one fate. An answer goes to who asked, from the gateway's own addresses, whole and with the right checksum;
//! a question whose checksum is wrong gets none. What goes to all nodes unasked is an advertisement, and MIN_DELAY_BETWEEN_RAS apart.
use super::Commands;
use std::net::Ipv6Addr;
use std::time::Duration;
use vswitch_nat::checksum;
use vswitch_nat::gateway::advert::MIN_DELAY;
use vswitch_nat::gateway::{Gateway, GatewayConfig, GatewayV6, Routed, Side};
use vswitch_nat::ndp::{ALL_NODES, group_mac, link_local, solicited_node};
use vswitch_nat::station::{AddressGuard, Limits, Station};
use vswitch_switch::{FramePool, Head, Time, UnicastMac};

const GATEWAY: UnicastMac = UnicastMac::for_ipv4([10, 88, 0, 1]);
const ASKER: UnicastMac = UnicastMac::for_ipv4([10, 88, 0, 2]);
const ADDRESS: Ipv6Addr = Ipv6Addr::new(0xfd58, 1, 2, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
const ICMPV6: u8 = 58;
const UDP: u8 = 17;
/// Unasked ones in one look at the most: the bound of a loop here.
const OUTPUT: usize = 4;

struct World {
    gateway: Gateway,
    pool: FramePool,
    now: Time,
    /// When the last unasked one went.
    sent: Option<Time>,
}

/// The sum over what is behind an IPv6 header, with its pseudo-header: 0xffff where it is right.
fn sum(packet: &[u8], next: u8) -> u16 {
    let (src, dst) = (packet[8..24].try_into().expect("16 octets"), packet[24..40].try_into().expect("16 octets"));
    let message = &packet[40..];
    checksum::add(checksum::sum(message), checksum::pseudo_v6(src, dst, next, message.len() as u32))
}

/// A frame with a message: bit 2 of `how` has it come from nobody, bit 3 makes its checksum right, bit 4 its hop limit.
fn framed(how: u8, next: u8, dst: Ipv6Addr, mut message: Vec<u8>) -> Vec<u8> {
    let src = if how & 4 == 0 { link_local(ASKER) } else { Ipv6Addr::UNSPECIFIED };
    let place = if next == UDP { 6 } else { 2 };
    let hops = if how & 16 == 0 { 64 } else { 255 };
    let to = if dst.is_multicast() { group_mac(dst) } else { GATEWAY.mac() };
    let header = |message: &[u8]| {
        let [high, low] = (message.len() as u16).to_be_bytes();
        [&to.0[..], &ASKER.mac().0, &[0x86, 0xdd, 0x60, 0, 0, 0, high, low, next, hops], &src.octets(), &dst.octets()].concat()
    };
    if how & 8 != 0 && message.len() >= place + 2 {
        message[place..place + 2].fill(0);
        let frame = [header(&message), message.clone()].concat();
        let right = checksum::non_zero(!sum(&frame[14..], next));
        message[place..place + 2].copy_from_slice(&right.to_be_bytes());
    }
    [header(&message), message].concat()
}

impl World {
    fn new(setup: u8) -> Self {
        let v6 = GatewayV6 { address: ADDRESS, prefix: 64, link_local: link_local(GATEWAY) };
        let v6 = (setup & 4 == 0).then_some(v6);
        let mut gateway = Gateway::new(GatewayConfig { mac: GATEWAY, address: [10, 88, 0, 1].into(), prefix: 20, v6 }, [1, 2]);
        gateway.stations.set(
            1,
            Station { mac: ASKER, v4: None, v6: None, mtu: 1_500, limits: Limits::default(), guard: AddressGuard::default() },
        );
        gateway.set_exchange(setup & 1 != 0);
        let now = Time::from_secs(1_000);
        gateway.advertise(setup & 2 != 0, now);
        Self { gateway, pool: FramePool::new(2), now, sent: None }
    }

    fn command(&mut self, commands: &mut Commands<'_>) -> Option<()> {
        let [what] = commands.octets()?;
        match what {
            0..=23 => {
                let [seconds] = commands.octets()?;
                self.now = self.now.after(Duration::from_secs(u64::from(seconds)));
                self.poll();
            }
            24..=31 => {
                self.gateway.advertise(what & 1 != 0, self.now);
                self.poll();
            }
            32..=127 => {
                let [how, length] = commands.octets()?;
                let dst = [ALL_ROUTERS, solicited_node(ADDRESS), ALL_NODES, ADDRESS][usize::from(how & 3)];
                self.ask(framed(how, ICMPV6, dst, commands.slice(length).to_vec()));
            }
            128..=191 => {
                let [how, length] = commands.octets()?;
                let message = commands.slice(length);
                let [high, low] = (message.len() as u16 + 8).to_be_bytes();
                let datagram = [&[2, 34, 2, 35, high, low, 0, 0][..], message].concat();
                self.ask(framed(how & !4, UDP, SERVERS, datagram));
            }
            192..=255 => {
                let [length] = commands.octets()?;
                let to = if what & 1 == 0 { group_mac(SERVERS) } else { GATEWAY.mac() };
                self.ask([&to.0[..], &ASKER.mac().0, &[0x86, 0xdd], commands.slice(length)].concat());
            }
        }
        Some(())
    }

    fn poll(&mut self) {
        for _ in 0..OUTPUT {
            let Some(routed) = self.gateway.poll_output(&mut self.pool, self.now) else { return };
            let Routed::Generated(Side::Inside, frame) = routed else { panic!("{routed:?}") };
            check(frame.bytes(), &group_mac(ALL_NODES).0);
            assert_eq!(frame.bytes()[54], 134, "an advertisement");
            assert!(self.sent.is_none_or(|sent| self.now.since(sent) >= MIN_DELAY), "RFC 4861 6.2.6");
            self.sent = Some(self.now);
            self.pool.put(frame);
        }
        panic!("it does not end");
    }

    fn ask(&mut self, octets: Vec<u8>) {
        let mut frame = self.pool.take().expect("no buffer is lost");
        assert!(frame.fill(&octets));
        let Ok(head) = Head::parse(frame.bytes(), None) else { return self.pool.put(frame) };
        let end = match self.gateway.receive(frame, &head, 1, self.now) {
            Routed::Reply(Side::Inside, frame) => {
                let next = octets[20];
                let right = octets.get(14..).is_some_and(|packet| {
                    let len = usize::from(u16::from_be_bytes([packet[4], packet[5]]));
                    packet.get(..40 + len).is_some_and(|packet| sum(packet, next) == 0xffff)
                });
                assert!(right, "an answer to what was damaged");
                check(frame.bytes(), &ASKER.mac().0);
                frame
            }
            // Sockets are nobody's here.
            Routed::Socket(packet) => packet.packet.into_frame(),
            Routed::Refuse(_, frame, _) | Routed::Consumed(frame) | Routed::Drop(frame, _) => frame,
            // A fragment.
            Routed::Held => return self.give_up(),
            other @ (Routed::Reply(..) | Routed::Forward(..) | Routed::Generated(..)) => panic!("{other:?}"),
        };
        self.pool.put(end);
    }

    fn give_up(&mut self) {
        while let Some(frame) = self.gateway.abandon() {
            self.pool.put(frame);
        }
    }
}

/// What the gateway sends is whole, from it, and to `to`.
fn check(frame: &[u8], to: &[u8]) {
    assert_eq!((&frame[..6], &frame[6..12]), (to, &GATEWAY.mac().0[..]));
    let packet = &frame[14..];
    assert_eq!(usize::from(u16::from_be_bytes([packet[4], packet[5]])), packet.len() - 40);
    let src = Ipv6Addr::from(<[u8; 16]>::try_from(&packet[8..24]).expect("16 octets"));
    assert!([ADDRESS, link_local(GATEWAY)].contains(&src), "{src}");
    assert_eq!(sum(packet, packet[6]), 0xffff);
}

/// One input, see the module.
///
/// # Panics
/// A property does not hold.
pub fn run(data: &[u8]) {
    let mut commands = Commands(data);
    let Some([setup]) = commands.octets() else { return };
    let mut world = World::new(setup);
    while world.command(&mut commands).is_some() {}
    world.give_up();
    assert_eq!(world.pool.outstanding(), 0, "a buffer is lost");
}
