//! What is asked of the host's sockets that neither socket2 nor nix has: peeking at an offset, discarding without copying.
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

/// Pieces of one send: within IOV_MAX (limits.h, 1,024).
pub const PIECES: usize = 64;

/// A stream socket that connects, and whether SO_PEEK_OFF works on it (Linux >= 6.9). With `hops` its segments go so far only, until
/// [`is_connected`], and [`receive_error`] has what a router said of them (for streams since Linux 5.8).
///
/// # Errors
/// That of socket(2) or connect(2), but EINPROGRESS.
pub fn connect_stream(to: SocketAddr, hops: Option<u8>) -> io::Result<(Socket, bool)> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    let peeks = prepare_stream(&socket)?;
    if let Some(hops) = hops {
        set_hops(&socket, to.is_ipv6(), hops)?;
        want_errors(&socket, to.is_ipv6())?;
    }
    match socket.connect(&SockAddr::from(to)) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => return Err(error),
    }
    Ok((socket, peeks))
}

/// Puts back what [`connect_stream`] set: the system's hops, and errors that do not end what stands (RFC 1122 4.2.3.9).
///
/// # Errors
/// The fd is no socket of that family.
pub fn is_connected(socket: &Socket, is_v6: bool) -> io::Result<()> {
    /// The system's (ip(7), ipv6(7)).
    const DEFAULT: libc::c_int = -1;
    if is_v6 {
        set_int(socket, libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, DEFAULT)?;
        set_int(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 0)
    } else {
        set_int(socket, libc::IPPROTO_IP, libc::IP_TTL, DEFAULT)?;
        set_int(socket, libc::IPPROTO_IP, libc::IP_RECVERR, 0)
    }
}

/// A datagram socket with a port that the kernel draws, which sends to and receives from there only, and tells of all errors.
///
/// # Errors
/// EMFILE and the like; ENETUNREACH: there is no way.
pub fn connect_datagrams(to: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(to), Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    want_errors(&socket, to.is_ipv6())?;
    socket.connect(&SockAddr::from(to))?;
    Ok(socket)
}

/// An address in its own family: a socket of both families spells IPv4 as IPv6 (RFC 4291 2.5.5.2).
#[must_use]
pub fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// An address as a socket of a family spells it.
fn spelt(address: IpAddr, is_v6: bool) -> IpAddr {
    match address {
        IpAddr::V4(address) if is_v6 => IpAddr::V6(address.to_ipv6_mapped()),
        IpAddr::V4(_) | IpAddr::V6(_) => address,
    }
}

/// Accepts a connection that waits: its socket, which never blocks, and its client.
///
/// # Errors
/// EAGAIN: none waits; EMFILE: there is no fd for it; ECONNABORTED: it went.
pub fn accept(listener: &Socket) -> io::Result<(Socket, SocketAddr)> {
    let (socket, client) = listener.accept()?;
    socket.set_nonblocking(true)?;
    Ok((socket, plain(client.as_socket().ok_or(io::ErrorKind::InvalidData)?)))
}

/// Makes a connected or connecting socket as flows want it; says whether SO_PEEK_OFF works on it.
///
/// # Errors
/// The fd is no TCP socket.
pub fn prepare_stream(socket: &Socket) -> io::Result<bool> {
    socket.set_tcp_nodelay(true)?;
    // As long as the system says: 2 hours (tcp(7)).
    socket.set_keepalive(true)?;
    Ok(set_peek_offset(socket, 0).is_ok())
}

