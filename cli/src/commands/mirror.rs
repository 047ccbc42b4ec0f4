//! `mirror`: a container's frames, both ways, into a pcap file, until interrupted. We open the file; the daemon writes it.
use crate::api::client::Client;
use crate::api::types::{Mirrored, Verb};
use crate::errors::ToolProblem;
use crate::print;
use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

pub fn run(name: String, path: &Path) -> Result<()> {
    let mut client = Client::connect()?;
    let to_stdout = path == Path::new("-");
    let file: OwnedFd = if to_stdout {
        std::io::stdout().as_fd().try_clone_to_owned()?
    } else {
        File::create(path).with_context(|| ToolProblem::FileNotWritten { file: path.into() })?.into()
    };
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
    signals.thread_block()?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)?;
    client.ask::<()>(Verb::Mirror { name: name.clone() }, &[file.as_fd()])?;
    if !to_stdout {
        print::note(&format!("mirroring {name} into {}, ^C ends it", path.display()));
    }
    // Errors of a pipe come unasked: its reader is gone.
    let mut fds = [
        PollFd::new(client.fd(), PollFlags::POLLIN),
        PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        PollFd::new(file.as_fd(), PollFlags::empty()),
    ];
    while matches!(poll(&mut fds, PollTimeout::NONE), Err(nix::errno::Errno::EINTR)) {}
    let [answered, ..] = fds.map(|fd| fd.any().unwrap_or(true));
    let mirrored: Mirrored = if answered { client.answer()? } else { client.ask(Verb::MirrorEnd, &[])? };
    print::note(&format!("{} frames mirrored, {} lost", mirrored.frames, mirrored.lost));
    Ok(())
}
