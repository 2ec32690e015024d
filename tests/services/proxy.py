"""A TCP proxy that misbehaves on demand, to stand between a client and a server."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Self

from tests.services.processes import HOST, free_port

_ABORTIVE = struct.pack("ii", 1, 0)  # SO_LINGER with no time left: closing sends a reset


class FaultProxy:
    """Carries bytes between clients and one target, and does to them what a test asks for.

    A method that switches returns when the switch is made. ``pass_through`` ends every fault.
    """

    def __init__(self, target_host: str, target_port: int) -> None:
        self.host = HOST
        self.port = 0
        self._target = (target_host, target_port)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._switched = asyncio.Event()
        self._resets = False
        self._delay_seconds = 0.0
        self._bytes_left: int | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Listen on a free port, and pass everything through."""
        self.port = free_port()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.pass_through()

    def close(self) -> None:
        """Cut every connection and listen no more; idempotent."""
        if self._loop is None or self._thread is None:
            return
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = None

    def pass_through(self) -> None:
        """End every fault; what a delay or a black hole holds back arrives now."""
        self._call(self._switch())

    def refuse(self) -> None:
        """Refuse new connections; those that are open go on."""
        self._call(self._switch(listens=False))

    def reset(self) -> None:
        """Reset every connection: the open ones now, new ones as soon as they are accepted."""
        self._call(self._switch(resets=True))

    def blackhole(self) -> None:
        """Accept and stay silent, on open connections too; not even an end is passed on."""
        self._call(self._switch(flows=False))

    def latency(self, seconds: float) -> None:
        """Hold each chunk for *seconds*, in either direction; the next one waits its turn."""
        self._call(self._switch(delay_seconds=seconds))

    def cut_all(self) -> None:
        """Close every open connection; new ones are carried as before."""
        self._call(self._cut())

    def cut_after(self, byte_count: int) -> None:
        """Deliver *byte_count* more bytes to clients, all in all, then cut every connection once.

        With 0 the cut happens when the target next answers, and nothing of the answer arrives.
        """
        self._call(self._limit(byte_count))

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._loop is not None, "not started"
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)

    async def _switch(
        self,
        *,
        listens: bool = True,
        resets: bool = False,
        flows: bool = True,
        delay_seconds: float = 0.0,
    ) -> None:
        self._resets, self._delay_seconds, self._bytes_left = resets, delay_seconds, None
        if resets:
            await self._cut()
        if flows:
            self._flowing.set()
        else:
            self._flowing.clear()
        self._switched.set()
        self._switched = asyncio.Event()
        if listens and self._server is None:
            self._server = await asyncio.start_server(self._accept, self.host, self.port)
        elif not listens and self._server is not None:
            self._server.close()
            self._server = None

    async def _limit(self, byte_count: int) -> None:
        self._bytes_left = byte_count

    async def _cut(self) -> None:
        for writer in self._writers:
            _abort(writer, resets=self._resets)

    async def _end(self) -> None:
        if self._server is not None:
            self._server.close()
        await self._cut()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # aborted transports close their sockets in the next round

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._resets:
            _abort(writer, resets=True)
            return
        task = asyncio.get_running_loop().create_task(self._carry(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        self._writers.add(writer)
        try:
            await self._flowing.wait()
            answers, target = await asyncio.open_connection(*self._target)
            ends.append(target)
            self._writers.add(target)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump_requests(reader, target, writer))
                group.create_task(self._pump(answers, writer, is_answer=True))
        except* OSError:
            pass  # one end broke, and takes the other with it
        finally:
            for end in ends:
                self._writers.discard(end)
                _abort(end, resets=self._resets)

    async def _pump_requests(
        self,
        reader: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        client: asyncio.StreamWriter,
    ) -> None:
        """Carry what a client sends; *client* is where its answers go."""
        await self._pump(reader, target)

    def _readdress(self, chunk: bytes) -> bytes:
        """Return what of an answer the client is to see in place of *chunk*, equally long."""
        return chunk

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool = False
    ) -> None:
        # Draining then means that everything has been sent, so a cut can't take back bytes.
        writer.transport.set_write_buffer_limits(high=0)
        while chunk := await self._read(reader):
            if is_answer:
                chunk = self._readdress(chunk)
            if is_answer and self._bytes_left is not None:
                chunk = chunk[: self._bytes_left]
                self._bytes_left -= len(chunk)
            writer.write(chunk)
            await writer.drain()
            if is_answer and self._bytes_left == 0:
                self._bytes_left = None
                await self._cut()
        if writer.can_write_eof():
            writer.write_eof()

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        try:
            chunk = await reader.read(65536)
        except OSError:
            await self._flowing.wait()
            raise
        await self._hold()
        return chunk

    async def _hold(self) -> None:
        """Return after the latency, and not while nothing flows."""
        if self._delay_seconds:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._delay_seconds):
                    await self._switched.wait()
        await self._flowing.wait()


def _abort(writer: asyncio.StreamWriter, *, resets: bool) -> None:
    if resets and not writer.transport.is_closing():
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORTIVE)
    writer.transport.abort()
