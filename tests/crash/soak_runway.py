"""The simulator of a soak, in a process of its own that nobody kills: its ledger is the judge.

`python -m tests.crash.soak_runway PORT SEED RELAY_URL RELAY_SECRET WINDOW_SECONDS`; `GET /_soak/injected` says what
went wrong. Beside what goes wrong with one request, there are windows in which all of them do.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from random import Random

import uvicorn
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from service.simulator.app import SimulatorOptions, create_simulator
from service.simulator.faults import On
from tests.crash.scripted import Script, Scripted

SPEED = 20.0  # a task takes about a second
# How many of a video's requests of a kind may go wrong, and how often they do: so every run comes to an end.
TROUBLED = 3
RATES: Mapping[On, float] = {"create": 0.25, "retrieve": 0.15, "delete": 0.4}

# Words of service/simulator/faults.py, with weights. What pauses a model, or takes a call's whole time, is rare.
LOST_ANSWERS = dict.fromkeys(
    ("drop_before", "drop_before,reset", "drop_after", "drop_after,reset", "half", "body=garbage", "body=none",
     "body=no_id", "accepted_status=201", "accepted_status=500", "accepted_status=504", "status=500", "status=504",
     "status=408", "status=502,body=html", "accepted_status=503,body=bare"), 3,
)  # fmt: skip
FAULTS: Mapping[On, Mapping[str, int]] = {
    "create": {
        **LOST_ANSWERS,
        **dict.fromkeys(("slow=1", "stall=1"), 4),
        **dict.fromkeys(("status=502", "status=503"), 10),
        **dict.fromkeys(("status=400", "status=403", "status=422"), 2),
        **dict.fromkeys(("fail=INTERNAL", "fail=null", "fail=THIRD_PARTY.UNAVAILABLE"), 6),
        **dict.fromkeys(("fail=SAFETY.INPUT.TEXT", "fail=SAFETY.OUTPUT.VIDEO", "fail=ASSET.INVALID", "fail=NEW"), 4),
        **dict.fromkeys(("empty", "vanish", "throttled", "cancelled"), 4),
        "backwards": 8,
        **dict.fromkeys(("no_credits", "key_revoked", "daily_limit", "stall=11"), 1),
    },
    "retrieve": {
        **dict.fromkeys(("status=500", "status=502", "status=503", "status=429", "drop_before", "drop_after,reset"), 3),
        **dict.fromkeys(("half", "body=garbage", "body=html", "slow=1", "status=404,body=html"), 3),
        "vanish": 1,
    },
    "delete": dict.fromkeys(("status=500", "status=503", "drop_before", "drop_after", "half", "slow=1"), 1),
}  # fmt: skip


# Windows in which every call fails, or every task is unknown, one after the other; between two of them is as much time
# as two take.
WINDOWS: Sequence[tuple[str, Mapping[On, str]]] = (
    ("no connection is served", dict.fromkeys(RATES, "drop_before")),
    ("404 for all tasks", {"retrieve": "vanish"}),
    ("503 for everything", dict.fromkeys(RATES, "status=503")),
    ("every answer is lost", dict.fromkeys(RATES, "drop_after")),
)


def window(seconds: float, length: float) -> tuple[str, Mapping[On, str]]:
    """The window that is open so many seconds after the first create, and what it does; without a length, none."""
    number, place = divmod(seconds / length, 3) if length else (0, 0)
    return WINDOWS[int(number) % len(WINDOWS)] if place >= 2 else ("", {})


def with_windows(usual: Script, length: float, clock: Callable[[], float] = time.monotonic) -> Script:
    """The script, but in a window."""
    began: float | None = None

    def choose(prompt: str, on: On, count: int) -> str:
        nonlocal began
        began = clock() if began is None else began
        _, words = window(clock() - began, length)
        return words.get(on) or usual(prompt, on, count)

    return choose


def script(seed: int) -> Script:
    """Which request of which video goes wrong, and how: by the seed alone."""

    def choose(prompt: str, on: On, count: int) -> str:
        dice = Random(f"{seed} {prompt} {on} {count}")
        if count >= TROUBLED or dice.random() >= RATES[on]:
            return ""
        return dice.choices(list(FAULTS[on]), list(FAULTS[on].values()))[0]

    return choose


class Counted(Scripted):
    """The scripted simulator, which also tells its counts."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the one extra path, pass on the others."""
        if scope["type"] == "http" and scope["path"] == "/_soak/injected":
            return await JSONResponse(dict(self.injected))(scope, receive, send)
        return await super().__call__(scope, receive, send)


def main(port: int, seed: int, relay_url: str, relay_secret: str, window_seconds: float) -> None:
    """Serve until SIGTERM."""
    options = SimulatorOptions(
        speed=SPEED, tier=5, concurrency=500, daily_limit=10**9, credits=10**9, relay_url=relay_url,
        relay_secret=relay_secret,
    )  # fmt: skip
    app = Counted(create_simulator(options, random=Random(seed)), with_windows(script(seed), window_seconds))
    uvicorn.run(app, host="127.0.0.1", port=port, log_config=None, access_log=False, timeout_graceful_shutdown=1)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4], float(sys.argv[5]))
