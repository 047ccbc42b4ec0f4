//! `attach`: plugs a namespace in. What needs rights is done here, in the namespace, by the user who asks; the daemon is given fds.
//!
//! `--host` plugs in the namespace that this command and the daemon run in: an interface with an address, and nothing else of the host
//! is changed. The way to its network is all that it gets, so the network must not be one that the host has a route to.
use super::engine::Engine;
use super::resolv::NetnsFile;
use super::{bind, show, up};
use crate::api::client::Client;
use crate::api::outside::Plugged;
use crate::api::types::{Kind, Lease, NsId, Reach, Reserve, Verb, WatchKind};
use crate::args::{Attach, Plug, Up};
use crate::config::default_ifname;
use crate::daemon::network::overlap;
use crate::errors::{self, AttachProblem, DaemonProblem, NameProblem};
use crate::print;
use crate::settings::NO_CONFIG;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};
use vswitch_io::link::{self, Addressing, Addressing6, IfName, Ipv4Net, LinkError, Netlink, TapOptions, VethOptions};
use vswitch_io::netns::{self, Namespace, NsSpec};
use vswitch_io::sys::process;
use vswitch_switch::UnicastMac;
use vswitch_switch::mac::MacParseError;

/// Frames that wait in a TAP for the switch at the most, each up to 64 KB: enough for a burst, not a second of delay.
pub const TAP_QUEUE_FRAMES: u32 = 256;

/// How long the kernel may take to remove an interface whose other end was closed.
const BACKGROUND: Duration = Duration::from_millis(500);
/// Between two tries.
const LOOK: Duration = Duration::from_millis(5);

/// What was plugged in.
#[derive(Serialize, Deserialize)]
pub struct Attached {
    pub lease: Lease,
    ifname: String,
    mtu: u16,
    port: u16,
    /// Else its address is to be had by DHCP.
    is_configured: bool,
    uplink: String,
}

impl fmt::Display for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lease: Lease { name, ip, prefix, mac, gateway, .. }, ifname, mtu, port, uplink, is_configured } = self;
        let by = if *is_configured { "" } else { " by DHCP" };
        write!(
            f,
            "{name}: {ip}/{prefix}{by} on {ifname}, mac {mac}, mtu {mtu}, gateway {gateway}, switch port {port}, uplink {uplink}"
        )
    }
}

pub fn run(args: &Attach) -> Result<()> {
    let engine = args.ns.as_deref().and_then(Engine::parse);
    let spec = match (&engine, &args.ns) {
        (Some(engine), _) => NsSpec::Pid(engine.pid()?),
        (None, Some(ns)) => NsSpec::parse(ns)?,
        (None, None) => NsSpec::Host,
    };
    // Before a daemon is started for nothing.
    if spec == NsSpec::Host && !Netlink::open().context(AttachProblem::NoNetlink)?.may_change() {
        bail!(AttachProblem::HostNotRoot);
    }
    let namespace = Namespace::open(&spec)?;
    namespace.refuse_host()?;
    let to_write = if args.resolv_conf { Some(NetnsFile::to_be_written(&spec)?) } else { None };
    let mut wanted = reserve(&args.plug, &namespace)?;
    wanted.name = wanted.name.or_else(|| engine.map(|engine| engine.id)).or_else(|| Some(namespace.suggested_name()));
    let attached = plug(&namespace, &wanted, args.plug.offload_rung)?;
    let gateway = attached.lease.gateway;
    if let Some(file) = to_write {
        file.give(gateway).inspect_err(|_| give_up(&wanted, &attached))?;
    } else if let Some(file) = NetnsFile::of_spec(&spec) {
        file.tell(gateway);
    }
    print::out(&format!("{attached}\n"))
}

/// Unplugs what cannot be as it was asked for. The daemon may have ended, too.
fn give_up(wanted: &Reserve, attached: &Attached) {
    if let Ok(mut client) = Client::connect() {
        let _ = client.ask::<()>(Verb::Detach { name: attached.lease.name.clone(), ns: Some(wanted.ns) }, &[]);
    }
}

