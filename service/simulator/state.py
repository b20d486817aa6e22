"""The account and its tasks: what Runway remembers."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any, Literal

from service.simulator.catalogue import body_name, model_of, models
from service.simulator.faults import Fate, FaultPlan
from service.simulator.ledger import Entry, Ledger, iso
from service.simulator.memory import State
from service.simulator.options import DAY_SECONDS, SimulatorOptions
from service.simulator.outputs import files_of, ratio_of
from service.simulator.prices import price
from service.simulator.tasks import RUNNING_SECONDS, LifeClock, ModelQueue, Task, describe, refund, running_seconds
from service.simulator.uploads import Uploads

MODELS = models()
Refused = Literal["no_credits", "daily_limit"]


class Runway:
    """One organization at Runway. Everything here is synchronous: one request is one step of the state."""

    def __init__(self, options: SimulatorOptions, clock: Callable[[], float], random: Random) -> None:
        self.options, self.clock, self.random = options, clock, random
        self.faults = FaultPlan()
        self.on_finished: Callable[[Task], None] = lambda task: None
        self._signing_key = random.randbytes(32)
        self._changes: dict[str, Any] = {}
        self.reset()

    def reset(self) -> None:
        """Back to the beginning: no tasks, no books, no faults, the credits of the options."""
        self.faults.clear()
        self.ledger = Ledger()
        self.credits = self.options.credits
        self.uploads = Uploads(self.clock, self.random)
        self._life = LifeClock(self.clock, self.options.speed)
        self.tasks: dict[str, Task] = {}
        self._queues = {model: ModelQueue(self._finish) for model in MODELS}
        self._made: dict[str, deque[float]] = {model: deque() for model in MODELS}

    def change(self, **settings: Any) -> None:
        """Change options on the run. Raises ValueError or TypeError, changing nothing."""
        options = replace(self.options, **settings)
        self.advance()
        self.options = options
        self._changes |= settings
        self._life.set_speed(options.speed)
        if "credits" in settings:
            self.credits = options.credits
        self.advance()

    def save(self) -> State:
        """What `load` needs. The speed is left out: it is a setting of the command that runs the simulator."""
        return State(
            version=1,
            signing_key=self._signing_key.hex(),
            changes={name: value for name, value in self._changes.items() if name != "speed"},
            credits=self.credits,
            life=self._life.life,
            made={model: list(times) for model, times in self._made.items()},
            faults=self.faults.waiting,
            entries=[entry.task_id if entry.task_id in self.tasks else entry for entry in self.ledger.entries],
            tasks=list(self.tasks.values()),
            uploads=list(self.uploads.forms.values()),
        )

    def load(self, state: State) -> None:
        """Go on where `save` was called. Raises ValueError, TypeError or KeyError, changing nothing."""
        options, key = replace(self.options, **state.changes), bytes.fromhex(state.signing_key)
        tasks = {task.id: task for task in state.tasks}
        entries = [tasks[entry].entry if isinstance(entry, str) else entry for entry in state.entries]
        queues = {model: ModelQueue(self._finish) for model in MODELS}
        for task in state.tasks:
            if task.fate.end != "throttled":
                queues[task.model].resume(task)
        self.options, self._changes, self._signing_key = options, state.changes, key
        self.faults.waiting, self.ledger, self.credits = state.faults, Ledger(entries), state.credits
        self.tasks, self._queues = tasks, queues
        self.uploads.forms = {form.id: form for form in state.uploads}
        self._made = {model: deque(state.made.get(model, ())) for model in MODELS}
        self._life.life = state.life
        self._life.set_speed(options.speed)

    def advance(self) -> float:
        """Bring every task up to date. Returns the seconds of task life."""
        now = self._life.now()
        for queue in self._queues.values():
            queue.advance(now, self.options.limits.concurrent)
        return now

    def create(self, operation: str, body: dict[str, Any], entry: Entry, fate: Fate) -> Task | Refused:
        """Make and bill the task of a valid body, or say why not."""
        now, cost = self.advance(), price(operation, body)
        model = model_of(operation, body_name(operation, body))
        if self.daily_generations(model) >= self.options.limits.daily:
            return "daily_limit"
        if cost > self.credits:
            return "no_credits"
        self.credits -= cost
        self._made[model].append(self.clock())
        task_id = str(uuid.UUID(int=self.random.getrandbits(128), version=4))
        entry.task_id, entry.model, entry.charged = task_id, model, cost
        task = Task(
            id=task_id,
            model=model,
            ratio=ratio_of(body),
            created_at=iso(self.clock()),
            created=now,
            running_seconds=running_seconds(fate, self.random.uniform(*RUNNING_SECONDS)),
            fate=fate,
            entry=entry,
            files=files_of(operation, body),
        )
        self.tasks[task_id] = task
        if fate.end != "throttled":
            self._queues[model].add(task, now, self.options.limits.concurrent)
        return task

    def find(self, task_id: str) -> Task | None:
        """The task, unless it never was, was deleted, or vanished."""
        now, task = self.advance(), self.tasks.get(task_id)
        return None if task is None or task.vanished(now) else task

    def show(self, task: Task, output: Callable[[Task], list[str]]) -> dict[str, Any]:
        """The task as a GET shows it; `output` makes the URLs of its files."""
        return describe(task, self._life.now(), output)

    def delete(self, task: Task) -> None:
        """Cancel or delete a task that `find` returned. What has not begun to run is refunded."""
        if task.status(self._life.now()) in ("PENDING", "THROTTLED"):
            self._refund(task, task.entry.charged)
        task.entry.deleted = True
        del self.tasks[task.id]
        self._queues[task.model].remove(task)
        self.advance()

    def daily_generations(self, model: str) -> int:
        """Tasks made for this model in the last 24 hours."""
        made = self._made[model]
        while made and made[0] <= self.clock() - DAY_SECONDS:
            made.popleft()
        return len(made)

    def organization(self) -> dict[str, Any]:
        """`GET /v1/organization`. Source: types/organization_retrieve_response.py of Runway's SDK."""
        self.advance()
        limits = self.options.limits
        each = {"maxConcurrentGenerations": limits.concurrent, "maxDailyGenerations": limits.daily}
        usage = {model: {"dailyGenerations": self.daily_generations(model)} for model in MODELS}
        return {
            "creditBalance": self.credits,
            "tier": {"maxMonthlyCreditSpend": limits.monthly_credits, "models": dict.fromkeys(MODELS, each)},
            "usage": {"models": usage},
        }

    def sign(self, task_id: str) -> str:
        """A token for the task's file, in the form of a JWT, with the time at which it expires."""
        header = _base64({"alg": "HS256", "typ": "JWT"})
        claims = _base64({"key": task_id, "exp": int(self.clock() + self.options.url_ttl)})
        return f"{header}.{claims}.{self._signature(f'{header}.{claims}')}"

    def token_allows(self, token: str, task_id: str) -> bool:
        """True for an unexpired token of this task."""
        signed, _, signature = token.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(signed).encode()):
            return False
        claims = json.loads(base64.urlsafe_b64decode(signed.partition(".")[2] + "=="))
        return bool(claims["key"] == task_id and claims["exp"] > self.clock())

    def _signature(self, text: str) -> str:
        digest = hmac.new(self._signing_key, text.encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    def _finish(self, task: Task) -> None:
        self._refund(task, refund(task))
        self.on_finished(task)

    def _refund(self, task: Task, amount: int) -> None:
        task.entry.refunded += amount
        self.credits += amount


def _base64(claims: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
