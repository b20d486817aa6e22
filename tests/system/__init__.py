"""Real processes, ports, PostgreSQL servers, what is shipped, and what takes long."""
