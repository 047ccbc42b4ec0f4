//! What goes wrong, in one table: the errors that the command line's user reads.
//!
//! The rule: one line, `what: remedy`, which `main` prints on standard error as `vswitch VERB: what: remedy`. The exit status is that of
//! [`Problem::exit_code`]: 1, or 3 where no daemon runs. 2 is a usage error, which clap gives; `run` and `exec` end with 125 to 127 instead,
//! as Docker does.
//!
//! To add one: a variant with its text here, a line in `row` and one in `table` of the tests below. Some errors are not here yet, but
//! strings where they arise.
use std::net::Ipv4Addr;
use std::path::PathBuf;
use thiserror::Error;
use vswitch_io::link::{MTU_MAX, MTU_MIN};
use vswitch_switch::UnicastMac;

/// An error that a user reads.
#[derive(Debug, Error)]
pub enum Problem {
    #[error("vswitch was killed and is ending: \"vswitch up\" again, or attach something")]
    DaemonEnding,
    #[error("no vswitch runs for {user}, one runs for root: \"sudo vswitch show\", or start yours with \"vswitch up\"")]
    DaemonOfRoot { user: String },
    #[error("no vswitch runs for {user} (no {}): \"vswitch up\", or attach something", .socket.display())]
    NoDaemon { user: String, socket: PathBuf },
    #[error("vswitch has just ended, see {}: \"vswitch up\", or attach something", .log.display())]
    DaemonEnded { log: PathBuf },
    #[error("the daemon closed the connection: see {}", .log.display())]
    Closed { log: PathBuf },
    #[error("cannot reach the daemon at {} ({error}): run as the user who started it", .socket.display())]
    Unreachable { socket: PathBuf, error: std::io::Error },
    #[error("nothing is attached as \"{name}\": \"vswitch attach\" first")]
    NothingAttached { name: String },
    #[error("nothing is attached as \"{name}\": \"vswitch show\" lists what is")]
    NotAttached { name: String },
    #[error("--mtu {mtu} cannot be set: choose {MTU_MIN} to {MTU_MAX}")]
    Mtu { mtu: u16 },
    #[error("this namespace is already attached as {at}: \"vswitch detach {other}\" first")]
    NamespaceAttached { at: String, other: String },
    #[error("the name is taken by {at}: pass --name, or \"vswitch detach {other}\" first")]
    NameTaken { at: String, other: String },
    #[error("--mac {mac} is the gateway's: choose another")]
    MacOfGateway { mac: UnicastMac },
    #[error("--mac {mac} is taken by {at}: choose another")]
    MacTaken { mac: UnicastMac, at: String },
    #[error("--ip {ip} is taken by {at}: choose another, or leave it out")]
    IpTaken { ip: Ipv4Addr, at: String },
    #[error("--ip {ip} is the gateway's: choose {range}")]
    IpOfGateway { ip: Ipv4Addr, range: String },
    #[error("--ip {ip} is outside network {network}: choose {range}, or \"vswitch up --subnet\"")]
    IpOutside { ip: Ipv4Addr, network: String, range: String },
    #[error("\"{name}\" means the {name} itself: pass another --name")]
    NameReserved { name: String },
}

impl Problem {
    /// The exit status: 3 where no daemon runs, else 1.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::DaemonEnding | Self::DaemonOfRoot { .. } | Self::NoDaemon { .. } | Self::DaemonEnded { .. } => NO_DAEMON,
            Self::Closed { .. }
            | Self::Unreachable { .. }
            | Self::NothingAttached { .. }
            | Self::NotAttached { .. }
            | Self::Mtu { .. }
            | Self::NamespaceAttached { .. }
            | Self::NameTaken { .. }
            | Self::MacOfGateway { .. }
            | Self::MacTaken { .. }
            | Self::IpTaken { .. }
            | Self::IpOfGateway { .. }
            | Self::IpOutside { .. }
            | Self::NameReserved { .. } => FAILED,
        }
    }
}

/// Something failed.
const FAILED: u8 = 1;
/// No daemon runs. (2 is a usage error.)
const NO_DAEMON: u8 = 3;

/// The exit status for an error of any kind.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    error.downcast_ref::<Problem>().map_or(FAILED, Problem::exit_code)
}

/// Whether it says that no daemon runs.
pub fn is_no_daemon(error: &anyhow::Error) -> bool {
    exit_code(error) == NO_DAEMON
}

