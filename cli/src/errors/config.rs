//! Configuration files, and what `apply` makes of them.
use crate::config::{FILE_OCTETS, SCHEMA};
use crate::settings::{TABLE_LIMIT, WORKERS};
use std::io;
use std::net::Ipv4Addr;
use std::process::ExitStatus;
use thiserror::Error;
use vswitch_io::link::{MTU_MAX, MTU_MIN};

#[derive(Debug, Error)]
pub enum ConfigProblem {
    /// Any of the others, or one that a command would give, at its place.
    #[error("{file}:{line}:{column}: {why}")]
    At { file: String, line: usize, column: usize, why: String },
    #[error("cannot read {file} ({error}): give a file, or - for standard input")]
    Unreadable { file: String, error: io::Error },
    #[error("{file} has more than {FILE_OCTETS} octets: write less")]
    TooLong { file: String },

    // The text.
    #[error("this is not UTF-8: write TOML, which is")]
    NoUtf8,
    #[error("{message}: write it as TOML has it")]
    NoToml { message: String },
    #[error("no schema is given: write \"schema = {SCHEMA}\"")]
    NoSchema,
    #[error("this vswitch knows schema {SCHEMA} only: write \"schema = {SCHEMA}\"")]
    OtherSchema,
    #[error("there is no key {key:?} here: choose of {known}")]
    NoKey { key: String, known: String },
    #[error("{one} and {other} are two ways to set one thing: leave one out")]
    TwoWays { one: &'static str, other: &'static str },

