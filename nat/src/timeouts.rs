//! How long a session lives after its last packet. Every value is a constant with its requirement; all can be set.
use core::time::Duration;

/// RFC 5382 REQ-5 (N27): partially open, at least 4 minutes. RFC 7857 2.1 lets this one be set apart from the closing one.
pub const TCP_OPENING: Duration = Duration::from_secs(240);
/// RFC 5382 REQ-5 (N26): established, at least 2 hours 4 minutes.
pub const TCP_ESTABLISHED: Duration = Duration::from_secs(7_440);
/// RFC 5382 REQ-5 (N27): both sides have closed, at least 4 minutes.
pub const TCP_CLOSING: Duration = Duration::from_secs(240);
/// RFC 7857 2.2 (N36): after a RST, 4 minutes.
pub const TCP_RESET: Duration = Duration::from_secs(240);
/// RFC 4787 REQ-5c (N07): 5 minutes recommended, at least 2.
pub const UDP: Duration = Duration::from_secs(300);
/// RFC 4787 REQ-5a (N08): to a well-known port with an answer at once: domain (53).
pub const UDP_SHORT: Duration = Duration::from_secs(30);
/// RFC 5508 REQ-2 (N40): at least 60 seconds.
pub const ICMP: Duration = Duration::from_secs(60);
/// Any other protocol: no document says; Linux takes 600 s.
pub const OTHER: Duration = Duration::from_secs(600);
/// RFC 6888 REQ-8 (N59): an external port is not given to another host for 2 minutes after its last session.
pub const PORT_HOLD: Duration = Duration::from_secs(120);
/// RFC 4787 REQ-14 speaks of no value; 2 s are the minimum of RFC 6146 3.4 (FRAGMENT_MIN), and enough between fragments.
pub const FRAGMENT: Duration = Duration::from_secs(2);

/// The destination ports of [`UDP_SHORT`] (RFC 4787 REQ-5a: only within 0 to 1023).
pub const SHORT_PORTS: &[u16] = &[53];

/// The values in force.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// See [`TCP_OPENING`].
    pub tcp_opening: Duration,
    /// See [`TCP_ESTABLISHED`].
    pub tcp_established: Duration,
    /// See [`TCP_CLOSING`].
    pub tcp_closing: Duration,
    /// See [`TCP_RESET`].
    pub tcp_reset: Duration,
    /// See [`UDP`].
    pub udp: Duration,
    /// See [`UDP_SHORT`].
    pub udp_short: Duration,
    /// See [`ICMP`].
    pub icmp: Duration,
    /// See [`OTHER`].
    pub other: Duration,
    /// See [`PORT_HOLD`].
    pub port_hold: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp_opening: TCP_OPENING,
            tcp_established: TCP_ESTABLISHED,
            tcp_closing: TCP_CLOSING,
            tcp_reset: TCP_RESET,
            udp: UDP,
            udp_short: UDP_SHORT,
            icmp: ICMP,
            other: OTHER,
            port_hold: PORT_HOLD,
        }
    }
}
