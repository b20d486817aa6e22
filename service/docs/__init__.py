"""The documentation: pages in Markdown, beside this module. GitHub, `/docs/NAME` and `taxiway docs NAME` show them.

A page begins with its title and one sentence that says what is in it. The tables of settings, routes, commands and
errors are written by `python -m tests.reference`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent
# Every page, in the order of the table of contents.
NAMES = (
    "quickstart", "runway-sdk", "callers", "nextjs", "linked-tables", "models", "videos", "users", "webhooks",
    "unknown-outcomes", "operating", "security", "database", "high-availability", "scaling", "speed", "simulator",
    "architecture", "promises", "development", "settings", "routes", "commands", "errors",
)  # fmt: skip
COMMENT = re.compile(r"^<!--.*?-->\n+", re.MULTILINE | re.DOTALL)  # for those who write a page, not for its readers


@dataclass(frozen=True)
class Page:
    """One page. `summary`: the sentence below its title; `text`: all of it, as Markdown."""

    name: str
    title: str
    summary: str
    text: str


@cache
def read(name: str) -> Page:
    """The page of this name. Raises KeyError if there is none."""
    if name not in NAMES:
        raise KeyError(name)
    text = COMMENT.sub("", (FOLDER / f"{name}.md").read_text(encoding="utf-8")).rstrip("\n") + "\n"
    heading, summary, _ = text.split("\n\n", 2)
    return Page(name, heading.removeprefix("# "), " ".join(summary.split()), text)


def pages() -> list[Page]:
    """All of them, in order."""
    return [read(name) for name in NAMES]


def no_such_page(name: str) -> str:
    """What to answer to a name that none has."""
    return f"there is no page {name!r}; there are: {', '.join(NAMES)}"
