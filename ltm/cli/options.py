"""Options that several commands have."""

from __future__ import annotations

import click

snapshot_option = click.option(
    "--snapshot", metavar="ID|NAME", help="As of this snapshot, instead of the present."
)
