"""Layer terms: measured by sums over positions, solved, and sent back a block at a time."""

import numpy as np
import pytest
import reference

from nsnumpy import Objective, check_gradient
from nsnumpy.backend import asarray, get_xp, to_floats, to_host
from nsnumpy.losses import STYLE_STATISTICS, Content, Gram, content_loss, gram_matrix, style_loss, tv_loss
from nsnumpy.study.prove import of_features
from nsnumpy.targets import SendingBack, content_target, style_target
from nsnumpy.workers import Scratch

EVERYWHERE = slice(None)


def described(kind, F):
    """What a style picture's features F are kept as."""
    term = kind()
    return term.describe(term.statistics(F.reshape(-1, F.shape[-1]), EVERYWHERE))


def evaluate(term, F):
    value, gradient = of_features(term)(F)
    return to_floats(value)[0], to_host(gradient)


def by_definition(statistics, F, a, w):
    """The value for features F and a, in loops and with weights per position; in float64 on the host."""
    F, a = F.reshape(-1, F.shape[-1]), a.reshape(-1, a.shape[-1])
    N, s = F.shape[1], w.sum()
    mean, mean_a = (w[:, None] * F).sum(0) / s, a.mean(0)
    G, A = sum(w[k] * np.outer(F[k], F[k]) for k in range(len(F))), sum(np.outer(row, row) for row in a) / len(a)
    if statistics == "covariance":
        C = sum(w[k] * np.outer(F[k] - mean, F[k] - mean) for k in range(len(F)))
        C_a = sum(np.outer(row - mean_a, row - mean_a) for row in a) / len(a)
        return ((C - s * C_a) ** 2).sum() / (4 * N**2 * s**2)
    value = ((G - s * A) ** 2).sum() / (4 * N**2 * s**2)
    if statistics == "gram":
        return value
    guard = 1e-4 * np.trace(A) / N
    deviation = np.sqrt((w[:, None] * (F - mean) ** 2).sum(0) / s + guard)
    deviation_a = np.sqrt(((a - mean_a) ** 2).mean(0) + guard)
    c = (A**2).sum() / (4 * N**2 * np.trace(A))
    return value + c * (((mean - mean_a) ** 2).sum() + ((deviation - deviation_a) ** 2).sum())


@pytest.mark.parametrize("statistics", STYLE_STATISTICS)
@pytest.mark.parametrize("weighted", [False, True])
def test_a_style_term_is_its_definition(make, statistics, weighted):
    F, a, w = make(5, 4, 3), make(7, 2, 3), abs(make(20)) * (make(20) > -0.5)
    kind = STYLE_STATISTICS[statistics]
    value, _ = evaluate(kind([(described(kind, a), 1.0)], w if weighted else None), F)
    of_each = to_host(w) if weighted else np.ones(20)
    assert value == pytest.approx(by_definition(statistics, to_host(F), to_host(a), of_each), rel=1e-11)


def test_the_papers_losses_are_the_terms_without_weights(make):
    F, P, a = make(5, 4, 3), make(5, 4, 3), make(7, 2, 3)
    for term, (value, gradient) in (
        (Content(P), content_loss(F, P)),
        (Gram([(described(Gram, a), 1.0)]), style_loss(F, gram_matrix(a) * (20 / 14))),
    ):
        found, of_features = evaluate(term, F)
        assert found == pytest.approx(to_floats(value)[0], rel=1e-13)
        assert of_features == pytest.approx(to_host(gradient), rel=1e-12, abs=1e-15)


def terms(make, w=None):
    yield Content(make(5, 4, 3), 0.8, w)
    for kind in STYLE_STATISTICS.values():
        yield kind([(described(kind, make(7, 2, 3)), 0.8), (described(kind, make(3, 3, 3)), 0.4)], w)


def test_every_gradient_by_central_differences(make):
    w = abs(make(20)) * (make(20) > -0.5)  # zeros among them
    for term in (*terms(make), *terms(make, w)):
        assert check_gradient(of_features(term), make(5, 4, 3)) < 1e-7


