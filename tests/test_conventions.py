"""The losses' normalisations: each convention against its formula, what "relative" promises, weights carried over."""

import shlex
from dataclasses import replace

import numpy as np
import pytest

from nsnumpy import Objective, carry_weights, check_gradient, conventions, load_image, transfer, write_weights
from nsnumpy.architecture import Network
from nsnumpy.backend import to_host
from nsnumpy.cli.main import main, parser
from nsnumpy.cli.remembered import filled
from nsnumpy.conventions import CONVENTIONS
from nsnumpy.files.weights import WeightFile, load_vgg, read_network
from nsnumpy.objective import layer_weights
from nsnumpy.run.settings import BY_CONVENTION, USE_CASES, Settings
from nsnumpy.study.carry import convention_factors

LAYERS = {"content_layers": {"conv2_2": 0.7}, "style_layers": {"conv1_1": 0.3, "conv3_1": 2.0}}


def gram(F):
    F = F.reshape(-1, F.shape[-1])
    return F.T @ F


def mean_square(F, P):
    return ((F - P) ** 2).mean()


def gram_mean_square(F, A):
    return ((gram(F) / F.size - gram(A) / A.size) ** 2).mean()


def positions(F):
    return F.shape[0] * F.shape[1]


def rescaled(F, A):
    """G - A, where a tool has one size only, as for a style picture of another size."""
    return gram(F) - gram(A) * positions(F) / positions(A)


# As each tool writes its own. F, P: features of the image and of the content; for the style A are the features, too.
CONTENT = {
    "paper": lambda F, P: ((F - P) ** 2).sum() / 2,
    "relative": lambda F, P: ((F - P) ** 2).mean() / (P**2).mean(),
    "jcjohnson": mean_square,
    "gatys-pytorch": mean_square,
    "anishathalye": lambda F, P: 2 * (((F - P) ** 2).sum() / 2) / P.size,
    "pytorch-tutorial": mean_square,
    "gordicaleksa": mean_square,
    "pystiche": mean_square,
    "cysmith": lambda F, P: ((F - P) ** 2).sum() / (2 * F.shape[2] ** 0.5 * positions(F) ** 0.5),
    "titu1994": lambda F, P: ((F - P) ** 2).sum(),
}
STYLE = {
    "paper": lambda F, A, x: (rescaled(F, A) ** 2).sum() / (4 * F.size**2),
    "relative": lambda F, A, x: (
        ((gram(F) / positions(F) - gram(A) / positions(A)) ** 2).mean() / ((gram(A) / positions(A)) ** 2).mean()
    ),
    "jcjohnson": lambda F, A, x: gram_mean_square(F, A),
    "gatys-pytorch": lambda F, A, x: (
        1 / F.shape[2] ** 2 * ((gram(F) / positions(F) - gram(A) / positions(A)) ** 2).mean()
    ),
    "anishathalye": lambda F, A, x: gram_mean_square(F, A),
    "pytorch-tutorial": lambda F, A, x: gram_mean_square(F, A),
    "gordicaleksa": lambda F, A, x: ((gram(F) / F.size - gram(A) / A.size) ** 2).sum(),
    "pystiche": lambda F, A, x: ((gram(F) / positions(F) - gram(A) / positions(A)) ** 2).mean(),
    "cysmith": lambda F, A, x: (rescaled(F, A) ** 2).sum() / (4 * F.shape[2] ** 2 * positions(F) ** 2),
    "titu1994": lambda F, A, x: (rescaled(F, A) ** 2).sum() / (4 * 3**2 * (x.shape[0] * x.shape[1]) ** 2),
}
LAYER_WEIGHT = {
    "paper": 1 / 5, "relative": 1 / 5, "jcjohnson": 1, "gatys-pytorch": 1, "anishathalye": 1 / 5, "pytorch-tutorial": 1,
    "gordicaleksa": 1 / 5, "pystiche": 1, "cysmith": 1 / 25, "titu1994": 1 / 5,
}  # fmt: skip


