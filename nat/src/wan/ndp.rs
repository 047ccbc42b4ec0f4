//! Neighbour discovery on the uplink's link.
use super::neighbor::Said;
use super::{Router, Wan};
use crate::ndp::{self, ALL_NODES, Message};
use crate::packet::address_frame;
use core::net::Ipv6Addr;
use core::time::Duration;
use vswitch_switch::{DropReason, FrameBuf, Mac, Time, UnicastMac};

pub(super) use crate::ndp::{is_nd, link_local};

/// Takes a message; `Some`: the buffer holds an answer, for that hardware address.
pub(super) fn receive(wan: &mut Wan, frame: &mut FrameBuf, now: Time) -> Result<Option<Mac>, DropReason> {
    let (src, _, message) = ndp::read(frame)?;
    let is_ours = |address: Ipv6Addr| address == wan.link_local || wan.config.v6.iter().any(|(own, _)| *own == address);
    match message {
        Message::Solicitation { target, mac } => {
            let answers = is_ours(target);
            if let Some(mac) = mac {
                wan.learn(src.into(), mac, Said::Unasked, now);
            }
            if !answers {
                return Ok(None);
            }
            // RFC 4861 7.2.4: one who probes the address has none; all nodes hear that it is taken.
            let is_probe = src.is_unspecified();
            let dst = if is_probe { ALL_NODES } else { src };
            let asker = frame.bytes().get(6..).and_then(<[u8]>::first_chunk).map(|octets| Mac(*octets));
            let to = if is_probe { Some(ndp::group_mac(ALL_NODES)) } else { mac.map(UnicastMac::mac).or(asker) };
            wan.conflicts += u64::from(is_probe);
            Ok(to.filter(|_| ndp::write_advertisement(frame, target, dst, wan.config.mac, false)))
        }
        Message::Advertisement { target, mac, solicited, overrides } => {
            if is_ours(target) {
                wan.conflicts += u64::from(mac != Some(wan.config.mac));
                return Ok(None);
            }
            let said = if solicited { Said::Answer } else { Said::Unasked };
            match mac {
                // RFC 4861 7.2.5: of one whom we know by another hardware address, only what overrides counts.
                Some(mac) if overrides || wan.neighbors.mac(target.into()).is_none_or(|known| known == mac) => {
                    wan.learn(target.into(), mac, said, now);
                }
                // RFC 4861 4.4: to one who asked him by name, he need not say it.
                None if solicited => {
                    if let Some(mac) = wan.neighbors.mac(target.into()) {
                        wan.learn(target.into(), mac, said, now);
                    }
                }
                Some(_) | None => {}
            }
            Ok(None)
        }
        Message::Router { lifetime, mac } => {
            if lifetime == 0 {
                wan.router = wan.router.filter(|router| router.address != src);
            } else if wan.router.is_none_or(|router| router.address == src || router.until <= now) {
                wan.router = Some(Router { address: src, until: now.after(Duration::from_secs(lifetime)) });
                if let Some(mac) = mac {
                    wan.learn(src.into(), mac, Said::Unasked, now);
                }
            }
            Ok(None)
        }
        Message::RouterSolicitation { .. } | Message::Other => Ok(None),
    }
}

/// Writes a request for `target`, to its group or to the one who had it last.
pub(super) fn write_solicitation(wan: &Wan, frame: &mut FrameBuf, target: Ipv6Addr, to: Option<UnicastMac>) -> bool {
    let dst = if to.is_some() { target } else { ndp::solicited_node(target) };
    let written = ndp::write_solicitation(frame, wan.link_local, dst, target, wan.config.mac);
    address_frame(frame, to.map_or(ndp::group_mac(dst), UnicastMac::mac), wan.config.mac);
    written
}

/// Writes an unsolicited advertisement of our own address (RFC 4861 7.2.6).
pub(super) fn write_announcement(wan: &Wan, frame: &mut FrameBuf, address: Ipv6Addr) -> bool {
    let written = ndp::write_advertisement(frame, address, ALL_NODES, wan.config.mac, false);
    address_frame(frame, ndp::group_mac(ALL_NODES), wan.config.mac);
    written
}
