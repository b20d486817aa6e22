"""The life of tasks: a function of clock, speed and the tier's concurrency. No work in the background."""

from __future__ import annotations

import heapq
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from service.simulator.faults import Fate
from service.simulator.ledger import Entry

PENDING_SECONDS = 2.0
RUNNING_SECONDS = (10.0, 20.0)
REFUSED_INPUT_SECONDS = 1.0  # a task whose input is refused ends soon after it starts
INPUT_CODES = ("SAFETY.INPUT.", "INPUT_PREPROCESSING.", "ASSET.")
CHARGED_CODE = "SAFETY.INPUT."  # the one class of failures that Runway does not refund

FAILURES = {
    "SAFETY.INPUT.": "The input did not pass our content moderation.",
    "SAFETY.OUTPUT.": "The generated output did not pass our content moderation.",
    "INPUT_PREPROCESSING.SAFETY.": "The text prompt did not pass our content moderation.",
    "INPUT_PREPROCESSING.": "The input could not be processed.",
    "INTERNAL.BAD_OUTPUT.": "The model did not produce a usable output.",
    "ASSET.": "An input asset has dimensions or a duration that this model does not take.",
    "THIRD_PARTY.": "The provider of this model is unavailable.",
}


@dataclass(frozen=True)
class Life:
    """How much was lived by the Unix time `since`, and how fast life goes from there."""

    since: float
    lived: float
    speed: float


class LifeClock:
    """Seconds of task life: the wall clock times a speed that may change on the way."""

    def __init__(self, clock: Callable[[], float], speed: float) -> None:
        self._clock = clock
        self.life = Life(clock(), 0.0, speed)

    def now(self) -> float:
        """Seconds lived since the start."""
        return self.life.lived + (self._clock() - self.life.since) * self.life.speed

    def set_speed(self, speed: float) -> None:
        """From here on, live this much faster than the wall clock."""
        self.life = Life(self._clock(), self.now(), speed)


@dataclass(eq=False)
class Task:
    """One generation. `created`, `started` and `ended` are seconds of task life; `files` are extensions."""

    id: str
    model: str
    ratio: str
    created_at: str
    created: float
    running_seconds: float
    fate: Fate
    entry: Entry
    started: float | None = None
    ended: float | None = None
    looks: int = 0
    files: list[str] = field(default_factory=lambda: ["mp4"])

    @property
    def workflow_id(self) -> str | None:
        """Whose invocation this is; None for a task of its own."""
        head, _, workflow_id = self.entry.path.rpartition("/")
        return workflow_id if head == "/v1/workflows" else None

    @property
    def shown_at(self) -> str:
        """The path at which Runway shows it, without its id."""
        return "/v1/tasks/" if self.workflow_id is None else "/v1/workflow_invocations/"

    def status(self, now: float) -> str:
        """Runway's word for where the task is."""
        if self.ended is not None:
            return {"fail": "FAILED", "cancelled": "CANCELLED"}.get(self.fate.end, "SUCCEEDED")
        if self.started is not None and now >= self.started:
            return "RUNNING"
        waits_for_slot = self.started is None and now >= self.created + PENDING_SECONDS
        return "THROTTLED" if waits_for_slot else "PENDING"

    def progress(self, now: float) -> float:
        """Share of the running time that has passed, 0 to 1."""
        begun = now if self.started is None else self.started
        return round(min((now - begun) / self.running_seconds, 1.0), 2) if self.running_seconds else 1.0

    def look(self, now: float) -> str:
        """The status as a GET shows it: the true one, unless a fault makes the task go backwards."""
        self.looks += 1
        status = self.status(now)
        if self.fate.end == "backwards" and self.looks % 2 == 0:
            return {"RUNNING": "PENDING", "SUCCEEDED": "RUNNING"}.get(status, status)
        return status

    def vanished(self, now: float) -> bool:
        """True when a GET no longer finds it."""
        return self.fate.end == "vanish" and self.status(now) in ("RUNNING", "SUCCEEDED")


