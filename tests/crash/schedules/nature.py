"""What a schedule is like: drawn from its seed, for what is always a little of everything finds less."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True)
class Nature:
    """How much there is to do, and how likely it is that something unusual happens, at each chance to.

    `rounds`: of each process; `switching`: to go on with another one; `time`: that time passes although one could go
    on; `overlap`: that others run before a statement is committed; `trouble`: that a connection or a process ends;
    `faults`: of Runway's; `waking`: how slowly everyone acts.
    """

    policy: str
    videos: int
    acts: int
    rounds: int
    switching: float
    time: float
    overlap: float
    trouble: float
    faults: float
    waking: float

    @classmethod
    def of(cls, seed: int) -> Nature:
        """By the seed."""
        dice = Random(f"nature {seed}")
        return cls(
            policy=dice.choice(("fail", "resubmit")),
            videos=dice.choice((1, 1, 2, 3)),
            acts=dice.choice((1, 2, 4)),
            rounds=dice.choice((1, 2, 3)),
            switching=dice.choice((0.1, 0.4, 0.9)),
            time=dice.choice((0.0, 0.02, 0.1)),
            overlap=dice.choice((0.0, 0.1, 0.5)),
            trouble=dice.choice((0.0, 0.03, 0.1, 0.3)),
            faults=dice.choice((0.0, 0.1, 0.3)),
            waking=dice.choice((0.2, 3.0, 25.0)),
        )
