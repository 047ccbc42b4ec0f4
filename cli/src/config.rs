//! A configuration file: what shall run, as TOML.
//!
//! ```toml
//! schema = 1
//!
//! [network]                # what is left out stays as it is
//! subnet = "10.88.0.0/20"  # this, the gateway, fdb-limit, workers and ipv6 are of the daemon's start
//! ipv6 = "local"           # or "off", or a prefix that is routed here, as "2001:db8:1::/64"
//! ageing = 300
//!
//! [container.web]          # what is left out is as "attach" without a flag has it
//! namespace = "ns1"        # or a path, or "pid:N", or "--host" for the host itself
//! ip = "10.88.0.9"
//! vlan = 10                # and every other key of "set"
//! ```
//! and the uplink and published ports: see [`outside`]; and reserved addresses: see [`reservations`].
//!
//! Reading a file does nothing but read: whether namespaces exist and what has to change is found out later ([`crate::plan`]). A value is
//! translated into the word that `set` takes and judged by the very code that `set` uses. Every error says file, line and column. A file
//! has at most [`FILE_OCTETS`].
mod network;
pub mod outside;
mod place;
pub mod reservations;

use crate::api::leases::Leased;
use crate::api::outside::Uplink;
use crate::api::types::{Container, Kind};
use crate::daemon::{self, network::Network, network6::Ipv6};
use crate::errors::{self, ConfigProblem, DaemonProblem, NameProblem};
use crate::settings::{self, Settings, Spread, Workers};
use crate::state::Publish;
use anyhow::Result;
use network::NetworkConfig;
use outside::{PublishEntry, UplinkEntry};
pub use place::{Place, Placed};
use reservations::ReserveEntry;
use std::collections::HashMap;
use std::fmt::{self, Display};
use std::hash::Hash;
use std::net::Ipv4Addr;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};
use vswitch_io::link::{IfName, MTU_MAX, MTU_MIN};
use vswitch_io::netns::{HOST, NsSpec};
use vswitch_switch::mac::MacParseError;
use vswitch_switch::port::Guard;
use vswitch_switch::{UnicastMac, VlanMode};

/// Octets of a file at the most: 4,095 containers have 1,000 each.
pub const FILE_OCTETS: usize = 4 << 20;
/// The one schema there is.
pub const SCHEMA: i64 = 1;
/// Keys of a container that `set` does not take.
const OWN_KEYS: &str = "namespace, type, ip, mac, mtu, ifname";
/// What a container has that nobody chose otherwise: see [`crate::args::Attach`].
const MTU: u16 = 1_500;
const IFNAME: &str = "eth0";
const HOST_IFNAME: &str = "vswitch0";

/// The interface's name in a namespace, where nobody chose another.
pub const fn default_ifname(namespace: &NsSpec) -> &'static str {
    match namespace {
        NsSpec::Host => HOST_IFNAME,
        NsSpec::Name(_) | NsSpec::Path(_) | NsSpec::Pid(_) => IFNAME,
    }
}

/// All that attaching a container takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub name: String,
    pub namespace: NsSpec,
    pub kind: Kind,
    pub ip: Option<Ipv4Addr>,
    pub mac: Option<UnicastMac>,
    pub mtu: u16,
    pub ifname: String,
    /// As `set` takes them; what they leave out is default.
    pub settings: Vec<String>,
}

impl Wanted {
    fn new(name: &str, namespace: NsSpec) -> Self {
        let (name, ifname) = (name.into(), default_ifname(&namespace).into());
        Self { name, namespace, kind: Kind::Tap, ip: None, mac: None, mtu: MTU, ifname, settings: Vec::new() }
    }

    /// The words of the command line that attaches it.
    pub fn words(&self) -> Vec<String> {
        let mut words = vec![
            "attach".into(),
            format!("--name={}", self.name),
            format!("--type={}", self.kind.name()),
            format!("--mtu={}", self.mtu),
            format!("--ifname={}", self.ifname),
        ];
        words.extend(self.ip.map(|ip| format!("--ip={ip}")));
        words.extend(self.mac.map(|mac| format!("--mac={mac}")));
        words.extend(self.settings.iter().map(|setting| format!("--set={setting}")));
        match self.namespace {
            NsSpec::Host => words.push(HOST.into()),
            NsSpec::Name(_) | NsSpec::Path(_) | NsSpec::Pid(_) => words.extend(["--".into(), self.namespace.to_string()]),
        }
        words
    }
}

