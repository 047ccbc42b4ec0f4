//! resolv.conf(5): the host's, as far as it concerns us, and the one that containers get.
//!
//! The nameservers are for the daemon, which asks them in containers' place; what else there is (search lists, options) is handed on.
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use vswitch_nat::gateway::dhcp::DOMAIN;

/// Where it is.
pub const FILE: &str = "/etc/resolv.conf";
/// What a file of ours begins with.
pub const SIGN: &str = "# vswitch: the gateway";
/// More nameservers are ignored (MAXNS, resolv.h).
const NAMESERVERS: usize = 3;
/// Octets of the file that are read.
const OCTETS: usize = 64 << 10;
/// Octets that are handed on at the most.
const HANDED_ON: usize = 1_024;

/// A nameserver, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nameserver {
    pub address: IpAddr,
    /// The interface of a link-local address, by name or index (RFC 4007 11).
    pub scope: Option<String>,
}

/// See the module's text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    pub nameservers: Vec<Nameserver>,
    /// Lines about names: domain, search, options.
    pub names: Vec<String>,
}

impl Nameserver {
    fn parse(word: &str) -> Option<Self> {
        let (address, scope) = match word.split_once('%') {
            Some((address, scope)) => (address, Some(scope.to_owned())),
            None => (word, None),
        };
        Some(Self { address: address.parse().ok()?, scope })
    }
}

impl ResolvConf {
    /// Lines that make no sense are left out, as the resolver does.
    pub fn parse(text: &str) -> Self {
        let mut conf = Self::default();
        let mut octets = 0;
        for line in text.lines().map(str::trim_end) {
            // A keyword begins its line; '#' and ';' there are comments.
            match line.split_once([' ', '\t']) {
                Some(("nameserver", rest)) if conf.nameservers.len() < NAMESERVERS => {
                    conf.nameservers.extend(rest.split_whitespace().next().and_then(Nameserver::parse));
                }
                Some(("domain" | "search" | "options", _)) if octets + line.len() < HANDED_ON && !has_control(line) => {
                    octets += line.len() + 1;
                    conf.names.push(line.into());
                }
                Some(_) | None => {}
            }
        }
        conf
    }

    /// The host's; without one, or what cannot be read of it, an empty one.
    pub fn of_host(file: &Path) -> Self {
        let octets = std::fs::read(file).unwrap_or_default();
        Self::parse(&String::from_utf8_lossy(octets.get(..octets.len().min(OCTETS)).unwrap_or_default()))
    }

    /// The one of a container, who asks the gateway for the names that the host asks for.
    pub fn for_container(&self, gateway: Ipv4Addr) -> String {
        let mut text = format!("{SIGN}\nnameserver {gateway}\n");
        // The last of both kinds counts (resolv.conf(5)); ours comes first.
        let is_list = |line: &&String| line.starts_with("search") || line.starts_with("domain");
        let list = self.names.iter().rfind(is_list).and_then(|line| line.split_once([' ', '\t']));
        let list = list.map_or_else(String::new, |(_, list)| format!(" {}", list.trim()));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "search {DOMAIN}{list}");
        for line in self.names.iter().filter(|line| !is_list(line)) {
            let _ = writeln!(text, "{line}");
        }
        text
    }
}

fn has_control(line: &str) -> bool {
    line.chars().any(|c| c.is_control() && c != '\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nameserver(address: &str, scope: Option<&str>) -> Nameserver {
        Nameserver { address: address.parse().unwrap(), scope: scope.map(Into::into) }
    }

    #[test]
    fn what_is_read_of_a_file() {
        let text = "# a comment\n; another\nnameserver 192.0.2.1\nnameserver\t2001:db8::1  # behind it\r\nsearch example.net example.org\n\
                    options ndots:2 edns0\nsortlist 192.0.2.0\nnameserver fe80::1%eth0\nnameserver 192.0.2.4\n";
        let conf = ResolvConf::parse(text);
        let expected = [nameserver("192.0.2.1", None), nameserver("2001:db8::1", None), nameserver("fe80::1", Some("eth0"))];
        assert_eq!(conf.nameservers, expected, "three at the most");
        assert_eq!(conf.names, ["search example.net example.org", "options ndots:2 edns0"]);
    }

    #[test]
    fn what_makes_no_sense_is_left_out() {
        for text in
            ["", "\n\n", "nameserver", "nameserver ", "nameserver example.net", "nameserver 192.0.2", "#nameserver 192.0.2.1"]
        {
            assert_eq!(ResolvConf::parse(text), ResolvConf::default(), "{text}");
        }
        assert_eq!(ResolvConf::parse(" nameserver 192.0.2.1\nnameservers 192.0.2.1"), ResolvConf::default(), "it begins its line");
        assert_eq!(ResolvConf::of_host(Path::new("/nonexistent/resolv.conf")), ResolvConf::default());
        let long = format!("search {}\noptions edns0\n", "x".repeat(HANDED_ON));
        assert_eq!(ResolvConf::parse(&long).names, ["options edns0"]);
        assert_eq!(ResolvConf::parse("search a\u{7}b\n").names, [""; 0]);
    }

    #[test]
    fn a_containers_names_the_gateway() {
        let conf = ResolvConf::parse("nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch example.net\n");
        let expected =
            "# vswitch: the gateway\nnameserver 10.88.0.1\nsearch vswitch.internal example.net\noptions edns0 trust-ad\n";
        assert_eq!(conf.for_container(Ipv4Addr::new(10, 88, 0, 1)), expected);
    }
}
