"""With a database, in this process."""
