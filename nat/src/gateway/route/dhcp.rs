//! The uplink's IPv4 address from DHCP: the client's messages, and what a lease changes.
use super::*;
use crate::wan::dhcp::{DhcpClient, DhcpEvent, Lease};

/// Between two looks at a client that names no time.
const IDLE: Duration = Duration::from_secs(60);

/// The client, and what it is to be asked for when.
#[derive(Debug)]
pub(super) struct Dhcp {
    pub(super) client: DhcpClient,
    pub(super) due: Time,
    news: Option<DhcpNews>,
}

/// What became of the address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DhcpNews {
    /// It is ours.
    Leased(Lease),
    /// It is not ours any more.
    Lost,
    /// It would be inside the containers' network (N10), and is not used.
    Inside(Lease),
}

impl Uplink {
    /// The next message to be sent.
    pub(super) fn poll_dhcp(&mut self, pool: &mut FramePool, now: Time) -> Option<FrameBuf> {
        let dhcp = self.dhcp.as_deref_mut()?;
        if dhcp.due > now || pool.available() == 0 {
            return None;
        }
        dhcp.client.poll(now);
        let mut frame = pool.take()?;
        if dhcp.client.next_frame(&mut frame) {
            return Some(frame);
        }
        pool.put(frame);
        dhcp.due = dhcp.client.deadline(now).unwrap_or_else(|| now.after(IDLE)).max(Time::from_nanos(now.nanos() + 1));
        None
    }

    pub(super) fn take_lease(&mut self) -> Option<DhcpEvent> {
        self.dhcp.as_deref_mut()?.client.event()
    }
}

impl Gateway {
    /// Asks for the uplink's IPv4 address by DHCP from now on; what it has stays until there is a lease.
    pub fn start_dhcp(&mut self) {
        // Not the key itself, which hashes and ports depend on: the transactions on the wire tell the seed.
        let [a, b] = self.key;
        let seed = Random::new([!a, b]).bits();
        if let Some(uplink) = self.uplink.as_deref_mut() {
            let client = DhcpClient::new(uplink.wan.config().mac, seed);
            uplink.dhcp = Some(Box::new(Dhcp { client, due: Time::ZERO, news: None }));
        }
    }

    /// Asks no longer.
    pub fn stop_dhcp(&mut self) {
        if let Some(uplink) = self.uplink.as_deref_mut() {
            uplink.dhcp = None;
        }
    }

    /// What became of the address since the last call.
    pub fn dhcp_news(&mut self) -> Option<DhcpNews> {
        self.uplink.as_deref_mut()?.dhcp.as_deref_mut()?.news.take()
    }

    pub(super) fn lease(&mut self, event: DhcpEvent, now: Time) {
        let Some(uplink) = self.uplink.as_deref_mut() else { return };
        let mut wan = uplink.wan.config().clone();
        let inside = self.config;
        let (v4, gateway, news) = match event {
            DhcpEvent::Leased(lease)
                if inside.is_inside(lease.address) || inside.address.has_prefix(lease.address, lease.prefix) =>
            {
                (vec![], None, DhcpNews::Inside(lease))
            }
            DhcpEvent::Leased(lease) => (vec![(lease.address, lease.prefix)], lease.gateway, DhcpNews::Leased(lease)),
            DhcpEvent::Lost => (vec![], None, DhcpNews::Lost),
        };
        if let Some(dhcp) = uplink.dhcp.as_deref_mut() {
            dhcp.news = Some(news);
        }
        (wan.v4, wan.gateway_v4) = (v4, gateway);
        self.readdress(wan, now);
    }
}
