//! What can be typed. Parsing does nothing else.
use crate::api::types::Kind;
use crate::errors::ValueProblem;
mod fdb;
mod outside;
mod reach;
mod up;

use clap::{Args as Group, Parser, Subcommand};
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::str::FromStr;
use vswitch_switch::{UnicastMac, Vid, VidSet};

pub use fdb::Fdb;
pub use outside::{Flows, Flush, PacketUplink, Publish, Uplink, UplinkSet};
pub use reach::Reach;
pub use up::Up;

/// `vswitch --help`: by what one wants to do, on one screen. A test compares it with the verbs.
const HELP: &str = "\
A virtual switch for containers and network namespaces
Usage: vswitch COMMAND ...          (vswitch COMMAND --help says more)

Containers
  run, exec            run a command in a new container, in one that is attached
  attach, detach       plug a network namespace, or this host, in, out
The world
  uplink               how containers reach it
  publish, unpublish   ports that lead into containers; published lists them
  flows, nat, neigh    the NAT's sessions, rules, neighbours; flush ends flows
  names, leases        what containers are called; who has which address
  reserve, unreserve   who is to have an address
Looking (all with --json)
  show, inspect        the switch and what is attached; one container
  ports, fdb, stats    counters; addresses; the fate of every frame
  groups, events       who listens to multicast; what happens, as it happens
  mirror               frames, into a pcap file
The switch itself
  set, apply           change a port or the switch; all that a file has
  up, down             start it (attach and run do), end it
  restart, restore     anew without a gap; after it was killed
  logs, doctor, demo   its log; what this machine lacks; what it can do

Options: -h, --help; -V, --version
";

