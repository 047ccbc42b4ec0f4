//! Datagrams of the host's for containers, whole or in pieces that fit the container's link.
use vswitch_nat::Gateway;
use vswitch_nat::fragment::Fragmenter;
use vswitch_nat::slirp::wire::Ip;
use vswitch_switch::head::ETHERNET_HEADER;
use vswitch_switch::{FrameBuf, FramePool};

/// One that is being cut, and what the next one is called.
#[derive(Debug, Default)]
pub(crate) struct Fitter {
    /// The identification of the last datagram that may be cut. A counter will do (RFC 7739 5.3): they go no further than a container.
    id: u32,
    cutting: Option<Fragmenter>,
}

impl Fitter {
    /// Whether pieces wait.
    pub(crate) const fn has_work(&self) -> bool {
        self.cutting.is_some()
    }

    /// Sees to it that a datagram fits its container's link: whole, or the first of its fragments.
    pub(crate) fn fit(
        &mut self,
        gateway: &Gateway,
        port: u16,
        frame: FrameBuf,
        pool: &mut FramePool,
    ) -> Result<FrameBuf, FrameBuf> {
        let mtu = gateway.stations.station(port).map_or(u16::MAX, |station| station.mtu);
        if frame.mtu_len() <= usize::from(mtu) {
            return Ok(frame);
        }
        let Some(spare) = pool.take() else { return Err(frame) };
        match Fragmenter::originate(frame, ETHERNET_HEADER, usize::from(mtu), self.id) {
            Ok(mut fragmenter) => {
                let mut first = spare;
                let is_cut = fragmenter.next_into(&mut first);
                self.cutting = Some(fragmenter);
                if is_cut { Ok(first) } else { Err(first) }
            }
            Err((frame, _)) => {
                pool.put(spare);
                Err(frame)
            }
        }
    }

    /// The header of a datagram that may be cut, with an identification of its own.
    pub(crate) fn cuttable(&mut self) -> Ip {
        self.id = self.id.wrapping_add(1);
        Ip { id: Some(self.id as u16), ..Ip::WHOLE }
    }

    /// The next piece.
    pub(crate) fn poll(&mut self, pool: &mut FramePool) -> Option<FrameBuf> {
        let fragmenter = self.cutting.as_mut()?;
        let mut frame = pool.take()?;
        if fragmenter.next_into(&mut frame) {
            return Some(frame);
        }
        pool.put(frame);
        if let Some(fragmenter) = self.cutting.take() {
            pool.put(fragmenter.into_frame());
        }
        None
    }
}
