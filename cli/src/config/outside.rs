//! The uplink and the published ports of a file.
//!
//! ```toml
//! [uplink]                                 # what is left out is as "uplink set" without a flag has it; without the table it stays
//! type = "packet"                          # or "socket", or "none"
//! interface = "eth0"
//! ip = "198.51.100.2/24"                   # or a list; and dhcp = true, gateway, mac
//!
//! [publish]
//! "8080:80" = "web"                        # or a list of those that share it
//! "53:53/udp" = { to = "dns", from = ["192.0.2.0/24"] }
//! ```
use super::*;
use crate::api::outside;
use crate::api::types::UplinkOrder;
use crate::errors::PublishProblem;
use crate::publish::{self, Spec, parse_net};
use crate::state::Publish;
use std::net::IpAddr;

const UPLINK_KEYS: &str = "type, interface, ip, dhcp, gateway, mac";

/// How containers reach the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Uplink {
    None,
    Socket,
    Packet(Packet),
}

/// A packet uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub iface: String,
    /// As A/LEN.
    pub addresses: Vec<String>,
    pub dhcp: bool,
    pub gateways: Vec<IpAddr>,
    /// None: by its address.
    pub mac: Option<UnicastMac>,
}

/// The uplink of a file. What is not written is where its type is.
#[derive(Clone, Debug)]
pub struct UplinkEntry {
    pub wanted: Uplink,
    pub ip: Place,
    pub gateway: Place,
}

/// A published range of a file.
#[derive(Clone, Debug)]
pub struct PublishEntry {
    pub spec: Spec,
    pub place: Place,
    pub names: Vec<Placed<String>>,
    /// As A/LEN.
    pub from: Vec<String>,
}

impl Packet {
    /// As the daemon takes it.
    pub fn order(&self, mac: UnicastMac) -> UplinkOrder {
        UplinkOrder {
            iface: self.iface.clone(),
            mac: mac.to_string(),
            mtu: 0,
            dhcp: self.dhcp,
            addresses: self.addresses.clone(),
            gateways: self.gateways.clone(),
        }
    }

    /// What a file says of one that runs: what its DHCP server said is not the file's.
    pub fn of(order: &UplinkOrder) -> Result<Self> {
        let mac = order.mac.parse().map_err(|error: MacParseError| DaemonProblem::BadMac { error: error.to_string() })?;
        let is_ours = |is_v4: bool| !(order.dhcp && is_v4);
        Ok(Self {
            iface: order.iface.clone(),
            addresses: order.addresses.iter().filter(|address| is_ours(!address.contains(':'))).cloned().collect(),
            dhcp: order.dhcp,
            gateways: order.gateways.iter().filter(|gateway| is_ours(gateway.is_ipv4())).copied().collect(),
            mac: Some(mac),
        })
    }

    /// Whether one that runs is what this one says.
    pub fn is(&self, running: &Self) -> bool {
        let sorted = |packet: &Self| {
            let mut packet = packet.clone();
            packet.addresses.sort_unstable();
            packet.gateways.sort_unstable();
            packet
        };
        sorted(self) == sorted(&Self { mac: self.mac.and(running.mac), ..running.clone() })
    }
}

impl Display for Uplink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let packet = match self {
            Self::None => return f.write_str("none"),
            Self::Socket => return f.write_str("socket"),
            Self::Packet(packet) => packet,
        };
        write!(f, "packet {}", packet.iface)?;
        packet.addresses.iter().try_for_each(|address| write!(f, ", ip {address}"))?;
        if packet.dhcp {
            f.write_str(", dhcp")?;
        }
        packet.gateways.iter().try_for_each(|gateway| write!(f, ", gateway {gateway}"))?;
        packet.mac.map_or(Ok(()), |mac| write!(f, ", mac {mac}"))
    }
}

/// A net in one way of writing.
pub fn plain_net(net: &str) -> Result<String, PublishProblem> {
    parse_net(net).map(|(address, length)| format!("{address}/{length}"))
}

