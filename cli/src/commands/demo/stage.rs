//! The demo's stage: it runs programs, says which, and takes everything down at the end.
use super::super::show;
use crate::api::client::Client;
use crate::api::types::{Container, Reach};
use crate::errors::{RunProblem, ToolProblem};
use crate::print;
use crate::rundir::RunDir;
use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use vswitch_io::sys::process;

/// Seconds after which a namespace ends by itself.
pub const HOLD: &str = "600";
/// How long a namespace or a server may take to be there.
const START: Duration = Duration::from_secs(5);
/// How long any step may take.
const STEP: Duration = Duration::from_secs(90);

/// A process that holds a namespace.
#[derive(Clone, Copy)]
pub struct Holder {
    pid: u32,
}

impl Holder {
    /// As typed.
    pub fn pid(&self) -> String {
        self.pid.to_string()
    }
}

/// Everything that has to go at the end.
pub struct Stage {
    root: bool,
    run_dir: RunDir,
    programs: PathBuf,
    path: String,
    signals: SignalFd,
    children: Vec<Child>,
}

/// Whether a program is on the path.
pub fn is_installed(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

impl Stage {
    pub fn new() -> Result<Self> {
        for tool in ["unshare", "nsenter"] {
            if !is_installed(tool) {
                bail!(ToolProblem::NoTool { tool });
            }
        }
        let program = std::env::current_exe().context(RunProblem::NoVswitch)?;
        let programs = program.parent().context(RunProblem::NoDirectory)?.to_owned();
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{path}", programs.display());
        let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
        signals.thread_block()?;
        let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)?;
        let run_dir = RunDir::at(std::env::temp_dir().join(format!("vswitch-demo-{}", std::process::id())));
        Ok(Self { root: nix::unistd::geteuid().is_root(), run_dir, programs, path, signals, children: Vec::new() })
    }

    pub const fn is_root(&self) -> bool {
        self.root
    }

    /// The demo's daemon.
    pub fn connect(&self) -> Result<Client> {
        Client::connect_to(&self.run_dir)
    }

    /// What has to be typed first.
    pub fn say_environment(&self) -> Result<()> {
        print::out(&format!("$ export VSWITCH_RUN_DIR={} PATH={}:$PATH\n", self.run_dir.path().display(), self.programs.display()))
    }

    /// Prints a command as it can be typed.
    pub fn say(&self, command: &[&str]) -> Result<()> {
        print::out(&format!("  $ {}\n", command.join(" ")))
    }

    /// Prints what a command printed.
    pub fn show(&self, text: &str) -> Result<()> {
        let lines: Vec<String> = text.lines().filter(|line| !line.is_empty()).map(|line| format!("  {line}\n")).collect();
        print::out(&lines.concat())
    }

    fn spawn(&mut self, command: &[&str]) -> Result<usize> {
        let [program, arguments @ ..] = command else { bail!(RunProblem::Nothing) };
        let mut prepared = Command::new(program);
        prepared.args(arguments).env("PATH", &self.path).env("VSWITCH_RUN_DIR", self.run_dir.path());
        prepared.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = prepared.spawn().with_context(|| ToolProblem::NotRun { program: (*program).into() })?;
        self.children.push(child);
        Ok(self.children.len() - 1)
    }

    /// Runs a command to its end and returns what it printed.
    pub fn run(&mut self, command: &[&str]) -> Result<String> {
        self.say(command)?;
        self.run_quietly(command)
    }

    /// The same without printing the command.
    pub fn run_quietly(&mut self, command: &[&str]) -> Result<String> {
        let number = self.spawn(command)?;
        let pid = self.children.get(number).map(Child::id).unwrap_or_default();
        let ended = process::pidfd_open(i32::try_from(pid)?)?;
        let mut fds = [PollFd::new(ended.as_fd(), PollFlags::POLLIN), PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let patience = PollTimeout::try_from(STEP).unwrap_or(PollTimeout::MAX);
        let waited = poll(&mut fds, patience);
        let [ended, interrupted] = fds.map(|fd| fd.any().unwrap_or(false));
        let mut child = self.children.swap_remove(number);
        if !ended || interrupted {
            let _ = child.kill();
            let _ = child.wait();
            let (command, waited) = (command.join(" "), format!("{waited:?}"));
            if interrupted {
                bail!(ToolProblem::Interrupted { command, waited });
            }
            bail!(ToolProblem::TooSlow { command, waited });
        }
        let output = child.wait_with_output()?;
        let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if !output.status.success() {
            // Its last line says why; ours begins with the program's name already.
            let why = complained.trim().lines().last().or(said.trim().lines().last()).unwrap_or("it says nothing");
            bail!(why.strip_prefix("vswitch ").unwrap_or(why).to_owned());
        }
        Ok(said.into_owned())
    }

    /// Starts a command that goes on; waits until it says `ready`.
    pub fn background(&mut self, command: &[&str], ready: Option<&str>) -> Result<()> {
        print::out(&format!("  $ {} &\n", command.join(" ")))?;
        let number = self.spawn(command)?;
        let Some((child, ready)) = self.children.get_mut(number).zip(ready) else { return Ok(()) };
        let mut line = String::new();
        if let Some(stdout) = &mut child.stdout {
            // It says this or it ends.
            BufReader::new(stdout).read_line(&mut line)?;
        }
        if line.trim() != ready {
            let child = self.children.swap_remove(number);
            let complaint = String::from_utf8_lossy(&child.wait_with_output()?.stderr).trim().replace('\n', ", ");
            bail!(ToolProblem::StepFailed { complaint });
        }
        Ok(())
    }

    /// How a program is started in a holder's namespace.
    fn enter(&self, holder: &Holder) -> Vec<String> {
        let pid = holder.pid();
        let words: &[&str] =
            if self.root { &["nsenter", "-t", &pid, "-n"] } else { &["nsenter", "-t", &pid, "-U", "-n", "--preserve-credentials"] };
        words.iter().map(ToString::to_string).collect()
    }

    /// Runs a command in a holder's namespace.
    pub fn inside(&mut self, holder: &Holder, command: &[&str]) -> Result<String> {
        let enter = self.enter(holder);
        let all: Vec<&str> = enter.iter().map(String::as_str).chain(command.iter().copied()).collect();
        self.run(&all)
    }

    /// Starts a command in a holder's namespace.
    pub fn background_inside(&mut self, holder: &Holder, command: &[&str], ready: Option<&str>) -> Result<()> {
        let enter = self.enter(holder);
        let all: Vec<&str> = enter.iter().map(String::as_str).chain(command.iter().copied()).collect();
        self.background(&all, ready)
    }

    /// Makes a namespace of its own.
    pub fn hold(&mut self, name: &str) -> Result<Holder> {
        let unshare: &[&str] = if self.root { &["unshare", "--net"] } else { &["unshare", "--user", "--map-root-user", "--net"] };
        let holder = self.hold_by(unshare)?;
        print::out(&format!("  $ {} sleep {HOLD} & {name}=$!      # {}\n", unshare.join(" "), holder.pid))?;
        Ok(holder)
    }

    /// Makes two namespaces that belong to one user namespace.
    pub fn hold_pair(&mut self) -> Result<(Holder, Holder)> {
        let a = self.hold("a")?;
        if self.root {
            return Ok((a, self.hold("b")?));
        }
        let pid = a.pid();
        let command = ["nsenter", "-t", &pid, "-U", "--preserve-credentials", "unshare", "--net"];
        let b = self.hold_by(&command)?;
        print::out(&format!("  $ {} sleep {HOLD} & b=$!      # {}\n", command.join(" "), b.pid))?;
        Ok((a, b))
    }

    fn hold_by(&mut self, unshare: &[&str]) -> Result<Holder> {
        let command: Vec<&str> = unshare.iter().copied().chain(["sleep", HOLD]).collect();
        let number = self.spawn(&command)?;
        let pid = self.children.get(number).map(Child::id).unwrap_or_default();
        let until = Instant::now() + START;
        // It has its namespaces when it has become "sleep".
        while process::comm(i32::try_from(pid)?).is_ok_and(|comm| comm != "sleep") && Instant::now() < until {
            let ended = self.children.get_mut(number).is_some_and(|child| !matches!(child.try_wait(), Ok(None)));
            if ended {
                let child = self.children.swap_remove(number);
                let complaint = String::from_utf8_lossy(&child.wait_with_output()?.stderr).trim().replace('\n', ", ");
                bail!(ToolProblem::NoNamespaces { complaint });
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(Holder { pid })
    }

    /// What "run -d" left running, in the demo's own containers.
    fn pids(&self) -> Vec<Pid> {
        let containers = self.connect().and_then(|mut client| show::containers(&mut client)).unwrap_or_default();
        let pid = |container: &Container| match container.reach {
            Reach::Process { pid, .. } => Some(Pid::from_raw(pid)),
            Reach::Name(_) | Reach::Path(_) | Reach::Host => None,
        };
        containers.iter().filter_map(pid).collect()
    }

    /// Ends all there is, and checks it.
    pub fn clear(&mut self) -> Result<()> {
        for pid in self.pids() {
            let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
        }
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.children.clear();
        if self.run_dir.path().exists() {
            self.run_quietly(&["vswitch", "down"]).with_context(|| ToolProblem::NotCleaned { dir: self.run_dir.path().into() })?;
        }
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.clear();
    }
}
