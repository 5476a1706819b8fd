"""Downloads against a server on this machine that breaks off, lies, hangs, redirects and changes its mind."""

import errno
import hashlib
import importlib
import json
import os
import socket
import threading
import tracemalloc
import urllib.request
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from nsnumpy import __version__
from weights_tools.download import Downloaded, DownloadError, Expected, checksums, download

MODULE = importlib.import_module("weights_tools.download")
BODY = np.random.default_rng(5).bytes(300_000)
SHA256, MD5 = hashlib.sha256(BODY).hexdigest(), hashlib.md5(BODY).hexdigest()
WHOLE = Expected(len(BODY), SHA256, MD5)


@dataclass
class Source:
    """What the server gives at one address."""

    body: bytes = BODY
    status: int = 200
    reason: str | None = None
    headers: dict = field(default_factory=lambda: {"ETag": '"one"'})
    kind: str = "application/octet-stream"
    length: int | str | None = "true"  # None says nothing
    chunked: bool = False
    ranges: bool = True
    heeds_if_range: bool = True
    content_range: str | None = None  # instead of the true one
    breaks: list = field(default_factory=list)  # after so many bytes each of the next answers breaks off
    hangs: bool = False  # instead of breaking off
    mute: int = 0  # so many requests get no answer at all


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        source = self.server.sources.get(self.path, Source(b"", 404, length=None))
        if source.mute:
            source.mute -= 1
            return
        first = self._first(source)
        if first and first >= len(source.body):
            source = Source(b"", 416, "Not There")
        self.send_response(206 if first and source.status == 200 else source.status, source.reason)
        for name, value in source.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", source.kind)
        if first:
            total = len(source.body)
            self.send_header("Content-Range", source.content_range or f"bytes {first}-{total - 1}/{total}")
        if source.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif source.length is not None:
            self.send_header("Content-Length", len(source.body) - first if source.length == "true" else source.length)
        self.end_headers()
        body = source.body[first:]
        if source.breaks:
            body = body[: source.breaks.pop(0)]
            self._send(source, body)
            if source.hangs:
                self.server.over.wait(10)
        else:
            self._send(source, body)
            if source.chunked:
                self.wfile.write(b"0\r\n\r\n")

    def _first(self, source):
        """The first byte to be sent."""
        asked = self.headers.get("Range")
        if not asked or not source.ranges:
            return 0
        condition = self.headers.get("If-Range")
        if condition and source.heeds_if_range and condition not in source.headers.values():
            return 0
        return int(asked.removeprefix("bytes=").removesuffix("-"))

    def _send(self, source, body):
        self.wfile.write(b"%x\r\n%b\r\n" % (len(body), body) if source.chunked else body)
        self.wfile.flush()

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = False  # so that every socket is closed when the server is

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.sources, self.requests, self.over = {}, [], threading.Event()
        self.base = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address):
        pass  # a client that goes early

    def add(self, name="w.bin", **what):
        """Serve something; its address."""
        self.sources[f"/{name}"] = Source(**what)
        return f"{self.base}/{name}"

    def asked(self, header):
        """What every request so far said under `header`."""
        return [headers.get(header) for _, headers in self.requests]


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.005})
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def said():
    """The lines that were said."""
    return []


@pytest.fixture
def fetch(tmp_path, said):
    """fetch(*urls, expected, **options) downloads to `tmp_path`/got.h5, without long pauses."""

    def fetch(*urls, expected=WHOLE, **options):
        options = {"say": said.append, "pause": 0.001, "timeout": 5.0} | options
        return download(urls, tmp_path / "got.h5", expected, **options)

    return fetch


@pytest.fixture
def folder(tmp_path):
    """folder() is what lies in `tmp_path`, by name."""
    return lambda: {path.name: path.read_bytes() for path in tmp_path.iterdir()}


