"""The switch with more ports than the kernel's bridge has (1,023): attach, broadcast, a storm, a detach beside traffic, kill -9, down."""

import json
import os
import re
import signal
import statistics
import time

import forwarders
from lab import Lab, LabError, run, wait_for
from measure import cpu_seconds, rss_bytes

SUBNET, GATEWAY = "10.99.0.0/20", "10.99.0.1"
STORM_SECONDS = 6
STORM_PINGS = 300
DETACHES = 10
STREAM_SECONDS = 6
KILL_SECONDS = 120.0

# A TCP stream whose receiver notes the longest time without anything, in milliseconds, in each tenth of a second.
RECEIVER = """
import socket, sys, time
listener = socket.create_server(("0.0.0.0", 5000)); print("listening", flush=True)
stream, _ = listener.accept(); stream.settimeout(5)
end = time.monotonic() + float(sys.argv[1]); last = time.monotonic(); buffer = bytearray(1 << 20); gaps = []
while last < end:
    stream.recv_into(buffer); now = time.monotonic(); gaps.append((now, now - last)); last = now
gaps.sort(key=lambda gap: -gap[1]); print(*(f"{at:.6f}:{gap * 1000:.3f}" for at, gap in gaps[:400]), flush=True)
"""
SENDER = """
import socket, sys
stream = socket.create_connection((sys.argv[1], 5000)); chunk = bytes(1 << 18)
try:
    while True: stream.sendall(chunk)
except OSError: pass
"""


def address(number):
    return f"10.99.{(number + 2) // 256}.{(number + 2) % 256}"


def ports(switch):
    return json.loads(run(switch.program, "ports", "--json", env=switch.env))


def attach_all(switch, names):
    took = [switch.attach(name, "tap", address(number)) * 1000 for number, name in enumerate(names)]
    quarter = len(took) // 4
    return {
        "attach, ms, median": statistics.median(took),
        "attach, ms, median of the last quarter": statistics.median(took[-quarter:]),
        "attach, ms, longest": max(took),
    }


def broadcast(lab, switch, names):
    """One broadcast frame: how many ports' counters moved."""
    silent = f"arping -c 1 -w 1 -q -I eth0 {address(len(names) + 5)} || true"
    time.sleep(2)
    before = {port["port"]: port["tx_frames"] for port in ports(switch)}
    lab.inside(names[0], "sh", "-c", silent)
    time.sleep(1)
    after = {port["port"]: port["tx_frames"] for port in ports(switch) if port["name"] not in ("gateway", names[0])}
    return {"ports reached by a broadcast": sum(after[port] > before[port] for port in after)}


def ping_longest(lab, name, to, count):
    said = lab.inside(name, "ping", "-i", "0.01", "-c", str(count), "-q", to, check=False, timeout=60)
    found = re.search(r"(\d+) received.*= [\d.]+/([\d.]+)/([\d.]+)/", said, re.S)
    if found is None or int(found.group(1)) < count:
        why = lab.inside(name, "sh", "-c", f"ping -c 1 {to} 2>&1; ip neigh; ip -4 route", check=False)
        raise LabError(f"pings were lost: {said.strip()[-200:]}; one more: {why.strip()}")
    return float(found.group(2)), float(found.group(3))


def storm(lab, switch, names, blast):
    """A known-unicast ping beside one port that broadcasts all it can."""
    a, b = names[-1], address(len(names) - 2)
    ping_longest(lab, a, b, 5)
    average, longest = ping_longest(lab, a, b, STORM_PINGS)
    flood = lab.start_inside(names[0], "taskset", "-c", "0", blast, "eth0", "ff:ff:ff:ff:ff:ff", str(STORM_SECONDS), "60")
    time.sleep(0.3)
    storm_average, storm_longest = ping_longest(lab, a, b, STORM_PINGS)
    flood.check()
    flood.wait(STORM_SECONDS + 10)
    return {
        "ping, ms, average": average,
        "ping, ms, longest": longest,
        "ping beside a broadcast storm, ms, average": storm_average,
        "ping beside a broadcast storm, ms, longest": storm_longest,
    }


