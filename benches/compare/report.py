"""The table: medians, spread, ratios of medians, and the bars that they must meet. Rows that we lose stay in."""

import statistics

# measure: (name, unit, format). For a round trip and all that idles, less is better.
MEASURES = {
    "tcp": ("TCP, one stream", "Gbit/s", ".1f"),
    "tcp-back": ("TCP, one stream, back", "Gbit/s", ".1f"),
    "frames": ("60-byte frames received", "Mframe/s", ".3f"),
    "rtt": ("round trip", "us", ".1f"),
    "idle-cpu": ("CPU over 10 s, 64 ports", "% of a core", ".3f"),
    "idle-rss": ("resident, 64 ports", "MB", ".1f"),
    "attach": ("vswitch attach", "ms", ".1f"),
}
LESS_IS_BETTER = {"rtt", "idle-cpu", "idle-rss", "attach"}

FLOOR, BRIDGE, OVS = "bare relay", "kernel bridge", "Open vSwitch"

# (row, measure): {against: bar}: ratios at least (or at most, where less is better) this.
RATIO_BARS = {
    ("tap-tap", "tcp"): {FLOOR: 0.95, BRIDGE: 0.65, OVS: 2.0},
    ("veth-veth", "tcp"): {FLOOR: 0.95},
    ("tap-tap", "frames"): {FLOOR: 0.90},
    ("veth-veth", "frames"): {FLOOR: 1.10},
    ("tap-tap", "rtt"): {FLOOR: 1.25},
    ("veth-veth", "rtt"): {FLOOR: 1.25},
    ("tap-veth", "rtt"): {FLOOR: 1.25},
}

# Absolute bars, at most. "No CPU use" is read as under a thousandth of a core.
VALUE_BARS = {"idle-cpu": 0.1, "idle-rss": 32.0, "attach": 25.0}

OURS = ("tap-tap", "veth-veth", "tap-veth")


def against(row, rows):
    """Which rows a row is compared with: {column: row}."""
    others = {}
    if rows[row].floor:
        others[FLOOR] = rows[row].floor
    if row in OURS:
        others |= {BRIDGE: "bridge", OVS: "ovs"}
    return others


def ratio(results, row, measure, other):
    """The ratio of medians, or None where the other was not measured. The kernel bridge has no 'back': both ways are the same."""
    theirs = results.get(other, {})
    theirs = theirs.get(measure) or (theirs.get("tcp") if measure == "tcp-back" else None)
    if not theirs:
        return None
    return statistics.median(results[row][measure]) / statistics.median(theirs)


def judge(value, bar, measure):
    """'pass', or 'FAIL' with the bar that was missed."""
    good = value <= bar if measure in LESS_IS_BETTER else value >= bar
    return "pass" if good else "FAIL"


def spread(values, measure):
    _, unit, form = MEASURES[measure]
    return f"{statistics.median(values):{form}} {unit}", f"{min(values):{form}}-{max(values):{form}}"


def line(results, rows, row, measure):
    """One line of the table, as cells."""
    values = results[row][measure]
    cells = [rows[row].text, MEASURES[measure][0], *spread(values, measure)]
    bars, verdicts = RATIO_BARS.get((row, measure), {}), []
    others = against(row, rows)
    sign = "<=" if measure in LESS_IS_BETTER else ">="
    for column in (FLOOR, BRIDGE, OVS):
        value = ratio(results, row, measure, others[column]) if column in others else None
        if value is None:
            cells.append("not measured" if column in bars else "")
            if column in bars:
                verdicts.append("not measured")
        elif column in bars:
            cells.append(f"{value:.2f} ({sign} {bars[column]:.2f})")
            verdicts.append(judge(value, bars[column], measure))
        else:
            cells.append(f"{value:.2f}")
    return [*cells, verdict(verdicts)]


def verdict(verdicts):
    for worst in ("FAIL", "not measured", "pass"):
        if worst in verdicts:
            return worst
    return ""


def idle_lines(values):
    for measure, each in values.items():
        bar = VALUE_BARS[measure]
        name, unit, _ = MEASURES[measure]
        cells = ["vswitch, idle" if measure != "attach" else "vswitch, a namespace", name, *spread(each, measure)]
        yield [*cells, "", "", "", f"{judge(statistics.median(each), bar, measure)} (<= {bar:g} {unit})"]


def table(results, rows, idle, errors):
    """The whole table in Markdown. `results`: {row: {measure: [values]}}; `errors`: {row: text}."""
    header = ["forwarder", "measure", "median", "min-max", f"/ {FLOOR}", f"/ {BRIDGE}", f"/ {OVS}", "bars"]
    lines = [header, ["---"] * len(header)]
    for measure in ("tcp", "tcp-back", "frames", "rtt"):
        for row in rows:
            if results.get(row, {}).get(measure):
                lines.append(line(results, rows, row, measure))
    lines.extend(idle_lines(idle))
    for row, text in errors.items():
        name = rows[row].text if row in rows else row
        lines.append([name, "error", " ".join(text.split()).replace("|", "/"), "", "", "", "", "FAIL"])
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