@pytest.fixture
def begun(server, fetch, folder):
    """begun(k, **source) is the address of a source that broke off after `k` bytes and now gives all."""

    def begun(k=100_000, expected=WHOLE, **source):
        url = server.add(breaks=[k], **source)
        with pytest.raises(DownloadError, match=f"broke after {k:,} of 300,000 bytes"):
            fetch(url, expected=expected, attempts=1)
        assert folder()["got.h5.part"] == BODY[:k]
        server.requests.clear()
        return url

    return begun


def refused():
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}/w.bin"


def changed(body=BODY):
    return bytes(255 - byte for byte in body[:1000]) + body[1000:]


def test_a_file_comes_whole_and_alone(server, fetch, said, folder, tmp_path):
    (tmp_path / "got.h5").write_bytes(b"older")
    url, steps = server.add(), []
    assert fetch(url, progress=lambda *step: steps.append(step)) == Downloaded(
        tmp_path / "got.h5", url, len(BODY), SHA256, MD5
    )
    assert folder() == {"got.h5": BODY}
    assert said == []
    assert (steps[0], steps[-1]) == ((0, len(BODY)), (len(BODY), len(BODY)))
    assert steps == sorted(steps)
    assert server.asked("user-agent") == [f"nsnumpy-weights/{__version__}"]
    assert server.asked("range") == [None]


def test_nothing_needs_to_be_published(server, tmp_path):
    """And nobody needs to listen; the checksums are told all the same."""
    url = server.add(headers={}, length=None)
    assert download([url], tmp_path / "w").sha256 == SHA256


def test_it_comes_in_parts(server, fetch, monkeypatch):
    monkeypatch.setattr(MODULE, "CHUNK", 10_000)
    steps = []
    fetch(server.add(), progress=lambda done, total: steps.append(done))
    assert max(np.diff(steps)) <= 10_000


@pytest.mark.parametrize("size", [0, 999, 1000, 1001])
def test_checksums(tmp_path, monkeypatch, size):
    monkeypatch.setattr(MODULE, "CHUNK", 1000)
    (tmp_path / "file").write_bytes(BODY[:size])
    sums = hashlib.sha256(BODY[:size]).hexdigest(), hashlib.md5(BODY[:size]).hexdigest(), size
    assert checksums(tmp_path / "file") == checksums(str(tmp_path / "file")) == sums


def test_checksums_take_little_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(MODULE, "CHUNK", 10_000)
    (tmp_path / "file").write_bytes(BODY)
    tracemalloc.start()
    checksums(tmp_path / "file")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


# Resuming


def test_a_broken_connection_is_continued(server, fetch, said, folder, monkeypatch):
    pauses, steps = [], []
    monkeypatch.setattr(MODULE.time, "sleep", pauses.append)
    url = server.add(breaks=[100_000, 50_000])
    fetch(url, expected=Expected(), progress=lambda *step: steps.append(step), pause=0.5)
    assert folder() == {"got.h5": BODY}
    assert server.asked("range") == [None, "bytes=100000-", "bytes=150000-"]
    assert server.asked("if-range") == [None, '"one"', '"one"']
    assert pauses == [0.5, 1.0]
    assert steps.count((100_000, 300_000)) == 2  # as it came, and as it was found
    assert said == [
        f"{url}: the connection broke after 100,000 of 300,000 bytes; trying again",
        f"{url}: the connection broke after 150,000 of 300,000 bytes; trying again",
    ]


def test_a_source_is_asked_so_many_times(server, fetch, folder):
    with pytest.raises(DownloadError, match=r"broke after 40 of 300,000 bytes$"):
        fetch(server.add(breaks=[10] * 9), attempts=4)
    assert len(server.requests) == 4
    assert folder()["got.h5.part"] == BODY[:40]


def test_nothing_is_left_of_nothing(server, fetch, folder):
    with pytest.raises(DownloadError):
        fetch(server.add(breaks=[0] * 9))
    assert folder() == {}


