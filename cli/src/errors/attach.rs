//! The command line's side of `attach`, `run` and `exec`: namespaces, engines, interfaces.
use nix::errno::Errno;
use std::io;
use std::path::PathBuf;
use thiserror::Error;
use vswitch_io::link::IfName;

#[derive(Debug, Error)]
pub enum AttachProblem {
    // A namespace to be attached.
    #[error("process {pid} has just ended: give another")]
    ProcessEnded { pid: i32 },
    #[error("cannot open rtnetlink: see that the kernel has it")]
    NoNetlink,
    #[error("cannot look the interface up: attach again")]
    NotLookedUp,
    #[error("{ifname} went away meanwhile: attach again")]
    InterfaceGone { ifname: IfName },

    // Its /etc/netns/NAME/resolv.conf.
    #[error("{spec} has no name of \"ip netns\": leave --resolv-conf out, and give its programs a resolv.conf yourself")]
    NoNetnsName { spec: String },
    #[error("{} is not ours: remove it, or leave --resolv-conf out", .file.display())]
    ResolvConfThere { file: PathBuf },
    #[error("cannot have {} ({error}): use sudo, or leave --resolv-conf out", .file.display())]
    ResolvConf { file: PathBuf, error: io::Error },

    // The host.
    #[error(
        "only root may plug in the host (CAP_NET_ADMIN in its network namespace): \"sudo vswitch attach --host\", to root's switch"
    )]
    HostNotRoot,
    #[error(
        "the switch's network {network} overlaps the route {route} of this host: \"vswitch up --subnet\" with another, or remove it"
    )]
    RouteOverlap { network: String, route: String },

    // A container that is attached, to be entered.
    #[error("{name} is the host itself: run the command as it is, or with \"vswitch run --network host\"")]
    EnterHost { name: String },
    #[error("{name} went away meanwhile: \"vswitch show\" lists what is there")]
    Gone { name: String },
    #[error("{name} is another user's: run as that user, or \"sudo vswitch exec {name}\"")]
    OfOther { name: String },
    #[error("cannot enter {name} ({error}): see that its process {pid} still runs")]
    NotEntered { name: String, error: Errno, pid: i32 },
    #[error("cannot become its root: run as its user")]
    NotRoot,

    // An engine's container.
    #[error("{program}:{id:?} names no container: give its name or id, as \"{program} ps\" lists it")]
    NoContainer { program: &'static str, id: String },
    #[error("there is no {program} command: install {program}, or give the PID of a process in the container")]
    NoEngine { program: &'static str },
    #[error("cannot run {program} ({error}): give the PID of a process in the container")]
    EngineNotRun { program: &'static str, error: io::Error },
    #[error("{program} container {id} does not run: \"{program} start {id}\" first")]
    Stopped { program: &'static str, id: String },
    #[error("docker is root's here ({complaint}): use sudo, as in \"sudo vswitch attach docker:{id}\"")]
    DockerOfRoot { complaint: String, id: String },
    #[error("root's podman knows no running container {id} ({complaint}): attach a user's as that user, without sudo")]
    PodmanOfRoot { complaint: String, id: String },
    #[error("{program} knows no running container {id} ({complaint}): see \"{program} ps\"")]
    NotKnown { program: &'static str, id: String, complaint: String },
}

#[cfg(test)]
mod tests {
    use super::*;

    table! { AttachProblem:
        ProcessEnded { pid: 7 } => "process 7 has just ended: give another",
        NoNetlink {} => "cannot open rtnetlink: see that the kernel has it",
        NotLookedUp {} => "cannot look the interface up: attach again",
        InterfaceGone { ifname: IfName::parse("eth0").unwrap() } => "eth0 went away meanwhile: attach again",
        NoNetnsName { spec: "pid:7".into() }
            => "pid:7 has no name of \"ip netns\": leave --resolv-conf out, and give its programs a resolv.conf yourself",
        ResolvConfThere { file: "/etc/netns/web/resolv.conf".into() }
            => "/etc/netns/web/resolv.conf is not ours: remove it, or leave --resolv-conf out",
        ResolvConf { file: "/etc/netns/web/resolv.conf".into(), error: io::Error::other("denied") }
            => "cannot have /etc/netns/web/resolv.conf (denied): use sudo, or leave --resolv-conf out",
        HostNotRoot {}
            => "only root may plug in the host (CAP_NET_ADMIN in its network namespace): \"sudo vswitch attach --host\", to root's switch",
        RouteOverlap { network: "10.88.0.0/20".into(), route: "10.88.3.0/24".into() }
            => "the switch's network 10.88.0.0/20 overlaps the route 10.88.3.0/24 of this host: \
                \"vswitch up --subnet\" with another, or remove it",
        EnterHost { name: "host".into() }
            => "host is the host itself: run the command as it is, or with \"vswitch run --network host\"",
        Gone { name: "web".into() } => "web went away meanwhile: \"vswitch show\" lists what is there",
        OfOther { name: "web".into() } => "web is another user's: run as that user, or \"sudo vswitch exec web\"",
        NotEntered { name: "web".into(), error: Errno::EINVAL, pid: 7 }
            => "cannot enter web (EINVAL: Invalid argument): see that its process 7 still runs",
        NotRoot {} => "cannot become its root: run as its user",
        NoContainer { program: "docker", id: "-f".into() }
            => "docker:\"-f\" names no container: give its name or id, as \"docker ps\" lists it",
        NoEngine { program: "podman" }
            => "there is no podman command: install podman, or give the PID of a process in the container",
        EngineNotRun { program: "podman", error: io::Error::other("denied") }
            => "cannot run podman (denied): give the PID of a process in the container",
        Stopped { program: "docker", id: "web".into() } => "docker container web does not run: \"docker start web\" first",
        DockerOfRoot { complaint: "denied".into(), id: "web".into() }
            => "docker is root's here (denied): use sudo, as in \"sudo vswitch attach docker:web\"",
        PodmanOfRoot { complaint: "none".into(), id: "web".into() }
            => "root's podman knows no running container web (none): attach a user's as that user, without sudo",
        NotKnown { program: "podman", id: "web".into(), complaint: "none".into() }
            => "podman knows no running container web (none): see \"podman ps\"",
    }
}