def test_a_position_counts_as_often_as_its_weight_says(make, xp):
    """Weights 0, 1, 2 and 3 are the picture with positions left out, or repeated."""
    F, times = make(5, 4, 3), np.arange(20) % 4
    positions = to_host(F).reshape(20, 3)
    repeated = asarray(np.repeat(positions, times, axis=0)[None], xp, "float64")
    w = asarray(times, xp, "float64")
    P = make(5, 4, 3)
    of_repeated = asarray(np.repeat(to_host(P).reshape(20, 3), times, axis=0)[None], xp, "float64")
    pairs = [(Content(P, 0.8, w), Content(of_repeated, 0.8))]
    for kind in STYLE_STATISTICS.values():
        target = [(described(kind, make(7, 2, 3)), 1.0)]
        pairs.append((kind(target, w), kind(target)))
    for weighted, plain in pairs:
        value, gradient = evaluate(weighted, F)
        expected, of_each = evaluate(plain, repeated)
        assert value == pytest.approx(expected, rel=1e-12)
        gradient, of_each = gradient.reshape(20, 3), of_each.reshape(-1, 3)
        assert not gradient[times == 0].any()
        first = np.cumsum(times) - times
        for k in np.flatnonzero(times):
            assert gradient[k] == pytest.approx(times[k] * of_each[first[k]], rel=1e-11, abs=1e-15)


def test_the_norm_is_that_of_the_gradient(make):
    w = abs(make(20)) * (make(20) > -0.5)
    for term in (*terms(make), *terms(make, w)):
        F, blocks = make(5, 4, 3).reshape(20, 3), [slice(12), slice(12, 20)]
        sums = [term.statistics(F[at], at) for at in blocks]
        _, solution = term.solve(tuple(map(sum, zip(*sums, strict=True))), 2.5)
        sending = SendingBack({"it": (term, solution)})
        for at in reversed(blocks):
            sending(F[at], slice(at.start or 0, at.stop), get_xp(F).zeros_like(F[at]), Scratch())
        expected = (2.5 * evaluate(term, F)[1] ** 2 * 2.5).sum()
        assert to_floats(sending.squares["it"])[0] == pytest.approx(expected, rel=1e-11)


def test_a_scale_is_a_factor_of_all(make):
    for term in terms(make):
        F = make(5, 4, 3).reshape(20, 3)
        sums = term.statistics(F, EVERYWHERE)
        (one, _), (three, _) = term.solve(sums, 1.0), term.solve(sums, 3.0)
        assert to_floats(three)[0] == pytest.approx(3 * to_floats(one)[0], rel=1e-14)


@pytest.mark.parametrize("statistics", STYLE_STATISTICS)
def test_a_dead_filter_is_no_division_by_zero(make, statistics):
    kind = STYLE_STATISTICS[statistics]
    alive, other = make(5, 4, 3), make(7, 2, 3)
    dead = asarray(np.array([1.0, 0.0, 1.0]), get_xp(alive), "float64")
    for F, a in ((alive * dead, other), (alive, other * dead), (alive * dead, other * dead)):
        value, gradient = evaluate(kind([(described(kind, a), 1.0)]), F)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
    zeros = F * 0
    value, gradient = evaluate(kind([(described(kind, zeros), 1.0)]), zeros)
    assert (value, abs(gradient).max()) == (0.0, 0.0)


def test_the_terms_see_what_the_others_do_not(make):
    """Covariance: a constant added to all features. Moments: Gram matrices may agree where means do not."""
    F = abs(make(5, 4, 3))
    kind = STYLE_STATISTICS["covariance"]
    assert evaluate(kind([(described(kind, F + 2.0), 1.0)]), F)[0] < 1e-25
    assert evaluate(Gram([(described(Gram, F + 2.0), 1.0)]), F)[0] > 1e-3
    kind = STYLE_STATISTICS["gram+moments"]
    assert evaluate(Gram([(described(Gram, -F), 1.0)]), F)[0] < 1e-25
    assert evaluate(kind([(described(kind, -F), 1.0)]), F)[0] > 1e-3


@pytest.mark.parametrize("statistics", STYLE_STATISTICS)
@pytest.mark.parametrize("convention", ["paper", "relative", "titu1994"])
def test_several_styles_are_the_weighted_sum_of_each(tiny_vgg, picture, xp, statistics, convention):
    vgg, x = tiny_vgg(xp), xp.asarray(picture(33, 26))
    styles = [(xp.asarray(picture(24, 41, 1)), 0.7), (xp.asarray(picture(40, 22, 2)), 0.3)]
    options = {"beta": 3.0, "convention": convention, "style_statistics": statistics}
    loss, gradient = Objective(vgg, style=styles, **options)(x)
    each = [(Objective(vgg, style=a, **options)(x), weight) for a, weight in styles]
    expected = sum(weight * to_host(of_a) for (_, of_a), weight in each)
    assert loss == pytest.approx(sum(weight * value for (value, _), weight in each), rel=1e-12)
    assert np.linalg.norm(to_host(gradient) - expected) < 1e-12 * np.linalg.norm(expected)


