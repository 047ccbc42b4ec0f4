//! `stats`: the accounts of all frames, and every reason for a drop.
use crate::api::client::Client;
use crate::api::names::NameCounts;
use crate::api::outside::Sessions;
use crate::api::stats::Stats;
use crate::api::types::Verb;
use crate::print;
use anyhow::Result;

pub fn run(json: bool) -> Result<()> {
    let stats: Stats = Client::connect()?.ask(Verb::Stats, &[])?;
    if json {
        return print::json(&stats);
    }
    let nat = stats.nat.map_or_else(String::new, |nat| {
        let Sessions { sessions, begun, ended, reclaimed, invalid } = nat;
        format!(
            "nat     {sessions} sessions, {begun} begun, {ended} ended, {reclaimed} gave way to others, {invalid} TCP segments outside \
             their window\n"
        )
    });
    let names = names(&stats.names);
    let workers: String =
        (2..).zip(&stats.read).map(|(number, frames)| format!("worker  {number} has read {frames} frames\n")).collect();
    print::out(&format!(
        "frames  {}\nfdb     {} of {} addresses, {} gave way to others\n{nat}{names}kernel  {} frames dropped before they could be read\n\
         news    {} of the switch lost\n{workers}\n",
        accounts(&stats),
        stats.fdb_entries,
        stats.fdb_capacity,
        stats.fdb_evicted,
        stats.kernel_drops,
        stats.events_lost
    ))?;
    let rows: Vec<_> =
        stats.drops.iter().map(|drop| [drop.frames.to_string(), drop.reason.clone(), drop.explanation.clone()]).collect();
    print::table([">DROPPED", "REASON", "EXPLANATION"], &rows)
}

/// What became of questions, if there were any.
fn names(counts: &NameCounts) -> String {
    if *counts == NameCounts::default() {
        return String::new();
    }
    let NameCounts { internal, refused, by_tcp, cached, joined, sent, answered, failed, .. } = counts;
    let NameCounts { ignored, other_case, malformed, entries, octets, evicted, .. } = counts;
    format!(
        "names   {internal} answered here, {cached} from the cache, {joined} with another's, {refused} refused, {by_tcp} of all by TCP; \
         {sent} sent to resolvers, {answered} answered, {failed} failed, {ignored} ignored, {other_case} in another case, {malformed} malformed\n\
         cache   {entries} names, {octets} octets, {evicted} gave way to others\n"
    )
}

/// The law of accounting, in one line.
pub fn accounts(stats: &Stats) -> String {
    // Without an uplink its terms are but noise.
    let term = |name: &str, frames: u64| if frames > 0 { format!(" + {name} {frames}") } else { String::new() };
    format!(
        "rx {}{} + generated {} + copied {} = tx {}{} + consumed {} + held {} + dropped {}{}",
        stats.rx,
        term("from uplink", stats.from_uplink),
        stats.generated,
        stats.copied,
        stats.tx,
        term("to uplink", stats.to_uplink),
        stats.consumed,
        stats.held,
        stats.dropped,
        if stats.balanced { "" } else { "  DOES NOT BALANCE: please report it" }
    )
}
