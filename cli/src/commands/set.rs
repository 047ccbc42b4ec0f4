//! `set`: changes a container's port or the switch, all of the settings or none.
use crate::api::client::Client;
use crate::api::types::Verb;
use anyhow::Result;

pub fn run(name: String, settings: Vec<String>) -> Result<()> {
    Client::connect()?.ask(Verb::Set { name, settings }, &[])
}
