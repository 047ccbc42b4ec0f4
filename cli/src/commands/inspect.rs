//! `inspect`: everything about one container: what it was given, its counters, why frames of it were dropped, its addresses.
use crate::api::client::Client;
use crate::api::types::{FdbEntry, Inspected, Verb};
use crate::print;
use anyhow::Result;
use serde::Serialize;

/// What `inspect --json` prints.
#[derive(Serialize)]
struct View {
    #[serde(flatten)]
    inspected: Inspected,
    fdb: Vec<FdbEntry>,
}

pub fn run(name: String, json: bool) -> Result<()> {
    let mut client = Client::connect()?;
    let inspected: Inspected = client.ask(Verb::Inspect { name: name.clone() }, &[])?;
    let mut fdb: Vec<FdbEntry> = client.pages(|cursor: Option<u32>| Verb::Fdb { cursor: cursor.unwrap_or(0) })?;
    fdb.retain(|entry| entry.name == name);
    fdb.sort_by(|a, b| (a.vlan, &a.mac).cmp(&(b.vlan, &b.mac)));
    let view = View { inspected, fdb };
    if json { print::json(&view) } else { print::out(&text(&view)) }
}

fn text(view: &View) -> String {
    let View { inspected: Inspected { container, watch, since, counters, dropped }, fdb } = view;
    let state = if counters.blocked { "blocked (loop)" } else { "forwarding" };
    let mut lines = vec![
        ("name", container.name.clone()),
        ("port", format!("{} ({}), {state}", container.port, container.r#type.name())),
        (
            "address",
            format!("{}/{} on {}, mac {}, mtu {}", container.ip, container.prefix, container.ifname, container.mac, container.mtu),
        ),
        ("vlan", container.vlan.clone()),
        ("namespace", format!("inode {}, watched: {watch}", container.netns)),
        ("attached", since.clone()),
        ("settings", container.settings.join(" ")),
        ("offload", format!("{:#04x}", counters.offload)),
        ("received", format!("{} frames, {} octets", counters.rx_frames, counters.rx_bytes)),
        ("sent", format!("{} frames, {} octets", counters.tx_frames, counters.tx_bytes)),
        ("dropped", format!("{} frames, {} more by the kernel before they could be read", counters.dropped, counters.kernel_drops)),
    ];
    lines.extend(dropped.iter().map(|drop| ("", format!("{} {}: {}", drop.frames, drop.reason, drop.explanation))));
    lines.push(("addresses", format!("{} known", fdb.len())));
    lines.extend(fdb.iter().map(|entry| {
        let age = if entry.r#static { "static".into() } else { format!("seen {} s ago", entry.age) };
        ("", format!("{} VLAN {}, {age}", entry.mac, entry.vlan))
    }));
    lines.into_iter().map(|(key, value)| format!("{key:<9}  {value}\n")).collect()
}
