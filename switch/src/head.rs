//! [`Head`]: what a switch may judge of a frame. Two addresses, a tag, an EtherType; never what follows, for a switch
//! must carry garbage at layer 3.
use crate::drop::DropReason;
use crate::frame::Tag;
use crate::mac::{Mac, UnicastMac};

/// Octets of an untagged Ethernet header: two addresses and the EtherType.
pub const ETHERNET_HEADER: usize = 14;

/// An EtherType, or an 802.3 length when below 0x0600. Both are carried alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct EtherType(pub u16);

impl EtherType {
    /// Internet Protocol version 4.
    pub const IPV4: Self = Self(0x0800);
    /// Address Resolution Protocol.
    pub const ARP: Self = Self(0x0806);
    /// Internet Protocol version 6.
    pub const IPV6: Self = Self(0x86dd);
    /// IEEE 802 local experimental EtherType 1: our loop probes.
    pub const EXPERIMENTAL: Self = Self(0x88b5);
}

/// A frame's layer 2 header, parsed once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// Destination.
    pub dst: Mac,
    /// Source, a station's by type (L02).
    pub src: UnicastMac,
    /// The outer tag, which is metadata by now, not octets.
    pub tag: Option<Tag>,
    /// What follows the addresses.
    pub ethertype: EtherType,
    /// Octets from the frame's start to the payload.
    pub l3: u16,
}

impl Head {
    /// Parses the first 14 octets; `tag` is the frame's metadata.
    ///
    /// # Errors
    /// [`DropReason::Runt`] below 14 octets, [`DropReason::SourceInvalid`] for a group or zero source (L02).
    #[inline]
    pub fn parse(frame: &[u8], tag: Option<Tag>) -> Result<Self, DropReason> {
        let &[d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1, ..] = frame else {
            return Err(DropReason::Runt);
        };
        let src = UnicastMac::new(Mac([s0, s1, s2, s3, s4, s5])).ok_or(DropReason::SourceInvalid)?;
        Ok(Self {
            dst: Mac([d0, d1, d2, d3, d4, d5]),
            src,
            tag,
            ethertype: EtherType(u16::from_be_bytes([t0, t1])),
            l3: ETHERNET_HEADER as u16,
        })
    }
}
