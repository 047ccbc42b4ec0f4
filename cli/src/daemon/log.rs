//! The daemon's log: a file of bounded size and one before it.
use crate::rundir::RunDir;
use anyhow::Result;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use vswitch_io::privilege::Identity;

/// Octets of a log file at the most.
const LOG_BYTES: u64 = 1 << 20;
/// News of the switch that are logged, a second.
const NEWS_PER_SECOND: u32 = 20;

struct LogFile {
    file: File,
    octets: u64,
    path: PathBuf,
    old: PathBuf,
}

impl Write for LogFile {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        if self.octets >= LOG_BYTES && std::fs::rename(&self.path, &self.old).is_ok() {
            self.file = File::options().create(true).append(true).open(&self.path)?;
            self.octets = 0;
        }
        let written = self.file.write(text)?;
        self.octets += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// From here on, what is traced goes to the run directory's log.
pub fn to_file(dir: &RunDir, service: Option<Identity>) -> Result<()> {
    let file = dir.open_log(service)?;
    let octets = file.metadata()?.len();
    let log = LogFile { file, octets, path: dir.log(), old: dir.old_log() };
    tracing_subscriber::fmt().with_target(false).with_ansi(false).with_writer(Mutex::new(log)).init();
    Ok(())
}

/// From here on, what is traced goes to standard error.
pub fn to_stderr() {
    tracing_subscriber::fmt().with_target(false).with_ansi(false).with_writer(io::stderr).init();
}

/// Lets so many lines a second through, for what the network decides the rate of.
pub struct Budget {
    since: Instant,
    lines: u32,
}

impl Budget {
    pub fn new() -> Self {
        Self { since: Instant::now(), lines: 0 }
    }

    pub fn admits(&mut self) -> bool {
        if self.since.elapsed() >= Duration::from_secs(1) {
            if let Some(left_out) = self.lines.checked_sub(NEWS_PER_SECOND).filter(|left_out| *left_out > 0) {
                tracing::warn!("{left_out} more news of the switch were left out");
            }
            *self = Self::new();
        }
        self.lines = self.lines.saturating_add(1);
        self.lines <= NEWS_PER_SECOND
    }
}
