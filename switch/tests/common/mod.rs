//! A switch on the bench: octets in at a port, octets out at others, nothing in between that is not the product's.
#![allow(dead_code, reason = "each test file uses its part")]
use vswitch_switch::port::{FloodTakes, Guard};
use vswitch_switch::storm::StormLimits;
use vswitch_switch::{
    DropReason, Egress, FdbLimits, Flood, Forward, FrameBuf, FramePool, Head, Mac, PortConfig, PortId, Switch, SwitchConfig, Tag,
    TagOp, Time, UnicastMac, Vid, VidSet, VlanMode,
};

/// Octets of a virtio_net_hdr that says nothing.
const PLAIN: [u8; 10] = [0; 10];
/// When tests begin.
pub const START: Time = Time::from_secs(1_000);

/// Three stations, the gateway and everybody.
pub const A: [u8; 6] = [0x02, 0x58, 10, 88, 0, 2];
pub const B: [u8; 6] = [0x02, 0x58, 10, 88, 0, 3];
pub const C: [u8; 6] = [0x02, 0x58, 10, 88, 0, 4];
pub const GATEWAY: [u8; 6] = [0x02, 0x58, 10, 88, 0, 1];
pub const ALL: [u8; 6] = [0xff; 6];

pub type Delivered = Result<Vec<(PortId, Vec<u8>)>, DropReason>;

pub fn mac(octets: [u8; 6]) -> UnicastMac {
    UnicastMac::new(Mac(octets)).unwrap()
}

pub fn vid(number: u16) -> Vid {
    Vid::new(number).unwrap()
}

/// A frame: addresses, EtherType (or tags) and what follows.
pub fn eth(dst: [u8; 6], src: [u8; 6], rest: &[u8]) -> Vec<u8> {
    [&dst, &src, rest].concat()
}

pub fn access(number: u16) -> PortConfig {
    PortConfig { vlan: VlanMode::Access(vid(number)), ..PortConfig::default() }
}

pub fn trunk(allowed: &str, native: Option<u16>) -> PortConfig {
    let allowed: VidSet = allowed.parse().unwrap();
    PortConfig { vlan: VlanMode::Trunk { allowed, native: native.map(vid) }, ..PortConfig::default() }
}

pub fn guarded(octets: [u8; 6]) -> PortConfig {
    PortConfig { guard: Guard::Bound(mac(octets)), ..PortConfig::default() }
}

pub fn isolated() -> PortConfig {
    PortConfig { group: 1, ..PortConfig::default() }
}

pub fn no_storm_control(config: PortConfig) -> PortConfig {
    PortConfig { storm: StormLimits { broadcast: None, multicast: None, unknown: None }, ..config }
}

pub fn takes(unknown: bool, broadcast: bool, multicast: bool) -> PortConfig {
    PortConfig { flood: FloodTakes { unknown, broadcast, multicast }, ..PortConfig::default() }
}

/// What leaves a port: the frame with its tag put in.
pub fn on_the_wire(frame: &FrameBuf, tag: TagOp) -> Vec<u8> {
    let (addresses, rest) = frame.parts();
    match tag {
        TagOp::Untagged => [addresses, rest].concat(),
        TagOp::Tagged(tag) => [addresses, &tag.to_bytes(), rest].concat(),
    }
}

pub struct Lab {
    pub switch: Switch,
    pool: FramePool,
    /// What the clock says.
    pub now: Time,
}

impl Lab {
    pub fn new() -> Self {
        Self::with(FdbLimits::default())
    }

    pub fn with(fdb: FdbLimits) -> Self {
        let config = SwitchConfig { mac: mac(GATEWAY), fdb, group_forward: 0, flood_unregistered: true, seed: 42 };
        Self { switch: Switch::new(config), pool: FramePool::new(1), now: START }
    }

    pub fn port(&mut self, config: PortConfig) -> PortId {
        self.switch.add_port(config).unwrap()
    }

    /// `count` plain access ports of VLAN 1.
    pub fn ports<const N: usize>(&mut self) -> [PortId; N] {
        std::array::from_fn(|_| self.port(PortConfig::default()))
    }

    /// The verdict on a frame, and the frame as it lies in its buffer, given back to `use_it`.
    pub fn judge<T>(
        &mut self,
        ingress: PortId,
        octets: &[u8],
        beside: Option<Tag>,
        use_it: impl FnOnce(&Switch, &FrameBuf, Egress) -> T,
    ) -> Result<T, DropReason> {
        let mut frame = self.pool.take().unwrap();
        let received = [&PLAIN, octets].concat();
        frame.space()[..received.len()].copy_from_slice(&received);
        let tpid = self.switch.port_config(ingress).map(|config| config.tpid).unwrap_or_default();
        let verdict = frame.receive(received.len(), beside, tpid).and_then(|()| {
            let head = Head::parse(frame.bytes(), frame.meta.tag)?;
            match self.switch.forward(ingress, &head, self.now) {
                Forward::To(egress) => Ok(use_it(&self.switch, &frame, egress)),
                Forward::Drop(reason) => Err(reason),
            }
        });
        self.pool.put(frame);
        verdict
    }

    /// Octets in, octets out.
    pub fn send(&mut self, ingress: PortId, octets: &[u8]) -> Delivered {
        self.judge(ingress, octets, None, deliver)
    }

    /// The same with a tag that came out of band.
    pub fn send_beside(&mut self, ingress: PortId, octets: &[u8], beside: Tag) -> Delivered {
        self.judge(ingress, octets, Some(beside), deliver)
    }

    /// Which ports a frame leaves through.
    pub fn reach(&mut self, ingress: PortId, octets: &[u8]) -> Result<Vec<PortId>, DropReason> {
        Ok(self.send(ingress, octets)?.into_iter().map(|(port, _)| port).collect())
    }

    /// Begins a flood.
    pub fn flood(&mut self, ingress: PortId, octets: &[u8]) -> Flood {
        match self.judge(ingress, octets, None, |_, _, egress| egress) {
            Ok(Egress::Flood(flood)) => flood,
            other => panic!("no flood: {other:?}"),
        }
    }

    pub fn knows(&self, octets: [u8; 6]) -> Option<PortId> {
        self.switch.fdb().lookup(Vid::DEFAULT, Mac(octets), self.now)
    }
}

fn deliver(switch: &Switch, frame: &FrameBuf, egress: Egress) -> Vec<(PortId, Vec<u8>)> {
    match egress {
        Egress::One(port, tag) => vec![(port, on_the_wire(frame, tag))],
        Egress::Flood(mut flood) => {
            std::iter::from_fn(|| switch.flood_next(&mut flood)).map(|(port, tag)| (port, on_the_wire(frame, tag))).collect()
        }
    }
}