def test_a_broken_answer_of_unknown_length_is_continued(server, fetch, folder):
    url = server.add(chunked=True, breaks=[100_000])
    fetch(url, expected=Expected())
    assert server.asked("range") == [None, "bytes=100000-"]
    assert folder() == {"got.h5": BODY}


def test_fewer_bytes_than_published_are_a_broken_connection(server, fetch, said):
    url = server.add(length=None, breaks=[100_000])
    fetch(url, expected=Expected(size=len(BODY)))
    assert said == [f"{url}: the connection broke after 100,000 of 300,000 bytes; trying again"]


def test_a_server_that_hangs_up_is_asked_again(server, fetch, said):
    url = server.add(mute=1)
    fetch(url)
    assert said == [f"{url}: Remote end closed connection without response; trying again"]


@pytest.mark.parametrize("expected", [WHOLE, Expected()])
def test_a_later_run_continues(begun, server, fetch, folder, said, expected):
    url, steps = begun(expected=expected), []
    assert fetch(url, expected=expected, progress=lambda *step: steps.append(step)).sha256 == SHA256
    assert folder() == {"got.h5": BODY}
    assert server.asked("range") == ["bytes=100000-"]
    assert server.asked("if-range") == ['"one"']
    assert steps[0] == (100_000, 300_000)
    assert said == []


def test_ctrl_c_leaves_the_part(server, fetch, folder):
    def stop(done, total):
        if done > 50_000:
            raise KeyboardInterrupt

    url = server.add()
    with pytest.raises(KeyboardInterrupt):
        fetch(url, progress=stop)
    part = folder()["got.h5.part"]
    assert 50_000 < len(part)
    assert BODY.startswith(part)
    fetch(url)
    assert server.asked("range")[1:] == ([f"bytes={len(part)}-"] if len(part) < len(BODY) else [])
    assert folder() == {"got.h5": BODY}


@pytest.mark.parametrize(
    ("expected", "headers"), [(WHOLE, {}), (Expected(), {"ETag": '"one"'}), (Expected(), {}), (Expected(300_000), {})]
)
def test_a_part_that_is_all_needs_no_server(begun, server, fetch, folder, tmp_path, expected, headers):
    url = begun(expected=expected, headers=headers)
    (tmp_path / "got.h5.part").write_bytes(BODY)
    assert fetch(url, expected=expected).size == len(BODY)
    assert server.requests == []
    assert folder() == {"got.h5": BODY}


def test_a_server_without_ranges_starts_over(begun, server, fetch, folder, said):
    url, steps = begun(ranges=False), []
    fetch(url, progress=lambda *step: steps.append(step))
    assert folder() == {"got.h5": BODY}
    assert server.asked("range") == ["bytes=100000-"]
    assert steps[0] == (0, 300_000)
    assert said == [f"{url}: the file has changed, or cannot be continued there; starting over"]


@pytest.mark.parametrize("heeds", [True, False])
@pytest.mark.parametrize("header", ["ETag", "Last-Modified"])
def test_a_file_that_has_changed_starts_over(begun, server, fetch, folder, said, heeds, header):
    url = begun(expected=Expected(), headers={header: '"one"'})
    server.add(body=changed(), headers={header: '"two"'}, heeds_if_range=heeds)
    fetch(url, expected=Expected())
    assert folder() == {"got.h5": changed()}
    assert server.asked("range") == ["bytes=100000-"] if heeds else ["bytes=100000-", None]
    assert len(said) == 1
    assert said[0].startswith(f"{url}: the file has changed")


def test_a_file_of_another_length_starts_over(begun, server, fetch, folder):
    url = begun(expected=Expected())
    server.add(body=changed(BODY[:-1]))
    fetch(url, expected=Expected())
    assert folder() == {"got.h5": changed(BODY[:-1])}


