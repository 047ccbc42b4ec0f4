"""The measurements: TCP streams, UDP, 60-byte frames, round-trip time, HTTP; the idle daemon. Each fails loudly, none returns a silent 0."""

import json
import os
import re
import statistics
import sys
import time

import forwarders
from lab import READY_SECONDS, Lab, LabError, run, wait_for

FRAME_BYTES = 60  # The smallest Ethernet frame without its checksum
PINGS = 5000
PING_INTERVAL = "0.0002"  # Seconds
PINGS_NEEDED = 0.99  # Of those sent; fewer answers are not a round-trip time but a fault
BLAST_CORE = "0"
UDP_BYTES = "1400"
STREAMS = 4
DRAIN_SECONDS = 0.1  # Longer than any queue holds frames

CLIENTS = 32  # Of wrk, on two threads
WRK_ERRORS = 0.01  # Of all requests; more, and the figure is not one of a working path
NGINX = """
daemon off; worker_processes 2; pid {directory}/nginx.pid; error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000;
  client_body_temp_path {directory}; proxy_temp_path {directory}; fastcgi_temp_path {directory};
  uwsgi_temp_path {directory}; scgi_temp_path {directory};
  server {{ listen {address}:80 backlog=4096; location / {{ return 200 "hello"; }} }}
}}
"""

# Tries until a TCP connection to an address and port is made.
CONNECT = f"""
import socket, sys, time
deadline = time.monotonic() + {READY_SECONDS}
while True:
    try:
        socket.create_connection((sys.argv[1], int(sys.argv[2])), 1).close()
        break
    except OSError as error:
        if time.monotonic() > deadline:
            sys.exit(f"no TCP connection to {{sys.argv[1]}}: {{error}}")
        time.sleep(0.02)
"""

IDLE_PORTS = 64
IDLE_SETTLE_SECONDS = 3.0
IDLE_SECONDS = 10.0


def reach(lab, joined):
    """Waits until both reach each other, which also teaches every forwarder where they are."""

    def answered():
        if joined.forwarder is not None:
            joined.forwarder.check()
        return ", 0% packet loss" in lab.inside(joined.a, "ping", "-c", "1", "-W", "1", "-q", joined.target, check=False)

    wait_for("a ping through the forwarder", answered)


def tcp(lab, joined, seconds, back=False):
    """Gbit/s received of one TCP stream from a to b, or back."""
    return stream(lab, joined.a, joined.b, (joined.target, forwarders.IPERF), seconds, back)


def stream(lab, client, server, target, seconds, back=False, streams=1):
    """Gbit/s received of TCP streams from a client's namespace to a server's, which it reaches at `target`, or back."""
    options = ["-C", "cubic"] + (["-R"] if back else []) + (["-P", str(streams)] if streams > 1 else [])
    return iperf(lab, client, server, target, seconds, options)


def udp(lab, joined, seconds):
    """Gbit/s received of UDP from a to b, sent as fast as a can."""
    # Bound, or it would answer from the address that is nearest, which is not the one that was asked.
    there = ["-B", joined.target]
    return iperf(lab, joined.a, joined.b, (joined.target, forwarders.IPERF), seconds, ["-u", "-b", "0", "-l", UDP_BYTES], there)


def iperf(lab, client, server, target, seconds, options, server_options=()):
    """Gbit/s received, as iperf3 says."""
    server = lab.start_inside(server, "iperf3", "-s", "-1", "--forceflush", *server_options)
    server.wait_until_it_says("Server listening")
    address, port = target
    command = ["iperf3", "-c", address, "-p", str(port), "-t", str(seconds), "-J", *options]
    # iperf3 tells its errors in the JSON: a failed run still must be read.
    said = lab.inside(client, *command, check=False, timeout=seconds + 30)
    try:
        result = json.loads(said)
        if "error" in result:
            raise LabError(f'iperf3 says: {result["error"]}')
        bits = result["end"]["sum_received"]["bits_per_second"]
    except (ValueError, KeyError) as broken:
        raise LabError(f"iperf3 gave no result: {said.strip()[-300:] or 'nothing at all'}") from broken
    if not bits > 0:
        raise LabError("iperf3 received 0 bits")
    server.wait(10)
    return bits / 1e9


