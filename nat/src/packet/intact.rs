//! Checksums of layer 4 as a whole: whether one is right, and one that is still to be made. A router does neither; who takes a packet for
//! itself, or quotes it, does.
use super::*;

impl<A: Address> Packet<A> {
    /// Whether the checksum of layer 4 is right, or is still to be made, or there is none.
    pub(crate) fn is_intact(&self) -> bool {
        if self.checksum == 0 || self.is_partial() || self.part != Part::Whole || self.frame.meta.gso.is_some() {
            return true;
        }
        let is_udp = matches!(self.tuple.protocol, protocol::UDP);
        // RFC 768: zero is none; RFC 8200 8.1: never so in IPv6.
        if is_udp && !A::IS_V6 && self.word(self.checksum) == 0 {
            return true;
        }
        let payload = self.payload();
        let pseudo = if self.covers_addresses() {
            self.tuple.src.pseudo(self.tuple.dst, self.tuple.protocol, payload.len() as u32)
        } else {
            0
        };
        checksum::add(checksum::sum(payload), pseudo) == 0xffff
    }

    /// Computes a checksum that was still to be made.
    pub(crate) fn finish_checksum(&mut self) {
        if let Csum::Partial { start, offset } = core::mem::take(&mut self.frame.meta.csum) {
            let _ = checksum::finish(self.frame.bytes_mut(), usize::from(start), usize::from(offset));
        }
    }
}
