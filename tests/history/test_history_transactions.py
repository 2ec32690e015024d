"""An application's own transaction, and what a transaction leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from history_killing import LARGE, SMALL
from place import Place
from sqlalchemy import Engine, create_engine, text

from ltm.backend.duckdb import DuckDBLTMBackend
from ltm.catalog.sql import SQLCatalog
from ltm.catalog.sqlite import SQLiteCatalog
from ltm.errors import ClosedError, ConflictError


class RolledBackError(Exception):
    """Ends a transaction."""


@pytest.fixture(params=["default", "autocommit"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    options = {"isolation_level": "AUTOCOMMIT"} if request.param == "autocommit" else {}
    engine = create_engine(
        f"sqlite:///{tmp_path}/application.db", connect_args={"timeout": 1}, **options
    )
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE application (id INTEGER)"))
    yield engine
    engine.dispose()


@pytest.fixture
def application(engine: Engine, tmp_path: Path) -> Iterator[DuckDBLTMBackend]:
    """A memory in the application's own database."""
    with DuckDBLTMBackend(
        SQLiteCatalog(engine=engine), f"{tmp_path}/payloads", owns_catalog=True
    ) as memory:
        yield memory


def rows(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.scalar(text("SELECT count(*) FROM application")))


def state(memory: DuckDBLTMBackend) -> dict[str, Any]:
    return {key: value for key, value, _ in memory.iterate_all()}


def act(bound: Any) -> None:
    assert bound.store("large", LARGE + "!")["success"]
    assert bound.store("new", LARGE + "new")["created"]
    assert bound.store("small", SMALL + "!")["success"]
    assert bound.delete("gone")["deleted"]
    assert bound.retrieve("gone")["found"] is False
    assert bound.retrieve("new")["value"] == LARGE + "new"


BEFORE = {"large": LARGE, "small": SMALL, "gone": LARGE + "gone"}
AFTER = {"large": LARGE + "!", "small": SMALL + "!", "new": LARGE + "new"}


@pytest.mark.parametrize("ends", ["commit", "rollback"])
def test_an_applications_row_and_memory_commit_and_roll_back_together(
    application: DuckDBLTMBackend, engine: Engine, ends: str
) -> None:
    memory = application
    memory.store_batch(list(BEFORE.items()))
    with engine.connect() as connection:
        act(memory.using(connection))
        connection.execute(text("INSERT INTO application VALUES (1)"))
        connection.commit() if ends == "commit" else connection.rollback()
    assert rows(engine) == (1 if ends == "commit" else 0)
    assert state(memory) == (AFTER if ends == "commit" else BEFORE)
    assert memory.verify()["success"]
    collected = memory.gc(grace=0)
    assert collected["success"]
    assert collected["scheduled"] == (2 if ends == "commit" else 0)
    assert memory.verify()["success"]
    assert state(memory) == (AFTER if ends == "commit" else BEFORE)


def test_a_row_that_came_first_rolls_back_too(
    application: DuckDBLTMBackend, engine: Engine
) -> None:
    application.store("k", 1)
    with suppress(RolledBackError), engine.begin() as connection:
        application.using(connection).store("k", 2)
        connection.execute(text("INSERT INTO application VALUES (1)"))
        raise RolledBackError
    assert (rows(engine), state(application)) == (0, {"k": 1})


def test_a_verb_that_fails_undoes_itself_and_leaves_the_callers_transaction(
    application: DuckDBLTMBackend, engine: Engine
) -> None:
    application.store("k", LARGE)
    with engine.begin() as connection:
        bound = application.using(connection)
        connection.execute(text("INSERT INTO application VALUES (1)"))
        assert bound.store("k", LARGE + "!", if_absent=True)["error_type"] == "conflict"
        assert bound.store("other", 1)["success"]
    assert (rows(engine), state(application)) == (1, {"k": LARGE, "other": 1})


def test_a_closed_backend_joins_no_transaction(
    application: DuckDBLTMBackend, engine: Engine
) -> None:
    application.store("k", 1)
    application.close()
    with engine.connect() as connection, pytest.raises(ClosedError):
        application.using(connection)


def test_the_first_use_of_a_memory_may_be_in_a_transaction_that_has_written(
    application: DuckDBLTMBackend, engine: Engine
) -> None:
    with engine.connect() as connection:
        if engine.dialect.get_isolation_level(connection.connection) == "AUTOCOMMIT":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        connection.execute(text("INSERT INTO application VALUES (1)"))
        assert application.using(connection).store("k", LARGE)["success"]
        connection.commit()
    assert (rows(engine), state(application)) == (1, {"k": LARGE})


def test_a_block_within_a_block_that_raises_is_undone_alone(memory: DuckDBLTMBackend) -> None:
    with memory.transaction() as outer:
        outer.store("outer", LARGE)
        with suppress(RolledBackError), memory.transaction() as inner:
            inner.store("inner", LARGE + "inner")
            raise RolledBackError
    assert state(memory) == {"outer": LARGE}


def test_a_conflict_that_is_caught_leaves_no_payload(
    memory: DuckDBLTMBackend, place: Place
) -> None:
    memory.store("k", LARGE)
    with memory.transaction() as block:
        with pytest.raises(ConflictError):
            block.store("k", LARGE + "!", if_absent=True)
        block.store("other", LARGE)
    assert state(memory) == {"k": LARGE, "other": LARGE}
    assert place.files() == place.referenced()


def test_an_interrupt_after_the_commit_costs_no_payload(place: Place) -> None:
    class Interrupted(SQLiteCatalog):
        """Ctrl-C comes as COMMIT returns: the signal's handler runs right after it."""

        def bind(self, table: str, *, inline_threshold: int, language: str) -> SQLCatalog:
            bound = super().bind(table, inline_threshold=inline_threshold, language=language)
            begin = bound.transaction

            @contextmanager
            def transaction() -> Iterator[SQLCatalog]:
                with begin() as catalog:
                    yield catalog
                raise KeyboardInterrupt

            bound.transaction = transaction  # type: ignore[method-assign]
            return bound

    catalog = Interrupted(place.catalog)
    with DuckDBLTMBackend(catalog, str(place.storage), owns_catalog=True) as memory:
        with pytest.raises(KeyboardInterrupt), memory.transaction() as block:
            block.store("k", LARGE)
        assert memory.retrieve("k")["success"], "the value is lost"
