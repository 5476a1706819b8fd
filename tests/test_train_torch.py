"""The training beside PyTorch, where it is installed: the loss and its gradients, the step, the rate."""

import numpy as np
import pytest

from weights_tools.train import Classifier
from weights_tools.train.classifier import initial_parameters, network_layers
from weights_tools.train.ops import EPSILON, softmax_cross_entropy
from weights_tools.train.optimizer import one_cycle, sgd_step

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
nn = torch.nn.functional

WIDTHS, CLASSES = (5, 6, 7, 8, 9), 4


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def random_parameters(last, seed=0):
    rng = np.random.default_rng(seed)
    parameters = initial_parameters(WIDTHS, CLASSES, seed, last)
    return {
        name: array.astype(np.float64) if array.ndim == 4 else array + 0.3 * rng.standard_normal(array.shape)
        for name, array in parameters.items()
    }


def modules(parameters, last):
    """PyTorch's own layers, in training mode, with these parameters; and which of their tensors is which parameter."""
    layers, named = [], {}
    for name in network_layers(last):
        if name.startswith("pool"):
            layers.append(torch.nn.AvgPool2d(2))
            continue
        weight = parameters[f"{name}/weight"]
        convolution = torch.nn.Conv2d(weight.shape[2], weight.shape[3], 3, padding=1, bias=False, dtype=torch.float64)
        norm = torch.nn.BatchNorm2d(weight.shape[3], dtype=torch.float64)
        layers += [convolution, norm, torch.nn.ReLU()]
        named |= {f"{name}/weight": convolution.weight, f"{name}/gamma": norm.weight, f"{name}/beta": norm.bias}
    linear = torch.nn.Linear(parameters["classes/weight"].shape[0], CLASSES, dtype=torch.float64)
    layers += [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), linear]
    named |= {"classes/weight": linear.weight, "classes/bias": linear.bias}
    with torch.no_grad():
        for name, tensor in named.items():
            tensor.copy_(torch.from_numpy(to_torch(parameters[name])))
    return torch.nn.Sequential(*layers).train(), named


def to_torch(array):
    """(3, 3, C_in, C_out) to (C_out, C_in, 3, 3), (C, K) to (K, C)."""
    return np.ascontiguousarray(array if array.ndim == 1 else np.moveaxis(array, (-1, -2), (0, 1)))


def error(got, expected):
    assert got.shape == expected.shape
    return np.linalg.norm(got - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize(
    ("last", "shape"), [("conv1_1", (3, 4, 7)), ("conv3_1", (4, 13, 10)), ("conv5_1", (3, 35, 20))]
)
def test_the_loss_and_its_gradients(last, shape):
    """The feature map of conv5_1 is 2 x 1 there; the sides are odd on the way."""
    rng = np.random.default_rng(1)
    parameters = random_parameters(last)
    x, labels = rng.standard_normal((*shape, 3)), rng.integers(0, CLASSES, shape[0])
    network, named = modules(parameters, last)
    tx = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    tloss = nn.cross_entropy(network(tx), torch.from_numpy(labels))
    tloss.backward()
    own = Classifier(parameters)
    loss, gradients, statistics = own.loss(x, labels)
    assert loss == pytest.approx(tloss.item(), rel=1e-12)
    assert gradients.keys() == named.keys()
    for name, gradient in gradients.items():
        assert error(to_torch(gradient), named[name].grad.numpy()) < 1e-10, name
    same, gx, _ = own.loss(x, labels, of_input=True)
    assert same == loss
    assert error(gx.transpose(0, 3, 1, 2), tx.grad.numpy()) < 1e-10

    # In evaluation, with given statistics.
    norms = [layer for layer in network if isinstance(layer, torch.nn.BatchNorm2d)]
    for name, norm in zip((n for n in network_layers(last) if n.startswith("conv")), norms, strict=True):
        assert norm.eps == EPSILON
        norm.running_mean.copy_(torch.from_numpy(statistics[f"{name}/mean"]))
        norm.running_var.copy_(torch.from_numpy(statistics[f"{name}/variance"]))
    with torch.no_grad():
        expected = network.eval()(tx).numpy()
    assert error(own.scores(x, statistics), expected) < 1e-12


def test_softmax_cross_entropy_beside_torch():
    rng = np.random.default_rng(2)
    y, labels = 5 * rng.standard_normal((7, 11)), rng.integers(0, 11, 7)
    ty = torch.tensor(y, requires_grad=True)
    tloss = nn.cross_entropy(ty, torch.from_numpy(labels))
    tloss.backward()
    loss, gy = softmax_cross_entropy(y, labels)
    assert loss == pytest.approx(tloss.item(), rel=1e-13)
    assert error(gy, ty.grad.numpy()) < 1e-13


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_steps_beside_torch(momentum):
    """With another gradient and another rate each time; weights decay, and nothing else does."""
    rng = np.random.default_rng(3)
    parameters = random_parameters("conv1_2")
    _, named = modules(parameters, "conv1_2")
    groups = [
        {"params": [t for n, t in named.items() if n.endswith("/weight")], "weight_decay": 0.03},
        {"params": [t for n, t in named.items() if not n.endswith("/weight")], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(groups, lr=1.0, momentum=momentum, nesterov=momentum > 0)
    velocities = {name: 0 * array for name, array in parameters.items()}
    for step in range(6):
        rate = one_cycle(step / 6, 0.5)
        gradients = {name: rng.standard_normal(array.shape) for name, array in parameters.items()}
        for group in optimizer.param_groups:
            group["lr"] = rate
        for name, tensor in named.items():
            tensor.grad = torch.from_numpy(to_torch(gradients[name]))
        optimizer.step()
        parameters, velocities = sgd_step(parameters, velocities, gradients, rate, momentum, 0.03)
        for name, tensor in named.items():
            assert error(to_torch(parameters[name]), tensor.detach().numpy()) < 1e-13, (step, name)


def test_the_rate_beside_torch():
    """PyTorch's highest rate is at step 0.3 * 101 - 1 of 0 ... 100, its lowest that of the start over 400."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.7, total_steps=101, pct_start=0.3, div_factor=25, final_div_factor=400, cycle_momentum=False
    )
    for step in range(101):
        expected = optimizer.param_groups[0]["lr"]
        assert one_cycle(step / 100, 0.7, warmup=(0.3 * 101 - 1) / 100) == pytest.approx(expected, rel=1e-9), step
        optimizer.step()
        if step < 100:
            schedule.step()
