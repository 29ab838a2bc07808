"""A secret key for this installation, made at first start and kept in a file that is never committed.

Several workers may start at the same moment: the first to link its file wins, and all read that one.
"""

import os
import tempfile
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured
from django.core.management.utils import get_random_secret_key


def secret_key(path: Path) -> str:
    """Return the key in `path`, written there (mode 600) if there was none."""
    try:
        return path.read_text().strip() or _write(path)
    except FileNotFoundError:
        return _write(path)


def _write(path: Path) -> str:
    try:
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f"{path.name}.") as draft:
            draft.write(get_random_secret_key() + "\n")
            draft.flush()
            try:
                os.link(draft.name, path)
            except FileExistsError:
                pass
    except OSError as error:
        raise ImproperlyConfigured(f"no secret key, and none can be kept in {path} ({error}): set SHOP_SECRET_KEY") from error
    key = path.read_text().strip()
    if not key:
        raise ImproperlyConfigured(f"{path} is empty: delete it, or set SHOP_SECRET_KEY")
    return key
