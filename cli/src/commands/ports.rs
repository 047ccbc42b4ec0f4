//! `ports`: each port and its counters.
use crate::api::client::Client;
use crate::api::types::{Port, Verb};
use crate::print;
use anyhow::Result;

/// All ports, ascending.
pub fn all(client: &mut Client) -> Result<Vec<Port>> {
    client.pages(|from: Option<u16>| Verb::Ports { from: from.unwrap_or(0) })
}

pub fn run(json: bool) -> Result<()> {
    let ports = all(&mut Client::connect()?)?;
    if json {
        return print::json(&ports);
    }
    let rows: Vec<_> = ports.iter().map(row).collect();
    let heads = [
        ">PORT",
        "NAME",
        "TYPE",
        ">MTU",
        "OFFLOAD",
        ">RX FRAMES",
        ">RX OCTETS",
        ">TX FRAMES",
        ">TX OCTETS",
        ">DROPPED",
        ">BY KERNEL",
        ">FDB",
        "STATE",
    ];
    print::table(heads, &rows)
}

fn row(port: &Port) -> [String; 13] {
    [
        port.port.to_string(),
        port.name.clone(),
        port.r#type.clone(),
        port.mtu.to_string(),
        format!("{:#04x}", port.offload),
        port.rx_frames.to_string(),
        port.rx_bytes.to_string(),
        port.tx_frames.to_string(),
        port.tx_bytes.to_string(),
        port.dropped.to_string(),
        port.kernel_drops.to_string(),
        port.fdb_entries.to_string(),
        if port.blocked { "blocked (loop)".into() } else { "forwarding".into() },
    ]
}
