//! VLANs as 802.1Q-2018 has them on an edge bridge: access ports, trunks, a native VLAN.
//!
//! A frame gets its VLAN once, at ingress ([`VlanMode::classify`]), and its tag once, at egress
//! ([`VlanMode::egress_tag`]). In between the tag is metadata (see [`crate::frame`]). Priority (PCP) and DEI travel with
//! the frame. A tag of another TPID than the port's is payload: the frame counts as untagged (6.9, as Linux has it).
use crate::drop::DropReason;
use crate::frame::{Tag, TagOp};
use alloc::boxed::Box;
use alloc::string::String;
use core::fmt::{self, Write as _};
use core::str::FromStr;

/// A VLAN identifier, 1 to 4094. 0 means "priority only" and 4095 is reserved (802.1Q-2018 table 9-2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Vid(u16);

impl Vid {
    /// VLAN 1, which every port is in unless told otherwise.
    pub const DEFAULT: Self = Self(1);
    /// The highest identifier.
    pub const MAX: Self = Self(4094);

    /// `None` for 0 and for 4095 and more.
    #[must_use]
    pub const fn new(vid: u16) -> Option<Self> {
        if vid >= 1 && vid <= 4094 { Some(Self(vid)) } else { None }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Vid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Why a text names no VLAN or no set of VLANs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VlanParseError;

impl fmt::Display for VlanParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a VLAN (1-4094) or a list of them: write 10 or 10,20,100-199")
    }
}

impl core::error::Error for VlanParseError {}

impl FromStr for Vid {
    type Err = VlanParseError;

    fn from_str(text: &str) -> Result<Self, VlanParseError> {
        text.parse().ok().and_then(Self::new).ok_or(VlanParseError)
    }
}

/// Tag protocol identifier: which kind of tag a port speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Tpid {
    /// 0x8100, a C-tag, the usual one.
    #[default]
    Dot1q,
    /// 0x88A8, an S-tag of a provider bridge (802.1ad).
    Dot1ad,
}

impl Tpid {
    /// The number on the wire.
    #[must_use]
    pub const fn to_u16(self) -> u16 {
        match self {
            Self::Dot1q => 0x8100,
            Self::Dot1ad => 0x88a8,
        }
    }

    /// `None` for any other EtherType.
    #[must_use]
    pub const fn from_u16(ethertype: u16) -> Option<Self> {
        match ethertype {
            0x8100 => Some(Self::Dot1q),
            0x88a8 => Some(Self::Dot1ad),
            _ => None,
        }
    }
}

const SET_WORDS: usize = 64;

/// A set of VLANs: 4,096 bits.
#[derive(Clone, PartialEq, Eq)]
pub struct VidSet(Box<[u64; SET_WORDS]>);

impl VidSet {
    /// The empty set.
    #[must_use]
    pub fn new() -> Self {
        Self(Box::new([0; SET_WORDS]))
    }

    /// Adds one.
    pub fn insert(&mut self, vid: Vid) {
        if let Some(word) = self.0.get_mut(usize::from(vid.0 >> 6)) {
            *word |= 1 << (vid.0 & 63);
        }
    }

    /// Whether it is in.
    #[must_use]
    pub fn contains(&self, vid: Vid) -> bool {
        self.0.get(usize::from(vid.0 >> 6)).is_some_and(|word| word >> (vid.0 & 63) & 1 == 1)
    }

    /// Whether nothing is in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }

    /// All members, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Vid> + '_ {
        (1..=Vid::MAX.0).map(Vid).filter(|&vid| self.contains(vid))
    }
}

impl Default for VidSet {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for VidSet {
    /// As it is parsed: `10,20,100-199`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        let mut run: Option<(u16, u16)> = None;
        for vid in self.iter().map(Vid::get).chain([u16::MAX]) {
            match run {
                Some((first, last)) if vid == last + 1 => run = Some((first, vid)),
                Some((first, last)) => {
                    let comma = if text.is_empty() { "" } else { "," };
                    if first == last {
                        write!(text, "{comma}{first}")?
                    } else {
                        write!(text, "{comma}{first}-{last}")?
                    }
                    run = Some((vid, vid));
                }
                None => run = Some((vid, vid)),
            }
        }
        f.write_str(&text)
    }
}

