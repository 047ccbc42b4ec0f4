//! What is asked of the host's sockets that neither socket2 nor nix has: peeking at an offset, discarding without copying.
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// Pieces of one send: within IOV_MAX (limits.h, 1,024).
pub const PIECES: usize = 64;
/// Silence after which the host's end is asked whether it is there: what containers' kernels take themselves (tcp(7)).
const KEEPALIVE: Duration = Duration::from_secs(7_200);

/// A stream socket that connects, and whether SO_PEEK_OFF works on it (Linux >= 6.9).
///
/// # Errors
/// That of socket(2) or connect(2), but EINPROGRESS.
pub fn connect_stream(to: SocketAddr) -> io::Result<(Socket, bool)> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    let peeks = prepare_stream(&socket)?;
    match socket.connect(&SockAddr::from(to)) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => return Err(error),
    }
    Ok((socket, peeks))
}

/// Makes a connected or connecting socket as flows want it; says whether SO_PEEK_OFF works on it.
///
/// # Errors
/// The fd is no TCP socket.
pub fn prepare_stream(socket: &Socket) -> io::Result<bool> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(KEEPALIVE))?;
    Ok(set_peek_offset(socket, 0).is_ok())
}

/// SO_PEEK_OFF (socket(7); TCP since Linux 6.9): where the next peek begins.
///
/// # Errors
/// EOPNOTSUPP: the kernel is older.
pub fn set_peek_offset(socket: &Socket, offset: u32) -> io::Result<()> {
    let value = libc::c_int::try_from(offset).unwrap_or(libc::c_int::MAX);
    // SAFETY: the option's value is an int, read during the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEEK_OFF,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Peeks what fits into `into`, from the peek offset on, which moves.
///
/// # Errors
/// EAGAIN: nothing there; or the connection's.
#[inline]
pub fn peek(socket: &Socket, into: &mut [u8]) -> io::Result<usize> {
    // SAFETY: `into` is writable for its whole length during the call.
    let n = unsafe { libc::recv(socket.as_raw_fd(), into.as_mut_ptr().cast(), into.len(), libc::MSG_PEEK | libc::MSG_DONTWAIT) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// The same without a peek offset: `skip` octets are read into `waste` and left out.
///
/// # Errors
/// As [`peek`]; zero octets mean that there are not more than `skip`, or that the stream has ended.
pub fn peek_behind(socket: &Socket, skip: usize, waste: &mut [u8], into: &mut [u8]) -> io::Result<usize> {
    let mut pieces = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; PIECES];
    let mut left = skip;
    let mut count = 0;
    for piece in pieces.iter_mut().take(PIECES - 1) {
        if left == 0 {
            break;
        }
        let len = left.min(waste.len());
        *piece = libc::iovec { iov_base: waste.as_mut_ptr().cast(), iov_len: len };
        left -= len;
        count += 1;
    }
    if left > 0 {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    if let Some(piece) = pieces.get_mut(count) {
        *piece = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    }
    // SAFETY: msghdr is plain data for which all zeroes is valid.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = pieces.as_mut_ptr();
    header.msg_iovlen = (count + 1) as _;
    // SAFETY: the first `count + 1` pieces name live buffers of at least their lengths; that `waste` is written more than once is what it
    // is for.
    let n = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_PEEK | libc::MSG_DONTWAIT) };
    match usize::try_from(n).map_err(|_| io::Error::last_os_error())? {
        0 => Ok(0),
        n if n <= skip => Err(io::ErrorKind::WouldBlock.into()),
        n => Ok(n - skip),
    }
}

/// Takes `len` octets out of a stream's receive queue without copying them (MSG_TRUNC, tcp(7)); says how many. The peek offset moves back.
///
/// # Errors
/// EAGAIN: nothing there.
pub fn discard(socket: &Socket, len: usize) -> io::Result<usize> {
    // SAFETY: with MSG_TRUNC a TCP socket copies nothing, so the null pointer is not written through.
    let n = unsafe { libc::recv(socket.as_raw_fd(), std::ptr::null_mut(), len, libc::MSG_TRUNC | libc::MSG_DONTWAIT) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// Sends pieces, as much as the socket takes.
///
/// # Errors
/// EAGAIN: full; EPIPE, ECONNRESET: over.
#[inline]
pub fn send(socket: &Socket, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    socket.send_vectored_with_flags(pieces, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT)
}

/// A buffer as recv wants it.
pub fn uninit(buffer: &mut [u8]) -> &mut [MaybeUninit<u8>] {
    // SAFETY: MaybeUninit<u8> has u8's layout; whoever writes through it writes initialised octets only, for socket2 never writes others.
    unsafe { &mut *(std::ptr::from_mut(buffer) as *mut [MaybeUninit<u8>]) }
}
