"""Everything that SQLAlchemy builds, and the modules in which the results are kept.

``python -m ltm.sql.building`` writes ``ltm/sql/compiled_<dialect>.py`` for each dialect.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sqlalchemy import create_mock_engine, insert
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.ddl import ExecutableDDLElement

from ltm.sql.compiling import CompiledOnce, write_text
from ltm.sql.history import HistoryStatements
from ltm.sql.idiom import Idiom
from ltm.sql.idioms import IDIOMS
from ltm.sql.models import Base
from ltm.sql.prepared import HEAD
from ltm.sql.search import SearchStatements
from ltm.sql.statements import Statements
from ltm.sql.version import VERSION

if TYPE_CHECKING:
    from ltm.sql.prepared import Text

GROUPS = {each.__name__: each for each in (Statements, HistoryStatements, SearchStatements)}
"""The classes whose statements have names."""

_HEADER = '''"""What SQLAlchemy makes of statements and models; written by ``make statements``."""

# ruff: noqa

from __future__ import annotations
'''


def build_texts(idiom: Idiom) -> Iterator[tuple[str, Text]]:
    """Yield the statements with a fixed text, by group and name."""
    for group, builder in GROUPS.items():
        owner = builder(idiom, None)
        for name in sorted(dir(builder)):
            for base in builder.__mro__:
                found = vars(base).get(name)
                if isinstance(found, CompiledOnce):
                    yield f"{group}.{name}", write_text(found.build(owner), idiom)
                if found is not None:
                    break


def build_schema(idiom: Idiom) -> list[str]:
    """Return what makes the whole schema at the newest revision in an empty database."""
    ddl: list[str] = []

    def take_down(element: ExecutableDDLElement, *_: object, **__: object) -> None:
        ddl.append(str(element.compile(dialect=idiom.sqlalchemy())).strip("\n"))

    engine = create_mock_engine(idiom.url, take_down)
    Base.metadata.create_all(engine, checkfirst=False)
    # A table's indexes come in no order.
    ddl.sort(key=lambda text: text if text.startswith("CREATE INDEX") else "")
    ddl += idiom.search_ddl
    VERSION.metadata.create_all(engine, checkfirst=False)
    first: ClauseElement = insert(VERSION).values(version_num=HEAD)
    ddl.append(
        str(first.compile(dialect=idiom.sqlalchemy(), compile_kwargs={"literal_binds": True}))
    )
    return ddl


def write_module(idiom: Idiom) -> str:
    """Return the source of the module that keeps what is built for one dialect."""
    lines = [_HEADER, "TEXTS: dict[str, tuple[object, ...]] = {"]
    lines += [f"    {name!r}: {text!r}," for name, text in build_texts(idiom)]
    lines.append("}")
    if idiom.dialect.makes_own_schema:
        lines += ["", "SCHEMA = ("]
        lines += [f"    {ddl!r}," for ddl in build_schema(idiom)]
        lines.append(")")
    return "\n".join(lines) + "\n"


def write_modules() -> None:
    """Write the modules of all dialects."""
    sources = {name: write_module(idiom) for name, idiom in IDIOMS.items()}
    for name, source in sources.items():
        path = os.path.join(os.path.dirname(__file__), f"compiled_{name}.py")
        with open(path, "w", encoding="utf-8") as module:
            module.write(source)


if __name__ == "__main__":
    write_modules()
