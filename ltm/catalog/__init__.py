"""Catalogs: one row per key."""
