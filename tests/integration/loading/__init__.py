"""Loading, on every PostgreSQL that is here: 18, 16 and 15."""
