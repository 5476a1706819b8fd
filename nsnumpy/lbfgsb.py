"""scipy's L-BFGS-B, one step at a time.

scipy calls the function and, after each iteration, a callback, and returns at the end. Here it does so in a thread of
its own, which stands still but for the time of a step: whenever it wants a value, or has an iterate, it asks, and waits
for the answer. So the function is evaluated in the thread that wants the step.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from .backend import Array, to_host
from .lbfgs import Function, largest_element
from .pairs import Bounds
from .workers import limit_openmp

_MANY = 10**9  # iterations and evaluations: who asks for the steps counts them


def load_scipy() -> None:
    """It takes longer to load than all the rest: so that is done for who wants it. It comes before BLAS is held to one
    thread, so that scipy's own is held, too."""
    import scipy.optimize  # noqa: F401


class _ClosedError(Exception):
    """Tells scipy's thread to end."""


class LBFGSB:
    """scipy's L-BFGS-B without its stopping rules, between two of its steps.

    What still ends it is a line search that finds no lower value even along the gradient: scipy tries that, with a
    fresh memory, before it gives up.

    Attributes
    ----------
    x : float64 array, on the host
    loss, details : float, sequence
        Of f at x.
    """

    def __init__(self, x: np.ndarray, bounds: Bounds, memory: int) -> None:
        self.x, self.loss = x, np.inf
        self.details: Sequence[Any] = ()
        self._bounds, self._memory = bounds, memory
        self._unit = 0.0
        self._next: tuple[float, np.ndarray] | None = None  # the answer that scipy waits for
        self._questions: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="nsnumpy-scipy", daemon=True)

    @classmethod
    def begin(cls, f: Function, x: Array, *, bounds: Bounds, memory: int) -> LBFGSB:
        """At x, which lies within the bounds, on any device; evaluates f there."""
        self = cls(to_host(x).astype(np.float64), bounds, memory)
        self._thread.start()
        try:
            kind, given = self._questions.get()
            if kind == "error":
                raise given
            self._next = self._value(f, self.x)
        except BaseException:
            self.close()
            raise
        return self

    def renewed(self, f: Function) -> LBFGSB:
        """At the same x for another f, with a fresh memory."""
        self.close()
        return LBFGSB.begin(f, self.x, bounds=self._bounds, memory=self._memory)

    def state(self) -> dict[str, Any]:
        """Nothing: scipy does not give its memory away."""
        return {}

    def step(self, f: Function) -> str:
        """To the next iterate; returns "", or why there is none."""
        self._answers.put(self._next)
        while True:
            kind, given = self._questions.get()
            if kind == "value":
                self._answers.put(self._value(f, given.reshape(self.x.shape)))
            elif kind == "iterate":  # the point that a line search accepts is the last one that it evaluated
                self.x, self._next = given.reshape(self.x.shape), None
                return ""
            elif kind == "error":
                raise given
            else:
                return given

    def close(self) -> None:
        """End the thread; no further step can be made."""
        if self._thread.is_alive():
            self._answers.put(_ClosedError())
            self._thread.join()

    def _value(self, f: Function, x: np.ndarray) -> tuple[float, np.ndarray]:
        self.loss, gradient, *self.details = f(x)
        # scipy's first trial step is the gradient itself, and some of its tests are absolute. In this unit the longest
        # first step of a pixel is 0.1, whatever the loss's own scale.
        self._unit = self._unit or 0.1 / largest_element(gradient)
        return self._unit * self.loss, self._unit * gradient.ravel().astype(np.float64)

    def _ask(self, kind: str, x: np.ndarray) -> Any:
        self._questions.put((kind, x.copy()))  # scipy goes on to write into its own
        answer = self._answers.get()
        if isinstance(answer, _ClosedError):
            raise answer
        return answer

    def _run(self) -> None:
        import scipy.optimize

        x, bounds = self.x, self._bounds
        limit_openmp()

        def iterate(xk: np.ndarray) -> None:
            self._ask("iterate", xk)

        try:
            with np.errstate(over="ignore", invalid="ignore"):
                result = scipy.optimize.minimize(
                    lambda x: self._ask("value", x),
                    x.ravel(),
                    jac=True,
                    method="L-BFGS-B",
                    bounds=None if bounds is None else scipy.optimize.Bounds(*(np.full(x.size, b) for b in bounds)),
                    callback=iterate,
                    options={"maxcor": self._memory, "maxiter": _MANY, "maxfun": _MANY, "ftol": 0.0, "gtol": 0.0},
                )
            self._questions.put(("end", " ".join(str(result.message).lower().split()).strip(" .:")))
        except _ClosedError:
            pass
        except BaseException as error:  # the thread that wants the step is to hear of it
            self._questions.put(("error", error))
