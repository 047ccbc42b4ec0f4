//! `apply`: makes what runs as a file has it. Each change takes the road of the command that makes it by hand; containers are attached by
//! processes of their own, for entering a namespace is for good. And `show --config`, which writes such a file.
use super::{leases, publish, show, up, uplink};
use crate::api::client::Client;
use crate::api::leases::{AddressState, Lease, Leased};
use crate::api::types::{Published, Verb};
use crate::args::{Apply, Up};
use crate::config::outside::Uplink;
use crate::config::{self, Config, FILE_OCTETS, Running, Wanted};
use crate::daemon::network::Network;
use crate::daemon::network6::Ipv6;
use crate::errors::{self, ConfigProblem, RunProblem};
use crate::plan::{self, Change, Options, Plan};
use crate::print;
use crate::state::Publish;
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use vswitch_io::netns::{Namespace, NetnsError};

pub fn run(args: &Apply) -> Result<()> {
    let (file, octets) = read(&args.file)?;
    let config = config::parse(&file, &octets)?;
    let found = find(&config, args.missing_ok)?;
    let running = running()?;
    let plan = plan::plan(&config, running.as_ref(), &found, args.prune)?;
    if args.dry_run || plan.changes.is_empty() {
        return print::out(&plan.to_string());
    }
    carry_out(&plan)
}

/// `show --config`.
pub fn show() -> Result<()> {
    let mut client = Client::connect()?;
    print::out(&config::write(&ask(&mut client)?)?)
}

/// A file's name for errors, and its octets.
fn read(path: &Path) -> Result<(String, Vec<u8>)> {
    let mut octets = Vec::new();
    let name = if path == Path::new("-") { "standard input".into() } else { path.display().to_string() };
    let limit = FILE_OCTETS as u64 + 1;
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_end(&mut octets)
    } else {
        File::open(path).and_then(|file| file.take(limit).read_to_end(&mut octets))
    };
    read.map_err(|error| ConfigProblem::Unreadable { file: name.clone(), error })?;
    if octets.len() > FILE_OCTETS {
        bail!(ConfigProblem::TooLong { file: name });
    }
    Ok((name, octets))
}

/// The inodes of the namespaces that exist, by container; the others are an error, or left out with a warning.
fn find(config: &Config, missing_ok: bool) -> Result<BTreeMap<String, u64>> {
    let mut found = BTreeMap::new();
    for entry in &config.containers {
        let wanted = &entry.wanted;
        let opened = Namespace::open(&wanted.namespace).and_then(|namespace| namespace.refuse_host().map(|()| namespace.id().ino));
        match opened {
            Ok(inode) => drop(found.insert(wanted.name.clone(), inode)),
            Err(error) if missing_ok && is_missing(&error) => {
                print::note(&format!("vswitch apply: {} is left out: {error}", wanted.name))
            }
            Err(error) => return Err(config.error(entry.namespace, error)),
        }
    }
    Ok(found)
}

/// Whether there is no such namespace, rather than one that cannot be used.
pub fn is_missing(error: &NetnsError) -> bool {
    matches!(error, NetnsError::NoSuchName { .. } | NetnsError::NoSuchPath { .. } | NetnsError::NoSuchProcess { .. })
}

