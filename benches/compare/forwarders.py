"""The forwarders compared. Each is a function that sets two namespaces up in a lab and joins them; it returns a Joined."""

import dataclasses
import json
import os
import time

from lab import LabError, run, wait_for

A, B, GATEWAY = "10.99.7.1", "10.99.7.2", "10.99.7.254"
SUBNET = "10.99.7.0/24"

# The world: the uplink's link, and a host beyond it.
EXTERNAL, ROUTER = "198.51.100.2", "198.51.100.1"
REMOTE = "203.0.113.9"
IPERF, PUBLISHED = 5201, 8080

# The same in IPv6; a container of ours has an address of the switch's.
A6, GATEWAY6, SUBNET6 = "fd99:7::1", "fd99:7::fe", "fd99:7::/64"
EXTERNAL6, ROUTER6 = "2001:db8::2", "2001:db8::1"
REMOTE6 = "2001:db8:9::9"


def of_family(lab, v4, v6):
    """What is measured: one of two addresses."""
    return v6 if lab.ipv6 else v4


@dataclasses.dataclass
class Joined:
    """Two namespaces with an eth0 each, that reach each other through a forwarder: a reaches b at `target`, and where a NAT is between
    them, b reaches port IPERF of a at `published`. `gateway` answers a's pings where the target cannot be pinged; `publish` does what is
    still to do for `published`."""

    a: str
    b: str
    forwarder: object = None
    target: str = B
    published: tuple = ()
    gateway: str = ""
    publish: object = None


@dataclasses.dataclass
class Programs:
    """The programs measured, by path."""

    vswitch: str
    relay: str
    blast: str
    translate: str
    other_relay: str = ""


def pair(lab):
    return lab.namespace("a"), lab.namespace("b")


class Ours:
    """A vswitch daemon of the lab's own, with its own run directory; `home` is the namespace that it runs in, if not the host's."""

    def __init__(self, lab, programs, subnet=SUBNET, gateway=GATEWAY, name="run", home=None):
        self.lab, self.program = lab, programs.vswitch
        self.at_home = ("ip", "netns", "exec", home) if home else ()
        directory = lab.path(name)
        os.mkdir(directory, 0o755)
        self.env = dict(os.environ, VSWITCH_RUN_DIR=directory)
        self.daemon = lab.start(
            *self.at_home, self.program, "up", "--foreground", "--subnet", subnet, "--gateway", gateway,
            "--workers", str(lab.workers), env=self.env
        )

        def answers():
            self.daemon.check()
            return any(name.endswith(".sock") for name in os.listdir(directory))

        wait_for("the control socket of vswitch", answers)

    def say(self, *verb):
        run(*self.at_home, self.program, *verb, env=self.env)

    def gateway(self):
        """Its address of the family that is measured."""
        info = json.loads(run(*self.at_home, self.program, "show", "--json", env=self.env))
        return info["gateway6"].partition("/")[0] if self.lab.ipv6 else info["gateway"]

    def attach(self, name, kind, address, *options):
        """Attaches a namespace; returns the seconds that the command took."""
        start = time.perf_counter()
        self.say("attach", name, "--type", kind, "--ip", address, *options)
        return time.perf_counter() - start


def ours(kind_a, kind_b):
    def join(lab, programs):
        a, b = pair(lab)
        switch = Ours(lab, programs)
        switch.attach(a, kind_a, A)
        switch.attach(b, kind_b, B)
        return Joined(a, b, switch.daemon)

    return join


def relay(kind_a, kind_b, other=False):
    def join(lab, programs):
        a, b = pair(lab)
        middle = lab.namespace("m")
        ports = []
        for kind, name, port in ((kind_a, a, "port-a"), (kind_b, b, "port-b")):
            if kind == "packet":
                lab.veth(middle, port, name)
                ports.append(f"packet:{port}")
            else:
                ports.append(f"tap:{name}")
        program = programs.other_relay if other else programs.relay
        forwarder = lab.start_inside(middle, program, *ports)
        forwarder.wait_until_it_says("relaying")
        lab.address(a, A)
        lab.address(b, B)
        return Joined(a, b, forwarder)

    return join


