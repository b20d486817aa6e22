"""What `taxiway dev` shows of its log: a line for each video that has ended, and what is wrong; a file has it all."""

from __future__ import annotations

import logging
import re
import sys
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path

from service import logs
from service.commands.beside import LOG_NAME
from service.errors import BadSettings
from service.settings import Settings

LARGEST_LOG_BYTES = 5_000_000  # then it begins again, and the one before it is kept
OWN = "service.local"
STYLES = {"completed": "\x1b[32m", "failed": "\x1b[31m", "cancelled": "\x1b[2m"}
PLAIN = "\x1b[0m"
_ENDED = re.compile(r"status (completed|failed|cancelled)\b(?:, (.*))?")


def configure(settings: Settings, data: Path, *, verbose: bool) -> None:
    """Send the log to the file in the data folder, and to stderr what `verbose` asks for. Raises BadSettings."""
    formatter = logs.formatter(settings.log_format, settings.secrets)
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = RotatingFileHandler(data / LOG_NAME, maxBytes=LARGEST_LOG_BYTES, backupCount=1, encoding="utf-8")
    except OSError as exc:
        words = f"{data / LOG_NAME} cannot be written ({exc}): choose another folder with --data"
        raise BadSettings([words]) from exc
    file.setFormatter(formatter)
    shown = logging.StreamHandler(sys.stderr)
    shown.setFormatter(formatter)
    if not verbose:
        shown.addFilter(is_worth_a_line)
        shown.setFormatter(_Line(formatter, colour=sys.stderr.isatty()))
    logs.send_to([file, shown], settings.log_level)


def is_worth_a_line(record: logging.LogRecord) -> bool:
    """The end of a video; what the laptop's own parts say; and what is wrong with more than one video."""
    if _end(record) is not None:
        return True
    is_of_a_video = "video" in getattr(record, "ids", {})
    if record.levelno >= logging.WARNING:
        return not is_of_a_video or record.levelno >= logging.ERROR
    return record.levelno >= logging.INFO and record.name.startswith(OWN)


def _end(record: logging.LogRecord) -> re.Match[str] | None:
    """The status and the words with which this record says that a video ended, if it says so."""
    return _ENDED.search(record.getMessage()) if getattr(record, "event", "") in ("finished", "row_updated") else None


class _Line(logging.Formatter):
    """`12:00:07 completed 0192abcd-1f2b…`: the end of a video in a line; anything else as the log has it."""

    def __init__(self, whole: logging.Formatter, *, colour: bool) -> None:
        super().__init__()
        self._whole, self._colour = whole, colour

    def format(self, record: logging.LogRecord) -> str:
        line = self._whole.format(record)  # without secrets, and without what moves a cursor
        if _end(record) is None:
            return line
        end = _ENDED.search(line.partition(" video=")[0])
        status, words = (end[1], end[2] or "") if end else ("ended", "")
        when = time.strftime("%H:%M:%S", time.gmtime(record.created))
        shown = f"{STYLES[status]}{status:<9}{PLAIN}" if self._colour and status in STYLES else f"{status:<9}"
        return f"{when} {shown} {getattr(record, 'ids', {}).get('video')} {words}".rstrip()
