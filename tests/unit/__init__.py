"""Without a database and without other processes."""
