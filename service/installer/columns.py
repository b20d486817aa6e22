"""Which column of the app's holds what: what is safe to decide alone, and what is asked. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from service.installer import vocabulary
from service.installer.inspect import LinkRefused, Table, TableColumn
from service.installer.plan_answers import KEYS, Question, question
from service.installer.vocabulary import ALIKE, RESULT_IMAGE, SAME, bare
from service.link_mapping import WRITTEN_KEYS
from service.store.link_fit import FITTING, fits

NEEDED = ("id", "prompt", "status")
MEANING = {
    "prompt": "the prompt",
    "image": "the address of the image that a video starts with",
    "model": "Runway's model",
    "ratio": "the ratio, such as 1280:720",
    "duration": "the seconds of video",
    "max_credits": "the most credits that a video may cost",
    "input": "more of Runway's input, as JSON",
    "created_at": "the time of creation",
    "status": "the status",
    "runway_video_id": "the id of Runway's task",
    "error_message": "the reason of a failure",
    "video_url": "the address of the finished video",
    "updated_at": "the time of the last change",
}
ADDRESS_CHARACTERS = 2000  # Runway's signed addresses carry a token
EMPTIED = ("runway_video_id", "error_message", "video_url", "progress")  # when a video is queued again


@dataclass
class Columns:
    """The columns by key, open questions, and remarks."""

    names: dict[str, str] = field(default_factory=dict)
    questions: list[Question] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def propose(table: Table, answers: Mapping[str, str], hints: Mapping[str, str]) -> Columns:
    """Find a column for each key. `hints`: names by key that settings still give. Raises LinkRefused."""
    found = Columns()
    for key in KEYS:
        if key in answers:
            _take_answer(table, found, key, answers[key])
        elif key == "id":
            _propose_id(table, found)
        elif key in hints and hints[key] in table.columns:
            _take_answer(table, found, key, hints[key])
        else:
            _propose(table, found, key)
    for key in NEEDED:
        if key not in found.names and not any(each.key == f"column.{key}" for each in found.questions):
            raise LinkRefused(
                f"{table.name} has no column for {MEANING.get(key, 'the key')}: name it with --column {key}=NAME"
            )
    return found


def _take_answer(table: Table, found: Columns, key: str, name: str) -> None:
    if not name:
        if key in NEEDED:
            raise LinkRefused(f"--column {key}=: a link needs this column")
        return
    column = table.columns.get(name) or next(
        (c for c in table.columns.values() if c.name.lower() == name.lower()), None
    )
    if column is None:
        raise LinkRefused(f"{table.name} has no column {name} ({key}); it has {', '.join(table.columns)}")
    if key == "id":
        _check_key(table, column.name)
    elif not fits(key, column):
        raise LinkRefused(_unfit(table, key, column))
    _check_rights(table, key, column)
    if key in WRITTEN_KEYS and key != "status" and (why := _not_written(table, key, column)):
        raise LinkRefused(why)
    found.names[key] = column.name
    _remark_width(table, found, key, column)


def _check_key(table: Table, name: str) -> None:
    if table.kind == "r" and name not in table.unique_columns():
        raise LinkRefused(
            f"the column {name} of {table.name} does not identify rows: it needs NOT NULL and a unique index"
        )


def _propose_id(table: Table, found: Columns) -> None:
    keys = table.unique_columns()
    if keys:
        found.names["id"] = keys[0]
        _check_rights(table, "id", table.columns[keys[0]])
        return
    if table.kind == "v":
        proposal = "id" if "id" in table.columns else None
        sentence = f"Which column of the view {table.name} is unique and never empty?"
        found.questions.append(question("column.id", sentence, proposal))
        if proposal:
            found.names["id"] = proposal
        return
    composite = [index.keys for index in table.indexes if index.is_unique and len(index.keys) > 1]
    keyed = f"; its key has several columns ({', '.join(composite[0])})" if composite else ""
    raise LinkRefused(
        f"{table.name} has no single column that is unique and NOT NULL{keyed}: add one, such as "
        f"ALTER TABLE {table.sql_name} ADD COLUMN taxiway_key uuid NOT NULL UNIQUE DEFAULT gen_random_uuid()"
    )


def _propose(table: Table, found: Columns, key: str) -> None:
    same = _named(table, found, SAME.get(key, ()))
    alike = _alike(table, found, key)
    exact, others = next(iter(same), None), [column for column in alike if column not in same]
    if exact is not None and not (key == "image" and others):
        _decide(table, found, key, exact)
        return
    candidates = ([exact] if exact else []) + others
    fitting = [column for column in candidates if fits(key, column)]
    if not fitting:
        if candidates and (key in NEEDED or key == "image"):
            raise LinkRefused(_unfit(table, key, candidates[0]))
        return
    writable = [column for column in fitting if key not in WRITTEN_KEYS or not _not_written(table, key, column)]
    if not writable:
        found.notes.append(_not_written(table, key, fitting[0]) or "")
        return
    proposal = writable[0]
    names = ", ".join(column.name for column in writable)
    found.names[key] = proposal.name
    none = "" if key in NEEDED else f" (none of them: --column {key}=)"
    sentence = f"Which column holds {MEANING[key]}: {names}{none}?"
    found.questions.append(question(f"column.{key}", sentence, proposal.name))
    _remark_width(table, found, key, proposal)


def _decide(table: Table, found: Columns, key: str, column: TableColumn) -> None:
    """A column of the very name: taken, unless its type or its rights speak against it."""
    if not fits(key, column):
        if key in NEEDED or key == "image":
            raise LinkRefused(_unfit(table, key, column))
        found.notes.append(f"{column.name} is {column.type}, and is left alone")
        return
    if key in WRITTEN_KEYS and (why := _not_written(table, key, column)):
        if key == "status":
            raise LinkRefused(why)
        found.notes.append(why)
        return
    _check_rights(table, key, column)
    found.names[key] = column.name
    _remark_width(table, found, key, column)


def _named(table: Table, found: Columns, names: tuple[str, ...]) -> list[TableColumn]:
    free = [column for column in table.columns.values() if column.name not in found.names.values()]
    ranked = [(names.index(bare(c.name)), c.attnum, c) for c in free if bare(c.name) in names]
    return [column for _, _, column in sorted(ranked, key=lambda entry: entry[:2])]


def _alike(table: Table, found: Columns, key: str) -> list[TableColumn]:
    """Columns whose names look like it, but for those that another key has by its very name."""
    others = {name for other, names in SAME.items() if other != key for name in names}
    alike = _named(table, found, vocabulary.ALIKE.get(key, ()))
    if key == "image":
        named = [c for c in table.columns.values() if "image" in bare(c.name) and c.name not in found.names.values()]
        alike += [c for c in named if c not in alike and fits(key, c)]
        alike = [c for c in alike if not RESULT_IMAGE.search(bare(c.name))]
    if key == "input":
        alike = [c for c in alike if c.base in ("json", "jsonb")]
    return [column for column in alike if bare(column.name) not in others]


def _unfit(table: Table, key: str, column: TableColumn) -> str:
    allowed = FITTING[key]
    wanted = (
        "text"
        if allowed is None
        else " or ".join(sorted(allowed & {"text", "timestamptz", "jsonb", "numeric"})) or "text"
    )
    view = "; a view over the table that has it as text can be linked" if key in ("image", "prompt") else ""
    none = f", or leave it out with --column {key}=" if key not in NEEDED else ""
    return f"{table.name}: the column {column.name} ({key}) is {column.type}, and {wanted} is needed{view}{none}"


def _check_rights(table: Table, key: str, column: TableColumn) -> None:
    if not column.readable:
        raise LinkRefused(
            f"{table.role} may not read {column.name} ({key}): GRANT SELECT ON {table.sql_name} TO {table.role}"
        )


def _not_written(table: Table, key: str, column: TableColumn) -> str | None:
    """Why a column for a result is left alone, if it must be."""
    if column.is_generated or (column.is_identity and key != "status"):
        return f"{column.name} is generated by PostgreSQL, and is not written"
    if not column.writable:
        grant = f"GRANT UPDATE ({column.sql_name}) ON {table.sql_name} TO {table.role}"
        view = "the view cannot update it, or " if table.kind == "v" else ""
        return f"{column.name} is not written: {view}{table.role} may not ({grant})"
    if key in EMPTIED and column.is_required:
        drop = f"ALTER TABLE {table.sql_name} ALTER COLUMN {column.sql_name} DROP NOT NULL"
        return f"{column.name} is NOT NULL, and is not written, because Taxiway empties it at times ({drop})"
    return None


def _remark_width(table: Table, found: Columns, key: str, column: TableColumn) -> None:
    if key == "video_url" and column.width is not None and column.width < ADDRESS_CHARACTERS:
        found.notes.append(
            f"{column.name} is {column.type}: a finished video's address may be longer, and such a row is refused "
            f"(ALTER TABLE {table.sql_name} ALTER COLUMN {column.sql_name} TYPE text)"
        )
    if key == "image" and bare(column.name) in ALIKE["image"] and column.width is not None:
        found.notes.append(f"{column.name} is {column.type}: a longer address does not fit into it")
