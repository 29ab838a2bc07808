"""One page for each thing PEP 3333 lets an app do, and for each it forbids. TABLE at the end."""

import io
import os
import sys
import tempfile

from probe import last, note, remark, reply, wait_at_gate

PLAIN = [("Content-Type", "text/plain")]


def app(environ, start_response):
    note(environ)
    return PAGES[environ["PATH_INFO"].split("/")[1]](environ, start_response)


def written(environ, start_response):
    write = start_response("200 OK", PLAIN)
    write(b"one ")
    write(b"two ")
    return [b"three ", b"four"]


def started_twice(environ, start_response):
    start_response("200 OK", PLAIN)
    try:
        start_response("201 Created", PLAIN)
    except Exception as error:
        # Some exception is due; which one, the specification leaves open.
        return [f"raised {type(error).__name__}".encode()]
    return [b"did not raise"]


def replaced(environ, start_response):
    start_response("200 OK", [*PLAIN, ("X-First", "1"), ("Set-Cookie", "first=1")])
    try:
        raise ValueError("changed its mind")
    except ValueError:
        start_response("500 Changed Mind", [*PLAIN, ("X-Second", "2")], sys.exc_info())
    return [b"replaced"]


def too_late(environ, start_response):
    """After a byte has left, start_response must raise what it was given."""
    start_response("200 OK", PLAIN)
    yield b"begun "
    try:
        raise ValueError("too late")
    except ValueError:
        try:
            start_response("500 No", PLAIN, sys.exc_info())
        except ValueError as error:
            yield f"raised {error}".encode()
        else:
            yield b"did not raise"


def fails_before(environ, start_response):
    """Headers are named, and nothing has left yet: the client gets a clean 500."""
    start_response("200 OK", [*PLAIN, ("X-Promise", "none")])
    yield b""
    raise RuntimeError("failed before the first byte")


def fails_after(environ, start_response):
    start_response("200 OK", PLAIN)
    yield b"first\n"
    wait_at_gate(last(environ))
    raise RuntimeError("failed in mid-answer")


def exits_after(environ, start_response):
    """SystemExit is no Exception; it must not lead to a second head either."""
    start_response("200 OK", PLAIN)
    yield b"first\n"
    wait_at_gate(last(environ))
    raise SystemExit(3)


class Closing:
    """/closing/NAME: remarks each close, and what was asked for before."""

    def __init__(self, name, parts, gate=None, fault=None):
        self.name, self.parts, self.gate, self.fault = name, iter(parts), gate, fault

    def __iter__(self):
        return self

    def __next__(self):
        part = next(self.parts, None)
        if part is None:
            if self.gate:
                wait_at_gate(self.gate)
            if self.fault:
                raise self.fault
            raise StopIteration
        return part

    def close(self):
        remark(f"close {self.name}")


def closing(environ, start_response):
    start_response("200 OK", PLAIN)
    return Closing(last(environ), [b"a", b"b"])


def closing_fault(environ, start_response):
    start_response("200 OK", PLAIN)
    return Closing(last(environ), [b"a"], fault=RuntimeError("in the iterable"))


def closing_never_started(environ, start_response):
    """Returned without start_response: the close is due all the same."""
    return Closing(last(environ), [b"a"])


def closing_empty(environ, start_response):
    start_response("204 No Content", [])
    return Closing(last(environ), [])


def one_element(environ, start_response):
    start_response("200 OK", PLAIN)
    return [b"twelve bytes"]


def empty_chunks(environ, start_response):
    start_response("200 OK", PLAIN)
    return iter([b"", b"a", b"", b"b", b""])


def promise(environ, start_response):
    """/promise/LENGTH: sends ten bytes, whatever was promised."""
    start_response("200 OK", [*PLAIN, ("Content-Length", last(environ))])
    return iter([b"01234", b"56789"])


def hop_by_hop(environ, start_response):
    start_response(
        "200 OK",
        [
            *PLAIN,
            ("Connection", "X-Private"),
            ("X-Private", "kept: no hop reads the app's Connection"),
            ("Keep-Alive", "timeout=1"),
            ("Transfer-Encoding", "gzip"),
            ("Upgrade", "h2c"),
            ("Trailer", "X-T"),
            ("Proxy-Connection", "close"),
            ("TE", "trailers"),
            ("Content-Length", "2"),
        ],
    )
    return [b"ok"]


