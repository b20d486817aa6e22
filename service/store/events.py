"""Statements on `events`: who did what.

A change appends its events itself, in its own statement (`INSERT INTO taxiway.events` stands in each of them), so that
none is lost and none is there without its change.
"""

from __future__ import annotations

ACTOR = "taxiway"  # where a caller names no other
