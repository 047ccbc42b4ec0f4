//! `names`: what the gateway answers for.
use crate::api::client::Client;
use crate::api::names::Name;
use crate::api::types::Verb;
use crate::print;
use anyhow::Result;

pub fn run(json: bool) -> Result<()> {
    let rows: Vec<Name> = Client::connect()?.ask(Verb::Names, &[])?;
    if json {
        return print::json(&rows);
    }
    let row = |row: &Name| {
        let ip6 = row.ip6.map_or_else(|| "-".into(), |address| address.to_string());
        [row.name.clone(), row.container.clone(), row.ip.to_string(), ip6]
    };
    let rows: Vec<_> = rows.iter().map(row).collect();
    print::table(["NAME", "CONTAINER", "IP", "IP6"], &rows)
}
