//! The Internet checksum: RFC 1071 sums, RFC 1624 updates, and the finishing of a partial one.

/// Sum of 16-bit big-endian words, an odd last octet padded with zero, carried into 64 bits.
#[must_use]
pub fn sum(octets: &[u8]) -> u64 {
    let mut words = octets.chunks_exact(4);
    let mut total: u64 = words.by_ref().map(|word| word.try_into().map_or(0, u32::from_be_bytes)).map(u64::from).sum();
    total += match *words.remainder() {
        [a] => u64::from(a) << 24,
        [a, b] => u64::from(u16::from_be_bytes([a, b])) << 16,
        [a, b, c] => u64::from(u32::from_be_bytes([a, b, c, 0])),
        _ => 0,
    };
    // 32-bit words summed: fold once, so that halves line up as 16-bit words.
    (total >> 32) + (total & 0xffff_ffff)
}

/// Folds a sum to 16 bits, not inverted.
#[must_use]
pub fn fold(mut sum: u64) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The checksum of octets: the complement of their folded sum.
#[must_use]
pub fn of(octets: &[u8]) -> u16 {
    !fold(sum(octets))
}

/// RFC 1624 equation 3: the checksum after a 16-bit field changed from `old` to `new`.
#[must_use]
pub fn update(checksum: u16, old: u16, new: u16) -> u16 {
    !fold(u64::from(!checksum) + u64::from(!old) + u64::from(new))
}

/// Finishes a partial checksum: sums `frame` from `start` on and stores the result at `start + offset`, where the pseudo-header's
/// sum lies. UDP (offset 6) has no checksum zero: it is sent as all ones (RFC 768). `false` when the field is outside.
pub fn finish(frame: &mut [u8], start: usize, offset: usize) -> bool {
    let Some(part) = frame.get_mut(start..) else { return false };
    let mut checksum = of(part);
    if checksum == 0 && offset == 6 {
        checksum = 0xffff;
    }
    match part.get_mut(offset..offset + 2) {
        Some(field) => {
            field.copy_from_slice(&checksum.to_be_bytes());
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// pnet is the independent oracle.
        #[test]
        fn agrees_with_pnet(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
            let padded: std::vec::Vec<u8> = octets.iter().copied().chain(core::iter::repeat_n(0, octets.len() % 2)).collect();
            prop_assert_eq!(of(&octets), pnet_packet::util::checksum(&padded, usize::MAX));
        }

        #[test]
        fn rfc1624_update_equals_a_new_sum(mut octets in proptest::collection::vec(any::<u8>(), 4..64), new in 1u16..) {
            octets.truncate(octets.len() & !1);
            octets[3] |= 1;
            let before = of(&octets);
            let old = u16::from_be_bytes([octets[0], octets[1]]);
            octets[..2].copy_from_slice(&new.to_be_bytes());
            prop_assert_eq!(update(before, old, new), of(&octets));
        }
    }
}
