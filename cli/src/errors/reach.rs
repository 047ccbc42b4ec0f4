//! What `--allow`, `--deny` and the setting `reach` take.
use thiserror::Error;
use vswitch_nat::slirp::reach::RULES;

#[derive(Debug, Error)]
pub enum ReachProblem {
    #[error("\"{entry}\" neither allows nor denies: write allow:RULE or deny:RULE")]
    NoVerb { entry: String },
    #[error(
        "\"{rule}\" is no rule: write an address or CIDR, CIDR:PORT or CIDR:PORT/PROTO ([CIDR]:PORT of IPv6), all, host-loopback or link-local"
    )]
    Net { rule: String },
    #[error("\"{rule}\" has no port: write 1 to 65535 behind the colon")]
    Port { rule: String },
    #[error("\"{rule}\" has no such protocol: write /tcp or /udp, or neither for both")]
    Protocol { rule: String },
    #[error("{word} is denied unless it is allowed: leave deny:{word} out")]
    DeniedAnyway { word: String },
    #[error("there are too many rules: write at most {RULES}, \"all\" counts as two")]
    Many,
}

#[cfg(test)]
mod tests {
    use super::*;

    table! { ReachProblem:
        NoVerb { entry: "10.0.0.0/8".into() } => "\"10.0.0.0/8\" neither allows nor denies: write allow:RULE or deny:RULE",
        Net { rule: "x".into() } => "\"x\" is no rule: write an address or CIDR, CIDR:PORT or CIDR:PORT/PROTO ([CIDR]:PORT of IPv6), all, \
                                     host-loopback or link-local",
        Port { rule: "10.0.0.1:0".into() } => "\"10.0.0.1:0\" has no port: write 1 to 65535 behind the colon",
        Protocol { rule: "10.0.0.1:1/x".into() } => "\"10.0.0.1:1/x\" has no such protocol: write /tcp or /udp, or neither for both",
        DeniedAnyway { word: "link-local".into() } => "link-local is denied unless it is allowed: leave deny:link-local out",
        Many {} => "there are too many rules: write at most 256, \"all\" counts as two",
    }
}
