//! The state file: what a daemon had attached, for who comes after one that was killed.
//!
//! The daemon writes it into the run directory, at once when it has not for [`INTERVAL`], else when that is over: into a second file, then
//! renamed, so that there is always a whole one. `restore` reads it. A daemon that starts writes its own; `down` removes it; a daemon
//! that is killed, or ended by a signal, leaves it. One that cannot be read is named and set aside. It is not synced to a disk: a machine
//! that lost its power has lost the namespaces too.
use crate::api::leases::Addresses;
use crate::api::types::{Kind, UplinkOrder};
use crate::config::Wanted;
use crate::daemon::network6::Ipv6;
use crate::errors::DaemonProblem;
use crate::plan::Options;
use crate::rundir::RunDir;
use crate::settings::{self, Spread, Workers};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;
use thiserror::Error;
use vswitch_io::netns::NsSpec;
use vswitch_switch::mac::MacParseError;
use vswitch_switch::port::MAX_PORTS;

/// Raised with every change that an older vswitch would misread.
const VERSION: u32 = 1;
/// Containers at the most: a port each, and one port is the gateway's.
const PORTS: usize = MAX_PORTS as usize - 1;
/// Octets that are read: more than [`PORTS`] containers take, a path of 4 KB each.
const FILE_OCTETS: u64 = 32 << 20;
/// Between two writes at the least.
pub const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    pub subnet: String,
    pub gateway: Ipv4Addr,
    pub ageing: u64,
    pub fdb_limit: u32,
    pub group_forward: String,
    #[serde(default, skip_serializing_if = "Ipv6::is_default")]
    pub ipv6: Ipv6,
    #[serde(default)]
    pub spread: Spread,
    #[serde(default)]
    pub workers: Workers,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Container {
    pub name: String,
    pub namespace: String,
    /// When the process of a PID started, in clock ticks since boot.
    pub started: Option<u64>,
    pub r#type: Kind,
    pub ip: Ipv4Addr,
    pub mac: String,
    pub mtu: u16,
    pub ifname: String,
    pub settings: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    version: u32,
    pub network: Network,
    pub containers: Vec<Container>,
    #[serde(default)]
    pub uplink: Option<UplinkOrder>,
    /// The host's sockets, in place of it.
    #[serde(default)]
    pub sockets: bool,
    #[serde(default)]
    pub published: Vec<Publish>,
    /// Addresses that no container has.
    #[serde(default)]
    pub addresses: Addresses,
}

/// A published range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    pub spec: String,
    pub names: Vec<String>,
    pub from: Vec<String>,
}

/// Why a state is not understood: [`DaemonProblem::BadState`] says it and the remedy.
#[derive(Debug, Error)]
enum Misread {
    #[error("its version is {version}, this vswitch knows {VERSION}")]
    Version { version: String },
    #[error("it has {containers} containers, a switch has {PORTS} ports")]
    Containers { containers: usize },
    #[error("{name} {mac}: {error}")]
    Mac { name: String, mac: String, error: MacParseError },
}

impl State {
    /// Of a network with nothing in it.
    pub fn new(network: Network) -> Self {
        Self {
            version: VERSION,
            network,
            containers: Vec::new(),
            uplink: None,
            sockets: false,
            published: Vec::new(),
            addresses: Addresses::default(),
        }
    }

    fn parse(octets: &[u8]) -> Result<Self> {
        // Judged first: what another version means by the rest is unknown.
        let value: serde_json::Value = serde_json::from_slice(octets)?;
        let version = value.get("version").and_then(serde_json::Value::as_u64);
        if version != Some(VERSION.into()) {
            let version = version.map_or_else(|| "none".into(), |version| version.to_string());
            bail!(Misread::Version { version });
        }
        let state: Self = serde_json::from_value(value)?;
        if state.containers.len() > PORTS {
            bail!(Misread::Containers { containers: state.containers.len() });
        }
        state.containers.iter().try_for_each(|container| container.wanted().map(drop))?;
        Ok(state)
    }

    /// Puts it in place of the one before.
    pub fn write(&self, dir: &RunDir) -> Result<()> {
        let octets = serde_json::to_vec(self)?;
        let new = dir.new_state();
        // One that a killed daemon left may be another user's.
        let _ = std::fs::remove_file(&new);
        File::options().write(true).create_new(true).mode(0o600).open(&new)?.write_all(&octets)?;
        Ok(std::fs::rename(new, dir.state())?)
    }

    /// What the daemon before left, if anything. What cannot be read is set aside.
    pub fn read(dir: &RunDir) -> Result<Option<Self>> {
        let path = dir.state();
        let file = match File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file.with_context(|| DaemonProblem::NotOpened { path: path.clone() })?,
        };
        let mut octets = Vec::new();
        file.take(FILE_OCTETS).read_to_end(&mut octets).with_context(|| DaemonProblem::NotRead { path: path.clone() })?;
        Self::parse(&octets).map(Some).map_err(|why| {
            let (why, aside) = (format!("{why:#}"), dir.bad_state());
            match std::fs::rename(&path, &aside) {
                Ok(()) => DaemonProblem::BadState { path, why, aside }.into(),
                Err(error) => DaemonProblem::BadStateStays { path, why, error }.into(),
            }
        })
    }
}

