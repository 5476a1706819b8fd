"""The studio over http: what one may do, what nobody may do, and what is kept."""

import contextlib
import http.client
import io
import json
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from opened import ASK, LONG, Opened
from PIL import Image

from nsnumpy import Objective, read_settings
from nsnumpy.cli import studio as commands
from nsnumpy.cli.main import main
from nsnumpy.files.checkpoint import read_checkpoint
from nsnumpy.studio import pictures as kept
from nsnumpy.studio import server as serving
from nsnumpy.studio import studio as studios
from nsnumpy.studio.ask import Ask, settings_table
from nsnumpy.studio.pictures import Pictures, safe_name
from nsnumpy.studio.server import Server
from nsnumpy.studio.studio import Studio
from nsnumpy.studio.works import DONE, FAILED, KEPT, PAUSED, RUNNING, WAITING


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    opened = Opened(tmp_path_factory.mktemp("studio"))
    yield opened
    opened.close()


@pytest.fixture
def running(opened):
    """One that is being painted, and goes on whatever is asked meanwhile."""
    id = opened.paint(LONG)
    opened.painting(id)
    yield id
    before = opened.work(id).iteration
    opened.painting(id, before + 2)  # it goes on
    opened.post(f"/api/works/{id}/stop", {})
    assert opened.ended(id).state == KEPT


def png(height=30, width=40, kind="PNG"):
    stream = io.BytesIO()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (height, width, 3), np.uint8)).save(stream, kind)
    return stream.getvalue()


# What one does


