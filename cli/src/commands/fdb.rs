//! `fdb`: the filtering database, listed or changed.
use crate::api::client::Client;
use crate::api::types::{FdbEntry, Verb};
use crate::{args, print};
use anyhow::Result;

pub fn run(action: Option<args::Fdb>, json: bool) -> Result<()> {
    let mut client = Client::connect()?;
    match action {
        Some(args::Fdb::Add { mac, name, vlan }) => client.ask(Verb::FdbAdd { vlan: vlan.get(), mac: mac.to_string(), name }, &[]),
        Some(args::Fdb::Del { mac, vlan }) => client.ask(Verb::FdbDel { vlan: vlan.get(), mac: mac.to_string() }, &[]),
        Some(args::Fdb::Flush { name }) => {
            let flushed: u32 = client.ask(Verb::FdbFlush { name }, &[])?;
            print::out(&format!("{flushed} forgotten\n"))
        }
        None => list(&mut client, json),
    }
}

fn list(client: &mut Client, json: bool) -> Result<()> {
    let mut entries: Vec<FdbEntry> = client.pages(|cursor: Option<u32>| Verb::Fdb { cursor: cursor.unwrap_or(0) })?;
    entries.sort_by(|a, b| (a.vlan, a.port, &a.mac).cmp(&(b.vlan, b.port, &b.mac)));
    if json {
        return print::json(&entries);
    }
    let row = |entry: &FdbEntry| {
        let age = if entry.r#static { "static".into() } else { format!("{} s", entry.age) };
        [entry.vlan.to_string(), entry.mac.clone(), entry.port.to_string(), entry.name.clone(), age]
    };
    let rows: Vec<_> = entries.iter().map(row).collect();
    print::table([">VLAN", "MAC", ">PORT", "NAME", ">AGE"], &rows)
}
