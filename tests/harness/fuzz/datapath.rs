//! Datapath, switch and gateway on memory ports, under a sequence of commands: ports of every kind come, change and go, frames
//! come with any virtio_net_hdr, some made well and then damaged, cables make loops, time passes.
//!
//! After each breath every frame has one fate, only floods hold buffers, and no port was sent what it does not take: longer than its
//! MTU, or with an offload that is not in its mask. At the end everything drains.
use super::Commands;
use super::switch::{config, station, vid};
use std::time::Duration;
use vswitch_io::datapath::{Datapath, Inhaled};
use vswitch_io::port::{MemoryPort, Port};
use vswitch_nat::gateway::{Gateway, GatewayConfig};
use vswitch_switch::frame::{MAX_FRAME, TAG_LEN, VNET_HEADER};
use vswitch_switch::{FdbLimits, PortId, Switch, SwitchConfig, Tag, Time, Tpid};

/// Ports that a command can name.
const PORTS: u8 = 12;
/// Frames that one input may feed, cables included.
const FED_LIMIT: usize = 1_024;
/// Frames that a cable carries in one breath.
const CABLE_LIMIT: usize = 32;
/// Breaths until everything is through: each sends 512 copies or reads all that there is.
const DRAIN_LIMIT: usize = 1_000;
const MTUS: [u16; 8] = [1_500, 0, 45, 68, 1_280, 9_000, 65_520, u16::MAX];
const ETHERNET: usize = 14;
const GATEWAY: [u8; 4] = [10, 88, 0, 1];

/// What the test remembers of a port.
#[derive(Clone, Copy)]
struct Plugged {
    mask: u32,
    mtu: u16,
}

struct World {
    datapath: Datapath,
    plugged: [Option<Plugged>; PORTS as usize],
    cable: Option<(PortId, PortId)>,
    fed: usize,
    now: Time,
}

fn port(octet: u8) -> PortId {
    PortId::new(u16::from(octet % PORTS)).unwrap_or(PortId::GATEWAY)
}

/// Octet 0: which kinds of tag and whether it is beside the frame; 1 and 2: the tag.
fn beside(&[how, t0, t1]: &[u8; 3]) -> Option<Tag> {
    let tpid = if how & 1 == 0 { Tpid::Dot1q } else { Tpid::Dot1ad };
    (how & 6 == 6).then_some(Tag { tpid, tci: u16::from_be_bytes([t0, t1]) })
}

impl World {
    fn new(&[buffers, gateway, entries]: &[u8; 3]) -> Self {
        let fdb = FdbLimits { entries: u32::from(entries % 16) + 1, ageing: Duration::from_secs(10) };
        let switch = Switch::new(SwitchConfig { mac: station(1), fdb, group_forward: 0, flood_unregistered: true, seed: 7 });
        let gateway = (gateway < 200).then(|| {
            Gateway::new(GatewayConfig { mac: station(1), address: GATEWAY.into(), prefix: gateway % 33, v6: None }, [1, 2])
        });
        Self {
            datapath: Datapath::with_buffers(switch, gateway, usize::from(buffers % 8) + 1),
            plugged: [None; PORTS as usize],
            cable: None,
            fed: 0,
            now: Time::from_secs(1_000),
        }
    }

    fn command(&mut self, commands: &mut Commands<'_>) -> Option<()> {
        let [what] = commands.octets()?;
        match what {
            0..=31 => self.plug(&commands.octets()?, &commands.octets()?),
            32..=47 => self.set(&commands.octets()?, &commands.octets()?),
            48..=55 => self.unplug(port(commands.octets::<1>()?[0])),
            56..=63 => self.by_hand(&commands.octets()?),
            64..=71 => {
                let [from, to] = commands.octets()?;
                self.cable = (from != to).then_some((port(from), port(to)));
            }
            72..=127 => {
                let [millis] = commands.octets()?;
                // To half a minute: a blocked port and an aged address come back.
                self.breathe(Duration::from_millis(u64::from(millis) * u64::from(millis) / 2));
            }
            128..=191 => {
                let [id, length] = commands.octets()?;
                let tag = beside(&commands.octets()?);
                self.feed(port(id), commands.slice(length).to_vec(), tag);
            }
            192..=255 => self.made(&commands.octets()?, &commands.octets()?, &commands.octets()?),
        }
        Some(())
    }

    fn plug(&mut self, settings: &[u8; 5], &[mask, mtu]: &[u8; 2]) {
        let plugged = Plugged { mask: u32::from(mask & 0x67), mtu: MTUS[usize::from(mtu % 8)] };
        let Some(slot) = self.plugged.iter().skip(1).position(Option::is_none) else { return };
        let port = Port::Memory(MemoryPort::new(plugged.mask, true));
        if let Ok(id) = self.datapath.add_port(port, config(settings), plugged.mtu) {
            assert_eq!(id.index(), slot + 1, "the lowest free number");
            self.plugged[id.index()] = Some(plugged);
        }
    }

