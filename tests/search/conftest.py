"""Property tests have no deadline: how fast a shared machine is proves nothing."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("search", deadline=None)
settings.load_profile("search")
