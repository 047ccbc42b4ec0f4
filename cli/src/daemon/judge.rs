//! Whether an uplink's addresses can be what they are said to be.
use super::network::Network;
use crate::errors::PublishProblem;
use std::net::IpAddr;
use vswitch_nat::flow::Address;
use vswitch_nat::wan::WanConfig;

/// Judges the addresses of `wan`, and its routers as they were given.
pub fn uplink(wan: &WanConfig, gateways: &[IpAddr], network: &Network) -> Result<(), PublishProblem> {
    let inside = network.gateway();
    addresses(&wan.v4, (inside.address, inside.prefix), network)?;
    match inside.v6 {
        Some(v6) => addresses(&wan.v6, (v6.address, v6.prefix), network)?,
        None => {
            if let Some((address, _)) = wan.v6.first() {
                return Err(PublishProblem::NoIpv6 { address: *address });
            }
        }
    }
    for (number, gateway) in gateways.iter().enumerate() {
        if gateways.iter().take(number).any(|earlier| earlier.is_ipv4() == gateway.is_ipv4()) {
            return Err(PublishProblem::SecondGateway { gateway: *gateway });
        }
        match gateway {
            IpAddr::V4(router) => router_of(&wan.v4, *router)?,
            IpAddr::V6(router) if router.is_unicast_link_local() => {}
            IpAddr::V6(router) => router_of(&wan.v6, *router)?,
        }
    }
    Ok(())
}

fn addresses<A: Address>(ours: &[(A, u8)], (inside, prefix): (A, u8), network: &Network) -> Result<(), PublishProblem> {
    for (address, length) in ours {
        // N10: what is inside and outside at once could be routed to neither.
        if address.has_prefix(inside, prefix.min(*length)) {
            return Err(PublishProblem::Inside { address: (*address).into(), network: network.to_string() });
        }
        if !is_host(*address, *length) {
            return Err(PublishProblem::NotHost { flag: "--ip", address: (*address).into() });
        }
    }
    Ok(())
}

fn router_of<A: Address>(ours: &[(A, u8)], router: A) -> Result<(), PublishProblem> {
    let gateway = router.into();
    let Some((_, length)) = ours.iter().find(|(address, length)| router.has_prefix(*address, *length)) else {
        return Err(PublishProblem::Gateway { gateway });
    };
    if ours.iter().any(|(address, _)| *address == router) {
        return Err(PublishProblem::OwnGateway { gateway });
    }
    if !is_host(router, *length) {
        return Err(PublishProblem::NotHost { flag: "--gateway", address: gateway });
    }
    Ok(())
}

/// Whether one host can have an address of a link with that length: on all but the smallest (RFC 3021, RFC 6164) the first is the
/// network's or any router's (RFC 4291 2.6.1), and in IPv4 the last is everybody's.
fn is_host<A: Address>(address: A, length: u8) -> bool {
    let host = (A::LEN as u32 * 8).saturating_sub(u32::from(length));
    let mask = u128::MAX.checked_shl(host).map_or(u128::MAX, |network| !network);
    let bits = address.bits() & mask;
    address.is_routable() && (host < 2 || (bits != 0 && (A::IS_V6 || bits != mask)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn who_can_be_a_host() {
        let v4 = |text: &str, length| is_host(text.parse::<Ipv4Addr>().unwrap(), length);
        for (text, length) in
            [("198.51.100.1", 24), ("198.51.101.0", 23), ("198.51.100.0", 31), ("198.51.100.255", 32), ("1.2.3.4", 0)]
        {
            assert!(v4(text, length), "{text}/{length}");
        }
        for (text, length) in [
            ("198.51.100.0", 24),
            ("198.51.100.255", 24),
            ("198.51.100.3", 30),
            ("127.0.0.1", 8),
            ("224.0.0.1", 24),
            ("0.0.0.0", 0),
        ] {
            assert!(!v4(text, length), "{text}/{length}");
        }
        let v6 = |text: &str, length| is_host(text.parse::<Ipv6Addr>().unwrap(), length);
        assert!(
            v6("2001:db8::1", 64)
                && v6("2001:db8::ffff", 112)
                && v6("2001:db8::", 127)
                && v6("2001:db8::", 128)
                && v6("2001:db8::1", 0)
        );
        assert!(!v6("2001:db8::", 64) && !v6("ff02::1", 64) && !v6("::1", 128) && !v6("fe80::1", 64));
    }
}
