"""L-BFGS, this package's own and scipy's, gradient descent with momentum, and Adam, behind one call."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import scipy.optimize

from .backend import Array, device_errors, get_xp, to_floats, to_host
from .lbfgs import MEMORY, Bounds, Function, lbfgs
from .losses import sum_of_squares

OPTIMIZERS = ("lbfgs-device", "lbfgs", "sgd", "adam")


@dataclass(frozen=True)
class Iterate:
    """One accepted iterate: its number (0 is the start), its loss, the Euclidean length of the step that led to it, the
    seconds since the start, and x itself."""

    iteration: int
    loss: float
    step: float
    seconds: float
    x: Array = field(repr=False)


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
    method: str = "lbfgs-device",
    iterations: int = 100,
    bounds: Bounds = (0.0, 1.0),
    lr: float | None = None,
    momentum: float = 0.9,
    memory: int | None = None,
    callback: Callable[[Iterate], object] | None = None,
) -> Minimum:
    """Minimise f from x0, in exactly `iterations` iterations unless no lower value can be found.

    The course of a run does not depend on the scale of f: c * f, for c > 0, gives the same iterates; "sgd" with an lr
    of your own is the exception.

    Parameters
    ----------
    f : function from an array to (loss, gradient)
        The gradient in x's shape.
    x0 : float array
        The start. "lbfgs" works on a float64 copy on the host, the others in x0's dtype and namespace.
    method : "lbfgs-device", "lbfgs", "sgd" or "adam"
        "lbfgs-device" is the L-BFGS of lbfgs.py; "lbfgs" scipy's L-BFGS-B [1], for which a start in float64 pays;
        "sgd" gradient descent with momentum, ``v = momentum v + lr g; x = x - v``;
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
    callback : function of one `Iterate`, or None
        Called at the start and after every iteration.

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
    if method not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {method!r}: choose from {', '.join(OPTIMIZERS)}")
    if iterations < 0:
        raise ValueError(f"iterations is 0 or more, not {iterations}")
    if lr is not None and not lr > 0:
        raise ValueError(f"lr is positive, not {lr}")
    run = _Run(f, iterations, bounds, callback)
    memory = MEMORY.get(method) if memory is None else memory
    try:
        with device_errors(), np.errstate(over="ignore", invalid="ignore"):  # a step too long is told by f, below
            if method == "lbfgs":
                _lbfgs(run, x0, memory)
            elif method == "lbfgs-device":
                _lbfgs_device(run, x0, memory)
            elif method == "sgd":
                _sgd(run, x0, lr, momentum)
            else:
                _adam(run, x0, 0.02 if lr is None else lr)
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
    """What the methods share: the function, the box, the iterates that were accepted, and the best of them."""

    def __init__(
        self, f: Function, iterations: int, bounds: Bounds, callback: Callable[[Iterate], object] | None
    ) -> None:
        self.f = f
        self.requested = iterations
        self.bounds = bounds
        self.callback = callback
        self.start = time.perf_counter()
        self.iterations = -1  # the first iterate accepted is number 0
        self.last: Array | None = None
        self.best: Array | None = None
        self.loss = np.inf
        self.stopped = ""

    def evaluate(self, x: Array) -> tuple[float, Array]:
        loss, gradient = self.f(x)
        if not np.isfinite(loss):
            raise FloatingPointError("the loss is not finite")
        return loss, gradient

    def project(self, x: Array) -> Array:
        return x if self.bounds is None else get_xp(x).clip(x, *self.bounds)

    def accept(self, x: Array, loss: float) -> None:
        self.iterations += 1
        x = x.copy()  # scipy goes on to write into its own
        step = 0.0 if self.last is None else to_floats(sum_of_squares(x - self.last))[0] ** 0.5
        self.last = x
        if loss < self.loss:
            self.best, self.loss = x, loss
        if self.callback:
            self.callback(Iterate(self.iterations, loss, step, time.perf_counter() - self.start, x))

    def minimum(self, **how: bool) -> Minimum:
        return Minimum(self.best, self.loss, self.iterations, self.stopped, **how)


