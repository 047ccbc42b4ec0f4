//! `docker:ID` and `podman:ID`: containers of an engine, whose command line is asked for the container's PID.
use crate::errors::AttachProblem;
use anyhow::{Result, bail};
use std::io::ErrorKind;
use std::process::{Command, Stdio};

/// Characters of an engine's error that are repeated at the most.
const COMPLAINT: usize = 200;

/// A container of an engine.
#[derive(Debug, PartialEq, Eq)]
pub struct Engine {
    /// Its command.
    program: &'static str,
    /// Name or id.
    pub id: String,
}

impl Engine {
    /// None where the text names no engine.
    pub fn parse(text: &str) -> Option<Self> {
        let of = |program| text.strip_prefix(program)?.strip_prefix(':').map(|id| Self { program, id: id.into() });
        of("docker").or_else(|| of("podman"))
    }

    /// The PID of the container's first process.
    pub fn pid(&self) -> Result<i32> {
        let (program, id) = (self.program, self.id.clone());
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if !id.starts_with(|c: char| c.is_ascii_alphanumeric()) || !id.chars().all(plain) {
            bail!(AttachProblem::NoContainer { program, id });
        }
        let mut command = Command::new(program);
        command.args(["inspect", "--type", "container", "-f", "{{.State.Pid}}", &id]).stdin(Stdio::null());
        let output = match command.output() {
            Err(error) if error.kind() == ErrorKind::NotFound => bail!(AttachProblem::NoEngine { program }),
            Err(error) => bail!(AttachProblem::EngineNotRun { program, error }),
            Ok(output) => output,
        };
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        match said.parse() {
            Ok(0) => bail!(AttachProblem::Stopped { program, id }),
            Ok(pid) if output.status.success() => Ok(pid),
            Ok(_) | Err(_) => {
                // The last line tells what went wrong; warnings come before it.
                let stderr = String::from_utf8_lossy(&output.stderr);
                let line = stderr.trim().lines().last().unwrap_or_default();
                let complaint: String = line.chars().take(COMPLAINT).collect();
                if program == "docker" && line.to_ascii_lowercase().contains("permission denied") {
                    bail!(AttachProblem::DockerOfRoot { complaint, id })
                }
                if program == "podman" && nix::unistd::geteuid().is_root() {
                    bail!(AttachProblem::PodmanOfRoot { complaint, id })
                }
                bail!(AttachProblem::NotKnown { program, id, complaint })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_and_what_is_none() {
        assert_eq!(Engine::parse("docker:web").map(|engine| (engine.program, engine.id)), Some(("docker", "web".into())));
        assert_eq!(Engine::parse("podman:0a1b").map(|engine| (engine.program, engine.id)), Some(("podman", "0a1b".into())));
        for text in ["docker", "web", "dockers:web", "/docker:web", "pid:1"] {
            assert_eq!(Engine::parse(text), None, "{text}");
        }
        for text in ["docker:", "docker:-f", "podman:a b", "podman:a/b"] {
            let error = Engine::parse(text).unwrap().pid().unwrap_err().to_string();
            assert!(error.contains("names no container") && error.contains(": "), "{error}");
        }
    }
}