/// SO_PEEK_OFF (socket(7); TCP since Linux 6.9): where the next peek begins.
///
/// # Errors
/// EOPNOTSUPP: the kernel is older.
pub fn set_peek_offset(socket: &Socket, offset: u32) -> io::Result<()> {
    set_int(socket, libc::SOL_SOCKET, libc::SO_PEEK_OFF, libc::c_int::try_from(offset).unwrap_or(libc::c_int::MAX))
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

/// A datagram as it was received.
#[derive(Clone, Copy, Debug)]
pub struct Datagram {
    /// Octets of payload; of several datagrams of `segment` octets each, if that is there.
    pub len: usize,
    /// Who sent it.
    pub from: SocketAddr,
    /// The size of each of several (UDP_GRO, udp(7)).
    pub segment: Option<u16>,
    /// The address of ours that it was sent to, where that was asked for.
    pub to: Option<IpAddr>,
}

/// What the network said of a datagram that was sent (IP_RECVERR, ip(7)).
#[derive(Clone, Copy, Debug)]
pub struct SendError {
    /// Octets of it that came back.
    pub len: usize,
    /// Where it was sent to.
    pub to: SocketAddr,
    /// Who said so, if it was not this host.
    pub offender: Option<IpAddr>,
    /// Errno.
    pub errno: i32,
    /// ICMP type and code, zero where this host said so.
    pub icmp: Option<(u8, u8)>,
    /// An MTU, mostly.
    pub info: u32,
}

/// Octets of control messages that are received.
pub const CONTROL: usize = 256;

fn set_int(socket: &Socket, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the option's value is an int, read during the call.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), size_of::<libc::c_int>() as libc::socklen_t)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A datagram socket that is not bound, with errors and batches.
///
/// # Errors
/// EMFILE and the like.
pub fn open_udp(is_v6: bool) -> io::Result<Socket> {
    let domain = if is_v6 { Domain::IPV6 } else { Domain::IPV4 };
    let socket = Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    if is_v6 {
        socket.set_only_v6(true)?;
    }
    prepare_udp(&socket, is_v6)?;
    Ok(socket)
}

/// Asks for errors and batches.
///
/// # Errors
/// The fd is no UDP socket.
pub fn prepare_udp(socket: &Socket, is_v6: bool) -> io::Result<()> {
    want_errors(socket, is_v6)?;
    // Linux >= 5.0; without it each datagram comes alone.
    let _ = set_int(socket, libc::SOL_UDP, libc::UDP_GRO, 1);
    Ok(())
}

fn want_errors(socket: &Socket, is_v6: bool) -> io::Result<()> {
    if is_v6 {
        // Of IPv4 too, where the socket has both.
        let _ = set_int(socket, libc::IPPROTO_IP, libc::IP_RECVERR, 1);
        set_int(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1)
    } else {
        set_int(socket, libc::IPPROTO_IP, libc::IP_RECVERR, 1)
    }
}

/// Asks for the address of ours that each datagram was sent to.
///
/// # Errors
/// The fd is no UDP socket.
pub fn want_destination(socket: &Socket, is_v6: bool) -> io::Result<()> {
    if is_v6 {
        set_int(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)
    } else {
        set_int(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)
    }
}

/// An echo socket (icmp(7)).
///
/// # Errors
/// EACCES: net.ipv4.ping_group_range has not our group.
pub fn open_echo(is_v6: bool) -> io::Result<Socket> {
    let (domain, protocol) = if is_v6 { (Domain::IPV6, Protocol::ICMPV6) } else { (Domain::IPV4, Protocol::ICMPV4) };
    let socket = Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), Some(protocol))?;
    want_errors(&socket, is_v6)?;
    Ok(socket)
}

/// TTL or hop limit of what is sent from now on.
///
/// # Errors
/// Zero.
pub fn set_hops(socket: &Socket, is_v6: bool, hops: u8) -> io::Result<()> {
    if is_v6 { socket.set_unicast_hops_v6(u32::from(hops)) } else { socket.set_ttl_v4(u32::from(hops)) }
}

/// Whether what is sent may be cut on its way (IP_MTU_DISCOVER, ip(7)).
///
/// # Errors
/// The fd is no IPv4 socket.
pub fn set_dont_fragment(socket: &Socket, dont: bool) -> io::Result<()> {
    let value = if dont { libc::IP_PMTUDISC_DO } else { libc::IP_PMTUDISC_DONT };
    set_int(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, value)
}

fn storage(address: SocketAddr) -> SockaddrStorage {
    SockaddrStorage::from(address)
}

fn of_storage(address: Option<SockaddrStorage>) -> Option<SocketAddr> {
    let address = address?;
    match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
        (Some(v4), _) => Some(SocketAddr::V4((*v4).into())),
        (None, Some(v6)) => Some(SocketAddr::V6((*v6).into())),
        (None, None) => None,
    }
}

