"""Everybody who takes part."""

from __future__ import annotations

from tests.benchmarks.contenders.arq import Arq
from tests.benchmarks.contenders.base import Contender
from tests.benchmarks.contenders.dbos import Dbos
from tests.benchmarks.contenders.floor import Floor
from tests.benchmarks.contenders.node import NODE_PEERS
from tests.benchmarks.contenders.pgqueuer import PgQueuer
from tests.benchmarks.contenders.procrastinate import Procrastinate
from tests.benchmarks.contenders.river import River
from tests.benchmarks.contenders.saq import Saq
from tests.benchmarks.contenders.taxiway import DEFAULT, KEPT, TLS

OURS: tuple[Contender, ...] = (DEFAULT, KEPT, TLS)
FLOORS: tuple[Contender, ...] = (Floor("row"), Floor("batch"))
PEERS: tuple[Contender, ...] = (*NODE_PEERS, PgQueuer(), Procrastinate(), Dbos(), River(), Saq(), Arq())
CONTENDERS = (*OURS, *FLOORS, *PEERS)
