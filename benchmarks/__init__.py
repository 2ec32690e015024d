"""Ratios against the raw driver doing the same work, measured in interleaved rounds of one run."""
