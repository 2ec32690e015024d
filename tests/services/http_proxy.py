"""A proxy that knows HTTP: it notes requests, answers some itself, and cuts uploads in two."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import NamedTuple

from tests.services.proxy import FaultProxy


class Request(NamedTuple):
    """A request as it arrived, whatever became of it."""

    method: str
    target: str
    """Path and query."""
    head: bytes
    """All up to the empty line."""

    def field(self, name: str) -> str:
        """Return the value of header *name*, which is in lower case, or nothing."""
        return _field(self.head, name.encode()).decode()


class HTTPProxy(FaultProxy):
    """Carries HTTP/1.1 between clients and one server, which takes the proxy's address for its own.

    Attributes:
        requests: Those of all clients in the order of their arrival, up to now or to
            :meth:`forget`.
        has_held: Set once :meth:`hold_upload_after` has done so.
    """

    def __init__(self, target_host: str, target_port: int) -> None:
        super().__init__(target_host, target_port)
        self.requests: list[Request] = []
        self.has_held = threading.Event()
        self._count = 0
        self._refusal = (0, b"", "")
        self._one_in = 0
        self._pause_seconds = 0.0
        self._upload_left: int | None = None
        self._holds = False

    def forget(self) -> None:
        """Begin the list of requests anew."""
        self.requests.clear()

    def answer(self, status: int, body: bytes = b"", *, one_in: int, headers: str = "") -> None:
        """Answer one in so many requests with *status* from now on; 0 of them ends it.

        The server never hears of these. *headers* are whole lines, each with its line end.
        """
        self._call(self._set_refusal((status, body, headers), one_in))

    def pause_before_each(self, seconds: float) -> None:
        """Let each request wait so long before the server hears of it."""
        self._call(self._set_pause(seconds))

    def cut_upload_after(self, byte_count: int) -> None:
        """Pass on *byte_count* more bytes of bodies, all in all, then cut every connection once."""
        self._call(self._limit_upload(byte_count, holds=False))

    def hold_upload_after(self, byte_count: int) -> None:
        """Pass on *byte_count* more bytes of bodies, all in all, then be a black hole.

        ``pass_through`` ends it.
        """
        self.has_held.clear()
        self._call(self._limit_upload(byte_count, holds=True))

    async def _set_refusal(self, refusal: tuple[int, bytes, str], one_in: int) -> None:
        self._refusal, self._one_in, self._count = refusal, one_in, 0

    async def _set_pause(self, seconds: float) -> None:
        self._pause_seconds = seconds

    async def _limit_upload(self, byte_count: int, *, holds: bool) -> None:
        self._upload_left, self._holds = byte_count, holds

    def _readdress(self, chunk: bytes) -> bytes:
        # Servers say where an upload goes on. Ports have five digits here, so nothing grows.
        host, port = self._target
        return chunk.replace(f"{host}:{port}".encode(), f"{self.host}:{self.port}".encode())

    async def _pump_requests(
        self,
        reader: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        client: asyncio.StreamWriter,
    ) -> None:
        target.transport.set_write_buffer_limits(high=0)
        while head := await _read_head(reader):
            method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ", 2)
            self.requests.append(Request(method, path, head))
            self._count += 1
            if self._pause_seconds:
                await asyncio.sleep(self._pause_seconds)
            await self._hold()
            if self._one_in and self._count % self._one_in == 0:
                await self._refuse(head, reader, client)
                return
            target.write(head)
            await target.drain()
            async for chunk in _body_of(head, reader):
                await self._upload(chunk, target)
        if target.can_write_eof():
            target.write_eof()

    async def _upload(self, chunk: bytes, target: asyncio.StreamWriter) -> None:
        ends_here = self._upload_left is not None and self._upload_left <= len(chunk)
        if self._upload_left is not None:
            chunk, self._upload_left = chunk[: self._upload_left], self._upload_left - len(chunk)
        await self._hold()
        target.write(chunk)
        await target.drain()
        if ends_here:
            self._upload_left = None
            if self._holds:
                self._flowing.clear()
                self.has_held.set()
                await self._flowing.wait()
            # What is left of the chunk is lost, so nobody can go on from here.
            await self._cut()

    async def _refuse(
        self, head: bytes, reader: asyncio.StreamReader, client: asyncio.StreamWriter
    ) -> None:
        """Answer in the server's place and hang up, as a server does that has too much to do."""
        status, body, headers = self._refusal
        if _field(head, b"expect"):
            client.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        async for _ in _body_of(head, reader):
            pass  # a client that is still sending may miss an answer
        if head.startswith(b"HEAD "):
            body = b""
        lines = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{headers}"
        lines += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        client.write(lines.encode() + body)
        await client.drain()
        if client.can_write_eof():
            client.write_eof()
        await reader.read()  # until the client hangs up too, or all that it sent would be reset


async def _read_head(reader: asyncio.StreamReader) -> bytes:
    """Return the next head with its empty line, or nothing where the client is done."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""


async def _body_of(head: bytes, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Yield the body that follows *head* as it is on the wire."""
    if b"chunked" in _field(head, b"transfer-encoding").lower():
        size = -1
        while size != 0:
            line = await reader.readline()
            size = int(line.split(b";")[0], 16)
            yield line + await reader.readexactly(size + 2)
        return
    left = int(_field(head, b"content-length") or 0)
    while left:
        chunk = await reader.read(min(left, 65536))
        if not chunk:
            raise ConnectionResetError("the client ended in the middle of a request")
        left -= len(chunk)
        yield chunk


def _field(head: bytes, name: bytes) -> bytes:
    """Return the value of header *name*, which is in lower case, or nothing."""
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip()
    return b""
