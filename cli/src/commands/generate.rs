//! `generate`: man pages and completions, for packages.
use crate::args::{Args, Generate};
use crate::errors::ToolProblem;
use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::Shell;
use std::path::Path;

pub fn run(what: Generate) -> Result<()> {
    match what {
        Generate::Man { dir } => {
            let context = || ToolProblem::DirNotWritten { dir: dir.clone() };
            clap_mangen::generate_to(Args::command(), &dir).with_context(context)
        }
        Generate::Completions { dir } => {
            [Shell::Bash, Shell::Zsh, Shell::Fish].into_iter().try_for_each(|shell| completions(shell, &dir))
        }
    }
}

fn completions(shell: Shell, dir: &Path) -> Result<()> {
    let context = || ToolProblem::DirNotWritten { dir: dir.into() };
    clap_complete::generate_to(shell, &mut Args::command(), "vswitch", dir).map(drop).with_context(context)
}
