"""The checkers are checked: they pass what is right, fail what is wrong by 0.1 %, and refuse what proves nothing."""

import numpy as np
import pytest

from nsnumpy import KinkError, check_adjoint, check_gradient
from nsnumpy.losses import STYLE_STATISTICS
from nsnumpy.ops import BORDERS
from nsnumpy.study.prove import run_checks
from nsnumpy.variable import VARIABLES

rng = np.random.default_rng(11)
A = rng.standard_normal((6, 4))
x = rng.standard_normal(4)
gy = rng.standard_normal(6)


def cubes(x):
    return float((x**3).sum()), 3 * x**2


def test_right_ones_pass():
    assert check_adjoint(lambda x: A @ x, lambda gy: A.T @ gy, x, gy) < 1e-14
    assert check_gradient(cubes, x) < 1e-8


@pytest.mark.parametrize("factor", [1.001, 0.999, -1.0])
def test_one_that_is_wrong_by_a_thousandth_fails(factor):
    assert check_adjoint(lambda x: A @ x, lambda gy: factor * A.T @ gy, x, gy) > 9e-4
    assert check_gradient(lambda x: (cubes(x)[0], factor * cubes(x)[1]), x) > 9e-4


def test_one_wrong_element_fails():
    def wrong(x):
        value, gradient = cubes(x)
        gradient[2] *= 1.01
        return value, gradient

    assert check_gradient(wrong, x) > 1e-4


def test_the_scale_of_the_loss_does_not_hide_a_wrong_gradient():
    assert check_gradient(lambda x: (1e-30 * cubes(x)[0], 1.001e-30 * cubes(x)[1]), x) > 9e-4
    assert check_gradient(lambda x: (1e-30 * cubes(x)[0], 1e-30 * cubes(x)[1]), x) < 1e-8


def test_swapped_rows_fail_with_a_random_cotangent_and_a_constant_one_is_refused():
    def swapped(gy):
        return A.T @ gy[::-1]

    assert check_adjoint(lambda x: A @ x, swapped, x, gy) > 1e-2
    with pytest.raises(ValueError, match="constant"):
        check_adjoint(lambda x: A @ x, swapped, x, np.ones(6))


def relu_sum(x):
    return float(np.maximum(x, 0).sum()), (x > 0).astype(float)


@pytest.mark.parametrize("near", [0.0, 1e-6, -3e-6])
def test_an_input_that_steps_over_a_kink_is_refused(near):
    at = np.array([1.0, -2.0, near, 0.5])
    with pytest.raises(KinkError, match="jumps or bends"):
        check_gradient(relu_sum, at, step=1e-5)


def test_away_from_the_kink_it_passes():
    assert check_gradient(relu_sum, np.array([1.0, -2.0, 0.1, 0.5])) < 1e-9


def test_what_cannot_be_checked_is_refused():
    with pytest.raises(ValueError, match="float64"):
        check_gradient(cubes, x.astype(np.float32))
    with pytest.raises(ValueError, match="shape"):
        check_gradient(lambda x: (0.0, x[:-1]), x)
    with pytest.raises(ValueError, match="zero"):
        check_gradient(lambda x: (1.0, 0 * x), x)
    with pytest.raises(ValueError, match="gy of"):
        check_adjoint(lambda x: A @ x, lambda gy: A.T @ gy, x, gy[:-1])
    with pytest.raises(ValueError, match="backward"):
        check_adjoint(lambda x: A @ x, lambda gy: A.T[:-1] @ gy, x, gy)


def test_every_built_in_check_passes_and_none_is_missing(xp):
    device = "cpu" if xp is np else "gpu"
    checks = list(run_checks(device))
    assert [check.name for check in checks if not check.passed] == []
    assert {check.name.split(",")[0] for check in checks} == {
        "conv", "relu", "avgpool", "maxpool", "content loss", "style loss", "total variation",
        "total variation that wraps", "pixels to total loss", "content term",
        *(f"{name} term" for name in STYLE_STATISTICS),
        *(f"{name} as the variable" for name in VARIABLES),
        *(f"{name} within regions as the variable" for name in VARIABLES),
    }  # fmt: skip
    assert all(check.error < {1e-12: 1e-13, 1e-7: 1e-7, 1e-6: 1e-6}[check.tolerance] for check in checks)


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 6))])
def test_the_checks_pass_from_other_seeds(seed):
    assert all(check.passed for check in run_checks(seed=seed))


@pytest.mark.parametrize("op", ["conv_backward", "avgpool_backward", "maxpool_backward", "relu_backward"])
def test_a_wrong_op_fails_its_row(monkeypatch, op):
    from nsnumpy.study import prove as checks

    right = getattr(checks, op)
    monkeypatch.setattr(checks, op, lambda *given, **named: 1.001 * right(*given, **named))
    failed = [check.name for check in run_checks() if not check.passed]
    name = op.removesuffix("_backward")
    borders = [f"conv, {border} border" for border in BORDERS[1:]] if name == "conv" else []
    assert failed == [name, *borders]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_never_passes(bad):
    def one_element(x):
        value, gradient = cubes(x)
        gradient[1] = bad
        return value, gradient

    for f in (one_element, lambda x: (bad, cubes(x)[1])):
        with pytest.raises(ValueError, match="not finite"):
            check_gradient(f, x)
    with pytest.raises(ValueError, match="not finite"):
        check_adjoint(lambda x: A @ x, lambda gy: np.full(4, bad), x, gy)


def test_every_direction_is_tried():
    calls = []

    def f(x):
        calls.append(x.copy())
        return cubes(x)

    check_gradient(f, x, directions=7)
    assert len(calls) == 1 + 2 * 7
    assert len({call.tobytes() for call in calls}) == 15
