"""What a request can cost at most, in credits (1 credit = $0.01). One law: what is not known is as dear as it may be.

That goes for `auto`, for a field without a default that is not given, for a ratio in no band, and for the length of a
film that is not measured. If nothing bounds it, the price is not known, as of a model without one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Any

from service.runway.catalogue import paths
from service.runway.catalogue.rules import count_at
from service.runway.catalogue.walk import utf16_units

Schema = Mapping[str, Any]
SIZE = re.compile(r"(\d+):(\d+)")
OUTPUT = "output"  # the seconds of what is made, which is not known before


def quote(price: Mapping[str, Any] | None, schema: Schema, body: Mapping[str, Any]) -> Decimal | None:
    """The most that this valid body can cost, a whole number of credits above 0; None where nothing bounds it."""
    if price is None:
        return None
    total = Decimal(0)
    for term in price["add"]:
        count = _quantity(term.get("times"), schema, body)
        if count is None:
            return None
        if "each" in term:
            count = (count / _decimal(term["each"])).to_integral_value(ROUND_CEILING)
        total += count * _rate(term["rate"], schema, body)
    total = max(total.to_integral_value(ROUND_CEILING), _decimal(price.get("minimum", 0)))
    return total if total > 0 else None


def reads(price: Mapping[str, Any] | None, body: Mapping[str, Any]) -> Iterator[str]:
    """The fields that decide what this body costs. Of two, of which one is enough, only that which is read."""
    for term in price["add"] if price else ():
        if isinstance(term["rate"], dict):
            yield paths.by(term["rate"])[0]
        times = term.get("times")
        if isinstance(times, str):
            yield times
        elif times and "either" in times and not paths.is_given(body, times["either"][0]):
            yield times["either"][1]


def _rate(rate: Any, schema: Schema, body: Mapping[str, Any]) -> Decimal:
    if not isinstance(rate, dict):
        return _decimal(rate)
    path, by_size = paths.by(rate)
    rows = {key.lower(): _decimal(value) for key, value in rate.items() if key != "by"}
    found = paths.given_at(body, path)
    row = (_band(rows, found[0]) if by_size else paths.key(found[0])) if found else None
    return rows[row] if row in rows else max(rows.values())


def _band(rows: Mapping[str, Decimal], ratio: Any) -> str | None:
    """The band of a ratio in pixels: the smallest that ends at as many megapixels or more."""
    size = SIZE.fullmatch(ratio) if isinstance(ratio, str) else None
    if size is None:
        return None
    megapixels = Decimal(size[1]) * Decimal(size[2]) / 1_000_000
    return next((end for end in sorted(rows, key=Decimal) if megapixels <= Decimal(end)), None)


def _quantity(times: Any, schema: Schema, body: Mapping[str, Any]) -> Decimal | None:
    if times is None:
        return Decimal(1)
    if isinstance(times, str):
        return _number(times, schema, body)
    if "either" in times:
        parts, whole = times["either"]
        given = paths.given_at(body, parts)
        return Decimal(sum(given)) if given else _number(whole, schema, body)
    if "characters" in times:
        return Decimal(sum(map(utf16_units, paths.given_at(body, times["characters"]))))
    if "count" in times:
        return Decimal(sum(count_at(body, path) for path in times["count"]))
    seconds = [_seconds(path, schema, body) for path in times["seconds"]]
    return None if None in seconds else sum(filter(None, seconds), Decimal(0))


def _number(path: str, schema: Schema, body: Mapping[str, Any]) -> Decimal | None:
    found = [value for value in paths.given_at(body, path) if type(value) in (int, float)]
    dearest = found[0] if found else paths.most(paths.schema_at(schema, path))
    return None if dearest is None else _decimal(dearest)


def _seconds(path: str, schema: Schema, body: Mapping[str, Any]) -> Decimal | None:
    """How long the films or sounds of a field can be together."""
    if path != OUTPUT and not any(paths.given_at(body, path)):
        return Decimal(0)
    longest = (paths.schema_at(schema, path) or {}).get("x-seconds")
    return None if longest is None else _decimal(longest[1])


def _decimal(number: float) -> Decimal:
    return Decimal(str(number))
