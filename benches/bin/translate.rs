//! translate: the floor under a TCP socket uplink, which `benches/compare` measures vswitch against.
//!
//! ```text
//! translate NS      a TAP eth0 made in the named namespace NS (virtio_net_hdr, offloads); whatever address is asked for, answers ARP
//! ```
//! It turns the TCP segments of one container into data of host sockets and back, with GSO frames both ways, one send and one acknowledgement for
//! a batch of up to 32 frames. It does nothing else: no loss is mended, no timer runs, connect() blocks, a full socket is waited for,
//! data is taken off the socket before the container has acknowledged it, and there are at most 256 flows, IPv4 only. A measuring stick,
//! not a design: what vswitch loses against it is the price of doing it right. Says "translating" on standard error when it does,
//! and goes on until it is killed. Needs root.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::ExitCode;
use std::time::Duration;

use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use vswitch_benches::{Failure, inside, tap};
use vswitch_io::sys::batch::write_tap;

const USAGE: &str = "usage: translate NS";

/// Frames read before the other sockets have their turn.
const BATCH_FRAMES: usize = 32;
/// Bytes of a frame buffer: a GSO frame of 64 KiB and its headers.
const FRAME_BYTES: usize = 70_000;
const FLOWS_MAX: usize = 256;
/// Frames made of one socket's data before others have their turn.
const BURST_FRAMES: usize = 8;
/// The wait for a socket that takes nothing.
const FULL_WAIT: Duration = Duration::from_micros(50);

/// Segments' payload at MTU 1500, and the most of it in a GSO frame, bytes.
const SEGMENT: u32 = 1448;
const GSO_BYTES: u32 = 65_160 / SEGMENT * SEGMENT;
/// The window that is always offered: 4 MiB.
const WINDOW: u16 = 16_384;
const WINDOW_SHIFT: u8 = 8;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// Lengths, bytes: virtio_net_hdr; Ethernet; IPv4 and TCP without options; TCP's options in a SYN; an ARP frame.
const VNET: usize = 10;
const ETHERNET: usize = 14;
const IPV4: usize = 20;
const TCP: usize = 20;
const SYN_OPTIONS: usize = 8;
const ARP: usize = 42;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;
const ACK: u8 = 16;

const TAP: Token = Token(FLOWS_MAX);

/// A flow's ends, as the container names them.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Ends {
    container: SocketAddrV4,
    remote: SocketAddrV4,
}

struct Flow {
    ends: Ends,
    socket: TcpStream,
    send_next: u32,
    send_acknowledged: u32,
    receive_next: u32,
    window: u32,
    window_shift: u8,
    host_ended: bool,
    container_ended: bool,
    /// The container's window is full.
    blocked: bool,
    /// The socket may have data.
    ready: bool,
}

/// A segment of the container's: where its payload is in the frame, and what its header says.
struct Segment {
    ends: Ends,
    flags: u8,
    sequence: u32,
    acknowledged: u32,
    window: u16,
    window_shift: u8,
    data: std::ops::Range<usize>,
}

/// Payload in a row of one flow, not yet sent: which buffer, and where in it.
#[derive(Default)]
struct Batch {
    flow: usize,
    pieces: Vec<(usize, std::ops::Range<usize>)>,
}

struct Translator {
    tap: OwnedFd,
    poll: Poll,
    container_mac: [u8; 6],
    flows: Vec<Option<Flow>>,
    batch: Batch,
    received: Vec<u8>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [namespace] = arguments.as_slice() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(namespace) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("translate: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(namespace: &str) -> Result<(), Failure> {
    let tap = inside(namespace, || Ok(tap()?))?;
    let mut poll = Poll::new()?;
    poll.registry().register(&mut SourceFd(&tap.as_raw_fd()), TAP, Interest::READABLE)?;
    eprintln!("translating");
    let mut buffers = vec![vec![0; FRAME_BYTES]; BATCH_FRAMES];
    let mut events = Events::with_capacity(BATCH_FRAMES);
    let mut flows = Vec::new();
    flows.resize_with(FLOWS_MAX, || None);
    let received = vec![0; GSO_BYTES as usize];
    let mut tap_ready = false;
    poll.poll(&mut events, Some(Duration::ZERO))?;
    let mut translator = Translator { tap, poll, container_mac: [0; 6], flows, batch: Batch::default(), received };
    loop {
        // Edge-triggered: a TAP that was not emptied is not told of again.
        let wait = tap_ready.then_some(Duration::ZERO);
        match translator.poll.poll(&mut events, wait) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &events {
            match event.token() {
                TAP => tap_ready = true,
                Token(index) => translator.socket_ready(index)?,
            }
        }
        if tap_ready {
            tap_ready = translator.take_frames(&mut buffers)?;
        }
    }
}

impl Translator {
    /// Takes one batch of frames; says whether there may be more.
    fn take_frames(&mut self, buffers: &mut [Vec<u8>]) -> io::Result<bool> {
        let mut more = true;
        for index in 0..buffers.len() {
            match nix::unistd::read(self.tap.as_fd(), &mut buffers[index]) {
                Ok(len) => self.frame(buffers, index, len)?,
                Err(_) => {
                    more = false;
                    break;
                }
            }
        }
        self.flush(buffers)?;
        Ok(more)
    }

