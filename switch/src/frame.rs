//! A frame: octets in a buffer with headroom, and what the kernel says of them out of band.
//!
//! Theory. The VLAN tag, the checksum state and segmentation are *metadata*, not octets: AF_PACKET hands the tag in
//! auxiliary data and a TAP in the octets, both hand checksum and GSO in a virtio_net_hdr (kernel
//! `include/uapi/linux/virtio_net.h`, the 10-octet layout). [`FrameBuf::receive`] brings all of it into one form, once, and
//! judges it: past it, a [`FrameMeta`] is consistent with its octets. A 64 KB GSO frame then passes through untouched.
//!
//! Layout of a buffer: `[headroom 64 | frame up to 65,600]`. A read puts the header in the last 10 octets of the headroom, so
//! one plain read() suffices. Lifting a tag moves the addresses 4 octets towards the payload; inserting one moves them back.
//!
//! Buffers come from a [`FramePool`] and go back to it. Nothing else allocates or frees one; a pool that is empty is a
//! normal, counted outcome ([`DropReason::NoBuffer`]).
use crate::drop::DropReason;
use crate::head::ETHERNET_HEADER;
use crate::vlan::Tpid;
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::num::NonZeroU16;

/// Octets of the virtio_net_hdr on TAP and AF_PACKET alike (without `num_buffers`).
pub const VNET_HEADER: usize = 10;
/// Octets of a VLAN tag.
pub const TAG_LEN: usize = 4;
/// Octets before the frame: for the virtio_net_hdr, a tag, and later an encapsulation.
pub const HEADROOM: usize = 64;
/// The longest frame: 65,535 octets of IP, the Ethernet header (65,549, which Linux carries at the most), and room for tags.
pub const MAX_FRAME: usize = 65_600;
/// Octets from the start of the destination address to the tag.
const ADDRESSES: usize = 12;

const NEEDS_CSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// A VLAN tag (802.1Q-2018 9.3): its kind and PCP (3 bits), DEI (1), VID (12).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Tag {
    /// Which kind of tag.
    pub tpid: Tpid,
    /// Tag control information as on the wire.
    pub tci: u16,
}

impl Tag {
    /// The raw 12 bits: 0 (priority only) to 4095 (reserved).
    #[must_use]
    pub const fn vid_bits(self) -> u16 {
        self.tci & 0x0fff
    }

    /// The four octets on the wire.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; TAG_LEN] {
        let [a, b] = self.tpid.to_u16().to_be_bytes();
        let [c, d] = self.tci.to_be_bytes();
        [a, b, c, d]
    }
}

/// How a frame leaves: the frame itself is not changed, a tag is put between its addresses and its EtherType on the way out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum TagOp {
    /// As it lies in the buffer.
    Untagged,
    /// With this tag.
    Tagged(Tag),
}

/// The state of the layer 4 checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Csum {
    /// Whatever is in the octets is final (right or wrong: a switch does not look).
    #[default]
    Complete,
    /// The sum over the octets from `start` on is still to be stored at `start + offset`, where the pseudo-header's sum lies now.
    Partial {
        /// Octets from the frame's start.
        start: u16,
        /// Octets from `start`.
        offset: u16,
    },
}

/// What a GSO frame is to be cut into.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum GsoKind {
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
    /// UDP datagrams (USO) over either.
    UdpL4,
}

/// Segmentation left to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gso {
    /// Protocol.
    pub kind: GsoKind,
    /// TCP with CWR set: only the first segment keeps it (VIRTIO_NET_HDR_GSO_ECN).
    pub ecn: bool,
    /// Payload octets of each segment but the last.
    pub size: NonZeroU16,
    /// Octets from the frame's start to where the layer 4 header begins.
    pub l4: u16,
    /// Octets of all headers, from the frame's start to the payload.
    pub headers: u16,
}

/// What is known of a frame besides its octets. Offsets count from the untagged frame's start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FrameMeta {
    /// The outer VLAN tag of the port's kind, lifted out of the octets.
    pub tag: Option<Tag>,
    /// Checksum state.
    pub csum: Csum,
    /// Segmentation state.
    pub gso: Option<Gso>,
}

