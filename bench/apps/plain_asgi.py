"""The smallest ASGI application, and one that echoes WebSocket messages: what is measured here is the server and nothing else."""

BODY = b"Hello, world!"
HEADERS = [(b"content-type", b"text/plain"), (b"content-length", str(len(BODY)).encode())]


async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await send({"type": "http.response.body", "body": BODY})
    elif scope["type"] == "lifespan":
        await lifespan(receive, send)


async def echo(scope, receive, send):
    if scope["type"] != "websocket":
        await app(scope, receive, send)
        return
    while True:
        event = await receive()
        if event["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        elif event["type"] == "websocket.receive":
            text = event.get("text")
            await send({"type": "websocket.send", "text": text} if text is not None
                       else {"type": "websocket.send", "bytes": event["bytes"]})
        else:
            return


async def lifespan(receive, send):
    while True:
        event = await receive()
        await send({"type": f"{event['type']}.complete"})
        if event["type"] == "lifespan.shutdown":
            return
