"""L-BFGS, this package's own and scipy's, gradient descent with momentum, and Adam, behind one call."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .backend import Array, device_errors, to_floats
from .descent import SGD, Adam, project
from .ending import Ended, Ending
from .lbfgs import LBFGS, MEMORY, Function
from .lbfgsb import LBFGSB, load_scipy
from .losses import sum_of_squares
from .pairs import Bounds, Scratch
from .workers import Workers, one_blas_thread

OPTIMIZERS = ("lbfgs-device", "scipy", "sgd", "adam")


def canonical_optimizer(name: str) -> str:
    """``lbfgs``, as scipy's was called once, as ``scipy``; every other name as it is."""
    return "scipy" if name == "lbfgs" else name


@dataclass(frozen=True)
class Iterate:
    """One accepted iterate.

    Attributes
    ----------
    iteration : int
        Its number; 0 is the start.
    loss : float
    step : float
        The Euclidean length of the step that led to it; 0 at the start.
    seconds : float
        Since the start.
    x : array
        Not to be written to.
    details : sequence
        What f returned there, beside the loss and the gradient.
    state : dict
        What `minimize` takes as `resume`: numbers, arrays and lists of arrays. They are the method's own and may not be
        written to; later steps do not write to them either.
    """

    iteration: int
    loss: float
    step: float
    seconds: float
    x: Array = field(repr=False)
    state: Mapping[str, Any] = field(repr=False)
    details: Sequence[Any] = field(default=(), repr=False)


@dataclass(frozen=True)
class Minimum(Ended):
    """Where a minimisation ended.

    Attributes
    ----------
    x : array
        The iterate with the lowest loss that was seen.
    loss : float
        Its loss.
    iterations : int
        How many iterations ran.
    ending : Ending
        `stopped`, `interrupted`, `failed` and `out_of_memory` ask it.
    """

    x: Array = field(repr=False)
    loss: float
    iterations: int
    ending: Ending = field(default_factory=Ending)