    fn set(&mut self, settings: &[u8; 5], &[id, mtu]: &[u8; 2]) {
        let mtu = MTUS[usize::from(mtu % 8)];
        if self.datapath.set_port(port(id), config(settings), mtu).is_ok()
            && let Some(plugged) = &mut self.plugged[port(id).index()]
        {
            plugged.mtu = mtu;
        }
    }

    fn unplug(&mut self, id: PortId) {
        let was = self.plugged[id.index()].take();
        assert_eq!(self.datapath.remove_port(id).is_some(), was.is_some());
        self.check_law();
    }

    fn by_hand(&mut self, &[what, a, b, c]: &[u8; 4]) {
        let switch = &mut self.datapath.switch;
        match what & 3 {
            0 => switch.set_group_forward(u16::from_be_bytes([a, b])),
            1 => switch.tick(self.now, u32::from(a)),
            2 => drop(switch.fdb_mut().remove(vid(a), station(b).mac())),
            _ if switch.port_config(port(c)).is_some() => {
                let _ = switch.fdb_mut().add_static(vid(a), station(b).mac(), port(c), self.now);
            }
            _ => {}
        }
    }

    fn feed(&mut self, id: PortId, frame: Vec<u8>, tag: Option<Tag>) {
        if self.fed < FED_LIMIT
            && let Some(memory) = self.datapath.memory(id)
        {
            self.fed += usize::from(memory.feed_beside(frame, tag));
        }
    }

    /// Feeds a frame that is right, but for one octet changed; several times where it is a small one.
    fn made(&mut self, &[id, times, dst, src]: &[u8; 4], shape: &[u8; 4], &[how, t0, t1, at, xor]: &[u8; 5]) {
        let mut frame = super::made::frame(dst, src, shape, (how & 8 != 0).then_some(&[t0, t1]));
        if let Some(octet) = frame.get_mut(usize::from(at)) {
            *octet ^= xor;
        }
        let times = if frame.len() < 200 { times % 64 } else { times % 3 };
        for _ in 0..=times {
            self.feed(port(id), frame.clone(), beside(&[how, t0, t1]));
        }
    }

    /// Says whether anything is left to do.
    fn breathe(&mut self, span: Duration) -> bool {
        self.now = self.now.after(span);
        self.datapath.begin(self.now);
        let mut more = false;
        for id in (0..PORTS).map(port) {
            more |= self.datapath.inhale(id, self.now) == Inhaled::More;
        }
        self.datapath.exhale();
        self.check_law();
        assert!(self.datapath.outstanding() == 0 || self.datapath.is_flooding(), "only a flood holds a buffer");
        for id in (0..PORTS).map(port) {
            self.check_output(id);
        }
        more || self.datapath.is_flooding()
    }

    fn check_law(&mut self) {
        let accounts = self.datapath.accounts();
        assert!(accounts.balanced(), "{accounts:?}");
        assert_eq!(self.datapath.stats().drops.total(), accounts.dropped);
    }

    fn check_output(&mut self, id: PortId) {
        let Some(memory) = self.datapath.memory(id) else { return };
        let frames = memory.take_output();
        let plugged = self.plugged[id.index()].expect("plugged in");
        for frame in &frames {
            plugged.check(frame);
        }
        if let Some((_, to)) = self.cable.filter(|cable| cable.0 == id) {
            frames.into_iter().take(CABLE_LIMIT).for_each(|frame| self.feed(to, frame, None));
        }
    }
}

impl Plugged {
    /// A frame sent here is one that the port takes.
    fn check(self, frame: &[u8]) {
        assert!(frame.len() >= VNET_HEADER + ETHERNET && frame.len() <= VNET_HEADER + MAX_FRAME + TAG_LEN, "{}", frame.len());
        let field = |at: usize| u16::from_ne_bytes([frame[at], frame[at + 1]]);
        let (flags, kind) = (frame[0], frame[1] & 0x7f);
        let needed = match kind {
            0 => u32::from(flags & 1),
            1 => 0x03,
            4 => 0x05,
            5 => 0x61,
            _ => panic!("gso_type {kind}"),
        };
        assert_eq!(self.mask & needed, needed, "an offload that the port does not take");
        let l2 = if kind == 0 { frame.len() - VNET_HEADER } else { usize::from(field(2)) + usize::from(field(4)) };
        let l2 = l2.min(frame.len() - VNET_HEADER);
        // Whether the tag was ours cannot be told here.
        assert!(l2 <= usize::from(self.mtu) + ETHERNET + TAG_LEN, "{l2} octets for an MTU of {}", self.mtu);
    }
}

/// One input, see the module.
///
/// # Panics
/// A property does not hold.
pub fn run(data: &[u8]) {
    let mut commands = Commands(data);
    let Some(limits) = commands.octets() else { return };
    let mut world = World::new(&limits);
    while world.command(&mut commands).is_some() {}
    world.cable = None;
    let mut breaths = 0;
    while world.breathe(Duration::from_millis(1)) {
        breaths += 1;
        assert!(breaths < DRAIN_LIMIT, "it does not drain: {:?}", world.datapath.accounts());
    }
    assert_eq!((world.datapath.accounts().held, world.datapath.outstanding()), (0, 0));
}
