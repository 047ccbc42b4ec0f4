//! `[network]`: the switch, as far as a file says.
use super::*;
use crate::settings::Unregistered;

const NETWORK_KEYS: &str = "subnet, gateway, ageing, fdb-limit, group-forward, suppress, unregistered, workers, ipv6";

/// The switch, as far as a file says.
#[derive(Clone, Debug, Default)]
pub struct NetworkConfig {
    pub subnet: Option<Placed<String>>,
    pub gateway: Option<Placed<Ipv4Addr>>,
    /// Seconds.
    pub ageing: Option<u64>,
    pub fdb_limit: Option<Placed<u32>>,
    /// As `set switch` takes it.
    pub group_forward: Option<String>,
    pub ipv6: Option<Placed<Ipv6>>,
    pub suppress: Option<bool>,
    pub unregistered: Option<Unregistered>,
    pub workers: Option<Placed<Workers>>,
}

impl Source<'_> {
    pub(super) fn network(&self, table: &DeTable<'_>) -> Result<NetworkConfig> {
        let mut network = NetworkConfig::default();
        for (key, value) in table {
            let place = self.place(value);
            let of_switch = |word: &str| {
                let setting = format!("{}={word}", key.get_ref());
                settings::of_switch(&[setting]).map_err(|error| self.error(place, error))
            };
            match key.get_ref().as_ref() {
                "subnet" => network.subnet = Some(Placed { value: self.string(value)?.into(), place }),
                "gateway" => network.gateway = Some(Placed { value: self.address(value)?, place }),
                "ipv6" => {
                    let ipv6 = self.string(value)?.parse().map_err(|error: NameProblem| self.error(place, error))?;
                    network.ipv6 = Some(Placed { value: ipv6, place });
                }
                "ageing" => network.ageing = of_switch(&self.word(value)?)?.ageing.map(|ageing| ageing.as_secs()),
                "group-forward" => network.group_forward = of_switch(&self.word(value)?)?.group_forward.map(settings::group_list),
                "suppress" => network.suppress = of_switch(&self.word(value)?)?.suppress,
                "unregistered" => network.unregistered = of_switch(&self.word(value)?)?.unregistered,
                "workers" => {
                    let count = Some(self.integer(value)?).filter(|count| settings::WORKERS.contains(count));
                    let count = count.and_then(|count| count.try_into().ok()).map(Workers);
                    network.workers =
                        Some(Placed { value: count.ok_or_else(|| self.error(place, ConfigProblem::Workers))?, place });
                }
                "fdb-limit" => {
                    let range = settings::TABLE_LIMIT;
                    let limit =
                        Some(self.integer(value)?).filter(|limit| range.contains(limit)).and_then(|limit| limit.try_into().ok());
                    network.fdb_limit =
                        Some(Placed { value: limit.ok_or_else(|| self.error(place, ConfigProblem::FdbLimit))?, place });
                }
                name => return Err(self.unknown(key, name, NETWORK_KEYS)),
            }
        }
        if let Some(subnet) = &network.subnet {
            Network::parse(&subnet.value, None).map_err(|error| self.error(subnet.place, error))?;
            let gateway = network.gateway.as_ref();
            let place = gateway.map_or(subnet.place, |gateway| gateway.place);
            Network::parse(&subnet.value, gateway.map(|gateway| gateway.value)).map_err(|error| self.error(place, error))?;
        }
        Ok(network)
    }
}
