"""Numbers and times in words, for people. Filters of the templates."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from markupsafe import Markup, escape

NOTHING = Markup("—")
CREDITS = re.compile(r"(\d[\d,]*(?:\.\d+)?) credits\b(?!,? \(?\$)")
ENOUGH = 10  # of a unit, so that the next smaller one says nothing more
JUST_NOW_SECONDS = 1.5
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def number(value: float | Decimal | None, digits: int = 0) -> str:
    """`12,345`; a dash for None."""
    return str(NOTHING) if value is None else f"{value:,.{digits}f}"


def credits(value: float | Decimal | None) -> str:
    """Credits, with decimals only where there are some."""
    return str(NOTHING) if value is None else f"{value:,.2f}".rstrip("0").rstrip(".")


CREDITS_PER_DOLLAR = 100  # Runway's: 1 credit is $0.01


def dollars(value: float | Decimal | None) -> str:
    """Credits in dollars, as `$0.25`; a dash for None."""
    return str(NOTHING) if value is None else f"${value / CREDITS_PER_DOLLAR:,.2f}"


def money(value: float | Decimal | None) -> str:
    """`25 credits ($0.25)`; a dash for None."""
    return str(NOTHING) if value is None else f"{credits(value)} credits ({dollars(value)})"


def with_dollars(text: str) -> str:
    """The text, with dollars beside each number of credits that has none; inside brackets behind a comma."""

    def both(found: re.Match[str]) -> str:
        amount = dollars(Decimal(found[1].replace(",", "")))
        is_inside = text.count("(", 0, found.start()) > text.count(")", 0, found.start())
        return f"{found[0]}, {amount}" if is_inside else f"{found[0]} ({amount})"

    return CREDITS.sub(both, text)


def duration(seconds: float | None) -> str:
    """`0.4 s`, `42 s`, `3 min 20 s`, `2 h 5 min`, `4 d 1 h`: the two largest units, one from ten of it on; a dash."""
    if seconds is None:
        return str(NOTHING)
    if 0 < seconds < 0.05:
        return "under 0.1 s"
    if seconds < 10:
        return f"{max(seconds, 0):.1f}".removesuffix(".0") + " s"
    left = round(seconds)
    parts: list[str] = []
    for size, unit in _UNITS:
        if left >= size or parts:
            parts.append(f"{left // size} {unit}" if left // size else "")
            left %= size
    return " ".join(filter(None, parts[: 1 if int(parts[0].split()[0]) >= ENOUGH else 2]))


def ago(seconds: float | None) -> str:
    """`just now`, `3 min ago`; a dash for None."""
    if seconds is None:
        return str(NOTHING)
    return "just now" if seconds < JUST_NOW_SECONDS else f"{duration(seconds)} ago"


def relative(value: datetime, now: datetime) -> Markup:
    """`5 min ago`, `in 7 d`: in the largest unit that fits, with the exact time as the tooltip."""
    seconds = (value - now).total_seconds()
    size, unit = next(((size, unit) for size, unit in _UNITS if abs(seconds) >= size), (1, "s"))
    span = f"{abs(seconds) / size:.0f} {unit}"
    utc = value.astimezone(UTC)
    shown = "just now" if abs(seconds) < JUST_NOW_SECONDS else f"in {span}" if seconds > 0 else f"{span} ago"
    return Markup('<time data-relative datetime="{}" title="{:%Y-%m-%d %H:%M:%S} UTC">{}</time>').format(
        utc.isoformat(), utc, shown
    )


def when(value: datetime | None) -> Markup:
    """A time element, UTC to the second; a dash for None."""
    if value is None:
        return NOTHING
    utc = value.astimezone(UTC)
    shown = f"{utc:%Y-%m-%d %H:%M:%S}"
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(utc.isoformat(), shown, shown)


def code(text: str) -> Markup:
    """The text with what stands between backticks as code."""
    pieces = [
        Markup("<code>{}</code>").format(piece) if i % 2 else escape(piece) for i, piece in enumerate(text.split("`"))
    ]
    return Markup("").join(pieces)


def breakable(text: str) -> Markup:
    """A name such as `INTERNAL.BAD_OUTPUT`, which may be broken behind a dot or a line below, and nowhere else."""
    pieces = re.split(r"(?<=[._])(?=[^._])", text)
    return Markup('<code class="name">{}</code>').format(Markup("<wbr>").join(pieces))


def model_name(model: str) -> str:
    """A model as people call it."""
    return "all models" if model == "all" else model


def plural(count: int, one: str, many: str | None = None) -> str:
    """`1 video`, `2 videos`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


FILTERS: dict[str, Callable[..., Any]] = {
    "number": number,
    "credits": credits,
    "duration": duration,
    "ago": ago,
    "relative": relative,
    "dollars": dollars,
    "money": money,
    "with_dollars": with_dollars,
    "breakable": breakable,
    "when": when,
    "plural": plural,
    "code": code,
    "model_name": model_name,
}
