"""What the processes of the tests do; each is started as ``python schema_workers.py ROLE URL ...``.

A worker says ``ready``, waits for a line, does its part and prints what came of it as JSON.
"""

from __future__ import annotations

import json
import sys

from ltm.catalog.postgres import PostgresCatalog
from ltm.cli import main


def upgrade(url: str) -> int:
    """Do what an operator does."""
    return main(["--json", "--catalog", url, "db", "upgrade"])


def use(url: str, schema: str, key: str) -> int:
    """Do what an agent does that is left to see to the schema itself."""
    catalog = PostgresCatalog(url, schema=schema, auto_migrate=True)
    catalog.track_entry(key, "sha256:0", None, 1, None, 1)
    entry = catalog.get_entry(key)
    catalog.close()
    print(json.dumps(entry is not None))
    return 0


if __name__ == "__main__":
    role, *arguments = sys.argv[1:]
    print("ready", flush=True)
    sys.stdin.readline()
    sys.exit({"upgrade": upgrade, "use": use}[role](*arguments))
