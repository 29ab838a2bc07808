"""The smallest WSGI application: what is measured here is the server and nothing else."""

BODY = b"Hello, world!"
HEADERS = [("Content-Type", "text/plain"), ("Content-Length", str(len(BODY)))]


def app(environ, start_response):
    start_response("200 OK", HEADERS[:])
    return [BODY]
