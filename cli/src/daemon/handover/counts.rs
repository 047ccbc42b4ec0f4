//! What the NAT has counted, handed over with the accounts of frames once the old daemon has stopped.
use super::*;
use std::net::Ipv6Addr;
use vswitch_nat::forward::{RuleCounts, RuleId};
use vswitch_nat::nat::{Family, Nat, NatCounts};

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

const fn row(RuleCounts { sessions, packets, bytes, refused }: RuleCounts) -> Row {
    (sessions, packets, bytes, refused)
}

const fn counts((sessions, packets, bytes, refused): Row) -> RuleCounts {
    RuleCounts { sessions, packets, bytes, refused }
}

impl FamilyCounts {
    fn of<A: Family>(nat: &Nat) -> Self {
        let table = nat.table::<A>();
        let rules = table.forwards.iter().map(|(rule, counts)| (rule.id.0, row(counts)));
        Self { masquerade: row(table.masquerade), rules: rules.collect() }
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