def test_only_what_vouches_for_every_byte_is_asked_with(begun, server, fetch, folder):
    url = begun(expected=Expected(), headers={"ETag": 'W/"one"', "Last-Modified": "Sat, 01 Feb 2014 00:00:00 GMT"})
    fetch(url, expected=Expected())
    assert server.asked("if-range") == ["Sat, 01 Feb 2014 00:00:00 GMT"]
    url = begun(expected=Expected(), headers={"ETag": 'W/"one"'})
    fetch(url, expected=Expected())
    assert server.asked("range") == [None]
    assert folder() == {"got.h5": BODY}


@pytest.mark.parametrize(
    "content_range",
    [
        "bytes 99999-299999/300000",
        "bytes 0-299999/300000",
        "bytes 100000-300000/300000",
        "bytes 100000-99999/300000",
        "bytes */300000",
        "bytes 100000-299999/" + "9" * 5000,
        "nonsense",
    ],
)
def test_a_wrong_range_starts_over(begun, server, fetch, folder, said, content_range):
    url = begun(content_range=content_range)
    fetch(url)
    assert folder() == {"got.h5": BODY}
    assert server.asked("range") == ["bytes=100000-", None]
    assert said[0].startswith(f"{url}: bytes from 100,000 on were asked for, {content_range[:20]}")
    assert len(said[0]) < 400


def test_a_range_of_an_unknown_whole(begun, server, fetch, folder):
    fetch(begun(content_range="bytes 100000-299999/*"))
    assert server.asked("range") == ["bytes=100000-"]
    assert folder() == {"got.h5": BODY}


def test_a_range_that_was_not_asked_for_is_no_file(server, fetch):
    with pytest.raises(DownloadError, match="206 Partial Content, which is no file"):
        fetch(server.add(status=206))


def test_a_part_longer_than_the_file_starts_over(server, fetch, folder, said, tmp_path):
    (tmp_path / "got.h5.part").write_bytes(BODY + b"more")
    url = server.add()
    fetch(url, expected=Expected(sha256=SHA256))
    assert server.asked("range") == ["bytes=300004-", None]
    assert said == [f"{url}: 416 Not There; starting over"]
    assert folder() == {"got.h5": BODY}


def test_it_starts_over_once(begun, server, fetch, said):
    url = begun()
    server.add(status=416, reason="No")
    with pytest.raises(DownloadError, match="416 No"):
        fetch(url)
    assert server.asked("range") == ["bytes=100000-", None]
    assert said == [f"{url}: 416 No; starting over"]


def test_a_part_longer_than_published_is_not_continued(server, fetch, tmp_path):
    (tmp_path / "got.h5.part").write_bytes(BODY + b"more")
    fetch(server.add())
    assert server.asked("range") == [None]


def test_another_source_continues_if_a_checksum_is_known(begun, server, fetch, folder):
    begun()
    assert fetch(server.add("mirror", headers={"ETag": '"mirror\'s"'})).url.endswith("/mirror")
    assert server.asked("range") == ["bytes=100000-"]
    assert server.asked("if-range") == [None]
    assert folder() == {"got.h5": BODY}


def test_another_source_starts_anew_if_none_is(begun, server, fetch, folder):
    begun(expected=Expected())
    fetch(server.add("mirror", body=changed()), expected=Expected(size=len(BODY)))
    assert server.asked("range") == [None]
    assert folder() == {"got.h5": changed()}


def test_a_part_of_two_sources_is_of_neither(begun, server, fetch, folder):
    url = begun()
    with pytest.raises(DownloadError):
        fetch(server.add("mirror", body=BODY[:100_000] + changed(BODY[100_000:]), breaks=[50_000]), attempts=1)
    assert len(folder()["got.h5.part"]) == 150_000
    server.requests.clear()
    fetch(url, expected=Expected())
    assert server.asked("range") == [None]
    assert folder() == {"got.h5": BODY}


