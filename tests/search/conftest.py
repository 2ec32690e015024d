"""Property tests have no deadline: how fast a shared machine is proves nothing."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import settings

sys.path.append(str(Path(__file__).parents[1] / "faults"))

settings.register_profile("search", deadline=None)
settings.load_profile("search")