/// Plugs a namespace in. This process is in it afterwards.
pub fn plug(namespace: &Namespace, wanted: &Reserve, rung: u8) -> Result<Attached> {
    let ifname = IfName::parse(&wanted.ifname).map_err(|error| NameProblem::Ifname { ifname: wanted.ifname.clone(), error })?;
    let specs = wanted.publish.iter().map(|spec| spec.parse()).collect::<Result<Vec<_>, _>>()?;
    let (mut client, lease) = ask_for_lease(wanted)?;
    // Here, before this process is in the container.
    bind::stage_where_wanted(&mut client, &specs)?;
    if wanted.reach == Reach::Host {
        refuse_overlap(&lease)?;
    }
    let watch = namespace.watch()?;
    namespace.enter()?;
    let mac = parse_mac(&lease.mac)?;
    let (port, mask) = make(wanted, rung, namespace, &ifname, mac)?;
    let kind = watch.as_ref().map(|watch| match &watch.kind {
        netns::WatchKind::Process => WatchKind::Process,
        netns::WatchKind::Name { dir, file, .. } => WatchKind::Name { dir: dir.clone(), file: file.clone() },
    });
    let plug = Verb::Plug { kind: wanted.kind, mask, watch: kind };
    let fds: Vec<_> = [port.as_fd()].into_iter().chain(watch.as_ref().map(|watch| watch.fd.as_fd())).collect();
    let plugged: Plugged = client.ask(plug, &fds)?;
    // The daemon's is the only one left: when it closes it, the interface goes.
    drop(port);
    let is_configured = !wanted.settings.iter().any(|setting| setting == NO_CONFIG);
    if is_configured {
        configure(&ifname, &lease, wanted.reach == Reach::Host)?;
    } else {
        raise(&ifname)?;
    }
    client.ask::<()>(Verb::Ready, &[])?;
    Ok(Attached {
        lease,
        ifname: wanted.ifname.clone(),
        mtu: wanted.mtu,
        port: plugged.port,
        uplink: plugged.uplink,
        is_configured,
    })
}

/// One that the daemon gave.
fn parse_mac(mac: &str) -> Result<UnicastMac> {
    Ok(mac.parse().map_err(|error: MacParseError| DaemonProblem::BadMac { error: error.to_string() })?)
}

/// A daemon that ends just now is one that does not run.
fn ask_for_lease(wanted: &Reserve) -> Result<(Client, Lease)> {
    let mut client = connect()?;
    match client.ask(Verb::Attach(wanted.clone()), &[]) {
        Err(error) if errors::is_no_daemon(&error) => {
            client = connect()?;
            let lease = client.ask(Verb::Attach(wanted.clone()), &[])?;
            Ok((client, lease))
        }
        lease => Ok((client, lease?)),
    }
}

/// The daemon; it is started when none runs.
fn connect() -> Result<Client> {
    match Client::connect() {
        Err(error) if errors::is_no_daemon(&error) => {
            // Two attaches at once: one of them starts it.
            up::start(&Up::default()).or_else(|error| Client::connect().map(drop).map_err(|_| error))?;
            let mut client = Client::connect()?;
            let info = show::info(&mut client)?;
            print::note(&format!("started vswitch: network {}, pid {}; \"vswitch down\" ends it", info.network, info.pid));
            Ok(client)
        }
        other => other,
    }
}

/// What to ask the daemon for; without a name, unless one is asked for.
pub fn reserve(args: &Plug, namespace: &Namespace) -> Result<Reserve> {
    let id = namespace.id();
    let mut settings = Vec::new();
    let mut set = |key: &str, value: String| settings.push(format!("{key}={value}"));
    if let Some(vlan) = args.vlan {
        set("vlan", vlan.to_string());
    }
    if let Some(trunk) = &args.trunk {
        set("trunk", trunk.to_string());
    }
    if let Some(native) = args.native {
        set("native", native.to_string());
    }
    if args.isolated {
        set("isolated", "on".into());
    }
    if args.no_guard || args.trunk.is_some() {
        set("guard", "off".into());
        set("ip-guard", "off".into());
    }
    let rules = args.reach.rules.list();
    if !rules.is_empty() {
        set("reach", rules);
    }
    if let Some(flows) = args.reach.max_flows {
        set("max-flows", flows.to_string());
    }
    if !args.aliases.is_empty() {
        set("aliases", args.aliases.join(","));
    }
    if args.no_config {
        settings.push(NO_CONFIG.into());
    }
    settings.extend_from_slice(&args.set);
    Ok(Reserve {
        name: args.name.clone(),
        ns: NsId { dev: id.dev, ino: id.ino },
        reach: reach(namespace.spec())?,
        kind: args.kind,
        ip: args.ip,
        mac: args.mac.map(|mac| mac.to_string()),
        mtu: args.mtu,
        ifname: args.ifname.clone().unwrap_or_else(|| default_ifname(namespace.spec()).into()),
        settings,
        publish: args.publish.clone(),
    })
}

