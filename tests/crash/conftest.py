"""Databases for these tests come from no pool."""

from __future__ import annotations

import pytest


@pytest.fixture
def database_url(own_database_url: str) -> str:
    """A migrated database of this test's own: processes that are killed leave connections behind."""
    return own_database_url