@pytest.mark.parametrize("statistics", STYLE_STATISTICS)
@pytest.mark.parametrize("convolution", ["winograd", "direct"])
def test_the_whole_map_by_central_differences(tiny_vgg, picture, xp, statistics, convolution):
    vgg = tiny_vgg(xp, convolution=convolution)
    styles = [(picture(24, 30, 1), 0.6), (picture(30, 24, 3), 0.4)]
    objective = Objective(vgg, content=picture(19, 23), style=styles, alpha=1e-2, tv=0.01, style_statistics=statistics)
    assert check_gradient(objective, xp.asarray(picture(19, 23, 2)), step=1e-7) < 1e-6


def test_targets_made_before_are_the_same(tiny_vgg, picture):
    vgg, p, a, x = tiny_vgg(), picture(33, 26), picture(24, 41, 1), picture(33, 26, 2)
    layers = {"content_layers": ["conv4_2"], "style_layers": ["conv1_1", "conv3_1"]}
    style = style_target(vgg, a, [*layers["style_layers"], "conv2_2"])
    made = Objective(vgg, content=content_target(vgg, p, ["conv4_2"]), style=style, **layers)
    direct = Objective(vgg, content=p, style=a, **layers)
    assert np.array_equal(made(x)[1], direct(x)[1])
    assert style.pictures[0][0]["conv2_2"][0] == pytest.approx(
        reference.gram(vgg.forward(a, ["conv2_2"])[0]["conv2_2"]) / (12 * 20), rel=1e-12
    )
    with pytest.raises(
        ValueError, match="style layer conv4_1: the style target was made without it; it has conv1_1, conv2_2, conv3_1"
    ):
        Objective(vgg, style=style, style_layers=["conv4_1"])


def test_what_cannot_be_a_target(tiny_vgg, picture):
    vgg, a = tiny_vgg(), picture(24, 41)
    with pytest.raises(
        ValueError, match=r"unknown style statistics 'mean': choose from gram, gram\+moments, covariance"
    ):
        style_target(vgg, a, ["conv1_1"], "mean")
    for pairs in ([], [(a, -1.0)], [(a, float("nan"))]):
        with pytest.raises(ValueError, match="style pictures with weights of 0 or more expected"):
            style_target(vgg, pairs, ["conv1_1"])


def test_a_pixel_term_has_a_name_of_its_own(tiny_vgg, picture):
    for name in ("tv", "pixels", "content/conv4_2"):
        with pytest.raises(ValueError, match=f"a pixel term called '{name}': that name is taken"):
            Objective(tiny_vgg(), content=picture(19, 23), pixel_terms={name: (1.0, tv_loss)})


def test_what_weighted_positions_send_back_is_of_the_features_precision(make):
    F, w = make(5, 4, 3, dtype="float32"), abs(make(20, dtype="float32"))
    for kind in STYLE_STATISTICS.values():
        term = kind([(described(kind, make(7, 2, 3, dtype="float32")), 1.0)], w)
        _, (K, b) = term.solve(term.statistics(F.reshape(20, 3), EVERYWHERE), 1.0)
        assert K.dtype == "float32"
        assert b is None or b.dtype == "float32"


def test_a_pixel_term_is_a_further_loss(tiny_vgg, picture, xp):
    def towards_grey(x):
        return ((x - 0.5) ** 2).sum(), 2 * (x - 0.5)

    vgg, p, x = tiny_vgg(xp), xp.asarray(picture(19, 23)), xp.asarray(picture(19, 23, 2))
    plain = Objective(vgg, content=p, tv=0.01)
    objective = Objective(vgg, content=p, tv=0.01, pixel_terms={"grey": (0.3, towards_grey)})
    (loss, gradient), (before, gradient_before) = objective(x), plain(x)
    assert loss - before == pytest.approx(0.3 * to_floats(towards_grey(x)[0])[0], rel=1e-9)
    assert to_host(gradient - gradient_before) == pytest.approx(0.6 * (to_host(x) - 0.5), rel=1e-9, abs=1e-12)
    assert list(objective.terms) == ["content/conv4_2", "tv", "grey"]
    norm = np.linalg.norm(0.6 * (to_host(x) - 0.5))
    assert objective.gradient_norms["grey"] == pytest.approx(norm, rel=1e-12)
    assert check_gradient(objective, x, step=1e-7) < 1e-6


def test_a_norm_is_that_of_the_blocks_in_their_order():
    """Whichever thread was first."""
    found = []
    for order in ((0, 8, 16), (16, 8, 0)):
        sending = SendingBack({"it": (None, None)})
        for start in order:
            sending.keep(start, [{0: 1e16, 8: 1.0, 16: 1.0}[start]])
        found.append(sending.squares["it"])
    assert found[0] == found[1] != 1e16 + 2.0
