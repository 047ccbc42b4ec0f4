//! What a daemon begins with: options, or what another one hands over.
use super::handover::{self, Channel, Taken};
use super::network::Network;
use crate::args::Up;
use crate::rundir::RunDir;
use crate::settings::{self, Spread, Workers};
use anyhow::{Context, Result};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};
use vswitch_io::privilege::Identity;
use vswitch_io::sys::activation;
use vswitch_switch::FdbLimits;

/// What a daemon begins with: of its own, or another one's.
pub(super) struct Beginning {
    pub(super) network: Network,
    pub(super) fdb: FdbLimits,
    pub(super) group_forward: u16,
    pub(super) spread: Spread,
    pub(super) workers: Workers,
    pub(super) listener: UnixListener,
    pub(super) lock: File,
    pub(super) started: Instant,
    pub(super) restarts: u32,
    /// The service manager listens, and goes on to when we end.
    pub(super) activated: bool,
    /// To the daemon that is to be taken over.
    pub(super) channel: Option<Channel>,
}

impl Beginning {
    pub(super) fn fresh(options: &Up, dir: &RunDir, service: Option<Identity>) -> Result<Self> {
        let network = Network::choose(options.subnet.as_deref(), options.gateway)?.with_ipv6(options.ipv6()?);
        let group_forward = options.group_forward.as_deref().map_or(Ok(0), settings::group_mask).context("--group-forward")?;
        dir.prepare(service)?;
        let lock = dir.lock()?;
        let variable = |name: &str| std::env::var(name).ok();
        let (pid, count) = (variable("LISTEN_PID"), variable("LISTEN_FDS"));
        let activated = activation::listener(pid.as_deref(), count.as_deref()).context("socket activation")?;
        let is_activated = activated.is_some();
        let listener = activated.map(UnixListener::from).map_or_else(|| dir.bind(service), Ok)?;
        listener.set_nonblocking(true)?;
        let fdb = FdbLimits { entries: options.fdb_limit, ageing: Duration::from_secs(options.ageing) };
        Ok(Self {
            network,
            fdb,
            group_forward,
            spread: Spread { suppress: !options.no_suppress, unregistered: options.unregistered },
            workers: Workers(options.workers),
            listener,
            lock,
            started: Instant::now(),
            restarts: 0,
            activated: is_activated,
            channel: None,
        })
    }

    pub(super) fn taken() -> Result<Self> {
        let mut channel = Channel::new(std::io::stdin().as_fd().try_clone_to_owned()?)?;
        let Taken { hello, listener, lock } = handover::greet(&mut channel)?;
        let fdb = FdbLimits { entries: hello.fdb_limit, ageing: Duration::from_secs(hello.ageing) };
        let started = Instant::now().checked_sub(Duration::from_secs(hello.uptime)).unwrap_or_else(Instant::now);
        Ok(Self {
            network: Network::of(hello.gateway, hello.prefix)?.with_ipv6(hello.ipv6),
            fdb,
            group_forward: hello.group_forward,
            spread: hello.spread,
            workers: hello.workers,
            listener: listener.into(),
            lock,
            started,
            restarts: hello.restarts.saturating_add(1),
            activated: hello.activated,
            channel: Some(channel),
        })
    }
}
