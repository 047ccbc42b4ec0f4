//! Sockets as the uplink: a host that is a namespace of its own, servers outside behind its link, containers inside.
use super::outside::{Inmate, within};
use super::{Background, Switch, TestNs, has, inside, inside_ok, ip, privileged, wait_for};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The host's addresses.
pub const HOST: [&str; 2] = ["198.51.100.2", "198.51.100.3"];
pub const HOST6: &str = "2001:db8::2";
/// Servers outside.
pub const FAR: [&str; 3] = ["198.51.100.10", "198.51.100.11", "198.51.100.12"];
pub const FAR6: &str = "2001:db8::10";
/// The gateway inside.
pub const GATEWAY: &str = "10.77.0.1";
/// How long one waits for what is to come.
pub const LIMIT: Duration = Duration::from_secs(10);
/// What "at once" is, on a busy machine.
pub const AT_ONCE: Duration = Duration::from_millis(900);
/// How long one waits for what is not to come.
pub const PATIENCE: Duration = Duration::from_millis(300);

/// See the module's text.
pub struct Realm {
    pub switch: Switch,
    pub host: TestNs,
    pub outside: TestNs,
}

impl Realm {
    /// None, after saying SKIP, without root or one of the programs; in CI that is a failure.
    pub fn new(what: &str, programs: &[&str]) -> Option<Self> {
        Self::by_way_of(what, programs, &[])
    }

    /// The same, whose switch is started by way of another program.
    pub fn by_way_of(what: &str, programs: &[&str], words: &[&str]) -> Option<Self> {
        privileged()?;
        has(programs)?;
        let [host, outside] = ["h", "o"].map(|end| TestNs::new(&format!("{what}-{end}")));
        let way: Vec<String> = ["ip", "netns", "exec", &host.name].iter().chain(words).map(ToString::to_string).collect();
        let realm = Self { switch: Switch::new().by_way_of(&way), host, outside };
        let (h, o) = (&realm.host, &realm.outside);
        // A link-local address takes a second to be sure of (RFC 4862 5.4), and the first solicitation waits for that.
        for (ns, part) in [(h, "all"), (h, "default"), (o, "all"), (o, "default")] {
            sysctl(ns, &format!("net.ipv6.conf.{part}.accept_dad=0"));
        }
        ip(&["-n", &h.name, "link", "add", "up0", "type", "veth", "peer", "name", "far0", "netns", &o.name]);
        for (ns, iface, v4, v6) in [(h, "up0", &HOST[..], HOST6), (o, "far0", &FAR[..], FAR6)] {
            for address in v4 {
                ip(&["-n", &ns.name, "address", "add", &format!("{address}/24"), "dev", iface]);
            }
            ip(&["-n", &ns.name, "address", "add", &format!("{v6}/64"), "dev", iface, "nodad"]);
            ip(&["-n", &ns.name, "link", "set", "lo", "up"]);
            ip(&["-n", &ns.name, "link", "set", iface, "up"]);
        }
        ip(&["-n", &h.name, "route", "add", "default", "via", FAR[0]]);
        ip(&["-n", &h.name, "route", "add", "default", "via", FAR6]);
        // A link that has just come up has IPv6 a moment later.
        wait_for("IPv6", || inside(h, &["ping", "-c", "1", "-W", "0.2", FAR6]).output().unwrap().status.success());
        sysctl(h, "net.ipv4.ping_group_range=0 2147483647");
        realm.switch.ok(&["up", "--subnet", "10.77.0.0/24"]);
        Some(realm)
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

    /// Files that the daemon has open.
    pub fn fds(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.switch.pid().unwrap())).unwrap().count()
    }

    /// KiB of memory that the daemon has.
    pub fn rss(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.switch.pid().unwrap())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Waits until the daemon has no more files open than `before`.
    pub fn wait_for_fds(&self, before: usize) {
        let until = Instant::now() + LIMIT;
        while self.fds() > before {
            assert!(Instant::now() < until, "{} files open, {before} before: {}", self.fds(), self.switch.ok(&["flows"]));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Lines of the daemon's log with `text` in it.
    pub fn logged(&self, text: &str) -> usize {
        let log = std::fs::read_to_string(self.switch.run_dir().join("log")).unwrap();
        log.lines().filter(|line| line.contains(text)).count()
    }

    /// Asserts, at the end, that every frame is accounted for.
    pub fn end(self) {
        self.switch.assert_balanced();
    }
}

pub fn sysctl(ns: &TestNs, setting: &str) {
    inside_ok(ns, &["sysctl", "-q", "-w", setting]);
}

/// An address and a port, of either family.
pub fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse::<IpAddr>().unwrap(), port)
}

pub fn listen(ns: &TestNs, at: SocketAddr) -> TcpListener {
    within(ns, || TcpListener::bind(at).unwrap())
}