@pytest.mark.parametrize("note", ["", "{", "[1]", '{"url": 1}', b"\xff"])
def test_a_damaged_note_is_no_note(begun, server, fetch, folder, tmp_path, note):
    url = begun(expected=Expected())
    (tmp_path / "got.h5.part.json").write_bytes(note if isinstance(note, bytes) else note.encode())
    fetch(url, expected=Expected())
    assert server.asked("range") == [None]
    assert folder() == {"got.h5": BODY}


def test_the_note(begun, folder):
    url = begun(headers={"ETag": '"one"', "Last-Modified": "then"})
    note = {"url": url, "etag": '"one"', "last_modified": "then", "length": 300_000}
    assert json.loads(folder()["got.h5.part.json"]) == note


# Sources that fail


def test_the_next_source_is_tried(server, fetch, said, folder):
    missing, forbidden, nobody, good = f"{server.base}/none", server.add("a", status=403), refused(), server.add()
    broken = server.add("b", status=503, reason="\x1b[31mNot\tnow")
    assert fetch(missing, forbidden, broken, nobody, "file:///etc/hosts", "ftp://x/y", good).url == good
    assert said == [
        f"{missing}: 404 Not Found; trying the next source",
        f"{forbidden}: 403 Forbidden; trying the next source",
        f"{broken}: 503 [31mNot now; trying the next source",
        f"{nobody}: Connection refused; trying the next source",
        "file:///etc/hosts: neither http nor https; trying the next source",
        "ftp://x/y: neither http nor https; trying the next source",
    ]
    assert len(server.requests) == 4  # none of them twice
    assert folder() == {"got.h5": BODY}


def test_one_line_names_every_source_and_its_reason(server, fetch, folder, said, tmp_path):
    missing, nobody = f"{server.base}/none", refused()
    (tmp_path / "got.h5").write_bytes(b"older")
    with pytest.raises(DownloadError) as raised:
        fetch(missing, nobody, "http://[x/")
    assert str(raised.value) == (
        f"got.h5 could not be downloaded: {missing}: 404 Not Found; {nobody}: Connection refused; http://[x/: Invalid "
        "IPv6 URL"
    )
    assert len(said) == 2  # nothing is next after the last
    assert folder() == {"got.h5": b"older"}
    with pytest.raises(DownloadError, match=r"^got.h5 could not be downloaded: no source is known$"):
        fetch()


@pytest.mark.parametrize("breaks", [[], [100_000]])
def test_a_silent_server_is_left(server, fetch, said, folder, breaks):
    """Before its first word, and in the middle of the file, which the next source continues."""
    if breaks:
        slow = server.add("slow", breaks=breaks, hangs=True)
        fetch(slow, server.add(), timeout=0.2)
        assert server.asked("range") == [None, "bytes=100000-"]
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            slow = f"http://127.0.0.1:{listener.getsockname()[1]}/w.bin"
            fetch(slow, server.add(), timeout=0.2)
    assert said == [f"{slow}: no answer for 0.2 s; trying the next source"]
    assert folder() == {"got.h5": BODY}


def test_a_wrong_size_is_seen_before_the_download(begun, server, fetch, said, folder):
    begun(50_000)
    long = server.add("long", body=BODY + b"more")
    short = server.add("short", body=BODY[:-1], ranges=False)
    with pytest.raises(DownloadError, match="299,999 bytes are announced, 300,000 are published"):
        fetch(long, short)
    assert said == [f"{long}: 300,004 bytes are announced, 300,000 are published; trying the next source"]
    assert folder()["got.h5.part"] == BODY[:50_000]


@pytest.mark.parametrize("chunked", [False, True])
def test_more_than_published_is_not_written(server, fetch, folder, chunked):
    most = []
    with pytest.raises(DownloadError, match="more than 250,000 bytes came"):
        fetch(
            server.add(length=None, chunked=chunked),
            expected=Expected(size=250_000),
            progress=lambda done, total: most.append(done),
        )
    assert max(most) <= 250_000
    assert folder() == {}


