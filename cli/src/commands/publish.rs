//! `publish`, `unpublish`, `published`: ports of ours that lead into containers.
use super::bind;
use crate::api::client::Client;
use crate::api::outside::Uplink;
use crate::api::types::{Published, Verb};
use crate::print;
use crate::publish::Spec;
use anyhow::Result;

pub fn run(spec: &str, names: &str, from: &[String]) -> Result<()> {
    // Judged here too, before there is a daemon to ask.
    let spec: Spec = spec.parse()?;
    let names = names.split(',').map(ToOwned::to_owned).collect();
    let mut client = Client::connect()?;
    let uplink: Option<Uplink> = client.ask(Verb::Uplink, &[])?;
    publish(&mut client, spec, names, from.to_vec())?;
    if uplink.is_none() {
        print::note("there is no uplink yet, nobody comes in before \"vswitch uplink set socket\"");
    }
    Ok(())
}

/// Publishes, with sockets where they are the uplink.
pub fn publish(client: &mut Client, spec: Spec, names: Vec<String>, from: Vec<String>) -> Result<()> {
    bind::stage_where_wanted(client, &[spec])?;
    client.ask(Verb::Publish { spec: spec.to_string(), names, from }, &[])
}

pub fn end(port: String, name: Option<String>) -> Result<()> {
    Client::connect()?.ask(Verb::Unpublish { port, name }, &[])
}

pub fn list(json: bool) -> Result<()> {
    let mut rows: Vec<Published> = Client::connect()?.ask(Verb::Published, &[])?;
    rows.sort_by(|a, b| (&a.protocol, a.first, &a.address).cmp(&(&b.protocol, b.first, &b.address)));
    if json {
        return print::json(&rows);
    }
    let row = |row: &Published| {
        let range = |first: u16| {
            if row.first == row.last { first.to_string() } else { format!("{first}-{}", first + (row.last - row.first)) }
        };
        [
            row.protocol.clone(),
            row.address.clone().unwrap_or_else(|| "any".into()),
            range(row.first),
            range(row.to),
            row.names.join(","),
            if row.from.is_empty() { "any".into() } else { row.from.join(",") },
            row.sessions.to_string(),
            row.packets.to_string(),
            row.bytes.to_string(),
            row.refused.to_string(),
        ]
    };
    let rows: Vec<_> = rows.iter().map(row).collect();
    let heads = ["PROTO", "ADDRESS", ">PORT", ">TO", "CONTAINER", "FROM", ">SESSIONS", ">PACKETS", ">OCTETS", ">REFUSED"];
    print::table(heads, &rows)
}
