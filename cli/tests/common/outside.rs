//! The world outside: a namespace at the far end of an uplink, a switch that has the uplink, and who talks across it.
use super::{Background, Switch, TestNs, has, inside, inside_ok, ip, privileged};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrIn, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The switch's address outside.
pub const OURS: &str = "198.51.100.2";
/// Its router.
pub const ROUTER: &str = "198.51.100.1";
/// Hosts behind the router.
pub const HOSTS: [&str; 3] = ["203.0.113.1", "203.0.113.2", "203.0.113.3"];
/// The gateway inside.
pub const GATEWAY: &str = "10.77.0.1";
/// How long one who will not be answered waits.
const PATIENCE: Duration = Duration::from_millis(300);
/// How long one waits who will be.
const LIMIT: Duration = Duration::from_secs(5);

/// An interface of the host, removed however the test ends.
struct HostLink(String);

impl Drop for HostLink {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "del", &self.0]).output();
    }
}

/// A switch with an uplink. What is untranslated on it is caught as long as it is there.
pub struct World {
    pub switch: Switch,
    leaks: Background,
    link: HostLink,
    pub outside: TestNs,
}

/// An attached namespace.
pub struct Inmate {
    pub ns: TestNs,
    pub name: String,
    pub ip: Ipv4Addr,
}

impl World {
    /// None, after saying SKIP, without root or one of the programs; in CI that is a failure.
    pub fn new(what: &str, programs: &[&str]) -> Option<Self> {
        Self::with(what, programs, &[])
    }

    /// The same with more for `up`.
    pub fn with(what: &str, programs: &[&str], flags: &[&str]) -> Option<Self> {
        privileged()?;
        has(&[programs, &["tcpdump"]].concat())?;
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let link = HostLink(format!("vo{}-{}", std::process::id(), SERIAL.fetch_add(1, Ordering::Relaxed)));
        let (switch, outside) = (Switch::new(), TestNs::new(&format!("{what}-out")));
        let name = &outside.name;
        ip(&["link", "add", &link.0, "type", "veth", "peer", "name", "eth0", "netns", name]);
        ip(&["-n", name, "address", "add", &format!("{ROUTER}/24"), "dev", "eth0"]);
        for host in HOSTS {
            ip(&["-n", name, "address", "add", &format!("{host}/32"), "dev", "lo"]);
        }
        for command in [&["-n", name, "link", "set", "lo", "up"], &["-n", name, "link", "set", "eth0", "up"]] {
            ip(command);
        }
        ip(&["link", "set", &link.0, "up"]);
        // Who is inside, or tells of who is: an error that quotes it too.
        let filter = "src net 10.0.0.0/8 or src net fc00::/7 or (icmp and (icmp[0] = 3 or icmp[0] = 11) and (icmp[20] = 10 or icmp[24] = 10))";
        let mut tcpdump = inside(&outside, &["tcpdump", "--immediate-mode", "-l", "-nn", "-i", "eth0", filter]);
        let mut tcpdump = tcpdump.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(tcpdump.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("listening on") {
            line.clear();
            assert!(said.read_line(&mut line).unwrap() > 0, "tcpdump does not listen");
        }
        switch.ok(&[&["up", "--subnet", "10.77.0.0/24"], flags].concat());
        let world = Self { switch, leaks: Background(tcpdump), link, outside };
        let set = world.set_uplink();
        assert!(set.starts_with(&format!("uplink packet {} ({OURS}/24), mac ", world.iface())), "{set}");
        Some(world)
    }

    pub fn iface(&self) -> &str {
        &self.link.0
    }

    pub fn set_uplink(&self) -> String {
        self.switch.ok(&["uplink", "set", "packet", self.iface(), "--ip", &format!("{OURS}/24"), "--gateway", ROUTER])
    }

    /// A new namespace, attached by `name`.
    pub fn attach(&self, name: &str) -> Inmate {
        let ns = TestNs::new(name);
        let ip = self.switch.attach(&[&ns.name, "--name", name]).parse().unwrap();
        Inmate { ns, name: name.into(), ip }
    }

    pub fn publish(&self, words: &[&str]) {
        assert_eq!(self.switch.ok(&[&["publish"], words].concat()), "");
    }

    /// Asserts, at the end, that nothing left untranslated and every frame is accounted for.
    pub fn end(mut self) {
        self.switch.assert_balanced();
        // What it has seen last is on its way to us.
        std::thread::sleep(Duration::from_millis(50));
        self.leaks.kill();
        let mut seen = String::new();
        self.leaks.0.stdout.take().unwrap().read_to_string(&mut seen).unwrap();
        assert_eq!(seen, "", "left untranslated");
    }
}

/// Does it in a namespace; sockets that are made there stay there.
pub fn within<T: Send>(ns: &TestNs, job: impl FnOnce() -> T + Send) -> T {
    let ns = File::open(format!("/run/netns/{}", ns.name)).unwrap();
    let done = std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            setns(ns, CloneFlags::CLONE_NEWNET).unwrap();
            job()
        });
        worker.join()
    });
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

pub fn to(address: impl ToString, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(address.to_string().parse().unwrap(), port)
}

