"""Everybody who takes part."""

from __future__ import annotations

from tests.benchmarks.contenders.arq import Arq
from tests.benchmarks.contenders.base import Contender
from tests.benchmarks.contenders.bullmq import BullMq
from tests.benchmarks.contenders.floor import Floor
from tests.benchmarks.contenders.pgqueuer import PgQueuer
from tests.benchmarks.contenders.procrastinate import Procrastinate
from tests.benchmarks.contenders.saq import Saq
from tests.benchmarks.contenders.taxiway import Taxiway

CONTENDERS: tuple[Contender, ...] = (
    Taxiway(), Floor("row"), Floor("batch"), BullMq(), PgQueuer(), Saq(), Procrastinate(), Arq(),
)  # fmt: skip
