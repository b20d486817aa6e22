"""The benchmarks still run: every measure, tiny, with nobody but Taxiway and the floors. No time is asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.against import COMPARED, CONTROL, OTHER, THIS, TURNS, Compared
from tests.benchmarks.figures import Bar, Measured, percentile
from tests.benchmarks.measures import MEASURES
from tests.benchmarks.processes import ROOT

RATE, COST = (next(one for one in COMPARED["endpoint"] if one.key == key) for key in ("per_second", "p50"))
pytestmark = pytest.mark.load


def benchmarks(folder: Path, *words: str) -> list[dict[str, Any]]:
    """Run them, tiny: the figures of each measure."""
    written = folder / "figures.json"
    command = [sys.executable, "-m", "tests.benchmarks", "--quick", "--json", str(written), *words]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    measures: list[dict[str, Any]] = json.loads(written.read_text(encoding="utf-8"))["measures"]
    return measures


def test_every_measure_runs_and_gives_its_figures(tmp_path: Path) -> None:
    results = benchmarks(tmp_path)
    assert [one["name"] for one in results] == list(MEASURES)
    for one in results:
        assert one["rounds"], one["name"]
        assert all(values for values in one["rounds"][0].values()), one
        assert one["bars"] or one["name"] == "profile", one["name"]


def test_this_tree_is_measured_against_a_commit_and_against_itself(tmp_path: Path) -> None:
    wanted = ("endpoint", "history")  # each comes to its figures in another way
    results = benchmarks(tmp_path, "--against", "HEAD", *(word for name in wanted for word in ("--only", name)))
    assert [one["name"] for one in results] == list(wanted)
    for one in results:
        assert set(one["rounds"][0]) == {THIS, OTHER, CONTROL}
        assert set(one["figures"]) == {figure.key for figure in COMPARED[one["name"]]}
        assert all(len(found["ratios"]) == len(found["control"]) == 1 for found in one["figures"].values())


def _rates(*rounds: tuple[float, float, float]) -> Compared:
    return Compared(
        "endpoint",
        [
            {
                side: dict.fromkeys(("per_second", "p50"), value)
                for side, value in zip((THIS, OTHER, CONTROL), one, strict=True)
            }
            for one in rounds
        ],
    )


def test_a_ratio_above_one_means_that_this_tree_is_better() -> None:
    compared = _rates((4.0, 2.0, 4.0), (9.0, 3.0, 3.0))
    assert compared.ratios(RATE, OTHER) == [2.0, 3.0]
    assert compared.ratios(COST, OTHER) == [1 / 2, 1 / 3]
    assert compared.ratios(RATE, CONTROL) == [1.0, 3.0]


def test_a_figure_that_is_nothing_on_both_sides_is_the_same() -> None:
    assert _rates((0.0, 0.0, 0.0)).ratios(COST, OTHER) == [1.0]


def test_the_verdict_is_the_median_ratios_and_the_controls_quartile_is_its_tolerance() -> None:
    assert _rates((0.95, 1.0, 0.95)).verdict(RATE) == "holds"
    assert _rates((0.94, 1.0, 0.94)).verdict(RATE) == "DOES NOT HOLD"
    assert _rates((0.94, 1.0, 1.0)).verdict(RATE) == "within the control's spread"
    # The control's ratios are 0.5, 0.9 and 1.0; a quarter of the way from the least to the most is 0.7.
    scattered = ((0.9, 1.0, 1.8), (0.9, 1.0, 1.0), (0.9, 1.0, 0.9))
    assert _rates(*scattered).verdict(RATE) == "within the control's spread"
    assert _rates(*((0.69, 1.0, control * 0.69 / 0.9) for _, _, control in scattered)).verdict(RATE) == "DOES NOT HOLD"


def test_each_pair_of_sides_stands_in_either_order_equally_often() -> None:
    for one, other in combinations((THIS, OTHER, CONTROL), 2):
        assert sum(turn.index(one) < turn.index(other) for turn in TURNS) == len(TURNS) / 2


def test_ratios_are_taken_within_a_round() -> None:
    rounds = [{"a": {"x": 2.0}, "b": {"x": 1.0}}, {"a": {"x": 30.0}, "b": {"x": 10.0}}, {"a": {"x": 4.0}}]
    measured = Measured("m", "M", (), rounds)
    assert measured.ratios("x", "a", "b") == [2.0, 3.0]
    assert measured.ratio("x", "a", "b") == 2.5
    assert measured.ratio("x", "a", "c") is None
    assert measured.middle("a", "x") == 4.0


def test_a_bar_holds_at_its_limit_and_not_beyond() -> None:
    assert Bar("", 1.0, 1.0, at_least=True).holds
    assert not Bar("", 0.99, 1.0, at_least=True).holds
    assert Bar("", 1.0, 1.0, at_least=False).holds
    assert not Bar("", 1.01, 1.0, at_least=False).holds
    assert Bar("", None, 1.0, at_least=True).holds is None


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert percentile(values, 0.99) == 99.0
    assert percentile(values, 0.5) == 50.0
    assert percentile([7.0], 0.99) == 7.0
