//! What goes wrong, in one table: the errors that the command line's user reads, an enum for each topic.
//!
//! The rule: one line, `what: remedy`, which `main` prints on standard error as `vswitch VERB: what: remedy`. The exit status is that of
//! [`exit_code`]: 1, or 3 where no daemon runs. 2 is a usage error, which clap gives; `run` and `exec` end with 125 to 127 instead, as Docker
//! does. What stands in front of that line is a context where it arises: which setting, which container, how many changes were made. What
//! the other crates say of the kernel (`LinkError`, `NetnsError`, ...) follows the same rule there.
//!
//! To add one: a variant with its text in the topic's file, and its row in the `table!` below it, without which it does not compile.

/// A test of all texts of an enum: a row each, the variant as an example and what it says. (`after`: in front of each stands this.)
#[cfg(test)]
macro_rules! table {
    ($problem:ident: $($rest:tt)+) => {
        table! { $problem after "": $($rest)+ }
    };
    ($problem:ident after $before:literal: $($variant:ident $fields:tt => $text:literal,)+) => {
        #[test]
        fn each_says_what_and_the_remedy_in_one_line() {
            // Without a wildcard: a variant that has no row does not compile.
            const fn has_row(problem: &$problem) {
                match problem {
                    $($problem::$variant { .. } => {})+
                }
            }
            $(
                let problem = $problem::$variant $fields;
                has_row(&problem);
                assert_eq!(problem.to_string(), $text, stringify!($variant));
                $crate::errors::tests::judge(&format!("{}{problem}", $before));
            )+
        }
    };
}

mod attach;
mod config;
mod daemon;
mod handover;
mod names;
mod protocol;
mod publish;
mod reach;
mod run;
mod settings;
mod tools;
mod verbs;

pub use attach::AttachProblem;
pub use config::ConfigProblem;
pub use daemon::DaemonProblem;
pub use handover::HandoverProblem;
pub use names::NameProblem;
pub use protocol::ProtocolProblem;
pub use publish::PublishProblem;
pub use reach::ReachProblem;
pub use run::RunProblem;
pub use settings::{SettingProblem, ValueProblem};
pub use tools::ToolProblem;
pub use verbs::VerbProblem;

/// The line. A system call that failed without a word about what it was for is named as what it is.
pub fn line(error: &anyhow::Error) -> String {
    let is_bare = error.chain().next().is_some_and(|error| error.is::<std::io::Error>() || error.is::<nix::errno::Errno>());
    let text = if is_bare { RunProblem::System { error: error.to_string() }.to_string() } else { format!("{error:#}") };
    text.replace('\n', " ")
}

/// Something failed.
const FAILED: u8 = 1;
/// No daemon runs. (2 is a usage error.)
const NO_DAEMON: u8 = 3;

/// The exit status for an error of any kind.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if is_no_daemon(error) { NO_DAEMON } else { FAILED }
}

/// Whether it says that no daemon runs.
pub fn is_no_daemon(error: &anyhow::Error) -> bool {
    error.downcast_ref().is_some_and(DaemonProblem::is_none)
}

/// Whether it says that the daemon closed the connection instead of answering.
pub fn is_closed(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(DaemonProblem::Closed { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a text is what this module's says.
    pub fn judge(text: &str) {
        assert!(!text.contains('\n'), "{text}");
        assert!(text.split_once(": ").is_some_and(|(what, remedy)| !what.is_empty() && !remedy.is_empty()), "{text}");
    }

    #[test]
    fn a_line_of_any_error() {
        let full = || std::io::Error::from_raw_os_error(28);
        let line = |error: anyhow::Error| line(&error);
        assert_eq!(line(anyhow::anyhow!("what\nand more: remedy").context("this")), "this: what and more: remedy");
        assert_eq!(line(DaemonProblem::NotStarted.into()), DaemonProblem::NotStarted.to_string());
        let with_source = anyhow::Error::from(full()).context(DaemonProblem::NotStarted);
        assert_eq!(line(with_source), format!("{}: No space left on device (os error 28)", DaemonProblem::NotStarted));
        let bare = "the system refuses a step (No space left on device (os error 28)): see what \"vswitch doctor\" says";
        assert_eq!(line(full().into()), bare);
        assert!(line(nix::errno::Errno::ENOSPC.into()).ends_with("): see what \"vswitch doctor\" says"));
    }

    #[test]
    fn three_says_that_no_daemon_runs() {
        let status = |problem: DaemonProblem| exit_code(&anyhow::Error::from(problem).context("cannot do this"));
        let none = DaemonProblem::NoDaemon { user: "alice".into(), socket: "/r/s".into() };
        assert_eq!(status(none), 3);
        assert_eq!(status(DaemonProblem::Ending), 3);
        assert_eq!(status(DaemonProblem::OfRoot { user: "alice".into() }), 3);
        assert_eq!(status(DaemonProblem::Ended { log: "/r/l".into() }), 3);
        assert_eq!(status(DaemonProblem::Closed { log: "/r/l".into() }), 1);
        assert_eq!(exit_code(&anyhow::anyhow!("anything else")), 1);
    }
}