def total_variation(convention, x):
    down, right = x[1:] - x[:-1], x[:, 1:] - x[:, :-1]
    inner = down[:, :-1] ** 2 + right[:-1] ** 2
    if convention == "relative":
        return np.mean(np.concatenate([down.ravel(), right.ravel()]) ** 2)
    if convention == "jcjohnson":
        return 256**2 * inner.sum() / 2
    if convention == "anishathalye":
        return ((255 * down) ** 2).mean() + ((255 * right) ** 2).mean()
    if convention == "pystiche":
        return inner.mean()
    return (down**2).sum() + (right**2).sum()


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_each_term_is_its_formula(tiny_vgg, picture, xp, convention):
    vgg = tiny_vgg(xp)
    p, a, x = picture(17, 23), picture(26, 19, 1), picture(17, 23, 2)
    objective = Objective(vgg, content=p, style=a, alpha=3.0, beta=5.0, convention=convention, **LAYERS)
    objective(x)
    names = ["conv1_1", "conv2_2", "conv3_1"]
    P, A, F = (
        {name: to_host(features) for name, features in vgg.forward(xp.asarray(image), names)[0].items()}
        for image in (p, a, x)
    )
    content = CONTENT[convention](F["conv2_2"], P["conv2_2"])
    assert objective.terms["content/conv2_2"] == pytest.approx(3 * 0.7 * content, rel=1e-12)
    for name, w in LAYERS["style_layers"].items():
        style = STYLE[convention](F[name], A[name], x)
        assert objective.terms[f"style/{name}"] == pytest.approx(5 * w * style, rel=1e-12)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_total_variation_is_its_formula(tiny_vgg, picture, xp, convention):
    """For a square whose last row and column are flat: there the tools that leave them out agree."""
    x = picture(20, 20)
    x[-1] = x[:, -1] = 0.4
    objective = Objective(tiny_vgg(xp), content=picture(20, 20, 1), tv=7.0, convention=convention)
    objective(x)
    assert objective.terms["tv"] == pytest.approx(7 * total_variation(convention, x), rel=1e-12)


def test_the_total_variation_of_any_picture_is_nearly_the_tools(picture):
    x = picture(60, 90)
    squares = total_variation("paper", x)
    for convention in ("jcjohnson", "anishathalye", "pystiche"):
        got = CONVENTIONS[convention].tv(x.shape) * squares
        assert got == pytest.approx(total_variation(convention, x), rel=1 / 60 + 1 / 90), convention


def test_the_weight_of_a_layer_without_one(tiny_vgg, picture):
    names = ["conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1"]
    for convention, w in LAYER_WEIGHT.items():
        assert layer_weights(names, convention) == pytest.approx(dict.fromkeys(names, w)), convention
        given = layer_weights({"conv1_1": 3, "conv2_1": 0.0} | dict.fromkeys(names[2:]), convention)
        assert given == pytest.approx({"conv1_1": 3, "conv2_1": 0} | dict.fromkeys(names[2:], w))
        objective = Objective(tiny_vgg(), style=picture(32, 32), convention=convention)
        assert objective.style_layers == pytest.approx(dict.fromkeys(names, w))
    assert LAYER_WEIGHT.keys() == CONVENTIONS.keys()


@pytest.mark.parametrize("convention", [name for name in CONVENTIONS if name != "paper"])
@pytest.mark.parametrize("heavy", ["alpha", "beta", "tv"])
def test_the_gradient_is_that_of_the_normalised_loss(tiny_vgg, picture, xp, heavy, convention):
    """Each term by itself, or nearly: an error of 0.1 % in one must not hide behind the others."""
    p, a, x = picture(17, 16), picture(20, 18, 1), picture(17, 16, 2)
    weights = {"alpha": 1e-6, "beta": 1e-6, "tv": 1e-6} | {heavy: 1.0}
    weights |= carry_weights("relative", convention, tiny_vgg(xp), (17, 16), content=p, style=a, **weights, **LAYERS)
    objective = Objective(tiny_vgg(xp), content=p, style=a, **weights)
    assert check_gradient(objective, xp.asarray(x), step=3e-7, tolerance=1e-4) < 1e-4


