"""axe-core's findings on the page that is open, in words."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from playwright.async_api import Page

SERIOUS = ("serious", "critical")
RUN = "(options) => axe.run(document, options)"


@cache
def _axe() -> str:
    return (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")


async def violations(page: Page, *, only: str | None = None) -> list[str]:
    """Each serious or critical violation: rule, what it says, and the elements; `only` is the id of one rule.

    Everything is evaluated by the browser's debugger, past the page's CSP.
    """
    if not await page.evaluate("() => 'axe' in window"):
        await page.evaluate(_axe())
    options = {"resultTypes": ["violations"]} | ({"runOnly": [only]} if only else {})
    result: dict[str, Any] = await page.evaluate(RUN, options)
    return [_words(found) for found in result["violations"] if found["impact"] in SERIOUS]


def _words(found: dict[str, Any]) -> str:
    lines = [f"{found['impact']}: {found['help']} ({found['id']})"]
    for node in found["nodes"]:
        reasons = [check["message"] for kind in ("any", "all", "none") for check in node[kind]]
        lines.append(f"    {' '.join(map(str, node['target']))}: {'; '.join(reasons)}\n        {node['html'][:200]}")
    return "\n".join(lines)