    fn frame(&mut self, buffers: &[Vec<u8>], index: usize, len: usize) -> io::Result<()> {
        let Some(frame) = buffers[index].get(VNET..len) else { return Ok(()) };
        match frame.get(12..14) {
            Some([0x08, 0x06]) => self.arp(frame),
            Some([0x08, 0x00]) => match segment(frame) {
                Some(segment) => {
                    self.container_mac.copy_from_slice(&frame[6..12]);
                    self.segment(buffers, index, segment)
                }
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Whoever is asked for is here.
    fn arp(&mut self, frame: &[u8]) -> io::Result<()> {
        let Some(request) = frame.get(..ARP) else { return Ok(()) };
        let mut reply = [0; VNET + ARP];
        let answer = &mut reply[VNET..];
        answer[..6].copy_from_slice(&request[6..12]);
        answer[6..12].copy_from_slice(&MAC);
        answer[12..20].copy_from_slice(&request[12..20]);
        answer[21] = 2;
        answer[22..28].copy_from_slice(&MAC);
        answer[28..32].copy_from_slice(&request[38..42]);
        answer[32..42].copy_from_slice(&request[22..32]);
        write_tap(self.tap.as_fd(), &[IoSlice::new(&reply)])
    }

    fn segment(&mut self, buffers: &[Vec<u8>], index: usize, segment: Segment) -> io::Result<()> {
        let known = self.flows.iter().position(|flow| flow.as_ref().is_some_and(|flow| flow.ends == segment.ends));
        let Some(at) = known else {
            return if segment.flags & SYN != 0 { self.connect(&segment) } else { Ok(()) };
        };
        if segment.flags & (SYN | RST) != 0 {
            if segment.flags & RST != 0 {
                self.forget(at);
            }
            return Ok(());
        }
        let pending = !self.batch.pieces.is_empty();
        if pending && (self.batch.flow != at || segment.data.is_empty() || self.batch.pieces.len() == BATCH_FRAMES) {
            self.flush(buffers)?;
        }
        let Some(flow) = self.flows[at].as_mut() else { return Ok(()) };
        if segment.flags & ACK != 0 {
            flow.send_acknowledged = segment.acknowledged;
            flow.window = u32::from(segment.window) << flow.window_shift;
        }
        let next = segment.sequence.wrapping_add(segment.data.len() as u32);
        if !segment.data.is_empty() && segment.sequence == flow.receive_next {
            self.batch.flow = at;
            self.batch.pieces.push((index, segment.data));
            flow.receive_next = next;
        }
        if segment.flags & FIN != 0 && next == flow.receive_next {
            self.container_ends(buffers, at)?;
        }
        match self.flows[at].as_mut() {
            Some(flow) if flow.blocked || flow.ready => {
                flow.blocked = false;
                self.pump(at)
            }
            _ => Ok(()),
        }
    }

    fn connect(&mut self, segment: &Segment) -> io::Result<()> {
        let Some(at) = self.flows.iter().position(Option::is_none) else { return Ok(()) };
        // Refused or not, the container hears nothing of it and tries again.
        let Ok(stream) = std::net::TcpStream::connect(segment.ends.remote) else { return Ok(()) };
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut flow = Flow {
            ends: segment.ends,
            socket: TcpStream::from_std(stream),
            send_next: 1000,
            send_acknowledged: 1000,
            receive_next: segment.sequence.wrapping_add(1),
            window: 65_535,
            window_shift: segment.window_shift,
            host_ended: false,
            container_ended: false,
            blocked: false,
            ready: false,
        };
        emit(&self.tap, self.container_mac, &flow, SYN | ACK, &[])?;
        flow.send_next += 1;
        self.poll.registry().register(&mut flow.socket, Token(at), Interest::READABLE)?;
        self.flows[at] = Some(flow);
        Ok(())
    }

    fn container_ends(&mut self, buffers: &[Vec<u8>], at: usize) -> io::Result<()> {
        self.flush(buffers)?;
        let Some(flow) = self.flows[at].as_mut() else { return Ok(()) };
        flow.receive_next = flow.receive_next.wrapping_add(1);
        flow.container_ended = true;
        // Not connected any more: the next read tells.
        let _ = flow.socket.shutdown(Shutdown::Write);
        emit(&self.tap, self.container_mac, flow, ACK, &[])?;
        if flow.host_ended {
            self.forget(at);
        }
        Ok(())
    }

    fn forget(&mut self, at: usize) {
        self.flows[at] = None;
        if self.batch.flow == at {
            self.batch.pieces.clear();
        }
    }

    /// Sends the batch and acknowledges it.
    fn flush(&mut self, buffers: &[Vec<u8>]) -> io::Result<()> {
        if self.batch.pieces.is_empty() {
            return Ok(());
        }
        let mut slices = [IoSlice::new(&[]); BATCH_FRAMES];
        for (slice, (index, range)) in slices.iter_mut().zip(&self.batch.pieces) {
            *slice = IoSlice::new(buffers[*index].get(range.clone()).unwrap_or_default());
        }
        let mut left = &mut slices[..self.batch.pieces.len()];
        self.batch.pieces.clear();
        let Some(flow) = self.flows[self.batch.flow].as_mut() else { return Ok(()) };
        while !left.is_empty() {
            match flow.socket.write_vectored(left) {
                Ok(len) => IoSlice::advance_slices(&mut left, len),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(FULL_WAIT),
                Err(_) => break,
            }
        }
        emit(&self.tap, self.container_mac, flow, ACK, &[])
    }

    fn socket_ready(&mut self, at: usize) -> io::Result<()> {
        match self.flows.get_mut(at) {
            Some(Some(flow)) => {
                flow.ready = true;
                if flow.blocked { Ok(()) } else { self.pump(at) }
            }
            _ => Ok(()),
        }
    }

    /// From the socket to the container, as much as its window takes.
    fn pump(&mut self, at: usize) -> io::Result<()> {
        let Some(flow) = self.flows[at].as_mut() else { return Ok(()) };
        for _ in 0..BURST_FRAMES {
            let in_flight = flow.send_next.wrapping_sub(flow.send_acknowledged);
            let room = flow.window.saturating_sub(in_flight).min(GSO_BYTES);
            if room == 0 || (room < SEGMENT && in_flight > 0) {
                flow.blocked = true;
                return Ok(());
            }
            match flow.socket.read(&mut self.received[..room as usize]) {
                Ok(0) | Err(_) if flow.host_ended => flow.ready = false,
                Ok(0) => {
                    emit(&self.tap, self.container_mac, flow, FIN | ACK, &[])?;
                    flow.send_next = flow.send_next.wrapping_add(1);
                    flow.host_ended = true;
                    flow.ready = false;
                    if flow.container_ended {
                        self.forget(at);
                    }
                    return Ok(());
                }
                Ok(len) => {
                    emit(&self.tap, self.container_mac, flow, PSH | ACK, &self.received[..len])?;
                    flow.send_next = flow.send_next.wrapping_add(len as u32);
                    continue;
                }
                Err(_) => flow.ready = false,
            }
            return Ok(());
        }
        Ok(())
    }
}

fn be16(octets: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(octets.get(at..at + 2)?.try_into().ok()?))
}

fn be32(octets: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(octets.get(at..at + 4)?.try_into().ok()?))
}

/// The TCP segment of a frame, if it is one.
fn segment(frame: &[u8]) -> Option<Segment> {
    let ip = frame.get(ETHERNET..)?;
    if ip.first()? >> 4 != 4 || *ip.get(9)? != 6 {
        return None;
    }
    let ip_header = usize::from(ip[0] & 15) * 4;
    let total = usize::from(be16(ip, 2)?);
    let tcp = ip.get(ip_header..total)?;
    let header = usize::from(tcp.get(12)? >> 4) * 4;
    let options = tcp.get(TCP..header)?;
    let start = VNET + ETHERNET + ip_header + header;
    Some(Segment {
        ends: Ends {
            container: SocketAddrV4::new(Ipv4Addr::from(be32(ip, 12)?), be16(tcp, 0)?),
            remote: SocketAddrV4::new(Ipv4Addr::from(be32(ip, 16)?), be16(tcp, 2)?),
        },
        sequence: be32(tcp, 4)?,
        acknowledged: be32(tcp, 8)?,
        flags: *tcp.get(13)?,
        window: be16(tcp, 14)?,
        window_shift: window_shift(options).unwrap_or(0),
        data: start..VNET + ETHERNET + total,
    })
}

/// The window scale option (RFC 7323 2.2), at most 14.
fn window_shift(mut options: &[u8]) -> Option<u8> {
    loop {
        match options {
            [0, ..] => return None,
            [1, rest @ ..] => options = rest,
            [3, 3, shift, ..] => return Some((*shift).min(14)),
            [_, len, ..] if *len >= 2 => options = options.get(usize::from(*len)..)?,
            _ => return None,
        }
    }
}

/// The Internet checksum's sum (RFC 1071), not yet complemented.
fn sum(octets: &[u8], start: u32) -> u16 {
    let mut sum = octets.chunks_exact(2).fold(start, |sum, pair| sum + u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

/// Writes a segment to the container; its checksum is left to the container's kernel, which trusts a TAP.
fn emit(tap: &OwnedFd, container_mac: [u8; 6], flow: &Flow, flags: u8, payload: &[u8]) -> io::Result<()> {
    let mut octets = [0; VNET + ETHERNET + IPV4 + TCP + SYN_OPTIONS];
    let tcp_len = if flags & SYN != 0 { TCP + SYN_OPTIONS } else { TCP };
    let headers = ETHERNET + IPV4 + tcp_len;
    // virtio_net_hdr: VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_TCPV4; where the checksum starts and is put.
    octets[0] = 1;
    octets[2..4].copy_from_slice(&(headers as u16).to_ne_bytes());
    if payload.len() > SEGMENT as usize {
        octets[1] = 1;
        octets[4..6].copy_from_slice(&(SEGMENT as u16).to_ne_bytes());
    }
    octets[6..8].copy_from_slice(&((ETHERNET + IPV4) as u16).to_ne_bytes());
    octets[8..10].copy_from_slice(&16u16.to_ne_bytes());
    let ethernet = &mut octets[VNET..];
    ethernet[..6].copy_from_slice(&container_mac);
    ethernet[6..12].copy_from_slice(&MAC);
    ethernet[12] = 8;
    let (ip, tcp) = ethernet[ETHERNET..].split_at_mut(IPV4);
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&((IPV4 + tcp_len + payload.len()) as u16).to_be_bytes());
    ip[6] = 0x40;
    ip[8] = 64;
    ip[9] = 6;
    ip[12..16].copy_from_slice(&flow.ends.remote.ip().octets());
    ip[16..20].copy_from_slice(&flow.ends.container.ip().octets());
    let checksum = !sum(ip, 0);
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    tcp[..2].copy_from_slice(&flow.ends.remote.port().to_be_bytes());
    tcp[2..4].copy_from_slice(&flow.ends.container.port().to_be_bytes());
    tcp[4..8].copy_from_slice(&flow.send_next.to_be_bytes());
    tcp[8..12].copy_from_slice(&flow.receive_next.to_be_bytes());
    tcp[12] = (tcp_len as u8 / 4) << 4;
    tcp[13] = flags;
    tcp[14..16].copy_from_slice(&if flags & SYN != 0 { u16::MAX } else { WINDOW }.to_be_bytes());
    if flags & SYN != 0 {
        // Maximum segment size 1460; window scale.
        tcp[20..].copy_from_slice(&[2, 4, 0x05, 0xb4, 1, 3, 3, WINDOW_SHIFT]);
    }
    let pseudo_header = sum(&ip[12..20], 6 + (tcp_len + payload.len()) as u32);
    tcp[16..18].copy_from_slice(&pseudo_header.to_be_bytes());
    match write_tap(tap.as_fd(), &[IoSlice::new(&octets[..VNET + headers]), IoSlice::new(payload)]) {
        // Lost, as on a wire: the interface is down, or its queue is full.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EIO | libc::EAGAIN | libc::ENOBUFS)) => Ok(()),
        done => done,
    }
}
