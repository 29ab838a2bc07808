"""A well-behaved app behind `wsgiref.validate`, which raises on every breach of PEP 3333 by the server."""

from wsgiref.validate import validator


def _app(environ, start_response):
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"clean ", body]


app = validator(_app)
