//! `restore`: after a daemon was killed, starts one like it and attaches again what still exists: see [`crate::state`].
//!
//! A name or a path counts as there when it names a namespace; a PID only when it is the same process.
use super::{apply, publish, show, uplink};
use crate::api::client::Client;
use crate::api::outside::Uplink;
use crate::api::types::{Published, Verb};
use crate::errors::{self, DaemonProblem};
use crate::print;
use crate::rundir::RunDir;
use crate::state::{Container, Publish, State};
use anyhow::{Result, bail};
use std::time::{Duration, Instant};
use vswitch_io::netns::{Namespace, NsSpec};
use vswitch_io::sys::process;

/// How long a killed daemon may look as if it ran.
const ENDING: Duration = Duration::from_secs(5);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);

pub fn run() -> Result<()> {
    let dir = RunDir::of_user();
    refuse_running(&dir)?;
    let Some(state) = State::read(&dir)? else {
        bail!(DaemonProblem::NothingToRestore { state: dir.state() });
    };
    restore(&state)
}

/// Starts a daemon like the one that wrote `state`, and attaches again what that one had.
pub fn restore(state: &State) -> Result<()> {
    apply::start(&state.network.options())?;
    let info = show::info(&mut Client::connect()?)?;
    print::out(&format!("vswitch up: network {}, gateway {}, pid {}\n", info.network, info.gateway, info.pid))?;
    let attached = attach_again(&state.containers);
    outside_again(state)?;
    attached
}

/// Sets the uplink again, and publishes what was published, as far as there is neither.
pub fn outside_again(state: &State) -> Result<()> {
    let mut client = Client::connect()?;
    let uplink: Option<Uplink> = client.ask(Verb::Uplink, &[])?;
    let told = |what: &str, result: Result<()>| {
        if let Err(error) = result {
            print::note(&format!("vswitch restore: {what}: {}", errors::line(&error)));
        }
    };
    match (&state.uplink, state.sockets) {
        (Some(_), _) if matches!(uplink, Some(Uplink::Packet(_))) => {}
        (Some(order), _) => told(&format!("uplink {}", order.iface), uplink::plug(order.clone()).map(drop)),
        (None, true) if uplink.is_none() => told("uplink socket", uplink::set_socket()),
        (None, false) if uplink == Some(Uplink::Socket) => told("uplink none", client.ask(Verb::UplinkNone, &[])),
        (None, _) => {}
    }
    told("addresses", client.ask(Verb::RestoreAddresses(state.addresses.clone()), &[]));
    let published: Vec<Published> = client.ask(Verb::Published, &[])?;
    for Publish { spec, names, from } in &state.published {
        if !published.iter().any(|there| there.spec == *spec) {
            let parsed = spec.parse().map_err(anyhow::Error::from);
            let again = parsed.and_then(|spec| publish::publish(&mut client, spec, names.clone(), from.clone()));
            told(&format!("publish {spec}"), again);
        }
    }
    Ok(())
}

/// Attaches what still exists.
pub fn attach_again(containers: &[Container]) -> Result<()> {
    let (mut restored, mut lost, mut failed) = (0, 0, 0);
    for container in containers {
        let wanted = container.wanted()?;
        match gone(container)? {
            Some(why) => {
                lost += 1;
                print::out(&format!("{}: gone, {why}\n", wanted.name))?;
            }
            None => match apply::attach_in_child(&wanted) {
                Ok(line) => {
                    restored += 1;
                    print::out(&line)?;
                }
                Err(error) => {
                    failed += 1;
                    print::note(&format!("vswitch restore: {}: {}", wanted.name, errors::line(&error)));
                }
            },
        }
    }
    print::out(&format!("{restored} restored, {lost} gone\n"))?;
    if failed > 0 {
        bail!(DaemonProblem::NotRestored { failed, all: containers.len() });
    }
    Ok(())
}

/// Refuses while a daemon runs. One that was killed just now may take a moment to begin its end, for which the start of ours waits.
fn refuse_running(dir: &RunDir) -> Result<()> {
    let until = Instant::now() + ENDING;
    while dir.is_locked() && !dir.is_ending() {
        if Instant::now() > until || Client::connect_to(dir).is_ok_and(|mut client| show::info(&mut client).is_ok()) {
            bail!(DaemonProblem::NothingLeft);
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// Why a container's namespace is not there any more, if it is not.
fn gone(container: &Container) -> Result<Option<String>> {
    let spec = NsSpec::parse(&container.namespace)?;
    Ok(match (Namespace::open(&spec), &spec) {
        (Err(error), _) if apply::is_missing(&error) => Some(match &spec {
            NsSpec::Name(name) => format!("there is no network namespace {name:?}"),
            NsSpec::Path(path) => format!("there is no {}", path.display()),
            NsSpec::Pid(pid) => format!("process {pid} has ended"),
            NsSpec::Host => "/proc is not there".into(),
        }),
        (Ok(_), NsSpec::Pid(pid)) if process::start_time(*pid).ok() != container.started => {
            Some(format!("process {pid} has ended, another has its number"))
        }
        // What else is wrong with it, attach says.
        (Ok(_) | Err(_), _) => None,
    })
}
