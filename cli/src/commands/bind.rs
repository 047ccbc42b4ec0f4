//! Binding published ports: the command line does it, with its user's rights, and passes the sockets to the daemon.
//!
//! Whole or not at all: nothing is passed before every port of every range is bound. A range on all addresses takes one socket a port for
//! both families. Sockets that a service manager passed (LISTEN_FDS, sd_listen_fds(3)) are taken in place of those they are equal to.
use crate::api::client::Client;
use crate::api::outside::Uplink;
use crate::api::types::{Published, REQUEST_FDS, Verb};
use crate::errors::PublishProblem;
use crate::publish::{Protocol, Spec};
use anyhow::{Result, bail};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use vswitch_io::sys::socket::{Bound, bind, holder, local_of};
use vswitch_io::sys::{activation, process};

/// Binds the ports of `specs` and passes them, where sockets are the uplink.
pub fn stage_where_wanted(client: &mut Client, specs: &[Spec]) -> Result<()> {
    if specs.is_empty() || client.ask::<Option<Uplink>>(Verb::Uplink, &[])? != Some(Uplink::Socket) {
        return Ok(());
    }
    stage(client, specs)
}

/// Binds the ports of `specs` and passes them, to be published by this connection's next requests.
pub fn stage(client: &mut Client, specs: &[Spec]) -> Result<()> {
    let _ = process::raise_open_files();
    let variable = |name: &str| std::env::var(name).ok();
    let mut passed = activation::inherited(variable("LISTEN_PID").as_deref(), variable("LISTEN_FDS").as_deref());
    let mut bound: Vec<OwnedFd> = Vec::new();
    for spec in specs {
        for port in spec.first..=spec.last {
            if let Some(socket) = take(&mut passed, spec, port) {
                bound.push(socket);
                continue;
            }
            bound.push(one(spec, port).map(OwnedFd::from).or_else(|error| match taken(client, spec) {
                Some(problem) => bail!(problem),
                None => Err(error),
            })?);
        }
    }
    let fds: Vec<BorrowedFd<'_>> = bound.iter().map(AsFd::as_fd).collect();
    for some in fds.chunks(REQUEST_FDS) {
        client.ask::<()>(Verb::Stage, some)?;
    }
    Ok(())
}

/// Whose the port is, where we hold it ourselves for a container.
fn taken(client: &mut Client, spec: &Spec) -> Option<PublishProblem> {
    let published: Vec<Published> = client.ask(Verb::Published, &[]).ok()?;
    published.iter().find_map(|row| {
        let port = spec.overlap(&row.spec.parse().ok()?)?;
        Some(PublishProblem::Taken { spec: spec.to_string(), port, by: row.names.join(",") })
    })
}

/// The socket that a service manager passed for a port, if it did.
fn take(passed: &mut Vec<OwnedFd>, spec: &Spec, port: u16) -> Option<OwnedFd> {
    let is_it = |fd: &OwnedFd| {
        local_of(fd.as_fd()).is_some_and(|(local, is_tcp)| {
            let address = spec.address.map_or(local.ip().is_unspecified(), |address| address == local.ip());
            address && local.port() == port && is_tcp == (spec.protocol == Protocol::Tcp)
        })
    };
    passed.iter().position(is_it).map(|at| passed.swap_remove(at))
}

fn one(spec: &Spec, port: u16) -> Result<Bound> {
    let is_tcp = spec.protocol == Protocol::Tcp;
    let bound = match spec.address {
        Some(address) => bind(SocketAddr::new(address, port), is_tcp),
        None => match bind(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port), is_tcp) {
            // A host without IPv6.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)) => {
                bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port), is_tcp)
            }
            other => other,
        },
    };
    bound.or_else(|error| bail!(problem(spec, port, error)))
}

fn problem(spec: &Spec, port: u16, error: io::Error) -> PublishProblem {
    let address = spec.address.map_or_else(|| "0.0.0.0".into(), |address| address.to_string());
    let place = match spec.address {
        Some(IpAddr::V6(_)) => format!("[{address}]:{port}/{}", spec.protocol),
        Some(IpAddr::V4(_)) | None => format!("{address}:{port}/{}", spec.protocol),
    };
    match error.raw_os_error() {
        Some(libc::EADDRINUSE) => match holder(port, spec.protocol == Protocol::Tcp) {
            Some((name, pid)) => PublishProblem::HeldBy { place, name, pid },
            None => PublishProblem::Held { place },
        },
        Some(libc::EACCES) => PublishProblem::Privileged { place, port },
        Some(libc::EADDRNOTAVAIL) => PublishProblem::NoSuchAddress { place, address },
        Some(libc::EMFILE | libc::ENFILE) => PublishProblem::TooManySockets { place },
        _ => PublishProblem::NotBound { place, error },
    }
}
