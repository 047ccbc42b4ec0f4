//! The containers of real engines: Docker's, and rootless Podman's. Each engine is started for the test, in namespaces of its own with
//! its files in a directory of its own, and ends with them. `tests/run` does not install engines: where one is absent, so is its test.
mod common;

use common::{Background, Switch, privileged, skip, wait_for};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// The user who has rootless containers.
const USER: u32 = 4_260;

/// None, after saying so, where a program is absent; in CI too.
fn present(programs: &[(&str, &str)]) -> Option<()> {
    for (program, package) in programs {
        if !vswitch_tests::netns::is_there(program) {
            eprintln!(
                "SKIP: no {program} (\"apt-get install {package}\"; tests/run does not install engines, so this is no failure in CI)"
            );
            return None;
        }
    }
    Some(())
}

/// A mount and a PID namespace: with its first process ends all that was started in it, and its mounts.
struct Stage {
    first: Background,
    dir: Option<TempDir>,
}

impl Stage {
    /// `setup` is shell, in the new directory, run before anything else there. None, after saying why, where it fails.
    fn new(setup: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let script = format!("set -e\n{IMAGE}{setup}: >ready\nexec sleep 600\n");
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let flags = ["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c"];
        let mut command = Command::new("setpriv");
        command.args(flags).arg(script).current_dir(dir.path()).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut stage = Self { first: Background::start(&mut command), dir: Some(dir) };
        let mut ended = false;
        wait_for("the engine's namespaces", || {
            ended = stage.first.0.try_wait().unwrap().is_some();
            ended || stage.path().join("ready").exists()
        });
        if ended {
            skip(&format!("an engine's namespaces cannot be made: {}", stage.log()))?;
        }
        Some(stage)
    }

    fn path(&self) -> &Path {
        self.dir.as_ref().unwrap().path()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("log")).unwrap_or_default()
    }

    /// The process that is 1 inside.
    fn init(&self) -> Option<String> {
        let pid = self.first.pid();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        children.split_whitespace().next().map(Into::into)
    }

    /// What starts a program in it with an environment.
    fn way(&self, environment: &[String]) -> Vec<String> {
        let dir = self.path().to_str().unwrap();
        let init = self.init().expect("the engine's namespaces have ended");
        let words = ["nsenter", "-t", &init, "-m", "-p", "--", "env", "-C", dir].map(String::from);
        words.into_iter().chain(environment.iter().cloned()).collect()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the engine's log:\n{}", self.log());
        }
        if let Some(init) = self.init().and_then(|pid| pid.parse().ok()) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(init), nix::sys::signal::Signal::SIGKILL);
            // It is not reaped before all others there are.
            let _ = self.first.0.wait();
        }
        self.first.kill();
        // The kernel may take a moment to unmount.
        let dir = self.dir.take().unwrap();
        for _ in 0..50 {
            if std::fs::remove_dir_all(dir.path()).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// An image: busybox, which must be static.
const IMAGE: &str = "mkdir -p image/bin\n\
    cp \"$(command -v busybox)\" image/bin/busybox\n\
    for name in sh sleep ping ip; do ln -s busybox image/bin/$name; done\n\
    tar -C image -cf image.tar .\n";

/// Control groups that a killed engine leaves.
struct Groups(String);

impl Drop for Groups {
    fn drop(&mut self) {
        fn remove(dir: &Path) {
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    remove(&entry.path());
                }
            }
            let _ = std::fs::remove_dir(dir);
        }
        let root = Path::new("/sys/fs/cgroup");
        let hierarchies = std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
        hierarchies.chain([root.into()]).for_each(|hierarchy| remove(&hierarchy.join(&self.0)));
    }
}

/// An engine and the switch of whoever uses it.
struct Engine<'a> {
    name: &'a str,
    program: Vec<&'a str>,
    switch: &'a Switch,
}

