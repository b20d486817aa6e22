"""A real PostgreSQL cluster under Patroni, and what it does to the service: three nodes on this machine."""