def test_relative_losses_do_not_depend_on_the_scale_of_the_filters(tmp_path, picture):
    """A network whose features are 40 times as large says the same; in the paper's sums the style says 40^4."""
    rng = np.random.default_rng(0)
    layers = {"conv1_1": (3, 8), "conv1_2": (8, 8), "conv2_1": (8, 8), "conv2_2": (8, 8)}
    weights = {
        name: (0.3 * rng.standard_normal((3, 3, *shape)), 0.1 * rng.standard_normal(shape[1]))
        for name, shape in layers.items()
    }
    file = WeightFile(weights)
    weight, bias = weights["conv1_1"]
    larger = {name: (w, b if name == "conv1_1" else 40 * b) for name, (w, b) in weights.items()}
    write_weights(tmp_path / "a.h5", file, "float64")
    write_weights(tmp_path / "b.h5", replace(file, weights=larger | {"conv1_1": (40 * weight, 40 * bias)}), "float64")
    p, a, x = picture(20, 24), picture(18, 22, 1), picture(20, 24, 2)
    losses = {}
    for convention in CONVENTIONS:
        for name in ("a.h5", "b.h5"):
            objective = Objective(
                load_vgg(tmp_path / name, dtype="float64"),
                content=p, style=a, convention=convention, content_layers=["conv2_2"], style_layers=["conv1_2"],
            )  # fmt: skip
            objective(x)
            losses[convention, name] = objective.terms
    for term in ("content/conv2_2", "style/conv1_2"):
        assert losses["relative", "b.h5"][term] == pytest.approx(losses["relative", "a.h5"][term], rel=1e-9)
    assert losses["paper", "b.h5"]["style/conv1_2"] == pytest.approx(40**4 * losses["paper", "a.h5"]["style/conv1_2"])


def test_relative_losses_hardly_depend_on_the_size(tiny_vgg, picture):
    p, a, x = picture(32, 40), picture(32, 40, 1), picture(32, 40, 2)
    twice = [np.kron(image, np.ones((2, 2, 1))) for image in (p, a, x)]
    losses = []
    for content, style, image in ((p, a, x), twice):
        objective = Objective(
            tiny_vgg(), content=content, style=style, tv=0, convention="relative",
            content_layers=["conv1_1"], style_layers=["conv1_1"],
        )  # fmt: skip
        objective(image)
        losses.append(objective.terms)
    for term, value in losses[0].items():
        assert 0.4 < losses[1][term] / value < 1.5, term  # the paper's content loss is four times as large


def test_a_black_picture_is_no_unit_but_no_error_either():
    for make in CONVENTIONS.values():
        assert make.content(24, 0.0) > 0
        assert make.style(np.zeros((2, 2))) > 0
        assert make.tv((1, 1, 3)) > 0


def test_an_unknown_convention_is_named(tiny_vgg, picture):
    with pytest.raises(ValueError, match="unknown convention 'mean': choose from paper, relative"):
        Objective(tiny_vgg(), content=picture(16, 16), convention="mean")


@pytest.mark.parametrize("source", CONVENTIONS)
def test_carried_weights_give_the_same_loss(tiny_vgg, picture, xp, source):
    """Of every pair: with odd sizes, a style picture of its own size, layers with weights and without."""
    vgg = tiny_vgg(xp)
    p, a, x = picture(21, 34), picture(27, 18, 1), xp.asarray(picture(21, 34, 2))
    weights = {
        "alpha": 0.3, "beta": 70.0, "tv": 0.02,
        "content_layers": {"relu2_2": None, "conv3_1": 0.2}, "style_layers": ["conv1_2", "pool2", "conv3_1"],
    }  # fmt: skip
    objective = Objective(vgg, content=p, style=a, convention=source, **weights)
    loss, gradient = objective(x)
    terms = objective.terms
    for target in CONVENTIONS:
        carried = carry_weights(source, target, vgg, p.shape[:2], content=p, style=a, **weights)
        assert carried["convention"] == target
        assert sum(carried["content_layers"].values()) == pytest.approx(1)
        assert sum(carried["style_layers"].values()) == pytest.approx(1)
        objective = Objective(vgg, content=p, style=a, **carried)
        other, other_gradient = objective(x)
        assert other == pytest.approx(loss, rel=1e-12), target
        assert objective.terms == pytest.approx(terms, rel=1e-12), target
        error = to_host(other_gradient - gradient)
        assert np.linalg.norm(error) < 1e-12 * np.linalg.norm(to_host(gradient)), target


@pytest.mark.parametrize("statistics", ["gram+moments", "covariance"])
def test_carried_weights_of_other_statistics_give_the_same_loss(tiny_vgg, picture, statistics):
    vgg, p, a, x = tiny_vgg(), picture(21, 34), picture(27, 18, 1), picture(21, 34, 2)
    weights = {"alpha": 0.3, "beta": 70.0, "content_layers": ["conv2_2"], "style_layers": ["conv1_2", "conv3_1"]}
    known = {"content": p, "style": a, "style_statistics": statistics}
    loss, _ = Objective(vgg, convention="jcjohnson", **known, **weights)(x)
    carried = carry_weights("jcjohnson", "relative", vgg, p.shape[:2], **known, **weights)
    assert Objective(vgg, **known, **carried)(x)[0] == pytest.approx(loss, rel=1e-12)


