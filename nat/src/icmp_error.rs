//! ICMP errors: those of others, translated with the packet they quote, and our own.
use crate::nat::{Family, Nat, Translated};
use crate::packet::Packet;
use crate::station::Stations;
use vswitch_switch::{DropReason, Time};

impl Nat {
    pub(crate) fn error_outbound<A: Family>(
        &mut self,
        stations: &mut Stations,
        p: &mut Packet<A>,
        port: u16,
        now: Time,
    ) -> Result<Translated, DropReason> {
        let _ = (stations, p, port, now);
        Err(DropReason::NatState)
    }

    pub(crate) fn error_inbound<A: Family>(
        &mut self,
        stations: &mut Stations,
        p: &mut Packet<A>,
        now: Time,
    ) -> Result<Translated, DropReason> {
        let _ = (stations, p, now);
        Err(DropReason::Unsolicited)
    }
}
