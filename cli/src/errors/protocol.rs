//! What the daemon answers to who may not connect, or sends what it does not take.
use crate::api::server::{CONNECTIONS, PATIENCE};
use crate::api::types::{REQUEST_BYTES, REQUEST_FDS, VERSION};
use std::io;
use thiserror::Error;

const AS_WE_DO: &str = "send one JSON object in a line, as the vswitch command does";

#[derive(Debug, Error)]
pub enum ProtocolProblem {
    // Who connects.
    #[error("this vswitch belongs to uid {owner}: start yours with \"vswitch up\"")]
    OfOther { owner: u32 },
    #[error("cannot tell who you are ({error}): connect through the unix socket")]
    Nobody { error: io::Error },
    #[error("{CONNECTIONS} connections are open: end some")]
    Connections,
    #[error("cannot wait for this connection ({error}): try again")]
    NoWait { error: io::Error },
    #[error(
        "you are in a user namespace below the switch's, which may only attach, or /proc hides which: \
         run it outside, as the user who started the switch"
    )]
    AttachOnly,

    // What is sent.
    #[error("no request within {} s: send one JSON object and a newline", PATIENCE.as_secs())]
    Late,
    #[error("more than {REQUEST_FDS} file descriptors with a request: send a port's and a watch's")]
    Fds,
    #[error("{error}: send at most {REQUEST_FDS}, and see that \"ulimit -n\" is high enough")]
    LostFds { error: io::Error },
    #[error("a request has at most {REQUEST_BYTES} octets: send less")]
    TooLong,
    #[error("the request is not complete: end it with a newline")]
    NotComplete,
    #[error("the request is no JSON ({error}): {AS_WE_DO}")]
    NoJson { error: serde_json::Error },
    #[error("the request has no version: {AS_WE_DO}")]
    NoVersion,
    #[error(
        "the daemon is {ours} and speaks protocol {VERSION}, not {version}: \"vswitch down\", then start it again with this version"
    )]
    OtherVersion { ours: &'static str, version: u64 },
    #[error("the request is not understood ({error}): {AS_WE_DO}")]
    NotUnderstood { error: serde_json::Error },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eof() -> serde_json::Error {
        serde_json::from_str::<u8>("").unwrap_err()
    }

    table! { ProtocolProblem:
        OfOther { owner: 1_000 } => "this vswitch belongs to uid 1000: start yours with \"vswitch up\"",
        Nobody { error: io::Error::other("odd") } => "cannot tell who you are (odd): connect through the unix socket",
        Connections {} => "64 connections are open: end some",
        NoWait { error: io::Error::other("odd") } => "cannot wait for this connection (odd): try again",
        AttachOnly {} => "you are in a user namespace below the switch's, which may only attach, or /proc hides which: \
                          run it outside, as the user who started the switch",
        Late {} => "no request within 5 s: send one JSON object and a newline",
        Fds {} => "more than 250 file descriptors with a request: send a port's and a watch's",
        LostFds { error: io::Error::other("odd") } => "odd: send at most 250, and see that \"ulimit -n\" is high enough",
        TooLong {} => "a request has at most 65536 octets: send less",
        NotComplete {} => "the request is not complete: end it with a newline",
        NoJson { error: eof() } => "the request is no JSON (EOF while parsing a value at line 1 column 0): \
                                    send one JSON object in a line, as the vswitch command does",
        NoVersion {} => "the request has no version: send one JSON object in a line, as the vswitch command does",
        OtherVersion { ours: "0.1.0", version: 9 } => "the daemon is 0.1.0 and speaks protocol 3, not 9: \
                                        \"vswitch down\", then start it again with this version",
        NotUnderstood { error: eof() } => "the request is not understood (EOF while parsing a value at line 1 column 0): \
                                           send one JSON object in a line, as the vswitch command does",
    }
}
