"""Ids of videos on the command line: whole, or their beginning, if it is the beginning of one alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from uuid import UUID

import typer

from service.context import Context
from service.errors import NotFound

LEAST_CHARACTERS = 6
# An id begins with its time: to the millisecond in 13 characters, with 12 random bits in 18. The first of these that
# differs for all of a list is shown; the whole id where none does.
SHOWN_CHARACTERS = (13, 18)
WHOLE = 32  # hexadecimal digits

HELP = f"The id of the video, or its first {LEAST_CHARACTERS} characters or more."


def parse(text: str) -> str:
    """The hexadecimal digits of an id or of its beginning. Raises BadParameter."""
    digits = text.strip().lower().replace("-", "")
    if not re.fullmatch(rf"[0-9a-f]{{{LEAST_CHARACTERS},{WHOLE}}}", digits):
        words = f"{text!r} is no id: give at least the first {LEAST_CHARACTERS} of its characters, 0-9 and a-f"
        raise typer.BadParameter(words)
    return digits


async def resolve(ctx: Context, digits: str) -> UUID:
    """The video whose id begins so. Raises NotFound, also where several do, and then says which."""
    if len(digits) == WHOLE:
        return UUID(digits)
    from service.store.search import beginning_with

    found = await beginning_with(ctx.database, digits)
    if not found:
        raise NotFound(f"no video has an id that begins with {digits}")
    if len(found) > 1:
        some = ", ".join(str(one) for one in found[:3])
        raise NotFound(f"several videos have an id that begins with {digits}: give more of it ({some}, ...)")
    return found[0]


def shortened(ids: Sequence[str]) -> dict[str, str]:
    """These ids, as short as they are all different."""
    for length in SHOWN_CHARACTERS:
        if len({one[:length] for one in ids}) == len(set(ids)):
            return {one: one[:length] for one in ids}
    return {one: one for one in ids}
