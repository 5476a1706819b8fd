"""L-BFGS, this package's own and scipy's, gradient descent with momentum, and Adam, behind one call."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.optimize

from .backend import Array, device_errors, to_floats, to_host
from .descent import SGD, Adam, project
from .lbfgs import LBFGS, MEMORY, Bounds, Function, largest_element
from .losses import sum_of_squares

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


@dataclass(frozen=True)
class Minimum:
    """Where a minimisation ended.

    Attributes
    ----------
    x : array
        The iterate with the lowest loss that was seen.
    loss : float
        Its loss.
    iterations : int
        How many iterations ran.
    stopped : str
        Empty if all iterations that were asked for ran; else why not.
    interrupted : bool
        Whether it was a KeyboardInterrupt (Ctrl-C) that stopped it.
    failed : bool
        Whether it was a loss that is not finite, or want of memory.
    out_of_memory : bool
        Whether it was the latter.
    """

    x: Array = field(repr=False)
    loss: float
    iterations: int
    stopped: str = ""
    interrupted: bool = False
    failed: bool = False
    out_of_memory: bool = False


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
    resume: Mapping[str, Any] | None = None,
    callback: Callable[[Iterate], object] | None = None,
) -> Minimum:
    """Minimise f from x0, in exactly `iterations` iterations unless no lower value can be found.

    The course of a run does not depend on the scale of f: c * f, for c > 0, gives the same iterates; "sgd" with an lr
    of your own is the exception.

    Parameters
    ----------
    f : function from an array to (loss, gradient)
        The gradient in x's shape, an array of its own each time.
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
        How many pairs of steps and gradient changes the L-BFGS methods remember; None is 15, and 10 for scipy's, whose
        pairs are larger.
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
    method = canonical_optimizer(method)
    if method not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {method!r}: choose from {', '.join(OPTIMIZERS)}")
    if iterations < 0:
        raise ValueError(f"iterations is 0 or more, not {iterations}")
    if lr is not None and not lr > 0:
        raise ValueError(f"lr is positive, not {lr}")
    if resume and canonical_optimizer(resume["method"]) != method:
        raise ValueError(f"a state of {method!r} to go on from expected; {resume['method']!r} given")
    run = _Run(f, method, iterations, resume, callback)
    memory = MEMORY.get(method) if memory is None else memory
    kind, options = {
        "lbfgs-device": (LBFGS, {"memory": memory}),
        "sgd": (SGD, {"lr": lr, "momentum": momentum}),
        "adam": (Adam, {"lr": lr}),
    }.get(method, (None, {}))
    options |= {"bounds": bounds}
    restored = kind.restore(resume["state"], **options) if resume and kind else None
    x0 = resume["x"] if resume else x0
    resume = None  # the arrays that the method forgets are not to be held here
    try:
        with device_errors(), np.errstate(over="ignore", invalid="ignore"):  # a step too long is told by f, below
            if kind is None:
                _scipy(run, x0, bounds, memory)
            elif restored:
                _step_by_step(run, restored)
            else:
                begun = kind.begin(run.evaluate, project(x0, bounds), **options)
                run.accept(begun.x, _loss(begun), begun.state())
                _step_by_step(run, begun)
    except KeyboardInterrupt:
        if run.best is None:
            raise
        run.stopped = f"interrupted after {run.iterations} of {iterations} iterations"
        return run.minimum(interrupted=True)
    except FloatingPointError as error:
        if run.best is None:
            raise
        run.stopped = f"{error} (after {run.iterations} of {iterations} iterations)"
        return run.minimum(failed=True)
    except MemoryError:
        if run.best is None:
            raise
        run.stopped = f"out of memory after {run.iterations} of {iterations} iterations"
        return run.minimum(failed=True, out_of_memory=True)
    return run.minimum()


