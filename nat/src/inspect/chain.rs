//! What an IPv6 packet carries behind its extension headers (RFC 8200 4), as far as the guard must know.
//!
//! A first fragment has all headers (RFC 7112): where it has not, or where there are more than anybody needs, what follows is *hidden*, and
//! whoever hides it means to get past a guard (RFC 7113 2). Later fragments show nothing and are harmless without their first.

/// Extension headers at the most: those of RFC 8200 4.1, each once.
const HEADERS: usize = 8;

/// The upper layer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Upper {
    /// ICMPv6.
    Icmp {
        /// Its type.
        kind: u8,
        /// Octets from the packet's start to it.
        at: usize,
        /// There is a fragment header.
        in_fragments: bool,
    },
    /// UDP.
    Udp {
        /// Destination port.
        dst: u16,
    },
    /// It cannot be told.
    Hidden,
    /// Something else, or a later fragment.
    Other,
}

/// Walks to it; `packet` begins with a whole IPv6 header.
pub(super) fn upper(packet: &[u8]) -> Upper {
    let (mut next, mut at, mut in_fragments) = (packet.get(6).copied().unwrap_or(59), 40, false);
    for _ in 0..=HEADERS {
        let here = packet.get(at..).unwrap_or_default();
        match (next, here) {
            // Hop-by-hop options, routing, destination options, mobility, HIP, shim6: their length in 8 octets, the first not counted.
            (0 | 43 | 60 | 135 | 139 | 140, &[following, len, ..]) => (next, at) = (following, at + (usize::from(len) + 1) * 8),
            // RFC 4302 2.2: in 4 octets, two not counted.
            (51, &[following, len, ..]) => (next, at) = (following, at + (usize::from(len) + 2) * 4),
            (44, &[following, _, high, low, _, _, _, _, ..]) => {
                if u16::from_be_bytes([high, low]) >> 3 != 0 {
                    return Upper::Other;
                }
                (next, at, in_fragments) = (following, at + 8, true);
            }
            (58, &[kind, ..]) => return Upper::Icmp { kind, at, in_fragments },
            (17, &[_, _, c, d, ..]) => return Upper::Udp { dst: u16::from_be_bytes([c, d]) },
            (0 | 17 | 43 | 44 | 51 | 58 | 60 | 135 | 139 | 140, _) => return Upper::Hidden,
            (_, _) => return Upper::Other,
        }
    }
    Upper::Hidden
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn packet(next: u8, rest: &[u8]) -> Vec<u8> {
        let mut packet = [0; 40].to_vec();
        packet[6] = next;
        packet.extend_from_slice(rest);
        packet
    }

    #[test]
    fn rfc7113_headers_are_walked() {
        let icmp = |at, in_fragments| Upper::Icmp { kind: 134, at, in_fragments };
        assert_eq!(upper(&packet(58, &[134, 0])), icmp(40, false));
        assert_eq!(upper(&packet(0, &[58, 0, 0, 0, 0, 0, 0, 0, 134])), icmp(48, false));
        assert_eq!(
            upper(&packet(60, &[43, 0, 0, 0, 0, 0, 0, 0, 58, 1, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 134])),
            icmp(64, false)
        );
        assert_eq!(upper(&packet(51, &[58, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 134])), icmp(52, false));
        assert_eq!(upper(&packet(44, &[58, 0, 0, 1, 0, 0, 0, 9, 134])), icmp(48, true));
        assert_eq!(upper(&packet(44, &[58, 0, 0, 8, 0, 0, 0, 9, 134])), Upper::Other);
        assert_eq!(upper(&packet(17, &[0, 1, 2, 0x22])), Upper::Udp { dst: 546 });
        assert_eq!(upper(&packet(59, &[])), Upper::Other);
        assert_eq!(upper(&packet(50, &[])), Upper::Other);
        // RFC 7113 2: headers that do not end in the first fragment.
        for (next, rest) in
            [(58, &[][..]), (17, &[0, 1, 2]), (0, &[58]), (0, &[58, 1, 0, 0, 0, 0, 0, 0]), (44, &[58, 0, 0, 1]), (60, &[])]
        {
            assert_eq!(upper(&packet(next, rest)), Upper::Hidden, "{next} {rest:?}");
        }
        assert_eq!(upper(&packet(60, &[60, 0, 0, 0, 0, 0, 0, 0].repeat(20))), Upper::Hidden);
    }
}
