//! Bytes with file descriptors over unix stream sockets (SCM_RIGHTS), and who the peer is.
//!
//! A received fd is owned at once, so that no error path leaks one: not when there are more than the caller takes, and
//! not when the kernel cut the control data (MSG_CTRUNC: our own fd table is full). Received fds are close-on-exec.
//! Nothing here waits on a non-blocking socket: WouldBlock is passed up.
//!
//! Source: unix(7), cmsg(3).

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{ControlMessage, MsgFlags, getsockopt, sendmsg, sockopt};

/// Most fds that the kernel passes in one message (SCM_MAX_FD, net/scm.h).
pub const MAX_FDS: usize = 253;

/// Room for the control data of [`MAX_FDS`] fds, in 8-byte words (CMSG_SPACE(253 * 4) = 1,032 bytes), with some spare.
const CONTROL_WORDS: usize = 136;

/// What one receive gave.
#[derive(Debug)]
pub struct Received {
    /// Bytes read; 0 when the peer closed.
    pub bytes: usize,
    /// The fds that came with them, in the sender's order.
    pub fds: Vec<OwnedFd>,
}

/// The process at the other end of a unix socket, as it was when the socket was connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Process id, 0 when it is in no namespace of ours.
    pub pid: i32,
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
}

/// Sends `bytes` with `fds` attached to the first of them. May send less than all of `bytes`; once it returns Ok the
/// fds are sent and the rest goes without them. A closed peer is EPIPE, never a signal.
///
/// # Errors
/// WouldBlock; InvalidInput for more than [`MAX_FDS`] fds, or fds with no byte to carry them; others of sendmsg(2).
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    if fds.len() > MAX_FDS || (bytes.is_empty() && !fds.is_empty()) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    let iov = [IoSlice::new(bytes)];
    Ok(sendmsg::<()>(socket.as_fd().as_raw_fd(), &iov, control, MsgFlags::MSG_NOSIGNAL, None)?)
}

/// Receives into `buf`, and up to `max_fds` fds.
///
/// # Errors
/// WouldBlock; InvalidData when more fds came than `max_fds` or the kernel cut the control data: all fds that came are
/// closed then, and the connection should be; others of recvmsg(2).
pub fn recv(socket: impl AsFd, buf: &mut [u8], max_fds: usize) -> io::Result<Received> {
    let mut control = [MaybeUninit::<u64>::uninit(); CONTROL_WORDS];
    let mut iov = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    // SAFETY: msghdr is plain data for which all zeroes is valid (no name, no buffers).
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut iov;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control) as _;
    // SAFETY: `header` names one iovec over `buf` and the control buffer with their true lengths, all live for the call.
    let n = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC) };
    let bytes = usize::try_from(n).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: `header` is as a successful recvmsg left it, and its control buffer is still live.
    let fds = unsafe { take_fds(&header) };
    if header.msg_flags & libc::MSG_CTRUNC != 0 || fds.len() > max_fds {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "more file descriptors than expected"));
    }
    Ok(Received { bytes, fds })
}

/// Owns every fd in the control data of `header`.
///
/// # Safety
/// `header` must be as recvmsg(2) returned it, its control buffer live, and this the only call for it.
unsafe fn take_fds(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: by this function's contract the kernel filled the buffer that `header` describes.
    let mut at = unsafe { libc::CMSG_FIRSTHDR(header) };
    // Bounded: CMSG_NXTHDR moves on by at least one header within the buffer.
    while !at.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return pointers to whole headers inside the buffer.
        let (level, kind, len) = unsafe { ((*at).cmsg_level, (*at).cmsg_type, (*at).cmsg_len as usize) };
        if level == libc::SOL_SOCKET && kind == libc::SCM_RIGHTS {
            // SAFETY: CMSG_LEN only computes.
            let payload = len.saturating_sub(unsafe { libc::CMSG_LEN(0) } as usize);
            // SAFETY: the data of a control message follows its header inside the buffer.
            let data = unsafe { libc::CMSG_DATA(at) }.cast::<RawFd>();
            for i in 0..payload / size_of::<RawFd>() {
                // SAFETY: i is below the count that the kernel wrote; each is a new fd that nothing else owns.
                fds.push(unsafe { OwnedFd::from_raw_fd(data.add(i).read_unaligned()) });
            }
        }
        // SAFETY: `at` is a header inside the buffer that `header` describes.
        at = unsafe { libc::CMSG_NXTHDR(header, at) };
    }
    fds
}