def _lbfgs_device(run: _Run, x0: Array, memory: int) -> None:
    """This package's own L-BFGS, on a loss in units of the largest element of the first gradient."""
    unit = 0.0

    def scaled(x: Array) -> tuple[float, Array]:
        nonlocal unit
        loss, gradient = run.evaluate(x)
        unit = unit or _largest(gradient)
        return loss / unit, gradient / unit

    def accept(x: Array, loss: float) -> bool:
        run.accept(x, loss * unit)
        return run.iterations < run.requested

    why = lbfgs(scaled, run.project(x0), bounds=run.bounds, memory=memory, accept=accept)
    if why:
        run.stopped = f"no lower loss found after {run.iterations} of {run.requested} iterations ({why})"


def _lbfgs(run: _Run, x0: Array, memory: int) -> None:
    """scipy's L-BFGS-B without its stopping rules.

    What still ends it early is a line search that finds no lower value even along the gradient: scipy tries that, with
    a fresh memory, before it gives up.
    """
    shape = x0.shape
    loss, unit = np.inf, 0.0

    def scaled(x: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal loss, unit
        loss, gradient = run.evaluate(x.reshape(shape))
        if not unit:
            # scipy's first trial step is the gradient itself, and some of its tests are absolute. In this unit the
            # longest first step of a pixel is 0.1, whatever the loss's own scale.
            unit = 0.1 / _largest(gradient)
            accept(x)
        return unit * loss, unit * gradient.ravel().astype(np.float64)

    def accept(x: np.ndarray) -> None:
        run.accept(x.reshape(shape), loss)  # the point that a line search accepts is the last that it evaluated

    x = run.project(to_host(x0).astype(np.float64)).ravel()
    if not run.requested:  # scipy's least is one iteration
        scaled(x)
        return
    limits = {"maxiter": run.requested, "maxfun": 1000 + 100 * run.requested, "ftol": 0.0, "gtol": 0.0}
    result = scipy.optimize.minimize(
        scaled,
        x,
        jac=True,
        method="L-BFGS-B",
        bounds=None if run.bounds is None else scipy.optimize.Bounds(*(np.full(x.size, b) for b in run.bounds)),
        callback=accept,
        options={"maxcor": memory, **limits},
    )
    if run.iterations < run.requested:
        message = " ".join(str(result.message).lower().split()).strip(" .:")
        run.stopped = f"no lower loss found after {run.iterations} of {run.requested} iterations ({message})"


def _sgd(run: _Run, x0: Array, lr: float | None, momentum: float) -> None:
    """The report's update, to the letter: ``v = momentum v + lr g; x = x - v``."""
    x = run.project(x0)
    loss, gradient = run.evaluate(x)
    run.accept(x, loss)
    if lr is None:
        lr = 0.02 / _largest(gradient)
    velocity = get_xp(x).zeros_like(x)
    for _ in range(run.requested):
        velocity = momentum * velocity + lr * gradient
        x = run.project(x - velocity)
        loss, gradient = run.evaluate(x)
        run.accept(x, loss)


def _adam(run: _Run, x0: Array, lr: float, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8) -> None:
    """Kingma and Ba's algorithm 1, with the gradient in units of the largest element of the first one.

    Without that unit, epsilon would make the course of a run depend on the scale of the loss.
    """
    xp = get_xp(x0)
    x = run.project(x0)
    loss, gradient = run.evaluate(x)
    run.accept(x, loss)
    unit = 1 / _largest(gradient)
    first, second = xp.zeros_like(x), xp.zeros_like(x)
    for t in range(1, run.requested + 1):
        first = beta1 * first + (1 - beta1) * unit * gradient
        second = beta2 * second + (1 - beta2) * (unit * gradient) ** 2
        first_mean, second_mean = first / (1 - beta1**t), second / (1 - beta2**t)
        x = run.project(x - lr * first_mean / (xp.sqrt(second_mean) + epsilon))
        loss, gradient = run.evaluate(x)
        run.accept(x, loss)


def _largest(gradient: Array) -> float:
    """The largest magnitude in it, or 1 if all of it is zero."""
    return to_floats(abs(gradient).max())[0] or 1.0
