//! Rules of where a container may go, as `--allow`, `--deny` and the setting `reach` have them.
//!
//! The setting is one list, so that the order is kept: `allow:10.0.0.53:53/udp,deny:10.0.0.0/8,allow:host-loopback`. The first rule that
//! matches decides; what none matches is allowed. `host-loopback` and `link-local` are no rules but permissions, wherever they stand, and only
//! the socket uplink knows them. `all` is 0.0.0.0/0 and ::/0.
use crate::errors::ReachProblem;
use anyhow::{Context, Result};
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use vswitch_nat::flow::protocol;
use vswitch_nat::slirp::reach::{RULES, Reach, ReachRule};

const HOST_LOOPBACK: &str = "host-loopback";
const LINK_LOCAL: &str = "link-local";
const ALL: &str = "all";

/// Reads the setting's value; empty is the default.
pub fn parse(list: &str) -> Result<Reach> {
    let mut reach = Reach::default();
    for (number, entry) in (1..).zip(list.split(',')).filter(|_| !list.is_empty()) {
        add_entry(&mut reach, entry).with_context(|| format!("rule {number}"))?;
    }
    if reach.rules.len() > RULES {
        return Err(ReachProblem::Many.into());
    }
    Ok(reach)
}

/// Writes the value that [`parse`] reads.
pub fn describe(reach: &Reach) -> String {
    let mut entries = Vec::new();
    entries.extend(reach.host_loopback.then(|| format!("allow:{HOST_LOOPBACK}")));
    entries.extend(reach.link_local.then(|| format!("allow:{LINK_LOCAL}")));
    entries.extend(reach.rules.iter().map(rule_text));
    entries.join(",")
}

fn add_entry(reach: &mut Reach, entry: &str) -> Result<(), ReachProblem> {
    match entry.split_once(':') {
        Some(("allow", rule)) => add(reach, true, rule),
        Some(("deny", rule)) => add(reach, false, rule),
        Some(_) | None => Err(ReachProblem::NoVerb { entry: entry.into() }),
    }
}

/// Adds a rule as `--allow` and `--deny` take it.
pub fn add(reach: &mut Reach, allow: bool, rule: &str) -> Result<(), ReachProblem> {
    match rule {
        HOST_LOOPBACK | LINK_LOCAL if !allow => return Err(ReachProblem::DeniedAnyway { word: rule.into() }),
        HOST_LOOPBACK => reach.host_loopback = true,
        LINK_LOCAL => reach.link_local = true,
        ALL => {
            for net in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
                reach.rules.push(ReachRule { allow, net, prefix: 0, port: None, protocol: None });
            }
        }
        _ => reach.rules.push(parse_rule(allow, rule)?),
    }
    Ok(())
}

fn parse_rule(allow: bool, rule: &str) -> Result<ReachRule, ReachProblem> {
    let (net, behind) = ends(rule);
    let (net, prefix) = parse_net(net).ok_or_else(|| ReachProblem::Net { rule: rule.into() })?;
    let Some(behind) = behind else { return Ok(ReachRule { allow, net, prefix, port: None, protocol: None }) };
    let (port, number) = behind.split_once('/').map_or((behind, None), |(port, number)| (port, Some(number)));
    let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(|| ReachProblem::Port { rule: rule.into() })?;
    let protocol = match number {
        None => None,
        Some("tcp") => Some(protocol::TCP),
        Some("udp") => Some(protocol::UDP),
        Some(_) => return Err(ReachProblem::Protocol { rule: rule.into() }),
    };
    Ok(ReachRule { allow, net, prefix, port: Some(port), protocol })
}

/// A rule's network, and what is behind the colon.
fn ends(rule: &str) -> (&str, Option<&str>) {
    if let Some((net, behind)) = rule.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return match behind.strip_prefix(':') {
            Some(port) => (net, Some(port)),
            None if behind.is_empty() => (net, None),
            // Not a network, which is what it is refused for.
            None => (rule, None),
        };
    }
    match rule.split_once(':') {
        // More than one is an IPv6 address.
        Some((net, behind)) if !behind.contains(':') => (net, Some(behind)),
        Some(_) | None => (rule, None),
    }
}

/// Address and prefix; host bits are cleared.
fn parse_net(net: &str) -> Option<(IpAddr, u8)> {
    let (address, prefix) = net.split_once('/').map_or((net, None), |(address, prefix)| (address, Some(prefix)));
    let address: IpAddr = address.parse().ok()?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        Some(prefix) => prefix.parse().ok().filter(|prefix| *prefix <= bits)?,
        None => bits,
    };
    let host = u32::from(bits - prefix);
    let net = match address {
        IpAddr::V4(address) => IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & u32::MAX.checked_shl(host).unwrap_or_default())),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & u128::MAX.checked_shl(host).unwrap_or_default())),
    };
    Some((net, prefix))
}

