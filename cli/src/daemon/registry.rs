//! Who is attached: names, namespaces, addresses, ports. No two containers share any of them.
//!
//! A container is *reserved* (its name and addresses are taken, the command line makes its interface), then *plugged* (it has a port), then
//! *ready*. One that its command line abandons before it is ready is forgotten.
use super::network::Network;
use super::network6::PREFIX6;
use crate::api::types::{self, Kind, Lease, NsId, Reach, Reserve};
use crate::errors::{NameProblem, PublishProblem};
use crate::settings::{self, Settings};
use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::time::SystemTime;
use vswitch_io::clock;
use vswitch_io::link::{IfName, MTU_MAX, MTU_MIN};
use vswitch_io::netns::{NsSpec, WatchKind};
use vswitch_nat::ipam::{Holder, Ipam, IpamError};
use vswitch_switch::mac::MacParseError;
use vswitch_switch::{PortId, UnicastMac};

/// Octets of a name at the most: a DNS label's (RFC 1035 2.3.4).
pub const NAME_OCTETS: usize = 63;
/// Names that mean something else in commands.
const RESERVED: [&str; 3] = ["switch", "gateway", "uplink"];

/// Anything attached.
#[derive(Debug)]
pub struct Container {
    pub name: String,
    pub ns: NsId,
    pub reach: Reach,
    pub kind: Kind,
    pub ip: Ipv4Addr,
    pub mac: UnicastMac,
    pub ifname: IfName,
    pub mtu: u16,
    pub config: Settings,
    pub port: Option<PortId>,
    pub ready: bool,
    /// What tells that its namespace is gone.
    pub watch: String,
    /// When it was attached.
    pub since: SystemTime,
}

/// All containers.
#[derive(Debug)]
pub struct Registry {
    pub network: Network,
    /// Who has which address.
    pub ipam: Ipam,
    containers: BTreeMap<String, Container>,
    by_port: HashMap<PortId, String>,
}

impl Registry {
    pub fn new(network: Network) -> Self {
        let ipam = Ipam::new(network.gateway().address, network.prefix());
        Self { network, ipam, containers: BTreeMap::new(), by_port: HashMap::new() }
    }

    pub fn len(&self) -> usize {
        self.containers.len()
    }

    pub fn get(&self, name: &str) -> Option<&Container> {
        self.containers.get(name)
    }

    pub fn get_mut(&mut self, name: &str) -> Option<&mut Container> {
        self.containers.get_mut(name)
    }

    /// The container of that name that has a port.
    pub fn attached(&self, name: &str) -> Result<(&Container, PortId)> {
        let container = self.get(name).and_then(|container| Some((container, container.port?)));
        container.with_context(|| match self.len() {
            0 => NameProblem::NothingAttached { name: name.into() },
            _ => NameProblem::NotAttached { name: name.into() },
        })
    }

    pub fn by_ns(&self, ns: NsId) -> Option<&Container> {
        self.containers.values().find(|container| container.ns == ns)
    }

    /// The name of what is behind a port.
    pub fn port_name(&self, port: PortId) -> &str {
        if port == PortId::GATEWAY {
            "gateway"
        } else if port == PortId::UPLINK {
            "uplink"
        } else {
            self.by_port.get(&port).map_or("-", String::as_str)
        }
    }