/// A virtual switch for containers and network namespaces.
#[derive(Parser)]
#[command(version, about, disable_help_subcommand = true, max_term_width = 120, override_help = HELP)]
pub struct Args {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Subcommand)]
pub enum Verb {
    /// Start the switch (attach does so by itself)
    Up(Up),
    /// End the switch; what is attached loses its interface
    Down,
    /// Start the switch anew, also after an upgrade, without a gap for what is attached
    Restart,
    /// Plug a network namespace, or this host, in
    Attach(Box<Attach>),
    /// Run a command in a container of its own: new namespaces, plugged in
    Run(Box<Run>),
    /// Run a command in a container that is attached
    Exec(Exec),
    /// Unplug one
    Detach {
        /// Its name, or the namespace as attach takes it
        #[arg(value_name = "NAME|NS")]
        container: String,
    },
    /// Change a container's port (set web vlan=10 isolated=on), or the switch (set switch ageing=120 group-forward=0,2)
    Set {
        /// A container, or "switch"
        name: String,
        /// What to change: a wrong key is answered with a list of them
        #[arg(required = true, value_name = "KEY=VALUE")]
        settings: Vec<String>,
    },
    /// List or change the addresses that the switch knows
    #[command(args_conflicts_with_subcommands = true)]
    Fdb {
        #[command(subcommand)]
        action: Option<Fdb>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// List who listens to which group of multicast, and the ports that ask who does
    Groups {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// How containers reach the world: list or set it
    #[command(args_conflicts_with_subcommands = true)]
    Uplink {
        #[command(subcommand)]
        action: Option<Uplink>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Publish ports: who comes to them from outside comes into a container, with his own address
    Publish(Publish),
    /// Publish ports no longer, or not to one container; connections that there are go on
    Unpublish {
        /// Any port of the range, with the address that it was published at or at all
        #[arg(value_name = "[HOSTIP:]PORT[/PROTO]")]
        port: String,
        /// Only this container
        name: Option<String>,
    },
    /// Published ports and their counters
    Published {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// The NAT's sessions
    Flows(Flows),
    /// End what is learned or tracked
    Flush {
        #[command(subcommand)]
        what: Flush,
    },
    /// The NAT's rules and their counters
    Nat {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Who is behind the addresses inside and at the uplink
    Neigh {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Names that the gateway answers for, and who has them
    Names {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// The network's addresses: who has them, had them last, or is to have them
    Leases {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Keep an address for a container, or for whoever has a hardware address
    Reserve {
        /// Of the network
        address: Ipv4Addr,
        /// A container's name, attached or not, or a hardware address
        #[arg(value_name = "NAME|MAC")]
        holder: String,
    },
    /// Keep an address for nobody any longer; who has it keeps it
    Unreserve {
        /// A reserved address
        address: Ipv4Addr,
    },
    /// Write a container's frames to a pcap file until interrupted
    Mirror {
        /// A container
        name: String,
        /// The file; "-" is standard output
        file: PathBuf,
    },
    /// Make what runs as a file has it: the switch, containers and their settings
    Apply(Apply),
    /// Attach again what a killed daemon had attached, as far as it still exists
    Restore,
    /// The switch and what is attached
    Show {
        /// As JSON
        #[arg(long)]
        json: bool,
        /// As a file that "apply" takes
        #[arg(long, conflicts_with = "json")]
        config: bool,
    },
    /// Ports and their counters
    Ports {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// The accounts of all frames, and every reason for a drop
    Stats {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// What happens, a line each, until interrupted
    Events {
        /// Only what is about this container
        name: Option<String>,
        /// A JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Everything about one container
    Inspect {
        /// A container
        name: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// The daemon's log, also of one that has ended
    Logs {
        /// Go on with what is written from now on, until interrupted
        #[arg(short, long)]
        follow: bool,
        /// The last lines only
        #[arg(short = 'n', long, value_name = "N")]
        lines: Option<usize>,
    },
    /// Whether this machine lets it work, and what to do where not
    Doctor {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    #[command(hide = true)]
    DoctorProbe,
    /// Show what it does, in namespaces of its own, and clean up
    Demo(Demo),
    /// Write man pages or completions, for packages
    #[command(hide = true)]
    Generate {
        #[command(subcommand)]
        what: Generate,
    },
    #[command(hide = true)]
    RunInner {
        setup: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    #[command(hide = true)]
    RunPlug { order: String },
    #[command(hide = true)]
    DemoServer { at: Option<SocketAddrV4> },
    #[command(hide = true)]
    DemoFetch { from: SocketAddrV4, seconds: u64 },
    #[command(hide = true)]
    DemoPing { address: Ipv4Addr },
    #[command(hide = true)]
    DemoRelay { a: String, b: String },
}

impl Verb {
    /// As typed, for errors.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Up(_) => "up",
            Self::Down => "down",
            Self::Restart => "restart",
            Self::Attach(_) => "attach",
            Self::Run(_) | Self::RunInner { .. } | Self::RunPlug { .. } => "run",
            Self::Exec(_) => "exec",
            Self::Detach { .. } => "detach",
            Self::Set { .. } => "set",
            Self::Fdb { .. } => "fdb",
            Self::Groups { .. } => "groups",
            Self::Mirror { .. } => "mirror",
            Self::Uplink { .. } => "uplink",
            Self::Publish(_) => "publish",
            Self::Unpublish { .. } => "unpublish",
            Self::Published { .. } => "published",
            Self::Flows(_) => "flows",
            Self::Flush { .. } => "flush",
            Self::Nat { .. } => "nat",
            Self::Neigh { .. } => "neigh",
            Self::Names { .. } => "names",
            Self::Leases { .. } => "leases",
            Self::Reserve { .. } => "reserve",
            Self::Unreserve { .. } => "unreserve",
            Self::Apply(_) => "apply",
            Self::Restore => "restore",
            Self::Show { .. } => "show",
            Self::Ports { .. } => "ports",
            Self::Stats { .. } => "stats",
            Self::Events { .. } => "events",
            Self::Inspect { .. } => "inspect",
            Self::Logs { .. } => "logs",
            Self::Doctor { .. } => "doctor",
            Self::DoctorProbe => "doctor-probe",
            Self::Demo(_) => "demo",
            Self::Generate { .. } => "generate",
            Self::DemoServer { .. } => "demo-server",
            Self::DemoFetch { .. } => "demo-fetch",
            Self::DemoPing { .. } => "demo-ping",
            Self::DemoRelay { .. } => "demo-relay",
        }
    }
}

#[derive(Subcommand)]
pub enum Generate {
    /// Man pages
    Man { dir: PathBuf },
    /// Completions for bash, zsh and fish
    Completions { dir: PathBuf },
}

#[derive(Group)]
pub struct Attach {
    /// An `ip netns` name, a path, pid:N, a PID, docker:ID or podman:ID
    #[arg(required_unless_present = "host", conflicts_with = "host")]
    pub ns: Option<String>,
    /// The host itself: containers and host reach each other; needs root
    #[arg(long)]
    pub host: bool,
    /// Have programs under "ip netns exec" ask the gateway for names: write /etc/netns/NAME/resolv.conf, until detach
    #[arg(long, conflicts_with = "host")]
    pub resolv_conf: bool,
    #[command(flatten)]
    pub plug: Plug,
}

#[derive(Group)]
pub struct Run {
    /// Leave it running and return
    #[arg(long, short)]
    pub detach: bool,
    /// bridge (the switch), none (lo only), host (the host's), container:NAME (that one's)
    #[arg(long, value_name = "NETWORK", default_value = "bridge")]
    pub network: RunNetwork,
    #[command(flatten)]
    pub plug: Plug,
    /// What to run
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<OsString>,
}

#[derive(Group)]
pub struct Exec {
    /// A container
    pub name: String,
    /// What to run
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<OsString>,
}

/// A container's network, by Docker's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunNetwork {
    /// A namespace of its own, plugged in.
    Bridge,
    /// A namespace of its own with lo only.
    None,
    /// The caller's.
    Host,
    /// That of a container.
    Container(String),
}

impl FromStr for RunNetwork {
    type Err = ValueProblem;

    fn from_str(text: &str) -> Result<Self, ValueProblem> {
        match text {
            "bridge" => Ok(Self::Bridge),
            "none" => Ok(Self::None),
            "host" => Ok(Self::Host),
            _ => match text.strip_prefix("container:") {
                Some(name) if !name.is_empty() => Ok(Self::Container(name.into())),
                Some(_) | None => Err(ValueProblem::RunNetwork),
            },
        }
    }
}

/// A port and its interface.
#[derive(Group, PartialEq)]
pub struct Plug {
    /// Its name here [default: that of the namespace; of run c1, c2, ...]
    #[arg(long)]
    pub name: Option<String>,
    /// Kind of interface
    #[arg(long = "type", value_enum, default_value_t = Kind::Tap)]
    pub kind: Kind,
    /// Address [default: the first that is free]
    #[arg(long, value_name = "A")]
    pub ip: Option<Ipv4Addr>,
    /// Hardware address [default: 02:58 and the IP address]
    #[arg(long)]
    pub mac: Option<UnicastMac>,
    /// MTU in octets, 68 to 65521
    #[arg(long, value_parser = clap::value_parser!(u16).range(68..=65_521), default_value = "1500")]
    pub mtu: u16,
    /// Name of the interface in the namespace [default: eth0; of the host vswitch0]
    #[arg(long)]
    pub ifname: Option<String>,
    /// VLAN of its untagged frames [default: 1]
    #[arg(long, conflicts_with = "trunk")]
    pub vlan: Option<Vid>,
    /// VLANs of its tagged frames, as 10,20,100-199; turns the guard off
    #[arg(long, value_name = "LIST")]
    pub trunk: Option<VidSet>,
    /// With --trunk: VLAN of its untagged frames
    #[arg(long, requires = "trunk", value_name = "VLAN")]
    pub native: Option<Vid>,
    /// Keep it from other isolated containers
    #[arg(long)]
    pub isolated: bool,
    /// Let it send from any hardware address (for containers that bridge)
    #[arg(long)]
    pub no_guard: bool,
    /// Leave its interface without addresses and routes: to DHCP and router advertisements
    #[arg(long)]
    pub no_config: bool,
    /// Publish ports, as "publish" takes them
    #[arg(short, long, value_name = "SPEC")]
    pub publish: Vec<String>,
    #[command(flatten)]
    pub reach: Reach,
    /// Another name that it answers to, besides NAME; may be repeated
    #[arg(long = "alias", value_name = "NAME")]
    pub aliases: Vec<String>,
    /// Any other setting, as "set" takes it
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// First rung of the offload ladder tried: 0 all, 1 no UDP segmentation, 2 checksums only, 3 none
    #[arg(long, hide = true, default_value = "0", value_parser = clap::value_parser!(u8).range(0..=3))]
    pub offload_rung: u8,
}

impl Default for Plug {
    /// What no flag does.
    fn default() -> Self {
        let (name, ip, mac, ifname, vlan, trunk, native) = (None, None, None, None, None, None, None);
        Self {
            name,
            kind: Kind::Tap,
            ip,
            mac,
            mtu: 1_500,
            ifname,
            vlan,
            trunk,
            native,
            isolated: false,
            no_guard: false,
            no_config: false,
            publish: Vec::new(),
            reach: Reach::default(),
            aliases: Vec::new(),
            set: Vec::new(),
            offload_rung: 0,
        }
    }
}

#[derive(Group)]
pub struct Apply {
    /// The file, TOML; "-" is standard input. "show --config" writes one
    pub file: PathBuf,
    /// Print what would change, change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Detach what is not in the file
    #[arg(long)]
    pub prune: bool,
    /// Go on without containers whose namespace does not exist
    #[arg(long)]
    pub missing_ok: bool,
}

#[derive(Group)]
pub struct Demo {
    /// Seconds of each TCP measurement
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=60), default_value = "3")]
    pub seconds: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn defaults_are_those_of_the_command_line() {
        let parse =
            |words: &[&str]| Args::try_parse_from([&["vswitch"], words].concat()).unwrap_or_else(|error| panic!("{error}")).verb;
        let Verb::Run(run) = parse(&["run", "-d", "sh", "-c", "echo --name x"]) else { panic!("run") };
        assert!(run.plug == Plug::default() && run.network == RunNetwork::Bridge && run.detach);
        assert_eq!(run.command, ["sh", "-c", "echo --name x"]);
        let Verb::Run(run) = parse(&["run", "--network", "container:web", "--", "-x", "--", "y"]) else { panic!("run") };
        assert_eq!((run.network, run.command), (RunNetwork::Container("web".into()), vec!["-x".into(), "--".into(), "y".into()]));
        for network in ["container:", "bridged", ""] {
            assert!(network.parse::<RunNetwork>().is_err(), "{network}");
        }
    }

    #[test]
    fn rules_keep_their_order() {
        let words = "vswitch attach --deny 10.0.0.0/8:25 --allow host-loopback --max-flows 9 --deny all --allow [::1]:53/udp ns";
        let Verb::Attach(attach) = Args::try_parse_from(words.split(' ')).unwrap_or_else(|error| panic!("{error}")).verb else {
            panic!("attach")
        };
        assert_eq!(attach.plug.reach.rules.list(), "deny:10.0.0.0/8:25,allow:host-loopback,deny:all,allow:[::1]:53/udp");
        assert_eq!(attach.plug.reach.max_flows, Some(9));
        for (words, part) in [
            ("--deny host-loopback", "leave deny:host-loopback out"),
            ("--allow 10.0.0.0/33", "\"10.0.0.0/33\" is no rule: write"),
            ("--deny 10.0.0.1:0", "write 1 to 65535 behind the colon"),
            ("--max-flows 0", "0 is not in 1..=65536"),
        ] {
            let Err(error) = Args::try_parse_from(format!("vswitch attach {words} ns").split(' ')) else { panic!("{words}") };
            assert!(error.to_string().contains(part), "{words}: {error}");
        }
    }

    #[test]
    fn help_fits_a_screen_and_names_every_command() {
        assert!(HELP.lines().count() < 25 && HELP.lines().all(|line| line.len() <= 80));
        let word = |name: &str| HELP.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').any(|word| word == name);
        for command in Args::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            assert!(word(command.get_name()), "{}", command.get_name());
        }
    }

    #[test]
    fn arguments_are_consistent() {
        Args::command().debug_assert();
    }
}
