//! blast: sends frames as fast as one core can, through an AF_PACKET socket with sendmmsg, 64 a call.
//!
//! ```text
//! blast IFNAME DSTMAC SECONDS LENGTH                                      ethertype 0x88B5, which the receiving stack drops
//! blast IFNAME DSTMAC SECONDS LENGTH DSTIP SRCIP SPORT DPORT [NFLOWS]     UDP over IPv4, NFLOWS source ports in turn
//! ```
//! Prints the rate sent. What arrives is to be counted at the receiving interface (/proc/net/dev): a TAP's queue drops at its end and
//! tells the sender nothing. Use it only inside a namespace made for it, and pin it to a core (taskset -c 0).

use std::io::IoSlice;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{LinkAddr, MsgFlags, MultiHeaders, sendmmsg};
use vswitch_io::sys::sender;

/// Frames a sendmmsg() call.
const BATCH_FRAMES: usize = 64;
/// The longest frame sent, in bytes.
const FRAME_BYTES_MAX: usize = 2048;
/// Ethernet header, bytes; IPv4 header without options, bytes; UDP header, bytes.
const ETHERNET: usize = 14;
const IPV4: usize = 20;
const UDP: usize = 8;
/// The first source port where several flows are asked for.
const FIRST_PORT: u16 = 1024;
/// IEEE 802, local experimental ethertype 1.
const LOCAL_EXPERIMENT: [u8; 2] = [0x88, 0xb5];

const USAGE: &str = "usage: blast IFNAME DSTMAC SECONDS LENGTH [DSTIP SRCIP SPORT DPORT [NFLOWS]]";

/// The UDP flow or flows to send.
struct Udp {
    dst: Ipv4Addr,
    src: Ipv4Addr,
    src_port: u16,
    dst_port: u16,
    flows: u16,
}

/// The command line, understood.
struct Plan {
    interface: String,
    dst: [u8; 6],
    duration: Duration,
    length: usize,
    udp: Option<Udp>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(plan) = parse(&arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match blast(&plan) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("blast: {}: {error}", plan.interface);
            ExitCode::FAILURE
        }
    }
}

fn parse(arguments: &[String]) -> Option<Plan> {
    let [interface, dst, seconds, length, udp @ ..] = arguments else {
        return None;
    };
    let udp = match udp {
        [] => None,
        [dst, src, src_port, dst_port, flows @ ..] if flows.len() <= 1 => Some(Udp {
            dst: dst.parse().ok()?,
            src: src.parse().ok()?,
            src_port: src_port.parse().ok()?,
            dst_port: dst_port.parse().ok()?,
            flows: flows.first().map_or(Some(1), |n| n.parse().ok().filter(|n| *n > 0))?,
        }),
        _ => return None,
    };
    let shortest = if udp.is_some() { ETHERNET + IPV4 + UDP } else { ETHERNET };
    Some(Plan {
        interface: interface.clone(),
        dst: parse_mac(dst)?,
        duration: Duration::try_from_secs_f64(seconds.parse().ok()?).ok()?,
        length: length.parse().ok().filter(|n| (shortest..=FRAME_BYTES_MAX).contains(n))?,
        udp,
    })
}

fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let bytes: Option<Vec<u8>> = text.split(':').map(|part| u8::from_str_radix(part, 16).ok()).collect();
    bytes?.try_into().ok()
}