impl Engine<'_> {
    fn try_run(&self, args: &[&str]) -> Result<String, String> {
        let words = [&self.program[1..], args].concat();
        let output = self.switch.program(self.program[0], &words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if output.status.success() { Ok(said) } else { Err(said + &String::from_utf8_lossy(&output.stderr)) }
    }

    fn run(&self, args: &[&str]) -> String {
        self.try_run(args).unwrap_or_else(|error| panic!("{} {args:?}: {error}", self.name))
    }

    /// A container without network that sleeps. (NET_RAW is for ping; Podman takes it away.)
    fn start(&self, name: &str, args: &[&str]) -> Result<String, String> {
        let run = ["run", "-d", "--name", name, "--network", "none", "--cap-add", "NET_RAW"];
        self.try_run(&[&run, args, &["vswitch-test", "sleep", "600"]].concat())
    }

    fn pid(&self, name: &str) -> String {
        self.run(&["inspect", "--type", "container", "-f", "{{.State.Pid}}", name])
    }

    fn has_eth0(&self, name: &str) -> bool {
        self.run(&["exec", name, "ip", "-o", "link"]).contains("eth0")
    }

    fn ping(&self, from: &str, address: &str) {
        let said = self.run(&["exec", from, "ping", "-c", "2", "-W", "2", address]);
        assert!(said.contains(" 0% packet loss"), "{said}");
    }

    /// Two containers that run: attached by name and by PID, detached, ended, started again.
    fn journey(&self, first: &str, second: &str) {
        let switch = self.switch;
        let named = |name: &str| format!("{}:{name}", self.name);
        let address = switch.attach(&[&named(first)]);
        let other = switch.attach(&[&self.pid(second), "--name", second]);
        assert_eq!(switch.attached(), [first, second]);
        self.ping(first, &other);
        self.ping(second, &address);
        // The other way round, and over the other kind of port.
        switch.ok(&["detach", &self.pid(first)]);
        switch.ok(&["detach", &named(second)]);
        assert!(!self.has_eth0(first) && !self.has_eth0(second));
        let address = switch.attach(&[&self.pid(first), "--name", first]);
        let other = switch.attach(&[&named(second), "--type", "veth"]);
        self.ping(first, &other);
        self.ping(second, &address);
        assert!(switch.ok(&["exec", first, "ip", "-o", "-4", "addr"]).contains(&format!("{address}/")));
        // A container that ends frees its port.
        self.run(&["kill", first]);
        switch.wait_until_gone(first);
        wait_for("its end", || self.pid(first) == "0");
        let error = switch.fails(1, &["attach", &named(first)]);
        assert!(error.contains(&format!("{0} container {first} does not run: \"{0} start {first}\" first", self.name)), "{error}");
        self.run(&["start", first]);
        let address = switch.attach(&[&named(first)]);
        self.ping(second, &address);
        self.run(&["kill", first]);
        self.run(&["rm", "-f", first]);
        switch.wait_until_gone(first);
        let error = switch.fails(1, &["attach", &named(first)]);
        assert!(error.contains(&format!("knows no running container {first} (")) && error.contains("o such container"), "{error}");
        assert_eq!(switch.attached(), [second]);
        switch.assert_balanced();
        switch.ok(&["detach", &named(second)]);
    }
}

