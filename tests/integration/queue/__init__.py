"""The queue's SQL functions, from several workers at once."""