def received(lab, name):
    """Frames received so far by eth0, from /proc/net/dev."""
    for line in lab.inside(name, "cat", "/proc/net/dev").splitlines():
        interface, _, counts = line.partition(":")
        if interface.strip() == "eth0":
            return int(counts.split()[1])
    raise LabError(f"{name} has no eth0")


def frames(lab, joined, seconds, blast):
    """Mframe/s of the smallest frames that B receives while A sends all that one core can."""
    target = lab.mac(joined.b)
    before = received(lab, joined.b)
    said = lab.inside(
        joined.a, "taskset", "-c", BLAST_CORE, blast, "eth0", target, str(seconds), str(FRAME_BYTES), timeout=seconds + 30
    )
    took = re.search(r"([\d.]+) s\b", said)
    if took is None:
        raise LabError(f"blast did not say how long it sent: {said.strip()}")
    time.sleep(DRAIN_SECONDS)
    count = received(lab, joined.b) - before
    if count <= 0:
        raise LabError("no frame of blast's arrived")
    return count / float(took.group(1)) / 1e6


def rtt(lab, joined):
    """Microseconds of the average round trip, to the target or, where that cannot be pinged, to the gateway."""
    target = joined.gateway or joined.target
    said = lab.inside(joined.a, "ping", "-i", PING_INTERVAL, "-c", str(PINGS), "-q", target, check=False)
    answers = re.search(r"(\d+) received", said)
    average = re.search(r"= [\d.]+/([\d.]+)/", said)
    if answers is None or average is None:
        raise LabError(f"ping gave no result: {said.strip()[-300:]}")
    if int(answers.group(1)) < PINGS * PINGS_NEEDED:
        raise LabError(f"only {answers.group(1)} of {PINGS} pings were answered")
    return float(average.group(1)) * 1000


def measure(row, programs, seconds):
    """Sets a forwarder up, measures it and takes it down: {measure: value}."""
    with Lab() as lab:
        joined = row.join(lab, programs)
        reach(lab, joined)
        values = {"tcp": tcp(lab, joined, seconds)}
        if row.both_ways:
            values["tcp-back"] = tcp(lab, joined, seconds, back=True)
        values["frames"] = frames(lab, joined, seconds, programs.blast)
        values["rtt"] = rtt(lab, joined)
        if joined.forwarder is not None:
            joined.forwarder.check()
        return values


def in_url(address):
    return f"[{address}]" if ":" in address else address


def nginx(lab, joined):
    """A web server in b, at the target."""
    config = lab.path("nginx.conf")
    with open(config, "w", encoding="ascii") as file:
        file.write(NGINX.format(directory=lab.directory, address=in_url(joined.target)))
    server = lab.start_inside(joined.b, "nginx", "-c", config)

    def answers():
        server.check()
        return os.path.exists(lab.path("nginx.pid"))

    wait_for("nginx", answers)


def requests(lab, joined, seconds, *headers):
    """Requests a second that a's clients get answered."""
    command = ["wrk", "-t", "2", "-c", str(CLIENTS), "-d", f"{seconds}s", *headers, f"http://{in_url(joined.target)}/"]
    said = lab.inside(joined.a, *command, timeout=seconds + 30)
    rate, count = re.search(r"Requests/sec:\s+([\d.]+)", said), re.search(r"(\d+) requests in", said)
    if rate is None or count is None or int(count.group(1)) == 0:
        raise LabError(f"wrk gave no result: {said.strip()[-300:]}")
    failed = re.search(r"Socket errors: connect (\d+), read \d+, write \d+, timeout (\d+)", said)
    wrong = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    errors = sum(int(number) for found in (failed, wrong) if found for number in found.groups())
    if errors > int(count.group(1)) * WRK_ERRORS:
        raise LabError(f"wrk had {errors} errors: {said.strip()[-300:]}")
    return float(rate.group(1))


