#!/usr/bin/python3
"""Checks Prometheus' text format (version 0.0.4) on stdin, strictly; prints NAME{LABELS} VALUE lines with --flat."""
import math
import re
import sys

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"'
SAMPLE = re.compile(rf"({NAME})(?:\{{((?:{LABEL}(?:,{LABEL})*)?)\}})? (\S+)$")


def fail(line, why):
    sys.exit(f"{why}: {line}")


def value_of(line, text):
    if not re.fullmatch(r"[+-]?(Inf|[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?)|NaN", text):
        fail(line, "no number")
    return float(text)


def family_of(name, types):
    for suffix in ("_bucket", "_sum", "_count"):
        base = name[: -len(suffix)]
        if name.endswith(suffix) and types.get(base) == "histogram":
            return base
    return name


def check_histogram(family, samples):
    series = {}
    for name, labels, value in samples:
        rest = tuple(kv for kv in labels if kv[0] != "le")
        one = series.setdefault(rest, {"buckets": [], "sum": None, "count": None})
        if name.endswith("_bucket"):
            one["buckets"].append((float(dict(labels)["le"]), value))
        else:
            one[name.rsplit("_", 1)[1]] = value
    for rest, one in series.items():
        bounds = [le for le, _ in one["buckets"]]
        counts = [count for _, count in one["buckets"]]
        if bounds != sorted(set(bounds)) or not bounds or bounds[-1] != math.inf:
            fail(f"{family}{rest}", "bounds out of order, or no +Inf")
        if counts != sorted(counts) or counts[-1] != one["count"] or one["sum"] is None:
            fail(f"{family}{rest}", "not cumulative, or sum or count are not there")


def main():
    text = sys.stdin.read()
    if not text.endswith("\n"):
        sys.exit("no line feed at the end")
    helps, types, closed, seen, members = set(), {}, set(), set(), {}
    current = None
    for line in text[:-1].split("\n"):
        comment = re.fullmatch(rf"# (HELP|TYPE) ({NAME}) (.+)", line)
        if comment:
            kind, name, rest = comment.groups()
            if name in (helps if kind == "HELP" else types):
                fail(line, "twice")
            if name in closed or (kind == "TYPE" and name in members):
                fail(line, "behind its samples")
            if kind == "HELP":
                helps.add(name)
            elif rest not in ("counter", "gauge", "histogram"):
                fail(line, "no type")
            else:
                types[name] = rest
            continue
        match = SAMPLE.fullmatch(line)
        if not match:
            fail(line, "no sample")
        name, labels = match.group(1), re.findall(LABEL, match.group(2) or "")
        value = value_of(line, match.group(match.lastindex))
        family = family_of(name, types)
        if family not in types or family not in helps:
            fail(line, "no HELP or TYPE before it")
        if family != current:
            if family in closed:
                fail(line, "its family does not stand together")
            closed.add(family)
            current = family
        key = (name, tuple(sorted(labels)))
        if key in seen or len(dict(labels)) != len(labels):
            fail(line, "twice")
        seen.add(key)
        if types[family] == "counter" and (not name.endswith("_total") or not value >= 0):
            fail(line, "a counter that does not end with _total, or is below 0")
        members.setdefault(family, []).append((name, tuple(labels), value))
        if "--flat" in sys.argv:
            print(line)
    for family, kind in types.items():
        if kind == "histogram":
            check_histogram(family, members.get(family, []))
    if not seen:
        sys.exit("no sample")


main()
