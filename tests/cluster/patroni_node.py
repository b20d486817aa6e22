"""One node's Patroni: `python -m tests.cluster.patroni_node CONFIGURATION`.

Patroni takes no lease shorter than 20 s. A test that waits so long for each failover has few of them; here its lower
limits are off, and its rule between the three times (loop_wait + 2 * retry_timeout <= ttl) is the test's to keep.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


def main() -> None:
    """Patroni's own main, without its lower limits."""
    config: Any = import_module("patroni.config")  # neither has type annotations, nor is it always installed
    patroni: Any = import_module("patroni.__main__")

    def take(_self: object, _config: dict[str, Any]) -> None:
        """Whatever is asked for."""

    config.Config._validate_and_adjust_timeouts = take
    patroni.main()


if __name__ == "__main__":
    main()