def test_without_pictures_shapes_are_enough(tiny_vgg, picture, tiny_weights, tmp_path):
    """All but "relative": from a network's file alone, without its weights."""
    write_weights(tmp_path / "tiny.h5", WeightFile(tiny_weights))
    network = read_network(tmp_path / "tiny.h5")
    p, a = picture(21, 34), picture(27, 18, 1)
    names = [name for name in CONVENTIONS if name != "relative"]
    seen = convention_factors(CONVENTIONS, tiny_vgg(), (21, 34), content=p, style=a)
    assert convention_factors(names, network, (21, 34)) == {name: seen[name] for name in names}
    assert list(seen["relative"]) == [
        "content/conv4_2", "style/conv1_1", "style/conv2_1", "style/conv3_1", "style/conv4_1", "style/conv5_1", "tv",
    ]  # fmt: skip
    assert seen["paper"] == pytest.approx(dict.fromkeys(seen["paper"], 0.2) | {"content/conv4_2": 1, "tv": 1})


def test_a_weight_of_nothing_is_carried_as_nothing(tiny_vgg):
    carried = carry_weights("paper", "cysmith", tiny_vgg(), (32, 32), alpha=0.0, beta=2.0)
    assert (carried["alpha"], carried["tv"], carried["content_layers"]) == (0, 0, {"conv4_2": 0})
    assert carried["beta"] == pytest.approx(2)


def test_what_cannot_be_carried_is_named(tiny_vgg, picture):
    vgg = tiny_vgg()
    with pytest.raises(ValueError, match="unknown convention 'mean': choose from paper, relative, jcjohnson"):
        carry_weights("mean", "paper", vgg, (32, 32))
    with pytest.raises(ValueError, match="constants of relative depend on the pictures: give a content and a style"):
        carry_weights("paper", "relative", vgg, (32, 32), style=picture(32, 32))
    network = Network("vgg19", vgg.filters)
    with pytest.raises(ValueError, match="constants of relative depend on the network's weights: give a VGG"):
        carry_weights("paper", "relative", network, (32, 32), content=picture(32, 32), style=picture(32, 32))
    with pytest.raises(
        ValueError, match=r"content picture of shape \(32, 32, 3\) expected; content.shape=\(32, 30, 3\)"
    ):
        carry_weights("paper", "relative", vgg, (32, 32), content=picture(32, 30), style=picture(32, 32))
    with pytest.raises(ValueError, match="conv5_1: .* H, W >= 16 expected"):
        carry_weights("paper", "cysmith", vgg, (32, 15))
    with pytest.raises(ValueError, match="a list of layers, or a mapping to their weights, expected; 'conv1_1' given"):
        carry_weights("paper", "cysmith", vgg, (32, 32), style_layers="conv1_1")


def test_every_convention_has_defaults_for_every_use_case():
    assert BY_CONVENTION.keys() == CONVENTIONS.keys()
    for convention, defaults in BY_CONVENTION.items():
        for use_case in USE_CASES:
            assert defaults[use_case].keys() == BY_CONVENTION["paper"][use_case].keys()
            completed = Settings(convention=convention).completed(use_case)
            assert all(getattr(completed, name) == value for name, value in defaults[use_case].items())
            assert completed.optimizer == ("scipy" if convention == "paper" else "lbfgs-device")
        scales = Settings(convention=convention).sizes(512)
        assert scales == ([128, 256, 512] if convention == "relative" else [512])


# alpha, beta and tv as each tool has them; a tv of 0 where it has none, or another function.
TOOLS = {
    "jcjohnson": (5, 100, 1e-3), "gatys-pytorch": (1, 1000, 0), "anishathalye": (5, 500, 100),
    "pytorch-tutorial": (1, 1e6, 0), "gordicaleksa": (1e5, 3e4, 0), "pystiche": (1, 1000, 0), "cysmith": (5, 1e4, 0),
    "titu1994": (0.025, 1, 0),
}  # fmt: skip


