"""The ``ltm`` command: global options, and how every run ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from itertools import takewhile

import click

import ltm
from ltm.cli.commands_base import Group, Run, json_option
from ltm.cli.commands_doctor import doctor
from ltm.cli.commands_history import changes, diff, restore, snapshots
from ltm.cli.commands_memory import get_value, list_entries, remove, search, store
from ltm.cli.commands_query import query
from ltm.cli.commands_schema import database
from ltm.cli.commands_transfer import copy, export_entries, import_entries
from ltm.cli.commands_upkeep import (
    cleanup,
    collect_garbage,
    demo,
    health,
    migrate,
    stats,
    verify,
)
from ltm.cli.connection import CATALOG_VARIABLE, STORAGE_VARIABLE, Target
from ltm.cli.exits import BROKEN_PIPE, NEGATIVE, FailedAnswerError, exit_status
from ltm.cli.output import Output
from ltm.errors import LTMError, ValidationError

_EPILOG = """\b
Exit status:
  0    done
  1    no: not found, no such snapshot, rejected rows, an old schema
  2    usage, validation_error, serialization_error
  3    conflict
  4    catalog_unavailable
  5    storage_error, payload_missing
  6    integrity_error
  7    schema_out_of_date
  8    dependency_missing
  130  interrupted by Ctrl-C
"""


@click.group(cls=Group, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", metavar="FILE", help="Settings in YAML; the variables do not count then.")
@click.option(
    "--catalog",
    metavar="URL",
    help="sqlite:///PATH, sqlite:////ABSOLUTE/PATH, a file, postgresql://USER@HOST/DATABASE, or "
    "firestore://PROJECT/DATABASE. "
    f"[{CATALOG_VARIABLE}; ltm_catalog.db]",
)
@click.option(
    "--storage",
    metavar="URI",
    help=f"A directory, or any fsspec URL, for payloads. [{STORAGE_VARIABLE}; ./ltm_data/]",
)
@click.option("--table", metavar="NAME", help="Logical table. [default]")
@click.version_option(ltm.__version__, message="ltm %(version)s")
@click.pass_obj
def program(
    run: Run,
    *,
    config: str | None,
    catalog: str | None,
    storage: str | None,
    table: str | None,
) -> None:
    """Long-term memory for AI agents: durable, verified, searchable."""
    run.target = Target(config=config, catalog=catalog, storage=storage, table=table)


program.params.append(json_option())
_COMMANDS: tuple[click.Command, ...] = (
    store,
    get_value,
    remove,
    list_entries,
    search,
    query,
    snapshots,
    changes,
    diff,
    restore,
    stats,
    cleanup,
    collect_garbage,
    verify,
    health,
    doctor,
    copy,
    export_entries,
    import_entries,
    migrate,
    database,
    demo,
)
for _command in _COMMANDS:
    program.add_command(_command)


def run(arguments: Sequence[str]) -> int:
    """Run ``ltm`` with *arguments* and return the exit status; failures are reported, not raised.

    Raises:
        KeyboardInterrupt: Ctrl-C.
    """
    # Before parsing, so that a failure to parse is answered in JSON as well.
    as_json = "--json" in takewhile(lambda argument: argument != "--", arguments)
    output = Output(as_json=as_json)
    # A character that the terminal's encoding lacks is no reason to stop.
    with suppress(AttributeError):
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # TextIO
    try:
        status = _invoke(Run(output), arguments, output)
        sys.stdout.flush()
    except BrokenPipeError:
        _abandon_output()
        return BROKEN_PIPE
    except OSError as error:
        # The output itself fails, for want of space; what the library meets comes translated.
        _abandon_output()
        sys.stderr.write(f"error: {error} (error)\n")
        return NEGATIVE
    return status


def _invoke(run: Run, arguments: Sequence[str], output: Output) -> int:
    try:
        with program.make_context("ltm", [*arguments] or ["--help"], obj=run) as context:
            return program.invoke(context) or 0
    except click.exceptions.Exit as finished:
        return finished.exit_code
    except click.ClickException as error:
        answer = _answer(ValidationError(_usage(error)))
    except FailedAnswerError as error:
        answer = error.answer
    except LTMError as error:
        answer = _answer(error)
    output.fail(answer)
    return exit_status(answer)


def _answer(error: LTMError) -> dict[str, object]:
    return {"success": False, "error": str(error), "error_type": error.error_type}


def _usage(error: click.ClickException) -> str:
    message = error.format_message().strip().rstrip(".")
    if "://" in message:
        from ltm.config import mask_url

        # What stands in the wrong place may be a URL with a password.
        message = mask_url(message)
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"{message}; see '{context.command_path} --help'" if context else message


def _abandon_output() -> None:
    """Leave nothing for the interpreter to flush into a pipe that nobody reads."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
