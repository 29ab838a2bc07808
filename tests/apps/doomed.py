"""Cannot be imported while the file BOOM exists; notes the time of each attempt in ATTEMPTS."""

import os
import time

from probe import app as app  # noqa: F401  (what this module is imported for)

with open(os.environ["ATTEMPTS"], "a") as attempts:
    attempts.write(f"{time.monotonic()}\n")
if os.path.exists(os.environ["BOOM"]):
    raise ImportError("doomed for as long as BOOM is there")
