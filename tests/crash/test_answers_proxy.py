"""What goes wrong in a soak, tried on its own: windows, and answers that come twice or to others."""

from __future__ import annotations

import asyncio
from random import Random

import httpx
import pytest

from service.simulator.encoder import encode_mp4, prompt_of
from tests.crash.answers_proxy import Mischief, answers_proxy
from tests.crash.soak_runway import WINDOWS, window, with_windows
from tests.simulator_server import HEADERS, Clock, body, on_socket, simulator

pytestmark = [pytest.mark.anyio, pytest.mark.crash]


class Always(Random):
    """A dice that shows the same each time."""

    def __init__(self, shown: float) -> None:
        super().__init__()
        self.shown = shown

    def random(self) -> float:
        """The same each time."""
        return self.shown


async def test_answers_to_two_polls_change_places_and_an_answer_comes_twice() -> None:
    swapping, twice = Mischief(Always(0.99), rate=0.4), Mischief(Always(0.0))
    runway = simulator(Clock())
    async with on_socket(runway) as url, answers_proxy(url, swapping) as swaps, answers_proxy(url, twice) as repeats:
        async with httpx.AsyncClient(base_url=swaps.url, headers=HEADERS, trust_env=False) as client:
            made = [await client.post("/v1/image_to_video", json=body()) for _ in range(2)]
            ids = [answer.json()["id"] for answer in made]
            shown = await asyncio.gather(*(client.get(f"/v1/tasks/{task_id}") for task_id in ids))
            assert [answer.json()["id"] for answer in shown] == ids[::-1]
            alone = await client.get(f"/v1/tasks/{ids[0]}")
            assert alone.json()["id"] == ids[0]
        port = repeats.port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET /v1/organization HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\r\n".encode())
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()
    assert answer.count(b"HTTP/1.1 401") == 2
    assert swapping.did == {"answers swapped": 2}


def test_windows_come_one_after_the_other_and_end() -> None:
    times = iter([0, *range(0, 720, 30)])
    script = with_windows(lambda *_: "usual", 60.0, lambda: next(times))
    seen = [script("a boat", "retrieve", 0) for _ in range(24)]
    assert seen == [one for _, words in WINDOWS for one in [*["usual"] * 4, *[words["retrieve"]] * 2]]
    assert window(125.0, 0.0) == ("", {})


def test_a_film_says_its_prompt() -> None:
    prompt = "ein Boot, 船, 🚤 and a 'quote'"
    assert prompt_of(encode_mp4("seed", prompt=prompt)) == prompt
