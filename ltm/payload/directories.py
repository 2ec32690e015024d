"""The directories that the ids of entries lead to, made together once there are many of them."""

from __future__ import annotations

import os

FAN_OUT = frozenset(f"{number:02x}" for number in range(256))
"""Those that :func:`~ltm.payload.base.payload_path` leads to."""

MANY = 16
"""If there are so many of them, the others will come, too."""


def fan_out(directory: str) -> set[str]:
    """Return the directories in *directory*, which is about to be synced: their names, too.

    If there are many of those that ids lead to, the others are made, to be synced all at once.
    """
    try:
        with os.scandir(directory) as members:
            names = {each.name for each in members if each.is_dir(follow_symlinks=False)}
        if len(names & FAN_OUT) >= MANY:
            for name in FAN_OUT - names:
                try:
                    os.mkdir(f"{directory}/{name}")
                except FileExistsError:
                    pass  # by another process
                names.add(name)
    except OSError:
        return set()  # they are made one by one then, and synced when they are needed
    return {f"{directory}/{name}" for name in names}
