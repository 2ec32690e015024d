"""What is wrong with a PostgreSQL server, the way to it, or the schema in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from ltm.catalog.database import Database
from ltm.catalog.schema_diagnosis import describe_schema
from ltm.clock import Clock
from ltm.errors import CatalogUnavailableError, LTMError
from ltm.finding import Finding, compare_clocks, ok, problem, skipped, warning
from ltm.sql.addresses import PoolerMode
from ltm.sql.execution import Session
from ltm.sql.pools import DriverPool
from ltm.sql.postgres_questions import PostgresQuestions
from ltm.sql.refusals import explain_refusal

ANSWER_SECONDS = 5.0
"""What the answer to one of these questions may take, whatever the settings say."""

OLDEST = 120000
"""The oldest version that will do, as PostgreSQL numbers them."""

_ROUNDS = 5
_POOLER_PORT = ":6543"


class _Client(NamedTuple):
    """A connection, and which process of the server it was told of when it was made."""

    session: Session
    backend_id: int


def diagnose_postgres(
    database: Database, clock: Clock, pool_mode: PoolerMode | None
) -> Iterator[Finding]:
    """Yield what can be said of *database*, reached first; nothing in it is made or changed.

    Args:
        database: Its pool lends two connections at a time, which are closed afterwards.
        clock: What its clock is compared with.
        pool_mode: What is said to stand before the server; None where nothing is said.
    """
    questions = PostgresQuestions(database.idiom, database.schema)
    try:
        with _connected(database) as client:
            yield from _look(database, questions, client, clock, pool_mode)
    except CatalogUnavailableError as error:
        refusal = explain_refusal(error, database.pool.where)
        message = str(error) if refusal is None else refusal.message
        remedy = "this is what the server says" if refusal is None else refusal.remedy
        yield problem("catalog", message, remedy, error.error_type)


def _look(
    database: Database,
    questions: PostgresQuestions,
    client: _Client,
    clock: Clock,
    pool_mode: PoolerMode | None,
) -> Iterator[Finding]:
    yield _describe_server(questions, client.session, database.pool.where)
    if pool_mode is None:
        yield skipped("pooler", "the engine was handed in, and what is before it is its own")
    else:
        yield _find_pooler(database, questions, client, pool_mode)
    yield _find_skew(questions, client.session, clock)
    try:
        revision = database.revision()
    except LTMError as error:
        remedy = "see that the role may use the schema and read ltm_alembic_version there"
        yield problem("schema", f"can't be looked at: {error}", remedy, error.error_type)
    else:
        yield describe_schema(revision, migrates=database.migrates, command="ltm db upgrade")


def _describe_server(questions: PostgresQuestions, session: Session, where: str) -> Finding:
    ((number, version, is_replica, is_read_only),) = session.rows(questions.server, {})
    answers = f"PostgreSQL {version} answers at {where}"
    if int(number) < OLDEST:
        oldest = OLDEST // 10000
        return problem(
            "catalog",
            f"{answers}, which is older than {oldest}",
            f"upgrade the server to PostgreSQL {oldest} or newer",
            "catalog_unavailable",
        )
    if is_replica or is_read_only == "on":
        what = "a replica, where" if is_replica else "set up so that"
        return problem(
            "catalog",
            f"{answers}, and it is {what} nothing can be written",
            "name the primary in the connection string, or set default_transaction_read_only off",
            "catalog_unavailable",
        )
    return ok("catalog", answers)


def _find_pooler(
    database: Database, questions: PostgresQuestions, client: _Client, pool_mode: PoolerMode
) -> Finding:
    """Return whether what is between here and the server is what the settings say.

    A server tells a client its process when they connect; a pooler, which lends servers, tells
    a number of its own. And where two clients are served by one process, or one client by several,
    servers are lent for a transaction at a time: nobody else does that.
    """
    is_between = _serving(questions, client) != client.backend_id
    is_shared = _is_server_shared(database, questions, client)
    if is_shared and pool_mode != "transaction":
        return problem(
            "pooler",
            f"there is a pooler in transaction mode in between, and pool_mode is {pool_mode!r}: "
            "statements that are prepared on one connection turn up, or are missing, on others",
            "set pool_mode: transaction in the settings, or connect past the pooler",
            "validation_error",
        )
    if is_shared is None:
        # One in session mode may have no server left: the first connection holds it.
        return skipped("pooler", "can't be told: a second connection was not served")
    if is_shared or (is_between and pool_mode != "direct"):
        return ok("pooler", f"pool_mode is {pool_mode!r}, and there is a pooler in between")
    if is_between:
        # One in session mode keeps what a connection holds, and so does no harm.
        return ok("pooler", "there is a pooler in between; no server of its was seen to be shared")
    if pool_mode == "transaction":
        return warning(
            "pooler",
            "pool_mode is 'transaction', and there is no pooler: every call opens a connection",
            "set pool_mode: direct, and connections are kept",
        )
    if _POOLER_PORT in database.pool.where:
        return warning(
            "pooler",
            f"no pooler was seen, though port {_POOLER_PORT[1:]} is that of one in transaction "
            f"mode as a rule, and pool_mode is {pool_mode!r}",
            "set pool_mode: transaction if there is one",
        )
    return ok("pooler", f"pool_mode is {pool_mode!r}, and there is no pooler in between")


def _is_server_shared(
    database: Database, questions: PostgresQuestions, first: _Client
) -> bool | None:
    """Return whether two connections are seen to be served by the same process of the server.

    None where there are no two. One asks after the other has its answer: where the pooler has one
    server to lend, whoever held it for a transaction would keep the other waiting.
    """
    seen: set[tuple[int, int]] = set()
    try:
        with _connected(database) as second:
            for _ in range(_ROUNDS):
                seen.add((_serving(questions, first), _serving(questions, second)))
    except CatalogUnavailableError:
        return None
    firsts, seconds = {pair[0] for pair in seen}, {pair[1] for pair in seen}
    return bool(firsts & seconds) or len(firsts) > 1


def _serving(questions: PostgresQuestions, client: _Client) -> int:
    """Return the process of the server that serves *client* at this moment."""
    ((backend_id,),) = client.session.rows(questions.backend, {})
    return int(backend_id)


def _find_skew(questions: PostgresQuestions, session: Session, clock: Clock) -> Finding:
    before = clock()
    ((seen,),) = session.rows(questions.now, {})
    return compare_clocks("the clock of the server", seen, before, clock())


@contextmanager
def _connected(database: Database) -> Iterator[_Client]:
    """Give a connection that no pool keeps, in autocommit mode.

    Raises:
        CatalogUnavailableError: It could not be made, or a question was not answered.
    """
    connection = _take_out(database.pool)
    try:
        backend_id = connection.info.backend_pid
        yield _Client(Session(connection, database.dialect), backend_id)
    except database.pool.error as error:
        raise database.dialect.translate(error, database.pool.where) from error
    finally:
        connection.close()


def _take_out(pool: DriverPool) -> Any:
    connection = pool.take_out()
    # Through a pooler it would be prepared on some server, for nobody and for good.
    connection.prepare_threshold = None
    connection.statement_timeout = ANSWER_SECONDS
    return connection
