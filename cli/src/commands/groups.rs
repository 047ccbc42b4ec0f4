//! `groups`: who listens to which group of multicast, and the ports that ask.
use crate::api::client::Client;
use crate::api::types::{GroupEntry, Verb};
use crate::print;
use anyhow::Result;

pub fn run(json: bool) -> Result<()> {
    let mut client = Client::connect()?;
    let mut entries: Vec<GroupEntry> = client.pages(|cursor: Option<u32>| Verb::Groups { cursor: cursor.unwrap_or(0) })?;
    entries.sort_by_key(|entry| (entry.vlan, entry.group, entry.port));
    if json {
        return print::json(&entries);
    }
    let row = |entry: &GroupEntry| {
        let group = entry.group.map_or_else(|| "router".into(), |group| group.to_string());
        let mac = entry.mac.clone().unwrap_or_else(|| "all".into());
        [entry.vlan.to_string(), group, mac, entry.port.to_string(), entry.name.clone(), format!("{} s", entry.age)]
    };
    let rows: Vec<_> = entries.iter().map(row).collect();
    print::table([">VLAN", "GROUP", "MAC", ">PORT", "NAME", ">AGE"], &rows)
}