#[test]
fn containers_of_docker() {
    let Some(()) = privileged() else { return };
    let Some(()) = present(&[("docker", "docker.io"), ("dockerd", "docker.io"), ("busybox", "busybox-static")]) else { return };
    let groups = Groups(format!("vst-engines-{}", std::process::id()));
    let setup = format!(
        "dockerd --data-root $PWD/data --exec-root $PWD/exec --pidfile $PWD/pid -H unix://$PWD/sock --bridge none --iptables=false \
         --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent /{} &\n",
        groups.0
    );
    let Some(stage) = Stage::new(&setup) else { return };
    let socket = format!("unix://{}/sock", stage.path().display());
    let switch = Switch::new().by_way_of(&stage.way(&[format!("DOCKER_HOST={socket}")]));
    let docker = Engine { name: "docker", program: vec!["docker"], switch: &switch };
    let mut answer = Err(String::new());
    for _ in 0..200 {
        answer = docker.try_run(&["info"]);
        if answer.is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let started = answer.and_then(|_| docker.try_run(&["import", "image.tar", "vswitch-test"]));
    if let Err(error) = started.and_then(|_| docker.start("web", &[])).and_then(|_| docker.start("db", &["--user", "1000"])) {
        let log = stage.log();
        let last = log.lines().rev().take(5).collect::<Vec<_>>().join("; ");
        let _ = skip(&format!("docker is there and does not work ({error}): {last}"));
        return;
    }
    docker.run(&["rm", "-f", "db"]);
    docker.start("db", &[]).unwrap();
    docker.journey("web", "db");
    // An ordinary user is told who may.
    let user = Switch::ordinary(USER).by_way_of(&stage.way(&[format!("DOCKER_HOST={socket}"), "HOME=/".into()]));
    let error = user.fails(1, &["attach", "docker:db"]);
    assert!(error.starts_with("docker is root's here (") && error.ends_with("\"sudo vswitch attach docker:db\""), "{error}");
    let error = user.fails(1, &["attach", &docker.pid("db")]);
    assert!(error.contains("belongs to root: \"sudo vswitch attach pid:"), "{error}");
}

/// The user, his subordinate ids and a TAP device that he may use exist in the stage alone.
const ROOTLESS: &str = r#"
[ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ] || mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs none /dev/net
mknod -m 666 /dev/net/tun c 10 200
for file in passwd group subuid subgid; do cp /etc/$file $file; done
echo "vswitch-test:x:$uid:$uid::$PWD/home:/bin/sh" >>passwd
echo "vswitch-test:x:$uid:" >>group
for file in subuid subgid; do echo vswitch-test:1000000000:65536 >>$file; done
for file in passwd group subuid subgid; do mount --bind $file /etc/$file; done
mkdir -p home/.config/containers home/run
cat >home/.config/containers/containers.conf <<END
[containers]
cgroups = "disabled"
default_ulimits = ["nofile=1024:1024"]
pids_limit = 0
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
END
chmod 700 home/run
chown -R $uid:$uid home
"#;

#[test]
fn rootless_containers_of_podman() {
    let Some(()) = privileged() else { return };
    let tools = [("podman", "podman"), ("newuidmap", "uidmap"), ("busybox", "busybox-static")];
    let Some(()) = present(&tools) else { return };
    let Some(stage) = Stage::new(&format!("uid={USER}\n{ROOTLESS}")) else { return };
    let home = format!("{}/home", stage.path().display());
    let way = stage.way(&[format!("HOME={home}"), format!("XDG_RUNTIME_DIR={home}/run")]);
    let switch = Switch::ordinary(USER).by_way_of(&way);
    let podman = Engine { name: "podman", program: vec!["podman"], switch: &switch };
    let started = podman.try_run(&["import", "image.tar", "vswitch-test"]).and_then(|_| podman.start("web", &[]));
    if let Err(error) = started {
        let _ = skip(&format!("podman is there and does not work rootless: {error}"));
        return;
    }
    // One whose process has a subordinate id; and two in user namespaces below Podman's.
    podman.start("db", &["--user", "1000"]).unwrap();
    podman.journey("web", "db");
    let keep = ["--userns", "keep-id"];
    podman.start("kept", &keep).unwrap();
    podman.start("other", &keep).unwrap();
    podman.journey("kept", "other");
    // From within Podman's user namespace: the same switch.
    switch.attach(&["podman:db"]);
    let line = podman.run(&["unshare", switch.program_path(), "attach", "podman:other"]);
    assert!(line.starts_with("other: 10."), "{line}");
    podman.ping("db", line.split_once(": ").unwrap().1.split_once('/').unwrap().0);
    switch.ok(&["detach", "db"]);
    // Another user is told who may.
    let stranger = Switch::ordinary(USER + 1).by_way_of(&stage.way(&[]));
    let pid = podman.pid("other");
    let error = stranger.fails(1, &["attach", &pid]);
    assert!(error.contains("belongs to ") && error.contains(&format!("\"sudo vswitch attach pid:{pid}\"")), "{error}");
    // Root may, by PID.
    let root = Switch::new().by_way_of(&stage.way(&[]));
    let address = root.attach(&[&podman.pid("db"), "--name", "db"]);
    assert!(root.ok(&["exec", "db", "ip", "-o", "-4", "addr"]).contains(&format!("{address}/")));
}
