"""How sentences are written: the words that they do without, wherever a person may read them."""

from __future__ import annotations

import ast
import io
import re
import textwrap
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Each makes a reader stop: private ("mend"), vague about who acts ("somebody"), or not plain English ("did cost").
AVOIDED = re.compile(
    r"\b(?:tells?|told|telling|mend(?:s|ed|ing)?|whoever|somebody|nobody|what is broken|did cost|look(?:s|ed|ing)? at"
    r"|anew|for good|by hand)\b",
    re.IGNORECASE,
)
MARKS = re.compile(r"^[ \t]*(?:--|//|#+)(?= )", re.MULTILINE)  # of comments in SQL, JavaScript and YAML
# What is not a sentence of ours: code between backquotes, and the blocks of code in a document.
CODE = re.compile(r"```.*?```|``.*?``|`[^`\n]*`", re.DOTALL)


def avoided(text: str) -> list[str]:
    """The words of this text that a sentence does without, each with what stands around it."""
    text = MARKS.sub("", text)
    plain = " ".join(CODE.sub(lambda found: "\N{BULLET}" * len(found[0]), text).split())
    return [plain[max(0, found.start() - 40) : found.end() + 40].strip() for found in AVOIDED.finditer(plain)]


def literals(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Each text of a module with its line: docstrings, messages and help texts. An f-string is one text."""
    inside: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [part for part in node.values if isinstance(part, ast.Constant)]
            inside.update(map(id, parts))
            yield node.lineno, "\N{BULLET}".join(str(part.value) for part in parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.lineno, node.value


def comments(source: str) -> Iterator[tuple[int, str]]:
    """Each run of comment lines of a module as one text, with the line on which it begins."""
    first, last, words = 0, 0, ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        line, text = token.start[0], token.string.lstrip("#").strip()
        if line == last + 1:
            last, words = line, f"{words} {text}"
            continue
        yield first, words
        first, last, words = line, line, text
    yield first, words


def sentences(source: str) -> list[tuple[int, str]]:
    """Whatever a person may read in a module, each with its line."""
    return [(line, text) for line, text in [*literals(ast.parse(source)), *comments(source)] if " " in text]


def modules() -> list[Path]:
    """Every module of the service."""
    return sorted((ROOT / "service").rglob("*.py"))


def documents() -> list[Path]:
    """Every page, template, script and recipe, and what stands at the top of the repository."""
    found = [path for kind in ("md", "html", "js", "yml", "css") for path in (ROOT / "service").rglob(f"*.{kind}")]
    minified = {path for path in found if path.name.endswith(".min.js")}
    top = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "pyproject.toml"]
    return sorted({*found, *top, *(ROOT / "migrations").glob("*.sql")} - minified)


def name(path: Path) -> str:
    """The path as the test's id."""
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", modules(), ids=name)
def test_the_sentences_of_a_module(path: Path) -> None:
    found = sentences(path.read_text(encoding="utf-8"))
    assert [f"line {line}: {words}" for line, text in found for words in avoided(text)] == []


@pytest.mark.parametrize("path", documents(), ids=name)
def test_the_sentences_of_a_document(path: Path) -> None:
    assert avoided(path.read_text(encoding="utf-8")) == []


def test_what_is_found() -> None:
    module = '''
    """It looks
    at the task."""
    # Nobody waits: somebody
    # did cancel it.
    fail(f"told {name}, {by} hand")
    log(f"done by {hand} for good")
    '''
    found = sentences(textwrap.dedent(module))
    assert [word for _, text in found for word in AVOIDED.findall(" ".join(text.split()))] == [
        "looks at", "told", "for good", "Nobody", "somebody",
    ]  # fmt: skip
    assert avoided("Run `looks at`, or ```by\nhand```.") == []
    assert avoided("-- Made by\n-- hand.") == ["Made by hand."]
