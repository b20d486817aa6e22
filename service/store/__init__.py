"""Everything that is SQL: the connection, the schema, and the named statements of each duty."""
