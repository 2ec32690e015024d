"""A batch of payloads in an object store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager

from benchmarks.ours import open_sqlite
from benchmarks.rounds import Comparison, Contestant, Observed, Stopwatch, Target
from benchmarks.slow_way import SlowWay
from benchmarks.topics import Place, Topic, UnavailableError
from benchmarks.values import Entry, large_entries
from tests.services.object_server import ObjectPlace
from tests.services.processes import ServiceUnavailableError
from tests.services.s3 import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, S3Server

SIZE = 10_000
LATENCY = 0.03
"""Seconds that each request waits before the server hears of it, as on the way to a region."""


class Requests:
    """Counts the requests of one contestant, which are to be no more than its *objects*."""

    def __init__(self, way: SlowWay, objects: int) -> None:
        self._way, self._objects = way, objects
        self._counts: list[int] = []

    def counted(self, work: Callable[[Sequence[Entry], Stopwatch], None]) -> Contestant:
        """Return *work* as a contestant without a name."""

        def run(given: Sequence[Entry], lap: Stopwatch) -> None:
            self._way.forget()
            work(given, lap)
            self._counts.append(self._way.count())

        return Contestant("", run, observe=self._observe)

    def _observe(self) -> Observed:
        most = max(self._counts[1:])
        return Observed(f"{most} requests", is_fine=most <= self._objects)


@contextmanager
def _place() -> Iterator[tuple[ObjectPlace, SlowWay]]:
    try:
        with S3Server() as server, SlowWay(server.host, server.port, LATENCY) as way:
            yield server.make_place().through(way), way
    except ServiceUnavailableError as error:
        raise UnavailableError(str(error)) from error


def _upload_one_by_one(place: ObjectPlace) -> Callable[[Sequence[Entry], Stopwatch], None]:
    import boto3

    client = boto3.client(
        "s3",
        aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=SECRET_ACCESS_KEY,
        endpoint_url=f"http://{place.server.host}:{place.port}",
        region_name=REGION,
    )

    def upload(given: Sequence[Entry], lap: Stopwatch) -> None:
        for entry in given:
            content = json.dumps(entry.value, sort_keys=True).encode()
            name = f"raw/{hashlib.sha256(content).hexdigest()}"
            client.put_object(Bucket=place.name, Key=name, Body=content)
        lap()

    return upload


def _compare(place: Place) -> Iterator[Comparison]:
    count = place.scale.objects
    with ExitStack() as stack:
        bucket, way = stack.enter_context(_place())
        memory = stack.enter_context(
            closing(
                open_sqlite(
                    place.directory,
                    "catalog",
                    enable_fts=False,
                    storage=bucket.uri,
                    storage_options=bucket.options,
                )
            )
        )
        raw = Requests(way, count).counted(_upload_one_by_one(bucket))
        ours = Requests(way, count).counted(memory.store_all)
        yield Comparison(
            title=f"store_batch of {count} x 10 KB on S3",
            inputs=lambda number: large_entries(f"object{number}", count, SIZE),
            contestants=[
                raw._replace(name="raw boto3", remark="one upload after the other; less: no rows"),
                ours._replace(name="ltm", remark="16 uploads at once"),
            ],
            target=Target(8, is_floor=True),
            rounds=place.scale.uploads,
        )


OBJECTS_IN_S3 = Topic(
    "objects",
    "Payloads in an object store",
    f"Moto's server behind a proxy that lets each request wait {LATENCY * 1000:.0f} ms, as on the\n"
    "way to a region; each in a process of its own. Ratios are of throughput: more is better. No\n"
    "more requests are to be made than there are objects.",
    _compare,
)
