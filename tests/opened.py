"""A studio in this process, for the tests of its server and of its page."""

import contextlib
import http.client
import json
import threading
import time

from nsnumpy.studio.routes import Page
from nsnumpy.studio.server import Server
from nsnumpy.studio.studio import Studio
from nsnumpy.studio.works import DONE, FAILED, KEPT

ASK = {
    "photo": "sample:coast",
    "styles": [{"picture": "sample:starry"}],
    "settings": {"size": 64, "scales": [64], "iterations": 4},
}
LONG = {**ASK, "settings": {"size": 64, "scales": [64], "iterations": 100000}}


class Opened:
    """A studio in this process, and a browser's requests to it."""

    def __init__(self, folder):
        self.studio = Studio(folder, threads=1)
        self.server = Server("127.0.0.1", 0, Page(self.studio, {"photo": None, "styles": []}))
        self.host = f"127.0.0.1:{self.server.server_port}"
        self.headers = {"Origin": f"http://{self.host}", "Cookie": f"{self.server.cookie}={self.server.token}"}
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.studio.start()

    def close(self):
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()
        self.studio.close()

    def ask(self, method, path, body=None, **changed):
        """(status, headers, body); `changed` headers, or None for none of it."""
        headers = {**self.headers, **{name.replace("_", "-"): value for name, value in changed.items()}}
        body = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, body, {k: v for k, v in headers.items() if v is not None})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    def get(self, path):
        status, _, body = self.ask("GET", path)
        assert status == 200, body
        return json.loads(body)

    def post(self, path, value, status=200):
        got, _, body = self.ask("POST", path, value)
        assert got == status, body
        return json.loads(body)

    def paint(self, ask=ASK):
        return self.post("/api/paint", ask, 201)["id"]

    def work(self, id):
        return self.studio.works.get(id)

    def until(self, reached, seconds=60):
        """Wait until something is so."""
        end = time.monotonic() + seconds
        while not reached():
            assert time.monotonic() < end
            time.sleep(0.02)

    def ended(self, id):
        self.until(lambda: self.work(id).state in (DONE, KEPT, FAILED) and self.studio.now is None)
        return self.work(id)

    def painting(self, id, iteration=2):
        """Wait until so many iterations are done."""
        self.until(lambda: self.studio.now and self.work(id).iteration >= iteration)