/// Sends until the time is over; returns the line to print.
fn blast(plan: &Plan) -> Result<String, Box<dyn std::error::Error>> {
    let link = link_of(&plan.interface)?;
    let socket = sender::open(&link)?;
    let mut frames = vec![frame(plan, link.addr().ok_or("it has no MAC address")?); BATCH_FRAMES];
    let mut headers = MultiHeaders::<LinkAddr>::preallocate(BATCH_FRAMES, None);
    let to_bound = [None; BATCH_FRAMES];
    let (mut sent, mut errors, mut next_flow) = (0u64, 0u64, 0u16);
    let start = Instant::now();
    loop {
        if let Some(udp) = plan.udp.as_ref().filter(|udp| udp.flows > 1) {
            for frame in &mut frames {
                let port = FIRST_PORT.wrapping_add(next_flow).to_be_bytes();
                frame[ETHERNET + IPV4..][..2].copy_from_slice(&port);
                next_flow = (next_flow + 1) % udp.flows;
            }
        }
        let slices: [[IoSlice<'_>; 1]; BATCH_FRAMES] = std::array::from_fn(|i| [IoSlice::new(&frames[i])]);
        match sendmmsg(socket.as_raw_fd(), &mut headers, &slices, to_bound, [], MsgFlags::empty()) {
            Ok(results) => sent += results.count() as u64,
            Err(Errno::ENOBUFS | Errno::EAGAIN) => errors += 1,
            Err(error) => return Err(error.into()),
        }
        if start.elapsed() >= plan.duration {
            break;
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    Ok(format!("sent {:.3} Mframe/s, {errors} errors, in {seconds:.3} s", sent as f64 / seconds / 1e6))
}

/// The interface's index and MAC address, in this namespace.
fn link_of(interface: &str) -> Result<LinkAddr, Box<dyn std::error::Error>> {
    getifaddrs()?
        .filter(|each| each.interface_name == interface)
        .find_map(|each| each.address?.as_link_addr().copied())
        .ok_or_else(|| "no such interface in this namespace".into())
}

/// One frame of the plan's length, from `src`.
fn frame(plan: &Plan, src: [u8; 6]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(plan.length);
    frame.extend(plan.dst);
    frame.extend(src);
    match &plan.udp {
        None => frame.extend(LOCAL_EXPERIMENT),
        Some(udp) => {
            frame.extend([0x08, 0x00]);
            frame.extend(ipv4_udp(udp, plan.length - ETHERNET));
        }
    }
    frame.resize(plan.length, 0);
    frame
}

/// The IPv4 and UDP headers of a packet of `length` bytes; the UDP checksum is left out (RFC 768 allows it).
fn ipv4_udp(udp: &Udp, length: usize) -> Vec<u8> {
    // At most FRAME_BYTES_MAX: it fits.
    let word = |n: usize| (n as u16).to_be_bytes();
    let mut ip = vec![0x45, 0];
    ip.extend(word(length));
    ip.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    ip.extend(udp.src.octets());
    ip.extend(udp.dst.octets());
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    ip.extend(udp.src_port.to_be_bytes());
    ip.extend(udp.dst_port.to_be_bytes());
    ip.extend(word(length - IPV4));
    ip.extend([0, 0]);
    ip
}

/// RFC 1071, of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks_exact(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(line: &str) -> Option<Plan> {
        parse(&line.split_whitespace().map(String::from).collect::<Vec<_>>())
    }

    #[test]
    fn a_local_experiment_frame() {
        let plan = plan("eth0 02:00:00:00:00:01 3 60").unwrap();
        let made = frame(&plan, [2, 0, 0, 0, 0, 2]);
        assert_eq!(made.len(), 60);
        assert_eq!(made[..14], [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5]);
    }

    #[test]
    fn a_udp_frame_has_a_right_header_checksum() {
        let plan = plan("eth0 02:00:00:00:00:01 0.5 100 10.0.0.2 10.0.0.1 7 9 16").unwrap();
        let made = frame(&plan, [2, 0, 0, 0, 0, 2]);
        assert_eq!((made.len(), &made[12..16]), (100, &[8, 0, 0x45, 0][..]));
        assert_eq!(checksum(&made[14..34]), 0, "a sum over a right header is 0");
        assert_eq!(made[34..42], [0, 7, 0, 9, 0, 66, 0, 0]);
    }

    #[test]
    fn wrong_command_lines_are_refused() {
        for line in [
            "",
            "eth0",
            "eth0 02:00:00:00:00 1 60",
            "eth0 02:00:00:00:00:01 1 13",
            "eth0 02:00:00:00:00:01 1 2049",
            "eth0 02:00:00:00:00:01 -1 60",
            "eth0 02:00:00:00:00:01 1 41 10.0.0.2 10.0.0.1 7 9",
            "eth0 02:00:00:00:00:01 1 60 10.0.0.2",
            "eth0 02:00:00:00:00:01 1 60 10.0.0.2 10.0.0.1 7 9 0",
        ] {
            assert!(plan(line).is_none(), "{line}");
        }
    }
}
