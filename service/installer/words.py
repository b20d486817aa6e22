"""Which words of the app's mean queued, processing, completed, failed and cancelled. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from service.installer.inspect import LinkRefused, Table, TableColumn
from service.installer.plan_answers import ROLES, Question, question
from service.installer.vocabulary import best, literals, role_of
from service.link_mapping import Words

SINGLE = ("processing", "completed", "failed", "cancelled")
UNWRITTEN = {"processing": "while a video is being made, its row goes on saying queued",
             "cancelled": "a cancelled video's row keeps its word"}  # fmt: skip


@dataclass
class Proposed:
    """The words, open questions and remarks. `words` is None while no word is known for queued."""

    words: Words | None = None
    questions: list[Question] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def vocabulary_of(table: Table, column: TableColumn) -> list[str]:
    """All words that the column can have, where an enum, a domain or a CHECK of this column alone lists them."""
    if column.labels is not None:
        return list(column.labels)
    checks = [check.definition for check in table.checks if check.columns == {column.name}]
    return list(dict.fromkeys(word for check in (*checks, *column.checks) for word in literals(check)))


def propose(table: Table, column: TableColumn, seen: list[str], answers: Mapping[str, tuple[str, ...]]) -> Proposed:
    """What each status is called. `seen`: words that rows have. Raises LinkRefused for answers that cannot be."""
    closed = vocabulary_of(table, column)
    known = closed or list(dict.fromkeys([*([column.default_word] if column.default_word else []), *seen]))
    found = Proposed()
    chosen: dict[str, tuple[str, ...]] = {role: answers[role] for role in ROLES if role in answers}
    _refuse_unknown(column, chosen)
    if "queued" not in chosen:
        chosen["queued"] = _queued(found, column, known, is_closed=bool(closed))
    for role in SINGLE:
        if role not in chosen and chosen["queued"]:
            chosen[role] = _single(found, column, role, known, chosen["queued"][0], is_closed=bool(closed))
    if not chosen["queued"]:
        return found
    if "cancel" not in chosen:
        chosen["cancel"] = (*chosen["cancelled"], *(word for word in known if role_of(word) == "cancel"))
    single = {role: next(iter(chosen[role]), None) for role in SINGLE}
    _refuse_twice(chosen["queued"], single)
    found.words = Words(queued=chosen["queued"], cancel=tuple(dict.fromkeys(chosen["cancel"])), **single)
    return found


def _refuse_unknown(column: TableColumn, chosen: Mapping[str, tuple[str, ...]]) -> None:
    if chosen.get("queued") == ():
        raise LinkRefused("--word queued=: a link needs the word with which a row asks for its video")
    for role, words in chosen.items():
        unknown = [word for word in words if column.labels is not None and word not in column.labels]
        if unknown:
            has = ", ".join(column.labels or ())
            raise LinkRefused(f"--word {role}={unknown[0]}: {column.type} of the column {column.name} has only {has}")


def _refuse_twice(queued: tuple[str, ...], single: Mapping[str, str | None]) -> None:
    words = [*queued, *filter(None, single.values())]
    twice = sorted({word for word in words if words.count(word) > 1})
    if twice:
        raise LinkRefused(f"the word {twice[0]} cannot mean two statuses: give each its own with --word")


def _queued(found: Proposed, column: TableColumn, known: list[str], *, is_closed: bool) -> tuple[str, ...]:
    default, likely = column.default_word, best("queued", known)
    rivals = [word for word in known if role_of(word) == "queued" and word != default]
    if default is not None and role_of(default) == "queued" and not (is_closed and rivals):
        return (default,)
    if default is None and likely is not None and len(rivals) == 1 and (is_closed or likely == "queued"):
        return (likely,)
    role = None if default is None else role_of(default)
    proposal = likely if role != "queued" and likely is not None else default if role in ("queued", None) else None
    if proposal is None and not is_closed:
        proposal = "queued"
    words = f": {', '.join(known)}" if known else ""
    said = "" if default is None else f" A new row says {default}."
    found.questions.append(
        question("word.queued", f"With which word does a row ask for its video{words}?{said}", proposal, example="WORD")
    )
    return () if proposal is None else (proposal,)


def _single(
    found: Proposed, column: TableColumn, role: str, known: list[str], queued: str, *, is_closed: bool
) -> tuple[str, ...]:
    likely = [word for word in known if role_of(word) == role]
    word = best(role, known)
    if is_closed and word is None:
        if role in UNWRITTEN:
            found.notes.append(f"{column.name} has no word for {role}: {UNWRITTEN[role]}")
            return ()
        sentence = f"Which of {', '.join(known)} means {role} (none: --word {role}=)?"
        found.questions.append(question(f"word.{role}", sentence, None, example="WORD"))
        return ()
    proposal = word or (role.upper() if queued.isupper() else role.capitalize() if queued.istitle() else role)
    # In free text the very words of Taxiway are safe; the others might be what the app calls something else.
    own = queued.lower() == "queued" and proposal.lower() == role
    if len(likely) > 1 or not (is_closed or own):
        among = f" ({', '.join(likely)})" if likely else ""
        sentence = f"Which word means {role}{among}?"
        found.questions.append(question(f"word.{role}", sentence, proposal))
    return (proposal,)
