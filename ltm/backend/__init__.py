"""LTM backends: what an agent talks to."""
