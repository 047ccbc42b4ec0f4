//! The Internet checksum (RFC 1071), its pseudo-headers and its update by increments (RFC 1624).
//!
//! Theory. The checksum is a ones' complement sum of 16-bit words, and three properties of that sum carry this module. It
//! does not depend on the order of octets within a word (RFC 1071 2.B), so we add in the machine's order and swap once. It is
//! associative, so eight octets are taken at a time and folded at the end (2.C). It has an inverse, so a change of one field
//! changes the checksum without a look at the rest (RFC 1624 equation 3).
//!
//! A *sum* here is folded and not complemented, in host order; a *checksum* is its complement, as the header field holds it.
//! Sums of parts may be added when every part but the last has an even number of octets.
//!
//! The module keeps nothing and rejects nothing; a range outside the frame is reported, not panicked upon.

/// Octets from the start of a UDP header to its checksum: the one protocol in which a checksum of zero means "none" (RFC 768).
pub const UDP_CHECKSUM: usize = 6;

/// Octets from the start of a TCP header to its checksum.
pub const TCP_CHECKSUM: usize = 16;

/// The sum over `octets`; an odd last octet counts as if a zero followed (RFC 1071 section 1).
#[must_use]
pub fn sum(octets: &[u8]) -> u16 {
    let (words, rest) = octets.as_chunks::<8>();
    let mut tail = [0; 8];
    for (to, from) in tail.iter_mut().zip(rest) {
        *to = *from;
    }
    // Two halves of 32 bits a word: 2^31 words (16 GiB) fit before the accumulator could overflow.
    let halves = |word: [u8; 8]| {
        let word = u64::from_ne_bytes(word);
        (word & 0xffff_ffff) + (word >> 32)
    };
    let mut total = halves(tail);
    for &word in words {
        total += halves(word);
    }
    let total = (total & 0xffff_ffff) + (total >> 32);
    let total = (total & 0xffff) + ((total >> 16) & 0xffff) + (total >> 32);
    let total = (total & 0xffff) + (total >> 16);
    let total = (total & 0xffff) + (total >> 16);
    // Below 2^16 after the folds above, and in the machine's order of octets.
    u16::from_be(total as u16)
}

/// Adds the carries of a few sums added up in 32 bits.
#[must_use]
pub const fn fold(total: u32) -> u16 {
    let total = (total & 0xffff) + (total >> 16);
    let total = (total & 0xffff) + (total >> 16);
    // Below 2^16 after two folds of 32 bits.
    total as u16
}

/// The ones' complement sum of two sums.
#[must_use]
pub const fn add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    // With a carry, the sum is at most 0xfffe.
    sum + carry as u16
}

/// The checksum of `octets`, whose own checksum field is zero.
#[must_use]
pub fn checksum(octets: &[u8]) -> u16 {
    !sum(octets)
}

/// Whether `octets`, checksum field included, sum up as RFC 1071 section 1 (3) demands.
#[must_use]
pub fn is_valid(octets: &[u8]) -> bool {
    sum(octets) == 0xffff
}

/// The sum of the IPv4 pseudo-header (RFC 793 3.1, RFC 768); `len` is octets of layer 4, header and payload.
#[must_use]
pub fn pseudo_v4(src: [u8; 4], dst: [u8; 4], protocol: u8, len: u16) -> u16 {
    fold(u32::from(sum(&src)) + u32::from(sum(&dst)) + u32::from(protocol) + u32::from(len))
}

/// The sum of the IPv6 pseudo-header (RFC 8200 8.1); `protocol` is the last next header, `len` octets of layer 4.
#[must_use]
pub fn pseudo_v6(src: [u8; 16], dst: [u8; 16], protocol: u8, len: u32) -> u16 {
    let [a, b, c, d] = len.to_be_bytes();
    let len = u32::from(u16::from_be_bytes([a, b])) + u32::from(u16::from_be_bytes([c, d]));
    fold(u32::from(sum(&src)) + u32::from(sum(&dst)) + u32::from(protocol) + len)
}

/// The checksum after a 16-bit word that it covers went from `old` to `new` (RFC 1624 equation 3).
///
/// Exact unless all octets covered are zero afterwards: then 0 comes out where 0xffff would be right, see [`non_zero`].
#[must_use]
pub const fn update_u16(checksum: u16, old: u16, new: u16) -> u16 {
    !add(add(!checksum, !old), new)
}

/// The checksum after two neighbouring words went from `old` to `new`, an IPv4 address say (RFC 1624 equation 3).
#[must_use]
pub const fn update_u32(checksum: u16, old: u32, new: u32) -> u16 {
    let checksum = update_u16(checksum, (old >> 16) as u16, (new >> 16) as u16);
    update_u16(checksum, old as u16, new as u16)
}

/// Completes a partial checksum: the sum over the octets from `start` on, which takes in the pseudo-header's sum that lies in
/// the field, goes complemented to `start + offset` (kernel `Documentation/networking/checksum-offloads.rst`). A UDP checksum
/// of zero becomes 0xffff (RFC 768).
///
/// `false`, and nothing changed, when the field is not within `frame`.
pub fn finish(frame: &mut [u8], start: usize, offset: usize) -> bool {
    let Some(covered) = frame.get_mut(start..) else {
        return false;
    };
    let checksum = checksum(covered);
    let checksum = if offset == UDP_CHECKSUM { non_zero(checksum) } else { checksum };
    let Some((_, field)) = covered.split_at_mut_checked(offset) else {
        return false;
    };
    let Some(field) = field.first_chunk_mut() else {
        return false;
    };
    *field = checksum.to_be_bytes();
    true
}

/// Zero as its ones' complement equal 0xffff. So a UDP checksum is sent, in which zero would mean "none" (RFC 768).
#[must_use]
pub const fn non_zero(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

#[cfg(test)]
mod tests;
