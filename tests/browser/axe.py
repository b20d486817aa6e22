"""axe-core's findings on the page that is open, in words."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from playwright.async_api import Page

SERIOUS = ("serious", "critical")
RUN = "() => axe.run(document, {resultTypes: ['violations']})"


@cache
def _axe() -> str:
    return (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")


async def violations(page: Page) -> list[str]:
    """Each serious or critical violation: rule, what it says, and the elements. Evaluated past the page's CSP."""
    if not await page.evaluate("() => 'axe' in window"):
        await page.evaluate(_axe())
    result: dict[str, Any] = await page.evaluate(RUN)
    return [_words(found) for found in result["violations"] if found["impact"] in SERIOUS]


def _words(found: dict[str, Any]) -> str:
    lines = [f"{found['impact']}: {found['help']} ({found['id']})"]
    for node in found["nodes"]:
        reasons = [check["message"] for kind in ("any", "all", "none") for check in node[kind]]
        lines.append(f"    {' '.join(map(str, node['target']))}: {'; '.join(reasons)}\n        {node['html'][:200]}")
    return "\n".join(lines)
