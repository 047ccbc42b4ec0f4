//! KEY=VALUE, as `set` takes it and `show --json` gives it: the one road by which a port's configuration changes.
use crate::daemon::check_name;
use crate::errors::{SettingProblem, ValueProblem};
use crate::reach;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use vswitch_nat::slirp::reach::Reach;
use vswitch_nat::station::{ALIASES, AddressGuard, SESSIONS};
use vswitch_switch::port::{Guard, PortConfig};
use vswitch_switch::switch::NEVER_FORWARDED;
use vswitch_switch::{Tpid, UnicastMac, VlanMode};

/// What a port can be set to.
pub const KEYS: &str = "vlan, trunk, native, tpid, isolated, group, guard, ip-guard, hairpin, learn, flood-unknown, flood-broadcast, flood-multicast, \
storm-broadcast, storm-multicast, storm-unknown, fdb-limit, reach, max-flows, aliases, config";
/// What leaves a container's interface to DHCP and router advertisements, when it is attached.
pub const NO_CONFIG: &str = "config=off";
/// What the switch can be set to.
pub const SWITCH_KEYS: &str = "ageing, group-forward, suppress, unregistered";
/// Seconds of ageing at the most (802.1Q table 8-6).
pub const AGEING: std::ops::RangeInclusive<u64> = 10..=1_000_000;
/// Addresses of the switch at the most, chosen at its start.
pub const TABLE_LIMIT: std::ops::RangeInclusive<i64> = 16..=1_048_576;
/// Workers of a daemon.
pub const WORKERS: std::ops::RangeInclusive<i64> = 1..=vswitch_io::worker::MAX_WORKERS as i64;

/// How many threads read ports; the first of them decides, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Workers(pub u8);

impl Default for Workers {
    fn default() -> Self {
        Self(1)
    }
}

impl std::fmt::Display for Workers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Addresses of one port at the most.
pub const FDB_LIMIT: std::ops::RangeInclusive<u32> = 1..=1_048_576;
/// Sessions of one container at the most.
pub const MAX_FLOWS: std::ops::RangeInclusive<u32> = 1..=SESSIONS;

/// What becomes of frames to a group of IP that nobody is known to listen to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Unregistered {
    /// To all ports
    #[default]
    Flood,
    /// To router ports only
    Drop,
}

impl Unregistered {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flood => "flood",
            Self::Drop => "drop",
        }
    }
}

/// Where requests for addresses, and frames to groups, go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    /// Requests for known addresses are answered, instead of flooded.
    pub suppress: bool,
    pub unregistered: Unregistered,
}

impl Default for Spread {
    fn default() -> Self {
        Self { suppress: true, unregistered: Unregistered::Flood }
    }
}

impl Spread {
    /// With what is set of it.
    pub fn set(self, settings: &SwitchSettings) -> Self {
        let Self { suppress, unregistered } = self;
        Self { suppress: settings.suppress.unwrap_or(suppress), unregistered: settings.unregistered.unwrap_or(unregistered) }
    }
}

/// Settings of the switch, as far as they are given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SwitchSettings {
    pub ageing: Option<Duration>,
    /// The mask of reserved group addresses let through.
    pub group_forward: Option<u16>,
    pub suppress: Option<bool>,
    pub unregistered: Option<Unregistered>,
}

/// All that a container can be set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Its port's.
    pub port: PortConfig,
    /// Whether its IP source addresses are judged (L09).
    pub ip_guard: bool,
    /// Where it may go through the uplink.
    pub reach: Reach,
    /// Sessions that it may have.
    pub max_flows: u32,
    /// What it is called beside its name.
    pub aliases: Vec<String>,
    /// Whether attach gives its interface addresses and routes. Of one that is attached it says what is done the next time.
    pub config: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            port: PortConfig::default(),
            ip_guard: true,
            reach: Reach::default(),
            max_flows: SESSIONS,
            aliases: Vec::new(),
            config: true,
        }
    }
}

impl Settings {
    /// What a container has that nobody set otherwise.
    pub fn of(mac: UnicastMac) -> Self {
        Self { port: PortConfig { guard: Guard::Bound(mac), ..PortConfig::default() }, ..Self::default() }
    }

    /// How far its port is trusted with addresses.
    pub const fn address_guard(&self) -> AddressGuard {
        match (self.ip_guard, self.port.guard) {
            (false, _) => AddressGuard::Off,
            (true, Guard::Off) => AddressGuard::Addresses,
            (true, Guard::Bound(_)) => AddressGuard::Bound,
        }
    }
}

