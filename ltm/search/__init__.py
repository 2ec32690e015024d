"""What search and metadata filters mean, in pure Python; catalogs make it fast."""