def test_a_picture_is_painted_and_kept_and_its_command_makes_it_again(opened, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photo = opened.post("/api/pictures?name=../My%20photo.png", None, 400)  # no bytes are no picture
    assert "photo.png: not a picture" in photo["error"]
    photo = json.loads(opened.ask("POST", "/api/pictures?name=../My%20photo.png", png())[2])
    assert photo["name"] == "My-photo.png"
    assert (photo["width"], photo["height"]) == (40, 30)
    mask = np.zeros((30, 40), np.uint8)
    mask[:15] = 255
    stream = io.BytesIO()
    Image.fromarray(mask).save(stream, "PNG")
    mask = json.loads(opened.ask("POST", "/api/pictures?name=region-1.png&mask=1", stream.getvalue())[2])
    assert mask["mask"]
    styles = [
        {"picture": "sample:starry", "weight": 30, "mask": mask["id"]},
        {"picture": "sample:glass", "weight": 10},
        {"picture": "sample:cutouts", "weight": 20},
    ]
    settings = {**ASK["settings"], "beta": 35.5, "content_layers": {"conv3_2": 0.5, "conv4_2": None}, "seed": 3}
    settings |= {"init": "noise", "iterations": [3], "style_size": 48, "colors": "swap"}
    ask = {"photo": photo["id"], "styles": styles, "settings": settings}
    plan = opened.post("/api/plan", ask)
    assert (plan["width"], plan["height"], plan["iterations"], plan["fits"]) == (64, 48, 3, True)
    work = opened.ended(opened.paint(ask))
    assert (work.state, work.iteration, work.size, work.why) == (DONE, 3, (64, 48), "")
    whole = opened.get(f"/api/works/{work.id}")
    assert [point[0] for point in whole["points"]] == [0, 1, 2, 3]
    assert sum(whole["points"][-1][3:]) == pytest.approx(whole["points"][-1][2])
    status, headers, data = opened.ask("GET", f"/api/works/{work.id}/picture?download=1")
    assert status == 200
    assert headers["Content-Disposition"] == 'attachment; filename="my-photo-starry-glass-cutouts.png"'
    (tmp_path / "result.png").write_bytes(data)
    record = read_settings("result.png")
    assert (record["beta"], record["content"], record["seed"]) == (35.5, "My-photo.png", 3)
    assert record["regions"] == {"region-1": "region-1.png"}
    assert main([*shlex.split(whole["command"])[1:], "--threads", "1", "--quiet"]) == 0
    made = np.asarray(Image.open("my-photo-starry-glass-cutouts.png"))
    assert np.array_equal(made, np.asarray(Image.open("result.png")))
    assert opened.ask("GET", f"/api/works/{work.id}/thumb")[2][:2] == b"\xff\xd8"
    frame = whole["frames"][0]
    assert opened.ask("GET", f"/api/works/{work.id}/frames/{frame}")[2][:2] == b"\xff\xd8"


def test_it_is_watched_steered_put_back_and_stopped(opened):
    id = opened.paint(LONG)
    opened.painting(id, 5)
    events = []
    connection = http.client.HTTPConnection("127.0.0.1", opened.server.server_port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", "/api/events", headers=opened.headers)
        answer = connection.getresponse()
        assert answer.headers["Content-Type"] == "text/event-stream"
        while len(events) < 3:
            line = answer.readline()
            events += [json.loads(line[6:])] if line.startswith(b"data: ") else []
        answer.close()
    assert events[0]["from"] == 0
    points = [point[0] for event in events for point in event["points"]]
    assert points == list(range(len(points)))
    assert events[-1]["now"]["id"] == id
    assert events[-1]["now"]["weights"] == {"alpha": 1.0, "beta": 20.0, "tv": 60.0, "colors": "painting"}
    opened.until(lambda: opened.ask("GET", f"/api/works/{id}/live")[0] == 200 and len(opened.studio.now.frames) > 2)
    opened.post(f"/api/works/{id}/pause", {})
    opened.until(lambda: opened.work(id).state == PAUSED)
    at = opened.work(id).iteration
    time.sleep(0.1)
    assert opened.work(id).iteration == at
    painting = opened.studio.now
    began = painting.run.began
    opened.post(f"/api/works/{id}/change", {"changes": {"beta": 60, "tv": 10}})
    opened.until(lambda: painting.run.s.beta == 60)
    frame, later = painting.frames[1], painting.frames[2:]
    opened.post(f"/api/works/{id}/back", {"frame": frame})
    opened.until(lambda: painting.epoch == 1)
    assert later
    assert not set(later) & set(opened.studio.works.frames(painting.work))
    opened.post(f"/api/works/{id}/go", {})
    opened.painting(id, int(frame[:6]) + 2)
    assert painting.run.began >= began + 0.1  # a pause is no time of the run
    opened.post(f"/api/works/{id}/change", {"changes": {"colors": "luminance", "tv": 30, "shares": [3]}})
    opened.until(lambda: painting.run.s.colors == "luminance")
    opened.painting(id, opened.work(id).iteration + 2)
    assert "cannot" not in opened.post(f"/api/works/{id}/change", {"changes": {"beta": -1}}, 400)["error"]
    opened.post(f"/api/works/{id}/change", {"changes": {"size": 1}}, 400)
    opened.post(f"/api/works/{id}/remove", {}, 409)
    opened.post(f"/api/works/{id}/stop", {})
    work = opened.ended(id)
    assert work.state == KEPT
    assert re.fullmatch(r"stopped after \d+ of 100000 iterations", work.why)
    later = work.changes[-1]["iteration"]
    assert work.changes == [
        {"iteration": at, "beta": 60.0, "tv": 10.0}, {"iteration": at, "back_to": int(frame[:6])},
        {"iteration": later, "tv": 30.0}, {"iteration": later, "colors": "luminance"},
        {"iteration": later, "style_weights": {"style": 1.0}},
    ]  # fmt: skip
    assert read_settings(opened.studio.works.result_of(id))["changes"] == work.changes
    frames = opened.studio.works.path(work, "frames")
    assert {path.suffix for path in frames.iterdir()} == {".jpg"}  # there is nothing to go back with
    numbers = [point[0] for point in opened.get(f"/api/works/{id}")["points"]]
    assert numbers == sorted(numbers)
    opened.post(f"/api/works/{id}/go", {}, 409)  # it has ended
    opened.post(f"/api/works/{id}/remove", {})
    assert not opened.studio.works.path(work, "").exists()


def test_others_wait_in_a_bounded_queue(opened, running, monkeypatch):
    monkeypatch.setattr(studios, "MOST_WAITING", 2)
    first, second = opened.paint(), opened.paint()
    assert "2 pictures wait already" in opened.post("/api/paint", ASK, 409)["error"]
    assert opened.get("/api/works")["waiting"] == [first, second]
    for id in (first, second):
        opened.post(f"/api/works/{id}/remove", {})
    assert opened.get("/api/works")["waiting"] == []


def test_what_does_not_fit_or_fails_is_said_and_the_next_one_is_painted(opened, monkeypatch):
    large = {**ASK, "settings": {"size": 100000}}
    assert not opened.post("/api/plan", large)["fits"]
    assert "more than there is: a size of" in opened.post("/api/paint", large, 409)["error"]
    monkeypatch.setattr(studios, "SteeredRun", lambda *_, **__: 1 / 0)
    assert opened.ended(opened.paint()).why == "division by zero"
    monkeypatch.setattr(studios, "SteeredRun", lambda *_, **__: [].pop())
    failed = opened.ended(opened.paint())
    assert (failed.state, failed.why) == (FAILED, "unexpected IndexError: pop from empty list")
    monkeypatch.undo()
    evaluate, calls = Objective.evaluate, []

    def until_there_is_no_room(self, x):
        calls.append(x.shape)
        if len(calls) > 3:
            raise MemoryError
        return evaluate(self, x)

    monkeypatch.setattr(Objective, "evaluate", until_there_is_no_room)
    work = opened.ended(opened.paint())  # the best picture so far is kept
    assert (work.state, work.why.partition(" after")[0]) == (KEPT, "out of memory")
    assert opened.ask("GET", f"/api/works/{work.id}/picture")[0] == 200
    assert opened.ended(opened.paint()).state == FAILED  # before there was one
    monkeypatch.undo()
    first = opened.ended(opened.paint())
    assert first.state == DONE
    larger = {**ASK, "begin": first.id, "settings": {"size": 96, "iterations": 2}}
    work = opened.ended(opened.paint(larger))
    assert (work.state, work.size) == (DONE, (96, 72))
    assert "--init" in opened.get(f"/api/works/{work.id}")["command"]
    opened.post(f"/api/works/{first.id}/remove", {})
    assert opened.get(f"/api/works/{work.id}")["command"] == ""  # there is none any more


def test_the_report_of_a_result(opened):
    pytest.importorskip("matplotlib")
    work = opened.ended(opened.paint())
    status, headers, page = opened.ask("GET", f"/api/works/{work.id}/report")
    assert status == 200
    assert headers["Content-Disposition"].startswith("attachment")
    assert headers["Content-Security-Policy"].startswith("sandbox")
    assert b"sample:starry" in page


def test_what_was_begun_goes_on_with_the_next_start(tmp_path):
    """One is left while it is painted, one while it pauses, one while it waits."""
    first = Opened(tmp_path)
    begun, waiting = first.paint(LONG), first.paint()
    first.painting(begun, 3)
    picture = json.loads(first.ask("POST", "/api/pictures?name=a.jpg", png(kind="JPEG"))[2])["id"]
    run = first.studio.now.run
    first.close()
    assert (first.work(begun).state, first.work(waiting).state) == (RUNNING, WAITING)
    at = first.work(begun).iteration
    second = Opened(tmp_path)
    try:
        second.painting(begun, at + 1)
        assert second.studio.now.run.history[: at + 1] == run.history  # it did not begin anew
        assert second.studio.pictures.get(picture).name == "a.jpg"
        second.post(f"/api/works/{begun}/pause", {})
        second.until(lambda: second.work(begun).state == PAUSED)
    finally:
        second.close()
    third = Opened(tmp_path)
    try:
        third.until(lambda: third.studio.now and third.work(begun).state == PAUSED and third.studio.now.live())
        third.post(f"/api/works/{begun}/stop", {})
        assert third.ended(waiting).state == DONE
        assert third.work(begun).state == KEPT
        third.studio.works.path(third.work(waiting), "work.json").write_text("{")
    finally:
        third.close()
    assert [work.id for work in Studio(tmp_path).works.all()] == [begun]  # what is broken is left out


# What nobody may do


def refused(opened, status, method, path, body=None, **headers):
    got, answered, text = opened.ask(method, path, body, **headers)
    assert got == status, text
    assert re.fullmatch(r"[^\n]+", json.loads(text)["error"])
    assert "default-src 'none'" in answered["Content-Security-Policy"]


def test_the_token_is_exchanged_for_a_cookie(opened):
    query = opened.server.address.partition("/?")[2]
    status, headers, _ = opened.ask("GET", f"/?{query}", Cookie=None, Origin=None)
    assert (status, headers["Location"]) == (303, "/")
    cookie = headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    status, headers, body = opened.ask("GET", "/", Cookie=cookie.partition(";")[0], Origin=None)
    assert (status, headers["X-Content-Type-Options"]) == (200, "nosniff")
    assert not re.search(rb"<script>|<style|style=|onclick|https?://", body)
    policy = headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert {"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"} <= set(
        policy.split("; ")
    )


def test_a_hostile_client_gets_one_clear_status_and_the_run_goes_on(opened, running):
    port = opened.server.server_port
    for path in ("/", "/main.js", "/api/works", "/api/start", "/api/events", f"/api/works/{running}/live"):
        refused(opened, 403, "GET", path, Cookie=None)
        refused(opened, 403, "GET", path, Cookie=f"{opened.server.cookie}=wrong")
        refused(opened, 403, "GET", path, Host=f"evil.example:{port}", Origin=None)
        refused(opened, 403, "GET", path, Host="127.0.0.1", Origin=None)
        refused(opened, 403, "GET", path, Origin="https://evil.example")
    refused(opened, 403, "GET", "/?token=wrong", Cookie=None)
    refused(opened, 403, "GET", "/?token=%ff%00", Cookie=None)
    refused(opened, 403, "GET", "/api/works", Sec_Fetch_Site="cross-site")
    for path in ("/api/paint", "/api/pictures", f"/api/works/{running}/stop", "/api/plan"):
        refused(opened, 403, "POST", path, {}, Origin="https://evil.example")
        refused(opened, 403, "POST", path, {}, Origin="null")
        refused(opened, 403, "POST", path, {}, Origin=None)
        refused(opened, 403, "POST", path, {}, Cookie=None)
    for path in (
        "/../setup.cfg", "/..%2f..%2fsetup.cfg", "/%2e%2e/%2e%2e/etc/passwd", "/main.js/../../../builtin.h5",
        "/__init__.py",
        f"/api/works/{running}/../../../x", f"/api/works/{running}/frames/..%2f..%2fwork.json",
        "/api/works/../pictures", "/api/works/20200101-000000-abcd", "/api/works/20200101-000000-abcd/picture",
        "/api/pictures/..%2f..%2fx",
        "/api/pictures/0123456789abcdef", "/api/pictures/sample:..", "/api/pictures/sample:none",
        "/index.html%00", "/nothing",
    ):  # fmt: skip
        refused(opened, 404, "GET", path)
    refused(opened, 404, "GET", "//evil.example/")
    refused(opened, 403, "GET", "http://evil.example/")
    refused(opened, 405, "GET", "/api/paint")
    refused(opened, 405, "POST", "/api/works", {})
    for method in ("PUT", "DELETE", "OPTIONS", "TRACE", "PROPFIND"):
        refused(opened, 501, method, "/")
    deep = b"[" * 100_000
    for body in (b"", b"{", b"\xff\xfe", deep, b"null", b"[]", b"1e999", b'{"photo": "sample:coast"}'):
        refused(opened, 400, "POST", "/api/paint", body)
    ask = json.loads(json.dumps(ASK))
    for name, value in (
        ("photo", "/etc/passwd"), ("photo", 1), ("photo", {"a": 1}), ("styles", []), ("styles", ASK["styles"] * 9),
        ("styles", [{"picture": "../x"}]), ("styles", [{"picture": "sample:glass", "weight": 0}]), ("begin", 3),
        ("styles", [{"picture": "sample:glass", "weight": "1"}]), ("more", 1),
        ("styles", [{"picture": "sample:glass", "mask": "x"}]),
        ("network", "/etc/passwd"), ("network", ["builtin"]), ("settings", []), ("begin", "../../x"),
        ("settings", {"init": "/etc/passwd"}), ("settings", {"seamless": "x"}), ("settings", {"size": "large"}),
        ("settings", {"size": 10**400}), ("settings", {"size": -1}), ("settings", {"beta": True}),
        ("settings", {"lr": 0}),
        ("settings", {"iterations": []}), ("settings", {"iterations": [1] * 99}), ("settings", {"scales": [9, 3]}),
        ("settings", {"content_layers": "conv9_9"}), ("settings", {"content_layers": {"conv9_9": 1}}),
        ("settings", {"colors": ["photo"]}), ("settings", {"__class__": 1}), ("settings", {"alpha": float("nan")}),
    ):  # fmt: skip
        refused(opened, 400, "POST", "/api/paint", {**ask, name: value})
    for what, value in (
        ("pause", {"x": 1}), ("change", {}), ("change", {"changes": 3, "x": 1}), ("back", []),
        ("change", {"changes": 3}), ("change", {"changes": {"beta": "1"}}), ("change", {"changes": {"colors": 1}}),
        ("change", {"changes": {"shares": [0]}}), ("change", {"changes": {"shares": [1, 2]}}),
        ("change", {"changes": {"shares": 1}}),
        ("change", {"changes": {"beta": float("inf")}}),
    ):  # fmt: skip
        refused(opened, 400, "POST", f"/api/works/{running}/{what}", value)
    for value in ({"frame": "../x"}, {"frame": ["x"]}, {"frame": None}):
        refused(opened, 409, "POST", f"/api/works/{running}/back", value)
    refused(opened, 413, "POST", "/api/plan", b" " * (300 << 10))


def test_pictures_are_limited_in_bytes_and_pixels(opened, running, monkeypatch):
    raw = b" HTTP/1.1\r\nHost: %s\r\nOrigin: http://%s\r\nCookie: %s\r\n" % (
        opened.host.encode(), opened.host.encode(), opened.headers["Cookie"].encode(),
    )  # fmt: skip
    post, get = b"POST /api/pictures?name=a.png", b"GET /api/works"  # of which nothing more is read
    for to, line, status in (
        (post, b"Content-Length: 2147483648\r\n", 413), (post, b"Content-Length: 9" + b"9" * 30 + b"\r\n", 413),
        (post, b"Content-Length: -1\r\n", 400), (post, b"Content-Length: 1\r\nContent-Length: 2\r\n", 400),
        (post, b"Transfer-Encoding: chunked\r\n", 411), (get, b"Transfer-Encoding: chunked\r\n", 411),
        (post, b"Content-Length: 2147483648\r\nExpect: 100-continue\r\n", 413), (get, b"Content-Length: x\r\n", 400),
    ):  # fmt: skip
        with socket.create_connection(("127.0.0.1", opened.server.server_port), timeout=20) as client:
            client.sendall(to + raw + line + b"\r\n" + b"x" * 4096)
            client.shutdown(socket.SHUT_WR)
            assert client.makefile("rb").readline().split()[1] == str(status).encode()
    for body in (b"not a picture", png()[:200], b"GIF89a", b"<svg/>", b"%PDF-1.4"):
        refused(opened, 400, "POST", "/api/pictures?name=a.png", body)
    monkeypatch.setattr(kept, "MOST_PIXELS", 1000)
    refused(opened, 400, "POST", "/api/pictures?name=b.png", png(40, 50))
    monkeypatch.undo()
    monkeypatch.setattr(kept, "MOST_PICTURES", 1)
    refused(opened, 400, "POST", "/api/pictures?name=b.png", png(41, 50))
    folders = {path.name for path in opened.studio.pictures._folder.iterdir() if path.is_dir()}
    assert folders <= {picture.id for picture in opened.studio.pictures.all()}  # nothing of those is left


def test_nobody_takes_all_connections_for_long(opened, running, monkeypatch):
    monkeypatch.setattr(serving, "PATIENCE", 1.0)
    slow = []
    try:
        for n in range(200):
            client = socket.create_connection(("127.0.0.1", opened.server.server_port), timeout=20)
            slow.append(client)
            with contextlib.suppress(OSError):
                client.sendall(
                    (b"", b"GET / HTTP/1.1\r\nHost", b"POST /api/plan HTTP/1.1\r\nContent-Length: 99\r\n")[n % 3]
                )
        opened.until(lambda: _answers(opened), serving._Handler.timeout * 2 / 3)  # the slow ones were ended
    finally:
        for client in slow:
            client.close()
    streams = []
    try:
        for _ in range(serving.MOST_STREAMS):
            client = http.client.HTTPConnection("127.0.0.1", opened.server.server_port, timeout=20)
            client.request("GET", "/api/events", headers=opened.headers)
            streams.append((client, client.getresponse()))
        assert {answer.status for _, answer in streams} == {200}
        refused_status = opened.ask("GET", "/api/events")[0]
        assert refused_status == 503
        assert opened.ask("GET", "/api/works")[0] == 200  # and others are answered
    finally:
        for client, answer in streams:
            answer.close()
            client.close()


def _answers(opened):
    with contextlib.suppress(OSError, http.client.HTTPException):
        return opened.ask("GET", "/api/works")[0] == 200
    return False


# Its parts


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("photo.jpg", "photo.jpg"), ("../../etc/passwd", "passwd"), ("C:\\a\\b c.PNG", "b-c.PNG"), ("", "picture"),
        ("...", "picture"),
        ("-rf.jpg", "rf.jpg"), (".hidden", "picture.hidden"), ("a\n\0b.jpg", "a-b.jpg"),
        ("\u0416.webp", "\u0416.webp"), ("x" * 300 + ".png", "x" * 60 + ".png"),
        ("$(id);`x`.j p/g", "g"), ("~", "picture"),
    ],
)  # fmt: skip
def test_a_name_is_a_files_alone(name, safe):
    assert safe_name(name) == safe


