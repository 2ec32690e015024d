"""A commit is on disk before it is answered, whatever the server is set up for."""

from __future__ import annotations

import psycopg
import pytest

from ltm.catalog.postgres import PostgresCatalog
from ltm.testing.plain_suite import make_put

RECORD = """
CREATE TABLE seen (setting text);
CREATE FUNCTION record() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO seen VALUES (current_setting('synchronous_commit'));
    RETURN NULL;
END $$;
CREATE TRIGGER record AFTER INSERT OR DELETE ON ltm_entries
FOR EACH STATEMENT EXECUTE FUNCTION record();
"""


@pytest.mark.parametrize(
    ("given", "used"), [("off", "on"), ("on", "on"), ("local", "local"), ("remote_apply",) * 2]
)
def test_only_a_server_that_answers_before_the_disk_is_overruled(
    postgres_url: str, given: str, used: str
) -> None:
    name = postgres_url.rpartition("/")[2]
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(RECORD)
        connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = {given}")
        with PostgresCatalog(postgres_url) as catalog:
            catalog.track_entry("k", "sha256:0", None, 1, None, 1)
            catalog.delete_entry("k")
            with catalog.transaction() as inside:
                inside.track_entry("k", "sha256:0", None, 1, None, 1)
            for is_found in (True, False):
                put = make_put(catalog, f"plain {is_found}", 1, is_found=is_found)
                assert catalog.write_plain(put, catalog.clock())[0] is not None
        assert connection.execute("SELECT * FROM seen").fetchall() == [(used,)] * 5
