"""``python -m bandstand``: becomes the native program that was installed beside this interpreter.

Nothing else happens in Python: the program must run, and report, even when the project does not import.
"""

import os
import sys
import sysconfig


def program() -> "str | None":
    """The path of the program: in the environment's own folder of scripts, or in that of the user's installations."""
    folders = [
        os.path.dirname(sys.executable),
        sysconfig.get_path("scripts"),
        sysconfig.get_path("scripts", sysconfig.get_preferred_scheme("user")),
    ]
    for folder in filter(None, folders):  # sys.executable is empty in an embedded interpreter
        path = os.path.join(folder, "bandstand")
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def main() -> None:
    path = program()
    if path is None:
        sys.exit(
            f"bandstand: the program is missing beside {sys.executable}; "
            f"reinstall it: {sys.executable} -m pip install --force-reinstall bandstand"
        )
    try:
        os.execv(path, [path, *sys.argv[1:]])
    except OSError as error:
        sys.exit(f"bandstand: {path} cannot be run: {error}")


if __name__ == "__main__":
    main()
