//! What has to change of the uplink and of published ports.
//!
//! A published range of a file is known by what others see of it: address, protocol, ports. One that is other than written, or of which a
//! container is detached, is taken back before anything is detached, and published when all is attached. What is not in the file stays,
//! unless `prune`; its containers may be attached again meanwhile, so it may have to be published again too.
use super::*;
use crate::api::outside;
use crate::config::outside::{Packet, PublishEntry, Uplink, UplinkEntry, plain_net};
use crate::errors::PublishProblem;
use crate::publish::Spec;
use crate::state::Publish;

/// Before containers are detached, and after they are attached.
#[derive(Default)]
pub(super) struct Changes {
    pub before: Vec<Change>,
    pub after: Vec<Change>,
}

/// Who is there when all is attached, and who is not meanwhile.
pub(super) struct Containers<'a> {
    pub present: BTreeSet<&'a str>,
    pub detached: BTreeSet<&'a str>,
}

pub(super) fn uplink(entry: &UplinkEntry, config: &Config, running: Option<&Running>) -> Result<Option<Change>> {
    let is = match running.and_then(|running| running.uplink.as_ref()) {
        Some(outside::Uplink::Packet(packet)) => Uplink::Packet(Packet::of(&packet.order)?),
        Some(outside::Uplink::Socket) => Uplink::Socket,
        None => Uplink::None,
    };
    let stays = match (&entry.wanted, &is) {
        (Uplink::Packet(wanted), Uplink::Packet(is)) => wanted.is(is),
        (wanted @ (Uplink::None | Uplink::Socket | Uplink::Packet(_)), is) => wanted == is,
    };
    if let (Uplink::Packet(packet), Some(running)) = (&entry.wanted, running) {
        judge(packet, entry, &running.network, config)?;
    }
    Ok(if stays { None } else { Some(Change::Uplink { from: is.to_string(), to: entry.wanted.clone() }) })
}

/// Refuses what the daemon would refuse in the midst of the changes.
fn judge(packet: &Packet, entry: &UplinkEntry, network: &Network, config: &Config) -> Result<()> {
    // Its addresses are judged, not its hardware address.
    let mut order = packet.order(network.gateway().mac);
    let gateways = std::mem::take(&mut order.gateways);
    order.judge(network).map_err(|error| config.error(entry.ip, error))?;
    order.gateways = gateways;
    order.judge(network).map_err(|error| config.error(entry.gateway, error))
}

/// A published range in one way of writing.
struct Range<'a> {
    spec: Spec,
    names: Vec<&'a str>,
    from: Vec<String>,
}

impl<'a> Range<'a> {
    fn of(publish: &'a Publish) -> Result<Self> {
        let from = publish.from.iter().map(|net| plain_net(net)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self::new(publish.spec.parse()?, publish.names.iter().map(String::as_str), from))
    }

    fn new(spec: Spec, names: impl Iterator<Item = &'a str>, mut from: Vec<String>) -> Self {
        let mut names: Vec<&str> = names.collect();
        names.sort_unstable();
        from.sort_unstable();
        Self { spec, names, from }
    }

    fn is(&self, other: &Self) -> bool {
        self.spec == other.spec && self.names == other.names && self.from == other.from
    }

    fn publish(&self) -> Change {
        let names = self.names.iter().map(|name| (*name).to_owned()).collect();
        Change::Publish(Publish { spec: self.spec.to_string(), names, from: self.from.clone() })
    }

    /// The range of the file that has its place outside.
    fn in_file<'r>(&self, wanted: &'r [Self]) -> Option<&'r Self> {
        wanted.iter().find(|range| range.spec.outside() == self.spec.outside())
    }
}

pub(super) fn published(config: &Config, running: Option<&Running>, containers: &Containers<'_>, prune: bool) -> Result<Changes> {
    let mut wanted = Vec::new();
    for entry in &config.published {
        wanted.extend(of_entry(entry, config, containers)?);
    }
    let mut changes = Changes::default();
    let mut again = Vec::new();
    let mut unchanged = Vec::new();
    for publish in running.iter().flat_map(|running| &running.published) {
        let is = Range::of(publish)?;
        let is_written = config.published.iter().any(|entry| entry.spec.outside() == is.spec.outside());
        let why = match is.in_file(&wanted) {
            Some(wanted) if !wanted.is(&is) => Some("other in the file"),
            None if prune && !is_written => Some("not in the file"),
            Some(_) | None => None,
        };
        let kept = why.is_none();
        match why.or_else(|| is.names.iter().any(|name| containers.detached.contains(name)).then_some("until all is attached")) {
            Some(why) => changes.before.push(Change::Unpublish { spec: is.spec, why: why.into() }),
            None => unchanged.push(is.spec.outside()),
        }
        if kept && is.in_file(&wanted).is_none() {
            no_conflict(config, &is)?;
            again.push(is);
        }
    }
    again.retain_mut(|range| {
        range.names.retain(|name| containers.present.contains(name));
        !range.names.is_empty()
    });
    let to_publish = wanted.iter().chain(&again).filter(|range| !unchanged.contains(&range.spec.outside()));
    changes.after = to_publish.map(Range::publish).collect();
    Ok(changes)
}

/// As the file wants it; none where all its containers are left out.
fn of_entry<'a>(entry: &'a PublishEntry, config: &Config, containers: &Containers<'_>) -> Result<Option<Range<'a>>> {
    let mut names = Vec::new();
    for name in &entry.names {
        if containers.present.contains(name.value.as_str()) {
            names.push(name.value.as_str());
        } else if !config.containers.iter().any(|entry| entry.wanted.name == name.value) {
            return Err(config.error(name.place, ConfigProblem::NoContainer { name: name.value.clone() }));
        }
    }
    Ok((!names.is_empty()).then(|| Range::new(entry.spec, names.into_iter(), entry.from.clone())))
}

/// Refuses a range of the file that another has a port of, which stays.
fn no_conflict(config: &Config, staying: &Range<'_>) -> Result<()> {
    for entry in &config.published {
        if let Some(port) = entry.spec.overlap(&staying.spec)
            && entry.spec.outside() != staying.spec.outside()
        {
            let by = staying.names.join(",");
            return Err(config.error(entry.place, PublishProblem::Taken { spec: entry.spec.to_string(), port, by }));
        }
    }
    Ok(())
}
