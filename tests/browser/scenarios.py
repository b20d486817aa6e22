"""What stands on the screens: videos of every kind, as an hour of work leaves them, and pictures to begin with."""

from __future__ import annotations

import base64
import struct
import zlib
from functools import cache
from random import Random
from typing import Any
from uuid import UUID

from tests.browser.harness import Site

PROMPTS = (
    "A small boat leaves the harbour at dawn, gulls behind it",
    "Slow push in on a lighthouse while fog rolls over the cliffs",
    "A red kite climbs above a wheat field, wind from the left",
    "Time-lapse of clouds over a mountain lake, camera locked off",
    "A barista pours milk, latte art forms in close-up",
    "Night train crosses a bridge, lit windows mirrored in the river",
    "Paper planes glide through a sunlit library",
    "Handheld walk through a market street after the rain",
    "A fox looks up in the snow and runs out of frame",
    "Drone shot along a coast road, one white car below",
    "Product turntable: a ceramic teapot on warm linen",
    "A child blows dandelion seeds, backlit, shallow focus",
)
SIZE = (160, 90)  # pixels
# What happens to the n-th video; the others are made at the first attempt.
FATES = {
    3: "fail=SAFETY.INPUT.TEXT", 6: "drop_after", 9: "fail=INTERNAL.BAD_OUTPUT.CODE01", 12: "status=400",
    15: "fail=SAFETY.INPUT.TEXT", 18: "drop_after", 21: "fail=SAFETY.INPUT.TEXT", 24: "empty",
}  # fmt: skip
UNDER_WAY = 4  # of the last ones


@cache
def picture(seed: int) -> bytes:
    """A PNG: a sky that darkens downwards, of another colour for each seed."""
    width, height = SIZE
    top = [(seed * 67 + shift) % 156 + 100 for shift in (0, 90, 45)]
    rows = b"".join(b"\0" + bytes(max(0, part - row) for part in top) * width for row in range(height))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def picture_uri(seed: int) -> str:
    """The same as a data URI, so that no other host is asked for it."""
    return "data:image/png;base64," + base64.b64encode(picture(seed)).decode()


async def hand_in(site: Site, prompt: str, *, fault: str = "", seed: int = 1, **changes: Any) -> UUID:
    """Enqueue a video with a picture; with `fault`, Runway's next create goes wrong that way."""
    if fault:
        site.faults(fault)
    return await site.enqueue(**({"input": {"promptText": prompt, "promptImage": picture_uri(seed)}} | changes))


async def settle(site: Site, rounds: int = 40) -> None:
    """Tick until no video is under way."""
    for _ in range(rounds):
        await site.hurried_tick()
        if not await site.rows("SELECT FROM taxiway.videos WHERE status IN ('queued', 'processing')"):
            return
        await site.later(minutes=1)
    raise AssertionError(await site.rows("SELECT status, error_message, run_after FROM taxiway.videos"))


async def an_hour(site: Site, videos: int = 28) -> None:
    """So many videos in an hour of ticks: most are made, some failed, one is cancelled, the last are under way."""
    chance = Random(11)
    for number in range(videos):
        await _one(site, number)
        await site.later(seconds=chance.uniform(2, 25))
        await site.hurried_tick()
        if number < videos - UNDER_WAY:
            await site.later(seconds=chance.uniform(20, 60))
            await site.hurried_tick()
            await site.later(seconds=chance.uniform(0.2, 1) * 3_600 / videos)
        else:
            site.runway.state.runway.change(speed=0.4)  # these are seen while they are made
            await site.later(seconds=7)
            await site.hurried_tick()
    waiting = [await hand_in(site, PROMPTS[number], seed=number) for number in (3, 7)]
    answer = await site.api.post(f"/videos/{waiting[0]}/cancel")
    assert answer.status_code == 200, answer.text
    await site.later(seconds=3)


async def _one(site: Site, number: int) -> None:
    prompt, metadata = PROMPTS[number % len(PROMPTS)], {"order": 4_700 + number, "customer": f"studio-{number % 5}"}
    fault = FATES.get(number, "")
    if number % 5 == 4:
        words = {"model": "gen4.5", "promptText": prompt, "ratio": "1280:720", "duration": 5}
        await hand_in(site, prompt, fault=fault, operation="text_to_video", input=words, metadata=metadata)
    else:
        await hand_in(site, prompt, fault=fault, seed=number, metadata=metadata)