impl Network {
    /// What a daemon is started with to be like the one before.
    pub fn options(&self) -> Options {
        Options {
            subnet: Some(self.subnet.clone()),
            gateway: Some(self.gateway),
            ageing: Some(self.ageing),
            fdb_limit: Some(self.fdb_limit),
            group_forward: Some(self.group_forward.clone()),
            ipv6: Some(self.ipv6),
            suppress: Some(self.spread.suppress),
            unregistered: Some(self.spread.unregistered),
            workers: Some(self.workers),
        }
    }
}

impl Container {
    /// What attaches it as it was.
    pub fn wanted(&self) -> Result<Wanted> {
        let misread = |error| Misread::Mac { name: self.name.clone(), mac: self.mac.clone(), error };
        let mac = self.mac.parse().map_err(misread)?;
        Ok(Wanted {
            name: self.name.clone(),
            namespace: NsSpec::parse(&self.namespace)?,
            kind: self.r#type,
            ip: Some(self.ip),
            mac: Some(mac),
            mtu: self.mtu,
            ifname: self.ifname.clone(),
            settings: settings::of_older(self.settings.clone()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::leases::Kept;
    use std::os::unix::fs::PermissionsExt;

    fn state() -> State {
        let network = Network {
            subnet: "10.88.0.0/20".into(),
            gateway: Ipv4Addr::new(10, 88, 0, 1),
            ageing: 300,
            fdb_limit: 65_536,
            group_forward: "0,2".into(),
            ipv6: Ipv6::Off,
            spread: Spread::default(),
            workers: settings::Workers(3),
        };
        let web = Container {
            name: "web".into(),
            namespace: "pid:12".into(),
            started: Some(99),
            r#type: Kind::Veth,
            ip: Ipv4Addr::new(10, 88, 0, 2),
            mac: "02:58:0a:58:00:02".into(),
            mtu: 1_500,
            ifname: "eth0".into(),
            settings: vec!["vlan=10".into(), "guard=on".into()],
        };
        let uplink = UplinkOrder {
            iface: "eth0".into(),
            mac: "02:58:c6:33:64:02".into(),
            mtu: 1_500,
            dhcp: false,
            addresses: vec!["198.51.100.2/24".into()],
            gateways: vec!["198.51.100.1".parse().unwrap()],
        };
        let published = Publish { spec: "8080:80/tcp".into(), names: vec!["web".into()], from: vec!["198.51.100.0/24".into()] };
        let kept = Kept { address: Ipv4Addr::new(10, 88, 0, 9), holder: "old".into(), declined: false, age: 5 };
        let addresses = Addresses { kept: vec![kept], ..Addresses::default() };
        State { containers: vec![web], uplink: Some(uplink), published: vec![published], addresses, ..State::new(network) }
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let dir = RunDir::at(dir.path().into());
        assert!(State::read(&dir).unwrap().is_none());
        state().write(&dir).unwrap();
        assert_eq!(State::read(&dir).unwrap().unwrap(), state());
        assert_eq!(std::fs::metadata(dir.state()).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!dir.new_state().exists());
        let mut other = state();
        other.containers.clear();
        // What a writer that was killed left is in nobody's way, and nobody's link is followed.
        std::os::unix::fs::symlink(dir.path().join("target"), dir.new_state()).unwrap();
        other.write(&dir).unwrap();
        assert!(!dir.path().join("target").exists());
        assert_eq!(State::read(&dir).unwrap().unwrap(), other);
        let wanted = state().containers[0].wanted().unwrap();
        assert_eq!((wanted.namespace, wanted.settings.len()), (NsSpec::Pid(12), 2));
    }

    #[test]
    fn what_cannot_be_read_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let dir = RunDir::at(dir.path().into());
        let good = serde_json::to_string(&state()).unwrap();
        let many = {
            let mut state = state();
            state.containers = vec![state.containers[0].clone(); PORTS + 1];
            serde_json::to_string(&state).unwrap()
        };
        for (text, part) in [
            (String::new(), "EOF"),
            (good[..good.len() / 2].into(), "EOF"),
            (good.replace("\"version\":1", "\"version\":2"), "its version is 2, this vswitch knows 1"),
            (good.replace("\"version\":1", "\"version\":\"1\""), "its version is none"),
            (good.replace("\"ageing\"", "\"aging\""), "unknown field"),
            (good.replace("02:58:0a:58:00:02", "01:58:0a:58:00:02"), "web 01:58:0a:58:00:02"),
            (good.replace("pid:12", "pid:x"), "is no PID"),
            (many, "it has 4096 containers, a switch has 4095 ports"),
        ] {
            std::fs::write(dir.state(), &text).unwrap();
            let error = State::read(&dir).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("state.json.bad now: attach anew"), "{error}");
            assert!(!dir.state().exists());
            assert_eq!(std::fs::read_to_string(dir.bad_state()).unwrap(), text);
        }
    }
}