impl Display for Wanted {
    /// What is not default.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "namespace {}", self.namespace)?;
        match self.kind {
            Kind::Tap => {}
            Kind::Veth => write!(f, ", type {}", self.kind.name())?,
        }
        self.ip.map_or(Ok(()), |ip| write!(f, ", ip {ip}"))?;
        self.mac.map_or(Ok(()), |mac| write!(f, ", mac {mac}"))?;
        if self.mtu != MTU {
            write!(f, ", mtu {}", self.mtu)?;
        }
        if self.ifname != default_ifname(&self.namespace) {
            write!(f, ", ifname {}", self.ifname)?;
        }
        self.settings.iter().try_for_each(|setting| write!(f, ", {setting}"))
    }
}

/// A container of a file. What is not written is where the container is.
#[derive(Clone, Debug)]
pub struct Entry {
    pub wanted: Wanted,
    pub namespace: Place,
    pub ip: Place,
    pub mac: Place,
}

/// A file.
#[derive(Clone, Debug)]
pub struct Config {
    file: String,
    pub network: NetworkConfig,
    /// None: it stays as it is.
    pub uplink: Option<UplinkEntry>,
    pub published: Vec<PublishEntry>,
    pub reserved: Vec<ReserveEntry>,
    /// By name.
    pub containers: Vec<Entry>,
}

impl Config {
    /// An error about something in the file.
    pub fn error(&self, place: Place, why: impl Into<anyhow::Error>) -> anyhow::Error {
        error(&self.file, place, why)
    }
}

fn error(file: &str, place: Place, why: impl Into<anyhow::Error>) -> anyhow::Error {
    // What is a flag's on the command line is a key's here.
    let why = errors::line(&why.into()).trim_start_matches("--").into();
    ConfigProblem::At { file: file.into(), line: place.line, column: place.column, why }.into()
}

/// Reads a file's octets.
pub fn parse(file: &str, octets: &[u8]) -> Result<Config> {
    let text = std::str::from_utf8(octets).map_err(|utf8| {
        let valid = String::from_utf8_lossy(octets.get(..utf8.valid_up_to()).unwrap_or_default());
        error(file, Place::of(&valid, valid.len()), ConfigProblem::NoUtf8)
    })?;
    Source { file, text }.config()
}

struct Source<'a> {
    file: &'a str,
    text: &'a str,
}

type Key<'a> = Spanned<DeString<'a>>;
type Value<'a> = Spanned<DeValue<'a>>;

