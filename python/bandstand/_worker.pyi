"""The native half of a worker; see crates/worker."""

from collections.abc import Callable, Iterable, Iterator
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
