"""A page of the documentation as HTML: no HTML of its own, links to other pages as they are served.

What the repository has and the service does not serve, such as source files and plots, is named without a link.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, MutableMapping, Sequence
from functools import cache
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererProtocol
from markdown_it.token import Token
from markupsafe import Markup, escape

PAGE_LINK = re.compile(r"([a-z-]+)\.md(#.*)?")
SERVED = ("#", "/", "https://", "http://")


def anchor(heading: str) -> str:
    """The place of a heading on its page, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def render(text: str) -> Markup:
    """Markdown as HTML, which its own text cannot add any tag to."""
    tokens = _parser().parse(text)
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        if token.type == "heading_open" and following is not None:
            token.attrSet("id", anchor("".join(child.content for child in following.children or ())))
        elif token.type == "table_open":
            token.attrSet("class", "table")
        elif token.children is not None:
            token.children = list(_served(token.children))
    return Markup(_parser().renderer.render(tokens, _parser().options, {}))  # noqa: S704  # it escapes


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.add_render_rule("fence", _code)
    return parser


def _served(children: Sequence[Token]) -> Iterator[Token]:
    """The parts of a paragraph, with links to what is served, and those parts alone where nothing is."""
    is_open = True
    for child in children:
        if child.type == "link_open":
            target = str(child.attrGet("href"))
            if found := PAGE_LINK.fullmatch(target):
                child.attrSet("href", f"/docs/{found[1]}{found[2] or ''}")
            is_open = found is not None or target.startswith(SERVED)
        if child.type == "image":
            yield Token("text", "", 0, content=child.content)
        elif is_open or child.type not in ("link_open", "link_close"):
            yield child


def _code(
    _renderer: RendererProtocol, tokens: Sequence[Token], index: int, _options: Any, _env: MutableMapping[str, Any]
) -> str:
    """A block of code, which can be scrolled by keyboard."""
    return f'<pre tabindex="0"><code>{escape(tokens[index].content)}</code></pre>\n'
