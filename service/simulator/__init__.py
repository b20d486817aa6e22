"""Runway's double: the same API, without a key and without a bill. It imports nothing else of the service."""