def minimize(
    f: Function,
    x0: Array,
    *,
    method: str = "scipy",
    iterations: int = 100,
    bounds: Bounds = (0.0, 1.0),
    lr: float | None = None,
    momentum: float = 0.9,
    memory: int | None = None,
    rounding: float | None = None,
    scratch: Scratch = None,
    workers: Workers | None = None,
    resume: Mapping[str, Any] | None = None,
    callback: Callable[[Iterate], object] | None = None,
) -> Minimum:
    """Minimise f from x0, in exactly `iterations` iterations unless no lower value can be found.

    The course of a run does not depend on the scale of f: c * f, for c > 0, gives the same iterates; "sgd" with an lr
    of your own is the exception.

    Parameters
    ----------
    f : function from an array to (loss, gradient)
        The gradient in x's shape, an array of its own each time. What it returns beside them, an `Iterate` carries.
    x0 : float array
        The start. "scipy" works on a float64 copy on the host, which is what f is given and x is then; the others in
        x0's dtype and namespace.
    method : "scipy", "lbfgs-device", "sgd" or "adam"
        "scipy" is scipy's L-BFGS-B [1] ("lbfgs" is the same); "lbfgs-device" the L-BFGS of lbfgs.py, faster and
        smaller in float32 and on a GPU; "sgd" gradient descent with momentum, ``v = momentum v + lr g; x = x - v``;
        "adam" is [2] with its own constants, 0.9, 0.999 and 1e-8.
    iterations : int >= 0
    bounds : (low, high), or None
        The box that x stays in. "sgd" and "adam" project onto it after each step.
    lr : float, or None
        The step size of "sgd" and "adam". None takes 0.02 for "adam", and for "sgd" 0.02 over the largest element of
        the first gradient: no pixel's first step is longer than 0.02.
    momentum : float
        Of "sgd".
    memory : int, or None
        How many pairs of steps and gradient changes the L-BFGS methods remember; None is 8, and 10 for scipy's.
    rounding : float, or None
        How well f is known, relative, where that is less well than x's precision has it, as of products in TF32:
        "lbfgs-device" does not take it for a rise.
    scratch : path, or None
        A folder in which "lbfgs-device", on a CPU, holds its pairs, if they are too many for memory.
    workers : Workers, or None for one thread
        The threads that "lbfgs-device" shares its work among; f has its own.
    resume : dict, or None
        An `Iterate`'s state, of the same f and method: go on from there, up to `iterations` counted from the first
        start. All but "scipy" go on as if they had never stopped, with the same numbers; scipy does not give its memory
        away, and begins with a fresh one at the same x.
    callback : function of one `Iterate`, or None
        Called at the start (unless it resumes) and after every iteration.

    Returns
    -------
    Minimum

    Raises
    ------
    ValueError
        If an argument is unusable.
    FloatingPointError
        If f raises it, or is not finite, at x0 already. Later on, the best x so far is returned instead.
    MemoryError
        Likewise.

    References
    ----------
    [1] Zhu, Byrd, Lu, Nocedal 1997, L-BFGS-B, ACM TOMS 23(4). [2] Kingma, Ba 2015, Adam, arXiv:1412.6980.
    """
    if iterations < 0:
        raise ValueError(f"iterations is 0 or more, not {iterations}")
    options: dict[str, Any] = {
        "lr": lr,
        "momentum": momentum,
        "memory": memory,
        "rounding": rounding,
        "scratch": scratch,
        "workers": workers,
    }
    descent = Descent(f, x0, method=method, bounds=bounds, resume=resume, **options)
    resume = None  # the arrays that the method forgets are not to be held here
    try:
        with device_errors(), contextlib.closing(descent.steps(iterations)) as steps:
            for iterate in steps:
                if callback is not None:
                    callback(iterate)
                del iterate  # what the method forgets in the next step is not to be held here
    except (KeyboardInterrupt, FloatingPointError, MemoryError) as error:
        if descent.best is None:
            raise
        when = f" after {descent.iterations} of {iterations} iterations"
        ending = Ending.by(error, f" ({when.strip()})" if isinstance(error, FloatingPointError) else when)
        return Minimum(descent.best, descent.lowest, descent.iterations, ending)
    return Minimum(descent.best, descent.lowest, descent.iterations, descent.ending)


METHODS: dict[str, Any] = {"lbfgs-device": LBFGS, "scipy": LBFGSB, "sgd": SGD, "adam": Adam}