impl fmt::Debug for VidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for VidSet {
    type Err = VlanParseError;

    fn from_str(text: &str) -> Result<Self, VlanParseError> {
        let mut set = Self::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (Vid, Vid) = (first.trim().parse()?, last.trim().parse()?);
            if first > last {
                return Err(VlanParseError);
            }
            for vid in first.0..=last.0 {
                set.insert(Vid(vid));
            }
        }
        Ok(set)
    }
}

/// What a port admits and how it tags.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum VlanMode {
    /// Untagged frames belong to this VLAN; so do priority-tagged ones and frames tagged with it.
    Access(Vid),
    /// Tagged frames of these VLANs; untagged frames belong to the native VLAN where there is one.
    Trunk {
        /// The VLANs admitted with a tag. The native one is admitted in any case.
        allowed: VidSet,
        /// The VLAN of untagged frames, sent untagged too.
        native: Option<Vid>,
    },
}

impl Default for VlanMode {
    fn default() -> Self {
        Self::Access(Vid::DEFAULT)
    }
}

impl VlanMode {
    /// The VLAN of a frame that comes in with `tag` (of the port's own TPID).
    ///
    /// # Errors
    /// [`DropReason::Vlan`] where the port does not admit it (L11).
    #[inline]
    pub fn classify(&self, tag: Option<Tag>) -> Result<Vid, DropReason> {
        let tagged = match tag {
            None => None,
            Some(tag) => match tag.vid_bits() {
                0 => None,
                bits => Some(Vid::new(bits).ok_or(DropReason::Vlan)?),
            },
        };
        match (self, tagged) {
            (&Self::Access(pvid), None) => Ok(pvid),
            (&Self::Access(pvid), Some(vid)) if vid == pvid => Ok(vid),
            (Self::Access(_), Some(_)) => Err(DropReason::Vlan),
            (Self::Trunk { native, .. }, None) => native.ok_or(DropReason::Vlan),
            (trunk, Some(vid)) if trunk.carries(vid) => Ok(vid),
            (Self::Trunk { .. }, Some(_)) => Err(DropReason::Vlan),
        }
    }

    /// Whether frames of `vid` may leave through the port.
    #[inline]
    #[must_use]
    pub fn carries(&self, vid: Vid) -> bool {
        match self {
            Self::Access(pvid) => *pvid == vid,
            Self::Trunk { allowed, native } => *native == Some(vid) || allowed.contains(vid),
        }
    }

    /// The tag with which a frame of `vid` leaves. `priority` is what it came with: PCP and DEI are kept (6.9.4).
    #[inline]
    #[must_use]
    pub fn egress_tag(&self, tpid: Tpid, vid: Vid, priority: Priority) -> TagOp {
        match self {
            Self::Access(_) => TagOp::Untagged,
            Self::Trunk { native, .. } if *native == Some(vid) => TagOp::Untagged,
            Self::Trunk { .. } => TagOp::Tagged(Tag { tpid, tci: priority.0 | vid.0 }),
        }
    }

    /// Calls `each` for every VLAN that the port carries.
    pub fn for_each(&self, mut each: impl FnMut(Vid)) {
        match self {
            Self::Access(pvid) => each(*pvid),
            Self::Trunk { allowed, native } => {
                allowed.iter().for_each(&mut each);
                if let Some(native) = native.filter(|native| !allowed.contains(*native)) {
                    each(native);
                }
            }
        }
    }
}

/// PCP and DEI: the high four bits of a TCI, the rest zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Priority(u16);

impl Priority {
    /// Of a frame with this tag; zero for an untagged one.
    #[must_use]
    pub const fn of(tag: Option<Tag>) -> Self {
        match tag {
            Some(tag) => Self(tag.tci & 0xf000),
            None => Self(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn sets_parse_and_print() {
        let set: VidSet = "10,20,100-102,4094".parse().unwrap();
        assert_eq!(set.to_string(), "10,20,100-102,4094");
        assert_eq!(VidSet::new().to_string(), "");
        for bad in ["", "0", "4095", "20-10", "a", "1,,2", "1-", "-1"] {
            assert!(bad.parse::<VidSet>().is_err(), "{bad}");
        }
    }
}
