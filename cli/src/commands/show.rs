//! `show`: the switch and what is attached.
use super::limits::Limits;
use crate::api::client::Client;
use crate::api::types::{Container, Info, Verb};
use crate::settings::Workers;
use crate::{print, settings};
use anyhow::Result;
use serde::Serialize;
use vswitch_io::sys::users::name_of;

/// What `show --json` prints.
#[derive(Serialize)]
struct View {
    #[serde(flatten)]
    info: Info,
    /// Of limits that are near.
    warnings: Vec<String>,
    attached: Vec<Container>,
}

/// What does not depend on who is attached.
pub fn info(client: &mut Client) -> Result<Info> {
    client.ask(Verb::Info, &[])
}

/// All that is attached, by name.
pub fn containers(client: &mut Client) -> Result<Vec<Container>> {
    client.pages(|after: Option<String>| Verb::Containers { after })
}

pub fn run(json: bool) -> Result<()> {
    let mut client = Client::connect()?;
    let (info, mut attached) = (info(&mut client)?, containers(&mut client)?);
    attached.sort_by_key(|container| container.port);
    let warnings = Limits::of(&info).warnings();
    if json {
        return print::json(&View { info, warnings, attached });
    }
    let runs_as = if info.uid == info.owner { String::new() } else { format!(", runs as {}", name_of(info.uid)) };
    let workers = if info.workers == Workers::default() { String::new() } else { format!("workers {}\n", info.workers) };
    print::out(&format!(
        "vswitch {}, pid {}, up {} s, started by {}{runs_as}, sandbox {}\nsocket  {}\nnetwork {}, gateway {}, {} ({}), uplink {}\n\
         fdb     {} of {} addresses, ageing {} s, group-forward {}, suppress {}, unregistered {}\n{workers}{}\n",
        info.version,
        info.pid,
        info.uptime,
        name_of(info.owner),
        info.confinement,
        info.socket.display(),
        info.network,
        info.gateway,
        info.gateway6.as_deref().unwrap_or("no IPv6"),
        info.gateway_mac,
        info.uplink,
        info.fdb_entries,
        info.fdb_capacity,
        info.ageing,
        info.group_forward,
        settings::word(info.spread.suppress),
        info.spread.unregistered.name(),
        warnings.iter().map(|warning| format!("warning {warning}\n")).collect::<String>()
    ))?;
    if attached.is_empty() {
        return print::out("nothing is attached: \"vswitch attach NS\"\n");
    }
    let rows: Vec<_> = attached.iter().map(row).collect();
    print::table([">PORT", "NAME", "TYPE", "IP", "MAC", "IFNAME", ">MTU", "VLAN", "GUARD", "IP-GUARD", ">GROUP"], &rows)
}

fn row(container: &Container) -> [String; 11] {
    let setting = |key: &str| {
        let value = container.settings.iter().find_map(|setting| setting.strip_prefix(key)?.strip_prefix('='));
        value.unwrap_or("?").to_owned()
    };
    [
        container.port.to_string(),
        container.name.clone(),
        container.r#type.name().into(),
        format!("{}/{}", container.ip, container.prefix),
        container.mac.clone(),
        container.ifname.clone(),
        container.mtu.to_string(),
        container.vlan.clone(),
        setting("guard"),
        setting("ip-guard"),
        setting("group"),
    ]
}
