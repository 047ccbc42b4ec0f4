//! `leases`, `reserve` and `unreserve`: the network's addresses.
use crate::api::client::Client;
use crate::api::leases::{AddressState, Lease};
use crate::api::types::Verb;
use crate::print;
use anyhow::Result;
use std::net::Ipv4Addr;

/// All that is known of addresses.
pub fn all(client: &mut Client) -> Result<Vec<Lease>> {
    client.pages(|after: Option<Ipv4Addr>| Verb::Leases { after })
}

pub fn run(json: bool) -> Result<()> {
    let leases = all(&mut Client::connect()?)?;
    if json {
        return print::json(&leases);
    }
    let dash = || "-".to_owned();
    let row = |lease: &Lease| {
        let behind = lease.container.clone().filter(|container| *container != lease.holder);
        // Who has one that is kept for somebody else is none who is to have it.
        let reserved = lease.reserved_for.as_ref().filter(|_| lease.state != AddressState::Reserved);
        [
            lease.address.to_string(),
            lease.holder.clone(),
            lease.state.name().into(),
            lease.mac.clone().unwrap_or_else(dash),
            behind.unwrap_or_else(dash),
            lease.dhcp.map_or_else(dash, |seconds| format!("{seconds} s")),
            lease.age.map_or_else(dash, |seconds| format!("{seconds} s")),
            reserved.cloned().unwrap_or_else(dash),
        ]
    };
    let rows: Vec<_> = leases.iter().map(row).collect();
    print::table(["ADDRESS", "HOLDER", "STATE", "MAC", "BEHIND", ">DHCP", ">AGE", "RESERVED FOR"], &rows)
}

pub fn reserve(address: Ipv4Addr, holder: String) -> Result<()> {
    Client::connect()?.ask::<()>(Verb::ReserveAddress { address, holder: holder.clone() }, &[])?;
    print::out(&format!("{address} is kept for {holder}\n"))
}

pub fn unreserve(address: Ipv4Addr) -> Result<()> {
    Client::connect()?.ask(Verb::UnreserveAddress { address }, &[])
}
