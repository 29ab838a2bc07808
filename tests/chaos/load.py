"""A steady load: so many requests a second, whatever the server does, and what became of each.

The clock decides when a request is sent, not the answer to the one before (an open loop), and its time counts from the
moment it was due: a server that stands still for a second shows as a second, not as one slow request. Connections are
kept alive and taken up again; one that the server closed with an announcement is replaced, and anything else that is not
a whole answer with the wanted status is a failure: refused, reset, cut, silent or 5xx.
"""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass, field

#: Seconds after which a request without an answer has failed.
PATIENCE = 30.0


@dataclass
class Sample:
    """One request: when it was due (seconds since the start), how long it took, and what was wrong, if anything."""

    at: float
    seconds: float
    path: str
    fault: str | None = None


@dataclass
class Steady:
    """``with Steady(port, rate=200, paths=["/"]) as load: ...``; afterwards ``load.samples``."""

    port: int
    rate: float
    paths: list[str]
    headers: str = ""
    wanted: frozenset[int] = frozenset({200})
    samples: list[Sample] = field(default_factory=list)

    def __enter__(self) -> "Steady":
        self._over = threading.Event()
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.started = time.monotonic()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load")
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._over.set()
        self._thread.join()

    @property
    def now(self) -> float:
        return time.monotonic() - self.started

    def wait_for(self, count: int) -> None:
        """Return when `count` more requests have come to their end: the load's own clock, not a sleep."""
        until = len(self.samples) + count
        while len(self.samples) < until:
            assert self._thread.is_alive(), "the load has ended"
            time.sleep(1 / self.rate)

    @property
    def faults(self) -> list[Sample]:
        return [sample for sample in self.samples if sample.fault]

    def slowest(self, since: float = 0.0, until: float = float("inf")) -> float:
        """Seconds of the slowest request that was due within these moments."""
        return max((s.seconds for s in self.samples if since <= s.at < until), default=0.0)

    def percentile(self, share: float, since: float = 0.0, until: float = float("inf")) -> float:
        times = sorted(s.seconds for s in self.samples if since <= s.at < until)
        return times[min(len(times) - 1, int(len(times) * share))] if times else 0.0

    # -- the loop

    async def _run(self) -> None:
        tasks: set[asyncio.Task] = set()
        number = 0
        while not self._over.is_set():
            due = number / self.rate
            if (wait := due - self.now) > 0:
                await asyncio.sleep(wait)
            task = asyncio.create_task(self._one(due, self.paths[number % len(self.paths)]))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            number += 1
        if tasks:
            await asyncio.wait(tasks)
        for _, writer in self._idle:
            writer.close()

    async def _one(self, due: float, path: str) -> None:
        try:
            fault = await asyncio.wait_for(self._exchange(path), PATIENCE)
        except TimeoutError:
            fault = f"no answer within {PATIENCE:g} s"
        except OSError as error:
            fault = str(error) or type(error).__name__
        except asyncio.IncompleteReadError as error:
            fault = f"cut after {len(error.partial)} bytes"
        self.samples.append(Sample(due, self.now - due, path, fault))

    async def _exchange(self, path: str) -> str | None:
        reader, writer = await self._connection()
        keep = False
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n{self.headers}\r\n".encode())
            status, keep = await read_answer(reader)
            return None if status in self.wanted else f"status {status}"
        finally:
            if keep:
                self._idle.append((reader, writer))
            else:
                writer.close()

    async def _connection(self):
        while self._idle:
            reader, writer = self._idle.pop()
            # A connection that was closed while it rested is no failure: a client sees that before it sends.
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", self.port)


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """Reads one answer to its end: its status, and whether the connection may be used again."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    status = int(head[0].split(" ")[1])
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
    if fields.get("transfer-encoding") == "chunked":
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            await reader.readexactly(size + 2)
        await reader.readuntil(b"\r\n")
    elif "content-length" in fields:
        await reader.readexactly(int(fields["content-length"]))
    else:
        await reader.read()
        return status, False
    return status, fields.get("connection", "").lower() != "close"
