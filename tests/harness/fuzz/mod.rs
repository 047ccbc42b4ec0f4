//! What the fuzz targets run, one function a target: on stable too, where `tests/regression.rs` replays the corpora.
pub mod datapath;
pub mod dhcp;
pub mod dns;
pub mod head;
pub mod inspect;
pub mod ipv6_services;
pub mod made;
pub mod nat;
pub mod slirp_tcp;
pub mod switch;

/// An input, taken apart from its front.
pub(crate) struct Commands<'a>(pub(crate) &'a [u8]);

impl<'a> Commands<'a> {
    pub(crate) fn octets<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (octets, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*octets)
    }

    pub(crate) fn slice(&mut self, length: u8) -> &'a [u8] {
        let (octets, rest) = self.0.split_at(self.0.len().min(usize::from(length)));
        self.0 = rest;
        octets
    }
}
