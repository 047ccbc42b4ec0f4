//! What has to change so that a file's containers run: a file and what runs make a [`Plan`], and nothing is done here.
//!
//! A change has its order: the switch, then what is published ([`outside`]) or reserved ([`reservations`]) no longer or detached, then
//! settings, then what is reserved, then what is attached, those that name their address first, then the uplink and what is published; so an
//! address, a name or a namespace is free before another container gets it. What a port's `set` cannot change (type, address, MTU,
//! interface, namespace) is changed by detaching and attaching again. A file's container is the file's: settings that are not written are
//! default. An address or MAC that is not written is whatever it is, and so are the switch's settings and the uplink. Containers that are not in the file
//! stay, unless `prune`. A plan that was carried out leaves an empty one.
mod outside;
mod reservations;

use crate::api::types::Container;
use crate::config::outside::Uplink;
use crate::config::{Config, Entry, Placed, Running, Wanted, port_config};
use crate::daemon::network::Network;
use crate::daemon::network6::Ipv6;
use crate::errors::{ConfigProblem, DaemonProblem};
use crate::publish::Spec;
use crate::settings::{self, Unregistered, Workers};
use crate::state::Publish;
use anyhow::{Context, Result};
use reservations::Reservations;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::Ipv4Addr;

/// What the switch is started with; what is None is the daemon's choice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub subnet: Option<String>,
    pub gateway: Option<Ipv4Addr>,
    pub ageing: Option<u64>,
    pub fdb_limit: Option<u32>,
    pub group_forward: Option<String>,
    pub ipv6: Option<Ipv6>,
    pub suppress: Option<bool>,
    pub unregistered: Option<Unregistered>,
    pub workers: Option<Workers>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Start(Options),
    /// KEY=VALUE as they are, and as they shall be.
    SetSwitch {
        from: Vec<String>,
        to: Vec<String>,
    },
    Detach {
        name: String,
        why: String,
    },
    Set {
        name: String,
        from: Vec<String>,
        to: Vec<String>,
    },
    Attach(Wanted),
    Uplink {
        from: String,
        to: Uplink,
    },
    Unpublish {
        spec: Spec,
        why: String,
    },
    Publish(Publish),
    Unreserve {
        address: Ipv4Addr,
        why: String,
    },
    Reserve {
        address: Ipv4Addr,
        holder: String,
    },
}

/// Changes in the order in which they are made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub changes: Vec<Change>,
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = [
            self.subnet.as_ref().map(|subnet| format!("subnet={subnet}")),
            self.gateway.map(|gateway| format!("gateway={gateway}")),
            self.ageing.map(|ageing| format!("ageing={ageing}")),
            self.fdb_limit.map(|limit| format!("fdb-limit={limit}")),
            self.group_forward.as_ref().map(|list| format!("group-forward={list}")),
            self.ipv6.filter(|ipv6| !ipv6.is_default()).map(|ipv6| format!("ipv6={ipv6}")),
            self.suppress.map(|on| format!("suppress={}", settings::word(on))),
            self.unregistered.map(|what| format!("unregistered={}", what.name())),
            self.workers.filter(|workers| *workers != Workers::default()).map(|workers| format!("workers={workers}")),
        ];
        let options: Vec<String> = options.into_iter().flatten().collect();
        if options.is_empty() { f.write_str("start") } else { write!(f, "start, {}", options.join(" ")) }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(options) => write!(f, "+ switch: {options}"),
            Self::SetSwitch { from, to } => write!(f, "~ switch: {} -> {}", from.join(" "), to.join(" ")),
            Self::Detach { name, why } => write!(f, "- {name}: {why}"),
            Self::Set { name, from, to } => write!(f, "~ {name}: {} -> {}", from.join(" "), to.join(" ")),
            Self::Attach(wanted) => write!(f, "+ {}: {wanted}", wanted.name),
            Self::Uplink { from, to } => write!(f, "~ uplink: {from} -> {to}"),
            Self::Unpublish { spec, why } => write!(f, "- publish {spec}: {why}"),
            Self::Publish(Publish { spec, names, from }) => {
                write!(f, "+ publish {spec}: to {}", names.join(", "))?;
                from.iter().try_for_each(|net| write!(f, ", from {net}"))
            }
            Self::Unreserve { address, why } => write!(f, "- reserve {address}: {why}"),
            Self::Reserve { address, holder } => write!(f, "+ reserve {address}: for {holder}"),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.changes.is_empty() {
            return writeln!(f, "nothing to change");
        }
        self.changes.iter().try_for_each(|change| writeln!(f, "{change}"))
    }
}