def detach_beside_a_stream(lab, switch, names):
    """The longest silence of a TCP stream, in time spans with a detach and in spans without."""
    receiver = lab.start_inside(names[1], "python3", "-c", RECEIVER, str(STREAM_SECONDS))
    receiver.wait_until_it_says("listening")
    lab.start_inside(names[2], "python3", "-c", SENDER, address(1))
    time.sleep(1)
    spans = []
    for name in names[10 : 10 + DETACHES]:
        start = time.monotonic()
        run(switch.program, "detach", name, env=switch.env)
        spans.append((start, time.monotonic()))
        time.sleep(0.2)
    receiver.wait(STREAM_SECONDS + 10)
    gaps = [tuple(map(float, gap.split(":"))) for gap in receiver.said().splitlines()[-1].split()]
    within = [gap for at, gap in gaps if any(start <= at <= end + gap / 1000 for start, end in spans)]
    without = [gap for at, gap in gaps if not any(start <= at <= end + gap / 1000 for start, end in spans)]
    return {
        "longest silence of a TCP stream, ms, while another is detached": max(within, default=0.0),
        "longest silence of a TCP stream, ms, otherwise": max(without, default=0.0),
        "detach, ms, median": statistics.median((end - start) * 1000 for start, end in spans),
    }


def idle(switch):
    time.sleep(3)
    pid = switch.daemon.pid
    before, start = cpu_seconds(pid), time.monotonic()
    time.sleep(5)
    cpu = (cpu_seconds(pid) - before) / (time.monotonic() - start) * 100
    return {"idle, % of a CPU": cpu, "resident, MB": rss_bytes(pid) / 1e6}


def kill_and_attach(switch, names):
    """kill -9 with all ports open; then the first namespace is attached again."""
    start = time.perf_counter()
    os.kill(switch.daemon.pid, signal.SIGKILL)
    run(switch.program, "up", "--subnet", SUBNET, "--gateway", GATEWAY, env=switch.env, timeout=KILL_SECONDS)
    switch.attach(names[0], "tap", address(0))
    switch.daemon.wait(KILL_SECONDS)
    return {"attached again after kill -9, s": time.perf_counter() - start}


def measure(programs, count):
    """All of it, in one laboratory: {what: value}."""
    with Lab() as lab:
        names = [lab.namespace(str(number)) for number in range(count)]
        switch = forwarders.Ours(lab, programs, SUBNET, GATEWAY)
        found = {"ports": count}
        found |= attach_all(switch, names)
        found |= broadcast(lab, switch, names)
        found |= storm(lab, switch, names, programs.blast)
        found |= detach_beside_a_stream(lab, switch, names)
        found |= idle(switch)
        stats = json.loads(run(switch.program, "stats", "--json", env=switch.env))
        found["accounts balance"] = stats["balanced"]
        left = [name for name in names if name not in names[10 : 10 + DETACHES]]
        start = time.perf_counter()
        run(switch.program, "down", env=switch.env)
        found[f"down with {len(left)} ports, s"] = time.perf_counter() - start
        switch.daemon.wait(10)
        wait_for("the interfaces' end", lambda: "eth0" not in run("ip", "-n", left[-1], "link"))
        switch = forwarders.Ours(lab, programs, SUBNET, GATEWAY, "again")
        attach_all(switch, left)
        found |= kill_and_attach(switch, left)
        run(switch.program, "down", env=switch.env)
        return found


def table(found):
    lines = ["| measure | value |", "|---|---:|"]
    for what, value in found.items():
        lines.append(f"| {what} | {value:.2f} |" if isinstance(value, float) else f"| {what} | {value} |")
    return "\n".join(lines)
