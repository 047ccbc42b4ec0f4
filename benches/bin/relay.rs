//! relay: the bare copy loop of `vswitch_io::relay` as a program, the floor that `benches/compare` measures vswitch against.
//!
//! ```text
//! relay PORT PORT, where PORT is
//!   tap:NS       a TAP eth0 made in the named namespace NS (virtio_net_hdr, offloads as the switch's own TAPs)
//!   packet:IF    an AF_PACKET socket on the existing interface IF, the host end of a veth
//! ```
//! Says "relaying" on standard error when both are open, and relays until it is killed. Needs root. A TAP keeps the kernel's own queue
//! length: this is the floor as anyone would first write it.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use vswitch_benches::{Failure, inside, tap};
use vswitch_io::relay;
use vswitch_io::sys::packet;

const USAGE: &str = "usage: relay PORT PORT; PORT is tap:NS or packet:IF";

/// A port as the command line names it.
enum Port {
    /// In the namespace of this name.
    Tap(String),
    /// On the interface of this name.
    Packet(String),
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [a, b] = arguments.as_slice() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let (Some(a), Some(b)) = (parse(a), parse(b)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(&a, &b) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("relay: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(port: &str) -> Option<Port> {
    match port.split_once(':')? {
        ("tap", name) if !name.is_empty() && !name.contains('/') && name != ".." => Some(Port::Tap(name.into())),
        ("packet", name) if !name.is_empty() => Some(Port::Packet(name.into())),
        _ => None,
    }
}

fn run(a: &Port, b: &Port) -> Result<(), Failure> {
    let (a, b) = (open(a)?, open(b)?);
    // Nobody writes to it: only a signal ends the relay, or a port that is gone.
    let (_stopper, stop) = UnixStream::pair()?;
    eprintln!("relaying");
    Ok(relay::relay(a, b, stop.as_fd())?)
}

fn open(port: &Port) -> Result<OwnedFd, Failure> {
    match port {
        Port::Tap(namespace) => inside(namespace, || Ok(tap()?)),
        Port::Packet(interface) => host_end(interface).map_err(|error| format!("{interface}: {error}").into()),
    }
}

fn host_end(interface: &str) -> std::io::Result<OwnedFd> {
    packet::open(nix::net::if_::if_nametoindex(interface)?)
}
