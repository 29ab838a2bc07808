"""The ASGI application of the Django project in the working folder, for servers that want to be told."""

import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path.cwd()))
application = importlib.import_module(f"{next(Path.cwd().glob('*/asgi.py')).parent.name}.asgi").application