/// Sends a datagram, or several of `segment` octets each, from the address `from` of ours if that is given.
///
/// # Errors
/// EMSGSIZE: too long for the way; ECONNREFUSED and others: what was said of an earlier one; EINVAL: segments longer than the MTU.
pub fn send_datagram(
    socket: (&Socket, bool),
    to: SocketAddr,
    payload: &[u8],
    segment: Option<u16>,
    from: Option<IpAddr>,
) -> io::Result<()> {
    send_datagrams(socket, to, &[IoSlice::new(payload)], segment, from)
}

/// The same, the payload in pieces.
///
/// # Errors
/// As [`send_datagram`].
pub fn send_datagrams(
    (socket, is_v6): (&Socket, bool),
    to: SocketAddr,
    pieces: &[IoSlice<'_>],
    segment: Option<u16>,
    from: Option<IpAddr>,
) -> io::Result<()> {
    let to = SocketAddr::new(spelt(to.ip(), is_v6), to.port());
    let from = from.map(|from| spelt(from, is_v6));
    let (mut v4, mut v6);
    let mut control = Vec::new();
    if let Some(segment) = &segment {
        control.push(ControlMessage::UdpGsoSegments(segment));
    }
    match from {
        None => {}
        Some(IpAddr::V4(address)) => {
            // SAFETY: in_pktinfo is plain data for which all zeroes is valid.
            v4 = unsafe { std::mem::zeroed::<libc::in_pktinfo>() };
            v4.ipi_spec_dst.s_addr = u32::from_ne_bytes(address.octets());
            control.push(ControlMessage::Ipv4PacketInfo(&v4));
        }
        Some(IpAddr::V6(address)) => {
            // SAFETY: in6_pktinfo is plain data for which all zeroes is valid.
            v6 = unsafe { std::mem::zeroed::<libc::in6_pktinfo>() };
            v6.ipi6_addr.s6_addr = address.octets();
            control.push(ControlMessage::Ipv6PacketInfo(&v6));
        }
    }
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    sendmsg(socket.as_raw_fd(), pieces, &control, flags, Some(&storage(to)))?;
    Ok(())
}

/// Receives a datagram into `into`.
///
/// # Errors
/// EAGAIN: nothing there; others: what was said of one that was sent.
pub fn receive_datagram(socket: &Socket, into: &mut [u8], control: &mut [u8]) -> io::Result<Datagram> {
    let mut pieces = [IoSliceMut::new(into)];
    let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut pieces, Some(control), MsgFlags::MSG_DONTWAIT)?;
    let (mut segment, mut to) = (None, None);
    for cmsg in message.cmsgs()? {
        #[allow(clippy::wildcard_enum_match_arm, reason = "of the kernel's many only these were asked for")]
        match cmsg {
            ControlMessageOwned::UdpGroSegments(size) => segment = u16::try_from(size).ok().filter(|size| *size > 0),
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                to = Some(IpAddr::V4(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes())));
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => to = Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr))),
            _ => {}
        }
    }
    let from = of_storage(message.address).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Datagram { len: message.bytes, from: plain(from), segment, to: to.map(|to| to.to_canonical()) })
}

