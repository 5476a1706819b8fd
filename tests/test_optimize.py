import gc
import itertools
import threading
import zlib

import numpy as np
import pytest
import scipy.optimize

from nsnumpy import minimize
from nsnumpy.backend import to_floats, to_host
from nsnumpy.lbfgs import LBFGS
from nsnumpy.optimize import OPTIMIZERS, Descent, canonical_optimizer
from nsnumpy.pairs import Pairs

QUASI_NEWTON = ("lbfgs-device", "scipy")

rng = np.random.default_rng(5)
H = rng.standard_normal((12, 12))
H = H @ H.T + 0.5 * np.eye(12)
goal = rng.uniform(0.2, 0.8, (2, 2, 3))
start = rng.uniform(0, 1, (2, 2, 3))


def quadratic(x, scale=1.0):
    d = (x - goal).ravel()
    return scale * 0.5 * float(d @ H @ d), (scale * (H @ d)).reshape(x.shape)


def rosenbrock(x):
    x = x.ravel()
    value = (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()
    gradient = np.zeros_like(x)
    gradient[:-1] += -400 * x[:-1] * (x[1:] - x[:-1] ** 2) - 2 * (1 - x[:-1])
    gradient[1:] += 200 * (x[1:] - x[:-1] ** 2)
    return float(value), gradient


@pytest.mark.parametrize("method", OPTIMIZERS)
@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
def test_every_method_finds_a_minimum(method, bounds):
    result = minimize(quadratic, start, method=method, bounds=bounds, iterations=400, lr=0.01)
    assert result.loss < 1e-6 * quadratic(start)[0]
    assert result.x == pytest.approx(goal, abs=2e-3)
    assert result.x.shape == start.shape


def test_sgd_is_the_reports_recurrence_to_the_letter():
    iterates = []
    minimize(
        quadratic, start, method="sgd", iterations=7, lr=0.03, momentum=0.8, bounds=None,
        callback=lambda step: iterates.append(step.x.copy()),
    )  # fmt: skip
    image, velocity = start.copy(), 0.0
    assert np.array_equal(iterates[0], image)
    for i in range(7):
        grad = quadratic(image)[1]
        velocity = 0.8 * velocity + 0.03 * grad
        image = image - velocity
        assert iterates[i + 1] == pytest.approx(image, rel=1e-14)


def test_adam_is_algorithm_1():
    iterates = []
    unit = np.abs(quadratic(start)[1]).max()
    minimize(
        quadratic, start, method="adam", iterations=6, lr=0.05, bounds=None,
        callback=lambda step: iterates.append(step.x.copy()),
    )  # fmt: skip
    x, m, v = start.copy(), 0.0, 0.0
    for t in range(1, 7):
        g = quadratic(x)[1] / unit
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        x = x - 0.05 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        assert iterates[t] == pytest.approx(x, rel=1e-12)


@pytest.mark.parametrize("method", OPTIMIZERS)
@pytest.mark.parametrize("scale", [1e-14, 1e9])
def test_the_scale_of_the_loss_changes_nothing(method, scale):
    def run(scale):
        losses = []
        minimize(
            lambda x: quadratic(x, scale), start, method=method, iterations=9,
            callback=lambda step: losses.append(step.loss / scale),
        )  # fmt: skip
        return losses

    assert run(scale) == pytest.approx(run(1.0), rel=1e-6)


@pytest.mark.parametrize("method", QUASI_NEWTON)
@pytest.mark.parametrize("bounds", [None, (-2.0, 2.0)])
@pytest.mark.parametrize("scale", [1.0, 1e-12])
def test_lbfgs_runs_as_many_iterations_as_were_asked_for(method, bounds, scale):
    steps = []
    f = rosenbrock
    result = minimize(
        lambda x: tuple(scale * part for part in f(x)), np.full(20, -1.2), method=method, iterations=40, bounds=bounds,
        callback=steps.append,
    )  # fmt: skip
    assert result.iterations == 40
    assert [step.iteration for step in steps] == list(range(41))
    assert not result.stopped
    losses = [step.loss for step in steps]
    assert losses == sorted(losses, reverse=True)
    assert result.loss == losses[-1]


@pytest.mark.parametrize("method", QUASI_NEWTON)
def test_lbfgs_says_so_when_its_line_search_truly_fails(method):
    result = minimize(lambda x: (float((x**2).sum()), -2 * x), np.ones(3), method=method, iterations=30, bounds=None)
    assert result.stopped.startswith("no lower loss found after ")
    assert result.loss == 3.0
    assert result.x.tolist() == [1, 1, 1]


@pytest.mark.parametrize("method", QUASI_NEWTON)
def test_lbfgs_says_so_at_the_minimum(method):
    result = minimize(quadratic, goal, method=method, iterations=30)
    assert result.stopped.startswith("no lower loss found after 0 of 30 iterations")
    assert np.array_equal(result.x, goal)


def test_lbfgs_asks_scipy_not_to_stop_of_its_own(monkeypatch):
    asked = {}
    scipys = scipy.optimize.minimize

    def spy(f, x, **arguments):
        asked.update(arguments["options"])
        return scipys(f, x, **arguments)

    monkeypatch.setattr("scipy.optimize.minimize", spy)
    minimize(rosenbrock, np.full(20, -1.2), iterations=60, bounds=None, memory=7, method="scipy")
    assert (asked["ftol"], asked["gtol"], asked["maxcor"]) == (0, 0, 7)
    assert min(asked["maxiter"], asked["maxfun"]) > 1e6  # whoever wants its steps counts them


@pytest.mark.parametrize("method", QUASI_NEWTON)
def test_lbfgs_runs_on_where_the_loss_hardly_falls(method):
    """With scipy's own tolerances this run would end before."""
    result = minimize(rosenbrock, np.full(4, -1.2), method=method, iterations=45, bounds=None)
    assert (result.iterations, result.stopped) == (45, "")
    early = scipy.optimize.minimize(rosenbrock, np.full(4, -1.2), jac=True, method="L-BFGS-B")
    assert early.nit < result.iterations
    assert result.loss < 1e-3 * early.fun


@pytest.mark.parametrize("method", QUASI_NEWTON)
def test_lbfgs_evaluates_the_start_once(method):
    seen = []

    def f(x):
        seen.append(x.tobytes())
        return quadratic(x)

    minimize(f, start, method=method, iterations=5)
    assert seen.count(start.tobytes()) == 1


@pytest.mark.parametrize("method", OPTIMIZERS)
def test_the_box_is_kept(method):
    seen = []
    outside = np.full((2, 2, 3), 1.5)

    def f(x):
        seen.append((x.min(), x.max()))
        return float(((x - outside) ** 2).sum()), 2 * (x - outside)

    result = minimize(f, np.full((2, 2, 3), 0.5), method=method, iterations=20, lr=0.3)
    assert min(low for low, _ in seen) >= 0
    assert max(high for _, high in seen) <= 1
    assert result.x == pytest.approx(1.0)


@pytest.mark.parametrize("method", OPTIMIZERS)
def test_an_interrupt_keeps_the_best(method):
    def stop(step):
        if step.iteration == 3:
            raise KeyboardInterrupt

    result = minimize(quadratic, start, method=method, iterations=50, callback=stop)
    assert result.interrupted
    assert result.stopped == "interrupted after 3 of 50 iterations"
    assert result.loss < quadratic(start)[0]
    assert quadratic(result.x)[0] == pytest.approx(result.loss)


def test_an_interrupt_before_the_first_value_is_passed_on():
    def f(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        minimize(f, start)


@pytest.mark.parametrize("method", OPTIMIZERS)
@pytest.mark.parametrize("how", ["raise", np.nan, np.inf])
def test_a_loss_that_ceases_to_be_finite_keeps_the_best(method, how):
    calls = 0

    def f(x):
        nonlocal calls
        calls += 1
        if calls > 4 and how == "raise":
            raise FloatingPointError("the loss is not finite")
        return quadratic(x) if calls <= 4 else (how, quadratic(x)[1])

    result = minimize(f, start, method=method, iterations=50)
    assert "not finite" in result.stopped
    assert result.failed
    assert result.loss <= quadratic(start)[0]
    with pytest.raises(FloatingPointError):  # and at the very start there is nothing to keep
        minimize(f, start, method=method)


@pytest.mark.parametrize("method", OPTIMIZERS)
def test_no_iterations_is_the_start(method):
    result = minimize(quadratic, start, method=method, iterations=0)
    assert np.array_equal(result.x, start)
    assert (result.iterations, result.stopped) == (0, "")


def test_the_start_is_not_written_to():
    x0 = start.copy()
    x0.flags.writeable = False
    for method in OPTIMIZERS:
        minimize(quadratic, x0, method=method, iterations=3)


def test_scipy_drives_unless_told_otherwise_and_is_called_lbfgs_too():
    """On float64 copies, whatever the start is."""
    paths = {}
    for options in ({}, {"method": "scipy"}, {"method": "lbfgs"}):
        steps = paths[options.get("method")] = []
        minimize(quadratic, start.astype("float32"), iterations=4, callback=steps.append, **options)
    for name in (None, "lbfgs"):
        assert [step.x.tobytes() for step in paths[name]] == [step.x.tobytes() for step in paths["scipy"]]
        assert {(step.x.dtype, step.state["method"]) for step in paths[name]} == {(np.dtype("float64"), "scipy")}
    earlier = paths["scipy"][2].state | {"method": "lbfgs"}  # as an earlier version wrote it
    for name in ("scipy", "lbfgs"):
        assert minimize(quadratic, start, method=name, iterations=5, resume=earlier).iterations == 5
    with pytest.raises(ValueError, match="a state of 'adam' to go on from expected; 'lbfgs' given"):
        minimize(quadratic, start, method="adam", iterations=5, resume=earlier)


def test_every_optimizer_has_one_name():
    assert [canonical_optimizer(name) for name in OPTIMIZERS] == list(OPTIMIZERS)
    assert (canonical_optimizer("lbfgs"), canonical_optimizer("newton")) == ("scipy", "newton")


@pytest.mark.parametrize("option", [{"method": "newton"}, {"iterations": -1}, {"lr": 0.0}, {"lr": float("nan")}])
def test_unusable_options(option):
    with pytest.raises(ValueError, match=next(iter(option)).replace("method", "optimizer")):
        minimize(quadratic, start, **option)


def test_two_loops_are_the_bfgs_matrix():
    """Against the update of the whole inverse Hessian, formula 7.16 of Nocedal and Wright, on the free variables."""
    rng, pairs = np.random.default_rng(1), Pairs(3)
    recent = []
    for _ in range(5):
        s = rng.standard_normal(6)
        y = np.diag(np.arange(1.0, 7)) @ s
        pairs.add(s, y)
        recent.append((s, y))
    pairs.add(s, -y)  # no pair of a concave place
    assert len(pairs) == 3
    g = rng.standard_normal(6)
    for keep in (np.ones(6, bool), np.array([True, True, False, True, False, True])):
        x = np.where(keep, 0.5, np.where(g > 0, 0.0, 1.0))  # the others lie on a bound, and downhill is beyond it
        restricted = [(s[keep], y[keep]) for s, y in recent[-3:]]
        s, y = restricted[-1]
        inverse = (s @ y) / (y @ y) * np.eye(keep.sum())
        for s, y in restricted:
            V = np.eye(len(s)) - np.outer(y, s) / (s @ y)
            inverse = V.T @ inverse @ V + np.outer(s, s) / (s @ y)
        assert pairs.survey(x, g, (0.0, 1.0)) == abs(g).max()
        got, slope, square, used = pairs.direction(g)
        assert used
        assert got[keep] == pytest.approx(-inverse @ g[keep], rel=1e-10)
        assert not got[~keep].any()
        assert (slope, square) == pytest.approx((g @ got, got @ got), rel=1e-10)


def box_problem(n=120, condition=100.0):
    """A convex quadratic whose minimum in the box has many coordinates on it, and that minimum by scipy."""
    rng = np.random.default_rng(2)
    q, _ = np.linalg.qr(rng.standard_normal((n, n)))
    A = (q * np.geomspace(1, condition, n)) @ q.T
    b = A @ rng.uniform(-0.7, 1.7, n)

    def f(x):
        return float(0.5 * x @ A @ x - b @ x), A @ x - b

    best = scipy.optimize.minimize(
        f, np.full(n, 0.5), jac=True, method="L-BFGS-B", bounds=[(0, 1)] * n,
        options={"maxiter": 5000, "ftol": 0, "gtol": 1e-12},
    )  # fmt: skip
    return f, best.fun


def test_the_held_pixels_are_left_out_of_the_curvature():
    """Without that, the same number of iterations ends a million times further from the minimum."""
    f, lowest = box_problem()
    start = np.full(120, 0.5)
    result = minimize(f, start, method="lbfgs-device", iterations=60)
    assert result.loss - lowest < 1e-12 * (f(start)[0] - lowest)
    assert ((result.x == 0) | (result.x == 1)).sum() > 20


def test_the_slope_is_that_of_the_path_in_the_box():
    f, _ = box_problem(8, 5.0)
    rng = np.random.default_rng(4)
    x = np.array([0.0, 0.0, 1.0, 1.0, 0.3, 0.6, 0.9, 0.05])
    d = np.array([-1.0, 1.0, 1.0, -1.0, 0.2, -0.4, 0.5, -0.3]) + 0.01 * rng.standard_normal(8)
    path = lambda t: np.clip(x + t * d, 0, 1)  # noqa: E731
    h = 1e-6
    for t in (0.1, 0.5, 0.9):  # between the kinks
        expected = (f(path(t + h))[0] - f(path(t - h))[0]) / (2 * h)
        slope, first, _ = Pairs(3).measure(x, f(x)[1], d, path(t), f(path(t))[1], (0.0, 1.0))
        assert slope == pytest.approx(expected, rel=1e-4)
        assert first == pytest.approx((f(path(h))[0] - f(x)[0]) / h, rel=1e-4)


@pytest.mark.parametrize("bounds", [(-0.5, 1.0), None])
def test_lbfgs_takes_the_same_way_on_every_backend(xp, bounds):
    """One source; many variables lie on the bounds."""

    def path(space):
        rng = np.random.default_rng(0)
        x0, middle, scale = (space.asarray(rng.uniform(low, high, (5, 7))) for low, high in ((0, 1), (-2, 3), (1, 9)))
        steps = []

        def f(x):
            d = x - middle
            return to_floats((scale * d**2 + d**4).sum())[0], 2 * scale * d + 4 * d**3

        minimize(
            f, x0, method="lbfgs-device", iterations=20, bounds=bounds,
            callback=lambda step: steps.append(to_host(step.x).copy()),
        )  # fmt: skip
        return np.array(steps)

    assert path(xp) == pytest.approx(path(np), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("method", OPTIMIZERS)
def test_when_memory_ends_the_best_so_far_is_kept(method):
    calls = []

    def f(x):
        calls.append(1)
        if len(calls) > 4:
            raise MemoryError("no more")
        return quadratic(x)

    result = minimize(f, start, method=method, iterations=30)
    assert (result.failed, result.out_of_memory, result.interrupted) == (True, True, False)
    assert result.stopped == f"out of memory after {result.iterations} of 30 iterations"
    assert result.loss == quadratic(result.x)[0] < quadratic(start)[0]
    with pytest.raises(MemoryError, match="no more"):
        minimize(f, start, method=method, iterations=30)


def test_no_step_is_more_than_three_times_as_long_as_the_last():
    """A first pair from where the curvature is small would lead far beyond where it holds."""
    points = []
    minimize(
        rosenbrock, np.full(20, -1.2), method="lbfgs-device", iterations=40, bounds=None,
        callback=lambda step: points.append(step.x.copy()),
    )  # fmt: skip
    lengths = np.linalg.norm(np.diff(points, axis=0), axis=1)
    ratios = lengths[1:] / lengths[:-1]
    assert 3 * (1 - 1e-9) < ratios.max() < 3 * (1 + 1e-9)


def test_where_there_is_no_curvature_each_step_is_twice_as_long_as_the_last():
    """The first one moves no pixel by more than 0.1; nothing is evaluated on the way."""
    points = []
    evaluations = []

    def hill(x):  # its pairs all have a negative curvature
        evaluations.append(1)
        return float(-(x**2).sum()), -2 * x

    minimize(
        hill, np.array([1e-3, -5e-4]), method="lbfgs-device", iterations=5, bounds=None,
        callback=lambda step: points.append(step.x.copy()),
    )  # fmt: skip
    assert abs(np.diff(points, axis=0)).max(axis=1) == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6])
    assert len(evaluations) == 6


def test_a_long_valley_takes_few_evaluations():
    """The steps grow along it, each from the last one, and interpolation finds its end."""
    evaluations = []

    def f(x):
        evaluations.append(1)
        return float(np.log1p(1e-4 * ((x - 300) ** 2).sum())), 2e-4 * (x - 300) / (1 + 1e-4 * ((x - 300) ** 2).sum())

    result = minimize(f, np.zeros(3), method="lbfgs-device", iterations=40, bounds=None)
    assert result.loss < 1e-8
    assert len(evaluations) < 40


def test_a_memory_that_misleads_is_given_up():
    """After a jump of the curvature the direction may lead nowhere; the gradient itself still does."""

    def f(x):
        loss = float(np.abs(x).sum() + 1e3 * np.abs(x[0] - x[1]))
        kink = 1e3 * np.sign(x[0] - x[1])
        return loss, np.sign(x) + kink * np.array([1.0, -1.0])

    result = minimize(f, np.array([3.0, 1.0]), method="lbfgs-device", iterations=50, bounds=None)
    assert result.loss < 4.1  # of 2004


def test_float32_survives_gradients_of_any_size():
    def run(scale):
        def f(x):
            loss, gradient = quadratic(x.astype("float64"), scale)
            return loss, gradient.astype("float32")

        return minimize(f, start.astype("float32"), method="lbfgs-device", iterations=25).x

    assert run(1e-30) == pytest.approx(goal, abs=1e-3)
    assert run(1e30) == pytest.approx(goal, abs=1e-3)


def test_curvature_too_small_for_the_precision_is_no_division_by_zero():
    f = lambda x: (float((x.astype("float64") ** 4).sum()), 4 * x**3)  # noqa: E731
    x = np.random.default_rng(0).uniform(-2, 2, 50).astype("float32")
    result = minimize(f, x, method="lbfgs-device", iterations=200, bounds=None)
    assert result.loss < 1e-8 * f(x)[0]


def test_a_step_to_where_the_loss_is_not_finite_is_shortened():
    def f(x):
        if (x <= 0).any():
            raise FloatingPointError("log of nothing")
        return float((x - np.log(x)).sum()), 1 - 1 / x

    result = minimize(f, np.full(3, 1e-3), method="lbfgs-device", iterations=40, bounds=None)
    assert not result.failed
    assert result.x == pytest.approx(1.0, abs=1e-5)


def test_a_loss_that_only_its_rounding_moves_ends_the_run():
    evaluations = []

    def f(x):
        evaluations.append(1)
        return 1.0 + 1e-17 * float(x.sum()), np.full_like(x, 1e-17)

    result = minimize(f, np.full(4, 0.5), method="lbfgs-device", iterations=500)
    assert result.stopped.startswith("no lower loss found after ")
    assert len(evaluations) < 150


@pytest.mark.parametrize("method", OPTIMIZERS)
def test_what_f_says_beside_its_value_belongs_to_the_iterate(method):
    """Though a line search may have evaluated other points since."""

    def f(x):
        worst = np.abs(x - 0.3).argmax()
        gradient = 0.2 * (x - 0.3)
        gradient[worst] += np.sign(x[worst] - 0.3)
        return float(np.abs(x - 0.3).max() + 0.1 * ((x - 0.3) ** 2).sum()), gradient, x.copy()

    seen = []

    def check(iterate):
        (at,) = iterate.details
        assert np.array_equal(at, iterate.x)
        seen.append(iterate.iteration)

    minimize(f, np.random.default_rng(3).random(20), method=method, iterations=30, callback=check)
    assert len(seen) > 5


def descent(f, x, method, **options):
    defaults = {"bounds": None, "lr": None, "momentum": 0.9, "memory": None, "resume": None}
    return Descent(f, x, method=method, **defaults | options)


@pytest.mark.parametrize("method", OPTIMIZERS)
def test_whoever_drives_the_steps_can_stop_and_go_on(method):
    whole = [iterate.x for iterate in descent(rosenbrock, np.full(6, -1.2), method).steps(8)]
    run = descent(rosenbrock, np.full(6, -1.2), method)
    steps = run.steps(8)
    first = [next(steps).x for _ in range(4)]
    assert run.iterations == 3  # nothing is computed that nobody asked for
    rest = [iterate.x for iterate in steps]
    assert np.array_equal(first + rest, whole)


@pytest.mark.parametrize("method", OPTIMIZERS)
def test_steps_can_be_asked_for_more_than_once(method):
    whole = [iterate.x for iterate in descent(rosenbrock, np.full(6, -1.2), method).steps(6)]
    run = descent(rosenbrock, np.full(6, -1.2), method)
    parts = [iterate for count in (0, 3, 3, 6) for iterate in run.steps(count)]
    assert [iterate.iteration for iterate in parts] == list(range(7))
    if method == "scipy":  # it begins with a fresh memory each time
        assert parts[-1].loss < parts[3].loss < parts[0].loss
    else:
        assert np.array_equal([iterate.x for iterate in parts], whole)


@pytest.mark.parametrize("method", OPTIMIZERS)
def test_another_function_is_gone_on_with_from_the_same_x(method):
    """As if the run had begun there: L-BFGS's pairs say nothing of it."""

    def other(x):
        return float((x**4).sum()), 4 * x**3

    run = descent(rosenbrock, np.full(6, -1.2), method)
    steps, seen = run.steps(6), []
    for iterate in steps:
        seen.append(iterate)
        if iterate.iteration == 3 and len(seen) == 4:
            run.f = other
            run.renew()
    again = seen[4]
    assert [iterate.iteration for iterate in seen] == [0, 1, 2, 3, 3, 4, 5, 6]
    assert np.array_equal(again.x, seen[3].x)
    assert again.loss == pytest.approx(other(again.x)[0], rel=1e-15)
    assert run.lowest == min(iterate.loss for iterate in seen[4:])
    assert run.lowest < again.loss
    if method in QUASI_NEWTON:
        anew = [iterate.x for iterate in descent(other, again.x, method).steps(3)]
        assert np.array_equal([iterate.x for iterate in seen[4:]], anew)


def scipys_threads():
    return [thread for thread in threading.enumerate() if thread.name == "nsnumpy-scipy"]


@pytest.mark.parametrize("how", ["ends", "is left", "fails", "fails at the start", "is renewed"])
def test_scipys_thread_ends_with_the_run(how):
    def f(x):
        if how.startswith("fails") and (how.endswith("start") or x[0] != -1.2):
            raise OSError("no longer")
        return rosenbrock(x)

    run = descent(f, np.full(6, -1.2), "scipy")
    if how.startswith("fails"):
        with pytest.raises(OSError, match="no longer"):
            list(run.steps(5))
    else:
        for iterate in run.steps(5):
            if how == "is left" and iterate.iteration == 2:
                break
            if how == "is renewed" and iterate.iteration == 2:
                assert len(scipys_threads()) == 1
                run.renew()
                how = ""
    gc.collect()
    assert scipys_threads() == []


def test_scipys_values_are_computed_in_the_thread_that_wants_the_step():
    seen = set()

    def f(x):
        seen.add(threading.current_thread())
        return rosenbrock(x)

    minimize(f, np.full(6, -1.2), method="scipy", iterations=5)
    assert seen == {threading.current_thread()}


def test_an_error_of_scipys_own_is_passed_on(monkeypatch):
    def broken(f, x, **_):
        f(x)
        raise RuntimeError("of scipy's")

    monkeypatch.setattr("scipy.optimize.minimize", broken)
    with pytest.raises(RuntimeError, match="of scipy's"):
        minimize(rosenbrock, np.full(6, -1.2), method="scipy", iterations=5)


def test_every_step_satisfies_the_strong_wolfe_conditions():
    seen = {}

    def f(x):
        loss, gradient = rosenbrock(x)
        seen[x.tobytes()] = (loss, gradient)
        return loss, gradient

    method = LBFGS.begin(f, np.full(10, -1.2), bounds=None, memory=5)
    accepted = [method.x]
    for _ in range(39):
        assert method.step(f) == ""
        accepted.append(method.x)
    for before, after in itertools.pairwise(accepted):
        (loss, gradient), (new, new_gradient) = seen[before.tobytes()], seen[after.tobytes()]
        step = after - before
        assert new <= loss + 1e-4 * (gradient @ step)
        assert abs(new_gradient @ step) <= -0.9 * (gradient @ step)


@pytest.mark.parametrize("method", QUASI_NEWTON)
def test_in_the_box_the_minimum_on_the_box_is_found(method):
    """Some coordinates end on a bound with the gradient pointing outwards, the others at zero gradient."""
    target = np.linspace(-0.6, 1.6, 12).reshape(2, 2, 3)

    def f(x):
        d = (x - target).ravel()
        return 0.5 * float(d @ H @ d), (H @ d).reshape(x.shape)

    x = minimize(f, start, method=method, iterations=200).x
    gradient = f(x)[1]
    inside = (x > 1e-9) & (x < 1 - 1e-9)
    assert np.abs(gradient[inside]).max() < 1e-5 * np.abs(f(start)[1]).max()
    assert (gradient[x <= 1e-9] > 0).all()
    assert (gradient[x >= 1 - 1e-9] < 0).all()
    assert 0 < inside.sum() < 12


def test_the_device_method_stays_in_its_precision():
    kinds = set()

    def f(x):
        kinds.add(x.dtype)
        loss, gradient = quadratic(x.astype("float64"))
        return loss, gradient.astype(x.dtype)

    result = minimize(f, start.astype("float32"), method="lbfgs-device", iterations=60)
    assert kinds == {np.dtype("float32")} == {result.x.dtype}
    assert result.x == pytest.approx(goal, abs=1e-4)


OWN = [method for method in OPTIMIZERS if method != "scipy"]


@pytest.mark.parametrize("bounds", [(0.0, 1.0), None])
@pytest.mark.parametrize("method", OWN)
def test_going_on_from_any_iterate_gives_the_same_numbers(xp, method, bounds):
    def f(x):
        loss, gradient = quadratic(to_host(x))
        return loss, xp.asarray(gradient)

    x = xp.asarray(start)
    options = {"method": method, "bounds": bounds}
    kept = []
    whole = minimize(f, x, iterations=25, callback=kept.append, **options)
    for k in (0, 1, 7, 24, 25):
        rest = []
        again = minimize(f, x, iterations=25, resume=kept[k].state, callback=rest.append, **options)
        assert [(step.iteration, step.loss, step.step) for step in rest] == [
            (step.iteration, step.loss, step.step) for step in kept[k + 1 :]
        ]
        for one, other in zip(rest, kept[k + 1 :], strict=True):
            assert (to_host(one.x) == to_host(other.x)).all()
        assert (to_host(again.x) == to_host(whole.x)).all()
        assert (again.loss, again.iterations) == (whole.loss, whole.iterations)


@pytest.mark.parametrize("method", OWN)
def test_a_state_is_not_written_to(method):
    def frozen(value):
        if isinstance(value, np.ndarray):
            return value.tobytes()
        if isinstance(value, list | dict):
            return [frozen(item) for item in (value.values() if isinstance(value, dict) else value)]
        return value

    states = []
    minimize(
        quadratic,
        start,
        method=method,
        iterations=20,
        callback=lambda step: states.append((step.state, frozen(step.state))),
    )
    assert len(states) == 21
    assert all(frozen(state) == before for state, before in states)


def test_scipy_goes_on_from_the_same_pixels_with_a_fresh_memory():
    kept, rest = [], []
    whole = minimize(quadratic, start, method="scipy", iterations=20, callback=kept.append)
    again = minimize(quadratic, start, method="scipy", iterations=20, resume=kept[8].state, callback=rest.append)
    assert [step.iteration for step in rest] == list(range(9, 21))
    assert rest[0].loss < kept[8].loss
    assert again.iterations == 20
    assert again.loss == pytest.approx(whole.loss, abs=1e-2 * kept[0].loss)
    done = minimize(quadratic, start, method="scipy", iterations=20, resume=kept[20].state)
    assert (done.x == whole.x).all()


def test_a_state_belongs_to_its_method():
    kept = []
    minimize(quadratic, start, method="adam", iterations=1, callback=kept.append)
    with pytest.raises(ValueError, match="a state of 'sgd' to go on from expected; 'adam' given"):
        minimize(quadratic, start, method="sgd", iterations=2, resume=kept[-1].state)


def test_all_of_a_methods_state_comes_back():
    method = LBFGS.begin(quadratic, start, bounds=(0.0, 1.0), memory=4)
    for _ in range(6):
        method.step(quadratic)
    method.idle, method.reach, method.length, method.lowest = 3, 0.4, 0.05, method.loss * 0.9
    again = LBFGS.restore(method.state(), bounds=(0.0, 1.0), memory=4)
    for name in ("idle", "reach", "length", "lowest", "loss", "unit"):
        assert getattr(again, name) == getattr(method, name), name
    assert len(again.pairs) == 4
    for name in ("steps", "changes"):
        assert all(map(np.array_equal, again.pairs.state()[name], method.pairs.state()[name]))
    before = method.state() | {"curvatures": [[1.0, 1.0]] * 4}  # as earlier versions kept it
    assert len(LBFGS.restore(before, bounds=(0.0, 1.0), memory=4).pairs) == 4
    fewer = LBFGS.restore(method.state(), bounds=(0.0, 1.0), memory=2)
    assert len(fewer.pairs) == 2
    fewer.step(quadratic)
    assert len(fewer.pairs) == 2
    assert fewer.pairs.state()["steps"][0] is method.pairs.state()["steps"][-1]


def test_scipy_begins_again_at_the_iterate_and_not_at_the_best_one():
    kept, seen = [], []
    minimize(quadratic, start, method="scipy", iterations=3, callback=kept.append)
    state = kept[-1].state | {"best": start, "lowest": -1.0}

    def f(x):
        seen.append(x.copy())
        return quadratic(x)

    minimize(f, start, method="scipy", iterations=5, resume=state)
    assert np.array_equal(seen[0], kept[-1].x)
    ended = minimize(f, start, method="scipy", iterations=2, resume=kept[-1].state)
    assert ended.iterations == 3


@pytest.mark.parametrize("method", OPTIMIZERS)
def test_a_gradient_that_is_not_finite_ends_as_a_loss_that_is_not(method):
    """A finite loss with NaN in its gradient, from some way off the start on."""

    def f(x):
        gradient = 2 * x
        return float((x * x).sum()), np.full_like(x, np.nan) if x.max() < 0.99 else gradient

    minimum = minimize(f, np.ones(3), iterations=5, method=method, **({"lr": 0.1} if method in ("sgd", "adam") else {}))
    assert np.isfinite(minimum.x).all()
    assert np.isfinite(minimum.loss)


def noisy(f, size):
    """f, whose values are off by up to `size` of themselves, differently at every x."""

    def g(x):
        loss, gradient = f(x)
        return loss * (1 + size * np.random.default_rng(zlib.crc32(x.tobytes())).uniform(-1, 1)), gradient

    return g


def test_noise_that_is_told_is_no_rise():
    """A line search that took it for one would halve its steps in vain, and end the run."""
    f, lowest = box_problem()
    ran = {}
    for rounding in (None, 1e-3):
        calls = []

        def counted(x, calls=calls):
            calls.append(None)
            return noisy(lambda x: (f(x)[0] + 2e3, f(x)[1]), 1e-3)(x)  # far above zero, as a picture's loss is

        result = minimize(counted, np.full(120, 0.5), method="lbfgs-device", iterations=40, rounding=rounding)
        ran[rounding] = result.iterations, len(calls), f(result.x)[0] - lowest
    (early, many, _), (iterations, few, above) = ran.values()
    assert early < 20 < iterations
    assert few / iterations < 1.2 < many / early
    assert above < 2e-3 * 2e3
