"""Taxiway: the durable queue in front of Runway."""
