"""A small FastAPI app: models, dependencies, uploads, streaming, WebSocket, background work, lifespan with state, sync routes."""

import contextlib
import threading
from typing import Annotated

from fastapi import BackgroundTasks, Depends, FastAPI, Header, HTTPException, Request, UploadFile, WebSocket
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from asgi_probe import gate
from probe import remark


@contextlib.asynccontextmanager
async def lifespan(app):
    remark("fastapi up")
    yield {"greeting": "hello from the lifespan"}
    remark("fastapi down")


app = FastAPI(lifespan=lifespan)


class Song(BaseModel):
    title: str
    bars: int = 12


async def session():
    """A dependency with an end."""
    remark("session opened")
    yield "session"
    remark("session closed")


Session = Annotated[str, Depends(session)]


@app.get("/")
async def home(request: Request):
    return {"greeting": request.state.greeting, "root_path": request.scope["root_path"], "client": request.client.host}


@app.post("/songs", status_code=201)
async def add(song: Song, session: Session):
    return {"title": song.title, "bars": song.bars, "session": session}


@app.get("/songs/{number}")
async def one(number: int, x_word: Annotated[str | None, Header()] = None):
    if number == 0:
        raise HTTPException(404, "no such song")
    return {"number": number, "word": x_word}


@app.get("/sync")
def sync():
    """A plain function: FastAPI runs it in a thread of its own."""
    return {"main_thread": threading.current_thread() is threading.main_thread()}


@app.post("/upload")
async def upload(file: UploadFile):
    size = 0
    while part := await file.read(65536):
        size += len(part)
    return {"name": file.filename, "size": size}


@app.get("/stream/{name}")
async def stream(name: str):
    async def events():
        yield "data: 1\n\n"
        await gate(name)
        yield "data: 2\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


@app.get("/later/{name}")
async def later(name: str, tasks: BackgroundTasks):
    async def work():
        await gate(name)
        remark(f"background done {name}")

    tasks.add_task(work)
    return "answered"


@app.get("/fail")
async def fail():
    raise RuntimeError("fastapi failed on purpose")


@app.websocket("/chat/{room}")
async def chat(socket: WebSocket, room: str, session: Session):
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_json({"room": room, "text": text, "session": session})
