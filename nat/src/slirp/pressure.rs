//! Pressure: who has a socket when there are not enough for all.
//!
//! Theory. Sockets are bounded by the process's limit of open files ([`Exchange::set_limit`]), so that a table is full before the kernel
//! refuses a socket. Three bounds, in this order:
//! 1. A container has at most its own limit of sessions ([`crate::station::Limits`]).
//! 2. It has at most [`SHARE`] times as many sessions as sockets are free (the dynamic threshold of Choudhury and Hahne, 1998): the more
//!    there are, the fewer each may have, so that one alone leaves a quarter to the others. Under 3/16 of the limit nobody is refused so.
//! 3. Where no socket is free, the datagram session that gives way is one that nobody answered, the longest idle first; then an answered one
//!    that is idle for [`super::datagrams::IDLE`]. A TCP flow never does; where nothing gives way, the new one is refused.
//!
//! Who is refused is told (ICMP prohibited, RFC 5508 REQ-8), and it is counted: `nat-quota` for 1 and 2, `nat-full` for 3.
use super::datagrams::MAPPINGS;
use super::exchange::Exchange;
use super::flows::FLOWS;
use crate::station::Stations;
use vswitch_switch::{DropReason, Time};

/// Times what is free that one container may have.
const SHARE: usize = 3;
/// Sessions that give way for one new socket at the most.
const GIVING_WAY: u32 = 32;

impl Exchange {
    /// Sockets that flows and mappings may have together; what there is beyond it goes on.
    pub const fn set_limit(&mut self, sockets: usize) {
        self.limit = if sockets < FLOWS + MAPPINGS { sockets } else { FLOWS + MAPPINGS };
    }

    /// Sockets that more flows and mappings may have.
    pub(super) fn free_sockets(&self) -> usize {
        self.limit.saturating_sub(self.flows.len() + self.datagrams.mappings().len())
    }

    /// Makes room for one more socket of a container's, or says why it may have none.
    pub(super) fn make_room(&mut self, stations: &mut Stations, port: u16, is_flow: bool, now: Time) -> Result<(), DropReason> {
        if !stations.may_have_session(port) {
            return Err(DropReason::NatQuota);
        }
        let most = SHARE * self.free_sockets().max(self.limit / 16).max(1);
        if stations.usage(port).0 as usize >= most {
            return Err(DropReason::NatQuota);
        }
        if is_flow && self.flows.len() >= FLOWS {
            return Err(DropReason::NatFull);
        }
        let has_room = |it: &Self| it.free_sockets() > 0 && (is_flow || it.datagrams.mappings().len() < MAPPINGS);
        for _ in 0..GIVING_WAY {
            if has_room(self) || !self.datagrams.give_way(stations, now) {
                break;
            }
        }
        if has_room(self) { Ok(()) } else { Err(DropReason::NatFull) }
    }
}