class _Run:
    """What the methods share: the function, the iterates that were accepted, and the best of them."""

    def __init__(
        self,
        f: Function,
        method: str,
        iterations: int,
        resume: Mapping[str, Any] | None,
        callback: Callable[[Iterate], object] | None,
    ) -> None:
        self.f = f
        self.method = method
        self.requested = iterations
        self.callback = callback
        self.start = time.perf_counter()
        self.stopped = ""
        self.iterations = -1  # the first iterate accepted is number 0
        self.last: Array | None = None
        self.best: Array | None = None
        self.lowest = np.inf
        if resume:
            self.iterations, self.last = resume["iteration"], resume["x"]
            self.best, self.lowest = resume["best"], resume["lowest"]

    def evaluate(self, x: Array) -> tuple[float, Array]:
        loss, gradient = self.f(x)
        if not np.isfinite(loss):
            raise FloatingPointError("the loss is not finite")
        return loss, gradient

    def accept(self, x: Array, loss: float, state: Mapping[str, Any]) -> None:
        self.iterations += 1
        x = x.copy()  # scipy goes on to write into its own
        step = 0.0 if self.last is None else to_floats(sum_of_squares(x - self.last))[0] ** 0.5
        self.last = x
        if loss < self.lowest:
            self.best, self.lowest = x, loss
        if self.callback is not None:
            run = {"iteration": self.iterations, "x": x, "best": self.best, "lowest": self.lowest}
            state = run | {"method": self.method, "state": dict(state)}
            self.callback(Iterate(self.iterations, loss, step, time.perf_counter() - self.start, x, state))

    def minimum(self, **how: bool) -> Minimum:
        return Minimum(self.best, self.lowest, self.iterations, self.stopped, **how)


def _step_by_step(run: _Run, method: Any) -> None:
    """A method of this package, from where it stands."""
    while run.iterations < run.requested:
        if why := method.step(run.evaluate):
            run.stopped = f"no lower loss found after {run.iterations} of {run.requested} iterations ({why})"
            return
        run.accept(method.x, _loss(method), method.state())


def _loss(method: Any) -> float:
    """Of f itself, of which L-BFGS keeps it in units of its own."""
    return method.loss * method.unit if isinstance(method, LBFGS) else method.loss


def _scipy(run: _Run, x0: Array, bounds: Bounds, memory: int) -> None:
    """scipy's L-BFGS-B without its stopping rules.

    What still ends it early is a line search that finds no lower value even along the gradient: scipy tries that, with
    a fresh memory, before it gives up.
    """
    shape, resumed = x0.shape, run.iterations >= 0
    loss, unit = np.inf, 0.0

    def scaled(x: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal loss, unit
        loss, gradient = run.evaluate(x.reshape(shape))
        if not unit:
            # scipy's first trial step is the gradient itself, and some of its tests are absolute. In this unit the
            # longest first step of a pixel is 0.1, whatever the loss's own scale.
            unit = 0.1 / largest_element(gradient)
            if not resumed:
                accept(x)
        return unit * loss, unit * gradient.ravel().astype(np.float64)

    def accept(x: np.ndarray) -> None:
        run.accept(x.reshape(shape), loss, {})  # the point that a line search accepts is the last that it evaluated

    x = to_host(project(x0, bounds)).astype(np.float64).ravel()
    left = run.requested - max(run.iterations, 0)
    if left <= 0:  # scipy's least is one iteration
        if not resumed:
            scaled(x)
        return
    limits = {"maxiter": left, "maxfun": 1000 + 100 * left, "ftol": 0.0, "gtol": 0.0}
    result = scipy.optimize.minimize(
        scaled,
        x,
        jac=True,
        method="L-BFGS-B",
        bounds=None if bounds is None else scipy.optimize.Bounds(*(np.full(x.size, b) for b in bounds)),
        callback=accept,
        options={"maxcor": memory, **limits},
    )
    if run.iterations < run.requested:
        message = " ".join(str(result.message).lower().split()).strip(" .:")
        run.stopped = f"no lower loss found after {run.iterations} of {run.requested} iterations ({message})"
