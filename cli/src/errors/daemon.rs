//! The daemon: whether it runs, asking it, starting and ending it, its run directory.
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use thiserror::Error;

const OWN_DIR: &str = "choose an empty directory of your own with VSWITCH_RUN_DIR";

#[derive(Debug, Error)]
pub enum DaemonProblem {
    // Whether it runs.
    #[error("vswitch was killed and is ending: \"vswitch up\" again, or attach something")]
    Ending,
    #[error("no vswitch runs for {user}, one runs for root: \"sudo vswitch show\", or start yours with \"vswitch up\"")]
    OfRoot { user: String },
    #[error("no vswitch runs for {user} (no {}): \"vswitch up\", or attach something", .socket.display())]
    NoDaemon { user: String, socket: PathBuf },
    #[error("vswitch has just ended, see {}: \"vswitch up\", or attach something", .log.display())]
    Ended { log: PathBuf },
    #[error("the daemon closed the connection: see {}", .log.display())]
    Closed { log: PathBuf },
    #[error("cannot reach the daemon at {} ({error}): run as the user who started it", .socket.display())]
    Unreachable { socket: PathBuf, error: io::Error },

    // Asking it.
    #[error("cannot ask the daemon ({error}): see {}", .log.display())]
    NotAsked { error: io::Error, log: PathBuf },
    #[error("the daemon has not answered for {seconds} s: see {}", .log.display())]
    Silent { seconds: u64, log: PathBuf },
    #[error("the daemon's answer cannot be read ({error}): see {}", .log.display())]
    Unreadable { error: io::Error, log: PathBuf },
    #[error("the daemon's answer is not understood: \"vswitch down\", then start again")]
    NotUnderstood,
    #[error("the daemon's answer is of another version: \"vswitch down\", then start again")]
    OtherVersion,
    #[error("the daemon's answer has a bad MAC ({error}): restart it")]
    BadMac { error: String },
    #[error("what the daemon says of {name} is not understood ({error}): \"vswitch down\", then start again with this version")]
    BadContainer { name: String, error: String },

    // Its start and end.
    #[error("one runs already (pid {pid}): \"vswitch down\" first, or use it")]
    RunsAlready { pid: String },
    #[error("cannot start the daemon: see that the vswitch program is still there")]
    NotStarted,
    #[error("the daemon ended at its start ({status}): see {}", .log.display())]
    EndedAtStart { status: ExitStatus, log: PathBuf },
    #[error("cannot raise the limit of open files: raise it before (\"ulimit -n\")")]
    OpenFiles,
    #[error("cannot start the worker: see that another thread may run (\"ulimit -u\")")]
    NoWorker,
    #[error("cannot wait for events: start it again, and see the log")]
    NoEvents,
    #[error("the daemon (pid {pid}) has not ended for {seconds} s: see {}", .log.display())]
    NotEnded { pid: u32, seconds: u64, log: PathBuf },
    #[error("the daemon was started by uid {owner}: restart it as that user")]
    OfOther { owner: u32 },
    #[error("{why}; pid {pid} goes on")]
    GoesOn { why: String, pid: u32 },

    #[error("the daemon has just ended: \"vswitch up\"")]
    HasEnded,
    #[error("the daemon was told to end meanwhile: \"vswitch up\" starts another")]
    ToldToEnd,

    // What one that was killed left.
    #[error("nothing is to be restored (no {}): \"vswitch up\", or attach something", .state.display())]
    NothingToRestore { state: PathBuf },
    #[error("a vswitch runs already, what was attached to the one before is lost: attach it again")]
    NothingLeft,
    #[error("{failed} of {all} could not be attached, see above: attach them by hand")]
    NotRestored { failed: usize, all: usize },
    #[error("{} is not understood ({why}), it is {} now: attach anew", .path.display(), .aside.display())]
    BadState { path: PathBuf, why: String, aside: PathBuf },
    #[error("{} is not understood ({why}) nor can it be renamed ({error}): remove it", .path.display())]
    BadStateStays { path: PathBuf, why: String, error: io::Error },

    // Its run directory.
    #[error("cannot make {} ({error}): {OWN_DIR}", .dir.display())]
    DirNotMade { dir: PathBuf, error: io::Error },
    #[error("cannot use {}: {OWN_DIR}", .dir.display())]
    DirNotUsed { dir: PathBuf },
    #[error("{} is not a directory of yours that only you can write to: {OWN_DIR}", .dir.display())]
    DirNotYours { dir: PathBuf },
    #[error("{} holds {name} too: {OWN_DIR}", .dir.display())]
    DirHolds { dir: PathBuf, name: String },
    #[error("cannot open {}: remove it", .path.display())]
    NotOpened { path: PathBuf },
    #[error("cannot read {}: remove it", .path.display())]
    NotRead { path: PathBuf },
    #[error("cannot write {}: free space in its directory", .path.display())]
    NotWritten { path: PathBuf },
    #[error("cannot read when this process started: see that /proc is mounted")]
    NoProc,
    #[error("cannot remove {} ({error}): remove it", .path.display())]
    NotRemoved { path: PathBuf, error: io::Error },
    #[error("{} is replaced again and again: see what else starts or ends vswitch", .path.display())]
    LockReplaced { path: PathBuf },
    #[error("cannot make {}: choose a shorter VSWITCH_RUN_DIR (a socket's path has at most 107 bytes)", .path.display())]
    SocketNotMade { path: PathBuf },
}

