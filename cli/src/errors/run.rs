//! Starting programs: ourselves once more, and the user's in namespaces of its own.
use std::io;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum RunProblem {
    // Ourselves.
    #[error("cannot find the vswitch program: start it by its path")]
    NoVswitch,
    #[error("the vswitch program is in no directory: start it by its path")]
    NoDirectory,
    #[error("cannot start vswitch once more: see that the program is still there")]
    NotAgain,
    #[error("cannot start a process: see that the vswitch program is still there")]
    NoProcess,
    #[error("the system refuses a step ({error}): see what \"vswitch doctor\" says")]
    System { error: String },

    // The program.
    #[error("there is nothing to run: give a command")]
    Nothing,
    #[error("no program {program:?} is found: check its name and $PATH")]
    NotFound { program: String },
    #[error("{program:?} cannot be executed ({error}): give an executable file for this machine")]
    NotExecutable { program: String, error: io::Error },

    // Around it.
    #[error("--name, --ip and the like are of a port, and without the bridge network there is none: leave them out")]
    NoPort,
    #[error("the container's process ended at its start: try again")]
    EndedAtStart,
    #[error("the container ended meanwhile: try again")]
    Ended,
    #[error("plugging in was interrupted: try again")]
    Interrupted,
    #[error("who started this is gone: start it again")]
    StarterGone,
    #[error("no standard input came: start it again")]
    NoInput,

    // Its namespaces; `what` is the step that failed.
    #[error(
        "AppArmor denies user namespaces to this binary (kernel.apparmor_restrict_unprivileged_userns=1): set it to 0, or use sudo"
    )]
    AppArmor,
    #[error("cannot {what} ({error}): raise user.max_user_namespaces and user.max_net_namespaces, or end some containers")]
    Full { what: &'static str, error: String },
    #[error(
        "cannot {what} ({error}): root lacks CAP_SYS_ADMIN here: inside Docker start with --cap-add SYS_ADMIN and --security-opt seccomp=unconfined"
    )]
    RootDenied { what: &'static str, error: String },
    #[error(
        "cannot {what} ({error}): this system lets you make no namespaces: set kernel.unprivileged_userns_clone=1, or use sudo"
    )]
    UserDenied { what: &'static str, error: String },
    #[error("cannot {what} ({error}): see that this kernel has user, mount and network namespaces")]
    NoNamespaces { what: &'static str, error: String },
}

#[cfg(test)]
mod tests {
    use super::*;

    table! { RunProblem:
        NoVswitch {} => "cannot find the vswitch program: start it by its path",
        NoDirectory {} => "the vswitch program is in no directory: start it by its path",
        NotAgain {} => "cannot start vswitch once more: see that the program is still there",
        NoProcess {} => "cannot start a process: see that the vswitch program is still there",
        System { error: "EMFILE".into() } => "the system refuses a step (EMFILE): see what \"vswitch doctor\" says",
        Nothing {} => "there is nothing to run: give a command",
        NotFound { program: "none".into() } => "no program \"none\" is found: check its name and $PATH",
        NotExecutable { program: "/etc/hosts".into(), error: io::Error::other("denied") }
            => "\"/etc/hosts\" cannot be executed (denied): give an executable file for this machine",
        NoPort {} => "--name, --ip and the like are of a port, and without the bridge network there is none: leave them out",
        EndedAtStart {} => "the container's process ended at its start: try again",
        Ended {} => "the container ended meanwhile: try again",
        Interrupted {} => "plugging in was interrupted: try again",
        StarterGone {} => "who started this is gone: start it again",
        NoInput {} => "no standard input came: start it again",
        AppArmor {} => "AppArmor denies user namespaces to this binary (kernel.apparmor_restrict_unprivileged_userns=1): \
                        set it to 0, or use sudo",
        Full { what: "make namespaces", error: "ENOSPC".into() }
            => "cannot make namespaces (ENOSPC): raise user.max_user_namespaces and user.max_net_namespaces, or end some containers",
        RootDenied { what: "make namespaces", error: "EPERM".into() }
            => "cannot make namespaces (EPERM): root lacks CAP_SYS_ADMIN here: \
                inside Docker start with --cap-add SYS_ADMIN and --security-opt seccomp=unconfined",
        UserDenied { what: "make namespaces", error: "EPERM".into() }
            => "cannot make namespaces (EPERM): this system lets you make no namespaces: \
                set kernel.unprivileged_userns_clone=1, or use sudo",
        NoNamespaces { what: "make namespaces", error: "EINVAL".into() }
            => "cannot make namespaces (EINVAL): see that this kernel has user, mount and network namespaces",
    }
}