/// What runs, if anything.
fn running() -> Result<Option<Running>> {
    match Client::connect().and_then(|mut client| ask(&mut client)) {
        Ok(running) => Ok(Some(running)),
        Err(error) if errors::is_no_daemon(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn ask(client: &mut Client) -> Result<Running> {
    let info = show::info(client)?;
    let leases = leases::all(client)?;
    Ok(Running {
        network: Network::parse(&info.subnet, Some(info.gateway))?.with_ipv6(info.ipv6),
        ageing: info.ageing,
        fdb_limit: info.fdb_capacity,
        group_forward: info.group_forward,
        spread: info.spread,
        workers: info.workers,
        uplink: client.ask(Verb::Uplink, &[])?,
        published: client.ask::<Vec<Published>>(Verb::Published, &[])?.into_iter().map(publish).collect(),
        reserved: leases.iter().filter_map(|lease| Some((lease.address, lease.reserved_for.clone()?))).collect(),
        leased: leases.into_iter().filter_map(leased).collect(),
        containers: show::containers(client)?,
    })
}

fn publish(Published { spec, names, from, .. }: Published) -> Publish {
    Publish { spec, names, from }
}

/// A further station's lease, if it is one.
fn leased(lease: Lease) -> Option<Leased> {
    let is_leased = lease.state == AddressState::Leased;
    is_leased.then_some(Leased { address: lease.address, mac: lease.holder, container: lease.container?, seconds: lease.dhcp? })
}

/// Starts the switch.
pub fn start(options: &Options) -> Result<()> {
    let default = Up::default();
    up::start(&Up {
        subnet: options.subnet.clone(),
        gateway: options.gateway,
        ageing: options.ageing.unwrap_or(default.ageing),
        fdb_limit: options.fdb_limit.unwrap_or(default.fdb_limit),
        group_forward: options.group_forward.clone(),
        no_ipv6: options.ipv6 == Some(Ipv6::Off),
        prefix6: options.ipv6.filter(|ipv6| matches!(ipv6, Ipv6::Routed(_))).map(|ipv6| ipv6.to_string()),
        no_suppress: options.suppress == Some(false),
        unregistered: options.unregistered.unwrap_or_default(),
        workers: options.workers.unwrap_or_default().0,
        ..default
    })
}

/// Makes the changes; each is printed once it is made.
fn carry_out(plan: &Plan) -> Result<()> {
    let all = plan.changes.len();
    for (made, change) in plan.changes.iter().enumerate() {
        make(change).with_context(|| format!("{made} of {all} changes made, not \"{change}\""))?;
        print::out(&format!("{change}\n"))?;
    }
    Ok(())
}

fn make(change: &Change) -> Result<()> {
    let set = |name: &str, to: &[String]| Client::connect()?.ask::<()>(Verb::Set { name: name.into(), settings: to.to_vec() }, &[]);
    match change {
        Change::Start(options) => start(options),
        Change::SetSwitch { to, .. } => set("switch", to),
        Change::Detach { name, .. } => Client::connect()?.ask(Verb::Detach { name: name.clone(), ns: None }, &[]),
        Change::Set { name, to, .. } => set(name, to),
        Change::Attach(wanted) => attach_in_child(wanted).map(drop),
        Change::Uplink { to: Uplink::None, .. } => Client::connect()?.ask(Verb::UplinkNone, &[]),
        Change::Uplink { to: Uplink::Socket, .. } => uplink::set_socket(),
        Change::Uplink { to: Uplink::Packet(packet), .. } => uplink::plug(uplink::order(packet)).map(drop),
        Change::Unpublish { spec, .. } => Client::connect()?.ask(Verb::Unpublish { port: spec.port(), name: None }, &[]),
        Change::Publish(Publish { spec, names, from }) => {
            publish::publish(&mut Client::connect()?, spec.parse()?, names.clone(), from.clone())
        }
        Change::Unreserve { address, .. } => leases::unreserve(*address),
        Change::Reserve { address, holder } => {
            Client::connect()?.ask(Verb::ReserveAddress { address: *address, holder: holder.clone() }, &[])
        }
    }
}

/// Attaches in a process of its own, and gives what that prints.
pub fn attach_in_child(wanted: &Wanted) -> Result<String> {
    let program = std::env::current_exe().context(RunProblem::NoVswitch)?;
    let output = Command::new(program).args(wanted.words()).stdin(Stdio::null()).output();
    let output = output.context(RunProblem::NotAgain)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    match said.trim().trim_start_matches("vswitch attach: ") {
        "" => bail!(ConfigProblem::NotSaid { status: output.status }),
        why => bail!(why.to_owned()),
    }
}