def measure_nat(row, programs, seconds):
    """The same, for a way out through NAT."""
    with Lab() as lab:
        joined = row.join(lab, programs)
        reach(lab, joined)
        values = {
            "out": tcp(lab, joined, seconds),
            "in": tcp(lab, joined, seconds, back=True),
            "published": stream(lab, joined.b, joined.a, joined.published, seconds),
            "rtt": rtt(lab, joined),
        }
        nginx(lab, joined)
        values["requests"] = requests(lab, joined, seconds)
        values["connections"] = requests(lab, joined, seconds, "-H", "Connection: close")
        if joined.forwarder is not None:
            joined.forwarder.check()
        return values


def connect(lab, joined):
    """Waits until a's TCP reaches the web server in b."""
    lab.inside(joined.a, sys.executable, "-c", CONNECT, joined.target, "80", timeout=2 * READY_SECONDS)
    if joined.forwarder is not None:
        joined.forwarder.check()


def published(lab, joined, seconds):
    if joined.publish is not None:
        joined.publish()
    return stream(lab, joined.b, joined.a, joined.published, seconds)


def uplink_measures(lab, joined, seconds):
    """{measure: how it is taken}."""
    there = (joined.target, forwarders.IPERF)
    tcp_streams = lambda back, streams: stream(lab, joined.a, joined.b, there, seconds, back, streams)
    return {
        "out": lambda: tcp_streams(False, 1),
        "in": lambda: tcp_streams(True, 1),
        "out-4": lambda: tcp_streams(False, STREAMS),
        "in-4": lambda: tcp_streams(True, STREAMS),
        "published": lambda: published(lab, joined, seconds),
        "requests": lambda: requests(lab, joined, seconds),
        "connections": lambda: requests(lab, joined, seconds, "-H", "Connection: close"),
        "udp": lambda: udp(lab, joined, seconds),
        "rtt": lambda: rtt(lab, joined),
    }


def measure_uplink(row, programs, seconds, broken):
    """The same, for a way out through host sockets. A measure that fails is noted in `broken`, {measure: error}, and not tried again; the
    others go on."""
    values = {}
    with Lab() as lab:
        joined = row.join(lab, programs)
        nginx(lab, joined)
        connect(lab, joined)
        ways = uplink_measures(lab, joined, seconds)
        for measure in row.measures:
            if measure in broken:
                continue
            running = len(lab.processes)
            try:
                values[measure] = ways[measure]()
            except LabError as error:
                broken[measure] = str(error)
                # Its server, that would be in the next one's way.
                lab.stop_from(running)
            joined.forwarder.check()
    return values


def cpu_seconds(pid):
    """CPU time of all threads so far, to the nanosecond where the kernel says it so (schedstat)."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as file:
            total += int(file.read().split()[0])
    return total / 1e9


def rss_bytes(pid):
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    raise LabError(f"/proc/{pid}/status has no VmRSS")


def idle(programs):
    """The daemon with 64 attached, silent namespaces: {measure: [values]}."""
    with Lab() as lab:
        names = [lab.namespace(str(number)) for number in range(IDLE_PORTS)]
        switch = forwarders.Ours(lab, programs)
        attach = [switch.attach(name, "tap", f"10.99.7.{number + 1}") for number, name in enumerate(names)]
        time.sleep(IDLE_SETTLE_SECONDS)
        pid = switch.daemon.pid
        before, start = cpu_seconds(pid), time.monotonic()
        time.sleep(IDLE_SECONDS)
        cpu = (cpu_seconds(pid) - before) / (time.monotonic() - start)
        switch.daemon.check()
        return {"idle-cpu": [cpu * 100], "idle-rss": [rss_bytes(pid) / 1e6], "attach": [value * 1000 for value in attach]}


def medians(values):
    return {key: statistics.median(each) for key, each in values.items()}