fn rule_text(rule: &ReachRule) -> String {
    let verb = if rule.allow { "allow" } else { "deny" };
    let full = if rule.net.is_ipv4() { 32 } else { 128 };
    let net = if rule.prefix == full { rule.net.to_string() } else { format!("{}/{}", rule.net, rule.prefix) };
    let mut text = if rule.net.is_ipv6() && rule.port.is_some() { format!("{verb}:[{net}]") } else { format!("{verb}:{net}") };
    // Writing to a String cannot fail.
    if let Some(port) = rule.port {
        let _ = write!(text, ":{port}");
    }
    match rule.protocol {
        Some(protocol::TCP) => text += "/tcp",
        Some(protocol::UDP) => text += "/udp",
        // [`parse`] makes no other.
        Some(_) | None => {}
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(list: &str) -> String {
        format!("{:#}", parse(list).unwrap_err())
    }

    #[test]
    fn a_list_is_read_in_its_order() {
        let rule =
            |allow, net: &str, prefix, port, protocol| ReachRule { allow, net: net.parse().unwrap(), prefix, port, protocol };
        assert_eq!(parse("").unwrap(), Reach::default());
        let list = "allow:10.0.0.53:53/udp,deny:10.1.2.3/8,allow:host-loopback,deny:[fd00::1/8]:443/tcp,allow:[::5]:1,deny:2001:db8::1,\
                    allow:link-local,deny:all,deny:192.0.2.0/24:25";
        assert_eq!(
            parse(list).unwrap(),
            Reach {
                host_loopback: true,
                link_local: true,
                rules: vec![
                    rule(true, "10.0.0.53", 32, Some(53), Some(17)),
                    rule(false, "10.0.0.0", 8, None, None),
                    rule(false, "fd00::", 8, Some(443), Some(6)),
                    rule(true, "::5", 128, Some(1), None),
                    rule(false, "2001:db8::1", 128, None, None),
                    rule(false, "0.0.0.0", 0, None, None),
                    rule(false, "::", 0, None, None),
                    rule(false, "192.0.2.0", 24, Some(25), None),
                ],
            }
        );
        assert_eq!(
            describe(&parse(list).unwrap()),
            "allow:host-loopback,allow:link-local,allow:10.0.0.53:53/udp,deny:10.0.0.0/8,deny:[fd00::/8]:443/tcp,allow:[::5]:1,\
             deny:2001:db8::1,deny:0.0.0.0/0,deny:::/0,deny:192.0.2.0/24:25"
        );
    }

    #[test]
    fn what_is_described_is_read_again() {
        for list in ["", "allow:host-loopback", "deny:all", "allow:[2001:db8::/32]:53/udp,deny:::/0", "deny:192.0.2.1:1/tcp"] {
            let reach = parse(list).unwrap();
            assert_eq!(parse(&describe(&reach)).unwrap(), reach, "{list}");
        }
    }

    #[test]
    fn what_is_no_rule_says_where_and_why() {
        for (list, wanted) in [
            ("10.0.0.0/8", "rule 1: \"10.0.0.0/8\" neither allows nor denies: write allow:RULE or deny:RULE"),
            ("deny:all,", "rule 2: \"\" neither allows nor denies: write allow:RULE or deny:RULE"),
            ("deny:all,permit:all", "rule 2: \"permit:all\" neither allows nor denies: write allow:RULE or deny:RULE"),
        ] {
            assert_eq!(error(list), wanted, "{list}");
        }
        for (list, part) in [
            ("deny:", "rule 1: \"\" is no rule"),
            ("deny:10.0.0.0/33", "\"10.0.0.0/33\" is no rule"),
            ("deny:2001:db8::/129", "is no rule"),
            ("deny:[2001:db8::1]443", "is no rule"),
            ("deny:example.org", "is no rule"),
            ("deny:10.0.0.1:0", "1 to 65535"),
            ("deny:10.0.0.1:65536", "1 to 65535"),
            ("deny:10.0.0.1:", "1 to 65535"),
            ("deny:10.0.0.1:53/icmp", "/tcp or /udp"),
            ("deny:host-loopback", "leave deny:host-loopback out"),
            ("deny:link-local", "leave deny:link-local out"),
        ] {
            assert!(error(list).contains(part), "{list}: {}", error(list));
        }
        assert!(parse(&["deny:all"; RULES / 2].join(",")).is_ok());
        assert!(error(&["deny:all"; RULES / 2 + 1].join(",")).contains("at most 256"));
    }
}
