"""The tables of the benchmarks' README, three rows and a plot of the README, and the plots, from the figures of a run.

What was not run keeps its earlier figures, and says where they are from.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.contenders.all import CONTENDERS, PEERS
from tests.benchmarks.contenders.base import Contender
from tests.benchmarks.contenders.taxiway import DEFAULT, KEPT
from tests.benchmarks.measures import MEASURES
from tests.benchmarks.measures.drain import FLOOR, SLOW_SHARE
from tests.benchmarks.processes import ROOT

FOLDER = ROOT / ".benchmarks"
FIGURES = FOLDER / "figures.json"
README = ROOT / "README.md"
OWN_README = ROOT / "tests" / "benchmarks" / "README.md"
SUMMARISED = (README, ROOT / "service" / "docs" / "speed.md")
COMPARED = {
    "drain": (("per_second", "jobs/s, 0 ms"), ("cpu_us", "CPU µs/job"), ("transactions", "transactions/job"),
              ("wal_bytes", "WAL B/job"), ("dead_rows", "dead rows/job")),
    "drain-200": (("per_second", "jobs/s, 200 ms"),),
    "latency": (("p50", "p50 ms"), ("p99", "p99 ms")),
    "held": (("share", "share kept under an open transaction"),),
}  # fmt: skip
# What the README shows: the measure, its figure, and whether more of it is better.
ROWS = (
    ("drain", "per_second", True, "queue drained, Runway answers at once: videos/s"),
    ("drain-200", "per_second", True, "the same, Runway answers after 200 ms (at most 250): videos/s"),
    ("latency", "p50", False, "from queued until Runway's id is stored, at 50/s: ms, p50"),
)

TAXIWAYS = (DEFAULT, KEPT)
SHOWN = "drain"  # its plot stands in the README

Results = dict[str, dict[str, Any]]  # by the name of the measure


def write(results: Sequence[dict[str, Any]], machine: list[str]) -> None:
    """Keep the figures, draw the plots, and put the tables between their marks."""
    FOLDER.mkdir(exist_ok=True)
    earlier = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {"measures": []}
    known = [{"machine": earlier["machine"]} | one for one in earlier["measures"]]
    fresh = [one | {"machine": machine} for one in results]
    by_name: Results = {one["name"]: one for one in [*known, *fresh] if one["name"] in MEASURES}
    ordered = [by_name[name] for name in MEASURES if name in by_name]
    text = json.dumps({"machine": machine, "measures": ordered}, indent=1, ensure_ascii=False)
    FIGURES.write_text(text + "\n", encoding="utf-8")
    pictures = {one["name"]: draw(one) for one in ordered if one["plot"]}
    parts = [
        _machine([_command(), *machine]),
        _elsewhere(ordered, machine),
        compared(by_name),
        profiled(by_name),
        bars(ordered),
        configurations(),
    ]
    whole = [part for part in (*parts, *(image(*one, OWN_README) for one in pictures.values())) if part]
    _put(OWN_README, "benchmarks", "\n\n".join(whole))
    for page in SUMMARISED:
        shown = [image(*pictures[SHOWN], page)] if page == README and SHOWN in pictures else []
        _put(page, "speed", "\n\n".join([summary(by_name), *shown]))


def _put(path: Path, name: str, text: str) -> None:
    begin, end = f"<!-- {name}: written by `python -m tests.benchmarks --report` -->", f"<!-- /{name} -->"
    found = path.read_text(encoding="utf-8")
    marked = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    assert marked.search(found), f"{path} has no {begin}"
    path.write_text(marked.sub(lambda _: f"{begin}\n\n{text}\n\n{end}", found), encoding="utf-8")


def summary(results: Results) -> str:
    """Three rows: Taxiway beside the same work written with asyncpg and httptools, and beside the best peer in each."""
    rows = [["measure", *(one.name for one in TAXIWAYS), "hand-written, row by row", "best peer"]]
    peers = [one.name for one in PEERS]
    for name, key, more_is_better, words in ROWS:
        figures = {one: values[key] for one, values in results[name]["medians"].items() if values.get(key) is not None}
        best = (max if more_is_better else min)((one for one in peers if one in figures), key=figures.__getitem__)
        ours, floor = [_number(figures.get(one.name)) for one in TAXIWAYS], _number(figures.get(FLOOR))
        rows.append([words, *ours, floor, f"{_number(figures[best])} ({best})"])
    return table(rows)


def _command() -> str:
    return f"`python -m tests.benchmarks {shlex.join(sys.argv[1:])}`"


def _machine(lines: list[str]) -> str:
    return "\n".join(f"* {line}" for line in lines)


def _elsewhere(results: Sequence[dict[str, Any]], machine: list[str]) -> str:
    """Which figures are from another run, and from which machine."""
    titles: dict[tuple[str, ...], list[str]] = {}
    for one in results:
        if one["machine"] != machine:
            titles.setdefault(tuple(one["machine"]), []).append(one["title"])
    return "\n\n".join(f"From an earlier run, on {where[0]}: {'; '.join(known)}." for where, known in titles.items())


def compared(results: Results) -> str:
    """One row for each contender: medians of the rounds."""
    columns = [(name, key, head) for name, keys in COMPARED.items() if name in results for key, head in keys]
    rows = [["worker", "client", "waits for a disk", *(head for _, _, head in columns)]]
    for one in CONTENDERS:
        cells = [_number(results[name]["medians"].get(one.name, {}).get(key)) for name, key, _ in columns]
        why = next((r["missing"][one.name] for r in results.values() if one.name in r["missing"]), None)
        durable = "yes" if one.durable else "no"
        rows.append([one.name, one.client, durable, *(cells if any(cells) else [f"missing: {why or 'not run'}"])])
    return table(rows)


def profiled(results: Results) -> str:
    """Where a worker's CPU time goes, in µs for a job."""
    if (result := results.get("profile")) is None:
        return ""
    heads = result["heads"]
    rows = [["a worker's CPU", *heads.values()]]
    return table([*rows, *([name, *(_number(one[key]) for key in heads)] for name, one in result["medians"].items())])


