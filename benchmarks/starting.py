"""What a new process costs: the import, and all up to the first answer."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

from benchmarks.ours import open_postgres, open_sqlite
from benchmarks.postgres import make_database, running_postgres
from benchmarks.rounds import Comparison, Contestant, Stopwatch, Target
from benchmarks.topics import Place, Topic, UnavailableError

ROOT = Path(__file__).parents[1]

_RAW_VERBS = """
key, text = sys.argv[2], json.dumps({"note": "first"}, sort_keys=True)
digest = hashlib.sha256(text.encode()).hexdigest()
connection.execute(
    f"INSERT INTO raw_entries VALUES ({MARK}, {MARK}, {MARK}) ON CONFLICT (key) DO UPDATE "
    "SET value = excluded.value, hash = excluded.hash", (key, text, digest))
text, digest = connection.execute(
    f"SELECT value, hash FROM raw_entries WHERE key = {MARK}", (key,)).fetchone()
assert hashlib.sha256(text.encode()).hexdigest() == digest and json.loads(text)
connection.close()
"""
_CREATE = "CREATE TABLE IF NOT EXISTS raw_entries (key TEXT PRIMARY KEY, value TEXT, hash TEXT)"
_RAW_SQLITE = f"""
import hashlib, json, sqlite3, sys
MARK = "?"
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode=WAL")
connection.execute("PRAGMA synchronous=NORMAL")
connection.execute({_CREATE!r})
{_RAW_VERBS}"""
_RAW_POSTGRES = f"""
import hashlib, json, psycopg, sys
MARK = "%s"
connection = psycopg.connect(sys.argv[1], autocommit=True)
{_RAW_VERBS}"""
_OURS = """
import sys
from ltm import create_ltm_backend
catalog = {CATALOG}
with create_ltm_backend(catalog_config=catalog, storage_uri=sys.argv[3]) as memory:
    assert memory.store(sys.argv[2], {"note": "first"})["stored"]
    assert memory.retrieve(sys.argv[2])["found"]
"""
_OURS_SQLITE = _OURS.replace("{CATALOG}", '{"type": "sqlite", "path": sys.argv[1]}')
_OURS_POSTGRES = _OURS.replace(
    "{CATALOG}", '{"type": "postgres", "connection_string": sys.argv[1]}'
)
_LANGGRAPH = """
import sys
from langgraph.store.sqlite import SqliteStore
with SqliteStore.from_conn_string(sys.argv[1]) as store:
    store.setup()
    store.put(("benchmark",), sys.argv[2], {"note": "first"})
    assert store.get(("benchmark",), sys.argv[2])
"""
_DISKCACHE = """
import sys
from diskcache import Cache
with Cache(sys.argv[1]) as cache:
    cache.set(sys.argv[2], {"note": "first"})
    assert cache.get(sys.argv[2])
"""


def start(name: str, script: str, *arguments: str, remark: str = "") -> Contestant:
    """Return a contestant that runs *script* in a new interpreter, with a key of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def run(number: int, lap: Stopwatch) -> None:
        place, *others = arguments or ("",)
        command = [sys.executable, "-c", script, place, f"{name} {number}", *others]
        subprocess.run(command, env=environment, cwd=ROOT, check=True)
        lap()

    return Contestant(name, run, remark)


def _compare(place: Place) -> Iterator[Comparison]:
    rounds, directory = place.scale.starts, place.directory
    yield Comparison(
        title="import ltm",
        contestants=[start("bare interpreter", "pass"), start("ltm", "import ltm")],
        target=Target(1.1),
        rounds=rounds,
    )
    # The warm-up compiles what is not compiled yet; the schema is there before.
    open_sqlite(directory, "ours").close()
    contestants = [
        start("raw sqlite3", _RAW_SQLITE, f"{directory}/raw.db", remark="less: no words"),
        start("ltm", _OURS_SQLITE, f"{directory}/ours.db", f"{directory}/ours"),
    ]
    for package, script in (("langgraph.store.sqlite", _LANGGRAPH), ("diskcache", _DISKCACHE)):
        name = package.partition(".")[0]
        if find_spec(name) is None:
            place.missing.append(f"{name}: not installed")
        else:
            contestants.append(start(name, script, f"{directory}/{name}"))
    yield Comparison(
        title="cold start on SQLite", contestants=contestants, target=Target(1.5), rounds=rounds
    )
    try:
        yield from _on_postgres(place)
    except UnavailableError as error:
        place.missing.append(f"cold start on PostgreSQL: {error}")


def _on_postgres(place: Place) -> Iterator[Comparison]:
    with running_postgres() as server:
        url = make_database(server)
        with closing(open_postgres(url, place.directory)):
            server.execute(_CREATE, url.rpartition("/")[2])
        yield Comparison(
            title="cold start on PostgreSQL",
            contestants=[
                start("raw psycopg", _RAW_POSTGRES, url, remark="less: no words"),
                start("ltm", _OURS_POSTGRES, url, f"{place.directory}/payloads"),
            ],
            target=Target(1.3),
            rounds=place.scale.starts,
        )


STARTING = Topic(
    "starting",
    "New processes",
    "From the start of the interpreter to its end, byte code compiled, on databases whose schema\n"
    "is there: import, open, first store, first get.",
    _compare,
)
