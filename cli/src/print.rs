//! Output: aligned tables for people, JSON for programs.
use anyhow::Result;
use serde::Serialize;
use std::io::{ErrorKind, Write};

/// Prints rows below `heads`, columns aligned: to the right those whose head begins with '>'.
pub fn table<const N: usize>(heads: [&str; N], rows: &[[String; N]]) -> Result<()> {
    let right = heads.map(|head| head.starts_with('>'));
    let heads = heads.map(|head| head.trim_start_matches('>').to_owned());
    let width =
        |column: usize| rows.iter().chain([&heads]).filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..N).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in [&heads].into_iter().chain(rows) {
        let mut line = String::new();
        for ((cell, width), right) in row.iter().zip(&widths).zip(right) {
            if !line.is_empty() {
                line.push_str("  ");
            }
            line += &if right { format!("{cell:>width$}") } else { format!("{cell:<width$}") };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    out(&text)
}

/// What there is, in one line.
pub fn list(things: &[impl ToString]) -> String {
    things.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Prints a value as JSON.
pub fn json(value: &impl Serialize) -> Result<()> {
    out(&(serde_json::to_string_pretty(value)? + "\n"))
}

/// Prints text.
pub fn out(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// Prints a line on standard error; nobody may be there to read it.
pub fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Whether an error only says that nobody reads our output.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}
