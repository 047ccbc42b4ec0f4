//! `demo`: shows what vswitch does, in namespaces of its own, and cleans up. Every line after a `$` is what was run, and can be retyped.
//!
//! It is a script: steps run in turn, each a program like any user's, their output shown. What runs in its containers ends by itself should
//! the demo be killed. Whatever way it ends, [`Stage`] takes everything down again.
mod stage;
pub mod traffic;

use super::{ports, stats};
use crate::api::client;
use crate::api::stats::Stats;
use crate::api::types::Verb;
use crate::args::Demo;
use crate::errors::ToolProblem;
use crate::print;
use anyhow::{Context, Result, bail};
use stage::Stage;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};
use vswitch_io::link::{self, Addressing, IfName, Netlink, TapOptions};
use vswitch_io::netns::{Namespace, NsSpec};
use vswitch_switch::UnicastMac;

/// The two ends of the bare copy loop.
const RELAY: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 255, 255, 1), Ipv4Addr::new(10, 255, 255, 2)];
const RELAY_PREFIX: u8 = 30;
/// In the container that asks.
const EXEC_CLIENT: &[&str] = &["vswitch", "exec", "client", "--"];
/// A server of the host's, and a published port, on which nobody is likely to listen.
const HOST_SERVER: u16 = 15_201;
const PUBLISHED: u16 = 15_202;
/// An address that has no host (RFC 5737): the way to anywhere.
const ANYWHERE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// How long a flow may take to be there, and between two looks.
const FLOW: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(20);
/// What [`relay`] says once it runs.
const RELAYING: &str = "relaying";

pub fn run(args: &Demo) -> Result<()> {
    let mut stage = Stage::new()?;
    let result = play(&mut stage, args.seconds);
    let left = stage.clear();
    result?;
    left?;
    print::out("cleaned up: no interface, namespace, process or file is left. Install: cargo install --path cli\n")
}

fn play(stage: &mut Stage, seconds: u64) -> Result<()> {
    let kernel = nix::sys::utsname::uname().map_or_else(|_| "?".into(), |name| name.release().to_string_lossy().into_owned());
    let (user, root) = (client::user_name(), if stage.is_root() { "" } else { ", no root" });
    print::out(&format!("vswitch {} | Linux {kernel} | user {user}{root} | undone at the end\n", env!("CARGO_PKG_VERSION")))?;
    stage.say_environment()?;

    print::out("[1/5] two containers on one switch\n")?;
    container(stage, "web", &[], &["vswitch", "demo-server"])?;
    container(stage, "client", &["--allow", "host-loopback"], &["sleep", stage::HOLD])?;
    let address = address_of(stage, "web")?.to_string();
    let web = format!("{address}:{}", traffic::PORT);

    print::out("[2/5] the switch learns\n")?;
    let ping: &[&str] =
        if stage::is_installed("ping") { &["ping", "-c3", "-i0.2", &address] } else { &["vswitch", "demo-ping", &address] };
    let pinged = stage.run(&[EXEC_CLIENT, ping].concat())?;
    let lines: Vec<&str> = pinged.lines().collect();
    stage.show(&lines.get(lines.len().saturating_sub(2)..).unwrap_or_default().join("\n"))?;
    let fdb = stage.run(&["vswitch", "fdb"])?;
    stage.show(&fdb)?;

    print::out(&format!("[3/5] container to container, one TCP stream, {seconds} s, MTU 1500\n"))?;
    let fetched = stage.run(&[EXEC_CLIENT, &["vswitch", "demo-fetch", &web, &seconds.to_string()]].concat())?;
    stage.show(&fetched)?;
    let ours = rate(&fetched)?;
    print::out("  the same through a bare copy loop, which forwards every frame and decides nothing:\n")?;
    let (a, b) = stage.hold_pair()?;
    stage.background(&["vswitch", "demo-relay", &a.pid(), &b.pid()], Some(RELAYING))?;
    stage.background_inside(&a, &["vswitch", "demo-server"], Some(traffic::SERVING))?;
    let fetched = stage.inside(&b, &["vswitch", "demo-fetch", &format!("{}:{}", RELAY[0], traffic::PORT), &seconds.to_string()])?;
    let floor = rate(&fetched)?;
    print::out(&format!("  {ours:.1} Gbit/s (a bare copy loop on this machine: {floor:.1}; ratio {:.2})\n", ours / floor))?;

    world(stage, seconds)?;

    print::out("[5/5] every frame is accounted for\n")?;
    stage.say(&["vswitch", "stats"])?;
    let stats: Stats = stage.connect()?.ask(Verb::Stats, &[])?;
    stage.show(&format!("frames  {}", stats::accounts(&stats)))?;
    if !stats.balanced {
        bail!(ToolProblem::NotBalanced);
    }
    let sent: u64 = ports::all(&mut stage.connect()?)?.iter().map(|port| port.tx_bytes).sum();
    stage.show(&format!("{:.2} GB forwarded, {} frames dropped", sent as f64 / 1e9, stats.dropped))
}

