//! `demo`, `doctor`, `generate`, `logs` and the file of `mirror`.
use std::net::SocketAddr;
use std::path::PathBuf;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum ToolProblem {
    // Files.
    #[error("cannot write to {}: make it", .dir.display())]
    DirNotWritten { dir: PathBuf },
    #[error("cannot write {}: choose another file", .file.display())]
    FileNotWritten { file: PathBuf },
    #[error("there is no log in {}: \"vswitch up\" starts one, in the foreground it goes to standard error", .dir.display())]
    NoLog { dir: PathBuf },
    #[error("cannot read {}: run as the user who started the daemon", .log.display())]
    LogDenied { log: PathBuf },
    #[error("cannot read the log: see that its disk works")]
    LogNotRead,

    // What doctor found.
    #[error("1 problem was found: do what its line says, then look again")]
    Found,
    #[error("{count} problems were found: do what their lines say, then look again")]
    FoundMore { count: usize },

    // The demo.
    #[error("there is no {tool}: install util-linux")]
    NoTool { tool: &'static str },
    #[error("cannot run {program}: see that it is installed")]
    NotRun { program: String },
    #[error("{command} ({waited}): interrupted: start it again")]
    Interrupted { command: String, waited: String },
    #[error("{command} ({waited}): it takes too long: see what else runs on this machine")]
    TooSlow { command: String, waited: String },
    #[error("the step failed ({complaint}): start the demo again")]
    StepFailed { complaint: String },
    #[error(
        "this system lets you make no namespaces ({complaint}): allow user namespaces \
         (kernel.unprivileged_userns_clone=1, or AppArmor's apparmor_restrict_unprivileged_userns=0), or use sudo"
    )]
    NoNamespaces { complaint: String },
    #[error("it went away meanwhile: start the demo again")]
    Gone,
    #[error("no transfer was measured ({said}): start the demo again")]
    NotMeasured { said: String },
    #[error("the accounts do not balance: please report it with what you see above")]
    NotBalanced,
    #[error("cannot clean up: \"VSWITCH_RUN_DIR={} vswitch down\"", .dir.display())]
    NotCleaned { dir: PathBuf },

    // Its traffic.
    #[error("the TAP went away: start again")]
    TapGone,
    #[error("two TAPs are needed: start again")]
    NoTaps,
    #[error("cannot listen on port {port}: end what does")]
    PortTaken { port: u16 },
    #[error("cannot connect to {to}: run \"vswitch demo-server\" there")]
    NotConnected { to: SocketAddr },
    #[error("the transfer stalled: see \"vswitch stats\"")]
    Stalled,
    #[error("you may not ping here: install ping, or be root in this namespace")]
    NoPing,
}

#[cfg(test)]
mod tests {
    use super::*;

    table! { ToolProblem:
        DirNotWritten { dir: "man".into() } => "cannot write to man: make it",
        FileNotWritten { file: "a.pcap".into() } => "cannot write a.pcap: choose another file",
        NoLog { dir: "/r".into() } => "there is no log in /r: \"vswitch up\" starts one, in the foreground it goes to standard error",
        LogDenied { log: "/r/l".into() } => "cannot read /r/l: run as the user who started the daemon",
        LogNotRead {} => "cannot read the log: see that its disk works",
        Found {} => "1 problem was found: do what its line says, then look again",
        FoundMore { count: 2 } => "2 problems were found: do what their lines say, then look again",
        NoTool { tool: "unshare" } => "there is no unshare: install util-linux",
        NotRun { program: "ping".into() } => "cannot run ping: see that it is installed",
        Interrupted { command: "vswitch fdb".into(), waited: "Ok(1)".into() }
            => "vswitch fdb (Ok(1)): interrupted: start it again",
        TooSlow { command: "vswitch fdb".into(), waited: "Ok(0)".into() }
            => "vswitch fdb (Ok(0)): it takes too long: see what else runs on this machine",
        StepFailed { complaint: "odd".into() } => "the step failed (odd): start the demo again",
        NoNamespaces { complaint: "denied".into() }
            => "this system lets you make no namespaces (denied): allow user namespaces \
                (kernel.unprivileged_userns_clone=1, or AppArmor's apparmor_restrict_unprivileged_userns=0), or use sudo",
        Gone {} => "it went away meanwhile: start the demo again",
        NotMeasured { said: "nothing".into() } => "no transfer was measured (nothing): start the demo again",
        NotBalanced {} => "the accounts do not balance: please report it with what you see above",
        NotCleaned { dir: "/r".into() } => "cannot clean up: \"VSWITCH_RUN_DIR=/r vswitch down\"",
        TapGone {} => "the TAP went away: start again",
        NoTaps {} => "two TAPs are needed: start again",
        PortTaken { port: 5_201 } => "cannot listen on port 5201: end what does",
        NotConnected { to: "10.88.0.2:5201".parse().unwrap() }
            => "cannot connect to 10.88.0.2:5201: run \"vswitch demo-server\" there",
        Stalled {} => "the transfer stalled: see \"vswitch stats\"",
        NoPing {} => "you may not ping here: install ping, or be root in this namespace",
    }
}
