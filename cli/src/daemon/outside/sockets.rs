//! The host's sockets as the uplink, and the bound ones that connections pass for what they publish.
use super::*;
use std::os::fd::AsFd;
use vswitch_io::sys::socket::local_of;

/// Sockets that may be passed and not published yet.
const STAGED: usize = 65_536;

impl Daemon {
    /// Makes the host's sockets the uplink.
    pub(in crate::daemon) fn set_sockets(&mut self, id: ConnectionId) -> Result<Value> {
        if self.outside.sockets {
            return done();
        }
        let staged = self.outside.staged.remove(&id).unwrap_or_default();
        // Judged before anything is changed.
        let published: Vec<(u32, Spec)> = self.outside.published.iter().map(|(id, publication)| (*id, publication.spec)).collect();
        let mut sockets = staged;
        let mut bound = Vec::new();
        for (rule, spec) in published {
            bound.push((rule, take_sockets(&mut sockets, &spec)?));
        }
        self.clear_uplink()?;
        self.begin_sockets()?;
        for (rule, fds) in bound {
            self.worker.publish_sockets(rule, fds)??;
            self.enforce(rule)?;
        }
        done()
    }

    /// Makes the host's sockets the uplink, nothing published yet.
    pub(in crate::daemon) fn begin_sockets(&mut self) -> Result<()> {
        self.worker.set_sockets(true)??;
        let most = sockets_of(self.facts.open_files_limit);
        self.worker.gateway(move |gateway, _| {
            if let Some((exchange, ..)) = gateway.exchange_mut() {
                exchange.set_limit(most);
            }
        })?;
        self.outside.sockets = true;
        self.advertise();
        tracing::info!("uplink socket");
        self.saver.mark();
        Ok(())
    }

    /// Keeps bound sockets for what a connection publishes next.
    pub(in crate::daemon) fn stage(&mut self, id: ConnectionId, fds: Vec<OwnedFd>) -> Result<Value> {
        let all: usize = self.outside.staged.values().map(Vec::len).sum();
        if all + fds.len() > STAGED {
            self.outside.staged.remove(&id);
            bail!(PublishProblem::Staged);
        }
        self.outside.staged.entry(id).or_default().extend(fds);
        done()
    }
}

/// The sockets of a range out of those that were passed: one for each port at the least.
pub(super) fn take_sockets(staged: &mut Vec<OwnedFd>, spec: &Spec) -> Result<Vec<OwnedFd>> {
    let mut ports = BTreeSet::new();
    let mut taken = Vec::new();
    for fd in std::mem::take(staged) {
        let is_ours = local_of(fd.as_fd()).is_some_and(|(local, is_tcp)| {
            let address = spec.address.is_none_or(|address| address == local.ip());
            let ours = address && is_tcp == (spec.protocol == Protocol::Tcp) && (spec.first..=spec.last).contains(&local.port());
            ours && ports.insert(local.port())
        });
        if is_ours { taken.push(fd) } else { staged.push(fd) }
    }
    match (spec.first..=spec.last).find(|port| !ports.contains(port)) {
        Some(port) => bail!(PublishProblem::NoSocket { spec: spec.to_string(), port }),
        None => Ok(taken),
    }
}
