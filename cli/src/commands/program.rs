//! What `run` and `exec` share: starting the user's program, and the exit statuses, which are Docker's: the program's own, 128 and the
//! signal that killed it, or one of those below when it never ran.
use crate::errors::{self, RunProblem};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// We failed, not the program.
const OURS: u8 = 125;
/// The program is there and cannot be executed.
const NOT_EXECUTABLE: u8 = 126;
/// There is no such program.
const NOT_FOUND: u8 = 127;
/// Characters of a program's name that an error repeats at the most.
const SHOWN: usize = 200;
/// Added to the number of the signal that killed it.
pub const SIGNALLED: i32 = 128;

/// Why the program does not run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Refusal {
    status: u8,
    /// "what: remedy".
    why: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Refusal {}

impl From<anyhow::Error> for Refusal {
    fn from(error: anyhow::Error) -> Self {
        Self { status: OURS, why: errors::line(&error) }
    }
}

/// Becomes the program. It returns only where that fails.
pub fn become_program(words: &[OsString]) -> Refusal {
    let Some((program, arguments)) = words.split_first() else {
        return Refusal { status: OURS, why: RunProblem::Nothing.to_string() };
    };
    let error = Command::new(program).args(arguments).exec();
    let shown: String = program.to_string_lossy().chars().take(SHOWN).collect();
    // A directory on the path that is closed to the user gives EACCES, and says nothing of the program.
    let is_missing = error.kind() == ErrorKind::PermissionDenied && !shown.contains('/') && !is_on_path(program);
    if error.kind() == ErrorKind::NotFound || is_missing {
        return Refusal { status: NOT_FOUND, why: RunProblem::NotFound { program: shown }.to_string() };
    }
    Refusal { status: NOT_EXECUTABLE, why: RunProblem::NotExecutable { program: shown, error }.to_string() }
}

fn is_on_path(program: &OsStr) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).exists()))
}

/// The exit status of `verb`; says why it is none of the program's.
pub fn exit(verb: &str, result: Result<u8>) -> ExitCode {
    match result {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            let refusal = error.downcast::<Refusal>().unwrap_or_else(Refusal::from);
            crate::print::note(&format!("vswitch {verb}: {refusal}"));
            ExitCode::from(refusal.status)
        }
    }
}
