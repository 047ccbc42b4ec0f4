//! What [`FrameBuf::receive`] admits of a virtio_net_hdr, on literal frames.
#![allow(missing_docs, clippy::unwrap_used)]
use vswitch_switch::{DropReason, FramePool, Tpid};

/// IPv4 TCP with the checksum complete, as GRO hands a forwarded flow: type TCPv4, segments of 8, 16 octets of payload.
fn complete_gso(version_ihl: u8) -> Vec<u8> {
    let mut vnet = [0u8; 10];
    vnet[1] = 1;
    vnet[4..6].copy_from_slice(&8u16.to_ne_bytes());
    let addresses = [0x02, 0x58, 10, 88, 0, 3, 0x02, 0x58, 10, 88, 0, 2];
    // Data offset 5 at octet 12, wherever TCP is taken to begin: all octets of the headers but the first say so.
    [&vnet[..], &addresses, &[8, 0, version_ihl], &[0x50; 39], &[7; 16]].concat()
}

fn judge(octets: &[u8]) -> Result<u16, DropReason> {
    let mut frame = FramePool::new(1).take().unwrap();
    frame.space()[..octets.len()].copy_from_slice(octets);
    frame.receive(octets.len(), None, Tpid::Dot1q).map(|()| frame.meta.gso.unwrap().headers)
}

#[test]
fn a_gso_frame_with_an_ip_header_below_20_octets_is_bad_offload() {
    assert_eq!(judge(&complete_gso(0x45)), Ok(14 + 20 + 20));
    assert_eq!(judge(&complete_gso(0x46)), Ok(14 + 24 + 20));
    for version_ihl in 0x40..0x45 {
        assert_eq!(judge(&complete_gso(version_ihl)), Err(DropReason::BadOffload), "{version_ihl:#x}");
    }
}
