//! What `up` takes.
use crate::daemon::network6::Ipv6;
use crate::errors::NameProblem;
use crate::settings::{AGEING, TABLE_LIMIT, Unregistered, WORKERS};
use clap::Args as Group;
use std::net::Ipv4Addr;

#[derive(Group)]
pub struct Up {
    /// Stay in the foreground, log to standard error
    #[arg(long)]
    pub foreground: bool,
    /// The containers' network [default: a private /20 that no route of this host uses]
    #[arg(long, value_name = "A/LEN")]
    pub subnet: Option<String>,
    /// The gateway's address in it [default: the first]
    #[arg(long, value_name = "A")]
    pub gateway: Option<Ipv4Addr>,
    /// Seconds after which an address that is not seen is forgotten
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(AGEING), default_value = "300")]
    pub ageing: u64,
    /// Addresses known at the most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(TABLE_LIMIT), default_value = "65536")]
    pub fdb_limit: u32,
    /// Threads that read containers' interfaces: more than one only where cores have nothing else to do
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(WORKERS), default_value = "1")]
    pub workers: u8,
    /// Reserved group addresses 01-80-C2-00-00-0X to let through, by X in decimal, as 0,2,14 [default: none]
    #[arg(long, value_name = "LIST")]
    pub group_forward: Option<String>,
    /// Flood requests for addresses (ARP, ND) whose station is known, instead of answering them
    #[arg(long)]
    pub no_suppress: bool,
    /// What becomes of frames to a multicast group that nobody is known to listen to
    #[arg(long, value_name = "WHAT", value_enum, default_value_t)]
    pub unregistered: Unregistered,
    /// No IPv6 for containers: no addresses, no router, no answers
    #[arg(long)]
    pub no_ipv6: bool,
    /// An IPv6 prefix that is routed to this machine [default: a unique local one of its own]
    #[arg(long, value_name = "PREFIX/64", conflicts_with = "no_ipv6")]
    pub prefix6: Option<String>,
    /// In a session of its own, log to the run directory (set by "up" without --foreground)
    #[arg(long, hide = true, requires = "foreground")]
    pub detached: bool,
    /// Take over from the daemon at the other end of standard input (set by "restart")
    #[arg(long, hide = true, requires = "detached")]
    pub take_over: bool,
}

impl Up {
    /// The network's IPv6.
    pub fn ipv6(&self) -> Result<Ipv6, NameProblem> {
        match &self.prefix6 {
            _ if self.no_ipv6 => Ok(Ipv6::Off),
            Some(prefix) => Ipv6::routed(prefix),
            None => Ok(Ipv6::Local),
        }
    }
}

impl Default for Up {
    /// What "vswitch up" without a flag does.
    fn default() -> Self {
        let ageing = vswitch_switch::fdb::DEFAULT_AGEING.as_secs();
        let fdb_limit = vswitch_switch::fdb::DEFAULT_FDB_LIMIT;
        Self {
            foreground: false,
            subnet: None,
            gateway: None,
            ageing,
            fdb_limit,
            workers: 1,
            group_forward: None,
            no_suppress: false,
            unregistered: Unregistered::default(),
            no_ipv6: false,
            prefix6: None,
            detached: false,
            take_over: false,
        }
    }
}
