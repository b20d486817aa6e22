"""The judge of films: each completed video is downloaded, and the prompt that is written into it is compared."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import urlsplit
from uuid import UUID

import httpx

from service.simulator.encoder import prompt_of
from tests.database import connected

AT_ONCE = 8
_FILMS = """
SELECT id, video_url FROM taxiway.videos WHERE status = 'completed' ORDER BY md5(id::text) LIMIT $1
"""


async def wrong_films(
    api: httpx.AsyncClient, runway_url: str, database_url: str, prompts: Mapping[UUID, str], most: int
) -> tuple[int, list[str]]:
    """How many films were looked at, at most so many, and what is wrong with them; `runway_url`: past any proxy."""
    async with connected(database_url) as connection:
        films = {row["id"]: row["video_url"] for row in await connection.fetch(_FILMS, most)}
    few = asyncio.Semaphore(AT_ONCE)

    async def complaint(video_id: UUID, url: str) -> str:
        parts = urlsplit(url)
        async with few:
            answer = await api.get(f"{runway_url}{parts.path}?{parts.query}")
        if answer.status_code != 200:
            return f"{prompts[video_id]}: its film cannot be had ({answer.status_code})"
        shown = prompt_of(answer.content)
        return "" if shown == prompts[video_id] else f"{prompts[video_id]}: its film is that of {shown!r}"

    found = await asyncio.gather(*(complaint(*film) for film in films.items()))
    return len(films), [words for words in found if words]