/// Answers on a TCP and a UDP port to the test's end, each line or datagram with its name, the peer as it sees it, and what came.
pub fn serve(ns: &TestNs, name: &'static str, at: SocketAddrV4) {
    let (tcp, udp) = within(ns, || (TcpListener::bind(at).unwrap(), UdpSocket::bind(at).unwrap()));
    std::thread::spawn(move || {
        for stream in tcp.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || -> io::Result<()> {
                let peer = stream.peer_addr()?;
                for line in BufReader::new(stream.try_clone()?).lines() {
                    stream.write_all(format!("{name} {peer} {}\n", line?).as_bytes())?;
                }
                Ok(())
            });
        }
    });
    std::thread::spawn(move || {
        let mut datagram = [0; 2_048];
        // A refusal that came back is an error of the next call.
        loop {
            if let Ok((len, peer)) = udp.recv_from(&mut datagram) {
                let _ = udp.send_to(format!("{name} {peer} {}\n", String::from_utf8_lossy(&datagram[..len])).as_bytes(), peer);
            }
        }
    });
}

/// A port at every address.
pub fn any(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port)
}

/// What a server said.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub name: String,
    pub peer: SocketAddrV4,
    pub text: String,
}

impl Answer {
    fn parse(said: &str) -> Self {
        let words: Vec<&str> = said.trim_end().splitn(3, ' ').collect();
        Self { name: words[0].into(), peer: words[1].parse().unwrap(), text: words[2].into() }
    }
}

/// A TCP connection to a server.
pub struct Call(pub BufReader<TcpStream>);

impl Call {
    /// From an address of the namespace and a port that is free, or from any with `0.0.0.0`.
    pub fn from(ns: &TestNs, own: &str, server: SocketAddrV4, patience: Duration) -> io::Result<Self> {
        within(ns, || {
            let fd = socket::socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
            // It goes for connect(2) too.
            socket::setsockopt(&fd, sockopt::SendTimeout, &TimeVal::milliseconds(patience.as_millis() as i64))?;
            socket::bind(fd.as_raw_fd(), &SockaddrIn::from(to(own, 0)))?;
            socket::connect(fd.as_raw_fd(), &SockaddrIn::from(server))?;
            let stream = TcpStream::from(fd);
            stream.set_write_timeout(Some(LIMIT))?;
            stream.set_read_timeout(Some(LIMIT))?;
            Ok(Self(BufReader::new(stream)))
        })
    }

    pub fn new(ns: &TestNs, server: SocketAddrV4) -> Self {
        Self::from(ns, "0.0.0.0", server, LIMIT).unwrap_or_else(|error| panic!("{}: {server}: {error}", ns.name))
    }

    /// One that nobody answers: neither with a connection nor with a refusal.
    pub fn is_in_vain(ns: &TestNs, own: &str, server: SocketAddrV4) -> bool {
        let Err(error) = Self::from(ns, own, server, PATIENCE) else { return false };
        assert_eq!(error.raw_os_error(), Some(libc::EINPROGRESS), "{server} is to be silent: {error}");
        true
    }

    pub fn say(&mut self, text: &str) -> Answer {
        self.0.get_mut().write_all(format!("{text}\n").as_bytes()).unwrap();
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        let answer = Answer::parse(&line);
        assert_eq!(answer.text, text);
        answer
    }

    /// As the client sees it.
    pub fn own(&self) -> SocketAddr {
        self.0.get_ref().local_addr().unwrap()
    }
}

/// A UDP socket of a namespace, from which is asked.
pub struct Asker(pub UdpSocket);

impl Asker {
    pub fn new(ns: &TestNs, own: SocketAddrV4) -> Self {
        Self(within(ns, || UdpSocket::bind(own).unwrap()))
    }

    pub fn try_ask(&self, server: SocketAddrV4, text: &str, patience: Duration) -> Option<Answer> {
        self.0.set_read_timeout(Some(patience)).unwrap();
        self.0.send_to(text.as_bytes(), server).unwrap();
        let mut datagram = [0; 2_048];
        let (len, from) = self.0.recv_from(&mut datagram).ok()?;
        // N67: from where it was asked.
        assert_eq!(from, server.into());
        let answer = Answer::parse(std::str::from_utf8(&datagram[..len]).unwrap());
        assert_eq!(answer.text, text);
        Some(answer)
    }

    pub fn ask(&self, server: SocketAddrV4, text: &str) -> Answer {
        self.try_ask(server, text, LIMIT).unwrap_or_else(|| panic!("{server} is silent"))
    }

    pub fn is_in_vain(&self, server: SocketAddrV4) -> bool {
        self.try_ask(server, "is anybody there?", PATIENCE).is_none()
    }
}

fn octet(at: usize) -> u8 {
    (at % 251) as u8
}

/// Sends `octets` of a pattern one way, all of which must arrive as they are.
pub fn stream(mut from: TcpStream, mut into: TcpStream, octets: usize) {
    const CHUNK: usize = 251 * 256;
    let chunk: Vec<u8> = (0..CHUNK).map(octet).collect();
    into.set_read_timeout(Some(LIMIT)).unwrap();
    from.set_write_timeout(Some(LIMIT)).unwrap();
    let chunks = octets.div_ceil(CHUNK);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..chunks {
                from.write_all(&chunk).unwrap();
            }
        });
        let mut came = vec![0; CHUNK];
        for number in 0..chunks {
            into.read_exact(&mut came).unwrap_or_else(|error| panic!("chunk {number} of {chunks}: {error}"));
            assert!(came == chunk, "chunk {number} came altered");
        }
    });
}

/// Both ends of a TCP connection to a server at `at`, which the client calls at `call`.
pub fn connection(client: &TestNs, call: SocketAddrV4, server: &TestNs, at: SocketAddrV4) -> [TcpStream; 2] {
    let listener = within(server, || TcpListener::bind(at).unwrap());
    let call = Call::new(client, call);
    let (accepted, _) = listener.accept().unwrap();
    [call.0.into_inner(), accepted]
}
