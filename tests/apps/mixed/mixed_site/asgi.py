"""`plain`: Django's own; `router`: Channels' router with a socket; `wrapped`: a layer of one's own; `mounted`: Django beside another app."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mixed_site.settings")

django = get_asgi_application()


async def socket(scope, receive, send):
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


async def wrapped(scope, receive, send):
    async def marked(message):
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"x-wrapped-app", b"1")]
        await send(message)

    await django(scope, receive, marked)


async def mounted(scope, receive, send):
    if scope["type"] == "http" and scope["path"].startswith("/mounted/"):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"mounted"})
    else:
        await django(scope, receive, send)


KIND = os.environ.get("MIXED_ASGI", "plain")
if KIND == "router":
    from channels.routing import ProtocolTypeRouter

    application = ProtocolTypeRouter({"http": django, "websocket": socket})
else:
    application = {"plain": django, "wrapped": wrapped, "mounted": mounted}[KIND]
