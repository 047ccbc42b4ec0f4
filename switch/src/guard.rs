//! Who owns which source address (L08): the switch its own, a guarded port the one it is bound to. A guarded port is
//! checked by one comparison; only an unguarded one needs this table.
use crate::mac::UnicastMac;
use crate::port::PortId;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// Address -> owner. As large as there are guarded ports.
#[derive(Debug)]
pub struct Owners(HashMap<UnicastMac, PortId, FixedState>);

impl Owners {
    /// Nobody owns anything.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(HashMap::with_hasher(FixedState::with_seed(seed)))
    }

    /// Who owns it.
    #[must_use]
    pub fn owner(&self, mac: UnicastMac) -> Option<PortId> {
        self.0.get(&mac).copied()
    }

    /// Binds an address; `false`, and nothing changes, when another port owns it.
    #[must_use]
    pub fn bind(&mut self, mac: UnicastMac, port: PortId) -> bool {
        *self.0.entry(mac).or_insert(port) == port
    }

    /// Lets go what `port` owns of this address.
    pub fn release(&mut self, mac: UnicastMac, port: PortId) {
        if self.owner(mac) == Some(port) {
            self.0.remove(&mac);
        }
    }
}
