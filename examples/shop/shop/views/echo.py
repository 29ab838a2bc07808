"""What arrived, as the application sees it. Only with SHOP_TEST_VIEWS=1: it repeats every header."""

import hashlib

from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt

CHUNK = 64 * 1024

META = (
    "CONTENT_LENGTH CONTENT_TYPE PATH_INFO QUERY_STRING REMOTE_ADDR REMOTE_PORT REQUEST_METHOD SCRIPT_NAME "
    "SERVER_NAME SERVER_PORT SERVER_PROTOCOL SERVER_SOFTWARE wsgi.url_scheme wsgi.multithread wsgi.multiprocess wsgi.run_once"
).split()


@csrf_exempt
def echo(request: HttpRequest) -> JsonResponse:
    """The request in JSON. A form with files is parsed; any other body is counted and hashed as it streams in.

    `body` is null for multipart bodies: Django reads the stream once, and there the files tell the tale.
    """
    body, post, files = None, {}, []
    if request.content_type == "multipart/form-data":
        post = dict(request.POST.lists())
        files = [
            {"field": field, "name": file.name, "type": file.content_type, "size": file.size, "sha256": _sha256(file.chunks())}
            for field, uploads in request.FILES.lists()
            for file in uploads
        ]
    elif request.content_type == "application/x-www-form-urlencoded":
        body = _body([request.body])
        post = dict(request.POST.lists())
    else:
        body = _body(iter(lambda: request.read(CHUNK), b""))
    return JsonResponse(
        {
            "method": request.method,
            "path": request.path,
            "scheme": request.scheme,
            "host": request.get_host(),
            "remote_addr": request.META.get("REMOTE_ADDR"),
            "GET": dict(request.GET.lists()),
            "POST": post,
            "body": body,
            "files": files,
            "META": {name: value for name, value in request.META.items() if name in META or name.startswith("HTTP_")},
        }
    )


def _body(chunks) -> dict:
    digest, length = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        length += len(chunk)
    return {"length": length, "sha256": digest.hexdigest()}


def _sha256(chunks) -> str:
    return _body(chunks)["sha256"]
