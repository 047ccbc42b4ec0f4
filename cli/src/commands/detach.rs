//! `detach`: unplugs a container, by its name or its namespace, and waits until its interface is gone.
use super::engine::Engine;
use super::resolv::NetnsFile;
use crate::api::client::Client;
use crate::api::types::{NsId, Verb};
use anyhow::Result;
use vswitch_io::netns::{Namespace, NsSpec};

pub fn run(container: &str) -> Result<()> {
    let mut client = Client::connect()?;
    // What is a name of ours and a namespace's too is ours.
    let spec = match Engine::parse(container) {
        // The engine's container may have ended: its name may be ours still.
        Some(engine) => engine.pid().ok().map(NsSpec::Pid),
        None => NsSpec::parse(container).ok(),
    };
    let namespace = spec.and_then(|spec| Namespace::open(&spec).ok());
    let ns = namespace.map(|namespace| NsId { dev: namespace.id().dev, ino: namespace.id().ino });
    let file = file_of(&mut client, container, ns)?;
    client.ask::<()>(Verb::Detach { name: container.into(), ns }, &[])?;
    file.map_or(Ok(()), |file| file.remove())
}

/// What `attach` may have written for it.
fn file_of(client: &mut Client, container: &str, ns: Option<NsId>) -> Result<Option<NetnsFile>> {
    let containers = super::show::containers(client)?;
    let by_name = containers.iter().find(|row| row.name == container);
    let found = by_name.or_else(|| containers.iter().find(|row| ns.is_some_and(|ns| ns.ino == row.netns)));
    Ok(found.and_then(|row| NetnsFile::of_spec(&row.reach.spec())))
}
