"""A linked table as it is at this moment, and what that means for finding its queued rows. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from service.link_mapping import Link

GROWING = frozenset({"int2", "int4", "int8"})
SMALL_PAGES = 1_000  # 8 MB: reading all of it costs a millisecond or two


@dataclass(frozen=True)
class LinkedTable:
    """A link with its table as it is at this moment."""

    link: Link  # its `columns` are those of now
    oid: int
    kind: str  # pg_class.relkind: r, p (partitioned), v
    is_secured: bool  # row-level security hides rows from this role
    bases: Mapping[str, str]  # the plain name of each column's type, by key
    pages: int = 0  # of 8 kB, as of the last ANALYZE; 0 for a view
    indexed: frozenset[str] = field(default_factory=frozenset)  # keys of columns with which an index begins
    has_partial_index: bool = False  # with a condition that names the status: it may find queued rows, or others
    role: str | None = None  # may touch this table and nothing else; gate and mirror act as it
    seen_until: str | None = None  # the newest row that was seen, as text
    sweep_seconds: float = 0.0
    sweep_is_due: bool = True
    look_is_due: bool = True
    is_behind: bool = False  # videos whose rows are to be written
    has_left_alone: bool = False  # rows that said queued when the table was linked, and were not taken

    @property
    def id(self) -> int:
        """The link's id."""
        return self.link.id

    @property
    def absence_counts(self) -> bool:
        """Whether a row that is not found is gone: row security or a view may hide it, and another table lack it."""
        return self.kind != "v" and not self.is_secured and self.oid == self.link.table_oid

    @property
    def window_key(self) -> str | None:
        """The key of the column by which new rows are found without reading the old ones, if there is one."""
        if "created_at" in self.indexed:
            return "created_at"
        return "id" if "id" in self.indexed and self.bases["id"] in GROWING else None

    @property
    def since(self) -> str | None:
        """The newest row that was seen, as text of that column; None if nothing is known of it."""
        key, _, value = (self.seen_until or "").partition(" ")
        return value if key and key == self.window_key else None

    @property
    def is_blind(self) -> bool:
        """Whether nothing but reading the whole of a large table finds its queued rows."""
        return not self.is_cheap and self.window_key is None and "status" not in self.indexed

    @property
    def is_cheap(self) -> bool:
        """Whether all queued rows can be looked for with every tick. An index by status says so, and no single look."""
        may_have_index = "status" in self.indexed or self.has_partial_index
        if self.kind != "v" and self.pages >= SMALL_PAGES and not may_have_index:
            return False
        return self.sweep_seconds < self.slow_seconds

    @property
    def is_swept(self) -> bool:
        """Whether all queued rows are to be looked for now."""
        return self.is_cheap or self.since is None or self.sweep_is_due

    @property
    def slow_seconds(self) -> float:
        """A look that takes as long is slow. Where all rows have to be read, it says how large the table really is."""
        if self.kind == "v":
            return 0.05
        return 0.1 if self.pages >= SMALL_PAGES else 0.5

    def remembered(self, seconds: float) -> float:
        """What is kept of a look that took so long: three slow ones in a row make a table slow, a fast one ends it.

        A busy machine makes any statement slow now and then.
        """
        if seconds < self.slow_seconds:
            return 0.0
        return min(seconds, max(2 * self.sweep_seconds, self.slow_seconds / 4))
