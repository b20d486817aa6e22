"""What a link is: a table of the app whose rows are videos, which column holds what, and what its words mean. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from service.videos import Status

# What a column of the app's table may hold, by the key under which a mapping names it. Read at intake:
READ_KEYS = (
    "prompt", "image", "model", "ratio", "duration", "max_credits", "user_id", "input", "created_at", "status",
)  # fmt: skip
# Written by the mirror, never anything else:
WRITTEN_KEYS = (
    "status", "runway_video_id", "error_message", "video_url", "progress", "updated_at",
)  # fmt: skip


class Words(BaseModel):
    """The app's own words for a status. A word that is missing is never written; `cancel`: the app asks to cancel."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    queued: tuple[str, ...] = Field(min_length=1)  # the first is written when a row is put back in the queue
    processing: str | None = None
    completed: str | None = None
    failed: str | None = None
    cancelled: str | None = None
    cancel: tuple[str, ...] = ()

    def of(self, status: Status) -> str | None:
        """The word that the mirror writes for this status, if the app has one."""
        return self.queued[0] if status is Status.QUEUED else getattr(self, status.value)

    @property
    def ended(self) -> frozenset[str]:
        """The words that the mirror writes at an end, but for those by which the app asks to cancel."""
        return frozenset(filter(None, (self.completed, self.failed, self.cancelled))) - frozenset(self.cancel)

    @property
    def known(self) -> frozenset[str]:
        """Every word that means something to Taxiway; the mirror overwrites no other."""
        named = (self.processing, self.completed, self.failed, self.cancelled)
        return frozenset({*self.queued, *self.cancel, *filter(None, named)})


class Mapping(BaseModel):
    """A link as the operator decided it: what `taxiway link --print` writes and `--file` reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: str  # schema and name, quoted as PostgreSQL's quote_ident() does: public."Video"
    id: str  # a unique NOT NULL column
    columns: dict[str, str]  # by key (READ_KEYS, WRITTEN_KEYS); `prompt` and `status` are needed
    words: Words
    filter: str | None = None  # SQL over the table's own columns: which rows are Taxiway's
    zone: str | None = None  # of `timestamp` columns without a time zone: an IANA name
    search_path: str = "public"  # under which the app's triggers run
    gate: bool = False  # write `processing` to the row before each round's first POST
    # Rows that say queued when the table is linked for the first time: `take` is the consent to pay for them.
    existing: Literal["ignore", "take"] = "ignore"


@dataclass(frozen=True)
class Column:
    """A mapped column as it was last found: `attnum` outlives a rename, `type` is what PostgreSQL calls it."""

    name: str
    attnum: int
    type: str


@dataclass(frozen=True)
class Link:
    """One row of `taxiway.links`."""

    id: int
    schema_name: str
    table_name: str
    table_oid: int
    mapping: Mapping
    columns: dict[str, Column]  # by key, and `id`
    state: Literal["open", "paused", "closing", "closed"]
    reason: str | None

    @property
    def name(self) -> str:
        """Schema and table for people."""
        return f"{self.schema_name}.{self.table_name}"
