"""Circuit: what the outcomes of creates say about how many may be in flight, and whether any should be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from service.runway.outcomes import Kind, Outcome
from service.store.circuit_state import Change
from service.store.claim import OpenSubmission


@dataclass
class Circuit:
    """For one run of the submit step: what its claims said of each model.

    `limited`: models of which a claim took all that may be in flight. `stirred`: models whose row has something to
    forget. For any other model, accepted creates change nothing, and nothing is written.
    """

    limited: set[str] = field(default_factory=set)
    stirred: set[str] = field(default_factory=set)

    def note_claim(self, permitted: Sequence[OpenSubmission]) -> None:
        """Take notice of a claim; of a model without a video in it, nothing new is known."""
        taken = Counter(one.model for one in permitted)
        for one in permitted:
            if one.room is not None and taken[one.model] >= one.room:
                self.limited.add(one.model)
            else:
                self.limited.discard(one.model)
            (self.stirred.add if one.stirred else self.stirred.discard)(one.model)

    def changes(self, outcomes: Iterable[tuple[OpenSubmission, Outcome]], probes: dict[int, str]) -> list[Change]:
        """What a batch of outcomes, in the order in which they came, means for each model; only what is to be written.

        `probes`: by submission, the model that it probes. An outcome that is known says that Runway answers; a call
        that was not sent says nothing.
        """
        by_model: dict[str, list[tuple[OpenSubmission, Outcome]]] = {}
        for one, outcome in outcomes:
            if outcome.kind is not Kind.NOT_SENT:
                by_model.setdefault(one.model, []).append((one, outcome))
        return [
            change for model, pairs in by_model.items() if (change := self._change(model, pairs, probes)) is not None
        ]

    def _change(self, model: str, pairs: list[tuple[OpenSubmission, Outcome]], probes: dict[int, str]) -> Change | None:
        unknown: list[UUID] = []
        detail, is_probe, has_unknown = "", False, False
        accepted = 0
        for one, outcome in pairs:
            if outcome.kind is Kind.UNKNOWN:
                unknown.append(one.video_id)
                has_unknown = True
                detail = outcome.detail
                is_probe = is_probe or probes.get(one.submission_id) == model
            else:
                unknown.clear()
                accepted += outcome.kind is Kind.ACCEPTED
        if not has_unknown and not (model in self.limited and accepted) and model not in self.stirred:
            return None
        self.stirred.discard(model)
        return Change(
            model,
            accepted=accepted if model in self.limited else 0,
            unknown=tuple(unknown),
            is_known=len(unknown) < len(pairs),
            has_unknown=has_unknown,
            is_probe=is_probe,
            detail=f"Runway's answers to creates were lost or unclear, the last: {detail}" if has_unknown else "",
        )
