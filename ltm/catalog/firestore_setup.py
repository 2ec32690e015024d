"""The indexes and policies that a Firestore database needs, as the Firebase CLI deploys them.

Nothing here knows Firestore's client: the definitions are a JSON file beside this one.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from ltm.catalog.firestore_access import INDEXES_FILE
from ltm.catalog.firestore_session import Collections


def index_definitions(prefix: str = "", *, expire_entries: bool = False) -> dict[str, Any]:
    """Return the index definitions for the collections whose names begin with *prefix*.

    Args:
        prefix: The ``collection_prefix`` of the catalog.
        expire_entries: Add the policy by which Firestore deletes entries after their expiry by
            itself. What it deletes is in no list of changes and lost to snapshots, and its payloads
            are left to ``gc``.

    Returns:
        ``indexes`` and ``fieldOverrides``, each a list.

        Source: "Cloud Firestore Index Definition Format", Firebase CLI reference.
    """
    text = files("ltm.catalog").joinpath(INDEXES_FILE).read_text(encoding="utf-8")
    definitions: dict[str, list[dict[str, Any]]] = json.loads(text)
    if expire_entries:
        # All queries for expiries have other fields beside, and so indexes of their own.
        policy = {"fieldPath": "expires_at", "ttl": True, "indexes": []}
        entries = {"collectionGroup": Collections.of("").entries}
        definitions["fieldOverrides"].append(entries | policy)
    return {
        kind: [each | {"collectionGroup": prefix + each["collectionGroup"]} for each in group]
        for kind, group in definitions.items()
    }
