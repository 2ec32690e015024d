"""A create whose answer is lost, wherever it breaks off, is done once and is our own.

Drivers and HTTP clients try again by themselves unless they are told not to, and the second attempt
finds the object of the first.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import pytest

from ltm.errors import PayloadError
from ltm.payload.store import open_payload_store
from tests.services.http_proxy import HTTPProxy
from tests.services.object_server import ObjectPlace

DELIVERED = (0, 1, 26, 40, 60)
"""Bytes of the answer that arrive; the first 25 may be a ``100 Continue``."""


@pytest.mark.parametrize("service", ["s3", "gcs", "azure"])
def test_a_create_whose_answer_breaks_off_is_done(
    service: str,
    request: pytest.FixtureRequest,
    make_http_proxy: Callable[[ObjectPlace], HTTPProxy],
) -> None:
    place: ObjectPlace = request.getfixturevalue(f"{service}_place")
    proxy = make_http_proxy(place)
    there = place.through(proxy)
    with closing(open_payload_store(there.uri, storage_options=there.options)) as store:
        store.write("a/warm", b"")  # the next one finds a connection that is open
        for byte_count in DELIVERED:
            path = f"a/{byte_count}"
            proxy.cut_after(byte_count)
            store.write(path, path.encode())
            assert store.read(path) == path.encode()
            with pytest.raises(PayloadError, match="taken"):
                store.write(path, path.encode())
        assert len([*store.list("a")]) == 1 + len(DELIVERED)