impl Source<'_> {
    fn error(&self, place: Place, why: impl Into<anyhow::Error>) -> anyhow::Error {
        error(self.file, place, why)
    }

    fn place<T>(&self, of: &Spanned<T>) -> Place {
        Place::of(self.text, of.span().start)
    }

    fn config(&self) -> Result<Config> {
        let table = DeTable::parse(self.text).map_err(|error| {
            let place = Place::of(self.text, error.span().map_or(0, |span| span.start));
            self.error(place, ConfigProblem::NoToml { message: error.message().into() })
        })?;
        // Judged first: what another schema means by the rest is unknown.
        let schema = table.get_ref().get("schema");
        let schema = schema.ok_or_else(|| self.error(Place { line: 1, column: 1 }, ConfigProblem::NoSchema))?;
        if self.integer(schema).ok() != Some(SCHEMA) {
            return Err(self.error(self.place(schema), ConfigProblem::OtherSchema));
        }
        let mut config = Config {
            file: self.file.into(),
            network: NetworkConfig::default(),
            uplink: None,
            published: Vec::new(),
            reserved: Vec::new(),
            containers: Vec::new(),
        };
        for (key, value) in table.get_ref() {
            match key.get_ref().as_ref() {
                "schema" => {}
                "network" => config.network = self.network(self.table(value)?)?,
                "uplink" => config.uplink = Some(self.uplink(key, value)?),
                "publish" => config.published = self.publish(self.table(value)?)?,
                "reservations" => config.reserved = self.reservations(self.table(value)?)?,
                "container" => {
                    let entries = self.table(value)?.iter().map(|(name, value)| self.container(name, value));
                    config.containers = entries.collect::<Result<_>>()?;
                }
                key_text => return Err(self.unknown(key, key_text, "schema, network, uplink, publish, reservations, container")),
            }
        }
        self.unique(&config, "namespace", |entry| Some((entry.wanted.namespace.to_string(), entry.namespace)))?;
        self.unique(&config, "ip", |entry| Some((entry.wanted.ip?, entry.ip)))?;
        self.unique(&config, "mac", |entry| Some((entry.wanted.mac?.mac().0, entry.mac)))?;
        self.no_ones_reserved(&config)?;
        Ok(config)
    }

    fn unknown(&self, key: &Key<'_>, name: &str, known: &str) -> anyhow::Error {
        self.error(self.place(key), ConfigProblem::NoKey { key: name.into(), known: known.into() })
    }

    /// Refuses what two containers cannot both have.
    fn unique<T: Eq + Hash>(&self, config: &Config, what: &'static str, of: impl Fn(&Entry) -> Option<(T, Place)>) -> Result<()> {
        let mut seen = HashMap::new();
        for entry in &config.containers {
            let Some((value, place)) = of(entry) else { continue };
            if let Some((other, other_place)) = seen.insert(value, (&entry.wanted.name, place)) {
                // Containers come by name, the error is about what is written later.
                let (first, place) = if place > other_place { (other, place) } else { (&entry.wanted.name, other_place) };
                return Err(self.error(place, ConfigProblem::Twice { what, other: first.clone() }));
            }
        }
        Ok(())
    }

    fn table<'v, 'i>(&self, value: &'v Value<'i>) -> Result<&'v DeTable<'i>> {
        value.get_ref().as_table().ok_or_else(|| self.error(self.place(value), ConfigProblem::NoTable))
    }

    fn integer(&self, value: &Value<'_>) -> Result<i64> {
        let integer = value.get_ref().as_integer().and_then(|integer| i64::from_str_radix(integer.as_str(), integer.radix()).ok());
        integer.ok_or_else(|| self.error(self.place(value), ConfigProblem::NoNumber))
    }

    fn string<'v>(&self, value: &'v Value<'_>) -> Result<&'v str> {
        value.get_ref().as_str().ok_or_else(|| self.error(self.place(value), ConfigProblem::NoString))
    }

    fn address(&self, value: &Value<'_>) -> Result<Ipv4Addr> {
        self.string(value)?.parse().map_err(|error| self.error(self.place(value), ConfigProblem::NoAddress { error }))
    }

    fn mac(&self, value: &Value<'_>) -> Result<UnicastMac> {
        self.string(value)?.parse().map_err(|error: MacParseError| self.error(self.place(value), error))
    }

    /// A value as `set` takes it.
    fn word(&self, value: &Value<'_>) -> Result<String> {
        match value.get_ref() {
            DeValue::String(text) => Ok(text.to_string()),
            DeValue::Integer(_) => Ok(self.integer(value)?.to_string()),
            DeValue::Boolean(on) => Ok(if *on { "on" } else { "off" }.into()),
            DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
                Err(self.error(self.place(value), ConfigProblem::NoValue))
            }
        }
    }

    fn container(&self, name: &Key<'_>, value: &Value<'_>) -> Result<Entry> {
        let here = self.place(name);
        daemon::check_name(name.get_ref()).map_err(|error| self.error(here, error))?;
        let table = self.table(value)?;
        let namespace = table.get("namespace");
        let namespace =
            namespace.ok_or_else(|| self.error(here, ConfigProblem::NoNamespace { name: name.get_ref().to_string() }))?;
        let spec = self.namespace(namespace)?;
        let (mut ip, mut mac) = (here, here);
        let mut wanted = Wanted::new(name.get_ref(), spec);
        for (key, value) in table {
            let place = self.place(value);
            match key.get_ref().as_ref() {
                "namespace" => {}
                "type" => {
                    wanted.kind = self.kind(value)?;
                    daemon::check_kind(&wanted.namespace, wanted.kind).map_err(|error| self.error(place, error))?;
                }
                "ip" => (wanted.ip, ip) = (Some(self.address(value)?), place),
                "mac" => (wanted.mac, mac) = (Some(self.mac(value)?), place),
                "mtu" => {
                    let mtu = u16::try_from(self.integer(value)?).ok().filter(|mtu| (MTU_MIN..=MTU_MAX).contains(&u32::from(*mtu)));
                    wanted.mtu = mtu.ok_or_else(|| self.error(place, ConfigProblem::Mtu))?;
                }
                "ifname" => {
                    let ifname = IfName::parse(self.string(value)?);
                    wanted.ifname = ifname.map_err(|error| self.error(place, error))?.to_string();
                }
                name if settings::is_key(name) => {}
                name => return Err(self.unknown(key, name, &format!("{OWN_KEYS}, {}", settings::KEYS))),
            }
        }
        wanted.settings = self.settings(table)?;
        Ok(Entry { wanted, namespace: self.place(namespace), ip, mac })
    }

    fn namespace(&self, value: &Value<'_>) -> Result<NsSpec> {
        let spec = NsSpec::parse(self.string(value)?).map_err(|error| self.error(self.place(value), error))?;
        spec.absolute().map_err(|error| self.error(self.place(value), error))
    }

    fn kind(&self, value: &Value<'_>) -> Result<Kind> {
        let text = self.string(value)?;
        let kind = [Kind::Tap, Kind::Veth].into_iter().find(|kind| kind.name() == text);
        kind.ok_or_else(|| self.error(self.place(value), ConfigProblem::NoKind { kind: text.into() }))
    }

    /// The keys of `set`, judged as `set` would.
    fn settings(&self, table: &DeTable<'_>) -> Result<Vec<String>> {
        let mut pairs: Vec<_> = table.iter().filter(|(key, _)| settings::is_key(key.get_ref())).collect();
        // "native" is of a trunk, so that comes first.
        pairs.sort_by_key(|(key, _)| key.get_ref() != "trunk");
        for (one, other) in [("vlan", "trunk"), ("isolated", "group")] {
            if let (Some((one_key, _)), true) = (table.get_key_value(one), table.contains_key(other)) {
                return Err(self.error(self.place(one_key), ConfigProblem::TwoWays { one, other }));
            }
        }
        let mac = UnicastMac::for_ipv4([10, 0, 0, 1]);
        let mut config = Settings::of(mac);
        let mut settings = Vec::new();
        for (key, value) in pairs {
            let setting = format!("{}={}", key.get_ref(), self.word(value)?);
            config = settings::apply(&config, mac, std::slice::from_ref(&setting))
                .map_err(|error| self.error(self.place(value), error))?;
            settings.push(setting);
        }
        // As "attach --trunk" does.
        for (guard, off) in [("guard", "guard=off"), ("ip-guard", "ip-guard=off")] {
            if table.contains_key("trunk") && !table.contains_key(guard) {
                settings.push(off.into());
            }
        }
        Ok(settings)
    }
}

