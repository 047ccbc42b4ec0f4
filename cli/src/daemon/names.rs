//! Names: what the gateway answers for.
use super::Daemon;
use super::verbs::value;
use crate::api::names::{Name, NameCounts};
use anyhow::Result;
use serde_json::Value;
use vswitch_nat::dns::zone::GATEWAY;

impl Daemon {
    /// All of them, by name.
    pub(super) fn names(&self) -> Result<Value> {
        let gateway = self.registry.network.gateway();
        let own = Name {
            name: GATEWAY.into(),
            container: GATEWAY.into(),
            ip: gateway.address,
            ip6: gateway.v6.map(|v6| v6.address),
            alias: false,
        };
        let mut rows = vec![own];
        for (container, _) in self.registry.after(None) {
            let names = std::iter::once((&container.name, false)).chain(container.config.aliases.iter().map(|alias| (alias, true)));
            rows.extend(names.map(|(name, alias)| Name {
                name: name.clone(),
                container: container.name.clone(),
                ip: container.ip,
                ip6: self.registry.network.ip6(container.ip),
                alias,
            }));
        }
        rows.sort();
        value(rows)
    }

    pub(super) fn name_counts(&self) -> Result<NameCounts> {
        let counts = self.worker.gateway(|gateway, _| gateway.names.counts())?.unwrap_or_default();
        let (cache, queries) = (counts.cache, counts.queries);
        Ok(NameCounts {
            internal: counts.internal,
            refused: counts.refused,
            by_tcp: counts.by_tcp,
            cached: cache.hits,
            joined: queries.joined,
            sent: queries.sent,
            answered: queries.answered,
            failed: queries.failed,
            ignored: queries.ignored,
            other_case: queries.other_case,
            malformed: queries.malformed,
            entries: counts.entries as u64,
            octets: counts.octets as u64,
            evicted: cache.evicted,
        })
    }
}