def cookies(environ, start_response):
    start_response("200 OK", [*PLAIN, ("Set-Cookie", "a=1; Path=/"), ("X-Latin", "caf\xe9"), ("Set-Cookie", "b=2; Path=/")])
    return [b"ok"]


def own_date(environ, start_response):
    start_response("200 OK", [*PLAIN, ("Date", "Sun, 06 Nov 1994 08:49:37 GMT"), ("Server", "mine")])
    return [b"ok"]


def reason(environ, start_response):
    start_response("299 My Reason", PLAIN)
    return [b"ok"]


BAD_HEADS = {
    "crlf-value": ("200 OK", [*PLAIN, ("X-A", "1\r\nX-Injected: yes")]),
    "lf-value": ("200 OK", [*PLAIN, ("X-A", "1\nX-Injected: yes")]),
    "cr-value": ("200 OK", [*PLAIN, ("X-A", "1\rX-Injected: yes")]),
    "nul-value": ("200 OK", [*PLAIN, ("X-A", "1\0X-Injected: yes")]),
    "crlf-name": ("200 OK", [*PLAIN, ("X-A: 1\r\nX-Injected", "yes")]),
    "space-name": ("200 OK", [*PLAIN, ("X Injected", "yes")]),
    "empty-name": ("200 OK", [*PLAIN, ("", "X-Injected")]),
    "crlf-status": ("200 OK\r\nX-Injected: yes", PLAIN),
    "no-code": ("OK X-Injected", PLAIN),
    "code-99": ("99 X-Injected", PLAIN),
    "code-1000": ("1000 X-Injected", PLAIN),
    "bytes-status": (b"200 X-Injected", PLAIN),
    "int-value": ("200 OK", [*PLAIN, ("X-Injected", 1)]),
    "unicode-value": ("200 OK", [*PLAIN, ("X-Injected", "\u20ac")]),
    "two-lengths": ("200 OK", [*PLAIN, ("Content-Length", "2"), ("Content-Length", "3"), ("X-Injected", "1")]),
    "bad-length": ("200 OK", [*PLAIN, ("Content-Length", "+2"), ("X-Injected", "1")]),
}


def bad_head(environ, start_response):
    start_response(*BAD_HEADS[last(environ)])
    return [b"ok"]


def bad_chunk(environ, start_response):
    start_response("200 OK", PLAIN)
    return ["text, not bytes"]


def not_started(environ, start_response):
    return [b"without a head"]


def no_iterable(environ, start_response):
    start_response("200 OK", PLAIN)
    return None


def with_body(environ, start_response):
    """/body/CODE: a body where none may be."""
    start_response(f"{last(environ)} Chosen", [*PLAIN, ("X-Chosen", "1")])
    return [b"must not be sent"]


def no_content_length(environ, start_response):
    """/lengths/CODE with a Content-Length, as careless apps do."""
    start_response(f"{last(environ)} Chosen", [("Content-Length", "0")])
    return []


def head_length(environ, start_response):
    start_response("200 OK", [*PLAIN, ("Content-Length", "1234"), ("X-Method", environ["REQUEST_METHOD"])])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [b"x" * 1234]


class Remarking:
    """A file that remarks its close."""

    def __init__(self, file, name):
        self.file, self.name = file, name

    def __getattr__(self, attribute):
        return getattr(self.file, attribute)

    def close(self):
        remark(f"close {self.name}")
        self.file.close()


def _temporary(content: bytes):
    file = tempfile.TemporaryFile()
    file.write(content)
    file.flush()
    file.seek(0)
    return file


def file_whole(environ, start_response):
    start_response("200 OK", [*PLAIN, ("Content-Length", "300000")])
    return environ["wsgi.file_wrapper"](Remarking(_temporary(b"0123456789" * 30000), last(environ)))


def file_offset(environ, start_response):
    """From where the file stands, and no further than promised."""
    file = _temporary(b"0123456789" * 10)
    file.seek(5)
    start_response("200 OK", [*PLAIN, ("Content-Length", "10")])
    return environ["wsgi.file_wrapper"](file)


def file_no_length(environ, start_response):
    file = _temporary(b"0123456789")
    file.seek(2)
    start_response("200 OK", PLAIN)
    return environ["wsgi.file_wrapper"](file, 4)