def kernel_bridge(lab, _programs):
    a, b = pair(lab)
    middle = lab.namespace("m")
    run("ip", "-n", middle, "link", "add", "bridge", "type", "bridge")
    run("ip", "-n", middle, "link", "set", "bridge", "addrgenmode", "none", "up")
    for name, port, address in ((a, "port-a", A), (b, "port-b", B)):
        lab.veth(middle, port, name)
        run("ip", "-n", middle, "link", "set", port, "master", "bridge")
        lab.address(name, address)
    return Joined(a, b)


def world(lab):
    """A container's namespace, the forwarder's, whose up0 is the uplink, and the one outside: the router, and REMOTE on it."""
    a, middle, outside = lab.namespace("a"), lab.namespace("m"), lab.namespace("outside")
    lab.veth(middle, "up0", outside)
    lab.address(outside, ROUTER)
    run("ip", "-n", outside, "address", "add", REMOTE + "/32", "dev", "lo")
    lab.address6(outside, ROUTER6)
    lab.address6(outside, REMOTE6, "lo", 128)
    return a, middle, outside


def through(lab, a, outside, forwarder, port=PUBLISHED, **more):
    """A way from `a` to the host outside, which comes back to `port` of the external address."""
    target, external = of_family(lab, REMOTE, REMOTE6), of_family(lab, EXTERNAL, EXTERNAL6)
    return Joined(a, outside, forwarder, target, (external, port), **more)


def nat_ours(lab, programs):
    a, middle, outside = world(lab)
    switch = Ours(lab, programs, home=middle)
    switch.attach(a, "tap", A, "-p", f"{PUBLISHED}:{IPERF}")
    v6 = ("--ip", EXTERNAL6 + "/64", "--gateway", ROUTER6) if lab.ipv6 else ()
    switch.say("uplink", "set", "packet", "up0", "--ip", EXTERNAL + "/24", "--gateway", ROUTER, *v6)
    return through(lab, a, outside, switch.daemon)


def nat_relay(lab, programs):
    """No NAT: the container has the external address itself."""
    a, middle, outside = world(lab)
    forwarder = lab.start_inside(middle, programs.relay, f"tap:{a}", "packet:up0")
    forwarder.wait_until_it_says("relaying")
    lab.address(a, EXTERNAL)
    run("ip", "-n", a, "route", "add", "default", "via", ROUTER)
    lab.address6(a, EXTERNAL6)
    lab.route6(a, ROUTER6)
    return through(lab, a, outside, forwarder, IPERF)