    /// Containers with a port, from after a name on.
    pub fn after(&self, name: Option<&str>) -> impl Iterator<Item = (&Container, PortId)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = name.map_or(Unbounded, Excluded);
        self.containers.range::<str, _>((from, Unbounded)).filter_map(|(_, container)| Some((container, container.port?)))
    }

    /// Takes a name, a namespace and addresses.
    pub fn reserve(&mut self, wanted: &Reserve) -> Result<Lease> {
        let name = wanted.name.clone().unwrap_or_else(|| self.free_name());
        check_name(&name)?;
        // A name, path or number that can be one.
        NsSpec::parse(&wanted.reach.spec().to_string())?;
        let ifname = IfName::parse(&wanted.ifname).map_err(|error| NameProblem::Ifname { ifname: wanted.ifname.clone(), error })?;
        if !(MTU_MIN..=MTU_MAX).contains(&wanted.mtu.into()) {
            bail!(NameProblem::Mtu { mtu: wanted.mtu });
        }
        check_kind(&wanted.reach.spec(), wanted.kind)?;
        if let (Reach::Host, Some(spec)) = (&wanted.reach, wanted.publish.first()) {
            bail!(PublishProblem::ToHost { spec: spec.clone(), name });
        }
        if let Some(other) = self.by_ns(wanted.ns) {
            bail!(NameProblem::NamespaceAttached { at: at(other), other: other.name.clone() });
        }
        if let Some(other) = self.called(&name) {
            bail!(NameProblem::Taken { at: at(other), other: other.name.clone() });
        }
        let mac = wanted.mac.as_ref().map(|mac| mac.parse().map_err(|error| NameProblem::Mac { mac: mac.clone(), error }));
        let mac: Option<UnicastMac> = mac.transpose()?;
        let holder = Holder::Name(name.clone());
        let ip =
            self.address(wanted.ip, &[Some(holder.clone()), mac.map(Holder::Mac)].into_iter().flatten().collect::<Vec<_>>())?;
        let mac = mac.unwrap_or_else(|| UnicastMac::for_ipv4(ip.octets()));
        let gateway = self.network.gateway();
        if mac == gateway.mac {
            bail!(NameProblem::MacOfGateway { mac });
        }
        if let Some(other) = self.containers.values().find(|other| other.mac == mac) {
            bail!(NameProblem::MacTaken { mac, at: at(other) });
        }
        let config = settings::apply(&Settings::of(mac), mac, &wanted.settings)?;
        self.check_aliases(&name, &config.aliases)?;
        let (ns, reach, kind, mtu) = (wanted.ns, wanted.reach.clone(), wanted.kind, wanted.mtu);
        let (watch, since) = (String::new(), SystemTime::now());
        let container =
            Container { name: name.clone(), ns, reach, kind, ip, mac, ifname, mtu, config, port: None, ready: false, watch, since };
        self.containers.insert(name.clone(), container);
        self.ipam.hold(ip, holder, None);
        Ok(Lease {
            name,
            ip,
            prefix: self.network.prefix(),
            mac: mac.to_string(),
            gateway: gateway.address,
            gateway_mac: gateway.mac.to_string(),
            ip6: self.network.ip6(ip),
            prefix6: PREFIX6,
            gateway6: self.network.gateway6(),
        })
    }

    /// Who answers to a name (RFC 4343: in whatever case).
    fn called(&self, name: &str) -> Option<&Container> {
        let is_it = |other: &str| other.eq_ignore_ascii_case(name);
        self.containers.values().find(|other| is_it(&other.name) || other.config.aliases.iter().any(|alias| is_it(alias)))
    }

    /// Whether `name`, or who is to be called so, may have these aliases.
    pub fn check_aliases(&self, name: &str, aliases: &[String]) -> Result<(), NameProblem> {
        for alias in aliases {
            if let Some(other) = self.called(alias).filter(|other| other.name != name) {
                return Err(NameProblem::AliasTaken { alias: alias.clone(), at: at(other), other: other.name.clone() });
            }
        }
        Ok(())
    }

    /// The first of c1, c2, ... that nobody has.
    fn free_name(&self) -> String {
        (1..).map(|number: u32| format!("c{number}")).find(|name| self.called(name).is_none()).unwrap_or_default()
    }

    /// The address asked for, or the one that one of `holders`, who are one and the same, is to have.
    fn address(&mut self, wanted: Option<Ipv4Addr>, holders: &[Holder]) -> Result<Ipv4Addr> {
        let chosen = match wanted {
            Some(ip) => {
                self.network.check(ip)?;
                self.ipam.check(ip, holders).map(|()| ip)
            }
            None => self.ipam.choose(holders),
        };
        let ip = wanted.unwrap_or(Ipv4Addr::UNSPECIFIED);
        let problem = match chosen {
            Ok(ip) => return Ok(ip),
            Err(IpamError::Taken(holder)) => NameProblem::IpTaken { ip, at: self.at(&holder) },
            Err(IpamError::Reserved(holder)) => NameProblem::IpReserved { ip, holder: holder.to_string() },
            Err(IpamError::Exhausted(usage)) => NameProblem::NoIpLeft { network: self.network.to_string(), usage },
            Err(IpamError::NoHost | IpamError::Full) => {
                let network = self.network.to_string();
                NameProblem::IpOutside { ip, range: network.clone(), network }
            }
        };
        bail!(problem)
    }

    /// Who has an address, in words.
    pub fn at(&self, holder: &Holder) -> String {
        match holder {
            Holder::Name(name) => self.get(name).map_or_else(|| format!("\"{name}\""), at),
            Holder::Mac(mac) => mac.to_string(),
        }
    }

    /// A name or a hardware address, and what else the container is known by that has it.
    pub fn holders(&self, text: &str) -> Result<Vec<Holder>> {
        let holder = holder(text)?;
        let container = match &holder {
            Holder::Name(name) => self.get(name),
            Holder::Mac(mac) => self.containers.values().find(|container| container.mac == *mac),
        };
        let mut holders = vec![holder];
        holders
            .extend(container.into_iter().flat_map(|container| [Holder::Name(container.name.clone()), Holder::Mac(container.mac)]));
        Ok(holders)
    }

    /// Takes a container that another daemon had.
    pub fn adopt(&mut self, container: Container) {
        self.by_port.extend(container.port.map(|port| (port, container.name.clone())));
        self.ipam.hold(container.ip, Holder::Name(container.name.clone()), None);
        self.containers.insert(container.name.clone(), container);
    }

    /// Containers whose attach is complete, by name.
    pub fn ready(&self) -> impl Iterator<Item = &Container> {
        self.containers.values().filter(|container| container.ready)
    }

    /// Gives a reserved container its port.
    pub fn plug(&mut self, name: &str, port: PortId, watch: String) {
        if let Some(container) = self.containers.get_mut(name) {
            container.port = Some(port);
            container.watch = watch;
            self.by_port.insert(port, name.into());
        }
    }

    /// Forgets a container.
    pub fn remove(&mut self, name: &str) -> Option<Container> {
        let container = self.containers.remove(name)?;
        self.ipam.release(container.ip, clock::now());
        if let Some(port) = container.port {
            self.by_port.remove(&port);
        }
        Some(container)
    }

    /// A container as it is listed.
    pub fn row(&self, container: &Container, port: PortId) -> types::Container {
        types::Container {
            name: container.name.clone(),
            port: port.get(),
            r#type: container.kind,
            ip: container.ip,
            prefix: self.network.prefix(),
            ip6: self.network.ip6(container.ip),
            prefix6: PREFIX6,
            mac: container.mac.to_string(),
            ifname: container.ifname.to_string(),
            mtu: container.mtu,
            netns: container.ns.ino,
            reach: container.reach.clone(),
            namespace: container.reach.spec().to_string(),
            vlan: settings::vlans(&container.config.port.vlan),
            settings: settings::describe(&container.config),
        }
    }
}

