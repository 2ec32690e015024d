"""The way to a server far off: a proxy that lets each request wait, in a process of its own.

In that of a contestant it would wait for the interpreter's lock, and the longer the more uploads
are under way at once: a latency that no network has.
"""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

from tests.services.http_proxy import HTTPProxy


class SlowWay:
    """A proxy before the server at *host* and *port* that holds each request for *latency* seconds.

    Attributes:
        port: Where the proxy listens, on loopback.
    """

    def __init__(self, host: str, port: int, latency: float) -> None:
        # Not forked: a fork would inherit what drivers have opened.
        context = multiprocessing.get_context("spawn")
        self._connection, far_end = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(host, port, latency, far_end), daemon=True
        )
        self._process.start()
        far_end.close()
        self.port: int = self._connection.recv()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ask("end")
        self._process.join()

    def forget(self) -> None:
        """Begin to count requests anew."""
        self._ask("forget")

    def count(self) -> int:
        """Return how many requests have arrived."""
        requests: int = self._ask("count")
        return requests

    def _ask(self, question: str) -> Any:
        self._connection.send(question)
        return self._connection.recv()


def _serve(host: str, port: int, latency: float, connection: Connection) -> None:
    with HTTPProxy(host, port) as proxy:
        proxy.pause_before_each(latency)
        connection.send(proxy.port)
        question = ""
        while question != "end":
            question = connection.recv()
            if question == "forget":
                proxy.forget()
            connection.send(len(proxy.requests))
