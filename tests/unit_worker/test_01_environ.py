"""What the app sees: PEP 3333 "environ Variables"; the numbers are those of the checklist of gateway rules."""

import json

import pytest

ECHO = """
import json

def application(environ, start_response):
    shown = {k: v for k, v in environ.items() if isinstance(v, (str, bool, tuple))}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(shown).encode()]
"""


@pytest.fixture
def echo(worker):
    edge = worker(ECHO)
    return lambda *args, **kwargs: json.loads(edge.get(*args, **kwargs).body)


def test_01_strings_are_latin1(echo):
    environ = echo("/", fields=[("X-Name", b"caf\xc3\xa9 \xff")])
    assert environ["HTTP_X_NAME"] == "caf\xc3\xa9 \xff"


def test_02_path_is_decoded_and_raw_uri_is_not(echo):
    environ = echo("/caf\xe9//a b".encode("latin-1"), raw_path=b"/caf%E9//a%20b%2Fc", query=b"q=%41&x=\xe9")
    assert environ["PATH_INFO"] == "/caf\xe9//a b"
    assert environ["RAW_URI"] == environ["REQUEST_URI"] == "/caf%E9//a%20b%2Fc?q=%41&x=\xe9"
    assert environ["QUERY_STRING"] == "q=%41&x=\xe9"
    assert environ["SCRIPT_NAME"] == ""
    environ = echo("/plain")
    assert (environ["PATH_INFO"], environ["RAW_URI"], environ["QUERY_STRING"]) == ("/plain", "/plain", "")


@pytest.mark.parametrize(
    "path, root, script_name, path_info",
    [
        ("/shop/cart", "/shop", "/shop", "/cart"),
        ("/shop", "/shop", "/shop", ""),
        ("/shop/", "/shop", "/shop", "/"),
        ("/shopping", "/shop", "", "/shopping"),
    ],
)
def test_03_script_name_ends_with_a_segment(echo, path, root, script_name, path_info):
    environ = echo(path, root_path=root)
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (script_name, path_info)


def test_04_content_type_and_length(echo):
    environ = echo("/", method="POST", body=b"abc", fields=[("Content-Type", "text/x"), ("Content-Length", "3")])
    assert environ["CONTENT_TYPE"] == "text/x"
    assert environ["CONTENT_LENGTH"] == "3"
    assert not {"HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"} & set(environ)
    assert not {"CONTENT_TYPE", "CONTENT_LENGTH"} & set(echo("/"))
    assert echo("/", method="POST", fields=[("Content-Length", "0")])["CONTENT_LENGTH"] == "0"


def test_05_a_chunked_request_has_a_length(echo):
    environ = echo("/", method="POST", body=b"hello", fields=[("Transfer-Encoding", "chunked")])
    assert environ["CONTENT_LENGTH"] == "5"
    assert "HTTP_TRANSFER_ENCODING" not in environ
    assert environ["wsgi.input_terminated"] is True


def test_07_repeated_headers_are_joined(echo):
    fields = [("Accept", "a"), ("Cookie", "x=1"), ("accept", "b"), ("cookie", "y=2"), ("ACCEPT", "c"), ("Empty", "")]
    environ = echo("/", fields=fields)
    assert environ["HTTP_ACCEPT"] == "a,b,c"
    assert environ["HTTP_COOKIE"] == "x=1; y=2"
    assert environ["HTTP_EMPTY"] == ""


def test_08_names_that_would_be_merged_are_dropped(echo):
    fields = [("X_Forwarded_For", "evil"), ("Proxy", "http://evil"), ("Content_Length", "9"), (b"b\xe4d", "x"), ("ok", "1")]
    environ = echo("/", fields=fields)
    assert {k for k in environ if k.startswith("HTTP_")} == {"HTTP_OK", "HTTP_X_REQUEST_ID"}
    assert "CONTENT_LENGTH" not in environ


