//! `logs`: the daemon's log, the one before it included; also of a daemon that has ended. The files are read here, not asked for.
use crate::api::client::Client;
use crate::errors::ToolProblem;
use crate::print;
use crate::rundir::RunDir;
use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Octets of one file that are read at the most: a log is below 1 MiB and a line.
const READ_OCTETS: u64 = 4 << 20;
/// Milliseconds between two looks for more.
const LOOK: u8 = 200;

pub fn run(follow: bool, lines: Option<usize>) -> Result<()> {
    let dir = RunDir::of_user();
    let journal = Client::connect().and_then(|mut client| super::show::info(&mut client)).map(|info| info.journal);
    if let Ok(Some(command)) = journal {
        // Without a file of its own there is nothing else to show.
        return print::out(&format!("the daemon logs to the journal: {command}{}\n", if follow { " -f" } else { "" }));
    }
    let mut tail = Tail::default();
    let before = read(&dir.old_log())?;
    let now = tail.more(&dir.log())?;
    if before.is_none() && now.is_empty() && !follow && !dir.log().exists() {
        bail!(ToolProblem::NoLog { dir: dir.path().into() });
    }
    print::out(last(&(before.unwrap_or_default() + &now), lines))?;
    let stdout = std::io::stdout();
    if !follow {
        return Ok(());
    }
    loop {
        // Errors of a pipe come unasked: its reader is gone.
        if poll(&mut [PollFd::new(stdout.as_fd(), PollFlags::empty())], PollTimeout::from(LOOK)) == Ok(1) {
            return Ok(());
        }
        print::out(&tail.more(&dir.log())?)?;
    }
}

fn read(path: &Path) -> Result<Option<String>> {
    let Some(file) = open(path)? else { return Ok(None) };
    let mut octets = Vec::new();
    file.take(READ_OCTETS).read_to_end(&mut octets).context(ToolProblem::LogNotRead)?;
    Ok(Some(String::from_utf8_lossy(&octets).into_owned()))
}

fn open(path: &Path) -> Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| ToolProblem::LogDenied { log: path.into() }),
    }
}

/// The last lines of a text.
fn last(text: &str, lines: Option<usize>) -> &str {
    let Some(lines) = lines else { return text };
    let mut ends = text.trim_end_matches('\n').rmatch_indices('\n').map(|(at, _)| at + 1);
    let from = match lines.checked_sub(1) {
        None => text.len(),
        Some(before) => ends.nth(before).unwrap_or(0),
    };
    text.get(from..).unwrap_or_default()
}

/// A file that grows, and that another one may take the place of.
#[derive(Default)]
struct Tail(Option<File>);

impl Tail {
    /// What was written since the last look.
    fn more(&mut self, path: &Path) -> Result<String> {
        let mut octets = Vec::new();
        self.rest(&mut octets)?;
        let held = self.0.as_ref().and_then(|file| file.metadata().ok()).map(|meta| (meta.dev(), meta.ino()));
        let there = std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
        if there.is_some() && there != held {
            // What it was given between the two looks.
            self.rest(&mut octets)?;
            self.0 = open(path)?;
            self.rest(&mut octets)?;
        }
        Ok(String::from_utf8_lossy(&octets).into_owned())
    }

    fn rest(&mut self, into: &mut Vec<u8>) -> Result<()> {
        if let Some(file) = &mut self.0 {
            file.take(READ_OCTETS).read_to_end(into).context(ToolProblem::LogNotRead)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_last_lines() {
        let text = "a\nb\nc\n";
        for (lines, rest) in [(None, text), (Some(0), ""), (Some(1), "c\n"), (Some(2), "b\nc\n"), (Some(3), text), (Some(9), text)]
        {
            assert_eq!(last(text, lines), rest, "{lines:?}");
        }
        assert_eq!(last("a\nb", Some(1)), "b");
        assert_eq!(last("", Some(2)), "");
    }

    #[test]
    fn a_file_is_followed_beyond_its_replacement() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (dir.path().join("log"), dir.path().join("log.old"));
        let mut tail = Tail::default();
        assert_eq!(tail.more(&path).unwrap(), "", "not there yet");
        let mut file = File::create(&path).unwrap();
        file.write_all(b"one\n").unwrap();
        assert_eq!(tail.more(&path).unwrap(), "one\n");
        assert_eq!(tail.more(&path).unwrap(), "");
        file.write_all(b"two\n").unwrap();
        std::fs::rename(&path, &old).unwrap();
        assert_eq!(tail.more(&path).unwrap(), "two\n", "renamed, nothing new yet");
        file.write_all(b"three\n").unwrap();
        File::create(&path).unwrap().write_all(b"four\n").unwrap();
        assert_eq!(tail.more(&path).unwrap(), "three\nfour\n");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(tail.more(&path).unwrap(), "");
    }
}