impl FrameMeta {
    /// The virtio_net_hdr with which a frame of this state leaves, tagged or not: with a tag in the octets,
    /// `hdr_len` and `csum_start` count 4 more. Fields are little-endian on the machines we know, native by definition.
    #[must_use]
    pub fn to_vnet(&self, tag: TagOp) -> [u8; VNET_HEADER] {
        let shift: u16 = match tag {
            TagOp::Untagged => 0,
            TagOp::Tagged(_) => TAG_LEN as u16,
        };
        let mut header = [0; VNET_HEADER];
        if let Csum::Partial { start, offset } = self.csum {
            header[0] = NEEDS_CSUM;
            header[6..8].copy_from_slice(&start.saturating_add(shift).to_ne_bytes());
            header[8..10].copy_from_slice(&offset.to_ne_bytes());
        }
        if let Some(gso) = self.gso {
            header[1] = match gso.kind {
                GsoKind::TcpV4 => GSO_TCPV4,
                GsoKind::TcpV6 => GSO_TCPV6,
                GsoKind::UdpL4 => GSO_UDP_L4,
            } | if gso.ecn { GSO_ECN } else { 0 };
            header[2..4].copy_from_slice(&gso.headers.saturating_add(shift).to_ne_bytes());
            header[4..6].copy_from_slice(&gso.size.get().to_ne_bytes());
        }
        header
    }
}

/// The virtio_net_hdr as it came, nothing believed yet.
struct RawVnet {
    flags: u8,
    gso_type: u8,
    gso_size: u16,
    csum_start: u16,
    csum_offset: u16,
}

impl RawVnet {
    fn read(header: &[u8]) -> Option<Self> {
        let &[flags, gso_type, _, _, s0, s1, c0, c1, o0, o1] = header else {
            return None;
        };
        Some(Self {
            flags,
            gso_type,
            gso_size: u16::from_ne_bytes([s0, s1]),
            csum_start: u16::from_ne_bytes([c0, c1]),
            csum_offset: u16::from_ne_bytes([o0, o1]),
        })
    }

    fn csum(&self, frame: &[u8]) -> Result<Csum, DropReason> {
        if self.flags & NEEDS_CSUM == 0 {
            return Ok(Csum::Complete);
        }
        let field = usize::from(self.csum_start) + usize::from(self.csum_offset);
        if usize::from(self.csum_start) < ETHERNET_HEADER || field + 2 > frame.len() {
            return Err(DropReason::BadOffload);
        }
        Ok(Csum::Partial { start: self.csum_start, offset: self.csum_offset })
    }

    fn gso(&self, csum: Csum, frame: &[u8]) -> Result<Option<Gso>, DropReason> {
        let kind = match self.gso_type & !GSO_ECN {
            GSO_NONE => return Ok(None),
            GSO_TCPV4 => GsoKind::TcpV4,
            GSO_TCPV6 => GsoKind::TcpV6,
            GSO_UDP_L4 => GsoKind::UdpL4,
            _ => return Err(DropReason::BadOffload),
        };
        let size = NonZeroU16::new(self.gso_size).ok_or(DropReason::BadOffload)?;
        // hdr_len is a hint that may be zero or the length of the linear part: the headers are measured instead.
        let l4 = match csum {
            Csum::Partial { start, .. } => usize::from(start),
            Csum::Complete => find_l4(kind, frame).ok_or(DropReason::BadOffload)?,
        };
        let headers = l4
            + match kind {
                GsoKind::UdpL4 => 8,
                GsoKind::TcpV4 | GsoKind::TcpV6 => {
                    let data_offset = frame.get(l4 + 12).ok_or(DropReason::BadOffload)?;
                    usize::from(data_offset >> 4) * 4
                }
            };
        let smallest = match kind {
            GsoKind::UdpL4 => 8,
            GsoKind::TcpV4 | GsoKind::TcpV6 => 20,
        };
        if headers < l4 + smallest || headers > frame.len() {
            return Err(DropReason::BadOffload);
        }
        let (l4, headers) = match (u16::try_from(l4), u16::try_from(headers)) {
            (Ok(l4), Ok(headers)) => (l4, headers),
            _ => return Err(DropReason::BadOffload),
        };
        Ok(Some(Gso { kind, ecn: self.gso_type & GSO_ECN != 0, size, l4, headers }))
    }
}

