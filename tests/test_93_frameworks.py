"""The frameworks people use, as they use them: Starlette, FastAPI, Channels (in memory and over Redis)."""

import json
import shutil
import signal
import subprocess
from contextlib import ExitStack

import pytest

from client import eventually, request
from server import APPS
from test_90_asgi import remarked
from test_91_websocket import closed, open_socket, refused

DEADLINE = 20


def multipart(name: str, content: bytes, **fields: str) -> tuple[bytes, dict]:
    parts = [f'--b\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode() for key, value in fields.items()]
    parts.append(f'--b\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\nContent-Type: a/b\r\n\r\n'.encode() + content + b"\r\n--b--\r\n")
    return b"".join(parts), {"Content-Type": "multipart/form-data; boundary=b"}


def hear(socket):
    return json.loads(socket.recv(timeout=DEADLINE))


def two_events(server, stand, path: str, name: str) -> None:
    """The first event comes while the app waits at its gate."""
    gate = stand.gate(name)
    with server.wire() as wire:
        wire.send(request("GET", f"{path}/{name}"))
        wire.until(b"data: 1\n\n")
        gate.open()
        assert b"data: 2\n\n" in wire.until(b"0\r\n\r\n")


def work_after_the_answer(server, stand, path: str, name: str) -> None:
    """36"""
    gate = stand.gate(name)
    with server.wire() as wire:
        wire.send(request("GET", f"{path}/{name}") + request("GET", "/"))
        assert b"answered" in wire.answer().body
        assert wire.answer().status == 200, "the next request does not wait for it"
        gate.open()
    assert remarked(stand, name) == ["background done"]


# -- Starlette


@pytest.fixture(scope="module")
def starlette(module_stand):
    pytest.importorskip("starlette")
    return module_stand.serve("starlette_site:app", workers=1)


def test_starlette_pages(starlette):
    told = starlette.get("/", host="shop.example").json()
    assert told == {"greeting": "hello from the lifespan", "url": "http://shop.example/", "root_path": "", "client": "127.0.0.1"}
    assert starlette.get("/sub/home").json()["root_path"] == "/sub"
    assert starlette.get("/nowhere").status == 404 and starlette.get("/form").status == 405


def test_starlette_form(starlette):
    body, fields = multipart("\u00e9.bin".encode().decode("latin-1"), bytes(2_000_000), word="w")
    assert starlette.post("/form", body, fields).json()["size"] == 2_000_000


def test_starlette_file_and_stream(starlette, module_stand):
    answer = starlette.get("/file")
    assert answer.body == b"0123456789" * 50_000 and answer.get("ETag")
    assert starlette.request("HEAD", "/file").get("Content-Length") == "500000"
    part = starlette.get("/file", {"Range": "bytes=5-9"})
    assert part.status == 206 and part.body == b"56789"
    two_events(starlette, module_stand, "/stream", "st1")


def test_starlette_background(starlette, module_stand):
    work_after_the_answer(starlette, module_stand, "/later", "st2")


def test_starlette_fault(starlette):
    assert starlette.get("/fail").status == 500
    starlette.wait_text("starlette failed on purpose")


def test_starlette_websocket(starlette):
    with open_socket(starlette, "/chat/hall", subprotocols=["other", "chat"]) as socket:
        assert socket.subprotocol == "chat"
        socket.send("hello")
        assert socket.recv(timeout=DEADLINE) == "hall: hello"
    assert refused(starlette, "/nowhere").status_code == 403


@pytest.mark.ours
def test_starlette_lifespan(stand):
    server = stand.serve("starlette_site:app", workers=2)
    assert server.get("/").status == 200
    server.signal(signal.SIGTERM)
    assert server.exit_status() == 0
    assert stand.seen().count("# starlette up") == stand.seen().count("# starlette down") == 2


# -- FastAPI


@pytest.fixture(scope="module")
def fastapi(module_stand):
    pytest.importorskip("fastapi")
    return module_stand.serve("fastapi_site:app", workers=1)


def test_fastapi_routes(fastapi):
    assert fastapi.get("/").json() == {"greeting": "hello from the lifespan", "root_path": "", "client": "127.0.0.1"}
    added = fastapi.post("/songs", b'{"title": "Blues"}', {"Content-Type": "application/json"})
    assert (added.status, added.json()) == (201, {"title": "Blues", "bars": 12, "session": "session"})
    assert fastapi.post("/songs", b'{"bars": "many"}', {"Content-Type": "application/json"}).status == 422
    assert fastapi.get("/songs/7", {"X-Word": "caf"}).json() == {"number": 7, "word": "caf"}
    assert fastapi.get("/songs/0").status == 404 and fastapi.get("/songs/x").status == 422
    assert fastapi.get("/openapi.json").json()["paths"] and fastapi.get("/docs").status == 200


def test_fastapi_dependencies_end(fastapi, module_stand):
    before = module_stand.seen().count("# session closed")
    fastapi.post("/songs", b'{"title": "Blues"}', {"Content-Type": "application/json"})
    eventually(lambda: module_stand.seen().count("# session closed") == before + 1, "the session closed")


def test_fastapi_sync_routes_run_in_threads(fastapi):
    assert fastapi.get("/sync").json() == {"main_thread": False}


def test_fastapi_upload_and_stream(fastapi, module_stand):
    body, fields = multipart("a.bin", bytes(5_000_000))
    assert fastapi.post("/upload", body, fields).json() == {"name": "a.bin", "size": 5_000_000}
    two_events(fastapi, module_stand, "/stream", "fa1")


def test_fastapi_background(fastapi, module_stand):
    work_after_the_answer(fastapi, module_stand, "/later", "fa2")


def test_fastapi_fault(fastapi):
    assert fastapi.get("/fail").status == 500
    fastapi.wait_text("fastapi failed on purpose")


def test_fastapi_websocket(fastapi):
    with open_socket(fastapi, "/chat/hall") as socket:
        socket.send("hello")
        assert hear(socket) == {"room": "hall", "text": "hello", "session": "session"}


# -- Channels


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    """A Redis of our own behind a Unix socket."""
    if not shutil.which("redis-server"):
        pytest.skip("no redis-server")
    pytest.importorskip("channels_redis")
    folder = tmp_path_factory.mktemp("redis")
    path = folder / "redis.sock"
    process = subprocess.Popen(
        ["redis-server", "--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no", "--dir", str(folder)],
        stdout=subprocess.DEVNULL,
    )
    eventually(path.exists, "redis listening")
    yield f"unix://{path}"
    process.terminate()
    process.wait(DEADLINE)


@pytest.fixture(scope="module")
def chat(module_stand):
    pytest.importorskip("channels")
    return module_stand.serve(None, folder=APPS / "chat", workers=1)


def enter(server, path: str):
    """As a page of the site does: the consumers are for nobody from elsewhere."""
    return open_socket(server, path, origin="http://localhost")


def test_the_page_of_a_room(chat):
    answer = chat.get("/room/hall/")
    assert answer.status == 200 and "/ws/hall/" in answer.text


def test_a_room_in_memory(chat):
    with enter(chat, "/ws/hall/") as one, enter(chat, "/ws/hall/") as other, enter(chat, "/ws/kitchen/") as away:
        assert [hear(socket)["text"] for socket in (one, other, away)] == ["welcome to hall", "welcome to hall", "welcome to kitchen"]
        one.send('{"text": "hello"}')
        assert [hear(socket)["text"] for socket in (one, other)] == ["hello", "hello"]
        one.close(4000)
        assert hear(other)["text"] == "somebody left with 4000"
        away.send('{"text": "anybody?"}')
        assert hear(away)["text"] == "anybody?", "the first thing said in the kitchen"


def test_a_sync_consumer(chat):
    with enter(chat, "/echo/") as socket:
        socket.send("hello")
        assert hear(socket) == {"echo": "hello"}
        socket.send("leave")
        ending = closed(socket).rcvd
        assert (ending.code, ending.reason) == (4002, "as you wish")


def test_pages_of_other_sites_and_unknown_rooms_are_refused(chat):
    """61"""
    assert refused(chat, "/ws/hall/", origin="https://evil.example").status_code == 403
    with open_socket(chat, "/ws/hall/", origin=f"http://127.0.0.1:{chat.port}") as socket:
        assert hear(socket)["text"] == "welcome to hall"
    assert refused(chat, "/nowhere/", origin="http://localhost").status_code in (403, 500)


@pytest.mark.ours
def test_http_of_a_channels_project_takes_a_thread(chat):
    """Behind Channels' router Django's WSGI handler answers pages, and the sockets have the loop."""
    assert chat.get("/room/hall/").status == 200
    assert "chat_site.wsgi" in chat.output and "chat_site.asgi" in chat.output


def test_a_room_over_redis_spans_processes(stand, redis):
    """With two workers both say the same, whichever a client came to."""
    server = stand.serve(None, folder=APPS / "chat", workers=2, env={"REDIS_URL": redis})
    with ExitStack() as stack:
        sockets, workers = [], set()
        while len(workers) < min(server.workers, 2):
            assert len(sockets) < 50, "fifty clients, and all with one worker"
            sockets.append(stack.enter_context(enter(server, "/ws/hall/")))
            workers.add(hear(sockets[-1])["pid"])
        sockets[0].send('{"text": "to all"}')
        heard = [hear(socket) for socket in sockets]
        assert {one["text"] for one in heard} == {"to all"}
        assert {one["pid"] for one in heard} == workers


@pytest.mark.ours
def test_rooms_close_with_1012_when_the_server_stops(stand):
    """44"""
    server = stand.serve(None, folder=APPS / "chat", workers=1)
    with enter(server, "/ws/hall/") as socket:
        hear(socket)
        server.signal(signal.SIGTERM)
        assert closed(socket).rcvd.code == 1012
    assert server.exit_status() == 0


@pytest.mark.parametrize("layer", ["memory", "redis"])
def test_a_room_in_a_browser(chat, stand, redis, layer, browser):
    server = chat if layer == "memory" else stand.serve(None, folder=APPS / "chat", workers=2, env={"REDIS_URL": redis})
    pages = [browser.new_page(base_url=server.url) for _ in range(2)]
    for page in pages:
        page.goto("/room/salon/")
        page.wait_for_selector("li:has-text('welcome to salon')")
    pages[0].fill("input", "caf\u00e9 at five?")
    pages[0].click("button")
    for page in pages:
        page.wait_for_selector("li:has-text('caf\u00e9 at five?')")
        page.close()


@pytest.fixture(scope="module")
def browser():
    from test_41_browser import CHROMIUM, QUIET

    if not shutil.which(CHROMIUM):
        pytest.skip("no chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield chromium
        chromium.close()
