//! Every way in which a frame ends without being delivered. The law of accounting sums over these, so a frame that
//! is dropped is dropped for exactly one of them.

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $why:literal;)+) => {
        /// Why a frame was dropped. The name is stable: it is the key in `stats --json`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum DropReason { $($(#[doc = $doc])+ $variant,)+ }

        impl DropReason {
            /// All reasons, in the order of the enum.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The stable name, in kebab case.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// One line for people: what happened, and what to look at.
            #[must_use]
            pub const fn explain(self) -> &'static str {
                match self { $(Self::$variant => $why,)+ }
            }
        }
    };
}

drop_reasons! {
    /// Shorter than an Ethernet header (14 octets).
    Runt = "runt", "shorter than an Ethernet header (14 octets)";
    /// Longer than any buffer: 65,535 octets of payload and the header.
    Giant = "giant", "longer than 65,549 octets, more than a frame can carry";
    /// The virtio_net_hdr contradicts the frame (checksum or segmentation offsets outside it, unknown type).
    BadOffload = "bad-offload", "offload header contradicts the frame";
    /// L02: group or all-zero source address.
    SourceInvalid = "source-invalid", "source address is multicast or zero (802.1Q 8.8)";
    /// L01: destination 01-80-C2-00-00-0X.
    ReservedGroup = "reserved-group", "reserved group address 01-80-C2-00-00-0X, see: set switch group-forward=";
    /// L08: source is not the address assigned to the port, or is one bound to another port.
    Spoof = "spoof", "source address is not this container's, see: set NAME guard=off";
    /// L11: tag not admitted by the port.
    Vlan = "vlan", "VLAN not admitted on this port, see: set NAME vlan= or trunk=";
    /// L15: the port is blocked after one of our own frames came back through it.
    Loop = "loop", "loop: a frame of ours came back through this port, it is blocked for 30 s";
    /// L07: the source address moves between ports too often and is held where it is.
    Flap = "flap", "source address moves between ports too often, held where it is";
    /// L05: destination is on the ingress port and hairpin is off.
    Filtered = "filtered", "destination is on the port it came from, see: set NAME hairpin=on";
    /// L17: both ports are in the same split-horizon group.
    Isolated = "isolated", "both ports are isolated, see: set NAME isolated=off";
    /// L06: nobody else in the VLAN to flood to.
    NoEgress = "no-egress", "nobody to send it to: no other port in this VLAN takes it";
    /// L14: the port's storm budget is used up.
    Storm = "storm", "storm control: too many flooded copies a second, see: set NAME storm-broadcast=";
    /// L14: floods wait already, of this port or of all, as many as may.
    FloodBacklog = "flood-backlog", "too many floods wait already: more is flooded than can be copied";
    /// L13: longer than the egress port's MTU.
    Mtu = "mtu", "longer than the egress port's MTU (for GSO: headers + segment size)";
    /// The egress port went down or is not up yet (EIO, ENETDOWN).
    PortDown = "port-down", "egress interface is down inside its namespace";
    /// The egress port was removed while the frame waited.
    PortGone = "port-gone", "egress port was detached while the frame waited";
    /// The kernel did not take the frame (EAGAIN, ENOBUFS).
    EgressFull = "egress-full", "kernel's queue of the egress port is full";
    /// The kernel refused the frame (EINVAL, EMSGSIZE, ...).
    EgressRefused = "egress-refused", "kernel refused the frame on the egress port";
    /// The egress port cannot take this GSO type and it cannot be segmented in software.
    GsoUnsupported = "gso-unsupported", "GSO frame of a kind that the egress port cannot take";
    /// No free buffer.
    NoBuffer = "no-buffer", "no free frame buffer";
    /// Gateway: malformed ARP, IPv4 or ICMP.
    GatewayMalformed = "gateway-malformed", "malformed packet to the gateway";
    /// Gateway: an IP packet or layer 4 header that contradicts itself.
    PacketMalformed = "packet-malformed", "IP packet with a wrong checksum, length, offset or header";
    /// Gateway: a source route, or an IPv6 routing header with segments left.
    SourceRoute = "source-route", "packet chooses its own way (source route, routing header): not routed";
    /// Gateway: an address that no router forwards (RFC 1812 5.3.7).
    Martian = "martian", "source or destination that is never routed (loopback, link-local, multicast, reserved)";
    /// Gateway: a source address that is another container's or outside the network.
    SourceSpoof = "source-spoof", "source address is another container's, or not in the network";
    /// L09: an IPv4 or IPv6 source address that is another's, the gateway's, or not to be had.
    SourceTaken = "source-taken", "IP source address is another container's or the gateway's, see: set NAME ip-guard=off";
    /// L09: an IPv4 or IPv6 source address outside the network's subnets.
    SourceOutside = "source-outside", "IP source address is not in the network, see: set NAME ip-guard=off";
    /// L09: an ARP packet whose sender is not the frame's, or outside the network.
    ArpSpoof = "arp-spoof", "ARP names a hardware address or an IP address that is not the sender's, see: set NAME ip-guard=off";
    /// L09: a neighbour solicitation or advertisement that names what is not its sender's.
    NdSpoof = "nd-spoof", "neighbour discovery names an address that is not the sender's, see: set NAME ip-guard=off";
    /// L09: a router advertisement or redirect from a container (RFC 6105).
    RogueRa = "rogue-ra", "router advertisement or redirect from a container, see: set NAME ip-guard=off";
    /// L09: IPv6 headers that hide what follows (RFC 7113), or neighbour discovery in fragments (RFC 6980).
    NdHidden = "nd-hidden", "IPv6 headers that hide what follows them, or neighbour discovery in fragments (RFC 7113, 6980)";
    /// L09: to a DHCP client's port, from a container.
    RogueDhcp = "rogue-dhcp", "DHCP server's answer from a container, see: set NAME ip-guard=off";
    /// L09: ARP or neighbour discovery that claims another's address.
    DuplicateClaim = "duplicate-claim", "claims an IP address that another container or the gateway has";
    /// Gateway: no hop left (TTL, hop limit).
    HopLimit = "hop-limit", "no hop left: traceroute, or a loop";
    /// Gateway: too large for the way out, and not to be cut (DF, IPv6).
    TooBig = "too-big", "larger than the next link's MTU and not to be fragmented: its sender was told";
    /// NAT: nothing inside waits for it, and no port is published there.
    Unsolicited = "unsolicited", "from outside, neither a reply nor to a published port";
    /// NAT: from outside, to a published port, from a client that the rule does not admit.
    PublishFrom = "publish-from", "client is not in the published port's --from";
    /// NAT: the table of sessions is full of ones in use.
    NatFull = "nat-full", "table of sessions is full of established ones";
    /// NAT: the container has as many sessions or ports as it may.
    NatQuota = "nat-quota", "container has as many sessions or ports as one may have";
    /// NAT: no external port is free for it.
    NatPorts = "nat-ports", "no external port is free for this destination";
    /// NAT: no session, and nothing that could begin one.
    NatState = "nat-state", "belongs to no session and cannot begin one (RST, FIN, echo reply, error)";
    /// NAT: outside the TCP window, with strict checking.
    TcpWindow = "tcp-window", "TCP segment outside its window (strict checking is on)";
    /// Gateway: a fragment whose datagram is unknown, overlaps another or waits in vain.
    Fragment = "fragment", "fragment without its first, overlapping, or too many";
    /// Gateway: the next hop does not answer ARP or neighbour solicitation.
    NoNeighbour = "no-neighbour", "next hop does not answer ARP or neighbour solicitation";
    /// Gateway: no uplink address, or no route to it.
    NoRoute = "no-route", "no route there: the uplink has no gateway or no address of this family";
    /// Reach control: an address that containers may not reach through the host's sockets, or a rule of the container's.
    Reach = "reach", "destination that this container may not reach, see: attach --allow, --deny";
    /// The host's socket refused it: no route there, its firewall, or no more of something.
    SocketRefused = "socket-refused", "the host's socket refused it (no route, firewall, out of sockets)";
    /// DHCP: a message that came through a relay.
    DhcpRelayed = "dhcp-relayed", "DHCP through a relay: the server gives addresses of its own network only";
    /// Gateway: a container asks for router advertisements or DHCPv6 more often than it may.
    ServiceLimit = "service-limit", "container asks the gateway (router solicitation, DHCPv6) more often than it may";
    /// Gateway: something that it does not serve.
    GatewayUnserved = "gateway-unserved", "the gateway serves no such protocol or destination (no uplink)";
}

/// The number of reasons.
pub const DROP_REASONS: usize = DropReason::ALL.len();

/// A counter for each reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DropCounts([u64; DROP_REASONS]);

impl Default for DropCounts {
    fn default() -> Self {
        Self([0; DROP_REASONS])
    }
}

impl DropCounts {
    /// Counts one frame.
    pub fn count(&mut self, reason: DropReason) {
        self.add(reason, 1);
    }

    /// Counts `frames` frames.
    pub fn add(&mut self, reason: DropReason, frames: u64) {
        if let Some(counter) = self.0.get_mut(reason as usize) {
            *counter += frames;
        }
    }

    /// Adds all counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }

    /// The count for one reason.
    #[must_use]
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or(0)
    }

    /// The sum over all reasons.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Each reason with its count, zeros included.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.iter().copied().zip(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_counts_are_kept_apart() {
        let mut counts = DropCounts::default();
        for (position, &reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(reason as usize, position);
            assert_eq!(DropReason::ALL.iter().filter(|r| r.name() == reason.name()).count(), 1);
            counts.add(reason, position as u64);
        }
        assert_eq!(counts.get(DropReason::Runt), 0);
        assert_eq!(counts.total(), (0..DROP_REASONS as u64).sum::<u64>());
    }
}
