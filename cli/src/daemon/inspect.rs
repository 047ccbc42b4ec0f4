//! `inspect`: everything about one container.
use super::Daemon;
use crate::api::events::rfc3339;
use crate::api::stats as counted;
use crate::api::types::Inspected;
use crate::errors::AttachProblem;
use anyhow::{Context, Result};
use serde_json::Value;
use vswitch_switch::DropReason;

impl Daemon {
    pub(super) fn inspect(&self, name: &str) -> Result<Value> {
        let (container, port) = self.registry.attached(name)?;
        let stats = self.worker.stats()?;
        let of_port = stats.ports.iter().find(|(id, _)| *id == port);
        let (_, counted) = of_port.with_context(|| AttachProblem::Gone { name: name.into() })?;
        let drop = |reason: &DropReason| counted::Drop {
            reason: reason.name().into(),
            frames: counted.counters.drops.get(*reason),
            explanation: reason.explain().into(),
        };
        Ok(serde_json::to_value(Inspected {
            container: self.registry.row(container, port),
            watch: container.watch.clone(),
            since: rfc3339(container.since),
            counters: self.port_row(port, counted),
            dropped: DropReason::ALL.iter().map(drop).filter(|drop| drop.frames > 0).collect(),
        })?)
    }
}