@pytest.mark.parametrize("tool", [name for name in CONVENTIONS if name not in ("paper", "relative")])
def test_a_tools_weights_are_its_own(tool):
    alpha, beta, tv = TOOLS[tool]
    s, texture, reconstruct = (Settings(convention=tool).completed(use_case) for use_case in USE_CASES)
    assert (s.alpha, s.beta, s.tv) == (alpha, beta, tv)
    assert (texture.beta, texture.tv) == (beta, tv)
    assert reconstruct.tv == pytest.approx(tv / alpha)  # its content has weight 1
    rows = [line.split() for line in conventions.__doc__.partition("alpha  beta")[2].splitlines()]
    assert [(float(row[-2]), float(row[-1])) for row in rows if row[:1] == [tool]] == [(alpha, beta)]


def test_a_tools_defaults_are_its_own():
    s = Settings(convention="jcjohnson").completed("transfer")
    assert (s.alpha, s.beta, s.tv, s.content_layers) == (5, 100, 1e-3, ("conv4_2",))
    s = Settings(convention="pytorch-tutorial").completed("transfer")
    assert (s.alpha, s.beta, s.tv, s.content_layers) == (1, 1e6, 0, ("conv2_2",))
    assert s.style_layers == ("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1")


def test_a_runs_record_states_the_weights_of_its_convention(tiny_vgg, picture):
    p, a = picture(32, 32), picture(32, 32, 1)
    for convention in CONVENTIONS:
        layers = {"style_layers": {"conv1_1": None, "conv2_1": 0.3}}
        result = transfer(p, a, vgg=tiny_vgg(), size=None, iterations=0, scales=(), convention=convention, **layers)
        unweighted = CONVENTIONS[convention].layer_weight(2)
        assert result.settings["style_layers"] == {"conv1_1": unweighted, "conv2_1": 0.3}, convention
        names = BY_CONVENTION[convention]["transfer"]["content_layers"]
        unweighted = CONVENTIONS[convention].layer_weight(len(names))
        assert result.settings["content_layers"] == dict.fromkeys(names, unweighted)
        stated = {key: result.settings[key] for key in ("alpha", "beta", "tv", "content_layers", "style_layers")}
        vgg = tiny_vgg(border=result.settings["border"])
        objective = Objective(vgg, content=p, style=a, convention=convention, **stated)
        assert objective(p)[0] == pytest.approx(result.settings["loss"], rel=1e-6), convention


