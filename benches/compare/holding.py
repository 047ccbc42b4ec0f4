"""What it costs to hold connections: memory, file descriptors and CPU of 10,000 idle TCP flows, and whether many at once or in turn all succeed."""

import contextlib
import json
import os
import sys
import time

import uplinks
from lab import Lab, LabError
from measure import rss_bytes

HERE = os.path.dirname(os.path.abspath(__file__))
CONNECTIONS = os.path.join(HERE, "connections.py")
# A port a step: where thousands of connections to one are in TIME_WAIT, kernels look long for the next.
PORTS = {"hold": 7000, "at-once": 7001, "in-turn": 7002}

SETTLE_SECONDS = 3.0
CPU_SECONDS = 5.0
BACK_SECONDS = 60.0  # How long the file descriptors may take to be closed after the connections were
POLL_SECONDS = 0.25
PATIENCE_SECONDS = 300.0  # For all connections of a step

# measure: (name, format, bar of ours, at most). A bar that is None: told, not judged.
MEASURES = {
    "rss": ("resident, idle, MB", ".1f", 16.0),
    "fds": ("file descriptors, idle", "d", None),
    "held-failed": ("{flows} flows held: failed", "d", 0),
    "flow-kb": ("resident, a flow more, KB", ".2f", 4.0),
    "flow-fds": ("file descriptors, a flow more", ".2f", None),
    "cpu": ("CPU over 5 s with them held, % of a core", ".1f", 0.0),
    "held-back": ("file descriptors back after they ended, s", ".1f", BACK_SECONDS),
    "once-failed": ("{at_once} at once: failed", "d", 0),
    "turn-failed": ("{in_turn} in turn: failed", "d", 0),
    "turn-rate": ("{in_turn} in turn, 1/s", ".0f", None),
    "back": ("file descriptors back after those, s", ".1f", BACK_SECONDS),
}


