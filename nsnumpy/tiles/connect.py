"""From a cluster's address to the cluster."""

from __future__ import annotations

import contextlib
import logging
import re

from ..ending import line_of
from ..machine import usable_cores
from .cluster import Cluster, ClusterError

ADDRESS = re.compile(r"(tcp|tls)://\S+:\d+|local:([1-9]\d{0,3})")
MOST = 8  # processes of this machine, where it has fewer cores
CONNECT = 10.0  # seconds to wait for a scheduler


def open_cluster(address: str, threads: int | None = None) -> Cluster:
    """The cluster at an address, to be closed.

    Parameters
    ----------
    address : "tcp://HOST:PORT", "tls://HOST:PORT", or "local:N"
        Of a scheduler; or so many processes of this machine. TLS takes its certificates from Dask's configuration.
    threads : int, or None
        Of "local:N": how many threads they have together; None takes the cores that this process may use.

    Raises
    ------
    ValueError
        If the address is none.
    ClusterError
        If Dask is not installed, or the cluster cannot be had.
    """
    local = check_address(address)
    with contextlib.ExitStack() as opened:
        try:
            import distributed

            if local:
                workers = distributed.LocalCluster(
                    n_workers=local,
                    threads_per_worker=1,
                    memory_limit=0,
                    dashboard_address="127.0.0.1:0",
                    security=True,  # the machine may be other people's, too, and workers run whatever they are sent
                    silence_logs=logging.CRITICAL,
                    preload=[_LEAVE_SIGNALS],
                )
                opened.enter_context(workers)
            client = distributed.Client(workers if local else address, timeout=CONNECT, direct_to_workers=True)
            opened.enter_context(client)
        except ImportError as error:  # cryptography's, too
            needs = "needs Dask: pip install 'nsnumpy[cluster]'"
            raise ClusterError(f"cluster {address!r} {needs} ({line_of(error)})") from error
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            raise ClusterError(f"cluster {address!r} cannot be reached: {line_of(error)}") from error
        cluster = Cluster(client, max(1, (threads or usable_cores()) // local) if local else None)
        if local:  # Dask does so itself, but for one that is killed while it begins
            cluster.renew = lambda: workers.scale(local)
        cluster.closing = opened.pop_all()
        return cluster


# Ctrl-C reaches every process of a terminal: those of a local cluster leave it to this one, which ends them.
_LEAVE_SIGNALS = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"


def check_address(address: str) -> int:
    """N of "local:N", and 0 for a scheduler's address; ValueError if it is neither."""
    match = ADDRESS.fullmatch(str(address))
    if match is None:
        raise ValueError(f"cluster is tcp://HOST:PORT, tls://HOST:PORT or local:N, not {address!r}")
    most = max(usable_cores(), MOST)
    if match[2] and int(match[2]) > most:
        raise ValueError(f"{address}: this machine has {usable_cores()} cores; local:{most} is the most")
    return int(match[2] or 0)
