"""Requests, and what is sent back."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Refused(Exception):  # noqa: N818 - it is an answer
    """A request that gets this status, and one line that says why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


class Answer(NamedTuple):
    """What is sent back."""

    body: bytes
    kind: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    status: int = 200


class Stream(NamedTuple):
    """Events, for as long as there are any: a function that is given another, which sends one, and whether it could."""

    follow: Callable[[Callable[[str], bool]], None]


def json_answer(value: Any, status: int = 200) -> Answer:
    return Answer(json.dumps(value).encode(), status=status)


class Request(NamedTuple):
    """A request of somebody who may ask.

    Attributes
    ----------
    method, path : str
    query : dict
    read : function
        The body, of at most so many bytes; raises `Refused`.
    """

    method: str
    path: str
    query: dict[str, str]
    read: Callable[[int], bytes]