def bars(results: Sequence[dict[str, Any]]) -> str:
    """Each bar, what was measured, and whether it holds."""
    rows = [["measure", "bar", "limit", "measured", "holds"]]
    words = {True: "yes", False: "**no**", None: "not measured"}
    for one in results:
        for bar in one["bars"]:
            limit = f"{'≥' if bar['at_least'] else '≤'} {bar['limit']:g}"
            rows.append([one["title"], bar["words"], limit, _number(bar["value"]), words[bar["holds"]]])
    for number in range(len(rows) - 1, 1, -1):  # a title stands once
        rows[number][0] = "" if rows[number][0] == rows[number - 1][0] else rows[number][0]
    return table(rows)


def configurations() -> str:
    """How each of them was set up, after which page of its own documentation."""
    return "\n".join(f"* {one.name}: {_configuration(one)}" for one in CONTENDERS)


def _configuration(one: Contender) -> str:
    slow = f"drains of one in {SLOW_SHARE} of the jobs, for it is slow" if one.slow else ""
    return ". See ".join(filter(None, ("; ".join(filter(None, (one.configuration, slow))), one.docs)))


def table(rows: list[list[str]]) -> str:
    """Markdown; short rows are filled."""
    width = len(rows[0])
    lines = [f"| {' | '.join([*row, *[''] * (width - len(row))])} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * width, *lines[1:]])


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def image(title: str, file: Path, page: Path) -> str:
    """The Markdown that shows a plot on a page."""
    return f"![{title}]({Path(os.path.relpath(file, page.parent)).as_posix()})"


def draw(result: dict[str, Any]) -> tuple[str, Path]:
    """A bar for each contender, with the least and the most of all rounds; its title, and the file."""
    plots: Any = importlib.import_module("matplotlib.figure")
    key, path = result["plot"], FOLDER / f"{result['name']}.png"
    values = {name: [one[name][key] for one in result["rounds"] if name in one] for name in result["medians"]}
    names = sorted((name for name in values if values[name]), key=lambda name: result["medians"][name][key])
    middle = [result["medians"][name][key] for name in names]
    spread = [
        [mid - min(values[name]) for name, mid in zip(names, middle, strict=True)],
        [max(values[name]) - mid for name, mid in zip(names, middle, strict=True)],
    ]
    figure = plots.Figure(figsize=(8, 0.5 * len(names) + 1.2), layout="constrained")
    axes = figure.subplots()
    colours = ["#2563eb" if name.startswith("Taxiway") else "#94a3b8" for name in names]
    drawn = axes.barh(names, middle, xerr=spread, color=colours, ecolor="#334155", capsize=3)
    axes.bar_label(drawn, labels=[f" {value:,.0f}" for value in middle], padding=4)
    axes.set_title(f"{result['title']}: {result['heads'][key]}", fontsize=10, loc="left")
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
    return result["title"], path
