"""The option that names a cluster."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from typing import Any

from ..tiles.cluster import Cluster
from ..tiles.connect import check_address, open_cluster
from .command import plural, tell


def add_cluster(more: Any, shared: str = "tiles") -> None:
    """The option that names the cluster to share the work out to."""
    more.add_argument(
        "--cluster", metavar="ADDRESS", type=_cluster, help=f"share {shared} out: tcp://HOST:PORT, or local:N processes"
    )


@contextlib.contextmanager
def cluster_in(arguments: argparse.Namespace) -> Iterator[Cluster | None]:
    """The cluster that a command names, while it is needed; None if it names none."""
    if not arguments.cluster:
        yield None
        return
    with open_cluster(arguments.cluster, arguments.threads) as cluster:
        if not arguments.quiet:
            tell(f"{arguments.cluster}: {plural(len(cluster.workers), 'worker')}")
        yield cluster


def _cluster(text: str) -> str:
    try:
        check_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text
