"""The table: medians, spread, ratios of medians, and the bars that they must meet. Rows that we lose stay in."""

import random
import statistics

# measure: (name, unit, format). For a round trip and all that idles, less is better.
MEASURES = {
    "tcp": ("TCP, one stream", "Gbit/s", ".1f"),
    "tcp-back": ("TCP, one stream, back", "Gbit/s", ".1f"),
    "frames": ("60-byte frames received", "Mframe/s", ".3f"),
    "out": ("TCP out, one stream", "Gbit/s", ".1f"),
    "in": ("TCP in, one stream", "Gbit/s", ".1f"),
    "out-4": ("TCP out, 4 streams", "Gbit/s", ".1f"),
    "in-4": ("TCP in, 4 streams", "Gbit/s", ".1f"),
    "published": ("TCP to a published port", "Gbit/s", ".1f"),
    "connections": ("new connections", "1/s", ".0f"),
    "requests": ("keep-alive requests", "1/s", ".0f"),
    "udp": ("UDP received, 1400 octets each", "Gbit/s", ".2f"),
    "rtt": ("round trip", "us", ".1f"),
    "idle-cpu": ("CPU over 10 s, 64 ports", "% of a core", ".3f"),
    "idle-rss": ("resident, 64 ports", "MB", ".1f"),
    "attach": ("vswitch attach", "ms", ".1f"),
}
LESS_IS_BETTER = {"rtt", "idle-cpu", "idle-rss", "attach"}

FLOOR, BRIDGE, OVS, KERNEL = "bare relay", "kernel bridge", "Open vSwitch", "kernel NAT"
TRANSLATE, SLIRP, SLIRP_1500 = "translate", "slirp4netns", "slirp4netns, 1500"
PASTA, PASTA_TUNED, PASTA_1500 = "pasta", "pasta tuned", "pasta, 1500"
ONE_STREAM = "one stream"

# (row, measure): {against: bar}: ratios at least (or at most, where less is better) this.
RATIO_BARS = {
    ("tap-tap", "tcp"): {FLOOR: 0.95, BRIDGE: 0.65, OVS: 2.0},
    ("veth-veth", "tcp"): {FLOOR: 0.95},
    ("tap-tap", "frames"): {FLOOR: 0.90},
    ("veth-veth", "frames"): {FLOOR: 1.10},
    ("tap-tap", "rtt"): {FLOOR: 1.25},
    ("veth-veth", "rtt"): {FLOOR: 1.25},
    ("tap-veth", "rtt"): {FLOOR: 1.25},
    ("nat", "out"): {FLOOR: 0.93, KERNEL: 0.80},
    ("nat", "in"): {FLOOR: 0.93, KERNEL: 0.60},
    ("nat", "published"): {FLOOR: 0.93},
    ("nat", "connections"): {KERNEL: 1.1},
    ("nat", "requests"): {KERNEL: 0.75},
    ("nat", "rtt"): {KERNEL: 2.5},
    ("uplink", "out"): {TRANSLATE: 0.90, SLIRP: 2.8, SLIRP_1500: 12.0, PASTA_TUNED: 0.88, PASTA_1500: 12.0},
    ("uplink", "in"): {TRANSLATE: 0.85, SLIRP: 2.8, SLIRP_1500: 12.0, PASTA: 1.25, PASTA_1500: 12.0},
    ("uplink", "out-4"): {ONE_STREAM: 1.0},
    ("uplink", "in-4"): {ONE_STREAM: 1.0},
    ("uplink", "published"): {PASTA: 1.2},
    ("uplink", "connections"): {SLIRP: 1.8, PASTA: 1.8},
    ("uplink", "requests"): {SLIRP: 1.1, PASTA: 1.3},
    ("uplink", "udp"): {SLIRP: 2.0, PASTA: 2.0},
    ("uplink", "rtt"): {SLIRP: 1.0},
}

# Absolute bars, at most. "No CPU use" is read as under a thousandth of a core.
VALUE_BARS = {"idle-cpu": 0.1, "idle-rss": 32.0, "attach": 25.0}

RESAMPLES = 2000  # For the interval of a ratio of medians