/// Whether a port can be set by this key.
pub fn is_key(key: &str) -> bool {
    KEYS.split(", ").any(|known| known == key)
}

fn on_off(value: &str) -> Result<bool> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => bail!(ValueProblem::OnOff),
    }
}

pub const fn word(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

fn rate(value: &str) -> Result<Option<u32>> {
    let limit = vswitch_switch::storm::MAX_COPIES_PER_SECOND;
    match value {
        "off" => Ok(None),
        _ => match value.parse() {
            Ok(rate) if rate <= limit => Ok(Some(rate)),
            Ok(_) | Err(_) => bail!(ValueProblem::Rate),
        },
    }
}

fn split(setting: &str) -> Result<(&str, &str)> {
    setting.split_once('=').with_context(|| SettingProblem::NoSetting { setting: setting.into() })
}

/// `config` with all settings applied; or an error, and none is.
pub fn apply(config: &Settings, mac: UnicastMac, settings: &[String]) -> Result<Settings> {
    let mut config = config.clone();
    for setting in settings {
        let (key, value) = split(setting)?;
        let applied = match key {
            "reach" => reach::parse(value).map(|reach| config.reach = reach),
            "ip-guard" => on_off(value).map(|on| config.ip_guard = on),
            "aliases" => aliases(value).map(|aliases| config.aliases = aliases),
            "max-flows" => max_flows(value).map(|flows| config.max_flows = flows),
            "config" => on_off(value).map(|on| config.config = on),
            _ => apply_one(&mut config.port, mac, key, value),
        };
        applied.with_context(|| format!("cannot set {setting}"))?;
    }
    if let VlanMode::Trunk { allowed, native: None } = &config.port.vlan
        && allowed.is_empty()
    {
        bail!(SettingProblem::EmptyTrunk);
    }
    Ok(config)
}

/// Names with commas between them, or none.
fn aliases(value: &str) -> Result<Vec<String>> {
    let names: Vec<String> = value.split(',').filter(|name| !name.is_empty()).map(Into::into).collect();
    for (number, name) in names.iter().enumerate() {
        let is_twice = names.iter().take(number).any(|other| other.eq_ignore_ascii_case(name));
        if check_name(name).is_err() || is_twice {
            bail!(ValueProblem::Aliases);
        }
    }
    if names.len() > ALIASES {
        bail!(ValueProblem::Aliases);
    }
    Ok(names)
}

fn max_flows(value: &str) -> Result<u32> {
    value.parse().ok().filter(|flows| MAX_FLOWS.contains(flows)).context(ValueProblem::MaxFlows)
}

fn apply_one(config: &mut PortConfig, mac: UnicastMac, key: &str, value: &str) -> Result<()> {
    match key {
        "vlan" => config.vlan = VlanMode::Access(value.parse()?),
        "trunk" => {
            let native = match &config.vlan {
                VlanMode::Trunk { native, .. } => *native,
                VlanMode::Access(_) => None,
            };
            config.vlan = VlanMode::Trunk { allowed: value.parse()?, native };
        }
        "native" => match &mut config.vlan {
            VlanMode::Trunk { native, .. } => *native = if value == "off" { None } else { Some(value.parse()?) },
            VlanMode::Access(_) => bail!(SettingProblem::NoTrunk),
        },
        "tpid" => {
            config.tpid = match value {
                "802.1q" => Tpid::Dot1q,
                "802.1ad" => Tpid::Dot1ad,
                _ => bail!(ValueProblem::Tpid),
            }
        }
        "isolated" => config.group = u8::from(on_off(value)?),
        "group" => config.group = value.parse().context(ValueProblem::Group)?,
        "guard" => config.guard = if on_off(value)? { Guard::Bound(mac) } else { Guard::Off },
        "hairpin" => config.hairpin = on_off(value)?,
        "learn" => config.learn = on_off(value)?,
        "flood-unknown" => config.flood.unknown = on_off(value)?,
        "flood-broadcast" => config.flood.broadcast = on_off(value)?,
        "flood-multicast" => config.flood.multicast = on_off(value)?,
        "storm-broadcast" => config.storm.broadcast = rate(value)?,
        "storm-multicast" => config.storm.multicast = rate(value)?,
        "storm-unknown" => config.storm.unknown = rate(value)?,
        "fdb-limit" => {
            let limit = value.parse().ok().filter(|limit| FDB_LIMIT.contains(limit));
            config.fdb_limit = limit.context(ValueProblem::FdbLimit)?;
        }
        _ => bail!(SettingProblem::NoKey),
    }
    Ok(())
}

/// What [`describe`] gave, of an older vswitch too: that knew one guard, so whoever turned it off has both off.
pub fn of_older(mut described: Vec<String>) -> Vec<String> {
    if described.iter().any(|setting| setting == "guard=off") && !described.iter().any(|setting| setting.starts_with("ip-guard=")) {
        described.push("ip-guard=off".into());
    }
    described
}

/// All settings of a port, as [`apply`] takes them.
pub fn describe(all: &Settings) -> Vec<String> {
    let (config, mut settings) = (&all.port, Vec::new());
    match &config.vlan {
        VlanMode::Access(vid) => settings.push(format!("vlan={vid}")),
        VlanMode::Trunk { allowed, native } => {
            settings.push(format!("trunk={allowed}"));
            settings.push(native.map_or_else(|| "native=off".into(), |vid| format!("native={vid}")));
        }
    }
    let tpid = match config.tpid {
        Tpid::Dot1q => "802.1q",
        Tpid::Dot1ad => "802.1ad",
    };
    let rate = |rate: Option<u32>| rate.map_or_else(|| "off".into(), |rate| rate.to_string());
    settings.extend([
        format!("tpid={tpid}"),
        format!("group={}", config.group),
        format!("guard={}", word(config.guard != Guard::Off)),
        format!("ip-guard={}", word(all.ip_guard)),
        format!("hairpin={}", word(config.hairpin)),
        format!("learn={}", word(config.learn)),
        format!("flood-unknown={}", word(config.flood.unknown)),
        format!("flood-broadcast={}", word(config.flood.broadcast)),
        format!("flood-multicast={}", word(config.flood.multicast)),
        format!("storm-broadcast={}", rate(config.storm.broadcast)),
        format!("storm-multicast={}", rate(config.storm.multicast)),
        format!("storm-unknown={}", rate(config.storm.unknown)),
        format!("fdb-limit={}", config.fdb_limit),
        format!("reach={}", reach::describe(&all.reach)),
        format!("max-flows={}", all.max_flows),
        format!("aliases={}", all.aliases.join(",")),
        format!("config={}", word(all.config)),
    ]);
    settings
}

/// A port's VLANs for people: `10`, or `10,20 native 1`.
pub fn vlans(vlan: &VlanMode) -> String {
    match vlan {
        VlanMode::Access(vid) => vid.to_string(),
        VlanMode::Trunk { allowed, native: None } => format!("trunk {allowed}"),
        VlanMode::Trunk { allowed, native: Some(native) } if allowed.is_empty() => format!("trunk native {native}"),
        VlanMode::Trunk { allowed, native: Some(native) } => format!("trunk {allowed} native {native}"),
    }
}

/// Settings of the switch.
pub fn of_switch(settings: &[String]) -> Result<SwitchSettings> {
    let mut all = SwitchSettings::default();
    for setting in settings {
        let (key, value) = split(setting)?;
        match key {
            "ageing" => {
                let seconds = value.parse().ok().filter(|seconds| AGEING.contains(seconds));
                let seconds = seconds.context(ValueProblem::Ageing).with_context(|| format!("cannot set {setting}"))?;
                all.ageing = Some(Duration::from_secs(seconds));
            }
            "group-forward" => {
                all.group_forward = Some(group_mask(value).with_context(|| format!("cannot set {setting}"))?);
            }
            "suppress" => all.suppress = Some(on_off(value).with_context(|| format!("cannot set {setting}"))?),
            "unregistered" => {
                let known = [Unregistered::Flood, Unregistered::Drop].into_iter().find(|known| known.name() == value);
                let known = known.context(ValueProblem::Unregistered).with_context(|| format!("cannot set {setting}"))?;
                all.unregistered = Some(known);
            }
            _ => bail!(SettingProblem::NoSwitchKey { key: key.into() }),
        }
    }
    Ok(all)
}

/// Reserved group addresses by their last digit, "0,2,14" or "off", as a mask (L01).
pub fn group_mask(list: &str) -> Result<u16> {
    let mut mask = 0;
    if list != "off" {
        for number in list.split(',') {
            match number.parse::<u16>() {
                Ok(number) if number < 16 && NEVER_FORWARDED & 1 << number == 0 => mask |= 1 << number,
                Ok(1) => bail!(SettingProblem::Pause),
                Ok(_) | Err(_) => bail!(ValueProblem::GroupForward),
            }
        }
    }
    Ok(mask)
}

/// The list that [`group_mask`] reads.
pub fn group_list(mask: u16) -> String {
    let list: Vec<String> = (0..16).filter(|bit| mask >> bit & 1 == 1).map(|bit| bit.to_string()).collect();
    if list.is_empty() { "off".into() } else { list.join(",") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(config: &Settings, settings: &str) -> Result<Settings> {
        let settings: Vec<String> = settings.split_whitespace().map(Into::into).collect();
        apply(config, UnicastMac::for_ipv4([10, 88, 0, 2]), &settings)
    }

    #[test]
    fn what_is_described_is_what_was_set() {
        for settings in [
            "",
            "vlan=10 isolated=on guard=on ip-guard=off",
            "trunk=10,20-29 native=5 tpid=802.1ad hairpin=on learn=off group=7",
            "trunk=10,20 native=off flood-unknown=off flood-broadcast=off flood-multicast=off",
            "storm-broadcast=off storm-multicast=0 storm-unknown=100 fdb-limit=1",
            "reach=allow:10.0.0.53:53/udp,deny:10.0.0.0/8,allow:host-loopback max-flows=7 config=off",
            "aliases=www,api-1.example_2",
        ] {
            let config = set(&Settings::default(), settings).unwrap();
            let again = apply(&Settings::default(), UnicastMac::for_ipv4([10, 88, 0, 2]), &describe(&config)).unwrap();
            assert_eq!(config, again, "{settings}");
        }
    }

    #[test]
    fn an_older_vswitch_had_one_guard() {
        let of = |settings: &str| of_older(settings.split_whitespace().map(Into::into).collect()).join(" ");
        assert_eq!(of("vlan=1 guard=off"), "vlan=1 guard=off ip-guard=off");
        assert_eq!(of("vlan=1 guard=off ip-guard=on"), "vlan=1 guard=off ip-guard=on");
        assert_eq!(of("vlan=1 guard=on"), "vlan=1 guard=on");
    }

    #[test]
    fn what_cannot_be_set_says_why() {
        for (settings, part) in [
            ("vlan", "KEY=VALUE"),
            ("vlan=0", "cannot set vlan=0"),
            ("vlan=4095", "cannot set vlan=4095"),
            ("trunk=", "trunk"),
            ("native=10", "no trunk"),
            ("native=off", "no trunk"),
            ("group=256", "255"),
            ("guard=maybe", "on or off"),
            ("ip-guard=maybe", "on or off"),
            ("storm-broadcast=-1", "copies a second"),
            ("fdb-limit=0", "write 1 to"),
            ("reach=deny:all,deny:x", "cannot set reach=deny:all,deny:x: rule 2: \"x\" is no rule"),
            ("max-flows=0", "write 1 to 65536"),
            ("max-flows=65537", "write 1 to 65536"),
            ("aliases=a,b,A", "write up to 16 names"),
            ("aliases=gateway", "write up to 16 names"),
            ("aliases=a;b", "write up to 16 names"),
            ("colour=blue", "no such key"),
        ] {
            let error = format!("{:#}", set(&Settings::default(), settings).unwrap_err());
            assert!(error.contains(part) && !error.contains('\n'), "{settings}: {error}");
        }
    }

    #[test]
    fn of_the_switch() {
        let of = |settings: &str| of_switch(&[settings.into()]);
        let none = SwitchSettings::default();
        assert_eq!(of("ageing=10").unwrap(), SwitchSettings { ageing: Some(Duration::from_secs(10)), ..none });
        assert_eq!(of("group-forward=0,2,14").unwrap().group_forward, Some(0x4005));
        assert_eq!(of("group-forward=off").unwrap(), SwitchSettings { group_forward: Some(0), ..none });
        assert_eq!(of("suppress=off").unwrap(), SwitchSettings { suppress: Some(false), ..none });
        assert_eq!(of("unregistered=drop").unwrap().unregistered, Some(Unregistered::Drop));
        assert_eq!(Spread::default().set(&of("suppress=off").unwrap()).unregistered, Unregistered::Flood);
        assert_eq!(group_list(0x4005), "0,2,14");
        for settings in [
            "ageing=9",
            "ageing=x",
            "group-forward=1",
            "group-forward=16",
            "group-forward=",
            "suppress=1",
            "unregistered=x",
            "mtu=1",
        ] {
            assert!(of(settings).is_err(), "{settings}");
        }
    }
}
