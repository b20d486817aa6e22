"""The command line as the documents use it: what there is, and whether a call would be understood."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import typer.main

from service.__main__ import cli

LAUNCHERS = (("taxiway",), (".venv/bin/taxiway",), ("python", "-m", "service"))


@cache
def commands() -> dict[str, Any]:
    """Every command by its name, as the parser knows it."""
    group: Any = typer.main.get_command(cli)
    return dict(group.commands)


def options(command: Any) -> set[str]:
    """What a command takes: `--option` for options, `NAME` for arguments."""
    return {
        parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.name.upper()
        for parameter in command.params
    }


def parse(words: Sequence[str]) -> None:
    """Read one call without running it. Raises what the command line would say about it."""
    name, *rest = words
    assert name in commands(), f"there is no command {name}"
    commands()[name].make_context(name, list(rest))


def calls(shell: str) -> Iterator[list[str]]:
    """The calls of this product in a piece of shell, without the launcher: `["tick", "--budget", "4"]`."""
    for words in _simple_commands(shell):
        while words and re.fullmatch(r"\w+=.*", words[0]):
            words = words[1:]
        for launcher in LAUNCHERS:
            if tuple(words[: len(launcher)]) == launcher and len(words) > len(launcher):
                yield words[len(launcher) :]


def _simple_commands(shell: str) -> Iterator[list[str]]:
    defaults_applied = re.sub(r"\$\{\w+:-(\w+)\}", r"\1", shell.replace("\\\n", " "))
    without_comments = re.sub(r" +#.*$", "", defaults_applied, flags=re.MULTILINE)  # shlex drops a line's end with one
    lexer = shlex.shlex(without_comments, posix=True, punctuation_chars=";|&\n")
    lexer.whitespace, lexer.whitespace_split = " \t", True
    words: list[str] = []
    for word in lexer:
        if set(word) <= set(";|&\n"):
            yield words
            words = []
        else:
            words.append(word)
    yield words
