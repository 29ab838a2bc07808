"""Files that a view decides about and bandstand sends: with ranges, conditions and ``sendfile``, and the worker is free at once.

Owns one function for views, and what the edge says to it. Leaves the rules of the fields to ``crates/edge/src/protected``. Invariant: whatever serves the project,
the same file is sent; only who reads it differs. Source: ``docs/guides/downloads.md``; Django's ``FileResponse``.
"""

from __future__ import annotations

import json
import mimetypes
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    import os

    from django.http import HttpRequest, HttpResponseBase

FOLDERS: list[tuple[str, str]] = []
"""URL and folder of each row of the setting ``protected``, as the edge has said them to this worker; elsewhere none."""

_PACKED = {"gzip": "application/gzip", "br": "application/x-brotli", "bzip2": "application/x-bzip", "compress": "application/x-compress", "xz": "application/x-xz"}


def told(said: str) -> None:
    """Takes in what the edge says; ``said`` is JSON: ``[[url, folder], …]``."""
    FOLDERS[:] = [(url, folder) for url, folder in json.loads(said)]


def protected_response(
    request: HttpRequest,
    path: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str],
    filename: str | None = None,
    as_attachment: bool = True,
    content_type: str | None = None,
) -> HttpResponseBase:
    """The answer that sends the file ``path`` beneath the folder ``root``. The view has decided that this user may have it.

    Under bandstand, with ``root`` within a folder of the setting ``protected``, the answer names the file
    (``X-Accel-Redirect``) and the edge sends it. Anywhere else, ``runserver`` and tests included, it is a ``FileResponse``.

    ``path`` is relative to ``root``, or absolute and within it; what leads out of it, or is no file, is ``Http404``, so it may
    come from the URL. ``filename`` is what the browser saves it as; with ``as_attachment=False`` it is shown
    instead. ``content_type`` is told by the name if it is not given.

    ::

        from bandstand.downloads import protected_response

        @login_required
        def invoice(request, number):
            get_object_or_404(Invoice, number=number, owner=request.user)
            return protected_response(request, f"{number}.pdf", root=settings.PRIVATE_ROOT)
    """
    from django.http import FileResponse, HttpResponse
    from django.utils.http import content_disposition_header

    full = _found(path, root)
    name = filename or full.name
    content_type = content_type or _content_type(full.name)
    url = _url(full)
    if url is None:
        return FileResponse(full.open("rb"), as_attachment=as_attachment, filename=name, content_type=content_type)
    response = HttpResponse(content_type=content_type)
    response["X-Accel-Redirect"] = url
    if disposition := content_disposition_header(as_attachment, name):
        response["Content-Disposition"] = disposition
    return response


def _found(path: str | os.PathLike[str], root: str | os.PathLike[str]) -> Path:
    from django.http import Http404

    try:
        base = Path(root).resolve()
        full = (base / path).resolve()
        if full.is_relative_to(base) and full.is_file():
            return full
    except (OSError, ValueError):  # a NUL, a name that is too long, links in a circle
        pass
    raise Http404("There is no such file.")


def _content_type(name: str) -> str:
    kind, packed = mimetypes.guess_type(name)
    return _PACKED.get(packed or "", kind or "application/octet-stream")


def _url(full: Path) -> str | None:
    """What the edge knows the file as; None when nobody is there who would send it."""
    best: tuple[int, str] | None = None
    for url, folder in FOLDERS:
        try:
            relative = full.relative_to(Path(folder).resolve())
        except (OSError, ValueError):
            continue
        if best is None or len(relative.parts) < best[0]:
            best = (len(relative.parts), quote(url + relative.as_posix()))
    return best and best[1]