class Descent:
    """A minimisation under way, one accepted iterate after another.

    Whoever drives it can stop between two of them, keep a state, or go on with another f.

    Parameters
    ----------
    f, x0, method, bounds, lr, momentum, memory, resume, rounding, scratch, workers : as for `minimize`

    Attributes
    ----------
    f : function
        It may be another one from any iterate on, once `renew` was called.
    iterations : int
        How many iterations ran; -1 before the start was evaluated.
    best, lowest : array or None, float
        The iterate with the lowest loss so far, and that loss.
    ending : Ending
        Unless an error ended it.
    """

    def __init__(
        self,
        f: Function,
        x0: Array,
        *,
        method: str,
        bounds: Bounds,
        lr: float | None,
        momentum: float,
        memory: int | None,
        resume: Mapping[str, Any] | None,
        rounding: float | None = None,
        scratch: Scratch = None,
        workers: Workers | None = None,
    ) -> None:
        self.method = canonical_optimizer(method)
        if self.method not in OPTIMIZERS:
            raise ValueError(f"unknown optimizer {method!r}: choose from {', '.join(OPTIMIZERS)}")
        if lr is not None and not lr > 0:
            raise ValueError(f"lr is positive, not {lr}")
        if resume and canonical_optimizer(resume["method"]) != self.method:
            raise ValueError(f"a state of {self.method!r} to go on from expected; {resume['method']!r} given")
        if self.method == "scipy":
            load_scipy()
        self.f = f
        memory = MEMORY.get(self.method) if memory is None else memory
        options: dict[str, dict[str, Any]] = {"sgd": {"lr": lr, "momentum": momentum}, "adam": {"lr": lr}}
        options["lbfgs-device"] = {"memory": memory, "rounding": rounding, "scratch": scratch, "workers": workers}
        self._options = options.get(self.method, {"memory": memory}) | {"bounds": bounds}
        self.iterations = -1  # the first iterate accepted is number 0
        self.best: Array | None = None
        self.lowest = np.inf
        self.ending = Ending()
        self._began = time.perf_counter()
        self._last: Array | None = None
        self._at: Any = None  # the method, where it stands
        self._start, self._renew, self._begins = x0, False, True
        if resume:
            self._begins = False
            self.iterations, self._start, self._last = resume["iteration"], resume["x"], resume["x"]
            self.best, self.lowest = resume["best"], resume["lowest"]
            if self.method != "scipy":
                self._at = METHODS[self.method].restore(resume["state"], **self._options)
                self._start = None

    def renew(self) -> None:
        """f is another function from here on: the next step is to the same x, with its value there, and what L-BFGS
        remembers is dropped."""
        self._renew = True

    @property
    def renewing(self) -> bool:
        """Whether the next step is to the same picture, for another f."""
        return self._renew

    def begin_at(self, iteration: int) -> None:
        """Let the start, before it is made, be that iterate."""
        self.iterations = iteration - 1

    def steps(self, iterations: int) -> Generator[Iterate, None, None]:
        """The start, unless it resumes, and each iterate after it, up to that many iterations in all.

        It may be left, and called again to go on; scipy's then begins with a fresh memory.
        """
        try:
            if self._at is None and (self.iterations < max(iterations, 0) or self._renew):
                with _of_the_method():
                    start = project(self._start, self._options["bounds"])
                    self._at = METHODS[self.method].begin(self._evaluate, start, **self._options)
                    self._start = start = None
                    iterate = self._accept() if self._begins else None
                    self._begins = False
                if iterate is not None:
                    yield iterate
                    del iterate
            while self.iterations < iterations or self._renew:
                with _of_the_method():
                    if self._renew:
                        self._at = self._at.renewed(self._evaluate)
                        self._renew, why, self.lowest = False, "", np.inf
                        self.iterations -= 1
                    else:
                        why = self._at.step(self._evaluate)
                    iterate = None if why else self._accept()
                if iterate is None:
                    text = f"no lower loss found after {self.iterations} of {iterations} iterations ({why})"
                    self.ending = Ending("early", text)
                    return
                yield iterate
                del iterate
        finally:
            if isinstance(self._at, LBFGSB):  # if there are to be more steps, a fresh one goes on from the same x
                self._at.close()
                self._at, self._start = None, self._at.x

    def _evaluate(self, x: Array) -> tuple[Any, ...]:
        loss, *others = self.f(x)
        if not np.isfinite(loss):
            raise FloatingPointError("the loss is not finite")
        return loss, *others

    def _accept(self) -> Iterate:
        at = self._at
        loss = at.loss * at.unit if isinstance(at, LBFGS) else at.loss  # L-BFGS keeps it in units of its own
        self.iterations += 1
        if isinstance(at, LBFGS):
            step = at.length  # which it knows
        else:
            step = 0.0 if self._last is None else to_floats(sum_of_squares(at.x - self._last))[0] ** 0.5
        self._last = at.x
        if loss < self.lowest:
            self.best, self.lowest = at.x, loss
        run = {"iteration": self.iterations, "x": at.x, "best": self.best, "lowest": self.lowest}
        state = run | {"method": self.method, "state": at.state()}
        return Iterate(self.iterations, loss, step, time.perf_counter() - self._began, at.x, state, at.details)


@contextlib.contextmanager
def _of_the_method() -> Iterator[None]:
    """A step too long is told by f; CUDA's errors are told as ours; and BLAS has one thread.

    A method's vectors are short work for BLAS: its threads would wait for each other, and their number would move the
    last digits. f has threads of its own, or needs none.
    """
    with device_errors(), one_blas_thread, np.errstate(over="ignore", invalid="ignore"):
        yield
