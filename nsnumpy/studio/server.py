"""The studio's server: who may ask, how much, and for how long.

It hears this machine alone unless told otherwise. The address that is printed has a random token, which is exchanged
for a cookie that no script reads and no other site sends. Host and Origin must be the server's own, so that no page of
another site can ask, whatever name it has given this machine (DNS rebinding).
"""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import secrets
import socket
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

from .answers import HEADERS, POLICY, Answer, Refused, Request, Stream, json_answer

MOST_CONNECTIONS = 64
MOST_STREAMS = 16
MOST_UPLOADS = 2
PATIENCE = 30.0  # seconds for a request, or for an answer to be taken
UPLOAD_PATIENCE = 300.0
DRAINED = 1 << 20  # bytes that are read of what was refused, so that the refusal arrives

Routes = Callable[[Request], Answer | Stream]


class Server(ThreadingHTTPServer):
    """The server.

    Parameters
    ----------
    host, port
        Port 0 takes a free one.
    routes : function from a `Request` to an `Answer` or a `Stream`
        It raises `Refused`.

    Raises
    ------
    OSError
        If the port is taken, or there is no such host.

    Attributes
    ----------
    token : str
        Whoever has it may ask.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, host: str, port: int, routes: Routes) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.host, self.routes, self.token = host, routes, secrets.token_urlsafe(24)
        self._slots = threading.BoundedSemaphore(MOST_CONNECTIONS)
        self.streams = threading.BoundedSemaphore(MOST_STREAMS)
        self.uploads = threading.BoundedSemaphore(MOST_UPLOADS)
        self._deadlines: dict[Any, float] = {}
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """As it is, but for a look into the DNS for its own name, which can take seconds."""
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):
            self.allow_reuse_address = False
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self.host, self.server_address[1]

    @property
    def address(self) -> str:
        """To open in a browser, with the token."""
        host = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.server_port}/?token={self.token}"

    @property
    def cookie(self) -> str:
        """Its name: cookies are a host's, not a port's."""
        return f"studio-{self.server_port}"

    def knows(self, host: str) -> bool:
        """Whether a Host header may be this server's."""
        name, _, port = host.rpartition(":")
        if port != str(self.server_port):
            return False
        name = name.strip("[]").lower()
        if name in {"127.0.0.1", "localhost", "::1", self.host.lower()}:
            return True
        if self.host not in ("0.0.0.0", "::"):
            return False
        try:  # of all addresses that are this machine's, none is a name that another site may have
            return bool(ipaddress.ip_address(name))
        except ValueError:
            return name == socket.gethostname().lower()

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._slots.acquire(blocking=False):
            busy = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            with contextlib.suppress(OSError):
                request.settimeout(1)
                request.sendall(busy)
            self.shutdown_request(request)
            return
        self.until(request, PATIENCE)
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._deadlines.pop(request, None)
            self._slots.release()

    def until(self, connection: Any, seconds: float) -> None:
        """Give a connection so long from now on."""
        self._deadlines[connection] = time.monotonic() + seconds

    def service_actions(self) -> None:
        """Called twice a second: ends what takes too long."""
        now = time.monotonic()
        for connection, deadline in list(self._deadlines.items()):
            if deadline < now:
                self._deadlines.pop(connection, None)
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news; nothing but the command line prints."""


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "nsnumpy", ""
    timeout = PATIENCE  # of a single read or write

    def handle_one_request(self) -> None:
        self._taken = 0
        self.server.until(self.connection, PATIENCE)
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def handle_expect_100(self) -> bool:
        return True if self._length(quiet=True) > DRAINED * 64 else super().handle_expect_100()

    def log_message(self, *_: Any) -> None:
        """Nothing but the command line prints."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the base class refuses: a request that is none, or a method that there is not."""
        self.close_connection = True
        why = message or HTTPStatus(code).phrase
        self._send(json_answer({"error": "".join(c for c in why if c.isprintable())[:200]}, code))

    def _answer(self) -> None:
        try:
            answer = self._answered()
        except Refused as refused:
            answer = json_answer({"error": refused.why}, refused.status)
        except OSError:
            raise  # the client has gone
        except Exception as error:  # a defect ends one request
            why = " ".join(f"unexpected {type(error).__name__}: {error}".split())
            answer = json_answer({"error": why}, 500)
        if isinstance(answer, Stream):
            self._stream(answer)
            return
        self._drain()
        self.server.until(self.connection, PATIENCE)
        self._send(answer)

    def _answered(self) -> Answer | Stream:
        hosts, origins = self.headers.get_all("Host", []), self.headers.get_all("Origin", [])
        if len(hosts) != 1 or not self.server.knows(hosts[0]):
            raise Refused(403, "this is not the studio's address")
        if origins and origins != [f"http://{hosts[0]}"]:
            raise Refused(403, "a page of another origin may not ask")
        followed = self.command == "GET" and self.path.partition("?")[0] == "/"  # a link, which is let in by its token
        if self.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none") and not followed:
            raise Refused(403, "a page of another site may not ask")
        if self.command == "POST" and not origins:
            raise Refused(403, "an Origin is wanted")
        try:
            url: SplitResult = urlsplit(self.path)
            given = parse_qs(url.query, max_num_fields=8)
        except ValueError as error:
            raise Refused(400, "not an address") from error
        if url.scheme or url.netloc or not self.path.startswith("/") or self.path.startswith("//"):
            raise Refused(400, "not an address of this server")
        query = {name: values[-1] for name, values in given.items()}
        if self.command == "GET" and url.path == "/" and "token" in query:
            return self._let_in(query["token"])
        if not self._is_let_in():
            raise Refused(403, "open the address that the terminal shows: it has the token")
        self._length()  # raises, also where nothing is read
        return self.server.routes(Request(self.command, url.path, query, self._read))

    def _let_in(self, token: str) -> Answer:
        if not hmac.compare_digest(token.encode(), self.server.token.encode()):
            raise Refused(403, "this token is not the studio's: open the address that the terminal shows")
        cookie = f"{self.server.cookie}={self.server.token}; Path=/; HttpOnly; SameSite=Strict"
        return Answer(b"", headers=(("Location", "/"), ("Set-Cookie", cookie)), status=303)

    def _is_let_in(self) -> bool:
        try:
            cookies = SimpleCookie(self.headers.get("Cookie", ""))
        except CookieError:
            return False
        ours = cookies.get(self.server.cookie)
        return ours is not None and hmac.compare_digest(ours.value.encode(), self.server.token.encode())

    def _length(self, quiet: bool = False) -> int:
        lengths = self.headers.get_all("Content-Length", [])
        if self.headers.get("Transfer-Encoding") and not quiet:
            self.close_connection = True
            raise Refused(411, "a Content-Length is wanted")
        if len(set(lengths)) > 1 or any(not (text.isascii() and text.isdecimal()) for text in lengths):
            if quiet:
                return 0
            self.close_connection = True
            raise Refused(400, "one Content-Length is wanted, a whole number")
        return int(lengths[0][:19]) if lengths else 0

    def _read(self, most: int) -> bytes:
        length = self._length()
        if length > most:
            raise Refused(413, f"{length} bytes are too many: {most} at most")
        if length > DRAINED:
            if not self.server.uploads.acquire(blocking=False):
                raise Refused(503, "others bring pictures just now: try again in a moment")
            try:
                self.server.until(self.connection, UPLOAD_PATIENCE)
                body = self.rfile.read(length)
            finally:
                self.server.uploads.release()
        else:
            body = self.rfile.read(length)
        self._taken = len(body)
        if len(body) < length:
            self.close_connection = True
            raise Refused(400, "the request was cut off")
        return body

    def _drain(self) -> None:
        """Read what was sent and not wanted; of a lot, a little, and the connection ends."""
        left = self._length(quiet=True) - self._taken
        if left > 0:
            self.close_connection = self.close_connection or left > DRAINED
            self.connection.settimeout(2)
            try:
                while left > 0 and self._taken < DRAINED:
                    if not (part := self.rfile.read(min(left, 1 << 16))):
                        break
                    left, self._taken = left - len(part), self._taken + len(part)
            except OSError:
                self.close_connection = True
            self.connection.settimeout(self.timeout)

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        names = {name for name, _ in answer.headers}
        for name, value in (*HEADERS.items(), ("Content-Security-Policy", POLICY)):
            if name not in names:
                self.send_header(name, value)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        for name, value in answer.headers:
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer.body)

    def _stream(self, stream: Stream) -> None:
        if not self.server.streams.acquire(blocking=False):
            self._send(json_answer({"error": "too many pages are open"}, 503))
            return
        self.close_connection = True
        try:
            self.send_response(200)
            for name, value in HEADERS.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            stream.follow(self._event)
        finally:
            self.server.streams.release()

    def _event(self, text: str) -> bool:
        self.server.until(self.connection, PATIENCE)
        try:
            self.wfile.write(text.encode())
        except OSError:
            return False
        return True