    // A value.
    #[error("this is no table: write [network], [uplink], [publish], [reservations] or [container.NAME]")]
    NoTable,
    #[error("this is no number: write one without quotation marks")]
    NoNumber,
    #[error("this is no string: write it in quotation marks")]
    NoString,
    #[error("this cannot be set: write a number, a string, true or false")]
    NoValue,
    #[error("this is neither true nor false: write one of them")]
    NoFlag,
    #[error("{error}: write A.B.C.D")]
    NoAddress { error: std::net::AddrParseError },
    #[error("fdb-limit cannot be this: write {} to {}", TABLE_LIMIT.start(), TABLE_LIMIT.end())]
    FdbLimit,
    #[error("workers cannot be this: write {} to {}", WORKERS.start(), WORKERS.end())]
    Workers,
    #[error("mtu cannot be set to this: choose {MTU_MIN} to {MTU_MAX}")]
    Mtu,
    #[error("there is no type {kind:?}: choose of tap, veth")]
    NoKind { kind: String },
    #[error("{name} has no namespace: write namespace = \"ns1\"")]
    NoNamespace { name: String },
    #[error("the uplink has no type: write type = \"packet\" or \"none\"")]
    NoUplinkKind,
    #[error("there is no uplink {kind:?}: choose of packet, none")]
    NoUplink { kind: String },
    #[error("the uplink has no interface: write interface = \"eth0\"")]
    NoUplinkInterface,
    #[error("the uplink has no address: write ip = \"A/LEN\" or dhcp = true")]
    NoUplinkAddress,
    #[error("this is published to nobody: write to = \"web\"")]
    NoTarget,
    #[error("there is no container {name:?} in the file or attached: write its table, or another name")]
    NoContainer { name: String },
    #[error("this {what} is that of container {other} too: choose another")]
    Twice { what: &'static str, other: String },
    #[error("{key:?} is no address: write \"A.B.C.D\" = \"web\", each in quotation marks")]
    NoReservation { key: String },
    #[error("{holder} has {other} in the file already: leave one out")]
    ReservedTwice { holder: String, other: Ipv4Addr },
    #[error("this ip is reserved for {holder} in the file: choose another")]
    ReservedFor { holder: String },
    #[error("this is the namespace of container {other} too: choose another")]
    OneNamespace { other: String },

    // What runs.
    #[error("{key} is {is} and cannot change while the switch runs: \"vswitch down\" first")]
    Fixed { key: &'static str, is: String },
    #[error("this {what} is attached as {other} already: \"vswitch detach {other}\" first")]
    Attached { what: &'static str, other: String },
    #[error("\"vswitch attach\" ended ({status}) and did not say why: try it by hand")]
    NotSaid { status: ExitStatus },
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    table! { ConfigProblem:
        At { file: "net.toml".into(), line: 3, column: 10, why: ConfigProblem::NoUtf8.to_string() }
            => "net.toml:3:10: this is not UTF-8: write TOML, which is",
        Unreadable { file: "net.toml".into(), error: io::Error::other("denied") }
            => "cannot read net.toml (denied): give a file, or - for standard input",
        TooLong { file: "net.toml".into() } => "net.toml has more than 4194304 octets: write less",
        NoUtf8 {} => "this is not UTF-8: write TOML, which is",
        NoToml { message: "duplicate key".into() } => "duplicate key: write it as TOML has it",
        NoSchema {} => "no schema is given: write \"schema = 1\"",
        OtherSchema {} => "this vswitch knows schema 1 only: write \"schema = 1\"",
        NoKey { key: "vlna".into(), known: "vlan, trunk".into() } => "there is no key \"vlna\" here: choose of vlan, trunk",
        TwoWays { one: "vlan", other: "trunk" } => "vlan and trunk are two ways to set one thing: leave one out",
        NoTable {} => "this is no table: write [network], [uplink], [publish], [reservations] or [container.NAME]",
        NoNumber {} => "this is no number: write one without quotation marks",
        NoString {} => "this is no string: write it in quotation marks",
        NoValue {} => "this cannot be set: write a number, a string, true or false",
        NoFlag {} => "this is neither true nor false: write one of them",
        NoAddress { error: "x".parse::<Ipv4Addr>().unwrap_err() } => "invalid IPv4 address syntax: write A.B.C.D",
        FdbLimit {} => "fdb-limit cannot be this: write 16 to 1048576",
        Workers {} => "workers cannot be this: write 1 to 16",
        Mtu {} => "mtu cannot be set to this: choose 68 to 65521",
        NoKind { kind: "bridge".into() } => "there is no type \"bridge\": choose of tap, veth",
        NoNamespace { name: "web".into() } => "web has no namespace: write namespace = \"ns1\"",
        NoUplinkKind {} => "the uplink has no type: write type = \"packet\" or \"none\"",
        NoUplink { kind: "x".into() } => "there is no uplink \"x\": choose of packet, none",
        NoUplinkInterface {} => "the uplink has no interface: write interface = \"eth0\"",
        NoUplinkAddress {} => "the uplink has no address: write ip = \"A/LEN\" or dhcp = true",
        NoTarget {} => "this is published to nobody: write to = \"web\"",
        NoContainer { name: "web".into() }
            => "there is no container \"web\" in the file or attached: write its table, or another name",
        Twice { what: "ip", other: "web".into() } => "this ip is that of container web too: choose another",
        NoReservation { key: "10".into() } => "\"10\" is no address: write \"A.B.C.D\" = \"web\", each in quotation marks",
        ReservedTwice { holder: "web".into(), other: Ipv4Addr::new(10, 88, 0, 9) }
            => "web has 10.88.0.9 in the file already: leave one out",
        ReservedFor { holder: "web".into() } => "this ip is reserved for web in the file: choose another",
        OneNamespace { other: "web".into() } => "this is the namespace of container web too: choose another",
        Fixed { key: "fdb-limit", is: "16".into() }
            => "fdb-limit is 16 and cannot change while the switch runs: \"vswitch down\" first",
        Attached { what: "mac", other: "web".into() } => "this mac is attached as web already: \"vswitch detach web\" first",
        NotSaid { status: ExitStatus::from_raw(9) }
            => "\"vswitch attach\" ended (signal: 9 (SIGKILL)) and did not say why: try it by hand",
    }
}
