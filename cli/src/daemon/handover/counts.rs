//! What ports and the NAT have counted, handed over with the accounts of frames once the old daemon has stopped.
use super::*;
use std::net::Ipv6Addr;
use vswitch_nat::flow::Address;
use vswitch_nat::forward::{Forwards, RuleCounts, RuleId};
use vswitch_nat::nat::{Family, Nat, NatCounts};
use vswitch_nat::session::Count;

/// A port's, with the reasons for drops by their names: another version may know others.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Counters {
    rx_frames: u64,
    rx_bytes: u64,
    tx_frames: u64,
    tx_bytes: u64,
    drops: BTreeMap<String, u64>,
}

impl Counters {
    pub(super) fn of(counters: &PortCounters) -> Self {
        let drops = counters.drops.iter().filter(|(_, frames)| *frames > 0).map(|(reason, frames)| (reason.name().into(), frames));
        let PortCounters { rx_frames, rx_bytes, tx_frames, tx_bytes, .. } = *counters;
        Self { rx_frames, rx_bytes, tx_frames, tx_bytes, drops: drops.collect() }
    }

    pub(super) fn read(&self) -> PortCounters {
        let mut drops = DropCounts::default();
        for reason in DropReason::ALL {
            drops.add(*reason, self.drops.get(reason.name()).copied().unwrap_or(0));
        }
        let Self { rx_frames, rx_bytes, tx_frames, tx_bytes, .. } = *self;
        PortCounters { rx_frames, rx_bytes, tx_frames, tx_bytes, drops }
    }
}

/// Sessions, packets, octets, refused.
type Row = (u64, u64, u64, u64);

/// Of one family: masquerade, and the published ranges by their ids.
#[derive(Debug, Default, Serialize, Deserialize)]
struct FamilyCounts {
    masquerade: Row,
    rules: Vec<(u32, Row)>,
}

/// All of them.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct NatCounted {
    v4: FamilyCounts,
    v6: FamilyCounts,
    begun: u64,
    ended: u64,
    reclaimed: u64,
    invalid: u64,
    conflicts: u64,
}

/// Of published ports with sockets as the uplink.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct SocketsCounted {
    v4: Vec<(u32, Row)>,
    v6: Vec<(u32, Row)>,
    /// Packets and octets of sessions that are over; the others carry theirs.
    ended: Vec<(u32, u64, u64)>,
}

const fn row(RuleCounts { sessions, packets, bytes, refused }: RuleCounts) -> Row {
    (sessions, packets, bytes, refused)
}

const fn counts((sessions, packets, bytes, refused): Row) -> RuleCounts {
    RuleCounts { sessions, packets, bytes, refused }
}

fn rows<A: Address>(forwards: &Forwards<A>) -> Vec<(u32, Row)> {
    forwards.iter().map(|(rule, counts)| (rule.id.0, row(counts))).collect()
}

fn enter<A: Address>(forwards: &mut Forwards<A>, rows: &[(u32, Row)]) {
    for (id, row) in rows {
        // One whose containers did not come has no rule.
        if let Some(place) = forwards.counts_mut(RuleId(*id)) {
            *place = counts(*row);
        }
    }
}

impl FamilyCounts {
    fn of<A: Family>(nat: &Nat) -> Self {
        let table = nat.table::<A>();
        Self { masquerade: row(table.masquerade), rules: rows(&table.forwards) }
    }

    fn enter<A: Family>(&self, nat: &mut Nat) {
        *nat.masquerade_mut::<A>() = counts(self.masquerade);
        for (id, row) in &self.rules {
            // One whose containers did not come has no rule.
            if let Some(place) = nat.rule_counts_mut::<A>(RuleId(*id)) {
                *place = counts(*row);
            }
        }
    }
}

impl Daemon {
    /// None without an uplink.
    pub(super) fn counted_by_nat(&self) -> Result<Option<NatCounted>> {
        let counted = self.worker.gateway(|gateway, _| {
            let uplink = gateway.uplink()?;
            let NatCounts { begun, ended, reclaimed, invalid } = uplink.nat.counts();
            let (v4, v6) = (FamilyCounts::of::<Ipv4Addr>(&uplink.nat), FamilyCounts::of::<Ipv6Addr>(&uplink.nat));
            Some(NatCounted { v4, v6, begun, ended, reclaimed, invalid, conflicts: uplink.wan.conflicts() })
        })?;
        Ok(counted.flatten())
    }

    /// None without sockets as the uplink.
    pub(super) fn counted_by_sockets(&self) -> Result<Option<SocketsCounted>> {
        let counted = self.worker.gateway(|gateway, _| {
            let exchange = gateway.exchange()?;
            let ended = exchange.ended().into_iter().map(|(rule, Count { packets, bytes })| (rule, packets, bytes));
            Some(SocketsCounted { v4: rows(&exchange.v4), v6: rows(&exchange.v6), ended: ended.collect() })
        })?;
        Ok(counted.flatten())
    }

    pub(super) fn adopt_socket_counts(&self, counted: SocketsCounted) -> Result<()> {
        self.worker.gateway(move |gateway, _| {
            let Some((exchange, ..)) = gateway.exchange_mut() else { return };
            enter(&mut exchange.v4, &counted.v4);
            enter(&mut exchange.v6, &counted.v6);
            counted.ended.into_iter().for_each(|(rule, packets, bytes)| exchange.add_ended(rule, Count { packets, bytes }));
        })?;
        Ok(())
    }

    pub(super) fn adopt_counts(&self, counted: NatCounted) -> Result<()> {
        self.worker.gateway(move |gateway, _| {
            let Some((uplink, _)) = gateway.uplink_mut() else { return };
            let NatCounted { v4, v6, begun, ended, reclaimed, invalid, conflicts } = counted;
            v4.enter::<Ipv4Addr>(&mut uplink.nat);
            v6.enter::<Ipv6Addr>(&mut uplink.nat);
            // The sessions that were taken over count as begun there.
            uplink.nat.set_counts(NatCounts { begun, ended, reclaimed, invalid });
            uplink.wan.set_conflicts(conflicts);
        })?;
        Ok(())
    }
}
