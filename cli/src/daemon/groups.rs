//! `groups`: who listens to which group of multicast.
use super::Daemon;
use super::verbs::value;
use crate::api::types::{GroupEntry, Page};
use anyhow::Result;
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use vswitch_switch::groups::{Family, Group, GroupRow};

impl Daemon {
    pub(super) fn groups(&self, cursor: u32) -> Result<Value> {
        let (rows, next) = self.worker.groups_page(cursor)?;
        let row = |row: &GroupRow| GroupEntry {
            vlan: row.vid.get(),
            group: row.group.map(address),
            mac: row.group.map(|group| group.mac.to_string()),
            port: row.port.get(),
            name: self.registry.port_name(row.port).into(),
            age: row.age.as_secs(),
        };
        value(Page { rows: rows.iter().map(row).collect(), next })
    }
}

/// What the gateway calls it by its number.
fn address(group: Group) -> IpAddr {
    match group.family {
        Family::V4 => Ipv4Addr::from_bits(group.name as u32).into(),
        Family::V6 => Ipv6Addr::from_bits(group.name).into(),
    }
}
