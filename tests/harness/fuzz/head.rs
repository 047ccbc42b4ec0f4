//! What a port reads, judged: one octet says how (which TPID, a tag out of band or not), two are that tag, the rest is a
//! virtio_net_hdr and a frame. Whatever is admitted must agree with its octets and must be admitted again, to the same
//! metadata, when it comes back as it was sent.
use vswitch_switch::{Csum, FrameBuf, FramePool, Head, Tag, TagOp, Tpid};

/// Octets of a virtio_net_hdr.
const VNET: usize = 10;

fn sent(frame: &FrameBuf, tag: TagOp) -> Vec<u8> {
    let header = frame.meta.to_vnet(tag);
    let (addresses, rest) = frame.parts();
    match tag {
        TagOp::Untagged => [&header, addresses, rest].concat(),
        TagOp::Tagged(tag) => [&header, addresses, &tag.to_bytes(), rest].concat(),
    }
}

fn receive(frame: &mut FrameBuf, octets: &[u8], beside: Option<Tag>, tpid: Tpid) -> bool {
    frame.space()[..octets.len()].copy_from_slice(octets);
    frame.receive(octets.len(), beside, tpid).is_ok()
}

fn check(frame: &FrameBuf) {
    if let Csum::Partial { start, offset } = frame.meta.csum {
        assert!(start >= 14 && usize::from(start) + usize::from(offset) + 2 <= frame.len());
    }
    if let Some(gso) = frame.meta.gso {
        // Where layer 4 begins, the sender of a partial checksum said; else an IP header lies before it.
        assert!(frame.meta.csum != Csum::Complete || gso.l4 >= 14 + 20);
        assert!(gso.l4 >= 14 && gso.headers >= gso.l4 + 8 && usize::from(gso.headers) <= frame.len());
    }
    assert!(frame.mtu_len() + 14 <= frame.len());
}

/// One input, see the module.
///
/// # Panics
/// A property does not hold.
pub fn run(data: &[u8]) {
    let &[how, t0, t1, ref octets @ ..] = data else { return };
    let tpid = if how & 1 == 0 { Tpid::Dot1q } else { Tpid::Dot1ad };
    let beside = (how & 2 != 0)
        .then_some(Tag { tpid: if how & 4 == 0 { Tpid::Dot1q } else { Tpid::Dot1ad }, tci: u16::from_be_bytes([t0, t1]) });
    let mut pool = FramePool::new(2);
    let (Some(mut frame), Some(mut again)) = (pool.take(), pool.take()) else { unreachable!("two buffers, none out") };
    if octets.len() > frame.space().len() || !receive(&mut frame, octets, beside, tpid) {
        return;
    }
    check(&frame);
    if let Ok(head) = Head::parse(frame.bytes(), frame.meta.tag) {
        assert_eq!(head.dst.0[..], frame.bytes()[..6]);
        assert!(!head.src.mac().is_group());
    }
    let tag = frame.meta.tag.map_or(TagOp::Untagged, TagOp::Tagged);
    let wire = sent(&frame, tag);
    if beside.is_none() {
        assert_eq!(wire[VNET..], octets[VNET..], "lifting and inserting keep the octets");
    }
    // Untagged by hand or out of band, it must not be lifted by chance: only with its tag it comes back as it was. The longest
    // frame may not fit with it any more.
    if (beside.is_none() || frame.meta.tag.is_some()) && wire.len() <= again.space().len() {
        assert!(receive(&mut again, &wire, None, tpid), "what we send, we admit");
        assert_eq!((again.meta, again.bytes()), (frame.meta, frame.bytes()));
    }
}
