"""The ways out through host sockets: vswitch's socket uplink, slirp4netns, pasta, and translate, the floor under all of them.

Each is a function as in forwarders.py. The host is played by a namespace that has an address, a default route and nothing else; the
server is in one outside, behind a veth. Everything runs as root: pasta is told to stay it (--runas 0), for its sandbox needs no user then.
"""

from forwarders import EXTERNAL, EXTERNAL6, GATEWAY, IPERF, PUBLISHED, REMOTE, ROUTER, ROUTER6, SUBNET, A, Joined, Ours, Row, of_family
from forwarders import through, world
from lab import run, wait_for

BEST_MTU = 65520  # What both recommend, and what Podman, Docker and RootlessKit set
SLIRP_GATEWAY, SLIRP_GATEWAY6 = "10.0.2.2", "fd00::2"
TRANSLATED, TRANSLATE_GATEWAY = "10.0.2.100", "10.0.2.2"
TUNED = {f"/proc/sys/net/core/{way}mem_max": str(16 << 20) for way in "rw"}


def host(lab):
    """A container's namespace, the host's, and the one outside."""
    a, middle, outside = world(lab)
    run("ip", "-n", middle, "link", "set", "up0", "arp", "on")
    run("ip", "-n", middle, "address", "add", EXTERNAL + "/24", "dev", "up0")
    run("ip", "-n", middle, "route", "add", "default", "via", ROUTER)
    lab.address6(middle, EXTERNAL6, "up0")
    # pasta uses no interface without one.
    lab.address6(middle, "fe80::2", "up0")
    lab.route6(middle, ROUTER6)
    return a, middle, outside


def configured(lab, forwarder, name):
    """Waits until a forwarder has given the container its default route."""

    def routed():
        forwarder.check()
        return "default" in run("ip", "-n", name, *(("-6",) if lab.ipv6 else ()), "route")

    wait_for(f'a default route from "{" ".join(forwarder.command)}"', routed)


def ours(lab, programs):
    a, middle, outside = host(lab)
    switch = Ours(lab, programs, SUBNET, GATEWAY, home=middle)
    switch.attach(a, "tap", A)
    switch.say("uplink", "set", "socket")
    publish = lambda: switch.say("publish", f"{PUBLISHED}:{IPERF}", a)
    return through(lab, a, outside, switch.daemon, gateway=switch.gateway(), publish=publish)


def translate(lab, programs):
    a, middle, outside = host(lab)
    forwarder = lab.start_inside(middle, programs.translate, a)
    forwarder.wait_until_it_says("translating")
    lab.address(a, TRANSLATED)
    run("ip", "-n", a, "route", "add", "default", "via", TRANSLATE_GATEWAY)
    return Joined(a, outside, forwarder, REMOTE)


def slirp4netns(mtu):
    def join(lab, _programs):
        a, middle, outside = host(lab)
        v6 = ("--enable-ipv6",) if lab.ipv6 else ()
        command = ("slirp4netns", "--configure", *v6, "--mtu", str(mtu), "--netns-type=path", f"/run/netns/{a}", "eth0")
        forwarder = lab.start_inside(middle, *command)
        configured(lab, forwarder, a)
        return through(lab, a, outside, forwarder, gateway=of_family(lab, SLIRP_GATEWAY, SLIRP_GATEWAY6))

    return join


def pasta(mtu, tuned=False):
    def join(lab, _programs):
        a, middle, outside = host(lab)
        # It passes pings of its gateway's address to the loopback, by a ping socket.
        lab.inside(middle, "sh", "-c", "echo 0 2147483647 >/proc/sys/net/ipv4/ping_group_range")
        if tuned:
            lab.set_for_now(TUNED)
        command = ["pasta", "--foreground", "--quiet", "--runas", "0", of_family(lab, "--ipv4-only", "--ipv6-only"), "--config-net", "--ns-ifname", "eth0", "--mtu", str(mtu)]
        command += ["-t", f"{PUBLISHED}:{IPERF}", "-u", "none", "-T", "none", "-U", "none", "--netns", f"/run/netns/{a}"]
        forwarder = lab.start_inside(middle, *command)
        configured(lab, forwarder, a)
        return through(lab, a, outside, forwarder, gateway=of_family(lab, ROUTER, ROUTER6))

    return join


STREAMS = ("out", "in")
ALL = (*STREAMS, "out-4", "in-4", "published", "requests", "connections", "udp", "rtt")

ROWS = {
    "uplink": Row(ours, "vswitch, socket uplink", measures=ALL),
    # It speaks IPv4 only.
    "translate": Row(translate, "translate, MTU 1500", measures=(*STREAMS, "requests", "connections"), ipv6=False),
    "slirp4netns": Row(
        slirp4netns(BEST_MTU),
        "slirp4netns, MTU 65520",
        tools=("slirp4netns",),
        measures=tuple(measure for measure in ALL if measure != "published"),
    ),
    "pasta": Row(pasta(BEST_MTU), "pasta, MTU 65520", tools=("pasta",), measures=ALL),
    "slirp4netns-1500": Row(slirp4netns(1500), "slirp4netns, MTU 1500", tools=("slirp4netns",), measures=STREAMS),
    "pasta-1500": Row(pasta(1500), "pasta, MTU 1500", tools=("pasta",), measures=STREAMS),
}

# With --tune only, for it changes two settings of the machine while it is measured.
TUNED_ROWS = {
    "pasta-tuned": Row(pasta(BEST_MTU, tuned=True), "pasta, MTU 65520, buffers of 16 MiB", tools=("pasta",), measures=STREAMS),
}

# Who holds many flows, in the order of the columns.
HOLDERS = ("uplink", "slirp4netns", "pasta")

NOTES = """Every server is in a namespace behind a veth, and the published port's client too: no loopback, so pasta's splice path is not in this.
A round trip is to each one's own gateway address, for ping_group_range may forbid more: vswitch and slirp4netns answer that themselves; pasta passes it
to the loopback by a ping socket (ping_group_range is opened for it, in its namespace alone). translate answers no ping."""