def test_20_server_facts(echo):
    environ = echo("/")
    for key, value in {
        "REQUEST_METHOD": "GET",
        "SERVER_NAME": "shop.example",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "bandstand/0.1.0",
        "REMOTE_ADDR": "192.0.2.7",
        "REMOTE_PORT": "50000",
        "wsgi.url_scheme": "http",
        "wsgi.version": [1, 0],
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }.items():
        assert environ[key] == value, key
    assert "HTTPS" not in environ


def test_20_scheme_version_and_unix_peer(echo):
    environ = echo("/", https=True, version=20, client=(b"", 0), server=(b"localhost", 443), method="PURGE")
    assert (environ["wsgi.url_scheme"], environ["HTTPS"], environ["SERVER_PROTOCOL"]) == ("https", "on", "HTTP/2.0")
    assert (environ["REMOTE_ADDR"], environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("", "localhost", "443")
    assert "REMOTE_PORT" not in environ
    assert environ["REQUEST_METHOD"] == "PURGE"
    environ = echo("/", version=10)
    assert (environ["SERVER_PROTOCOL"], environ["wsgi.url_scheme"]) == ("HTTP/1.0", "http")
    assert "HTTPS" not in environ


CLIENT = ("CN=Zoë,O=Shop\\, Ltd", "CN=Shop", "0A1B", "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n")


def test_what_is_known_of_tls(echo):
    def told(**kwargs):
        return {key: value for key, value in echo("/", **kwargs).items() if key.startswith("SSL_")}

    tls = (0x0303, 0xC02F, "TLSv1.2", "ECDHE-RSA-AES128-GCM-SHA256")
    connection = {"SSL_PROTOCOL": "TLSv1.2", "SSL_CIPHER": "ECDHE-RSA-AES128-GCM-SHA256"}
    assert told() == {}
    assert told(https=True) == {}, "a proxy in front speaks it"
    assert told(https=True, tls=tls) == {**connection, "SSL_CLIENT_VERIFY": "NONE"}
    assert told(https=True, tls=(*tls, CLIENT)) == {
        **connection,
        "SSL_CLIENT_VERIFY": "SUCCESS",
        # As all text of an environ: bytes of UTF-8 as latin-1 (PEP 3333).
        "SSL_CLIENT_S_DN": CLIENT[0].encode().decode("latin-1"),
        "SSL_CLIENT_I_DN": CLIENT[1],
        "SSL_CLIENT_M_SERIAL": CLIENT[2],
        "SSL_CLIENT_CERT": CLIENT[3],
    }


def test_20_threads_and_processes_are_told(worker):
    environ = json.loads(worker(ECHO, threads=3, multiprocess=True).get().body)
    assert environ["wsgi.multithread"] is True
    assert environ["wsgi.multiprocess"] is True


def test_20_errors_is_a_text_stream(worker):
    edge = worker(
        """
def application(environ, start_response):
    errors = environ["wsgi.errors"]
    errors.write("one \\u20ac\\n")
    errors.writelines(["two\\n"])
    errors.flush()
    start_response("200 OK", [])
    return []
"""
    )
    edge.get()
    assert edge.stderr() == "one \u20ac\ntwo\n"


def test_21_each_request_has_a_dict_of_its_own(worker):
    edge = worker(
        """
seen = []

def application(environ, start_response):
    assert type(environ) is dict
    leaked = "mine" in environ or any(environ is other for other in seen)
    environ["mine"] = 1
    environ["wsgi.version"] = None
    del environ["REQUEST_METHOD"]
    seen.append(environ)
    start_response("200 OK", [])
    return [str(leaked).encode()]
"""
    )
    assert [edge.get().body for _ in range(3)] == [b"False"] * 3


def test_many_made_up_names_do_not_pile_up(echo):
    for start in range(0, 2000, 400):
        fields = [(f"x-{n}", str(n)) for n in range(start, start + 400)]
        environ = echo("/", fields=fields)
        assert all(environ[f"HTTP_X_{n}"] == str(n) for n in range(start, start + 400))