/// The plan. `found` says which containers of the file have a namespace, and its inode; the others are let be.
pub fn plan(config: &Config, running: Option<&Running>, found: &BTreeMap<String, u64>, prune: bool) -> Result<Plan> {
    let entries: Vec<(&Entry, u64)> =
        config.containers.iter().filter_map(|entry| Some((entry, *found.get(&entry.wanted.name)?))).collect();
    one_namespace_each(config, &entries)?;
    let mut changes = Vec::new();
    let nothing = Vec::new();
    let containers = running.map_or(&nothing, |running| &running.containers);
    let network = match running {
        Some(running) => {
            changes.extend(switch(config, running)?);
            Some(running.network)
        }
        None => {
            let options = options(config);
            let network = options.subnet.as_ref().map(|subnet| Network::parse(subnet, options.gateway)).transpose()?;
            changes.push(Change::Start(options));
            network
        }
    };
    let reserved = Reservations::of(config, running, prune)?;
    // An address that the file gives to one, another has to leave.
    let claims: HashMap<Ipv4Addr, &str> =
        entries.iter().filter_map(|(entry, _)| Some((entry.wanted.ip?, entry.wanted.name.as_str()))).collect();
    let (mut detach, mut set, mut attach) = (BTreeMap::new(), Vec::new(), Vec::new());
    for &(entry, inode) in &entries {
        if let (Some(network), Some(ip)) = (network, entry.wanted.ip) {
            network.check(ip).map_err(|error| config.error(entry.ip, error))?;
        }
        match containers.iter().find(|container| container.name == entry.wanted.name) {
            None => attach.push((entry, inode, entry.wanted.clone())),
            Some(container) => {
                let claimed = claims.get(&container.ip).copied().filter(|name| *name != container.name);
                let mac = entry.wanted.mac.or_else(|| container.mac.parse().ok());
                let claimed = claimed.or_else(|| reserved.other(container.ip, &container.name, mac));
                match why_again(&entry.wanted, inode, container, claimed) {
                    None => set.extend(set_port(&entry.wanted, container)?),
                    Some(why) => {
                        detach.insert(container.name.as_str(), why);
                        attach.push((entry, inode, again(&entry.wanted, container, claimed.is_none())?));
                    }
                }
            }
        }
    }
    if prune {
        let written: BTreeSet<&str> = config.containers.iter().map(|entry| entry.wanted.name.as_str()).collect();
        let others = containers.iter().filter(|container| !written.contains(container.name.as_str()));
        detach.extend(others.map(|container| (container.name.as_str(), "not in the file".to_owned())));
    }
    let staying: Vec<&Container> = containers.iter().filter(|container| !detach.contains_key(container.name.as_str())).collect();
    for (entry, inode, wanted) in &attach {
        is_free(config, entry, *inode, wanted, &staying)?;
        reserved.judge_attach(config, entry, wanted)?;
    }
    reserved.judge(config, network, &staying, running.map_or(&[], |running| &running.leased))?;
    attach.sort_by_key(|(_, _, wanted)| wanted.ip.is_none());
    let staying = staying.iter().map(|container| container.name.as_str());
    let there = outside::Containers {
        present: staying.chain(attach.iter().map(|(entry, ..)| entry.wanted.name.as_str())).collect(),
        detached: detach.keys().copied().collect(),
    };
    let published = outside::published(config, running, &there, prune)?;
    changes.extend(published.before);
    changes.extend(reserved.before.iter().cloned());
    changes.extend(detach.into_iter().map(|(name, why)| Change::Detach { name: name.into(), why }));
    changes.append(&mut set);
    changes.extend(reserved.after());
    changes.extend(attach.into_iter().map(|(_, _, wanted)| Change::Attach(wanted)));
    if let Some(entry) = &config.uplink {
        changes.extend(outside::uplink(entry, config, running)?);
    }
    changes.extend(published.after);
    Ok(Plan { changes })
}

/// Two names, or a name and a path, can be the same namespace.
fn one_namespace_each(config: &Config, entries: &[(&Entry, u64)]) -> Result<()> {
    let mut seen = HashMap::new();
    for (entry, inode) in entries {
        if let Some(other) = seen.insert(*inode, &entry.wanted.name) {
            return Err(config.error(entry.namespace, ConfigProblem::OneNamespace { other: other.clone() }));
        }
    }
    Ok(())
}

fn options(config: &Config) -> Options {
    let network = &config.network;
    Options {
        subnet: network.subnet.as_ref().map(|subnet| subnet.value.clone()),
        gateway: network.gateway.as_ref().map(|gateway| gateway.value),
        ageing: network.ageing,
        fdb_limit: network.fdb_limit.as_ref().map(|limit| limit.value),
        group_forward: network.group_forward.clone(),
        ipv6: network.ipv6.as_ref().map(|ipv6| ipv6.value),
        suppress: network.suppress,
        unregistered: network.unregistered,
        workers: network.workers.as_ref().map(|workers| workers.value),
    }
}

