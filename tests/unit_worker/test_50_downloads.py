"""``protected_response``: one call, whoever serves the project."""

import json
import sys
from contextlib import closing

import pytest
from scripted_edge import PACKAGE

pytest.importorskip("django")
sys.path.insert(0, PACKAGE)
from django.conf import settings  # noqa: E402

if not settings.configured:
    settings.configure(SECRET_KEY="x", USE_I18N=False)
from bandstand import downloads  # noqa: E402
from django.http import FileResponse, Http404  # noqa: E402
from django.test import RequestFactory  # noqa: E402

REQUEST = RequestFactory().get("/")


@pytest.fixture
def root(tmp_path, monkeypatch):
    root = tmp_path / "private"
    (root / "sub").mkdir(parents=True)
    for name in "a.pdf", "sub/b.csv", "été 100%?.txt", "data.json.gz", "noext":
        (root / name).write_bytes(b"content")
    (tmp_path / "secret").write_text("outside")
    (root / "link").symlink_to("../secret")
    monkeypatch.setattr(downloads, "FOLDERS", [])
    downloads.told(json.dumps([["/protected/", str(root)], ["/protected/sub/", str(root / "sub")]]))
    return root


@pytest.mark.parametrize(
    "name, url, kind",
    [
        ("a.pdf", "/protected/a.pdf", "application/pdf"),
        ("sub/b.csv", "/protected/sub/b.csv", "text/csv"),
        ("sub/../a.pdf", "/protected/a.pdf", "application/pdf"),
        ("été 100%?.txt", "/protected/%C3%A9t%C3%A9%20100%25%3F.txt", "text/plain"),
        ("data.json.gz", "/protected/data.json.gz", "application/gzip"),
        ("noext", "/protected/noext", "application/octet-stream"),
    ],
)
def test_row_75_the_edge_is_told_the_name(root, name, url, kind):
    for path in name, root / name:
        response = downloads.protected_response(REQUEST, path, root=root)
        assert (response["X-Accel-Redirect"], response["Content-Type"], response.content) == (url, kind, b"")
        assert response["Content-Disposition"].startswith("attachment; filename")


def test_how_it_is_shown(root):
    response = downloads.protected_response(REQUEST, "a.pdf", root=root, filename="Invoice 7.pdf", content_type="application/x-own")
    assert (response["Content-Disposition"], response["Content-Type"]) == ('attachment; filename="Invoice 7.pdf"', "application/x-own")
    response = downloads.protected_response(REQUEST, "a.pdf", root=root, as_attachment=False)
    assert response["Content-Disposition"] == 'inline; filename="a.pdf"'


@pytest.mark.parametrize("name", ["none", "sub", "link", "../secret", "/etc/passwd", "a\0b", "x" * 300, ""])
def test_row_48_what_is_no_file_of_the_folder(root, name):
    with pytest.raises(Http404):
        downloads.protected_response(REQUEST, name, root=root)


@pytest.mark.parametrize("said", ["[]", '[["/protected/", "/somewhere/else"]]'])
def test_without_an_edge_that_sends_it_django_does(root, said):
    downloads.told(said)
    with closing(downloads.protected_response(REQUEST, "a.pdf", root=root)) as response:
        assert isinstance(response, FileResponse) and "X-Accel-Redirect" not in response
        assert b"".join(response) == b"content"
        assert response["Content-Disposition"] == 'attachment; filename="a.pdf"'
        assert response["Content-Type"] == "application/pdf"


def test_a_folder_that_is_a_link(root):
    """Settings name the link, the edge may have been told where it leads, and the other way round."""
    link = root.parent / "current"
    link.symlink_to(root)
    assert downloads.protected_response(REQUEST, "a.pdf", root=link)["X-Accel-Redirect"] == "/protected/a.pdf"
    downloads.told(json.dumps([["/files/", str(link)]]))
    assert downloads.protected_response(REQUEST, "a.pdf", root=root)["X-Accel-Redirect"] == "/files/a.pdf"