def test_no_more_than_announced_is_read(server, fetch, folder):
    fetch(server.add(length=1000), expected=Expected())
    assert folder() == {"got.h5": BODY[:1000]}


def test_there_is_an_end_to_what_nobody_announced(server, fetch, folder, monkeypatch):
    monkeypatch.setattr(MODULE, "CAP", 250_000)
    with pytest.raises(DownloadError, match="more than 250,000 bytes came"):
        fetch(server.add(length=None), expected=Expected())
    assert folder() == {}
    monkeypatch.setattr(MODULE, "CAP", 300_000)
    fetch(server.add(length=None), expected=Expected())
    assert folder() == {"got.h5": BODY}


def test_a_web_page_is_no_file(server, fetch, folder):
    url = server.add(kind="text/html; charset=utf-8")
    with pytest.raises(DownloadError, match="a web page came instead of the file"):
        fetch(url, expected=Expected(sha256=SHA256))
    assert folder() == {}
    fetch(url, expected=Expected(size=len(BODY)))  # its size vouches for it


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        (Expected(sha256="ab" * 32), f"SHA-256 {SHA256}, but {'ab' * 32} is published"),
        (Expected(sha256="ABABABAB"), f"SHA-256 {SHA256}, but abababab is published"),
        (Expected(sha256=SHA256, md5="cd" * 16), f"MD5 {MD5}, but {'cd' * 16} is published"),
    ],
)
def test_a_wrong_checksum_leaves_nothing(server, fetch, said, folder, expected, message):
    one, two = server.add("one"), server.add("two")
    with pytest.raises(DownloadError, match=f"{two}: {message}$"):
        fetch(one, two, expected=expected)
    assert said == [f"{one}: {message}; trying the next source"]
    assert server.asked("range") == [None, None]
    assert folder() == {}


@pytest.mark.parametrize("expected", [Expected(sha256=SHA256[:8]), Expected(sha256=SHA256.upper(), md5=MD5.upper())])
def test_checksums_may_be_short_or_in_capitals(server, fetch, expected):
    fetch(server.add(), expected=expected)


@pytest.mark.parametrize("size", [100_000, 300_000])
def test_a_damaged_part_is_not_the_sources_fault(begun, server, fetch, folder, said, tmp_path, size):
    url = begun()
    (tmp_path / "got.h5.part").write_bytes(changed()[:size])
    fetch(url)
    assert folder() == {"got.h5": BODY}
    assert server.asked("range") == (["bytes=100000-", None] if size == 100_000 else [None])
    assert said == [f"{url}: SHA-256 {hashlib.sha256(changed()).hexdigest()}, but {SHA256} is published; starting over"]


@pytest.mark.parametrize("what", [{"size": 0}, {"sha256": ""}, {"sha256": "ab" * 31}, {"md5": ""}, {"md5": "xy" * 16}])
def test_what_cannot_have_been_published(what):
    with pytest.raises(ValueError, match=f"^{next(iter(what))}: .* expected, .* given$"):
        Expected(**what)


# Ways to the source


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(begun, server, fetch, folder, status):
    other = server.add("there", headers={"ETag": '"there"'})
    url = server.add("here", status=status, headers={"Location": "/there"}, body=b"", ranges=False)
    server.sources["/there"].breaks = [100_000]
    assert fetch(url).url == url  # by which it is known, wherever it lies today
    assert other.endswith(server.requests[1][0])
    assert server.asked("range") == [None, None, "bytes=100000-", "bytes=100000-"]
    assert server.asked("if-range")[3] == '"there"'
    assert folder() == {"got.h5": BODY}


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("file:///etc/hosts", "Redirection to url 'file:///etc/hosts' is not allowed"),
        ("ftp://127.0.0.1/w.bin", "302 redirects from http to ftp"),
        ("data:text/plain,x", "Redirection to url 'data:text/plain,x' is not allowed"),
        ("/here", "would lead to an infinite loop. The last 30x error message was: Found"),
    ],
)
def test_redirects_that_are_not_followed(server, fetch, said, location, message):
    url = server.add("here", status=302, headers={"Location": location}, body=b"")
    fetch(url, server.add())
    assert len(said) == 1
    assert message in said[0]