/// Where the layer 4 header of a GSO frame starts that came with a finished checksum (GRO of a forwarded flow).
fn find_l4(kind: GsoKind, frame: &[u8]) -> Option<usize> {
    let version_ihl = *frame.get(ETHERNET_HEADER)?;
    let header = match (kind, version_ihl >> 4) {
        // RFC 791 3.1: five words at the least, or layer 4 would begin inside the IP header.
        (GsoKind::TcpV4 | GsoKind::UdpL4, 4) if version_ihl & 15 >= 5 => usize::from(version_ihl & 15) * 4,
        (GsoKind::TcpV6 | GsoKind::UdpL4, 6) => 40,
        _ => return None,
    };
    Some(ETHERNET_HEADER + header)
}

/// A frame in a buffer of a [`FramePool`].
#[derive(Debug)]
pub struct FrameBuf {
    store: Box<[u8]>,
    start: usize,
    len: usize,
    /// What is known besides the octets.
    pub meta: FrameMeta,
}

impl FrameBuf {
    fn new() -> Self {
        Self { store: vec![0; HEADROOM + MAX_FRAME].into_boxed_slice(), start: HEADROOM, len: 0, meta: FrameMeta::default() }
    }

    /// Where a port reads into: room for a virtio_net_hdr and the longest frame.
    #[inline]
    pub fn space(&mut self) -> &mut [u8] {
        self.store.get_mut(HEADROOM - VNET_HEADER..).unwrap_or_default()
    }

    /// Judges what a port has put into [`FrameBuf::space`]: `received` octets, virtio_net_hdr included. `beside` is the tag
    /// that came out of band (AF_PACKET), `tpid` the kind of tag that the port speaks: such a tag ends up in
    /// `meta.tag`, any other in the octets.
    ///
    /// # Errors
    /// [`DropReason::Runt`], [`DropReason::Giant`] or [`DropReason::BadOffload`]; the buffer is then only good for its pool.
    #[inline]
    pub fn receive(&mut self, received: usize, beside: Option<Tag>, tpid: Tpid) -> Result<(), DropReason> {
        if received < VNET_HEADER + ETHERNET_HEADER {
            return Err(DropReason::Runt);
        }
        if received > VNET_HEADER + MAX_FRAME {
            return Err(DropReason::Giant);
        }
        self.start = HEADROOM;
        self.len = received - VNET_HEADER;
        self.meta = FrameMeta::default();
        let mut raw = self.store.get(HEADROOM - VNET_HEADER..HEADROOM).and_then(RawVnet::read).ok_or(DropReason::Runt)?;
        match beside {
            // The kernel took it out and left csum_start as if it had never been there.
            Some(tag) if tag.tpid == tpid => self.meta.tag = Some(tag),
            Some(tag) => {
                self.insert_tag(tag);
                raw.csum_start = raw.csum_start.saturating_add(TAG_LEN as u16);
            }
            None => {
                if self.lift_tag(tpid)? {
                    raw.csum_start = raw.csum_start.saturating_sub(TAG_LEN as u16);
                }
            }
        }
        // Most frames of a request and its answer carry neither.
        if raw.flags & NEEDS_CSUM != 0 || raw.gso_type != GSO_NONE {
            let csum = raw.csum(self.bytes())?;
            self.meta.gso = raw.gso(csum, self.bytes())?;
            self.meta.csum = csum;
        }
        Ok(())
    }

    /// Takes `octets` as a plain frame without tag, checksum and segmentation left to do. `false` when they do not fit.
    #[must_use]
    pub fn fill(&mut self, octets: &[u8]) -> bool {
        let Some(place) = self.store.get_mut(HEADROOM..HEADROOM + octets.len()) else {
            return false;
        };
        place.copy_from_slice(octets);
        self.start = HEADROOM;
        self.len = octets.len();
        self.meta = FrameMeta::default();
        true
    }

    /// Begins a plain frame of `len` octets, undefined ones, to be written. `false` when they do not fit.
    #[must_use]
    pub fn begin(&mut self, len: usize) -> bool {
        let fits = len <= MAX_FRAME;
        if fits {
            (self.start, self.len, self.meta) = (HEADROOM, len, FrameMeta::default());
        }
        fits
    }

