"""Brings a database to the schema that this version needs."""
