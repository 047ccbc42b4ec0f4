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
    /// What is probed before it is used.
    probing: Option<Lease>,
}

/// What became of the address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DhcpNews {
    /// It is ours.
    Leased(Lease),
    /// It is not ours any more.
    Lost,
    /// Somebody else has it: it was declined, and another is asked for.
    Taken(Lease),
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

    /// What has become of the address, once it is known whether it is free. RFC 2131 4.4.1, RFC 5227 2.1: a new one is probed first.
    pub(super) fn take_lease(&mut self, now: Time) -> Option<DhcpEvent> {
        let probed = self.wan.probed();
        let dhcp = self.dhcp.as_deref_mut()?;
        if let Some(probed) = probed
            && let Some(lease) = dhcp.probing.take_if(|lease| lease.address == probed.address)
        {
            if probed.is_free {
                return Some(DhcpEvent::Leased(lease));
            }
            dhcp.client.decline(now);
            (dhcp.due, dhcp.news) = (Time::ZERO, Some(DhcpNews::Taken(lease)));
        }
        match dhcp.client.event()? {
            DhcpEvent::Leased(lease) if !self.wan.config().v4.iter().any(|(own, _)| *own == lease.address) => {
                dhcp.probing = Some(lease);
                self.wan.probe(lease.address, now);
                None
            }
            event @ (DhcpEvent::Leased(_) | DhcpEvent::Lost) => {
                dhcp.probing = None;
                self.wan.end_probe();
                // Of one that was not used, nobody has heard.
                Some(event).filter(|event| *event != DhcpEvent::Lost || !self.wan.config().v4.is_empty())
            }
        }
    }

    /// The uplink's interface is back; its link may be another.
    pub fn link_is_back(&mut self, now: Time) {
        self.wan.announce_all(now);
        if let Some(dhcp) = self.dhcp.as_deref_mut() {
            dhcp.client.reconfirm(now);
            dhcp.due = Time::ZERO;
            if let Some(lease) = dhcp.probing {
                self.wan.probe(lease.address, now);
            }
        }
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
            uplink.wan.end_probe();
            uplink.dhcp = Some(Box::new(Dhcp { client, due: Time::ZERO, news: None, probing: None }));
        }
    }

    /// Asks no longer.
    pub fn stop_dhcp(&mut self) {
        if let Some(uplink) = self.uplink.as_deref_mut() {
            uplink.dhcp = None;
            uplink.wan.end_probe();
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

#[cfg(test)]
mod tests {
    use super::super::super::{Gateway, GatewayConfig};
    use super::*;
    use crate::wan::dhcp::tests::{ACK, Asked, DECLINE, DISCOVER, GIVEN, OFFER, OWN, REQUEST, SERVER_MAC, answer};
    use crate::wan::probe::{INTERVAL, PROBES};
    use alloc::vec::Vec;
    use vswitch_switch::{FramePool, Mac, UnicastMac};

    const OTHER: [u8; 6] = [0x02, 0x11, 0, 0, 0, 7];

    struct Stage {
        gateway: Gateway,
        pool: FramePool,
        now: Time,
        /// Seconds and milliseconds of the probes seen, and the messages not yet answered.
        probes: Vec<Time>,
        asked: Vec<Asked>,
    }

    impl Stage {
        fn new() -> Self {
            let mac = UnicastMac::for_ipv4([10, 0, 0, 1]);
            let inside = GatewayConfig { mac, address: Ipv4Addr::new(10, 0, 0, 1), prefix: 24, v6: None };
            let mut gateway = Gateway::new(inside, [1, 2]);
            let mac = UnicastMac::new(Mac(OWN)).unwrap();
            let wan = WanConfig { mac, mtu: 1_500, v4: vec![], v6: vec![], gateway_v4: None, gateway_v6: None };
            let nat = NatConfig { sessions_v4: 16, sessions_v6: 16, mappings: 16, ..NatConfig::default() };
            gateway.set_uplink(nat, wan, Time::from_secs(1_000));
            gateway.start_dhcp();
            Self { gateway, pool: FramePool::new(8), now: Time::from_secs(1_000), probes: vec![], asked: vec![] }
        }

        fn poll(&mut self) {
            // As often as it is due.
            while self.gateway.deadline().is_some_and(|due| due <= self.now) {
                while let Some(output) = self.gateway.poll_output(&mut self.pool, self.now) {
                    let Routed::Generated(Side::Uplink, frame) = output else { panic!("{output:?}") };
                    let octets = frame.bytes();
                    if is_probe(octets) {
                        self.probes.push(self.now);
                    } else if octets[12..14] == [8, 0] {
                        self.asked.push(Asked::read(octets));
                    }
                    self.pool.put(frame);
                }
            }
        }

        fn hear(&mut self, octets: &[u8]) {
            let mut frame = FramePool::new(1).take().unwrap();
            assert!(frame.fill(octets));
            assert!(matches!(self.gateway.from_uplink(frame, self.now), Routed::Consumed(_)));
            self.poll();
        }

        /// To the ACK.
        fn lease(&mut self) {
            for (question, kind) in [(DISCOVER, OFFER), (REQUEST, ACK)] {
                self.poll();
                let asked = self.asked.pop().unwrap();
                assert_eq!((asked.kind, self.asked.len()), (question, 0));
                self.hear(&answer(kind, asked.xid));
            }
        }

        fn pass(&mut self, time: Duration) {
            let end = self.now.after(time);
            while self.now < end {
                self.now = self.now.after(Duration::from_millis(100));
                self.poll();
            }
        }

        fn addresses(&self) -> &[(Ipv4Addr, u8)] {
            &self.gateway.uplink().unwrap().wan.config().v4
        }
    }

    /// From nobody, for the address given.
    fn is_probe(octets: &[u8]) -> bool {
        octets[12..14] == [8, 6] && octets[28..32] == [0; 4] && octets[38..42] == GIVEN
    }

    /// An ARP packet of `mac` and `source` about `target`.
    fn arp(operation: u8, mac: [u8; 6], source: [u8; 4], target: [u8; 4]) -> Vec<u8> {
        let header = [8, 6, 0, 1, 8, 0, 6, 4, 0, operation];
        [&[0xff; 6][..], &mac, &header, &mac, &source, &[0; 6], &target].concat()
    }

    #[test]
    fn a_new_address_is_probed_before_it_is_used() {
        let mut stage = Stage::new();
        stage.lease();
        assert_eq!((stage.gateway.dhcp_news(), stage.addresses()), (None, &[][..]), "not yet");
        stage.pass(Duration::from_secs(5));
        let begin = Time::from_secs(1_000);
        let times: Vec<Time> = (0..u32::from(PROBES)).map(|number| begin.after(INTERVAL * number)).collect();
        assert_eq!(stage.probes, times);
        assert_eq!(stage.addresses(), [(Ipv4Addr::from(GIVEN), 24)]);
        assert!(matches!(stage.gateway.dhcp_news(), Some(DhcpNews::Leased(_))));
        // When the link is back the lease is asked about, and is not probed: it is ours.
        stage.gateway.uplink_mut().unwrap().0.link_is_back(stage.now);
        stage.poll();
        let asked = stage.asked.pop().unwrap();
        assert_eq!(asked.kind, REQUEST);
        stage.hear(&answer(ACK, asked.xid));
        stage.pass(Duration::from_secs(5));
        assert_eq!((stage.probes.len(), stage.gateway.dhcp_news()), (usize::from(PROBES), None));
    }

    /// RFC 5227 2.1.1: whoever answers, claims it or probes it too.
    #[test]
    fn an_address_that_somebody_has_is_declined_and_never_used() {
        for packet in [arp(2, OTHER, GIVEN, GIVEN), arp(1, OTHER, GIVEN, [192, 0, 2, 7]), arp(1, OTHER, [0; 4], GIVEN)] {
            let mut stage = Stage::new();
            stage.lease();
            stage.pass(INTERVAL);
            stage.hear(&packet);
            let declined = stage.asked.pop().unwrap();
            assert_eq!((declined.kind, stage.asked.len(), stage.addresses()), (DECLINE, 0, &[][..]));
            let Some(DhcpNews::Taken(lease)) = stage.gateway.dhcp_news() else { panic!("it is news") };
            assert_eq!(lease.address, Ipv4Addr::from(GIVEN));
            stage.pass(Duration::from_secs(9));
            assert!(stage.asked.is_empty(), "RFC 2131 3.1 (5): ten seconds");
            stage.pass(Duration::from_secs(1));
            stage.lease();
            stage.pass(Duration::from_secs(2));
            assert_eq!(stage.addresses().len(), 1, "he is gone");
        }
    }

    #[test]
    fn what_others_say_of_other_addresses_and_our_own_echo_are_no_conflict() {
        let mut stage = Stage::new();
        stage.lease();
        for packet in [
            arp(1, OWN, [0; 4], GIVEN),
            arp(1, OTHER, [0; 4], [192, 0, 2, 51]),
            arp(1, SERVER_MAC, [192, 0, 2, 1], GIVEN),
            arp(2, OTHER, [192, 0, 2, 51], GIVEN),
        ] {
            stage.hear(&packet);
        }
        stage.pass(Duration::from_secs(2));
        assert_eq!(stage.addresses().len(), 1);
    }
}
