"""PostgreSQL: the event store's adapter and the embedded server."""
