//! /etc/netns/NAME/resolv.conf (ip-netns(8)): what `ip netns exec NAME` shows programs in place of the host's. Written at `attach`, if that is
//! asked for, and removed at `detach`; a file of somebody else's is left alone.
use crate::api::client::Client;
use crate::api::outside::Uplink;
use crate::api::types::Verb;
use crate::errors::AttachProblem;
use crate::print;
use crate::resolv_conf::{FILE, ResolvConf, SIGN};
use anyhow::{Result, bail};
use nix::unistd::{AccessFlags, access};
use std::io::{self, ErrorKind};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use vswitch_io::netns::NsSpec;

/// Where ip-netns(8) looks.
const DIR: &str = "/etc/netns";
/// Says in a file of ours that its directory is ours too.
const DIRECTORY: &str = "# vswitch: the directory";

/// The file of a name.
pub struct NetnsFile {
    directory: PathBuf,
    file: PathBuf,
}

impl NetnsFile {
    fn of(directory: PathBuf) -> Self {
        Self { file: directory.join("resolv.conf"), directory }
    }

    /// That of a namespace that has a name.
    pub fn of_spec(spec: &NsSpec) -> Option<Self> {
        match spec {
            NsSpec::Name(name) => Some(Self::of(Path::new(DIR).join(name))),
            NsSpec::Path(_) | NsSpec::Pid(_) | NsSpec::Host => None,
        }
    }

    /// That of a namespace, which is to be written.
    pub fn to_be_written(spec: &NsSpec) -> Result<Self> {
        let Some(file) = Self::of_spec(spec) else { bail!(AttachProblem::NoNetnsName { spec: spec.to_string() }) };
        if file.is_others()? {
            bail!(AttachProblem::ResolvConfThere { file: file.file });
        }
        // Told before anything is plugged in.
        if let Some(there) = file.file.ancestors().skip(1).find(|there| there.exists()) {
            access(there, AccessFlags::W_OK).map_err(|error| file.problem()(error.into()))?;
        }
        Ok(file)
    }

    fn problem(&self) -> impl Fn(io::Error) -> AttachProblem {
        let file = self.file.clone();
        move |error| AttachProblem::ResolvConf { file: file.clone(), error }
    }

    /// What is there.
    fn read(&self) -> Result<Option<String>> {
        match std::fs::read(&self.file) {
            Ok(octets) => Ok(Some(String::from_utf8_lossy(&octets).into_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.problem()(error).into()),
        }
    }

    fn is_others(&self) -> Result<bool> {
        Ok(self.read()?.is_some_and(|text| !text.starts_with(SIGN)))
    }

    fn write(&self, conf: &ResolvConf, gateway: Ipv4Addr) -> Result<()> {
        let mut text = conf.for_container(gateway);
        let has_made = !self.directory.exists() || self.read()?.is_some_and(|text| text.lines().any(|line| line == DIRECTORY));
        if has_made {
            text.push_str(DIRECTORY);
            text.push('\n');
        }
        std::fs::create_dir_all(&self.directory).map_err(self.problem())?;
        // Whole or not at all: somebody may start a program just now.
        let new = self.directory.join("resolv.conf.vswitch");
        std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &self.file)).map_err(self.problem())?;
        Ok(())
    }

    /// Removes it if it is ours, and its directory if that is too.
    pub fn remove(&self) -> Result<()> {
        let Some(text) = self.read()?.filter(|text| text.starts_with(SIGN)) else { return Ok(()) };
        std::fs::remove_file(&self.file).map_err(self.problem())?;
        if text.lines().any(|line| line == DIRECTORY) {
            // Something else may be in it by now.
            let _ = std::fs::remove_dir(&self.directory);
        }
        Ok(())
    }

    /// Writes it for a container that is attached.
    pub fn give(&self, gateway: Ipv4Addr) -> Result<()> {
        self.write(&ResolvConf::of_host(Path::new(FILE)), gateway)?;
        Ok(())
    }

    /// Tells how programs in it come to ask the gateway, unless they do, or it would not answer.
    pub fn tell(&self, gateway: Ipv4Addr) {
        if self.file.exists() || has_answers() != Some(true) {
            return;
        }
        let (directory, file) = (self.directory.display(), self.file.display());
        print::note(&format!(
            "names are for the gateway to answer: \"mkdir -p {directory}; echo nameserver {gateway} > {file}\", \
             or attach with --resolv-conf"
        ));
    }
}

/// Whether the gateway does; `None` when it may not be asked about, from a namespace of a user's.
fn has_answers() -> Option<bool> {
    let uplink: Option<Uplink> = Client::connect().and_then(|mut client| client.ask(Verb::Uplink, &[])).ok()?;
    Some(uplink.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);

    #[test]
    fn only_what_is_ours_is_written_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let place = NetnsFile::of(dir.path().join("web"));
        let conf = ResolvConf::parse("search example.net\n");
        place.write(&conf, GATEWAY).unwrap();
        let text = "# vswitch: the gateway\nnameserver 10.88.0.1\nsearch vswitch.internal example.net\n# vswitch: the directory\n";
        assert_eq!(place.read().unwrap().as_deref(), Some(text));
        assert!(!place.is_others().unwrap());
        // Again: its directory is ours still.
        place.write(&conf, GATEWAY).unwrap();
        assert_eq!(place.read().unwrap().as_deref(), Some(text));
        place.remove().unwrap();
        assert!(!place.directory.exists() && dir.path().exists());
        // A directory of somebody else's stays.
        std::fs::create_dir(&place.directory).unwrap();
        place.write(&conf, GATEWAY).unwrap();
        place.remove().unwrap();
        assert!(place.directory.exists() && !place.file.exists());
        // So does a file.
        std::fs::write(&place.file, "nameserver 192.0.2.1\n").unwrap();
        assert!(place.is_others().unwrap());
        place.remove().unwrap();
        assert!(place.file.exists());
    }

    #[test]
    fn a_namespace_without_a_name_has_none() {
        for spec in [NsSpec::Pid(1), NsSpec::Path("/run/netns/web".into()), NsSpec::Host] {
            let error = NetnsFile::to_be_written(&spec).err().map(|error| error.to_string());
            assert!(error.is_some_and(|error| error.contains("--resolv-conf")), "{spec}");
        }
    }
}