def test_a_host_is_known_by_its_name_and_port():
    server = Server("127.0.0.1", 0, lambda request: None)
    try:
        port = server.server_port
        assert all(server.knows(f"{name}:{port}") for name in ("127.0.0.1", "localhost", "[::1]", "LOCALHOST"))
        wrong = (
            "127.0.0.1",
            "evil.example",
            f"evil.example:{port}",
            f"127.0.0.1:{port}1",
            "",
            f"127.0.0.1.evil.example:{port}",
            f"10.0.0.1:{port}",
        )
        assert not any(server.knows(name) for name in wrong)
        server.host = "0.0.0.0"
        assert server.knows(f"10.0.0.1:{port}")
        assert server.knows(f"{socket.gethostname()}:{port}")
        assert not server.knows(f"evil.example:{port}")
        assert socket.gethostname() in server.address
    finally:
        server.server_close()


def test_the_form_has_every_setting_of_a_transfer(tmp_path):
    table = {row["name"]: row for row in settings_table()}
    assert {"size", "beta", "tv", "colors", "outside"} <= table.keys()
    assert "seamless" not in table
    assert (table["beta"]["default"], table["border"]["default"]) == (20.0, "replicate")
    given = {row["name"]: row["default"] for row in table.values() if row["kind"] != "layers"}
    assert Ask.read({**ASK, "settings": given}, Pictures(tmp_path)).settings == given


