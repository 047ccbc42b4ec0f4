//! `docker:ID` and `podman:ID`: containers of an engine, whose command line is asked for the container's PID.
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
        let Self { program, id } = self;
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if !id.starts_with(|c: char| c.is_ascii_alphanumeric()) || !id.chars().all(plain) {
            bail!("{program}:{id:?} names no container: give its name or id, as \"{program} ps\" lists it");
        }
        let mut command = Command::new(program);
        command.args(["inspect", "--type", "container", "-f", "{{.State.Pid}}", id]).stdin(Stdio::null());
        let output = match command.output() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                bail!("there is no {program} command: install {program}, or give the PID of a process in the container")
            }
            Err(error) => bail!("cannot run {program} ({error}): give the PID of a process in the container"),
            Ok(output) => output,
        };
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        match said.parse() {
            Ok(0) => bail!("{program} container {id} does not run: \"{program} start {id}\" first"),
            Ok(pid) if output.status.success() => Ok(pid),
            Ok(_) | Err(_) => {
                // The last line tells what went wrong; warnings come before it.
                let stderr = String::from_utf8_lossy(&output.stderr);
                let line = stderr.trim().lines().last().unwrap_or_default();
                let complaint: String = line.chars().take(COMPLAINT).collect();
                if *program == "docker" && line.to_ascii_lowercase().contains("permission denied") {
                    bail!("docker is root's here ({complaint}): use sudo, as in \"sudo vswitch attach docker:{id}\"")
                }
                if *program == "podman" && nix::unistd::geteuid().is_root() {
                    bail!("root's podman knows no running container {id} ({complaint}): attach a user's as that user, without sudo")
                }
                bail!("{program} knows no running container {id} ({complaint}): see \"{program} ps\"")
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