impl DaemonProblem {
    /// Whether it says that no daemon runs.
    pub const fn is_none(&self) -> bool {
        matches!(self, Self::Ending | Self::OfRoot { .. } | Self::NoDaemon { .. } | Self::Ended { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    fn denied() -> io::Error {
        io::Error::other("denied")
    }

    table! { DaemonProblem:
        Ending {} => "vswitch was killed and is ending: \"vswitch up\" again, or attach something",
        OfRoot { user: "alice".into() }
            => "no vswitch runs for alice, one runs for root: \"sudo vswitch show\", or start yours with \"vswitch up\"",
        NoDaemon { user: "alice".into(), socket: "/r/s".into() }
            => "no vswitch runs for alice (no /r/s): \"vswitch up\", or attach something",
        Ended { log: "/r/l".into() } => "vswitch has just ended, see /r/l: \"vswitch up\", or attach something",
        Closed { log: "/r/l".into() } => "the daemon closed the connection: see /r/l",
        Unreachable { socket: "/r/s".into(), error: denied() }
            => "cannot reach the daemon at /r/s (denied): run as the user who started it",
        NotAsked { error: denied(), log: "/r/l".into() } => "cannot ask the daemon (denied): see /r/l",
        Silent { seconds: 15, log: "/r/l".into() } => "the daemon has not answered for 15 s: see /r/l",
        Unreadable { error: denied(), log: "/r/l".into() } => "the daemon's answer cannot be read (denied): see /r/l",
        NotUnderstood {} => "the daemon's answer is not understood: \"vswitch down\", then start again",
        OtherVersion {} => "the daemon's answer is of another version: \"vswitch down\", then start again",
        BadMac { error: "odd".into() } => "the daemon's answer has a bad MAC (odd): restart it",
        BadContainer { name: "web".into(), error: "odd".into() }
            => "what the daemon says of web is not understood (odd): \"vswitch down\", then start again with this version",
        RunsAlready { pid: "7".into() } => "one runs already (pid 7): \"vswitch down\" first, or use it",
        NotStarted {} => "cannot start the daemon: see that the vswitch program is still there",
        EndedAtStart { status: ExitStatus::from_raw(256), log: "/r/l".into() }
            => "the daemon ended at its start (exit status: 1): see /r/l",
        OpenFiles {} => "cannot raise the limit of open files: raise it before (\"ulimit -n\")",
        NoWorker {} => "cannot start the worker: see that another thread may run (\"ulimit -u\")",
        NoEvents {} => "cannot wait for events: start it again, and see the log",
        NotEnded { pid: 7, seconds: 30, log: "/r/l".into() } => "the daemon (pid 7) has not ended for 30 s: see /r/l",
        OfOther { owner: 1_000 } => "the daemon was started by uid 1000: restart it as that user",
        GoesOn { why: "it is busy: try again".into(), pid: 7 } => "it is busy: try again; pid 7 goes on",
        HasEnded {} => "the daemon has just ended: \"vswitch up\"",
        ToldToEnd {} => "the daemon was told to end meanwhile: \"vswitch up\" starts another",
        NothingToRestore { state: "/r/t".into() } => "nothing is to be restored (no /r/t): \"vswitch up\", or attach something",
        NothingLeft {} => "a vswitch runs already, what was attached to the one before is lost: attach it again",
        NotRestored { failed: 1, all: 3 } => "1 of 3 could not be attached, see above: attach them by hand",
        BadState { path: "/r/t".into(), why: "odd".into(), aside: "/r/b".into() }
            => "/r/t is not understood (odd), it is /r/b now: attach anew",
        BadStateStays { path: "/r/t".into(), why: "odd".into(), error: denied() }
            => "/r/t is not understood (odd) nor can it be renamed (denied): remove it",
        DirNotMade { dir: "/r".into(), error: denied() }
            => "cannot make /r (denied): choose an empty directory of your own with VSWITCH_RUN_DIR",
        DirNotUsed { dir: "/r".into() } => "cannot use /r: choose an empty directory of your own with VSWITCH_RUN_DIR",
        DirNotYours { dir: "/r".into() }
            => "/r is not a directory of yours that only you can write to: choose an empty directory of your own with VSWITCH_RUN_DIR",
        DirHolds { dir: "/r".into(), name: "mine".into() }
            => "/r holds mine too: choose an empty directory of your own with VSWITCH_RUN_DIR",
        NotOpened { path: "/r/l".into() } => "cannot open /r/l: remove it",
        NotRead { path: "/r/t".into() } => "cannot read /r/t: remove it",
        NotWritten { path: "/r/k".into() } => "cannot write /r/k: free space in its directory",
        NoProc {} => "cannot read when this process started: see that /proc is mounted",
        NotRemoved { path: "/r/s".into(), error: denied() } => "cannot remove /r/s (denied): remove it",
        LockReplaced { path: "/r/k".into() } => "/r/k is replaced again and again: see what else starts or ends vswitch",
        SocketNotMade { path: "/r/s".into() }
            => "cannot make /r/s: choose a shorter VSWITCH_RUN_DIR (a socket's path has at most 107 bytes)",
    }
}