/// How others get there.
fn reach(spec: &NsSpec) -> Result<Reach> {
    Ok(match spec {
        NsSpec::Pid(pid) => {
            let start = process::start_time(*pid).context(AttachProblem::ProcessEnded { pid: *pid })?;
            Reach::Process { pid: *pid, start, run: false }
        }
        NsSpec::Path(path) => Reach::Path(std::path::absolute(path)?),
        NsSpec::Name(name) => Reach::Name(name.clone()),
        NsSpec::Host => Reach::Host,
    })
}

/// Makes the interface, down: the daemon should hold its other end before the container's kernel sends its first frame.
///
/// A name that is taken may be that of a veth that was detached just now, which the kernel removes in the background.
fn make(wanted: &Reserve, rung: u8, namespace: &Namespace, ifname: &IfName, mac: UnicastMac) -> Result<(OwnedFd, u32)> {
    let until = Instant::now() + BACKGROUND;
    loop {
        match make_once(wanted, rung, namespace, ifname, mac) {
            Err(LinkError::Taken { .. }) if Instant::now() < until => std::thread::sleep(LOOK),
            made => return Ok(made?),
        }
    }
}

fn make_once(
    wanted: &Reserve,
    rung: u8,
    namespace: &Namespace,
    ifname: &IfName,
    mac: UnicastMac,
) -> Result<(OwnedFd, u32), LinkError> {
    let (mac, mtu) = (mac.mac().0, wanted.mtu.into());
    match wanted.kind {
        Kind::Tap => {
            let max_rung = rung.into();
            link::open_tap(ifname, &TapOptions { mac, mtu, txqueuelen: TAP_QUEUE_FRAMES, max_rung })
        }
        Kind::Veth => link::open_veth(namespace.as_fd(), ifname, &VethOptions { mac, mtu }).map(|socket| (socket, 0)),
    }
}

/// Refuses to give the host a network that it knows another way to.
fn refuse_overlap(lease: &Lease) -> Result<()> {
    let in_use = Netlink::open().and_then(|mut netlink| netlink.ipv4_in_use()).context(AttachProblem::NoNetlink)?;
    let address = Ipv4Addr::from_bits(lease.ip.to_bits() & !u32::MAX.checked_shr(lease.prefix.into()).unwrap_or(0));
    let text = |net: Ipv4Net| format!("{}/{}", net.address, net.prefix);
    let network = Ipv4Net { address, prefix: lease.prefix };
    match overlap(network, &in_use) {
        Some(route) => bail!(AttachProblem::RouteOverlap { network: text(network), route: text(route) }),
        None => Ok(()),
    }
}

/// The interface that was made just now.
fn found(ifname: &IfName) -> Result<(Netlink, u32)> {
    let mut netlink = Netlink::open().context(AttachProblem::NoNetlink)?;
    let index = netlink.index(ifname).context(AttachProblem::NotLookedUp)?;
    let index = index.with_context(|| AttachProblem::InterfaceGone { ifname: ifname.clone() })?;
    Ok((netlink, index))
}

/// Leaves the rest to who is in the namespace.
fn raise(ifname: &IfName) -> Result<()> {
    let (mut netlink, index) = found(ifname)?;
    Ok(link::raise(&mut netlink, index)?)
}

fn configure(ifname: &IfName, lease: &Lease, is_host: bool) -> Result<()> {
    let (mut netlink, index) = found(ifname)?;
    let gateway = parse_mac(&lease.gateway_mac)?;
    let to = Addressing { address: lease.ip, prefix: lease.prefix, gateway: lease.gateway, gateway_mac: gateway.mac().0 };
    let to6 = lease.ip6.zip(lease.gateway6).map(|(address, gateway)| (address, lease.prefix6, gateway));
    let to6 = to6.map(|(address, prefix, router)| Addressing6 { address, prefix, gateway: router, gateway_mac: gateway.mac().0 });
    // What is configured here is not to configure itself too: it has one address, and one default route.
    let refused = link::refuse_advertisements(ifname);
    if to6.is_none() {
        link::without_ipv6(ifname);
    }
    if is_host {
        refused?;
        link::configure_host(&mut netlink, index, &to)?;
    } else {
        // A container whose /proc/sys cannot be written has another address then, and is served all the same.
        link::configure(&mut netlink, index, &to)?;
    }
    // Where there is no IPv6, there is none to set.
    match to6 {
        Some(to6) if is_host => drop(link::configure_host6(&mut netlink, index, &to6)?),
        Some(to6) => drop(link::configure6(&mut netlink, index, &to6)?),
        None => {}
    }
    Ok(())
}
