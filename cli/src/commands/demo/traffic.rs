//! The demo's traffic: a TCP server and client, and a ping for machines that have none.
use crate::errors::ToolProblem;
use crate::print;
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::sockopt::{ReceiveTimeout, TcpCongestion};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto, setsockopt, socket};
use nix::sys::time::{TimeVal, TimeValLike};
use std::ffi::OsString;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};
use vswitch_nat::checksum;

/// What [`serve`] says once it listens.
pub const SERVING: &str = "serving";
/// iperf's, which nobody will miss here.
pub const PORT: u16 = 5_201;
/// How long [`serve`] waits for a client, ms.
const WAIT: u16 = 60_000;
/// Octets of a write or a read.
const CHUNK: usize = 128 << 10;
/// How long a connect may take.
const CONNECT: Duration = Duration::from_secs(5);
/// Echo requests sent.
const PINGS: u16 = 3;

/// Sends as much as the client takes, to one client after another.
pub fn serve(at: Option<SocketAddrV4>) -> Result<()> {
    let at = at.unwrap_or(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, PORT));
    let listener = TcpListener::bind(at).context(ToolProblem::PortTaken { port: at.port() })?;
    print::out(&format!("{SERVING}\n"))?;
    let chunk = vec![0; CHUNK];
    // Whoever started it may be gone: it waits for nobody for ever.
    while poll(&mut [PollFd::new(listener.as_fd(), PollFlags::POLLIN)], WAIT)? > 0 {
        let (mut stream, _) = listener.accept()?;
        // Whatever the system's default is, the comparison is of the same with the same.
        let _ = setsockopt(&stream, TcpCongestion, &OsString::from("cubic"));
        while stream.write_all(&chunk).is_ok() {}
    }
    Ok(())
}

/// Fetches for so many seconds and says how fast that was.
pub fn fetch(from: SocketAddrV4, seconds: u64) -> Result<()> {
    let to = SocketAddr::V4(from);
    let mut stream = TcpStream::connect_timeout(&to, CONNECT).context(ToolProblem::NotConnected { to })?;
    stream.set_read_timeout(Some(CONNECT))?;
    let mut chunk = vec![0; CHUNK];
    let (start, mut octets) = (Instant::now(), 0_u64);
    while start.elapsed() < Duration::from_secs(seconds) {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => octets += read as u64,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context(ToolProblem::Stalled),
        }
    }
    print::out(&format!("{:.1} Gbit/s\n", octets as f64 * 8.0 / start.elapsed().as_secs_f64() / 1e9))
}

/// Sends echo requests (RFC 792) and says what came back.
pub fn ping(address: Ipv4Addr) -> Result<()> {
    let socket =
        socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Icmp).context(ToolProblem::NoPing)?;
    setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(1))?;
    let to = SockaddrIn::from(SocketAddrV4::new(address, 0));
    let identifier = (std::process::id() as u16).to_be_bytes();
    let (mut received, mut total) = (0, Duration::ZERO);
    for sequence in 1..=PINGS {
        let mut request = [0; 64];
        request[0] = 8;
        request[4..6].copy_from_slice(&identifier);
        request[6..8].copy_from_slice(&sequence.to_be_bytes());
        let sum = checksum::checksum(&request);
        request[2..4].copy_from_slice(&sum.to_be_bytes());
        let start = Instant::now();
        sendto(socket.as_raw_fd(), &request, &to, MsgFlags::empty())?;
        let mut answer = [0; 256];
        // Bounded: the socket hears only ICMP of this namespace, and gives up after a second of silence or ten of anything else.
        while start.elapsed() < Duration::from_secs(10) {
            match recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty()) {
                // Behind an IPv4 header: echo reply, our identifier and sequence.
                Ok(length) if length >= 28 && answer[20] == 0 && answer[24..28] == request[4..8] => {
                    received += 1;
                    total += start.elapsed();
                    break;
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    let average = total.checked_div(received).map_or(0, |average| average.as_micros());
    print::out(&format!("{PINGS} sent, {received} received, average {average} us\n"))
}