# The command


def test_the_command_opens_it_and_ends_it(tmp_path):
    (tmp_path / "my photo.png").write_bytes(png())
    command = [
        sys.executable,
        "-m",
        "nsnumpy",
        "studio",
        "my photo.png",
        "sample:glass",
        "--folder",
        "f",
        "--port",
        "0",
    ]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = subprocess.Popen([*command, "--no-browser", "--threads", "1"], cwd=tmp_path, **pipes)
    try:
        host, port, token = re.search(r"http://(.+):(\d+)/\?token=(\S+)", running.stdout.readline()).groups()
        with contextlib.closing(http.client.HTTPConnection(host, int(port), timeout=20)) as client:
            client.request("GET", "/api/start", headers={"Cookie": f"studio-{port}={token}"})
            begin = json.loads(client.getresponse().read())["begin"]
        assert begin["styles"] == ["sample:glass"]
        assert len(begin["photo"]) == 16
        assert str(tmp_path / "f") in running.stdout.readline()
        twice = subprocess.run([*command, "--no-browser"], cwd=tmp_path, capture_output=True, text=True)
        assert twice.returncode == 2
        assert "a studio is open on this folder; choose another --folder" in twice.stderr
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=60)
    finally:
        running.kill()
        running.communicate()
    assert (running.returncode, err) == (0, "")


