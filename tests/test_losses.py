import numpy as np
import pytest
import reference

from nsnumpy import check_gradient
from nsnumpy.backend import to_floats, to_host
from nsnumpy.losses import content_loss, gram_matrix, style_loss, tv_loss


def test_content_loss_is_the_definition(make):
    F, P = make(5, 4, 3), make(5, 4, 3)
    value, gradient = content_loss(F, P)
    f, p = to_host(F), to_host(P)
    assert to_floats(value)[0] == pytest.approx(0.5 * sum((f[i] - p[i]) ** 2 for i in np.ndindex(f.shape)), rel=1e-13)
    assert np.array_equal(to_host(gradient), f - p)


def test_style_loss_is_the_definition(make):
    F, a = make(5, 4, 3), make(7, 2, 3)
    G, A = reference.gram(to_host(F)), reference.gram(to_host(a))
    value, gradient = style_loss(F, gram_matrix(a))
    N, M = 3, 20
    assert to_floats(value)[0] == pytest.approx(((G - A) ** 2).sum() / (4 * N**2 * M**2), rel=1e-12)
    expected = to_host(F).reshape(M, N) @ (G - A) / (N**2 * M**2)
    assert to_host(gradient).reshape(M, N) == pytest.approx(expected, rel=1e-12)


def test_total_variation_is_the_definition(make):
    x = make(5, 4, 3)
    assert to_floats(tv_loss(x)[0])[0] == pytest.approx(reference.total_variation(to_host(x)), rel=1e-13)
    host = to_host(x)
    around = ((host[0] - host[-1]) ** 2).sum(), ((host[:, 0] - host[:, -1]) ** 2).sum()
    for wraps in ((True, False), (False, True), (True, True)):
        expected = reference.total_variation(host) + sum(np.array(around)[list(wraps)])
        assert to_floats(tv_loss(x, wraps)[0])[0] == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("shape", [(6, 5, 4), (1, 7, 4), (3, 1, 2)])
def test_every_gradient_by_central_differences(make, shape):
    F, P, a = make(*shape), make(*shape), make(4, 3, shape[2])
    A = gram_matrix(a)
    assert check_gradient(lambda F: content_loss(F, P), F) < 1e-7
    assert check_gradient(lambda F: style_loss(F, A), F) < 1e-7
    assert check_gradient(tv_loss, F) < 1e-7
    assert check_gradient(lambda x: tv_loss(x, (True, False)), F) < 1e-7


def test_the_errata_of_the_published_notes_fail_the_check(make):
    """Slides give dE/dF = 4 (G - A) F, without the 1/(4 N^2 M^2) of the loss; the check sees it."""
    F, A = make(6, 5, 4), gram_matrix(make(6, 5, 4))

    def as_printed(F):
        value, _ = style_loss(F, A)
        positions = F.reshape(-1, 4)
        return value, (4 * positions @ (gram_matrix(F) - A)).reshape(F.shape)

    assert check_gradient(as_printed, F) > 0.9


def test_values_are_summed_in_float64(make):
    F, P = make(64, 64, 16, dtype="float32"), make(64, 64, 16, dtype="float32")
    f, p = to_host(F).astype("f8"), to_host(P).astype("f8")
    value, gradient = content_loss(F, P)
    assert value.dtype == "float64"
    assert gradient.dtype == "float32"
    assert to_floats(value)[0] == pytest.approx(0.5 * ((f - p) ** 2).sum(), rel=1e-7)


def test_shapes_are_named(make):
    with pytest.raises(ValueError, match=r"F.shape=\(5, 4, 3\), P.shape=\(4, 5, 3\)"):
        content_loss(make(5, 4, 3), make(4, 5, 3))
    with pytest.raises(ValueError, match=r"shape \(3, 3\) expected, \(4, 4\) given"):
        style_loss(make(5, 4, 3), make(4, 4))