def file_in_memory(environ, start_response):
    start_response("200 OK", PLAIN)
    return environ["wsgi.file_wrapper"](io.BytesIO(b"in memory"))


def file_pipe(environ, start_response):
    """A descriptor that has no offset."""
    reader, writer = os.pipe()
    os.write(writer, b"through a pipe")
    os.close(writer)
    start_response("200 OK", PLAIN)
    return environ["wsgi.file_wrapper"](os.fdopen(reader, "rb"))


def file_in_list(environ, start_response):
    """A wrapper that is not what the app returns is an iterable like any other."""
    start_response("200 OK", PLAIN)
    return iter([b"before ", *environ["wsgi.file_wrapper"](io.BytesIO(b"wrapped")), b" after"])


def file_promise(environ, start_response):
    """/file-promise/LENGTH over a file of ten bytes."""
    start_response("200 OK", [*PLAIN, ("Content-Length", last(environ))])
    return environ["wsgi.file_wrapper"](_temporary(b"0123456789"))


def input_calls(environ, start_response):
    """Runs calls on wsgi.input as the query spells them: `read(3);readline();readlines();list`."""
    body = environ["wsgi.input"]
    done = []
    for call in environ["QUERY_STRING"].split(";"):
        name, _, argument = call.rstrip(")").partition("(")
        if name == "list":
            done.append(list(body))
        else:
            done.append(getattr(body, name)(*([int(argument)] if argument else [])))
    return reply(start_response, repr(done).encode())


def input_error(environ, start_response):
    """What reading a body raises that never comes whole: remarked, because the client has gone."""
    try:
        length = len(environ["wsgi.input"].read())
    except OSError as error:
        remark(f"input {last(environ)} OSError")
        raise error
    remark(f"input {last(environ)} {length}")
    return reply(start_response, b"read")


def mutate(environ, start_response):
    """The environ belongs to the app for this request, and to nobody after it."""
    kept = environ.get("probe.mark", "none")
    environ["probe.mark"] = "left over"
    for name in [name for name in environ if name.startswith("HTTP_")]:
        del environ[name]
    environ["wsgi.url_scheme"] = "gopher"
    return reply(start_response, f"{type(environ) is dict} {kept}".encode())


def errors(environ, start_response):
    stream = environ["wsgi.errors"]
    stream.writelines(["one line to wsgi.errors\n", "caf\xe9 \u20ac to wsgi.errors\n"])
    stream.flush()
    return reply(start_response, b"ok")


def hints(environ, start_response):
    """Two early hints, then the answer."""
    early = environ.get("wsgi.early_hints")
    if early is not None:
        early([("Link", "</static/a.css>; rel=preload")])
    start_response("200 OK", PLAIN)
    yield b"body"
    if early is not None:
        early([("Link", "</too-late>; rel=preload")])
    yield b" end"


def accel(environ, start_response):
    """/accel: asks the server for a file outside of every root."""
    start_response("200 OK", [*PLAIN, (environ["QUERY_STRING"], "/etc/passwd")])
    return [b"ignored"]


PAGES = {
    "written": written,
    "started-twice": started_twice,
    "replaced": replaced,
    "too-late": too_late,
    "fails-before": fails_before,
    "fails-after": fails_after,
    "exits-after": exits_after,
    "closing": closing,
    "closing-fault": closing_fault,
    "closing-never-started": closing_never_started,
    "closing-empty": closing_empty,
    "one-element": one_element,
    "empty-chunks": empty_chunks,
    "promise": promise,
    "hop-by-hop": hop_by_hop,
    "cookies": cookies,
    "own-date": own_date,
    "reason": reason,
    "bad-head": bad_head,
    "bad-chunk": bad_chunk,
    "not-started": not_started,
    "no-iterable": no_iterable,
    "body": with_body,
    "lengths": no_content_length,
    "head-length": head_length,
    "file-whole": file_whole,
    "file-offset": file_offset,
    "file-no-length": file_no_length,
    "file-in-memory": file_in_memory,
    "file-pipe": file_pipe,
    "file-in-list": file_in_list,
    "file-promise": file_promise,
    "input": input_calls,
    "input-error": input_error,
    "mutate": mutate,
    "errors": errors,
    "hints": hints,
    "accel": accel,
}
