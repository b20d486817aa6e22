"""The benchmarks still run: every measure, tiny, with nobody but Taxiway and the floors. No time is asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.figures import Bar, Measured, percentile
from tests.benchmarks.measures import MEASURES
from tests.benchmarks.processes import ROOT

pytestmark = pytest.mark.load


def test_every_measure_runs_and_gives_its_figures(tmp_path: Path) -> None:
    written = tmp_path / "figures.json"
    command = [sys.executable, "-m", "tests.benchmarks", "--quick", "--json", str(written)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    results = json.loads(written.read_text(encoding="utf-8"))["measures"]
    assert [one["name"] for one in results] == list(MEASURES)
    for one in results:
        assert one["rounds"], one["name"]
        assert all(values for values in one["rounds"][0].values()), one
        assert one["bars"], one["name"]


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
