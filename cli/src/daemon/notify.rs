//! systemd, seen from the daemon: it is told when we are ready and when we end (sd_notify(3)), and it may hold our log.
//!
//! The socket is connected before privileges are dropped: neither Landlock nor the system call filter lets us reach it later.
use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Who is told, if anybody.
pub struct Notify(Option<UnixDatagram>);

impl Notify {
    /// As `NOTIFY_SOCKET` says.
    pub fn from_env() -> Self {
        Self(std::env::var_os("NOTIFY_SOCKET").and_then(|address| {
            connect(&address).map_err(|error| tracing::warn!("cannot tell {} that we run ({error})", address.display())).ok()
        }))
    }

    pub fn ready(&self, status: &str) {
        self.say(&format!("READY=1\nSTATUS={status}\n"));
    }

    pub fn stopping(&self) {
        self.say("STOPPING=1\n");
    }

    /// Another process of the same unit goes on (with "systemctl reload", whose command runs in the unit).
    pub fn follower(&self, pid: u32) {
        self.say(&format!("MAINPID={pid}\n"));
    }

    fn say(&self, state: &str) {
        if let Some(socket) = &self.0
            && let Err(error) = socket.send(state.as_bytes())
        {
            tracing::warn!("systemd is not told {} ({error})", state.lines().next().unwrap_or_default());
        }
    }
}

/// A path, or "@" and the name of an abstract socket.
fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    // One that does not read must not hold us up.
    socket.set_nonblocking(true)?;
    match address.as_bytes() {
        [b'@', name @ ..] => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        [b'/', ..] => socket.connect(address)?,
        _ => return Err(io::Error::new(ErrorKind::Unsupported, "neither a path nor an abstract socket")),
    }
    Ok(socket)
}

/// The command that shows our log, where standard error goes to systemd's journal.
pub fn journal() -> Option<String> {
    let stream = std::env::var("JOURNAL_STREAM").ok()?;
    let stderr = nix::sys::stat::fstat(io::stderr().as_fd()).ok()?;
    if stream != format!("{}:{}", stderr.st_dev, stderr.st_ino) {
        return None;
    }
    Some(journalctl(&std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default()))
}

/// For a process in these control groups (cgroups(7): a line ends with its path).
fn journalctl(cgroups: &str) -> String {
    let path = cgroups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
    let service = path.rsplit('/').find_map(|part| part.strip_suffix(".service")).filter(|name| !name.starts_with("user@"));
    match service {
        Some(name) if path.contains("/user@") => format!("journalctl --user -u {name}"),
        Some(name) => format!("journalctl -u {name}"),
        None => format!("journalctl _PID={}", std::process::id()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut octets = [0; 256];
        let length = socket.recv(&mut octets).unwrap();
        String::from_utf8(octets[..length].into()).unwrap()
    }

    #[test]
    fn both_kinds_of_address() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("vswitch-test-{}", std::process::id());
        let by_path = UnixDatagram::bind(&path).unwrap();
        let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        for (address, socket) in [(path.into_os_string(), by_path), (format!("@{name}").into(), by_name)] {
            let notify = Notify(Some(connect(&address).unwrap()));
            notify.ready("network default");
            notify.stopping();
            let ready = heard(&socket);
            assert_eq!(ready, "READY=1\nSTATUS=network default\n");
            assert_eq!(heard(&socket), "STOPPING=1\n");
        }
        assert_eq!(connect(OsStr::new("vsock:2:1")).unwrap_err().kind(), ErrorKind::Unsupported);
        assert!(connect(OsStr::new("/nonexistent/notify")).is_err());
    }

    #[test]
    fn nobody_who_reads_holds_us_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let _deaf = UnixDatagram::bind(&path).unwrap();
        let notify = Notify(Some(connect(path.as_os_str()).unwrap()));
        (0..10_000).for_each(|_| notify.stopping());
    }

    #[test]
    fn the_units_name_is_in_the_control_group() {
        assert_eq!(journalctl("0::/system.slice/vswitch.service\n"), "journalctl -u vswitch");
        let user = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/vswitch-a.service\n";
        assert_eq!(journalctl(user), "journalctl --user -u vswitch-a");
        for none in ["", "0::/\n", "1:cpu:/a.service\n", "0::/user.slice/user@1000.service/app.slice/x.scope\n"] {
            assert_eq!(journalctl(none), format!("journalctl _PID={}", std::process::id()), "{none}");
        }
    }
}
