"""The plain application, but a POST is read to its end: a body that comes slowly keeps its thread, where the server lets it."""

BODY = b"Hello, world!"


def app(environ, start_response):
    if environ["REQUEST_METHOD"] == "POST":
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(BODY)))])
    return [BODY]
