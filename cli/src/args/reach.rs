//! `--allow`, `--deny`, `--max-flows`. The first are two flags whose common order counts, which clap's derive does not keep.
use crate::errors::ReachProblem;
use crate::reach;
use crate::settings::MAX_FLOWS;
use clap::{Arg, ArgAction, ArgMatches, Args as Group, Command, Error, FromArgMatches};
use std::ops::RangeInclusive;

/// Where a container may go through the uplink, and how much of it it may have.
#[derive(Group, Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    #[command(flatten)]
    pub rules: ReachRules,
    /// Sessions that it may have at once through the uplink [default: 65536]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(FLOWS))]
    pub max_flows: Option<u32>,
}

/// As clap counts.
const FLOWS: RangeInclusive<i64> = *MAX_FLOWS.start() as i64..=*MAX_FLOWS.end() as i64;

/// The rules in the order in which they were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReachRules {
    /// Whether it allows, and the rule as it was written.
    rules: Vec<(bool, String)>,
}

const FLAGS: [(&str, bool, &str); 2] = [
    (
        "allow",
        true,
        "Where it may go through the uplink: CIDR, CIDR:PORT, CIDR:PORT/PROTO, [IPv6]:PORT, all; host-loopback, link-local. The first rule decides",
    ),
    ("deny", false, "Where it may not go: as --allow, but for host-loopback and link-local, which are denied unless allowed"),
];

impl ReachRules {
    /// As the setting `reach` has it.
    pub fn list(&self) -> String {
        let entries: Vec<String> =
            self.rules.iter().map(|(allow, rule)| format!("{}:{rule}", if *allow { "allow" } else { "deny" })).collect();
        entries.join(",")
    }

    fn of(matches: &ArgMatches) -> Self {
        let mut rules = Vec::new();
        for (flag, allow, _) in FLAGS {
            let texts = matches.get_many::<String>(flag).into_iter().flatten();
            rules.extend(matches.indices_of(flag).into_iter().flatten().zip(texts).map(|(at, text)| (at, allow, text.clone())));
        }
        rules.sort_by_key(|(at, ..)| *at);
        Self { rules: rules.into_iter().map(|(_, allow, text)| (allow, text)).collect() }
    }
}

/// A rule that can be one, as it was written.
fn checked(allow: bool, rule: &str) -> Result<String, ReachProblem> {
    reach::add(&mut vswitch_nat::slirp::reach::Reach::default(), allow, rule)?;
    Ok(rule.into())
}

impl Group for ReachRules {
    fn augment_args(command: Command) -> Command {
        FLAGS.into_iter().fold(command, |command, (flag, allow, help)| {
            let parser = move |rule: &str| checked(allow, rule);
            command.arg(Arg::new(flag).long(flag).value_name("RULE").action(ArgAction::Append).value_parser(parser).help(help))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ReachRules {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        Ok(Self::of(matches))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::of(matches);
        Ok(())
    }
}