/// Takes what was said of a datagram that was sent, and as much of it as came back.
///
/// # Errors
/// EAGAIN: nothing was said.
pub fn receive_error(socket: &Socket, into: &mut [u8], control: &mut [u8]) -> io::Result<SendError> {
    /// SO_EE_ORIGIN_ICMP and SO_EE_ORIGIN_ICMP6 (linux/errqueue.h).
    const ICMP: [u8; 2] = [2, 3];
    let mut pieces = [IoSliceMut::new(into)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_ERRQUEUE;
    let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut pieces, Some(control), flags)?;
    let mut said = None;
    for cmsg in message.cmsgs()? {
        #[allow(clippy::wildcard_enum_match_arm, reason = "of the kernel's many only these were asked for")]
        match cmsg {
            ControlMessageOwned::Ipv4RecvErr(error, offender) => {
                let offender = offender.map(|address| IpAddr::V4(Ipv4Addr::from(address.sin_addr.s_addr.to_ne_bytes())));
                said = Some((error, offender));
            }
            ControlMessageOwned::Ipv6RecvErr(error, offender) => {
                let offender = offender.map(|address| IpAddr::V6(Ipv6Addr::from(address.sin6_addr.s6_addr)));
                said = Some((error, offender));
            }
            _ => {}
        }
    }
    let (error, offender) = said.ok_or(io::ErrorKind::InvalidData)?;
    let is_icmp = ICMP.contains(&error.ee_origin);
    let to = of_storage(message.address).ok_or(io::ErrorKind::InvalidData)?;
    Ok(SendError {
        len: message.bytes,
        to: plain(to),
        offender: offender.map(|offender| offender.to_canonical()).filter(|offender| is_icmp && !offender.is_unspecified()),
        errno: i32::try_from(error.ee_errno).unwrap_or(0),
        icmp: is_icmp.then_some((error.ee_type, error.ee_code)),
        info: error.ee_info,
    })
}

/// A bound socket: a listening stream, or datagrams.
#[derive(Debug)]
pub struct Bound(Socket);

impl std::os::fd::AsFd for Bound {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Bound> for std::os::fd::OwnedFd {
    fn from(bound: Bound) -> Self {
        bound.0.into()
    }
}

/// Connections that wait to be accepted; the kernel takes net.core.somaxconn where that is less.
const BACKLOG: i32 = 4_096;

/// Binds a port. The unspecified IPv6 address is both families.
///
/// # Errors
/// EADDRINUSE: held by another; EACCES: the port is privileged; EADDRNOTAVAIL: not an address of this host.
pub fn bind(to: SocketAddr, is_tcp: bool) -> io::Result<Bound> {
    let (kind, protocol) = if is_tcp { (Type::STREAM, Protocol::TCP) } else { (Type::DGRAM, Protocol::UDP) };
    let socket = Socket::new(Domain::for_address(to), kind.nonblocking().cloexec(), Some(protocol))?;
    if to.is_ipv6() {
        socket.set_only_v6(!to.ip().is_unspecified())?;
    }
    if is_tcp {
        // Only connections that are over and wait: a listener is in the way all the same.
        socket.set_reuse_address(true)?;
    }
    socket.bind(&SockAddr::from(to))?;
    if is_tcp {
        socket.listen(BACKLOG)?;
    }
    Ok(Bound(socket))
}

/// The process that holds a port, name and PID, as far as this user may see (proc_net_tcp(5)).
#[must_use]
pub fn holder(port: u16, is_tcp: bool) -> Option<(String, u32)> {
    /// State of a listening TCP socket, and of a UDP socket that is not connected.
    const LISTENS: [&str; 2] = ["0A", "07"];
    let tables = if is_tcp { ["/proc/net/tcp", "/proc/net/tcp6"] } else { ["/proc/net/udp", "/proc/net/udp6"] };
    let wanted = format!("{port:04X}");
    let text = tables.iter().filter_map(|table| std::fs::read_to_string(table).ok()).collect::<String>();
    let inode = text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        (local.rsplit(':').next() == Some(&wanted) && LISTENS.contains(state)).then(|| (*inode).to_owned())
    })?;
    let link = format!("socket:[{inode}]");
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(fds) = std::fs::read_dir(process.path().join("fd")) else { continue };
        if fds.flatten().any(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == link.as_str())) {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some((name.trim().to_owned(), pid));
        }
    }
    None
}

/// Where a socket is bound, and whether it is a stream; `None` for one that is neither a stream nor datagrams of IP.
#[must_use]
pub fn local_of(fd: std::os::fd::BorrowedFd<'_>) -> Option<(SocketAddr, bool)> {
    let socket = socket2::SockRef::from(&fd);
    let kind = socket.r#type().ok().filter(|kind| [Type::STREAM, Type::DGRAM].contains(kind))?;
    Some((socket.local_addr().ok()?.as_socket()?, kind == Type::STREAM))
}