/// What watches a namespace, in words.
pub fn watch_text(kind: Option<&WatchKind>) -> String {
    match kind {
        Some(WatchKind::Process) => "process".into(),
        Some(WatchKind::Name { dir, file, .. }) => format!("name {}", dir.join(file).display()),
        None => "none".into(),
    }
}

/// The host has a TAP: a veth pair would give it nothing but a slower way.
pub fn check_kind(namespace: &NsSpec, kind: Kind) -> Result<(), NameProblem> {
    match (namespace, kind) {
        (NsSpec::Host, Kind::Veth) => Err(NameProblem::HostKind),
        (NsSpec::Host, Kind::Tap) | (NsSpec::Name(_) | NsSpec::Path(_) | NsSpec::Pid(_), Kind::Tap | Kind::Veth) => Ok(()),
    }
}

/// `"web" (port 1, 10.88.0.2)`.
fn at(container: &Container) -> String {
    match container.port {
        Some(port) => format!("\"{}\" (port {port}, {})", container.name, container.ip),
        None => format!("\"{}\" ({}, being attached)", container.name, container.ip),
    }
}

/// Names are for people, shells and host names: letters, digits, and within them '.', '_' and '-'.
pub fn check_name(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.len() > NAME_OCTETS || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(plain) {
        bail!(NameProblem::Odd { name: name.chars().take(NAME_OCTETS + 1).collect() });
    }
    if RESERVED.contains(&name) {
        bail!(NameProblem::Reserved { name: name.into() });
    }
    Ok(())
}