@pytest.fixture
def tiny_file(tiny_weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_weights("a tiny.h5", WeightFile(tiny_weights))
    return "--weights 'a tiny.h5'"


def call(capsys, command):
    try:
        status = main(["conventions", *shlex.split(command)])
    except SystemExit as error:
        status = error.code
    return status, *capsys.readouterr()


def test_the_table_says_what_the_api_says(tiny_file, capsys):
    status, out, err = call(capsys, f"--size 40x33 {tiny_file} --style-layers conv1_1,conv3_1:0.7")
    assert (status, err) == (0, "")
    title, _, kinds, layers, *rows, _, _, how = out.splitlines()
    assert title == "a tiny.h5 at 40 x 33; filters: conv4_2 12, conv1_1 6, conv3_1 10"
    assert (kinds.split(), layers.split()) == (["content", "style", "style", "tv"], ["conv4_2", "conv1_1", "conv3_1"])
    names = [name for name in CONVENTIONS if name != "relative"]
    expected = convention_factors(
        names, read_network("a tiny.h5"), (33, 40), style_layers={"conv1_1": None, "conv3_1": 0.7}
    )
    table = {row.split()[0]: [float(cell) for cell in row.split()[1:]] for row in rows}
    assert list(table) == names
    for name in names:
        assert table[name] == pytest.approx(list(expected[name].values()), rel=1e-8), name
    assert how.startswith("weight_to = weight_from x number_from / number_to.")
    status, out, _ = call(capsys, f"sample:coast sample:starry --size 48 {tiny_file}")
    assert status == 0
    assert out.startswith("a tiny.h5 at 48 x 36; ")
    assert "\nrelative  " in out


@pytest.mark.parametrize(
    ("source", "target"), [("jcjohnson", "relative"), ("relative", "titu1994"), ("pytorch-tutorial", "paper")]
)
def test_what_is_printed_can_be_pasted(tiny_file, capsys, source, target):
    pictures = "sample:coast sample:starry"
    more = "--style-size 60 --pooling max --style-statistics covariance" if source == "jcjohnson" else ""
    status, out, err = call(
        capsys, f"{pictures} --size 48 --from {source} --to {target} --beta 12.5 {more} {tiny_file}"
    )
    assert status == 0
    assert err.startswith("nsnumpy: note: for a tiny.h5 at 48 x 36; filters: ")
    assert len(out.splitlines()) == 1
    pasted = filled(parser().parse_args(shlex.split(f"transfer {pictures} -o out.png {out}")), None)
    assert (pasted.convention, pasted.size, pasted.weights) == (target, 48, "a tiny.h5")
    assert (pasted.style_size, pasted.pooling) == ((60, "max") if more else (None, "avg"))
    vgg = load_vgg(pasted.weights, pooling=pasted.pooling)
    p, a = load_image("sample:coast", 48), load_image("sample:starry", pasted.style_size or 48)
    names = ("alpha", "beta", "tv", "content_layers", "style_layers")
    known = {name: BY_CONVENTION[source]["transfer"][name] for name in names} | {"beta": 12.5}
    assert pasted.style_statistics == ("covariance" if more else "gram")
    given = {"content": p, "style": a, "style_statistics": pasted.style_statistics}
    here = Objective(vgg, convention=source, **given, **known)
    there = Objective(vgg, convention=target, **given, **{name: getattr(pasted, name) for name in names})
    x = (0.5 * (p + a.mean())).astype("float32")
    (loss, gradient), (other, other_gradient) = here(x), there(x)
    assert other == pytest.approx(loss, rel=1e-7)
    assert np.linalg.norm(other_gradient - gradient) < 1e-5 * np.linalg.norm(gradient)


def test_without_pictures_the_size_is_a_square_or_both_sides(tiny_file, capsys):
    command = f"--from jcjohnson --to paper {tiny_file}"
    for size, shape, side in (("", (512, 512), 512), ("--size 64", (64, 64), 64), ("--size 48x64", (64, 48), 64)):
        status, out, _ = call(capsys, f"{command} {size}")
        pasted = filled(parser().parse_args(shlex.split(f"transfer a b -o out.png {out}")), None)
        expected = carry_weights("jcjohnson", "paper", read_network("a tiny.h5"), shape, alpha=5, beta=100, tv=1e-3)
        assert (status, pasted.size) == (0, side)
        assert [pasted.alpha, pasted.beta, pasted.tv] == pytest.approx(
            [expected["alpha"], expected["beta"], expected["tv"]], rel=1e-8
        )
        assert pasted.style_layers == pytest.approx(expected["style_layers"], rel=1e-8)


@pytest.mark.parametrize(
    ("command", "status", "message"),
    [
        ("--from relative --to paper", 2, "relative depends on the pictures' features: give CONTENT and STYLE"),
        ("--from paper --to relative", 2, "relative depends on the pictures' features: give CONTENT and STYLE"),
        ("--from paper", 2, "--from and --to go together"),
        ("--to paper", 2, "--from and --to go together"),
        ("--from paper --to mean", 2, "invalid choice: 'mean'"),
        ("--beta 3", 2, "--beta goes with --from and --to"),
        ("sample:coast", 2, "two pictures expected, CONTENT and STYLE, or none"),
        ("sample:coast sample:starry --size 40x30", 2, "with pictures --size is the long side alone"),
        ("--style-size 30", 2, "--style-size goes with pictures"),
        ("--size big", 2, "PIXELS or WxH, whole numbers, 1 or more, expected; 'big' given"),
        ("--size 20x", 2, "PIXELS or WxH, whole numbers, 1 or more, expected; '20x' given"),
        ("--size 20x30x40", 2, "expected; '20x30x40' given"),
        ("--size 15", 1, "conv5_1: a picture (H, W, 3) with H, W >= 16 expected"),
        ("--style-layers conv9_9", 2, "unknown layer 'conv9_9'"),
        ("--style-layers conv5_3", 1, "conv5_3: this network ends at conv5_1"),
        ("nobody.png sample:starry", 1, "nobody.png: no such file"),
        ("--weights nobody.h5", 1, "nobody.h5: no such weight file"),
    ],
)
def test_errors_are_one_line(tiny_file, capsys, command, status, message):
    got, out, err = call(capsys, command if "--weights" in command else f"{command} {tiny_file}")
    assert (got, out) == (status, "")
    assert message in err
    assert err.startswith("nsnumpy: error: ")
    assert len(err.splitlines()) == 1
