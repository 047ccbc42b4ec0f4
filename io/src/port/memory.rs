//! A port without a kernel: a queue in, a queue out. The datapath is the same; tests and benches look at the octets.
use std::collections::VecDeque;
use vswitch_switch::{FrameBuf, Tag};

/// Frames in the in-queue at the most.
pub const QUEUE_FRAMES: usize = 4_096;

/// See the module. Frames are virtio_net_hdr and octets, as on a TAP.
#[derive(Debug)]
pub struct MemoryPort {
    mask: u32,
    input: VecDeque<(Vec<u8>, Option<Tag>)>,
    /// Emptied, for [`MemoryPort::feed_copy`]: a bench that feeds copies allocates nothing once it runs.
    spare: Vec<Vec<u8>>,
    output: Vec<Vec<u8>>,
    /// Whether what is sent is kept, or only counted.
    keep: bool,
}

impl MemoryPort {
    /// A port that takes what `mask` (TUN_F_*) says; with `keep`, [`MemoryPort::take_output`] has what was sent.
    #[must_use]
    pub const fn new(mask: u32, keep: bool) -> Self {
        Self { mask, input: VecDeque::new(), spare: Vec::new(), output: Vec::new(), keep }
    }

    /// What it takes.
    #[must_use]
    pub const fn mask(&self) -> u32 {
        self.mask
    }

    /// Queues a frame to be received; `false` when the queue is full.
    #[must_use]
    pub fn feed(&mut self, frame: Vec<u8>) -> bool {
        self.feed_beside(frame, None)
    }

    /// The same with a tag out of band, as a packet socket has it.
    #[must_use]
    pub fn feed_beside(&mut self, frame: Vec<u8>, tag: Option<Tag>) -> bool {
        let room = self.input.len() < QUEUE_FRAMES;
        if room {
            self.input.push_back((frame, tag));
        }
        room
    }

    /// The same for a copy of `frame`, in a buffer that was received from before.
    #[must_use]
    pub fn feed_copy(&mut self, frame: &[u8]) -> bool {
        let mut copy = self.spare.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(frame);
        self.feed(copy)
    }

    /// Puts the next frame into `frame`'s space; says how many octets it had (more than the space when cut), and the tag beside it.
    pub fn receive(&mut self, frame: &mut FrameBuf) -> Option<(usize, Option<Tag>)> {
        let (octets, tag) = self.input.pop_front()?;
        let space = frame.space();
        let fits = octets.len().min(space.len());
        if let (Some(place), Some(octets)) = (space.get_mut(..fits), octets.get(..fits)) {
            place.copy_from_slice(octets);
        }
        let length = octets.len();
        // As many as can be fed at once; the queue's own space is no more than that.
        if self.spare.len() < QUEUE_FRAMES {
            self.spare.push(octets);
        }
        Some((length, tag))
    }

    pub(crate) fn push(&mut self, parts: &[&[u8]]) {
        if self.keep {
            self.output.push(parts.concat());
        }
    }

    /// What was sent since the last call.
    pub fn take_output(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.output)
    }
}
