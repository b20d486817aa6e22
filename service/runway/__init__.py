"""Runway's API as it is: what may be asked of it, how it is called, what it answers."""
