//! What `set` and `group-forward` take.
use crate::settings::{AGEING, FDB_LIMIT, KEYS, MAX_FLOWS, SWITCH_KEYS};
use thiserror::Error;
use vswitch_nat::station::ALIASES;
use vswitch_switch::storm::MAX_COPIES_PER_SECOND;

#[derive(Debug, Error)]
pub enum SettingProblem {
    #[error("\"{setting}\" is no setting: write KEY=VALUE")]
    NoSetting { setting: String },
    #[error("there is no such key: choose of {KEYS}")]
    NoKey,
    #[error("the switch has no key \"{key}\": choose of {SWITCH_KEYS}")]
    NoSwitchKey { key: String },
    #[error("a trunk needs a VLAN: write trunk=10,20 or native=1, or vlan=1 for an access port")]
    EmptyTrunk,
    #[error("the port is no trunk: write trunk=LIST first")]
    NoTrunk,
    #[error("01-80-C2-00-00-01 (PAUSE) is for one link and never forwarded: leave 1 out")]
    Pause,
}

/// What a value has to be; in front of it stands what has that value.
#[derive(Debug, Error)]
pub enum ValueProblem {
    #[error("write on or off")]
    OnOff,
    #[error("write copies a second, 0 to {MAX_COPIES_PER_SECOND}, or off")]
    Rate,
    #[error("write 802.1q or 802.1ad")]
    Tpid,
    #[error("write 0 (none) to 255")]
    Group,
    #[error("write {} to {}", FDB_LIMIT.start(), FDB_LIMIT.end())]
    FdbLimit,
    #[error("write {} to {} s", AGEING.start(), AGEING.end())]
    Ageing,
    #[error("write {} to {}", MAX_FLOWS.start(), MAX_FLOWS.end())]
    MaxFlows,
    #[error("write up to {ALIASES} names with commas between them, each once, of letters, digits, '.', '_' or '-', or nothing")]
    Aliases,
    #[error("write off, or last digits of 01-80-C2-00-00-0X in decimal, as 0,2,14")]
    GroupForward,
    #[error("write bridge, none, host or container:NAME")]
    RunNetwork,
    #[error("write flood or drop")]
    Unregistered,
}

#[cfg(test)]
mod tests {
    use super::*;

    table! { SettingProblem:
        NoSetting { setting: "vlan".into() } => "\"vlan\" is no setting: write KEY=VALUE",
        NoKey {} => "there is no such key: choose of vlan, trunk, native, tpid, isolated, group, guard, ip-guard, hairpin, learn, \
                     flood-unknown, flood-broadcast, flood-multicast, storm-broadcast, storm-multicast, storm-unknown, fdb-limit, reach, max-flows, \
                     aliases, config",
        NoSwitchKey { key: "mtu".into() } => "the switch has no key \"mtu\": choose of ageing, group-forward, suppress, unregistered",
        EmptyTrunk {} => "a trunk needs a VLAN: write trunk=10,20 or native=1, or vlan=1 for an access port",
        NoTrunk {} => "the port is no trunk: write trunk=LIST first",
        Pause {} => "01-80-C2-00-00-01 (PAUSE) is for one link and never forwarded: leave 1 out",
    }

    mod values {
        use super::*;

        table! { ValueProblem after "cannot set key=value: ":
            OnOff {} => "write on or off",
            Rate {} => "write copies a second, 0 to 100000000, or off",
            Tpid {} => "write 802.1q or 802.1ad",
            Group {} => "write 0 (none) to 255",
            FdbLimit {} => "write 1 to 1048576",
            Ageing {} => "write 10 to 1000000 s",
            MaxFlows {} => "write 1 to 65536",
            Aliases {} => "write up to 16 names with commas between them, each once, of letters, digits, '.', '_' or '-', or nothing",
            GroupForward {} => "write off, or last digits of 01-80-C2-00-00-0X in decimal, as 0,2,14",
            Unregistered {} => "write flood or drop",
            RunNetwork {} => "write bridge, none, host or container:NAME",
        }
    }
}