/// Who an address is reserved for: a hardware address, or a name.
pub fn holder(text: &str) -> Result<Holder> {
    match text.parse() {
        Ok(mac) => Ok(Holder::Mac(mac)),
        // No name has one.
        Err(error) if text.contains(':') => Err(MacParseError::into(error)),
        Err(_) => check_name(text).map(|()| Holder::Name(text.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> Registry {
        Registry::new(Network::choose(Some("10.10.1.0/29"), Some(Ipv4Addr::new(10, 10, 1, 6))).unwrap())
    }

    fn wanted(name: &str, ino: u64) -> Reserve {
        Reserve {
            name: Some(name.into()),
            ns: NsId { dev: 4, ino },
            reach: Reach::Name(format!("ns{ino}")),
            kind: Kind::Tap,
            ip: None,
            mac: None,
            mtu: 1_500,
            ifname: "eth0".into(),
            settings: Vec::new(),
            publish: Vec::new(),
        }
    }

    #[test]
    fn addresses_are_given_in_order_and_once() {
        let mut registry = registry();
        for (number, name) in ["a", "b", "c", "d", "e"].iter().enumerate() {
            let lease = registry.reserve(&wanted(name, number as u64)).unwrap();
            assert_eq!(lease.ip, Ipv4Addr::new(10, 10, 1, number as u8 + 1));
            assert_eq!(lease.mac, format!("02:58:0a:0a:01:0{}", number + 1));
        }
        let full = registry.reserve(&wanted("f", 9)).unwrap_err().to_string();
        assert!(full.contains("no address left (5 of 5 in use"), "{full}");
        for name in ["b", "d"] {
            registry.remove(name).unwrap();
        }
        assert_eq!(registry.reserve(&wanted("d", 9)).unwrap().ip, Ipv4Addr::new(10, 10, 1, 4), "its last");
        assert_eq!(registry.reserve(&wanted("f", 10)).unwrap().ip, Ipv4Addr::new(10, 10, 1, 2), "soon, but better than none");
        registry.remove("f").unwrap();
        let by_mac = Holder::Mac(UnicastMac::for_ipv4([1, 2, 3, 4]));
        registry.ipam.reserve(Ipv4Addr::new(10, 10, 1, 2), &[by_mac]).unwrap();
        let error =
            registry.reserve(&Reserve { ip: Some(Ipv4Addr::new(10, 10, 1, 2)), ..wanted("f", 10) }).unwrap_err().to_string();
        assert!(error.contains("--ip 10.10.1.2 is reserved for 02:58:01:02:03:04"), "{error}");
        let of_mac = Reserve { mac: Some("02:58:01:02:03:04".into()), ..wanted("f", 10) };
        assert_eq!(registry.reserve(&of_mac).unwrap().ip, Ipv4Addr::new(10, 10, 1, 2));
        // Its own, by whichever of the two it is called.
        for text in ["f", "02:58:01:02:03:04"] {
            let holders = registry.holders(text).unwrap();
            registry.ipam.reserve(Ipv4Addr::new(10, 10, 1, 2), &holders).unwrap();
            assert_eq!(registry.ipam.reservations().next().unwrap().1.to_string(), text);
        }
        assert_eq!(registry.holders("nobody").unwrap(), [Holder::Name("nobody".into())]);
    }

    #[test]
    fn what_is_taken_is_refused_with_who_has_it() {
        let mut registry = registry();
        registry.reserve(&wanted("web", 1)).unwrap();
        registry.plug("web", PortId::new(1).unwrap(), "process".into());
        let mut error = |change: &dyn Fn(&mut Reserve)| {
            let mut wanted = wanted("db", 2);
            change(&mut wanted);
            registry.reserve(&wanted).unwrap_err().to_string()
        };
        assert_eq!(
            error(&|w| w.ns.ino = 1),
            "this namespace is already attached as \"web\" (port 1, 10.10.1.1): \"vswitch detach web\" first"
        );
        assert!(error(&|w| w.name = Some("web".into())).contains("the name is taken by \"web\" (port 1, 10.10.1.1): pass --name"));
        assert!(error(&|w| w.ip = Some(Ipv4Addr::new(10, 10, 1, 1))).contains("--ip 10.10.1.1 is taken by \"web\""));
        assert!(error(&|w| w.mac = Some("02:58:0a:0a:01:01".into())).contains("is taken by \"web\""));
        assert!(error(&|w| w.mac = Some("02:58:0a:0a:01:06".into())).contains("is the gateway's"));
        assert!(error(&|w| w.mac = Some("01:00:5e:00:00:01".into())).contains("not one station's"));
        assert!(error(&|w| w.mtu = 67).contains("choose 68 to 65521"));
        assert!(error(&|w| w.ifname = "a/b".into()).contains("--ifname"));
        assert!(error(&|w| w.settings = vec!["vlan=5000".into()]).contains("cannot set vlan=5000"));
        assert!(error(&|w| w.name = Some("WEB".into())).contains("the name is taken by \"web\""));
        assert!(error(&|w| w.settings = vec!["aliases=www,Web".into()]).contains("the alias \"Web\" is taken by \"web\""));
        assert_eq!(registry.len(), 1);
        registry.get_mut("web").unwrap().config.aliases = vec!["www".into()];
        let taken = registry.reserve(&wanted("WWW", 2)).unwrap_err().to_string();
        assert!(taken.contains("the name is taken by \"web\""), "{taken}");
        registry.check_aliases("web", &["www".into(), "api".into()]).unwrap();
        registry.check_aliases("db", &["www".into()]).unwrap_err();
    }

    #[test]
    fn names_are_given_where_none_is_asked_for() {
        let mut registry = registry();
        let mut given = |ino| {
            let mut wanted = wanted("", ino);
            wanted.name = None;
            registry.reserve(&wanted).unwrap().name
        };
        assert_eq!([given(1), given(2), given(3)], ["c1", "c2", "c3"]);
        registry.remove("c2").unwrap();
        let mut wanted = wanted("", 4);
        wanted.name = None;
        for reach in [Reach::Path("/p".repeat(4_096).into()), Reach::Name("a\nb".into()), Reach::Name(String::new())] {
            wanted.reach = reach;
            registry.reserve(&wanted).unwrap_err();
        }
        wanted.reach = Reach::Path("/p".into());
        assert_eq!(registry.reserve(&wanted).unwrap().name, "c2");
    }

    #[test]
    fn odd_names() {
        let long = "n".repeat(64);
        for name in ["", "-a", ".a", "a b", "a/b", "a\n", "ü", "switch", "gateway", long.as_str()] {
            let error = check_name(name).unwrap_err().to_string();
            assert!(error.contains("--name") && !error.contains('\n'), "{error}");
        }
        for name in ["a", "1", "web-1.example_2", &"n".repeat(63)] {
            check_name(name).unwrap();
        }
    }

    #[test]
    fn pages_go_on_after_a_name() {
        let mut registry = registry();
        for (number, name) in ["a", "b", "c"].iter().enumerate() {
            registry.reserve(&wanted(name, number as u64)).unwrap();
        }
        registry.plug("a", PortId::new(3).unwrap(), "process".into());
        registry.plug("c", PortId::new(1).unwrap(), "process".into());
        let names = |after| registry.after(after).map(|(container, _)| container.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(None), ["a", "c"]);
        assert_eq!(names(Some("a")), ["c"]);
        assert_eq!(registry.port_name(PortId::new(1).unwrap()), "c");
        assert!(registry.attached("b").unwrap_err().to_string().contains("nothing is attached as \"b\""));
    }
}
