"""What all commands share: the run they belong to, and ``--json`` after their name too."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from ltm.cli.connection import Target, open_memory, resolve_settings
from ltm.cli.output import Output
from ltm.errors import ValidationError

if TYPE_CHECKING:
    from ltm.backend.base import LTMBackend
    from ltm.catalog.base import Catalog
    from ltm.config import Settings

JSON_HELP = "Answer with JSON on standard output."


class Run:
    """One run of the command line: which memory it works on, and how it answers."""

    def __init__(self, output: Output, environ: Mapping[str, str] = os.environ) -> None:
        self.output = output
        self.target = Target()
        self._environ = environ

    def open(self) -> LTMBackend:
        """Return the memory; whoever opens it closes it."""
        return open_memory(self.target, self._environ)

    def open_other(self, target: Target) -> LTMBackend:
        """Return another memory; whoever opens it closes it."""
        return open_memory(target, self._environ)

    def redirect(self, *, catalog: str | None, storage: str | None) -> None:
        """Work on another catalog or payload store, where one is given."""
        self.target = replace(
            self.target,
            catalog=self.target.catalog if catalog is None else catalog,
            storage=self.target.storage if storage is None else storage,
        )

    def settings(self) -> Settings:
        """Return the settings of the memory."""
        return resolve_settings(self.target, self._environ)


def json_option() -> click.Option:
    """Return ``--json``, which is looked for before anything is parsed, and here only accepted."""
    return click.Option(["--json"], is_flag=True, expose_value=False, help=JSON_HELP)


def require_catalog(memory: LTMBackend) -> Catalog:
    """Return the catalog of *memory*.

    Raises:
        ValidationError: It has none.
    """
    from ltm.catalog.base import Catalog

    catalog = getattr(memory, "catalog", None)
    if not isinstance(catalog, Catalog):
        raise ValidationError(f"{type(memory).__name__} has no catalog to read")
    return catalog


class Command(click.Command):
    """A command that takes ``--json`` after its name as well as before."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.params.append(json_option())


class Group(click.Group):
    """A group of such commands, listed in the order in which they were added."""

    command_class = Command

    def __init__(self, *arguments: Any, **options: Any) -> None:
        # A command that is missing is an error like any other.
        super().__init__(*arguments, **{"no_args_is_help": False, **options})

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 -- the base's signature
        return list(self.commands)
