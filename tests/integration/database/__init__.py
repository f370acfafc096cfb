"""The database bridge and the migrations against a real PostgreSQL."""
