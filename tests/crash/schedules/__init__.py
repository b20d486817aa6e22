"""Deterministic simulation: many processes in one loop, on a clock of its own, in an order that a seed decides."""
