"""Long-term memory for AI agents: durable, verified, searchable."""
