//! Loads for the datapath on memory ports that keep nothing: a bench times them, a test counts their allocations.
//!
//! A round feeds frames and lets the datapath breathe until all of them are through. Feeding is apart, for a kernel does it in life.
use std::time::Duration;
use vswitch_io::datapath::{Datapath, Inhaled};
use vswitch_io::port::{MemoryPort, Port};
use vswitch_nat::checksum;
use vswitch_nat::gateway::{Gateway, GatewayConfig};
use vswitch_switch::storm::StormLimits;
use vswitch_switch::{FdbLimits, Mac, PortConfig, PortId, Switch, SwitchConfig, Time, UnicastMac};

/// All that a TAP of Linux 6.2 takes (TUN_F_*).
const ALL_OFFLOADS: u32 = 0x67;
/// Between two breaths: so short that no address ages while a bench runs.
const BREATH: Duration = Duration::from_micros(1);
const GATEWAY: u32 = 1;
const SENDER: u32 = 2;
const RECEIVER: u32 = 3;

/// A datapath and what is sent through it, over and over.
#[derive(Debug)]
pub struct Load {
    /// What it is called.
    pub name: &'static str,
    /// Frames that one round sends.
    pub copies: u64,
    datapath: Datapath,
    from: PortId,
    frame: Vec<u8>,
    /// Frames fed in one round.
    frames: usize,
    now: Time,
}

fn station(number: u32) -> UnicastMac {
    UnicastMac::for_ipv4((0x0a58_0000 | number).to_be_bytes())
}

/// A virtio_net_hdr of zeroes and a frame.
fn frame(dst: Mac, ethertype: [u8; 2], packet: &[u8]) -> Vec<u8> {
    [&[0; 10][..], &dst.0, &station(SENDER).mac().0, &ethertype, packet].concat()
}

impl Load {
    /// Every load that there is.
    #[must_use]
    pub fn all() -> Vec<Self> {
        vec![
            Self::unicast("unicast, 64 octets", ALL_OFFLOADS, frame(station(RECEIVER).mac(), [0x88, 0xb6], &[7; 50]), 64, 1),
            Self::unicast("unicast, GSO of 64 KB", ALL_OFFLOADS, gso(), 16, 1),
            Self::unicast("unicast, GSO of 64 KB cut into 46", 0, gso(), 16, 46),
            Self::ping(),
            Self::flood("flood to 1,100 ports", 1_100),
        ]
    }

    /// Between ports of a container each; the receiver's takes what `mask` says.
    fn unicast(name: &'static str, mask: u32, frame: Vec<u8>, frames: usize, segments: u64) -> Self {
        let mut load = Self::with_ports(name, mask, 1, frame, frames);
        load.copies = frames as u64 * segments;
        // The receiver must have been heard: its first frame is to the sender.
        let hello = [&[0; 10][..], &station(SENDER).mac().0, &station(RECEIVER).mac().0, &[0x88, 0xb6], &[0; 46]].concat();
        let receiver = PortId::new(load.from.get() + 1).unwrap_or(PortId::GATEWAY);
        assert!(load.datapath.memory(receiver).is_some_and(|port| port.feed_copy(&hello)));
        while load.breath(receiver) != Inhaled::Idle {}
        load
    }

    /// Echo requests to the gateway.
    fn ping() -> Self {
        let mut ip = [0x45, 0, 0, 84, 0, 1, 0x40, 0, 64, 1, 0, 0, 10, 88, 0, 2, 10, 88, 0, 1];
        let mut icmp = [0; 64];
        icmp[0] = 8;
        let (ip_sum, icmp_sum) = (checksum::checksum(&ip), checksum::checksum(&icmp));
        ip[10..12].copy_from_slice(&ip_sum.to_be_bytes());
        icmp[2..4].copy_from_slice(&icmp_sum.to_be_bytes());
        let mut load = Self::with_ports(
            "ping to the gateway",
            ALL_OFFLOADS,
            0,
            frame(station(GATEWAY).mac(), [8, 0], &[&ip[..], &icmp].concat()),
            64,
        );
        load.copies = 64;
        load
    }

    /// One broadcast to `ports` ports and the gateway.
    fn flood(name: &'static str, ports: u16) -> Self {
        let mut load = Self::with_ports(name, ALL_OFFLOADS, ports, frame(Mac::BROADCAST, [0x88, 0xb6], &[7; 50]), 1);
        load.copies = u64::from(ports);
        load
    }

    fn with_ports(name: &'static str, mask: u32, receivers: u16, frame: Vec<u8>, frames: usize) -> Self {
        let mac = station(GATEWAY);
        let switch = Switch::new(SwitchConfig { mac, fdb: FdbLimits::default(), group_forward: 0, seed: 42 });
        let gateway = Gateway::new(GatewayConfig { mac, address: [10, 88, 0, 1].into(), prefix: 16, v6: None }, [1, 2]);
        let mut datapath = Datapath::new(switch, Some(gateway));
        let mut plug = |mask| {
            let config =
                PortConfig { storm: StormLimits { broadcast: None, multicast: None, unknown: None }, ..PortConfig::default() };
            datapath
                .add_port(Port::Memory(MemoryPort::new(mask, false)), config, 1_500)
                .map_err(|(_, error)| error)
                .expect("a free number")
        };
        let from = plug(ALL_OFFLOADS);
        (0..receivers).for_each(|_| _ = plug(mask));
        Self { name, copies: 0, datapath, from, frame, frames, now: Time::from_secs(1) }
    }

    fn breath(&mut self, from: PortId) -> Inhaled {
        self.now = self.now.after(BREATH);
        self.datapath.begin(self.now);
        let end = self.datapath.inhale(from, self.now);
        self.datapath.exhale();
        end
    }

    /// Puts a round's frames before the sender's port.
    pub fn feed(&mut self) {
        if let Some(port) = self.datapath.memory(self.from) {
            (0..self.frames).for_each(|_| assert!(port.feed_copy(&self.frame), "a round fits the queue"));
        }
    }

    /// Breathes until they are through.
    pub fn breathe(&mut self) {
        while self.breath(self.from) != Inhaled::Idle || self.datapath.is_flooding() {}
    }

    /// Lets time pass: the next flood is probed.
    pub fn wait(&mut self, span: Duration) {
        self.now = self.now.after(span);
    }

    /// Frames sent so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.datapath.accounts().tx
    }
}

/// IPv4 TCP, 65,535 octets, checksum partial, to be cut at 1,448 octets of payload.
fn gso() -> Vec<u8> {
    let mut vnet = [0u8; 10];
    (vnet[0], vnet[1]) = (1, 1);
    for (at, value) in [(2, 54u16), (4, 1_448), (6, 34), (8, 16)] {
        vnet[at..at + 2].copy_from_slice(&value.to_ne_bytes());
    }
    let mut packet = vec![9; 65_535];
    packet[..20].copy_from_slice(&[0x45, 0, 0xff, 0xff, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 88, 0, 2, 10, 88, 0, 3]);
    packet[20..40].copy_from_slice(&[0x10, 0, 0x20, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
    let mut octets = frame(station(RECEIVER).mac(), [8, 0], &packet);
    octets[..10].copy_from_slice(&vnet);
    octets
}
