//! The bare relay: the floor under any userspace switch.
//!
//! It copies frames between two file descriptors and decides nothing: one thread, one receive and one send a frame, no parsing, no
//! table, no accounting by frame. What vswitch loses against it on the same kind of ports is vswitch's own cost, which is why the
//! benchmarks (`benches/compare`) and `vswitch demo` run it beside the switch.
//!
//! Its structure is deliberately the plainest that works: poll both sides, then at most [`BURST_FRAMES`] frames from the one and
//! from the other, each written at once. A frame travels with its `virtio_net_hdr` as bytes, so both sides must use the same header
//! size (10 here) or none. A frame that the other side cannot take now is lost, as on a wire. On AF_PACKET the VLAN tag is out of
//! band and is not carried over: this is a yardstick, not a switch.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{read, write};

use crate::sys::set_nonblocking;

/// Frames taken from one side before the other has its turn.
pub const BURST_FRAMES: usize = 64;

/// Bytes of the one frame buffer: a 64 KiB GSO frame with its link and `virtio_net_hdr` headers. A TAP truncates silently what does
/// not fit, so this errs on the large side.
pub const FRAME_BYTES: usize = 70_000;

/// Relays frames between `a` and `b`, both ways, until `stop` becomes readable (or its other end is closed) or a side ends.
///
/// Both descriptors are made non-blocking: a TAP's fast write path depends on it too. They are closed on return.
///
/// # Errors
/// The first error of a read or a write but `EAGAIN`, `EINTR`, `ENOBUFS` and `EIO` (a TAP that is down), which cost at most a frame.
/// `Ok` after `stop`, and when a side is at its end of file, which only sockets and pipes have.
pub fn relay(a: OwnedFd, b: OwnedFd, stop: BorrowedFd<'_>) -> io::Result<()> {
    let sides = [a.as_fd(), b.as_fd()];
    for side in sides {
        set_nonblocking(side)?;
    }
    let [a, b] = sides;
    let mut frame = vec![0u8; FRAME_BYTES];
    let mut wait = [a, b, stop].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    loop {
        match poll(&mut wait, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [from_a, from_b, stopped] = [0, 1, 2].map(|i| wait[i].any().unwrap_or(true));
        if stopped {
            return Ok(());
        }
        for (ready, from, to) in [(from_a, a, b), (from_b, b, a)] {
            if ready && burst(from, to, &mut frame)? == Side::Ended {
                return Ok(());
            }
        }
    }
}

/// What a burst found on the side it read from.
#[derive(PartialEq, Eq)]
enum Side {
    Open,
    Ended,
}

/// Moves at most [`BURST_FRAMES`] frames from `from` to `to`.
fn burst(from: BorrowedFd<'_>, to: BorrowedFd<'_>, frame: &mut [u8]) -> io::Result<Side> {
    for _ in 0..BURST_FRAMES {
        let length = match read(from, frame) {
            Ok(0) => return Ok(Side::Ended),
            Ok(length) => length,
            Err(error) if passes(error) => return Ok(Side::Open),
            Err(error) => return Err(error.into()),
        };
        let Some(bytes) = frame.get(..length) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        match write(to, bytes) {
            Ok(_) => {}
            Err(error) if passes(error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Side::Open)
}

/// Errors that cost a frame, not the relay.
fn passes(error: Errno) -> bool {
    [Errno::EAGAIN, Errno::EINTR, Errno::ENOBUFS, Errno::EIO].contains(&error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;
    use std::time::Duration;

    /// A relay between two datagram pairs; returns the outer ends.
    fn running(test: impl FnOnce(&UnixDatagram, &UnixDatagram)) -> io::Result<()> {
        let (outer_a, a) = UnixDatagram::pair()?;
        let (outer_b, b) = UnixDatagram::pair()?;
        let (stopper, stop) = UnixDatagram::pair()?;
        for end in [&outer_a, &outer_b] {
            end.set_read_timeout(Some(Duration::from_secs(5)))?;
        }
        let worker = std::thread::spawn(move || relay(a.into(), b.into(), stop.as_fd()));
        test(&outer_a, &outer_b);
        stopper.send(b"stop")?;
        worker.join().expect("the relay does not panic")
    }

    #[test]
    fn frames_pass_both_ways_unchanged_and_in_order() {
        running(|a, b| {
            let mut got = [0u8; 2000];
            for n in 0..200u8 {
                let sent = vec![n; 14 + usize::from(n)];
                for (from, to) in [(a, b), (b, a)] {
                    from.send(&sent).unwrap();
                    let length = to.recv(&mut got).unwrap();
                    assert_eq!(got[..length], sent[..]);
                }
            }
        })
        .unwrap();
    }

    #[test]
    fn a_gso_frame_passes_whole() {
        running(|a, b| {
            let sent: Vec<u8> = (0..65_545u32).map(|i| i as u8).collect();
            a.send(&sent).unwrap();
            let mut got = vec![0u8; FRAME_BYTES];
            let length = b.recv(&mut got).unwrap();
            assert_eq!(got[..length], sent[..]);
        })
        .unwrap();
    }

    #[test]
    fn ends_when_a_side_is_gone() {
        let (outer_a, a) = UnixDatagram::pair().unwrap();
        let (outer_b, b) = UnixDatagram::pair().unwrap();
        let (_stopper, stop) = UnixDatagram::pair().unwrap();
        drop(outer_b);
        outer_a.send(b"a frame for nobody").unwrap();
        assert!(relay(a.into(), b.into(), stop.as_fd()).is_err());
    }

    #[test]
    fn ends_when_the_stopper_is_dropped() {
        let (_outer_a, a) = UnixDatagram::pair().unwrap();
        let (_outer_b, b) = UnixDatagram::pair().unwrap();
        let (stopper, stop) = std::os::unix::net::UnixStream::pair().unwrap();
        drop(stopper);
        relay(a.into(), b.into(), stop.as_fd()).unwrap();
    }
}
