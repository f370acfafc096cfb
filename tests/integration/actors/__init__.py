"""Reader, writers, chunk runs, heartbeat, janitor and poller on a real PostgreSQL."""
