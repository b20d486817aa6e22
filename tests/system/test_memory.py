"""How much memory a process of its own needs for large rows."""

from __future__ import annotations

import asyncio
import sys

import pytest

from tests.app_tables import BASE, link
from tests.database import execute

pytestmark = pytest.mark.anyio


async def test_sixty_images_of_five_megabytes_fit_into_little_memory(database_url: str) -> None:
    await execute(database_url, BASE)
    await link(database_url)
    await execute(
        database_url,
        """INSERT INTO public.videos (prompt, image_url)
           SELECT 'p', 'data:image/png;base64,iVBORw0KGgo' || repeat('A', 4999989) FROM generate_series(1, 60)""",
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.intake_of_images", database_url, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    taken, megabytes = map(int, out.split())
    assert taken == 60
    assert megabytes <= 150, megabytes
