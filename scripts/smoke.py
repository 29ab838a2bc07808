"""smoke.py: the wheel of this interpreter's environment serves one request of a WSGI app, and stops when told to.

Run once for every Python that the wheel promises to work with. It needs nothing but the wheel.
"""

import http.client
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

APP = '''
import sys

def app(environ, start_response):
    body = ("%d.%d " % sys.version_info[:2] + environ["PATH_INFO"]).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
'''
READY = re.compile(r"bandstand: ready on http://127\.0\.0\.1:(\d+)")
# Nothing here takes seconds; a program that hangs must not hang the tests.
DEADLINE = 60


def main() -> None:
    import bandstand._worker  # noqa: F401, the extension module loads into this interpreter

    program = Path(sys.executable).parent / "bandstand"
    steers = ("BANDSTAND_", "PYTHON", "VIRTUAL_ENV", "PORT", "WEB_CONCURRENCY")
    env = {name: value for name, value in os.environ.items() if not name.startswith(steers)}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "hello.py").write_text(APP)
        command = [program, "serve", "hello:app", "--bind", "127.0.0.1:0", "--workers", "1"]
        server = subprocess.Popen(command, cwd=folder, env=env, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True)
        signal.alarm(DEADLINE)
        try:
            body = ask(ready_port(server.stdout))
            server.send_signal(signal.SIGTERM)
            server.stdout.read()
            status = server.wait()
        finally:
            server.kill()
            server.wait()
    expected = "%d.%d /smoke" % sys.version_info[:2]
    if body != expected or status != 0:
        sys.exit(f"smoke: answered {body!r} instead of {expected!r}, ended with status {status}")
    print(f"  Python {platform.python_version()}: the wheel installs, serves and stops")


def ready_port(output) -> int:
    heard = []
    for line in output:
        heard.append(line)
        if found := READY.search(line):
            return int(found[1])
    sys.exit("smoke: bandstand ended before it was ready:\n" + "".join(heard))


def ask(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    connection.request("GET", "/smoke")
    body = connection.getresponse().read().decode()
    connection.close()
    return body


main()