class ModelQueue:
    """One model's slots: so many tasks at once, the others wait in order of submission."""

    def __init__(self, finished: Callable[[Task], None]) -> None:
        self._finished = finished
        self._waiting: deque[Task] = deque()
        self._running: list[tuple[float, int, Task]] = []
        self._count = 0

    def add(self, task: Task, now: float, slots: int) -> None:
        """Queue a task, and start it if a slot is free."""
        self._waiting.append(task)
        self.advance(now, slots)

    def resume(self, task: Task) -> None:
        """Put a task back where it was. Tasks come in order of submission, which is that of their starts."""
        if task.started is None:
            self._waiting.append(task)
        elif task.ended is None:
            self._run(task, task.started)

    def advance(self, now: float, slots: int) -> None:
        """Let time pass: end what is due, in order, and pass each slot on at the moment it became free."""
        self._fill(now, slots)
        while self._running and self._running[0][0] <= now:
            ends, _, task = heapq.heappop(self._running)
            task.ended = ends
            self._finished(task)
            self._fill(ends, slots)

    def remove(self, task: Task) -> None:
        """Take a task out, wherever it is."""
        if task in self._waiting:
            self._waiting.remove(task)
        self._running = [item for item in self._running if item[2] is not task]
        heapq.heapify(self._running)

    def _fill(self, at: float, slots: int) -> None:
        while self._waiting and len(self._running) < slots:
            task = self._waiting.popleft()
            self._run(task, max(at, task.created + PENDING_SECONDS))

    def _run(self, task: Task, started: float) -> None:
        task.started = started
        self._count += 1
        heapq.heappush(self._running, (started + task.running_seconds, self._count, task))


def running_seconds(fate: Fate, usual: float) -> float:
    """How long a task with this fate runs."""
    if fate.end == "cancelled":
        return 0.0
    refused = fate.end == "fail" and (fate.code or "").startswith(INPUT_CODES)
    return REFUSED_INPUT_SECONDS if refused else usual


def refund(task: Task) -> int:
    """Credits that come back when the task has ended by itself."""
    failed_free = task.fate.end == "fail" and not (task.fate.code or "").startswith(CHARGED_CODE)
    return task.entry.charged if failed_free or task.fate.end == "cancelled" else 0


def describe(task: Task, now: float, output: Callable[[Task], list[str]]) -> dict[str, Any]:
    """The task as `GET /v1/tasks/{id}` shows it, or the invocation as `GET /v1/workflow_invocations/{id}` does.

    Source: types/task_retrieve_response.py and types/workflow_invocation_retrieve_response.py of Runway's SDK.
    """
    status = task.look(now)
    view: dict[str, Any] = {"id": task.id, "createdAt": task.created_at, "status": status}
    view |= dict(_details(task, status, now, output))
    if task.workflow_id is None:
        return view
    view.pop("estimatedCost", None)
    if status in ("RUNNING", "SUCCEEDED"):
        made = view.get("output", [])
        view["output"] = {str(uuid.uuid5(uuid.NAMESPACE_URL, task.workflow_id)): made} if made else {}
    return view


def _details(task: Task, status: str, now: float, output: Callable[[Task], list[str]]) -> Iterator[tuple[str, Any]]:
    if status == "RUNNING":
        yield "progress", task.progress(now) if task.ended is None else 0.5
    if status in ("PENDING", "THROTTLED", "RUNNING"):
        yield "estimatedCost", {"credits": task.entry.charged}
        return
    if status == "SUCCEEDED":
        yield "output", [] if task.fate.end == "empty" else output(task)
    if status == "FAILED":
        code = task.fate.code
        words = next((text for prefix, text in FAILURES.items() if (code or "").startswith(prefix)), None)
        yield "failure", words or "An unexpected error occurred."
        yield "failureCode", code
    yield "cost", {"credits": task.entry.cost}