/// SO_PEERCRED: who connected (or, for the client, who listens).
///
/// # Errors
/// Those of getsockopt(2).
pub fn peer(socket: impl AsFd) -> io::Result<Peer> {
    let c = getsockopt(&socket.as_fd(), sockopt::PeerCredentials)?;
    Ok(Peer { pid: c.pid(), uid: c.uid(), gid: c.gid() })
}

/// SO_PEERPIDFD: the process that connected, by a pidfd, which no later process of the same number has.
///
/// # Errors
/// ENOPROTOOPT before Linux 6.5; ESRCH (EINVAL since 6.16) when the process is gone; others of getsockopt(2).
pub fn peer_pidfd(socket: impl AsFd) -> io::Result<OwnedFd> {
    let mut raw: libc::c_int = -1;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel writes one int, as `len` says, into `raw`.
    let result = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERPIDFD, (&raw mut raw).cast(), &raw mut len) };
    super::check(result)?;
    // SAFETY: `raw` is a new fd that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    #[test]
    fn fds_arrive_in_order_and_close_on_exec() {
        let (a, b) = UnixStream::pair().unwrap();
        let (one, mut one_end) = UnixStream::pair().unwrap();
        let (two, mut two_end) = UnixStream::pair().unwrap();
        assert_eq!(send(&a, b"hello", &[one.as_fd(), two.as_fd()]).unwrap(), 5);
        let mut buf = [0; 16];
        let got = recv(&b, &mut buf, 2).unwrap();
        assert_eq!((&buf[..got.bytes], got.fds.len()), (&b"hello"[..], 2));
        let flags = nix::fcntl::fcntl(&got.fds[0], nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
        for (fd, end, text) in [(&got.fds[0], &mut one_end, b"1"), (&got.fds[1], &mut two_end, b"2")] {
            end.write_all(text).unwrap();
            let mut byte = [0; 1];
            nix::unistd::read(fd, &mut byte).unwrap();
            assert_eq!(&byte, text);
        }
    }

    #[test]
    fn too_many_fds_are_closed() {
        let (a, b) = UnixStream::pair().unwrap();
        let (mine, theirs) = UnixStream::pair().unwrap();
        send(&a, b"x", &[theirs.as_fd(), theirs.as_fd()]).unwrap();
        drop(theirs);
        let error = recv(&b, &mut [0; 4], 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        // Both copies are closed: the other end sees end of file.
        assert_eq!(nix::unistd::read(&mine, &mut [0; 1]).unwrap(), 0);
    }

    #[test]
    fn limits_and_would_block() {
        let (a, b) = UnixStream::pair().unwrap();
        let many = vec![a.as_fd(); MAX_FDS + 1];
        assert_eq!(send(&a, b"x", &many).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(send(&a, b"", &many[..1]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        send(&a, b"x", &many[..MAX_FDS]).unwrap();
        assert_eq!(recv(&b, &mut [0; 4], MAX_FDS).unwrap().fds.len(), MAX_FDS);
        super::super::set_nonblocking(&b).unwrap();
        assert_eq!(recv(&b, &mut [0; 4], 1).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(many);
        drop(a);
        assert_eq!(recv(&b, &mut [0; 4], 1).unwrap().bytes, 0);
        assert_eq!(send(&b, b"x", &[]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn peer_has_a_pidfd() {
        let (a, _b) = UnixStream::pair().unwrap();
        match peer_pidfd(&a) {
            Ok(pidfd) => assert!(super::super::process::is_pidfd(&pidfd) && super::super::process::alive(&pidfd).unwrap()),
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ENOPROTOOPT)),
        }
        assert!(peer_pidfd(std::fs::File::open("/dev/null").unwrap()).is_err());
    }

    #[test]
    fn peer_is_us() {
        let (a, _b) = UnixStream::pair().unwrap();
        let peer = peer(&a).unwrap();
        assert_eq!(peer.pid.unsigned_abs(), std::process::id());
        assert_eq!(peer.uid, nix::unistd::geteuid().as_raw());
    }
}
