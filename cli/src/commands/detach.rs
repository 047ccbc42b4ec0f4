//! `detach`: unplugs a container, by its name or its namespace, and waits until its interface is gone.
use super::engine::Engine;
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
    client.ask(Verb::Detach { name: container.into(), ns }, &[])
}
