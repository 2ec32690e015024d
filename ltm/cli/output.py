"""What a command says: documents for machines, tables and bars for people.

Rich is loaded only where there is a terminal to draw on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from ltm.cli.text import compact_json, many_lines, one_line, readable_json
from ltm.entry import JSONValue

if TYPE_CHECKING:
    from rich.console import Console

Progress = Callable[[int, int | None], None]
"""Called with how many are done and how many there are, None where that is not known."""

PAGE_ROWS = 500


class Column(NamedTuple):
    """One column of a table."""

    title: str
    width: int | None = None
    """Characters on a terminal; None takes a share of what is left."""
    share: int = 1
    """Of the columns without a width."""
    is_number: bool = False
    is_cut: bool = False
    """Whether a long cell is cut on a terminal, rather than folded."""


class Output:
    """Writes the answers of one command to standard output, and failures to standard error."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json

    @property
    def is_terminal(self) -> bool:
        """Whether standard output is read by a person, rather than by another program."""
        return sys.stdout.isatty()

    def document(self, answer: Mapping[str, Any]) -> None:
        """Write one JSON document on a line; for machines only."""
        if self.as_json:
            sys.stdout.write(f"{compact_json(answer)}\n")

    def line(self, text: str, *, style: str = "") -> None:
        """Write one line for people, with a rich *style* on a terminal."""
        if self.as_json:
            return
        if style and self.is_terminal:
            self._console().print(_cell(text, style), soft_wrap=True)
        else:
            sys.stdout.write(f"{one_line(text)}\n")

    def value(self, value: JSONValue) -> None:
        """Write a value as indented JSON."""
        sys.stdout.write(f"{readable_json(value, indent=2)}\n")

    def raw(self, text: str) -> None:
        """Write *text* as it is; on a terminal escaped, and with an end of line."""
        if self.is_terminal:
            sys.stdout.write(f"{many_lines(text)}{'' if text.endswith(chr(10)) else chr(10)}")
            return
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode(errors="backslashreplace"))

    def lines(self, text: str) -> None:
        """Write a text of many lines that came from ``ltm`` itself."""
        sys.stdout.write(text if text.endswith("\n") else f"{text}\n")

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
        """Write *rows* as they come, for people; piped, a row is a line with tabs between cells."""
        if self.as_json:
            return
        if not self.is_terminal:
            for row in rows:
                sys.stdout.write("\t".join(map(one_line, row)) + "\n")
            return
        remaining = iter(rows)
        has_header = True
        while page := list(islice(remaining, PAGE_ROWS)):
            self._draw(columns, page, has_header=has_header)
            has_header = False

    def warn(self, text: str) -> None:
        """Write one line to standard error."""
        # What is on its way to standard output comes first where both are one terminal.
        sys.stdout.flush()
        sys.stderr.write(f"{one_line(text)}\n")

    def fail(self, answer: Mapping[str, Any]) -> None:
        """Report a failure *answer* on standard error, and as a document to machines."""
        self.document(answer)
        self.warn(f"error: {answer.get('error')} ({answer.get('error_type')})")

    def confirm(self, question: str) -> bool:
        """Ask a yes-or-no *question* and return the answer; where nobody can be asked, it is yes.

        Only a person with a terminal for standard input and standard error is asked.
        """
        if sys.stdin is None or not (sys.stdin.isatty() and sys.stderr.isatty()):
            return True
        sys.stdout.flush()
        sys.stderr.write(f"{one_line(question)} [y/N] ")
        sys.stderr.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    @contextmanager
    def progress(self, label: str) -> Iterator[Progress]:
        """Draw a bar on standard error while the block runs, if that is a terminal."""
        if self.as_json or not sys.stderr.isatty():
            yield lambda _done, _total: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        drawn = (TextColumn("{task.description}"), BarColumn())
        counted = (MofNCompleteColumn(), TimeRemainingColumn())
        with Bar(*drawn, *counted, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(label, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)

    def _draw(
        self, columns: Sequence[Column], rows: Iterable[Sequence[str]], *, has_header: bool
    ) -> None:
        from rich.table import Table

        # Shares, not contents, make the widths, so that all pages look alike.
        has_header = has_header and any(column.title for column in columns)
        is_shared = any(column.width is None for column in columns)
        table = Table(box=None, pad_edge=False, show_header=has_header, expand=is_shared)
        for column in columns:
            table.add_column(
                column.title,
                width=column.width,
                ratio=column.share if column.width is None else None,
                justify="right" if column.is_number else "left",
                no_wrap=column.is_cut,
                overflow="ellipsis" if column.is_cut else "fold",
                header_style="bold",
            )
        for row in rows:
            table.add_row(*(_cell(cell) for cell in row))
        self._console().print(table)

    def _console(self) -> Console:
        from rich.console import Console

        return Console(highlight=False, markup=False, emoji=False)


def _cell(text: str, style: str = "") -> Any:
    from rich.text import Text

    return Text(one_line(text), style=style)
