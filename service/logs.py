"""Log lines for people, or one JSON object each. Keys, signatures and data URIs never get through."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Iterable
from typing import Any

VIDEO = "[Video Generation]"
RUNWAY = "[Runway API]"

_ALWAYS_SECRET = re.compile(r"key_[0-9a-fA-F]{16,}|whsec_[A-Za-z0-9+/=]{8,}|\bv1,[A-Za-z0-9+/=]{20,}")
_DATA_URI = re.compile(r"(data:[a-zA-Z0-9.+/-]*;base64,)[A-Za-z0-9+/=_-]*")


def event(log: logging.Logger, prefix: str, name: str, message: str, *, level: int = logging.INFO, **ids: Any) -> None:
    """Log one event: a stable `name` for machines, `message` for people, and the ids it is about."""
    log.log(level, message, extra={"prefix": prefix, "event": name, "ids": ids})


class Redactor:
    """Takes known secrets, things that look like one, and the contents of data URIs out of a text."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = sorted({re.escape(s) for s in secrets if s}, key=len, reverse=True)
        self._known = re.compile("|".join(known)) if known else None

    def __call__(self, text: str) -> str:
        if self._known:
            text = self._known.sub("[secret]", text)
        return _DATA_URI.sub(r"\1[…]", _ALWAYS_SECRET.sub("[secret]", text))


class _Formatter(logging.Formatter):
    def __init__(self, redact: Redactor) -> None:
        super().__init__()
        self.redact = redact

    def _parts(self, record: logging.LogRecord) -> tuple[str, str, dict[str, Any]]:
        text = record.getMessage()
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        return getattr(record, "prefix", ""), text, getattr(record, "ids", {})


class ConsoleFormatter(_Formatter):
    """`time LEVEL [Prefix] message key=value ...`"""

    def format(self, record: logging.LogRecord) -> str:
        prefix, text, ids = self._parts(record)
        when = time.strftime("%H:%M:%S", time.gmtime(record.created))
        pairs = "".join(f" {name}={value}" for name, value in ids.items() if value is not None)
        line = f"{when}.{int(record.msecs):03d} {record.levelname:<7} {prefix + ' ' if prefix else ''}{text}{pairs}"
        return self.redact(line)


class JsonFormatter(_Formatter):
    """One JSON object a line: time, level, event, message, and the ids."""

    def format(self, record: logging.LogRecord) -> str:
        prefix, text, ids = self._parts(record)
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        fields = {
            "time": when,
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": getattr(record, "event", record.name),
            "message": f"{prefix} {text}".strip(),
        }
        return self.redact(json.dumps(fields | ids, default=str, ensure_ascii=False))


def configure(log_format: str, level: str, secrets: Iterable[str]) -> None:
    """Send every log line of this process to stderr in the chosen form."""
    redact = Redactor(secrets)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(redact) if log_format == "json" else ConsoleFormatter(redact))
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for chatty in ("databases", "httpx", "httpcore", "asyncio", "aiohttp"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(level)))
