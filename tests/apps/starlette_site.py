"""A small Starlette app: routes, streaming, a file, sessions of middleware, WebSocket, background work, lifespan with state."""

import contextlib
import os
import tempfile

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute

from asgi_probe import gate
from probe import remark


@contextlib.asynccontextmanager
async def lifespan(app):
    remark("starlette up")
    yield {"greeting": "hello from the lifespan"}
    remark("starlette down")


async def home(request):
    return JSONResponse({"greeting": request.state.greeting, "url": str(request.url), "root_path": request.scope["root_path"], "client": request.client.host})


async def form(request):
    async with request.form() as form:
        content = await form["file"].read()
        return JSONResponse({"name": form["file"].filename, "size": len(content), "word": form["word"]})


async def stream(request):
    async def events():
        yield "data: 1\n\n"
        await gate(request.path_params["name"])
        yield "data: 2\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


async def file(request):
    path = os.path.join(tempfile.mkdtemp(), "numbers.txt")
    with open(path, "wb") as made:
        made.write(b"0123456789" * 50_000)
    return FileResponse(path)


async def later(request):
    name = request.path_params["name"]

    async def work():
        await gate(name)
        remark(f"background done {name}")

    return PlainTextResponse("answered", background=BackgroundTask(work))


async def fail(request):
    raise RuntimeError("starlette failed on purpose")


async def chat(websocket):
    await websocket.accept(subprotocol="chat" if "chat" in websocket.scope["subprotocols"] else None)
    async for text in websocket.iter_text():
        await websocket.send_text(f"{websocket.path_params['room']}: {text}")


app = Starlette(
    routes=[
        Route("/", home),
        Route("/form", form, methods=["POST"]),
        Route("/stream/{name}", stream),
        Route("/file", file),
        Route("/later/{name}", later),
        Route("/fail", fail),
        WebSocketRoute("/chat/{room}", chat),
        Mount("/sub", routes=[Route("/home", home)]),
    ],
    middleware=[Middleware(GZipMiddleware, minimum_size=10**9)],
    lifespan=lifespan,
)
