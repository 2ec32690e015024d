"""The command line. Importing this loads neither click nor rich."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec

from ltm.errors import MissingDependencyError

INTERRUPTED = 130
"""The exit status after Ctrl-C: 128 and the number of the signal."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``ltm`` with *arguments*, by default those of the process; return the exit status.

    Without click or rich it says how to install them on standard error and returns 1.
    """
    for package in ("click", "rich"):
        if find_spec(package) is None:
            sys.stderr.write(f"{MissingDependencyError(package, 'cli')}\n")
            return 1
    try:
        from ltm.cli.commands import run

        return run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:
        return INTERRUPTED
