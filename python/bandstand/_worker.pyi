"""The native half of a worker; see crates/worker."""

from asyncio import AbstractEventLoop, Future, Task
from collections.abc import Callable, Coroutine, Iterable, Iterator
from types import FrameType
from typing import Any

PROTOCOL: int

def serve(
    app: Callable[..., Iterable[bytes]],
    channel_fd: int,
    board_fd: int,
    threads: int,
    multiprocess: bool,
    project: str,
) -> None:
    """Says hello and answers requests until the edge ends the channel. Takes over both descriptors."""

def fail(channel_fd: int, message: str) -> None:
    """Tells the edge that the app could not be imported. Takes over the descriptor."""

def disown() -> None:
    """In a process that was forked from a worker, right after the fork: places and requests are its parent's."""

def current_frames() -> dict[int, FrameType]:
    """``sys._current_frames()``, which before Python 3.12 can hold the interpreter for ever by itself."""

def holders() -> list[tuple[int, int, int, Any, Crossing | None]]:
    """What every thread works for that works: place, id, thread, key (environ, or as in ``work_for``), crossing."""

def interrupt(ident: int, key: Any, spot: tuple[FrameType, int] | None) -> tuple[bool, bool, Crossing | None] | None:
    """Raises ``RequestTimeout`` in the thread if it works for ``key`` and stands at ``spot``, a frame and its ``f_lasti``.

    Whether code of the app runs there, whether the exception is set, and the crossing, which the caller tells. None: the
    thread does something else.
    """

def work_for(key: Any, place: int, id: int, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Makes a call that may be interrupted meanwhile and not after; ``place`` and ``id`` are 0 if not known.

    Where ``RequestTimeout`` was raised in it, ``key.torn`` is set, whatever the call made of that.
    """

class FileWrapper:
    """``wsgi.file_wrapper``: a file as an answer."""

    filelike: Any
    blksize: int
    def __init__(self, filelike: Any, blksize: int = 8192) -> None: ...
    def __iter__(self) -> Iterator[bytes]: ...
    def __next__(self) -> bytes: ...
    def close(self) -> None: ...

class Input:
    """``wsgi.input``: the body of a request."""

    def read(self, size: int | None = None, /) -> bytes: ...
    def readline(self, size: int | None = None, /) -> bytes: ...
    def readlines(self, hint: int | None = None, /) -> list[bytes]: ...
    def __iter__(self) -> Iterator[bytes]: ...
    def __next__(self) -> bytes: ...

class Disconnected(ConnectionResetError):
    """The client has left: nothing that is sent will arrive."""

class Ready:
    """A result that is there already, as a coroutine."""

class Done:
    """Nothing to wait for, as a coroutine."""

class Cycle:
    """What both kinds of cycle have; there is no such class. An app gets ``scope``, ``receive`` and ``send``."""

    scope: dict[str, Any] | None
    place: int
    id: int
    def receive(self) -> Coroutine[Any, Any, dict[str, Any]]: ...
    def send(self, message: dict[str, Any]) -> Coroutine[Any, Any, None]: ...
    def poll(self) -> dict[str, Any] | None:
        """The next message, None while there is none."""
    def drained(self) -> bool:
        """Whether all that was sent is on its way; raises when the client has left."""
    def park(self) -> Future[None]:
        """Done at the next change."""
    def fail(self, error: BaseException) -> None:
        """The app has raised."""
    def finish(self) -> None:
        """The app's task has ended."""

class HttpCycle(Cycle):
    """A request on the loop."""

class WebSocketCycle(Cycle):
    """A WebSocket on the loop."""

class Lane:
    """The loop's end of the channel."""

    state: dict[str, Any] | None
    on_end: Callable[[], object] | None
    active: int
    ended: bool
    def __init__(
        self,
        channel_fd: int,
        loop_fd: int,
        board_fd: int,
        event_loop: AbstractEventLoop,
        spawn: Callable[[HttpCycle | WebSocketCycle], Task[None]],
    ) -> None:
        """Takes over the three descriptors."""
    def fileno(self) -> int: ...
    def greet(self, threads: int, tasks: int, project: str) -> None:
        """The loop reads from now on, and the edge learns how much this worker takes."""
    def read(self) -> None: ...
    def take_over(self) -> None: ...
    def flush(self) -> None: ...
    def rest(self) -> bool:
        """Waits until a cycle is at work; False when none will come."""
    def watch(self, id: int, callback: Callable[[bool], object]) -> None:
        """``callback`` is called when the client of an exchange leaves that a thread answers (False) or its time is over (True)."""
    def find(self, place: int, id: int) -> tuple[HttpCycle | WebSocketCycle, Task[None] | None] | None:
        """The cycle of an exchange whose app works on the loop, and its task; None before there is one."""
    def unwatch(self, id: int) -> None: ...
    def glance(self) -> None:
        """Tells all cycles that their clients are gone, if the edge is."""
    def finish(self) -> None:
        """Writes the rest; raises RuntimeError when the edge broke the protocol."""

class Landing:
    """Where threads leave what the loop is to begin; see ``bandstand.bridge``."""

    def __init__(self, lane: Any) -> None: ...
    def fileno(self) -> int:
        """The loop watches it and calls ``begin``."""
    def put(self, item: Any) -> None:
        """Leaves something with a method ``begin``, and goes on."""
    def begin(self) -> None: ...

class Crossing:
    """A thread that waits for a coroutine on the loop. ``begin`` is the subclass's."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...
    def enter(self) -> None:
        """From now on an interrupt is told to this crossing; raises RequestTimeout if one came before."""
    def call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """On the thread that waits: a call that may be interrupted."""
    def leave(self) -> None:
        """The thread goes on; raises RequestTimeout if an interrupt came meanwhile."""
    def cross(self, landing: Landing) -> Callable[[], object] | None:
        """Leaves this for the loop and waits: the next call to make, or None when the coroutine has ended."""
    def wait(self, landing: Landing) -> Callable[[], object] | None:
        """Waits on; not after None."""
    def post(self, work: Callable[[], object]) -> None:
        """From the loop: a call for the thread."""
    def end(self) -> None:
        """From the loop: the coroutine has ended."""

class Pool:
    """The threads that call a WSGI app beside an event loop."""

    def __init__(
        self,
        lane: Any,
        app: Callable[..., Iterable[bytes]],
        threads: int,
        threads_max: int,
        multiprocess: bool,
        choose: Callable[[str], bool] | None,
        always: bool,
        on_empty: Callable[[], object],
    ) -> None: ...
    def start(self) -> None: ...