    /// The frame, tag excluded.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.store.get(self.start..self.start + self.len).unwrap_or_default()
    }

    /// The frame, to be rewritten in place.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.store.get_mut(self.start..self.start + self.len).unwrap_or_default()
    }

    /// Octets of the frame, tag excluded.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Makes the frame `len` octets long, shorter or longer (what is gained is undefined). `false`, and nothing changed, when the buffer
    /// is too small.
    #[must_use]
    pub const fn set_len(&mut self, len: usize) -> bool {
        let fits = self.start + len <= self.store.len();
        if fits {
            self.len = len;
        }
        fits
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The frame in two parts, so that a tag can go between them: addresses, and the rest from the EtherType on.
    #[inline]
    #[must_use]
    pub fn parts(&self) -> (&[u8], &[u8]) {
        self.bytes().split_at_checked(ADDRESSES).unwrap_or_default()
    }

    /// Puts the virtio_net_hdr with which the frame leaves untagged before it, for [`FrameBuf::sealed`].
    #[inline]
    pub fn seal(&mut self) {
        let header = self.meta.to_vnet(TagOp::Untagged);
        if let Some(place) = self.start.checked_sub(VNET_HEADER).and_then(|start| self.store.get_mut(start..self.start)) {
            place.copy_from_slice(&header);
        }
    }

    /// virtio_net_hdr and frame in one piece, which a system call takes faster than in parts. Good from [`FrameBuf::seal`] until octets or
    /// metadata change.
    #[inline]
    #[must_use]
    pub fn sealed(&self) -> &[u8] {
        let sealed = self.store.get(self.start.saturating_sub(VNET_HEADER)..self.start + self.len).unwrap_or_default();
        debug_assert_eq!(sealed.get(..VNET_HEADER), Some(&self.meta.to_vnet(TagOp::Untagged)[..]), "changed after it was sealed");
        sealed
    }

    /// What is judged against an MTU: layer 3 octets of the frame, or of its largest segment.
    #[inline]
    #[must_use]
    pub fn mtu_len(&self) -> usize {
        let l3 = self.len.saturating_sub(ETHERNET_HEADER);
        match self.meta.gso {
            None => l3,
            Some(gso) => l3.min(usize::from(gso.headers) + usize::from(gso.size.get()) - ETHERNET_HEADER),
        }
    }

    /// Moves an outer tag of kind `tpid` from the octets to the metadata; says whether there was one.
    fn lift_tag(&mut self, tpid: Tpid) -> Result<bool, DropReason> {
        let &[_, _, _, _, _, _, _, _, _, _, _, _, t0, t1, ref rest @ ..] = self.bytes() else {
            return Err(DropReason::Runt);
        };
        if [t0, t1] != tpid.to_u16().to_be_bytes() {
            return Ok(false);
        }
        let &[c0, c1, _, _, ..] = rest else {
            return Err(DropReason::Runt);
        };
        self.meta.tag = Some(Tag { tpid, tci: u16::from_be_bytes([c0, c1]) });
        self.store.copy_within(self.start..self.start + ADDRESSES, self.start + TAG_LEN);
        self.start += TAG_LEN;
        self.len -= TAG_LEN;
        Ok(true)
    }

    /// Puts a tag into the octets: only in [`FrameBuf::receive`], where the headroom is whole.
    fn insert_tag(&mut self, tag: Tag) {
        let start = self.start - TAG_LEN;
        self.store.copy_within(self.start..self.start + ADDRESSES, start);
        if let Some(place) = self.store.get_mut(start + ADDRESSES..start + ADDRESSES + TAG_LEN) {
            place.copy_from_slice(&tag.to_bytes());
        }
        self.start = start;
        self.len += TAG_LEN;
    }
}

/// The only source and sink of buffers: a fixed number, the one that came back last goes out first (it is warm).
#[derive(Debug)]
pub struct FramePool {
    free: Vec<FrameBuf>,
    capacity: usize,
}

impl FramePool {
    /// `capacity` buffers of 64 KiB of address space each; memory is touched as frames need it.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { free: (0..capacity).map(|_| FrameBuf::new()).collect(), capacity }
    }

    /// A buffer with undefined contents, or `None` when all are out.
    #[inline]
    pub fn take(&mut self) -> Option<FrameBuf> {
        self.free.pop()
    }

    /// Gives a buffer back.
    #[inline]
    pub fn put(&mut self, frame: FrameBuf) {
        // Never beyond what was reserved: no buffer exists that did not come from here.
        debug_assert!(self.free.len() < self.capacity, "a buffer came back twice");
        self.free.push(frame);
    }

    /// How many buffers are out.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.capacity - self.free.len()
    }

    /// How many can be taken.
    #[must_use]
    pub fn available(&self) -> usize {
        self.free.len()
    }
}