/// Out to a server of the host, and in to a published port, through the host's sockets.
fn world(stage: &mut Stage, seconds: u64) -> Result<()> {
    print::out(&format!(
        "[4/5] to the host and back, through its sockets: no privilege, its firewall applies, {seconds} s each\n"
    ))?;
    let seconds = seconds.to_string();
    let server = format!("{}:{HOST_SERVER}", Ipv4Addr::LOCALHOST);
    stage.background(&["vswitch", "demo-server", &server], Some(traffic::SERVING))?;
    let gateway = super::show::info(&mut stage.connect()?)?.gateway.to_string();
    let at_gateway = format!("{gateway}:{HOST_SERVER}");
    let fetched = stage.run(&[EXEC_CLIENT, &["vswitch", "demo-fetch", &at_gateway, &seconds]].concat())?;
    stage.show(&fetched)?;
    let own = own_address();
    let published = format!("{own}:{PUBLISHED}");
    stage.run(&["vswitch", "publish", &format!("{published}:{}", traffic::PORT), "web", "--from", &own.to_string()])?;
    let fetched = stage.run(&["vswitch", "demo-fetch", &published, &seconds])?;
    stage.show(&fetched)?;
    // A fetch under way, to be seen.
    stage.background(&["vswitch", "demo-fetch", &published, "2"], None)?;
    let until = Instant::now() + FLOW;
    let flows = loop {
        let flows = stage.run_quietly(&["vswitch", "flows", "web"])?;
        if flows.contains("established") || Instant::now() > until {
            break flows;
        }
        std::thread::sleep(LOOK);
    };
    stage.say(&["vswitch", "flows", "web"])?;
    stage.show(&flows)?;
    let seen = if own.is_loopback() { "the gateway, for its client is on the loopback" } else { "its client's own address" };
    print::out(&format!("  web sees {seen}\n"))
}

/// The host's address that others see, if it has one; nothing is sent to learn it.
fn own_address() -> Ipv4Addr {
    let told = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect((ANYWHERE, 9))?;
        socket.local_addr()
    });
    match told.map(|address| address.ip()) {
        Ok(IpAddr::V4(address)) if !address.is_unspecified() => address,
        Ok(IpAddr::V4(_) | IpAddr::V6(_)) | Err(_) => Ipv4Addr::LOCALHOST,
    }
}

/// A container that runs a command.
fn container(stage: &mut Stage, name: &str, flags: &[&str], command: &[&str]) -> Result<()> {
    let attached = stage.run(&[&["vswitch", "run", "-d", "--name", name], flags, &["--"], command].concat())?;
    stage.show(&attached)
}

fn address_of(stage: &Stage, name: &str) -> Result<Ipv4Addr> {
    let mut containers = super::show::containers(&mut stage.connect()?)?.into_iter();
    Ok(containers.find(|container| container.name == name).context(ToolProblem::Gone)?.ip)
}

/// Gbit/s, as [`traffic::fetch`] prints them.
fn rate(fetched: &str) -> Result<f64> {
    let rate = fetched.split_whitespace().next().and_then(|number| number.parse().ok());
    rate.filter(|rate| *rate > 0.0).with_context(|| ToolProblem::NotMeasured { said: fetched.trim().into() })
}

/// A bare copy loop between TAPs in two namespaces, until it is ended. The second belongs to the first's user namespace, or both to ours.
pub fn relay(a: &str, b: &str) -> Result<()> {
    let namespaces = [a, b].map(|text| NsSpec::parse(text).and_then(|spec| Namespace::open(&spec)));
    let ifname = IfName::parse("eth0")?;
    let macs = RELAY.map(|address| UnicastMac::for_ipv4(address.octets()).mac().0);
    let mut taps = Vec::new();
    for (end, namespace) in namespaces.into_iter().enumerate() {
        let (own, other) = (end % 2, (end + 1) % 2);
        namespace?.enter()?;
        let options = TapOptions { mac: macs[own], mtu: 1_500, txqueuelen: super::attach::TAP_QUEUE_FRAMES, max_rung: 0 };
        taps.push(link::open_tap(&ifname, &options)?.0);
        let mut netlink = Netlink::open()?;
        let index = netlink.index(&ifname)?.context(ToolProblem::TapGone)?;
        let to = Addressing { address: RELAY[own], prefix: RELAY_PREFIX, gateway: RELAY[other], gateway_mac: macs[other] };
        link::configure(&mut netlink, index, &to)?;
    }
    let [a, b] = <[_; 2]>::try_from(taps).map_err(|_| ToolProblem::NoTaps)?;
    let (_stopper, stop) = std::os::unix::net::UnixStream::pair()?;
    print::out(&format!("{RELAYING}\n"))?;
    Ok(vswitch_io::relay::relay(a, b, std::os::fd::AsFd::as_fd(&stop))?)
}
