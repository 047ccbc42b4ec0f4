//! `doctor`: whether this machine lets vswitch do its work, and what to do where it does not.
//!
//! Facts are gathered first ([`facts`]; one needs a child process, [`probe`]); what they mean is decided after, by a pure function each
//! ([`checks`]). A problem keeps something from working, and the exit status is 1; a note is good to know.
mod checks;
mod facts;
pub mod probe;

use crate::errors::ToolProblem;
use crate::print;
use anyhow::{Result, bail};
use checks::State;

pub fn run(json: bool) -> Result<()> {
    let findings = checks::all(&facts::gather());
    if json {
        print::json(&findings)?;
    } else {
        let rows: Vec<_> =
            findings.iter().map(|finding| [finding.state.name().into(), finding.check.into(), finding.text()]).collect();
        print::table(["STATE", "CHECK", "FINDING"], &rows)?;
    }
    match findings.iter().filter(|finding| finding.state == State::Problem).count() {
        0 => Ok(()),
        1 => bail!(ToolProblem::Found),
        count => bail!(ToolProblem::FoundMore { count }),
    }
}