def nat_kernel(lab, _programs):
    """As Docker does it: a bridge, MASQUERADE and DNAT."""
    a, middle, outside = world(lab)
    lab.veth(middle, "port-a", a)
    run("ip", "-n", middle, "link", "add", "bridge", "type", "bridge")
    run("ip", "-n", middle, "link", "set", "port-a", "master", "bridge")
    run("ip", "-n", middle, "address", "add", GATEWAY + "/24", "dev", "bridge")
    run("ip", "-n", middle, "link", "set", "bridge", "up")
    run("ip", "-n", middle, "link", "set", "up0", "arp", "on")
    run("ip", "-n", middle, "address", "add", EXTERNAL + "/24", "dev", "up0")
    run("ip", "-n", middle, "route", "add", "default", "via", ROUTER)
    lab.inside(middle, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")
    lab.address(a, A)
    run("ip", "-n", a, "route", "add", "default", "via", GATEWAY)
    if lab.ipv6:
        lab.inside(middle, "sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding")
    lab.address6(middle, GATEWAY6, "bridge")
    lab.address6(middle, EXTERNAL6, "up0")
    lab.route6(middle, ROUTER6)
    lab.address6(a, A6)
    lab.route6(a, GATEWAY6)
    nat = (of_family(lab, "iptables", "ip6tables"), "-w", "-t", "nat", "-A")
    lab.inside(middle, *nat, "POSTROUTING", "-s", of_family(lab, SUBNET, SUBNET6), "!", "-o", "bridge", "-j", "MASQUERADE")
    there = ("--dport", str(PUBLISHED), "-j", "DNAT", "--to-destination", f"{of_family(lab, A, f'[{A6}]')}:{IPERF}")
    lab.inside(middle, *nat, "PREROUTING", "!", "-i", "bridge", "-p", "tcp", *there)
    return through(lab, a, outside, None)


def open_vswitch(lab, _programs):
    """Open vSwitch's userspace datapath with its TSO on, started by hand with a database and sockets of its own."""
    a, b = pair(lab)
    middle = lab.namespace("m")
    env = dict(os.environ, OVS_RUNDIR=lab.directory, OVS_LOGDIR=lab.directory, OVS_DBDIR=lab.directory)
    schema = next(
        (path for path in ("/usr/share/openvswitch/vswitch.ovsschema", "/usr/local/share/openvswitch/vswitch.ovsschema") if os.path.exists(path)),
        None,
    )
    if schema is None:
        raise LabError('no vswitch.ovsschema: "sudo apt-get install openvswitch-switch"')
    database, socket = lab.path("conf.db"), "unix:" + lab.path("db.sock")
    run("ovsdb-tool", "create", database, schema)
    quiet = "-vsyslog:off"
    lab.start("ovsdb-server", database, quiet, "--remote=p" + socket, "--unixctl=" + lab.path("ovsdb.ctl"), env=env)
    wait_for("the socket of ovsdb-server", lambda: os.path.exists(lab.path("db.sock")))
    control = ["ovs-vsctl", "--db=" + socket, "--timeout=20"]
    run(*control, "--no-wait", "init", env=env)
    run(*control, "--no-wait", "set", "Open_vSwitch", ".", "other_config:userspace-tso-enable=true", env=env)
    for name, port, address in ((a, "port-a", A), (b, "port-b", B)):
        lab.veth(middle, port, name)
        lab.address(name, address)
    forwarder = lab.start_inside(middle, "ovs-vswitchd", socket, quiet, "--unixctl=" + lab.path("ovs.ctl"), env=env)
    run(*control, "add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev", env=env)
    run(*control, "add-port", "br0", "port-a", "--", "add-port", "br0", "port-b", env=env)
    if "userspace" not in forwarder.said().lower() or "tso" not in forwarder.said().lower():
        raise LabError("this Open vSwitch did not take userspace-tso-enable=true: it needs 2.13 or later")
    forwarder.check()
    return Joined(a, b, forwarder)


@dataclasses.dataclass
class Row:
    """A line of the comparison: how it is set up, what it is, the bare relay of the same kind, and where rows differ in it, what is measured."""

    join: object
    text: str
    floor: str = ""
    both_ways: bool = False
    tools: tuple = ()
    measures: tuple = ()
    ipv6: bool = True


# A row beside its floor, so that the two are measured close in time.
ROWS = {
    "tap-tap": Row(ours("tap", "tap"), "vswitch, TAP to TAP", "relay-tap-tap"),
    "relay-tap-tap": Row(relay("tap", "tap"), "bare relay, TAP to TAP"),
    "veth-veth": Row(ours("veth", "veth"), "vswitch, veth to veth", "relay-packet-packet"),
    "relay-packet-packet": Row(relay("packet", "packet"), "bare relay, AF_PACKET to AF_PACKET"),
    "tap-veth": Row(ours("tap", "veth"), "vswitch, TAP to veth", "relay-tap-packet", True),
    "relay-tap-packet": Row(relay("tap", "packet"), "bare relay, TAP to AF_PACKET", "", True),
    "bridge": Row(kernel_bridge, "kernel bridge, veth"),
    "ovs": Row(
        open_vswitch,
        "Open vSwitch netdev, TSO, veth",
        tools=("ovs-vsctl", "ovs-vswitchd", "ovsdb-server", "ovsdb-tool"),
    ),
}

# With --other-relay only: another build of the relay beside ours.
OTHER_ROWS = {
    "other-tap-tap": Row(relay("tap", "tap", True), "other relay, TAP to TAP", "relay-tap-tap"),
    "other-packet-packet": Row(relay("packet", "packet", True), "other relay, AF_PACKET to AF_PACKET", "relay-packet-packet"),
    "other-tap-packet": Row(relay("tap", "packet", True), "other relay, TAP to AF_PACKET", "relay-tap-packet", True),
}

# Out through NAT, to a namespace outside.
NAT_ROWS = {
    "nat": Row(nat_ours, "vswitch, NAT, TAP to packet uplink", "nat-relay"),
    "nat-relay": Row(nat_relay, "bare relay, TAP to AF_PACKET, no NAT"),
    "nat-kernel": Row(nat_kernel, "kernel bridge, MASQUERADE and DNAT", tools=("iptables",)),
}