/// A connection, or the error that it ended with, and how long that took.
pub fn dial(ns: &TestNs, to: SocketAddr) -> std::io::Result<TcpStream> {
    within(ns, || {
        let stream = TcpStream::connect_timeout(&to, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        Ok(stream)
    })
}

/// The errno that a connection ends with; it must come at once.
pub fn refusal(ns: &TestNs, to: SocketAddr) -> i32 {
    let start = Instant::now();
    let error = dial(ns, to).err().unwrap_or_else(|| panic!("{to} is connected to"));
    assert!(start.elapsed() < AT_ONCE, "{to}: {error} after {:?}", start.elapsed());
    error.raw_os_error().unwrap_or_else(|| panic!("{to}: {error}"))
}

/// Both ends of a connection: the caller's, and the server's.
pub fn pair(client: &TestNs, to: SocketAddr, server: &TestNs, bound: SocketAddr) -> [TcpStream; 2] {
    let listener = listen(server, bound);
    let caller = dial(client, to).unwrap_or_else(|error| panic!("{to}: {error}"));
    let (accepted, _) = listener.accept().unwrap();
    accepted.set_read_timeout(Some(LIMIT)).unwrap();
    accepted.set_write_timeout(Some(LIMIT)).unwrap();
    [caller, accepted]
}

/// Answers each line on a TCP port, to the test's end, with a name, the peer as it sees it, and the line.
pub fn serve_lines(ns: &TestNs, name: &'static str, bound: SocketAddr) {
    let listener = listen(ns, bound);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || -> std::io::Result<()> {
                use std::io::BufRead;
                let peer = stream.peer_addr()?;
                for line in std::io::BufReader::new(stream.try_clone()?).lines() {
                    stream.write_all(format!("{name} {} {}\n", peer.ip(), line?).as_bytes())?;
                }
                Ok(())
            });
        }
    });
}

/// What a server of lines says to one: its name and who it took us for.
pub fn asked(ns: &TestNs, to: SocketAddr) -> (String, String) {
    let stream = dial(ns, to).unwrap_or_else(|error| panic!("{}: {to}: {error}", ns.name));
    answered(&stream)
}

pub fn answered(mut stream: &TcpStream) -> (String, String) {
    stream.write_all(b"hello\n").unwrap();
    let mut said = Vec::new();
    let mut octet = [0];
    while said.last() != Some(&b'\n') {
        assert_eq!(stream.read(&mut octet).unwrap(), 1, "ended");
        said.push(octet[0]);
    }
    let said = String::from_utf8(said).unwrap();
    let words: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(words[2], "hello");
    (words[0].into(), words[1].into())
}

/// A UDP socket of a namespace.
pub fn udp(ns: &TestNs, bound: SocketAddr) -> UdpSocket {
    let socket = within(ns, || UdpSocket::bind(bound).unwrap());
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket
}

/// Answers each datagram, to the test's end, with itself.
pub fn echo(ns: &TestNs, bound: SocketAddr) {
    let socket = udp(ns, bound);
    socket.set_read_timeout(None).unwrap();
    std::thread::spawn(move || {
        let mut datagram = vec![0; 65_536];
        loop {
            if let Ok((len, peer)) = socket.recv_from(&mut datagram) {
                let _ = socket.send_to(&datagram[..len], peer);
            }
        }
    });
}

/// A pattern.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

/// Sends `octets` of a pattern.
pub fn pour(mut into: &TcpStream, octets: usize) -> std::io::Result<()> {
    let chunk = pattern(251 * 256);
    let mut left = octets;
    while left > 0 {
        let len = left.min(chunk.len());
        into.write_all(&chunk[..len])?;
        left -= len;
    }
    Ok(())
}

/// Reads `octets` of the pattern, all as they were sent.
pub fn drain(mut from: &TcpStream, octets: usize) {
    let chunk = pattern(251 * 256);
    let mut came = vec![0; chunk.len()];
    let mut left = octets;
    while left > 0 {
        let len = left.min(chunk.len());
        from.read_exact(&mut came[..len]).unwrap_or_else(|error| panic!("{left} of {octets} left: {error}"));
        assert!(came[..len] == chunk[..len], "altered with {left} left");
        left -= len;
    }
}

/// nginx on port 80 of both families, which serves `/page`; and its access log.
pub fn nginx(ns: &TestNs, dir: &std::path::Path, page: &[u8]) -> Background {
    std::fs::write(dir.join("page"), page).unwrap();
    let dir = dir.to_str().unwrap();
    let config = format!(
        "daemon off; master_process off; pid {dir}/pid; error_log {dir}/error; events {{}}\n\
         http {{ access_log {dir}/access; client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f;\n\
         uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s; server {{ listen 80; listen [::]:80; root {dir}; }} }}\n"
    );
    let file = format!("{dir}/nginx.conf");
    std::fs::write(&file, config).unwrap();
    let mut command = inside(ns, &["nginx", "-c", &file]);
    let server = Background::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
    wait_for("nginx", || within(ns, || TcpStream::connect(("127.0.0.1", 80)).is_ok()));
    server
}
