"""The command that opens the studio."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import sys
import threading
import webbrowser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..backend import DEVICES, device_namespace
from ..files.decode import at_home
from ..files.samples import SAMPLE_PREFIX
from ..files.writing import check_filled, locked, uninterrupted
from .command import add_command, checking, say, tell
from .options import natural, positive

PORT, MOST_PORT = 8765, 65535
_HERE = ("127.0.0.1", "localhost", "::1")


def add_commands(commands: Any, told: Mapping[str, str]) -> None:
    """studio."""
    command = add_command(
        commands,
        "studio",
        told["studio"],
        "nsnumpy studio",
        "nsnumpy studio photo.jpg painting.jpg --folder paintings",
        description="Open a page on this machine that paints pictures, shows them as they come, and keeps them.",
        usage="%(prog)s [PHOTO STYLE ...] [options]",
    )
    command.add_argument("photo", metavar="PHOTO", nargs="?", help="the picture to begin with")
    command.add_argument("style", metavar="STYLE", nargs="*", help="whose style to begin with")
    command.add_argument(
        "--folder",
        metavar="FOLDER",
        type=Path,
        default=Path("~/nsnumpy-studio"),
        help="where pictures and results are kept (~/nsnumpy-studio)",
    )
    command.add_argument("--no-browser", action="store_true", help="print the address, and open no browser")
    command.add_argument(
        "--port", metavar="N", type=natural, help=f"the port; 0 for a free one ({PORT}, or a free one)"
    )
    command.add_argument(
        "--host",
        metavar="HOST",
        default=_HERE[0],
        help=f"the address to hear at; any but {_HERE[0]} lets other machines in ({_HERE[0]})",
    )
    command.add_argument("--device", choices=DEVICES, default="cpu", help="where to run; gpu needs CuPy (cpu)")
    command.add_argument("--threads", metavar="N", type=positive, help="threads of the CPU (all usable cores)")
    command.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from ..studio.routes import Page  # what the other commands need not load
    from ..studio.server import Server
    from ..studio.studio import Studio

    with contextlib.ExitStack() as held:
        with checking():
            if (arguments.port or 0) > MOST_PORT:
                raise ValueError(f"--port: a number up to {MOST_PORT} expected; {arguments.port} given")
            device_namespace(arguments.device)
            folder = check_filled(at_home(arguments.folder)).absolute()
            folder.mkdir(exist_ok=True)
            try:
                held.enter_context(locked(folder / "studio", "has its studio there"))
            except ValueError as error:
                raise ValueError(f"{folder}: a studio is open on this folder; choose another --folder") from error
            studio = Studio(folder, arguments.device, arguments.threads)
            photo = _known(studio, arguments.photo) if arguments.photo else None
            styles = [_known(studio, name) for name in arguments.style]
            page = Page(studio, {"photo": photo, "styles": styles})
            try:
                server = Server(arguments.host, PORT if arguments.port is None else arguments.port, page)
            except OSError as error:
                if arguments.port is not None or error.errno != errno.EADDRINUSE:
                    where = f"--host {arguments.host}" + (f" --port {arguments.port}" if arguments.port else "")
                    raise ValueError(f"{where}: {error.strerror}; choose another, or leave it out") from error
                server = Server(arguments.host, 0, page)
        if arguments.host not in _HERE:
            say(f"warning: {arguments.host}: whoever reads the network between can read the token, and paint here")
        studio.start()
        tell(f"The studio is at {server.address}")
        tell(f"It keeps its pictures in {folder}; Ctrl-C ends it, and what is under way goes on with the next start")
        try:
            if not arguments.no_browser:
                open_browser(server.address)
            server.serve_forever()
        except KeyboardInterrupt:
            return 0
        finally:
            with uninterrupted():  # a second Ctrl-C waits for what is kept
                server.server_close()
                studio.close()
    return 0


def open_browser(address: str) -> None:
    """Open it in a window, if there are any; whatever the browser takes, the studio need not wait for it."""
    windows = sys.platform in ("darwin", "win32") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    if windows:
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()


def _known(studio: Any, name: str) -> str:
    """A picture's id in the studio, which keeps a copy of it."""
    if name.startswith(SAMPLE_PREFIX):
        return studio.pictures.get(name).id
    path = at_home(name)
    return studio.pictures.add(path.name, path.read_bytes()).id
