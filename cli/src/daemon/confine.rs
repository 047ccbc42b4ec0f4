//! What is left to the daemon before its first thread: see [`vswitch_io::privilege`].
use super::resolvers;
use crate::rundir::RunDir;
use std::path::PathBuf;
use vswitch_io::netns::NAME_DIRS;
use vswitch_io::privilege::{Confinement, Denied, Enforced, Identity, Report};

/// Who is at the other end of the control socket.
const PROC: &str = "/proc";

/// What the daemon keeps.
pub fn confinement(dir: &RunDir, service: Option<Identity>) -> Confinement {
    Confinement {
        target: service,
        read_write_dirs: vec![dir.path().into()],
        // Of all but /proc: whom the host asks for names, and the names of namespaces.
        read_dirs: NAME_DIRS.iter().copied().chain([PROC]).map(PathBuf::from).chain(resolvers::read_dirs()).collect(),
        denied: denied(),
    }
}

/// Journeys have a system call that is not on the list end the daemon, so that none of them needs one unnoticed.
fn denied() -> Denied {
    let is_fatal = cfg!(debug_assertions) && std::env::var_os("VSWITCH_TEST_DENIED").is_some_and(|what| what == "fatal");
    if is_fatal { Denied::Fatal } else { Denied::Refused }
}

/// What of the sandbox this kernel has.
pub fn describe(report: &Report, owner: u32) -> String {
    let landlock = match report.landlock {
        Enforced::Fully => "complete",
        Enforced::Partly => "in part (an older kernel)",
        Enforced::Not => "none (the kernel has none)",
    };
    match (report.landlock, report.bounding_set_empty || owner != 0) {
        (Enforced::Fully, true) => "complete".into(),
        (_, true) => format!("landlock {landlock}"),
        (_, false) => format!("landlock {landlock}, capability bounding set not empty"),
    }
}