/// What changes of the switch; or an error, for what cannot while it runs.
fn switch(config: &Config, running: &Running) -> Result<Option<Change>> {
    let wanted = &config.network;
    let fixed = |key: &'static str, wanted: Option<Placed<String>>, is: String| match wanted {
        Some(Placed { value, place }) if value != is => Err(config.error(place, ConfigProblem::Fixed { key, is })),
        Some(_) | None => Ok(()),
    };
    fixed("subnet", wanted.subnet.clone(), running.network.subnet())?;
    fixed("gateway", text(wanted.gateway.as_ref()), running.network.gateway().address.to_string())?;
    fixed("fdb-limit", text(wanted.fdb_limit.as_ref()), running.fdb_limit.to_string())?;
    fixed("workers", text(wanted.workers.as_ref()), running.workers.to_string())?;
    fixed("ipv6", text(wanted.ipv6.as_ref()), running.network.ipv6().to_string())?;
    let (mut from, mut to) = (Vec::new(), Vec::new());
    let mut compare = |key: &str, wanted: Option<String>, is: String| {
        if let Some(wanted) = wanted.filter(|wanted| *wanted != is) {
            from.push(format!("{key}={is}"));
            to.push(format!("{key}={wanted}"));
        }
    };
    compare("ageing", wanted.ageing.map(|ageing| ageing.to_string()), running.ageing.to_string());
    compare("group-forward", wanted.group_forward.clone(), running.group_forward.clone());
    let (is, on) = (running.spread, |on| settings::word(on).to_owned());
    compare("suppress", wanted.suppress.map(on), on(is.suppress));
    compare("unregistered", wanted.unregistered.map(|what| what.name().into()), is.unregistered.name().into());
    Ok(if to.is_empty() { None } else { Some(Change::SetSwitch { from, to }) })
}

fn text<T: ToString>(placed: Option<&Placed<T>>) -> Option<Placed<String>> {
    placed.map(|placed| Placed { value: placed.value.to_string(), place: placed.place })
}

/// Why a container has to be detached and attached again.
fn why_again(wanted: &Wanted, inode: u64, container: &Container, claimed: Option<&str>) -> Option<String> {
    let mut why = Vec::new();
    let mut compare = |what: &str, is: String, wanted: String| {
        if is != wanted {
            why.push(format!("{what} {is} -> {wanted}"));
        }
    };
    if inode != container.netns {
        let is = &container.namespace;
        compare("namespace", is.clone(), wanted.namespace.to_string());
        if *is == wanted.namespace.to_string() {
            compare("namespace", format!("{is} as it was"), "as it is now".into());
        }
    }
    compare("type", container.r#type.name().into(), wanted.kind.name().into());
    compare("ip", container.ip.to_string(), wanted.ip.unwrap_or(container.ip).to_string());
    compare("mac", container.mac.clone(), wanted.mac.map_or_else(|| container.mac.clone(), |mac| mac.to_string()));
    compare("mtu", container.mtu.to_string(), wanted.mtu.to_string());
    compare("ifname", container.ifname.clone(), wanted.ifname.clone());
    if let (Some(name), None) = (claimed, wanted.ip) {
        why.push(format!("ip {} is for {name}", container.ip));
    }
    if why.is_empty() { None } else { Some(why.join(", ")) }
}

/// What is attached again: it keeps the addresses that it may keep, where nothing else is asked for.
fn again(wanted: &Wanted, container: &Container, may_keep: bool) -> Result<Wanted> {
    let ip = wanted.ip.or(Some(container.ip).filter(|_| may_keep));
    let mac = match wanted.mac {
        None if ip == Some(container.ip) => Some(container.mac.parse().map_err(|error| foreign(&container.name, error))?),
        asked => asked,
    };
    Ok(Wanted { ip, mac, ..wanted.clone() })
}

fn foreign(name: &str, error: impl fmt::Display) -> anyhow::Error {
    DaemonProblem::BadContainer { name: name.into(), error: error.to_string() }.into()
}

fn set_port(wanted: &Wanted, container: &Container) -> Result<Option<Change>> {
    let mac = container.mac.parse().map_err(|error| foreign(&container.name, error))?;
    let shall_be = settings::describe(&port_config(mac, &wanted.settings).with_context(|| wanted.name.clone())?);
    let from: Vec<String> = container.settings.iter().filter(|setting| !shall_be.contains(setting)).cloned().collect();
    let to: Vec<String> = shall_be.into_iter().filter(|setting| !container.settings.contains(setting)).collect();
    let name = container.name.clone();
    Ok(if to.is_empty() { None } else { Some(Change::Set { name, from, to }) })
}

/// Refuses what the daemon would refuse in the midst of the changes.
fn is_free(config: &Config, entry: &Entry, inode: u64, wanted: &Wanted, staying: &[&Container]) -> Result<()> {
    let mac = wanted.mac.map(|mac| mac.to_string());
    for other in staying {
        let (what, place) = if other.netns == inode {
            ("namespace", entry.namespace)
        } else if wanted.ip == Some(other.ip) {
            ("ip", entry.ip)
        } else if mac.as_ref() == Some(&other.mac) {
            ("mac", entry.mac)
        } else {
            continue;
        };
        return Err(config.error(place, ConfigProblem::Attached { what, other: other.name.clone() }));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
