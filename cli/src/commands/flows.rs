//! `flows`, `flush flows`, `nat`, `neigh`: what the NAT knows.
use crate::api::client::Client;
use crate::api::outside::Neighbor;
use crate::api::types::{Flow, Inside, NatRow, Verb};
use crate::args::Flows;
use crate::print;
use anyhow::Result;
use std::net::IpAddr;

fn endpoint(address: IpAddr, port: u16) -> String {
    match (address, port) {
        (address, 0) => address.to_string(),
        (IpAddr::V4(address), port) => format!("{address}:{port}"),
        (IpAddr::V6(address), port) => format!("[{address}]:{port}"),
    }
}

fn tuple(tuple: &Inside) -> String {
    format!("{} > {}", endpoint(tuple.src, tuple.sport), endpoint(tuple.dst, tuple.dport))
}

pub fn run(args: &Flows) -> Result<()> {
    let mut flows: Vec<Flow> = Client::connect()?.pages(|cursor: Option<u64>| Verb::Flows { cursor: cursor.unwrap_or(0) })?;
    let has_port =
        |flow: &Flow, port: u16| [&flow.original, &flow.reply].iter().any(|tuple| tuple.sport == port || tuple.dport == port);
    flows.retain(|flow| {
        args.name.as_ref().is_none_or(|name| flow.container == *name)
            && args.protocol.as_ref().is_none_or(|protocol| flow.protocol == *protocol)
            && args.port.is_none_or(|port| has_port(flow, port))
    });
    flows.sort_by(|a, b| (&a.container, &a.protocol, a.age).cmp(&(&b.container, &b.protocol, b.age)));
    if args.json {
        return print::json(&flows);
    }
    let row = |flow: &Flow| {
        [
            flow.container.clone(),
            flow.protocol.clone(),
            flow.state.clone(),
            tuple(&flow.original),
            tuple(&flow.reply),
            format!("{} s", flow.age),
            format!("{} s", flow.expires),
            format!("{}/{}", flow.packets[0], flow.packets[1]),
            format!("{}/{}", flow.bytes[0], flow.bytes[1]),
        ]
    };
    let rows: Vec<_> = flows.iter().map(row).collect();
    print::table(["CONTAINER", "PROTO", "STATE", "ORIGINAL", "REPLY", ">AGE", ">EXPIRES", ">PACKETS", ">OCTETS"], &rows)
}

pub fn flush(name: String) -> Result<()> {
    let flushed: u32 = Client::connect()?.ask(Verb::FlushFlows { name }, &[])?;
    print::out(&format!("{flushed} ended\n"))
}

pub fn nat(json: bool) -> Result<()> {
    let rows: Vec<NatRow> = Client::connect()?.ask(Verb::Nat, &[])?;
    if json {
        return print::json(&rows);
    }
    let row = |row: &NatRow| {
        [
            row.sessions.to_string(),
            row.packets.to_string(),
            row.bytes.to_string(),
            row.target.clone(),
            row.protocol.clone(),
            row.source.clone(),
            row.destination.clone(),
            row.to.clone(),
        ]
    };
    let rows: Vec<_> = rows.iter().map(row).collect();
    print::table([">SESSIONS", ">PACKETS", ">OCTETS", "TARGET", "PROTO", "SOURCE", "DESTINATION", "TO"], &rows)
}

pub fn neigh(json: bool) -> Result<()> {
    let mut rows: Vec<Neighbor> = Client::connect()?.ask(Verb::Neighbors, &[])?;
    rows.sort_by(|a, b| (&a.side, a.address).cmp(&(&b.side, b.address)));
    if json {
        return print::json(&rows);
    }
    let row = |row: &Neighbor| {
        [
            row.side.clone(),
            row.address.to_string(),
            row.mac.clone().unwrap_or_else(|| "-".into()),
            row.state.clone(),
            row.name.clone().unwrap_or_else(|| "-".into()),
            row.age.map_or_else(|| "-".into(), |age| format!("{age} s")),
        ]
    };
    let rows: Vec<_> = rows.iter().map(row).collect();
    print::table(["SIDE", "ADDRESS", "MAC", "STATE", "CONTAINER", ">AGE"], &rows)
}