def test_no_redirect_leaves_https(server, fetch, said, monkeypatch):
    plainly = lambda self, request: self.do_open(HTTPConnection, request)  # noqa: E731
    monkeypatch.setattr(urllib.request.HTTPSHandler, "https_open", plainly)  # as if it were encrypted
    base = server.base.replace("http:", "https:")
    for name, target in (("up", f"{base}/w.bin"), ("down", f"{server.base}/w.bin"), ("twice", f"{base}/down")):
        server.add(name, status=302, headers={"Location": target}, body=b"")
    server.add()
    fetch(f"{base}/up")
    fetch(f"{server.base}/up")
    assert said == []
    fetch(f"{base}/down", f"{server.base}/twice", server.base + "/w.bin")
    assert said == [
        f"{base}/down: 302 redirects from https to http; trying the next source",
        f"{server.base}/twice: 302 redirects from https to http; trying the next source",
    ]


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY"])
def test_a_proxy_is_honoured(server, fetch, folder, monkeypatch, name):
    url = "http://weights.example/w.bin"
    server.sources[url] = Source(breaks=[100_000])
    monkeypatch.setenv(name, server.base)
    fetch(url)
    assert [path for path, _ in server.requests] == [url, url]
    assert folder() == {"got.h5": BODY}


def test_no_proxy_is_honoured(server, fetch, monkeypatch):
    monkeypatch.setenv("http_proxy", refused())
    with pytest.raises(DownloadError, match="Connection refused"):
        fetch(server.add())
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    fetch(server.add())


# The disk


def test_room_on_the_disk(begun, server, fetch, folder, monkeypatch):
    url, free = begun(), [199_999]
    monkeypatch.setattr(MODULE.shutil, "disk_usage", lambda path: type("Usage", (), {"free": free[0]}))
    with pytest.raises(OSError, match="not enough room on the disk: 200,000 bytes more are needed, 199,999 are free"):
        fetch(url, server.add("mirror"))
    assert len(server.requests) == 1
    assert folder()["got.h5.part"] == BODY[:100_000]
    free[0] = 200_000
    server.sources["/w.bin"].ranges = False  # what is there is overwritten
    fetch(url)


def test_a_full_disk_is_no_fault_of_the_source(server, fetch, folder, said):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match=r"got\.h5\.part") as raised:
            fetch(server.add(), server.add("mirror"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (raised.value.errno, said, len(server.requests)) == (errno.EFBIG, [], 1)
    assert folder()["got.h5.part"] == BODY[:100_000]
    fetch(server.add())
    assert server.asked("range") == [None, "bytes=100000-"]


def test_a_place_that_cannot_be_written_is_told_at_once(server, tmp_path):
    url = server.add()
    with pytest.raises(FileNotFoundError, match="make it first"):
        download([url], tmp_path / "none" / "w.h5")
    with pytest.raises(IsADirectoryError, match="name a file in it"):
        download([url], tmp_path)
    assert server.requests == []
    (tmp_path / "w.h5.part").mkdir()
    with pytest.raises(OSError, match=r"w\.h5\.part"):
        download([url, server.add("mirror")], tmp_path / "w.h5")
    assert len(server.requests) == 1


def test_the_listeners_own_errors_are_not_the_networks(server, fetch):
    def fail(done, total):
        raise BrokenPipeError(errno.EPIPE, "nobody reads")

    with pytest.raises(BrokenPipeError, match="nobody reads"):
        fetch(server.add(), progress=fail)