impl Source<'_> {
    fn flag(&self, value: &Value<'_>) -> Result<bool> {
        value.get_ref().as_bool().ok_or_else(|| self.error(self.place(value), ConfigProblem::NoFlag))
    }

    /// A string, or a list of them.
    fn strings(&self, value: &Value<'_>) -> Result<Vec<Placed<String>>> {
        let one = |value: &Value<'_>| Ok(Placed { value: self.string(value)?.to_owned(), place: self.place(value) });
        value.get_ref().as_array().map_or_else(|| Ok(vec![one(value)?]), |values| values.iter().map(one).collect())
    }

    /// Each of some strings as something else.
    fn each<T, E: Into<anyhow::Error>>(&self, value: &Value<'_>, read: impl Fn(&str) -> Result<T, E>) -> Result<Vec<T>> {
        let read = |text: &Placed<String>| read(&text.value).map_err(|error| self.error(text.place, error));
        self.strings(value)?.iter().map(read).collect()
    }

    pub(super) fn uplink(&self, key: &Key<'_>, value: &Value<'_>) -> Result<UplinkEntry> {
        let (here, table) = (self.place(key), self.table(value)?);
        let kind = table.get("type").ok_or_else(|| self.error(here, ConfigProblem::NoUplinkKind))?;
        let (mut ip, mut gateway) = (self.place(kind), self.place(kind));
        let is_packet = match self.string(kind)? {
            "packet" => true,
            "none" | "socket" => false,
            other => return Err(self.error(self.place(kind), ConfigProblem::NoUplink { kind: other.into() })),
        };
        let mut packet = Packet { iface: String::new(), addresses: Vec::new(), dhcp: false, gateways: Vec::new(), mac: None };
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "type" => {}
                "interface" if is_packet => {
                    let iface = IfName::parse(self.string(value)?);
                    packet.iface = iface.map_err(|error| self.error(self.place(value), error))?.to_string();
                }
                "ip" if is_packet => {
                    ip = self.place(value);
                    packet.addresses = self.each(value, |text| {
                        let net = plain_net(text).ok().filter(|_| text.contains('/'));
                        net.ok_or_else(|| PublishProblem::UplinkAddress { text: text.into() })
                    })?;
                }
                "dhcp" if is_packet => packet.dhcp = self.flag(value)?,
                "gateway" if is_packet => {
                    gateway = self.place(value);
                    packet.gateways = self.each(value, |text| text.parse().map_err(|error| ConfigProblem::NoAddress { error }))?;
                }
                "mac" if is_packet => packet.mac = Some(self.mac(value)?),
                name => return Err(self.unknown(key, name, if is_packet { UPLINK_KEYS } else { "type" })),
            }
        }
        if is_packet && packet.iface.is_empty() {
            return Err(self.error(here, ConfigProblem::NoUplinkInterface));
        }
        // These are the server's to say.
        if packet.dhcp && packet.addresses.iter().any(|address| !address.contains(':')) {
            return Err(self.error(ip, ConfigProblem::TwoWays { one: "dhcp", other: "an IPv4 ip" }));
        }
        if packet.dhcp && packet.gateways.iter().any(IpAddr::is_ipv4) {
            return Err(self.error(gateway, ConfigProblem::TwoWays { one: "dhcp", other: "an IPv4 gateway" }));
        }
        if is_packet && packet.addresses.is_empty() && !packet.dhcp {
            return Err(self.error(here, ConfigProblem::NoUplinkAddress));
        }
        let wanted = match self.string(kind)? {
            "socket" => Uplink::Socket,
            _ if is_packet => Uplink::Packet(packet),
            _ => Uplink::None,
        };
        Ok(UplinkEntry { wanted, ip, gateway })
    }

    pub(super) fn publish(&self, table: &DeTable<'_>) -> Result<Vec<PublishEntry>> {
        let mut entries: Vec<PublishEntry> = Vec::new();
        for (key, value) in table {
            let place = self.place(key);
            let spec: Spec = key.get_ref().parse().map_err(|error: PublishProblem| self.error(place, error))?;
            let (names, from) = match value.get_ref().as_table() {
                Some(table) => self.publish_table(place, table)?,
                None => (self.strings(value)?, Vec::new()),
            };
            let all: Vec<String> = names.iter().map(|name| name.value.clone()).collect();
            publish::judge(&spec, &all).map_err(|error| self.error(place, error))?;
            for other in &entries {
                let Some(port) = spec.overlap(&other.spec) else { continue };
                // Keys come in the order of the alphabet, the error is about what is written later.
                let (place, spec, by) = if place > other.place {
                    (place, spec, other.names.as_slice())
                } else {
                    (other.place, other.spec, names.as_slice())
                };
                let by: Vec<&str> = by.iter().map(|name| name.value.as_str()).collect();
                return Err(self.error(place, PublishProblem::Taken { spec: spec.to_string(), port, by: by.join(",") }));
            }
            entries.push(PublishEntry { spec, place, names, from });
        }
        Ok(entries)
    }

    fn publish_table(&self, here: Place, table: &DeTable<'_>) -> Result<(Vec<Placed<String>>, Vec<String>)> {
        let (mut names, mut from) = (Vec::new(), Vec::new());
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "to" => names = self.strings(value)?,
                "from" => from = self.each(value, plain_net)?,
                name => return Err(self.unknown(key, name, "to, from")),
            }
        }
        if names.is_empty() {
            return Err(self.error(here, ConfigProblem::NoTarget));
        }
        Ok((names, from))
    }
}

/// A TOML string, or a list of them.
fn list(texts: &[String]) -> String {
    match texts {
        [text] => quoted(text),
        texts => format!("[{}]", texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", ")),
    }
}

/// The tables that [`Source::uplink`] and [`Source::publish`] read; none where there is nothing.
pub(super) fn write(uplink: Option<&outside::Uplink>, published: &[Publish]) -> Result<String> {
    let mut text = String::new();
    if uplink == Some(&outside::Uplink::Socket) {
        text += "\n[uplink]\ntype = \"socket\"\n";
    }
    if let Some(order) = uplink.cloned().and_then(outside::Uplink::packet).as_ref() {
        let packet = Packet::of(order)?;
        text += &format!("\n[uplink]\ntype = \"packet\"\ninterface = {}\n", quoted(&packet.iface));
        if !packet.addresses.is_empty() {
            text += &format!("ip = {}\n", list(&packet.addresses));
        }
        if packet.dhcp {
            text += "dhcp = true\n";
        }
        if !packet.gateways.is_empty() {
            text += &format!("gateway = {}\n", list(&packet.gateways.iter().map(ToString::to_string).collect::<Vec<_>>()));
        }
        text += &format!("mac = {}\n", quoted(&order.mac));
    }
    if !published.is_empty() {
        text += "\n[publish]\n";
    }
    for Publish { spec, names, from } in published {
        let names = list(names);
        let value = if from.is_empty() { names } else { format!("{{ to = {names}, from = {} }}", list(from)) };
        text += &format!("{} = {value}\n", quoted(spec));
    }
    Ok(text)
}
