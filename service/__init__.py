"""Taxiway: the durable queue in front of Runway."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def version_of_package() -> str:
    """The installed version; "0" when run from a folder, as some hosts do."""
    try:
        return version("taxiway")
    except PackageNotFoundError:
        return "0"
