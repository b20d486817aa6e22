"""Databases for these tests come from no pool."""

from __future__ import annotations

import pytest


@pytest.fixture
def database_url(own_database_url: str) -> str:
    """A migrated database of this test's own: other processes connect to it, and are counted."""
    return own_database_url
