"""The laboratory: network namespaces and processes that a comparison makes, and removes on every way out.

Every namespace is named after this process (vsb<pid>-...), every process is started here and ended by its own id. Nothing outside
these namespaces is touched: no interface, address, rule or system service of the host. The one exception must be asked for (--tune):
sysctls that are the whole machine's, put back on every way out.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

READY_SECONDS = 10.0  # How long anything may take to become ready
STOP_SECONDS = 10.0  # How long a process may take to end when asked, before it is killed
POLL_SECONDS = 0.005
INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# Where each tool comes from, in Debian's names.
PACKAGES = {
    "arping": "iputils-arping",
    "ip": "iproute2",
    "iperf3": "iperf3",
    "ip6tables": "iptables",
    "iptables": "iptables",
    "nginx": "nginx-light",
    "ovs-vsctl": "openvswitch-switch",
    "ovs-vswitchd": "openvswitch-switch",
    "ovsdb-server": "openvswitch-switch",
    "ovsdb-tool": "openvswitch-switch",
    "pasta": "passt",
    "ping": "iputils-ping",
    "slirp4netns": "slirp4netns",
    "taskset": "util-linux",
    "wrk": "wrk",
}


class LabError(Exception):
    """Something that makes a measurement impossible or worthless. Its text says what to do where that is known."""


def need_tools(names):
    """Refuses to start without the tools, naming the packages that have them."""
    os.environ["PATH"] += os.pathsep + "/usr/sbin" + os.pathsep + "/sbin"
    missing = sorted(name for name in names if shutil.which(name) is None)
    if missing:
        packages = " ".join(sorted({PACKAGES[name] for name in missing}))
        raise LabError(f'missing {", ".join(missing)}: "sudo apt-get install {packages}"')


def run(*command, check=True, timeout=60.0, env=None):
    """Runs a command to its end and returns its standard output; an error carries what it said."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, env=env)
    except subprocess.TimeoutExpired as late:
        raise LabError(f'"{" ".join(command)}" took over {timeout:.0f} s') from late
    if check and done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing")[-600:]
        raise LabError(f'"{" ".join(command)}" ended with {done.returncode}, saying: {said}')
    return done.stdout


def write(path, value):
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(value)
    except OSError as error:
        raise LabError(f"{path} cannot be set to {value}: {error.strerror}") from error


def wait_for(what, condition, seconds=READY_SECONDS):
    """Waits until condition() is true; it may raise LabError to give up at once."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"{what} did not happen within {seconds:.0f} s")
        time.sleep(POLL_SECONDS)


@contextlib.contextmanager
def undisturbed():
    """Puts ^C and its like off until the block is done, so that nothing is half recorded or half removed."""
    arrived = []
    before = {number: signal.signal(number, lambda number, _: arrived.append(number)) for number in INTERRUPTS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if arrived:
        raise KeyboardInterrupt


class Process:
    """A forwarder or a server: in a session of its own (setsid), its output in a log file."""

    def __init__(self, command, log, env=None):
        self.command = command
        self.log = log
        with open(log, "wb") as sink:
            # The scheduler groups tasks by session (sched_autogroup): a forwarder in the client's group would lose 20 %.
            self.child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=env, start_new_session=True
            )
        self.pid = self.child.pid

    def said(self):
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read()

    def check(self):
        if self.child.poll() is not None:
            raise LabError(f'"{" ".join(self.command)}" ended early with {self.child.returncode}: {self.said().strip()[-600:]}')

    def wait_until_it_says(self, text):
        def ready():
            if text in self.said():
                return True
            self.check()
            return False

        wait_for(f'"{text}" from "{" ".join(self.command)}"', ready)

    def wait(self, seconds):
        try:
            return self.child.wait(seconds)
        except subprocess.TimeoutExpired as late:
            raise LabError(f'"{" ".join(self.command)}" did not end within {seconds:.0f} s') from late

    def stop(self):
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.child.poll() is None:
                self.child.send_signal(number)
                try:
                    self.child.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    pass


class Lab:
    """One set-up: its namespaces, processes and scratch directory. `with Lab() as lab:` undoes all of it."""

    serial = 0
    # Measure over IPv6: every namespace speaks it, and every forwarder has addresses of both families.
    ipv6 = False
    # `--workers` of vswitch's daemons.
    workers = 1

    def __init__(self):
        Lab.serial += 1
        self.prefix = f"vsb{os.getpid()}-{Lab.serial}-"
        self.spaces = []
        self.processes = []
        self.settings = {}
        self.directory = None

    def __enter__(self):
        self.directory = tempfile.mkdtemp(prefix="vswitch-compare-")
        # A daemon that gives up root must still reach its own directory inside.
        os.chmod(self.directory, 0o711)
        return self

    def __exit__(self, *_):
        with undisturbed():
            self.stop_from(0)
            for path, value in self.settings.items():
                try:
                    write(path, value)
                except LabError as error:
                    print(f"compare: {error}: set it back by hand", file=sys.stderr, flush=True)
            for name in self.spaces:
                run("ip", "netns", "del", name, check=False)
            shutil.rmtree(self.directory, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.directory, name)

    def start(self, *command, env=None):
        with undisturbed():
            process = Process(command, self.path(f"log{len(self.processes)}"), env)
            self.processes.append(process)
        return process

    def stop_from(self, count):
        """Stops every process but the first `count`, the youngest first."""
        for process in reversed(self.processes[count:]):
            process.stop()

    def set_for_now(self, settings):
        """Sets sysctls of the whole machine, {path: value}, until this laboratory is left. The one thing that it touches outside."""
        with undisturbed():
            for path, value in settings.items():
                with open(path, encoding="ascii") as file:
                    self.settings.setdefault(path, file.read().strip())
                write(path, value)

    def namespace(self, label):
        """A namespace with nothing in it that speaks unasked (no IPv6: no router solicitations, no MLD), unless IPv6 is measured."""
        name = self.prefix + label
        self.spaces.append(name)
        run("ip", "netns", "add", name)
        # With IPv6, an address is good at once.
        setting, value = ("accept_dad", 0) if self.ipv6 else ("disable_ipv6", 1)
        files = " ".join(f"/proc/sys/net/ipv6/conf/{which}/{setting}" for which in ("all", "default"))
        self.inside(name, "sh", "-c", f"echo {value} | tee {files}")
        run("ip", "-n", name, "link", "set", "lo", "up")
        return name

    def inside(self, name, *command, **options):
        return run("ip", "netns", "exec", name, *command, **options)

    def start_inside(self, name, *command, env=None):
        return self.start("ip", "netns", "exec", name, *command, env=env)

    def veth(self, host, port, inside):
        """A veth pair: eth0 in the namespace `inside`, `port` in the namespace `host`, which stays silent on it."""
        run("ip", "-n", host, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", inside)
        run("ip", "-n", host, "link", "set", port, "arp", "off", "addrgenmode", "none", "up")

    def address(self, name, address):
        run("ip", "-n", name, "address", "add", address + "/24", "dev", "eth0")
        run("ip", "-n", name, "link", "set", "eth0", "up")

    def address6(self, name, address, interface="eth0", length=64):
        """The same in IPv6, where that is measured, to an interface that is up."""
        if self.ipv6:
            run("ip", "-n", name, "address", "add", f"{address}/{length}", "dev", interface, "nodad")

    def route6(self, name, router):
        if self.ipv6:
            run("ip", "-n", name, "route", "add", "default", "via", router)

    def mac(self, name):
        return json.loads(run("ip", "-n", name, "-json", "link", "show", "eth0"))[0]["address"]
