"""Says what it was asked, as JSON: what reached the application is what the server understood."""

import json


def app(environ, start_response):
    said = {"method": environ["REQUEST_METHOD"], "target": environ["RAW_URI"], "body": environ["wsgi.input"].read().hex()}
    body = json.dumps(said).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
