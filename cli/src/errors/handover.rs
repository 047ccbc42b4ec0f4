//! One daemon handing over to another: what `restart` and the log say of it.
use std::io;
use thiserror::Error;
use vswitch_io::link::IfNameError;
use vswitch_switch::PortId;
use vswitch_switch::mac::MacParseError;
use vswitch_switch::switch::PortError;

const BOTH: &str = "restart with this version on both sides";

#[derive(Debug, Error)]
pub enum HandoverProblem {
    // The other daemon.
    #[error("the other daemon is gone: see the log")]
    Gone,
    #[error("the other daemon has left the hand-over: see the log")]
    Left,
    #[error("the other daemon does not listen: see the log")]
    Deaf,
    #[error("the other daemon says nothing for {seconds} s ({error}): see the log")]
    Silent { seconds: u64, error: io::Error },
    #[error("the other daemon sends too much: stop one of them")]
    TooMuch,
    #[error("the other daemon is not understood: stop one of them")]
    NotUnderstood,
    #[error("the other daemon does not follow the steps: see the log, and \"vswitch down\" if it lasts")]
    OutOfStep,
    #[error("the other daemon gives up ({why}): see the log")]
    Abort { why: String },
    #[error("the running daemon hands over as version {theirs}, not {ours}: \"vswitch down\", then up")]
    OtherVersion { theirs: u32, ours: u32 },

    // What is handed over.
    #[error("two file descriptors are missing: see that \"ulimit -n\" is high enough")]
    NoFds,
    #[error("cannot pass the port of {name} on ({error}): try again")]
    PortNotPassed { name: String, error: io::Error },
    #[error("a container has no watch: detach it first")]
    NoWatch,
    #[error("there is no such port: {BOTH}")]
    NoSuchPort,
    #[error("its port's file descriptor is not what it should be ({error}): {BOTH}")]
    PortFd { error: String },
    #[error("port {id} cannot be taken ({error:?}): {BOTH}")]
    PortNotTaken { id: PortId, error: PortError },
    #[error("{mac}: {error}")]
    Mac { mac: String, error: MacParseError },
    #[error("{ifname}: {error}")]
    Ifname { ifname: String, error: IfNameError },
}

#[cfg(test)]
mod tests {
    use super::*;

    table! { HandoverProblem:
        Gone {} => "the other daemon is gone: see the log",
        Left {} => "the other daemon has left the hand-over: see the log",
        Deaf {} => "the other daemon does not listen: see the log",
        Silent { seconds: 10, error: io::Error::other("late") } => "the other daemon says nothing for 10 s (late): see the log",
        TooMuch {} => "the other daemon sends too much: stop one of them",
        NotUnderstood {} => "the other daemon is not understood: stop one of them",
        OutOfStep {} => "the other daemon does not follow the steps: see the log, and \"vswitch down\" if it lasts",
        Abort { why: "it is late".into() } => "the other daemon gives up (it is late): see the log",
        OtherVersion { theirs: 3, ours: 2 } => "the running daemon hands over as version 3, not 2: \"vswitch down\", then up",
        NoFds {} => "two file descriptors are missing: see that \"ulimit -n\" is high enough",
        PortNotPassed { name: "web".into(), error: io::Error::other("full") } => "cannot pass the port of web on (full): try again",
        NoWatch {} => "a container has no watch: detach it first",
        NoSuchPort {} => "there is no such port: restart with this version on both sides",
        PortFd { error: "odd".into() }
            => "its port's file descriptor is not what it should be (odd): restart with this version on both sides",
        PortNotTaken { id: PortId::new(3).unwrap(), error: PortError::Number }
            => "port 3 cannot be taken (Number): restart with this version on both sides",
        Mac { mac: "x".into(), error: MacParseError::Syntax }
            => "x: not a MAC address: write six hexadecimal octets, as 02:58:0a:58:00:02",
        Ifname { ifname: ".".into(), error: IfNameError::Character(".".into()) }
            => ".: interface name \".\" is not one the kernel takes: use letters, digits, '-', '_' and '.'",
    }
}
