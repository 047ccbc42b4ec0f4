//! Mirrors: copies of a port's frames, written as a pcap file by a thread of their own.
//!
//! The worker offers a copy to a bounded channel and never waits: what does not fit is counted as lost (L20). Checksums that the
//! kernel left to us are finished first, so that a capture does not look broken; a GSO frame is written as the one
//! frame that it is here. Format: pcap 2.4, nanoseconds, LINKTYPE_ETHERNET.
use crossbeam_channel::{Sender, TrySendError, bounded};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};
use vswitch_switch::{Csum, FrameBuf, Tag};

/// Frames between the worker and the file.
const CHANNEL_FRAMES: usize = 1_024;
/// Longest frame that a reader must expect, octets.
const SNAPLEN: u32 = 262_144;
const MAGIC_NANOSECONDS: u32 = 0xa1b2_3c4d;
const LINKTYPE_ETHERNET: u32 = 1;

/// What a mirror did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Captured {
    /// Frames written.
    pub written: u64,
    /// Frames that did not fit, for the file took them too slowly.
    pub lost: u64,
    /// The errno of the write that ended it.
    pub error: Option<i32>,
}

/// A running mirror of one port.
#[derive(Debug)]
pub struct Capture {
    frames: Sender<Vec<u8>>,
    lost: Arc<AtomicU64>,
}

impl Capture {
    /// Starts the thread that writes to `file` until the mirror is dropped or a write fails, and then calls `ended`.
    ///
    /// # Errors
    /// No thread.
    pub fn start(file: OwnedFd, ended: impl FnOnce(Captured) + Send + 'static) -> io::Result<Self> {
        let lost = Arc::new(AtomicU64::new(0));
        let lost_too = Arc::clone(&lost);
        let (frames, incoming) = bounded::<Vec<u8>>(CHANNEL_FRAMES);
        thread::Builder::new().name("capture".into()).spawn(move || {
            let mut out = BufWriter::new(File::from(file));
            let mut header = Vec::with_capacity(24);
            for word in [MAGIC_NANOSECONDS, 2 | 4 << 16, 0, 0, SNAPLEN, LINKTYPE_ETHERNET] {
                header.extend_from_slice(&word.to_ne_bytes());
            }
            let mut result = out.write_all(&header).and_then(|()| out.flush());
            let mut written = 0;
            while let (Ok(()), Ok(frame)) = (&result, incoming.recv()) {
                result = record(&mut out, &frame).and_then(|()| if incoming.is_empty() { out.flush() } else { Ok(()) });
                written += u64::from(result.is_ok());
            }
            let error = result.err().map(|error| error.raw_os_error().unwrap_or(libc::EIO));
            ended(Captured { written, lost: lost_too.load(Ordering::Relaxed), error });
        })?;
        Ok(Self { frames, lost })
    }

    /// Offers a copy of `frame` as it is with `tag`.
    pub fn offer(&mut self, frame: &FrameBuf, tag: Option<Tag>) {
        let (addresses, rest) = frame.parts();
        let tag_octets = tag.map(Tag::to_bytes);
        let mut copy = [addresses, tag_octets.as_ref().map_or(&[][..], |octets| &octets[..]), rest].concat();
        if let Csum::Partial { start, offset } = frame.meta.csum {
            let shift = usize::from(tag.is_some()) * vswitch_switch::frame::TAG_LEN;
            vswitch_nat::checksum::finish(&mut copy, usize::from(start) + shift, usize::from(offset));
        }
        match self.frames.try_send(copy) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

fn record(out: &mut impl Write, frame: &[u8]) -> io::Result<()> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let length = u32::try_from(frame.len()).unwrap_or(SNAPLEN);
    for word in [since.as_secs() as u32, since.subsec_nanos(), length, length] {
        out.write_all(&word.to_ne_bytes())?;
    }
    out.write_all(frame)
}
