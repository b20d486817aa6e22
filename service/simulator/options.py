"""What can be set on the simulator, and Runway's tiers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

DAY_SECONDS = 86_400


class Tier(NamedTuple):
    """One row of Runway's table of tiers, for video models. Limits are per model and organization."""

    concurrent: int
    daily: int
    monthly_credits: int  # dollars of the table times 100: a credit is a cent


TIERS = {
    1: Tier(1, 50, 10_000),
    2: Tier(3, 500, 50_000),
    3: Tier(5, 1_000, 200_000),
    4: Tier(10, 5_000, 2_000_000),
    5: Tier(20, 25_000, 10_000_000),
}


@dataclass(frozen=True)
class SimulatorOptions:
    """How the double of Runway behaves.

    `speed`: 1 takes Runway's time, 20 is twenty times faster, 0 stops the tasks where they are.
    `tier`: 1 to 5; `concurrency` and `daily_limit` replace its numbers.
    `key`: the one key that is accepted; None accepts everything of the form `key_…`.
    `url_ttl`: seconds for which an output URL works.
    `relay_url`, `relay_secret`: where to send signed callbacks, as third parties do. Runway has none.
    """

    speed: float = 1.0
    tier: int = 3
    credits: int = 10_000
    key: str | None = None
    url_ttl: float = DAY_SECONDS
    concurrency: int | None = None
    daily_limit: int | None = None
    key_revoked: bool = False
    relay_url: str | None = None
    relay_secret: str | None = None

    def __post_init__(self) -> None:
        """Raises ValueError."""
        if self.speed < 0:
            raise ValueError("speed must not be negative")
        if self.tier not in TIERS:
            raise ValueError("tier must be 1 to 5")
        if bool(self.relay_url) != bool(self.relay_secret):
            raise ValueError("relay_url and relay_secret belong together")

    @property
    def limits(self) -> Tier:
        """What the tier allows, with the replacements applied."""
        tier = TIERS[self.tier]
        concurrent = tier.concurrent if self.concurrency is None else self.concurrency
        daily = tier.daily if self.daily_limit is None else self.daily_limit
        return Tier(concurrent, daily, tier.monthly_credits)
