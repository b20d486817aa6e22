"""What the operator has decided about a link, and what is still open. Pure."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, replace
from typing import Literal

from service.installer.inspect import LinkRefused
from service.link_mapping import READ_KEYS, WRITTEN_KEYS, Mapping

KEYS = tuple(dict.fromkeys(("id", *READ_KEYS, *WRITTEN_KEYS)))
ROLES = ("queued", "processing", "completed", "failed", "cancelled", "cancel")


@dataclass(frozen=True)
class Question:
    """What only the operator can decide. `key`: column.image, word.failed, where, zone or existing."""

    key: str
    sentence: str
    proposal: str | None  # as an answer would be written; '' means none
    flags: str  # which answer it on the command line

    @property
    def shown(self) -> str:
        """The sentence and the flags, in one line."""
        return f"{self.sentence} Answer with {self.flags}."


def question(key: str, sentence: str, proposal: str | None, *, example: str = "NAME") -> Question:
    """A question with the flag that its key implies."""
    kind, _, what = key.partition(".")
    value = example if proposal is None else proposal
    answer = shlex.quote(f"{what}={value}" if what else value)
    return Question(key, sentence, proposal, f"--{kind} {answer}")


@dataclass(frozen=True)
class Answers:
    """Decisions of the operator; whatever is missing is proposed. An empty string means: none."""

    columns: dict[str, str] = field(default_factory=dict)
    words: dict[str, tuple[str, ...]] = field(default_factory=dict)
    where: str | None = None
    zone: str | None = None
    gate: bool | None = None
    existing: Literal["ignore", "take"] | None = None
    search_path: str | None = None

    @classmethod
    def of(cls, mapping: Mapping, *, existing: bool = True) -> Answers:
        """Everything that a mapping decides: of a file, or of a link that is there. What it leaves out is left out."""
        words = {role: getattr(mapping.words, role) for role in ROLES}
        listed = {role: (word,) if isinstance(word, str) else tuple(word or ()) for role, word in words.items()}
        return cls(
            columns=dict.fromkeys(KEYS, "") | {"id": mapping.id} | mapping.columns,
            words=listed,
            where=mapping.filter or "",
            zone=mapping.zone,
            gate=mapping.gate,
            existing=mapping.existing if existing else None,
            search_path=mapping.search_path,
        )

    def over(self, other: Answers) -> Answers:
        """These answers, and where they say nothing the other's."""
        return Answers(
            columns=other.columns | self.columns,
            words=other.words | self.words,
            where=other.where if self.where is None else self.where,
            zone=other.zone if self.zone is None else self.zone,
            gate=other.gate if self.gate is None else self.gate,
            existing=other.existing if self.existing is None else self.existing,
            search_path=other.search_path if self.search_path is None else self.search_path,
        )

    def answered(self, key: str, text: str) -> Answers:
        """With the answer to one question. Raises LinkRefused for what is no answer."""
        kind, _, what = key.partition(".")
        text = text.strip()
        if kind == "column":
            return replace(self, columns=self.columns | {what: text})
        if kind == "word":
            return replace(self, words=self.words | {what: listed(text)})
        if kind == "where":
            return replace(self, where=text)
        if kind == "zone":
            return replace(self, zone=text)
        if text == "take":
            return replace(self, existing="take")
        if text == "ignore":
            return replace(self, existing="ignore")
        raise LinkRefused(f"the answer is take or ignore, not {text}")


def listed(text: str) -> tuple[str, ...]:
    """Words, separated by commas."""
    return tuple(filter(None, map(str.strip, text.split(","))))


def column_answers(pairs: list[str]) -> dict[str, str]:
    """`key=name` for each column. Raises LinkRefused."""
    found = {}
    for pair in pairs:
        key, equals, name = pair.partition("=")
        if not equals or key.strip() not in KEYS:
            raise LinkRefused(f"--column {pair}: write it as key=name, with one of the keys {', '.join(KEYS)}")
        found[key.strip()] = name.strip()
    return found


def word_answers(pairs: list[str]) -> dict[str, tuple[str, ...]]:
    """`status=word` or `status=word,word`. Raises LinkRefused."""
    found = {}
    for pair in pairs:
        role, equals, words = pair.partition("=")
        if not equals or role.strip() not in ROLES:
            raise LinkRefused(f"--word {pair}: write it as status=word, with one of {', '.join(ROLES)}")
        several = role.strip() in ("queued", "cancel")
        found[role.strip()] = listed(words) if several else tuple(filter(None, [words.strip()]))
    return found