LAYER_2 = {BRIDGE: "bridge", OVS: "ovs"}
HOST_SOCKETS = {
    TRANSLATE: "translate",
    SLIRP: "slirp4netns",
    SLIRP_1500: "slirp4netns-1500",
    PASTA: "pasta",
    PASTA_TUNED: "pasta-tuned",
    PASTA_1500: "pasta-1500",
    ONE_STREAM: "uplink",
}
# Our rows, and besides the bare relay what they are compared with: {column: row}.
OURS = {"tap-tap": LAYER_2, "veth-veth": LAYER_2, "tap-veth": LAYER_2, "nat": {KERNEL: "nat-kernel"}, "uplink": HOST_SOCKETS}

# The measure of one stream beside that of several.
ONE_OF = {"out-4": "out", "in-4": "in"}


def against(row, rows):
    """Which rows a row is compared with: {column: row}."""
    floor = {FLOOR: rows[row].floor} if rows[row].floor else {}
    return floor | OURS.get(row, {})


def theirs_of(results, measure, column, other):
    """The other row's values. The kernel bridge and Open vSwitch have no 'back': their two ways are the same."""
    theirs = results.get(other, {})
    if column == ONE_STREAM:
        return theirs.get(ONE_OF.get(measure))
    return theirs.get(measure) or (theirs.get("tcp") if measure == "tcp-back" else None)


def near(ours, theirs, bar):
    """Whether the rounds are too few to tell: the bar lies in the 90 % interval of the ratio, by resampling both."""
    if len(ours) < 2:
        return True
    chance = random.Random(1)
    middle = lambda values: statistics.median(chance.choices(values, k=len(values)))
    ratios = sorted(middle(ours) / middle(theirs) for _ in range(RESAMPLES))
    cut = RESAMPLES // 20
    return ratios[cut] < bar < ratios[-1 - cut]


def judge(value, bar, measure):
    """'pass' or 'FAIL'."""
    good = value <= bar if measure in LESS_IS_BETTER else value >= bar
    return "pass" if good else "FAIL"


def spread(values, measure):
    _, unit, form = MEASURES[measure]
    return f"{statistics.median(values):{form}} {unit}", f"{min(values):{form}}-{max(values):{form}}"


def line(results, rows, row, measure, columns):
    """One line of the table, as cells."""
    values = results[row][measure]
    cells = [rows[row].text, MEASURES[measure][0], *spread(values, measure)]
    bars, verdicts = RATIO_BARS.get((row, measure), {}), []
    others = against(row, rows)
    sign = "<=" if measure in LESS_IS_BETTER else ">="
    for column in columns:
        theirs = theirs_of(results, measure, column, others[column]) if column in others else None
        bar = bars.get(column)
        if not theirs:
            cells.append("" if bar is None else "not measured")
            verdicts += [] if bar is None else ["not measured"]
            continue
        ratio = statistics.median(values) / statistics.median(theirs)
        if bar is None:
            cells.append(f"{ratio:.2f}")
        else:
            unsettled = ", near" if near(values, theirs, bar) else ""
            cells.append(f"{ratio:.2f} ({sign} {bar:.2f}{unsettled})")
            verdicts.append(judge(ratio, bar, measure))
    return [*cells, verdict(verdicts)]


def verdict(verdicts):
    for worst in ("FAIL", "not measured", "pass"):
        if worst in verdicts:
            return worst
    return ""


def idle_lines(values, columns):
    for measure, each in values.items():
        bar = VALUE_BARS[measure]
        name, unit, _ = MEASURES[measure]
        cells = ["vswitch, idle" if measure != "attach" else "vswitch, a namespace", name, *spread(each, measure)]
        yield [*cells, *("" for _ in columns), f"{judge(statistics.median(each), bar, measure)} (<= {bar:g} {unit})"]


def table(results, rows, idle, errors):
    """The whole table in Markdown. `results`: {row: {measure: [values]}}; `errors`: {row, or row/measure: text}."""
    floor = [FLOOR] if any(row.floor for row in rows.values()) else []
    columns = [*floor, *next((OURS[row] for row in rows if row in OURS), {} if not floor else LAYER_2)]
    header = ["forwarder", "measure", "median", "min-max", *(f"/ {column}" for column in columns), "bars"]
    lines = [header, ["---"] * len(header)]
    for measure in MEASURES:
        for row in rows:
            if results.get(row, {}).get(measure):
                lines.append(line(results, rows, row, measure, columns))
    lines.extend(idle_lines(idle, columns))
    for key, text in errors.items():
        row, _, measure = key.partition("/")
        name = rows[row].text if row in rows else row
        what = MEASURES[measure][0] + ": error" if measure else "error"
        lines.append([name, what, " ".join(text.split()).replace("|", "/"), "", *("" for _ in columns), "FAIL"])
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
