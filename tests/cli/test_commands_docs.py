"""`taxiway docs`: the documentation of this version, at a terminal and in a pipe."""

from __future__ import annotations

import pytest

from service.docs import NAMES, pages, read
from tests.invoking import complaint, invoke, terminal


def test_without_a_name_it_lists_all_with_a_line_each() -> None:
    result = invoke(None, "docs")
    lines = [line.split(maxsplit=1) for line in result.stdout.splitlines()]
    assert lines == [[page.name, page.summary] for page in pages()]


@pytest.mark.parametrize("name", NAMES)
def test_in_a_pipe_it_is_the_text_itself(name: str) -> None:
    result = invoke(None, "docs", name)
    assert result.exit_code == 0
    assert result.stdout == read(name).text


@pytest.mark.parametrize("name", NAMES)
def test_at_a_terminal_it_is_laid_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch):
        result = invoke(None, "docs", name)
    assert result.exit_code == 0
    assert result.stdout.split("\n")[0].strip() == read(name).title
    assert "```" not in result.stdout


def test_a_name_that_there_is_not_is_one_line_that_names_what_there_is() -> None:
    line = complaint(invoke(None, "docs", "nothing"))
    assert line == f"taxiway: there is no page 'nothing'; there are: {', '.join(NAMES)}"