/// What runs.
#[derive(Clone, Debug)]
pub struct Running {
    pub network: Network,
    pub ageing: u64,
    pub fdb_limit: u32,
    pub group_forward: String,
    pub spread: Spread,
    pub workers: Workers,
    pub uplink: Option<Uplink>,
    pub published: Vec<Publish>,
    /// Address and holder.
    pub reserved: Vec<(Ipv4Addr, String)>,
    /// Further stations' behind ports.
    pub leased: Vec<Leased>,
    pub containers: Vec<Container>,
}

/// The settings as a container of a file has it: from its settings.
pub fn port_config(mac: UnicastMac, settings: &[String]) -> Result<Settings> {
    settings::apply(&Settings::of(mac), mac, settings)
}

/// A file that [`parse`] reads as what runs.
pub fn write(running: &Running) -> Result<String> {
    use std::fmt::Write;
    let mut text = format!(
        "schema = {SCHEMA}\n\n[network]\nsubnet = {}\ngateway = {}\nageing = {}\nfdb-limit = {}\ngroup-forward = {}\nsuppress = {}\nunregistered = {}\n",
        quoted(&running.network.subnet()),
        quoted(&running.network.gateway().address.to_string()),
        running.ageing,
        running.fdb_limit,
        quoted(&running.group_forward),
        running.spread.suppress,
        quoted(running.spread.unregistered.name())
    );
    if running.workers != Workers::default() {
        writeln!(text, "workers = {}", running.workers)?;
    }
    if !running.network.ipv6().is_default() {
        writeln!(text, "ipv6 = {}", quoted(&running.network.ipv6().to_string()))?;
    }
    text += &outside::write(running.uplink.as_ref(), &running.published)?;
    text += &reservations::write(&running.reserved);
    for container in &running.containers {
        let name = if container.name.contains('.') { quoted(&container.name) } else { container.name.clone() };
        write!(
            text,
            "\n[container.{name}]\nnamespace = {}\ntype = {}\nip = {}\nmac = {}\nmtu = {}\nifname = {}\n",
            quoted(&container.namespace),
            quoted(container.r#type.name()),
            quoted(&container.ip.to_string()),
            quoted(&container.mac),
            container.mtu,
            quoted(&container.ifname)
        )?;
        let mac = container.mac.parse().map_err(|error: MacParseError| DaemonProblem::BadMac { error: error.to_string() })?;
        let mut unwritten = port_config(mac, &[])?;
        if let VlanMode::Trunk { .. } = port_config(mac, &container.settings)?.port.vlan {
            (unwritten.port.guard, unwritten.ip_guard) = (Guard::Off, false);
        }
        let default = settings::describe(&unwritten);
        for setting in container.settings.iter().filter(|setting| !default.contains(setting)) {
            let (key, word) = setting.split_once('=').unwrap_or((setting, "on"));
            let value = match word {
                "on" => "true".into(),
                "off" => "false".into(),
                number if key != "trunk" && number.parse::<u32>().is_ok() => number.into(),
                other => quoted(other),
            };
            writeln!(text, "{key} = {value}")?;
        }
    }
    Ok(text)
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests;
