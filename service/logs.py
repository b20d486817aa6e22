"""Log lines for people, or one JSON object each. Keys, signatures and data URIs never get through."""

from __future__ import annotations

import json
import logging
import re
import secrets as randomness
import sys
import time
from collections.abc import Callable, Coroutine, Iterable
from contextvars import ContextVar
from functools import wraps
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

from service.redaction import Redactor

VIDEO = "[Video Generation]"
RUNWAY = "[Runway API]"
# The tick that this task works for: each of its lines bears it, and the tick's row in the database has it as `ref`.
tick_ref: ContextVar[str | None] = ContextVar("tick_ref", default=None)
P = ParamSpec("P")
T = TypeVar("T")


def as_tick(work: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Let each run of `work` be a tick with a short id of its own, in `tick_ref` while it runs."""

    @wraps(work)
    async def named(*arguments: P.args, **options: P.kwargs) -> T:
        token = tick_ref.set(randomness.token_hex(4))
        try:
            return await work(*arguments, **options)
        finally:
            tick_ref.reset(token)

    return named


_PLAIN = re.compile(r"[^\s\"=]+")
# What could end a line, move a cursor or turn the direction of writing: from outside, it forges a line of the log.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def one_line(text: str) -> str:
    """The text with every character written out that could end a line, or do anything to a terminal."""
    if text.isascii() and text.isprintable():
        return text
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _quoted(value: str | float) -> str:
    """A value that cannot be taken for the next pair."""
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def event(
    log: logging.Logger, prefix: str, name: str, message: str, *,
    level: int = logging.INFO, trace: bool = False, **ids: Any,
) -> None:  # fmt: skip
    """Log one event: a stable `name` for machines, `message` for people, and the ids it is about.

    `trace`: with the trace of the exception that is being handled.
    """
    if log.isEnabledFor(level):  # here, so that a line that is not logged costs next to nothing
        extra = {"prefix": prefix, "event": name, "ids": ids}
        exc_info = sys.exc_info() if trace else None
        log.handle(
            log.makeRecord(log.name, level, "", 0, message, (), exc_info, extra=extra)
        )  # no formatter asks who called


class _Formatter(logging.Formatter):
    def __init__(self, redact: Redactor) -> None:
        super().__init__()
        self.redact = redact

    def _text(self, value: object) -> str:
        return one_line(self.redact(str(value)))

    def _message(self, record: logging.LogRecord) -> str:
        prefix = getattr(record, "prefix", "")
        try:
            text = record.getMessage()
        except (TypeError, ValueError):
            # Arguments that do not fit: logging itself would print them, secrets and all.
            text = str(record.msg)
        return f"{prefix} {self._text(text)}".strip()

    def _ids(self, record: logging.LogRecord) -> dict[str, str | float]:
        ids: dict[str, Any] = getattr(record, "ids", {}) | {"tick": tick_ref.get()}
        return {
            name: value if isinstance(value, int | float) else str(value) if type(value) is UUID else self._text(value)
            for name, value in ids.items()
            if value is not None
        }

    def _traceback(self, record: logging.LogRecord) -> list[str]:
        lines = self.formatException(record.exc_info).split("\n") if record.exc_info else []
        return [self._text(line) for line in lines]


class ConsoleFormatter(_Formatter):
    """`time LEVEL [Prefix] message key=value ...`, and a traceback below, indented: it passes for nothing else."""

    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%H:%M:%S", time.gmtime(record.created))
        pairs = "".join(f" {name}={_quoted(value)}" for name, value in self._ids(record).items())
        line = f"{when}.{int(record.msecs):03d} {record.levelname:<7} {self._message(record)}{pairs}"
        return "".join([line, *(f"\n    | {line}" for line in self._traceback(record))])


class JsonFormatter(_Formatter):
    """One JSON object a line: time, level, logger, event, message, the ids, and a traceback as a list of lines."""

    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        fields: dict[str, Any] = {
            "time": when,
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": getattr(record, "event", record.name),
            "message": self._message(record),
        }
        if traceback := self._traceback(record):
            fields["traceback"] = traceback
        others = {name: value for name, value in self._ids(record).items() if name not in fields}
        return json.dumps(fields | others, ensure_ascii=False)


def formatter(log_format: str, secrets: Iterable[str]) -> logging.Formatter:
    """What writes a record as a line, in the chosen form, without any of these secrets."""
    redact = Redactor(secrets)
    return JsonFormatter(redact) if log_format == "json" else ConsoleFormatter(redact)


def configure(log_format: str, level: str, secrets: Iterable[str]) -> None:
    """Send every log line of this process to stderr in the chosen form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(log_format, secrets))
    send_to([handler], level)


def send_to(handlers: list[logging.Handler], level: str) -> None:
    """Send every log line of this process to these, and nowhere else."""
    logging.basicConfig(handlers=handlers, level=level, force=True)
    for chatty in ("databases", "httpx", "httpcore", "asyncio"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(level)))