def test_a_browser_is_opened_where_there_is_one(monkeypatch):
    opened, there = [], threading.Event()
    monkeypatch.setattr(commands.webbrowser, "open", lambda address: (opened.append(address), there.set()))
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    commands.open_browser("http://one")  # a text browser would take the terminal
    monkeypatch.setenv("DISPLAY", ":0")
    commands.open_browser("http://two")
    assert there.wait(10)
    assert opened == ["http://two"]


@pytest.mark.slow
def test_one_that_is_killed_goes_on_from_its_checkpoint_with_the_next_start(tmp_path):
    program = "import sys, nsnumpy.studio.painting as p, nsnumpy.cli.main as c; p.KEPT = 0; c.main(sys.argv[1:])"
    command = [sys.executable, "-c", program, "studio", "--folder", tmp_path, "--port", "0", "--no-browser"]
    before = 0
    for number in range(3):
        running = subprocess.Popen([*command, "--threads", "1"], stdout=subprocess.PIPE, text=True)
        try:
            host, port, token = re.search(r"http://(.+):(\d+)/\?token=(\S+)", running.stdout.readline()).groups()
            headers = {"Cookie": f"studio-{port}={token}", "Origin": f"http://{host}:{port}"}
            end, seen = time.monotonic() + 60, [0]
            with contextlib.closing(http.client.HTTPConnection(host, int(port), timeout=20)) as client:
                if number == 0:
                    client.request("POST", "/api/paint", json.dumps(LONG), headers)
                    client.getresponse().read()
                while seen[-1] <= before + 3 and time.monotonic() < end:
                    client.request("GET", "/api/works", headers=headers)
                    (work,) = json.loads(client.getresponse().read())["works"]
                    seen.append(work["iteration"])
        finally:
            running.kill()  # by a signal that nobody hears
            running.communicate()
        assert seen[-1] > before + 3
        assert number == 0 or min(filter(None, seen)) > before
        before = read_checkpoint(tmp_path / "works" / work["id"] / "checkpoint.h5").iteration
        assert before > 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("missing.jpg --folder f", "missing.jpg: No such file or directory"),
        ("text.txt --folder f", "text.txt: not a picture that can be read"),
        ("--folder text.txt", "text.txt: is a file; name a folder"),
        ("sample:none --folder f", "'sample:none': there is none"),
        ("--folder f --host nowhere.invalid", "ot known"),
        ("--folder f --port 99999", "--port: a number up to 65535 expected; 99999 given"),
    ],
)
def test_a_wrong_command_is_told_in_a_line(tmp_path, monkeypatch, capsys, arguments, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("text")
    assert main(["studio", "--no-browser", *arguments.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
