"""The ASGI application with its database, in this process."""