def ticks(pid):
    """CPU time of the process so far: utime and stime (proc(5)), in the kernel's ticks."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def fds(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def start(lab, joined, what, count):
    return lab.start_inside(joined.a, sys.executable, CONNECTIONS, what, joined.target, str(PORTS[what]), str(count))


def outcome(client):
    """What connections.py says of its connections, when it says it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while "\n" not in client.said():
        if client.child.poll() is not None:
            break
        if time.monotonic() > deadline:
            raise LabError(f"not through after {PATIENCE_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)
    try:
        return json.loads(client.said().splitlines()[0])
    except (IndexError, ValueError) as broken:
        raise LabError(f"connections.py says: {client.said().strip()[-300:]}") from broken


def missing(result):
    """How many did not succeed; those that were not even tried, after a hundred failures, among them."""
    count = result["wanted"] - result["good"]
    if count:
        print(f"  {result['wanted']} connections: {result['good']} succeeded; {result['why']}", file=sys.stderr, flush=True)
    return count


def seconds_until_back(pid, count):
    """How long until the process has no more file descriptors than `count`."""
    begun = time.monotonic()
    while fds(pid) > count:
        if time.monotonic() > begun + BACK_SECONDS:
            raise LabError(f"{fds(pid)} file descriptors after {BACK_SECONDS:.0f} s, {count} before")
        time.sleep(POLL_SECONDS)
    return time.monotonic() - begun


def hold(lab, joined, count, found):
    """`count` flows, opened, held idle, and ended."""
    pid = joined.forwarder.pid
    client = start(lab, joined, "hold", count)
    result = outcome(client)
    found["held-failed"] = missing(result)
    time.sleep(SETTLE_SECONDS)
    if result["good"]:
        found["flow-kb"] = (rss_bytes(pid) / 1e3 - found["rss"] * 1e3) / result["good"]
        found["flow-fds"] = (fds(pid) - found["fds"]) / result["good"]
        before = ticks(pid)
        time.sleep(CPU_SECONDS)
        found["cpu"] = (ticks(pid) - before) / os.sysconf("SC_CLK_TCK") / CPU_SECONDS * 100
    client.child.terminate()
    try:
        client.wait(BACK_SECONDS)
    except LabError as late:
        raise LabError(f"the flows were not all ended {BACK_SECONDS:.0f} s after they were told to") from late
    finally:
        client.stop()
    found["held-back"] = seconds_until_back(pid, found["fds"])


def at_once(lab, joined, count, found):
    client = start(lab, joined, "at-once", count)
    found["once-failed"] = missing(outcome(client))
    client.wait(BACK_SECONDS)


def in_turn(lab, joined, count, found):
    result = outcome(start(lab, joined, "in-turn", count))
    found["turn-failed"] = missing(result)
    if not found["turn-failed"]:
        found["turn-rate"] = count / result["seconds"]


@contextlib.contextmanager
def set_up(row, programs):
    """A forwarder, idle, and the server beyond it."""
    with Lab() as lab:
        joined = row.join(lab, programs)
        count = str(len(PORTS))
        server = lab.start_inside(joined.b, sys.executable, CONNECTIONS, "serve", joined.target, str(min(PORTS.values())), count)
        server.wait_until_it_says("serving")
        time.sleep(SETTLE_SECONDS)
        yield lab, joined, fds(joined.forwarder.pid)


def tried(name, step, joined, errors):
    """Takes a step; its failure is noted in `errors`, and that of the forwarder ends what follows."""
    try:
        step()
    except (LabError, FileNotFoundError) as error:
        errors[name] = str(error)
    joined.forwarder.check()


def one(row, programs, counts):
    """All of it, for one forwarder: ({measure: value}, {step: error}). The idle flows have a forwarder of their own, for some are busy long after."""
    found, errors = {}, {}
    try:
        with set_up(row, programs) as (lab, joined, before):
            found["rss"], found["fds"] = rss_bytes(joined.forwarder.pid) / 1e6, before
            tried("held", lambda: hold(lab, joined, counts["flows"], found), joined, errors)
        with set_up(row, programs) as (lab, joined, before):
            tried("at once", lambda: at_once(lab, joined, counts["at_once"], found), joined, errors)
            tried("in turn", lambda: in_turn(lab, joined, counts["in_turn"], found), joined, errors)
            back = lambda: found.update(back=seconds_until_back(joined.forwarder.pid, before))
            tried("back", back, joined, errors)
    except LabError as error:
        errors[""] = str(error)
    return found, errors


def measure(rows, programs, counts):
    """{row: {measure: value}}, {row/step: error}."""
    results, errors = {}, {}
    for name, row in rows.items():
        print(f"{name}", file=sys.stderr, flush=True)
        results[name], steps = one(row, programs, counts)
        errors |= {f"{name}/{step}".rstrip("/"): text for step, text in steps.items()}
    return results, errors


def verdict(found, key):
    """Ours against its bar; what could not be measured fails it."""
    _, form, bar = MEASURES[key]
    if bar is None or "uplink" not in found:
        return ""
    value = found["uplink"].get(key)
    return ("pass" if value is not None and value <= bar else "FAIL") + f" (<= {bar:{form}})"


def table(rows, found, errors, counts):
    """The table in Markdown, a column a forwarder."""
    lines = ["| measure | " + " | ".join(row.text for row in rows.values()) + " | vswitch's bar |"]
    lines.append("|---|" + "---:|" * len(rows) + "---|")
    for key, (name, form, _) in MEASURES.items():
        cells = [f"{found[row][key]:{form}}" if key in found[row] else "-" for row in rows]
        lines.append(f"| {name.format(**counts)} | " + " | ".join(cells) + f" | {verdict(found, key)} |")
    for key, text in errors.items():
        lines.append(f'\n{key}: error: {" ".join(text.split())}')
    return "\n".join(lines)


def of_holders():
    return {name: uplinks.ROWS[name] for name in uplinks.HOLDERS}


def is_met(found):
    return not any("FAIL" in verdict(found, key) for key in MEASURES)