/// Whether it says that the daemon closed the connection instead of answering.
pub fn is_closed(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Problem::Closed { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Variants, as `row` numbers them.
    const ROWS: usize = 17;

    /// The variant's number: without a wildcard, so that a new variant does not compile before it has one.
    const fn row(problem: &Problem) -> usize {
        match problem {
            Problem::DaemonEnding => 0,
            Problem::DaemonOfRoot { .. } => 1,
            Problem::NoDaemon { .. } => 2,
            Problem::DaemonEnded { .. } => 3,
            Problem::Closed { .. } => 4,
            Problem::Unreachable { .. } => 5,
            Problem::NothingAttached { .. } => 6,
            Problem::NotAttached { .. } => 7,
            Problem::Mtu { .. } => 8,
            Problem::NamespaceAttached { .. } => 9,
            Problem::NameTaken { .. } => 10,
            Problem::MacOfGateway { .. } => 11,
            Problem::MacTaken { .. } => 12,
            Problem::IpTaken { .. } => 13,
            Problem::IpOfGateway { .. } => 14,
            Problem::IpOutside { .. } => 15,
            Problem::NameReserved { .. } => 16,
        }
    }

    fn table() -> Vec<(Problem, u8, &'static str)> {
        let ip = Ipv4Addr::new(10, 88, 0, 2);
        let mac = UnicastMac::for_ipv4(ip.octets());
        let (at, other) = ("\"web\" (port 1, 10.88.0.2)", "web");
        let (name, range) = ("web", "10.88.0.2-10.88.15.254");
        vec![
            (Problem::DaemonEnding, 3, "vswitch was killed and is ending: \"vswitch up\" again, or attach something"),
            (
                Problem::DaemonOfRoot { user: "alice".into() },
                3,
                "no vswitch runs for alice, one runs for root: \"sudo vswitch show\", or start yours with \"vswitch up\"",
            ),
            (
                Problem::NoDaemon { user: "alice".into(), socket: "/r/s".into() },
                3,
                "no vswitch runs for alice (no /r/s): \"vswitch up\", or attach something",
            ),
            (
                Problem::DaemonEnded { log: "/r/l".into() },
                3,
                "vswitch has just ended, see /r/l: \"vswitch up\", or attach something",
            ),
            (Problem::Closed { log: "/r/l".into() }, 1, "the daemon closed the connection: see /r/l"),
            (
                Problem::Unreachable { socket: "/r/s".into(), error: std::io::Error::other("denied") },
                1,
                "cannot reach the daemon at /r/s (denied): run as the user who started it",
            ),
            (Problem::NothingAttached { name: name.into() }, 1, "nothing is attached as \"web\": \"vswitch attach\" first"),
            (Problem::NotAttached { name: name.into() }, 1, "nothing is attached as \"web\": \"vswitch show\" lists what is"),
            (Problem::Mtu { mtu: 1 }, 1, "--mtu 1 cannot be set: choose 68 to 65521"),
            (
                Problem::NamespaceAttached { at: at.into(), other: other.into() },
                1,
                "this namespace is already attached as \"web\" (port 1, 10.88.0.2): \"vswitch detach web\" first",
            ),
            (
                Problem::NameTaken { at: at.into(), other: other.into() },
                1,
                "the name is taken by \"web\" (port 1, 10.88.0.2): pass --name, or \"vswitch detach web\" first",
            ),
            (Problem::MacOfGateway { mac }, 1, "--mac 02:58:0a:58:00:02 is the gateway's: choose another"),
            (
                Problem::MacTaken { mac, at: at.into() },
                1,
                "--mac 02:58:0a:58:00:02 is taken by \"web\" (port 1, 10.88.0.2): choose another",
            ),
            (
                Problem::IpTaken { ip, at: at.into() },
                1,
                "--ip 10.88.0.2 is taken by \"web\" (port 1, 10.88.0.2): choose another, or leave it out",
            ),
            (Problem::IpOfGateway { ip, range: range.into() }, 1, "--ip 10.88.0.2 is the gateway's: choose 10.88.0.2-10.88.15.254"),
            (
                Problem::IpOutside { ip, network: "default (10.88.0.0/20)".into(), range: range.into() },
                1,
                "--ip 10.88.0.2 is outside network default (10.88.0.0/20): choose 10.88.0.2-10.88.15.254, or \"vswitch up --subnet\"",
            ),
            (Problem::NameReserved { name: "switch".into() }, 1, "\"switch\" means the switch itself: pass another --name"),
        ]
    }

    #[test]
    fn each_says_what_and_the_remedy_in_one_line() {
        let mut seen = BTreeSet::new();
        for (problem, status, text) in table() {
            seen.insert(row(&problem));
            assert_eq!(problem.to_string(), text);
            assert_eq!(problem.exit_code(), status, "{text}");
            assert!(!text.contains('\n'), "{text}");
            assert!(text.split_once(": ").is_some_and(|(what, remedy)| !what.is_empty() && !remedy.is_empty()), "{text}");
        }
        assert_eq!(seen, (0..ROWS).collect());
    }
}
