"""The schema, and everything that knows how it is written in SQL."""
