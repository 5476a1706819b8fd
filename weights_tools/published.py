"""What is published: where each file lies, its size and checksums, and the preprocessing that its network expects.

Sizes and checksums are those that the files' publishers, or several independent users of them, have stated.
"""

from __future__ import annotations

from dataclasses import dataclass

from nsnumpy import Preprocessing

CONVENTIONS = {
    "torchvision": Preprocessing("RGB", 1.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "caffe": Preprocessing("BGR", 255.0, (103.939, 116.779, 123.68)),
    "matconvnet": Preprocessing("RGB", 255.0, (123.68, 116.779, 103.939)),
}
"""How files of a kind want their pictures, where they do not say it themselves."""


@dataclass(frozen=True)
class Published:
    """A published file.

    Attributes
    ----------
    urls : tuple of str
        Where it lies; mirrors hold the same bytes.
    about : str
        In a few words.
    convention : str
        A key of `CONVENTIONS`.
    license : str
    size : int or None
        Bytes.
    sha256 : str
        In full, or its first eight digits, or "".
    md5 : str
    normalized : bool
        Whether each filter's mean activation is 1.
    """

    urls: tuple[str, ...]
    about: str
    convention: str
    license: str
    size: int | None = None
    sha256: str = ""
    md5: str = ""
    normalized: bool = False


_OXFORD = "CC BY 4.0 (Simonyan and Zisserman, Visual Geometry Group, Oxford)"
_TORCHVISION = "BSD-3-Clause (torchvision)"
_KERAS = (
    "https://github.com/fchollet/deep-learning-models/releases/download/v0.1",
    "https://storage.googleapis.com/tensorflow/keras-applications",
)

PUBLISHED: dict[str, Published] = {
    "vgg19-keras": Published(
        (
            f"{_KERAS[0]}/vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
            f"{_KERAS[1]}/vgg19/vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
        ),
        "the original VGG-19, converted by Keras, without fully connected layers",
        "caffe",
        _OXFORD,
        80_134_624,
        md5="253f8cb515780f3b799900260a226db6",
    ),
    "vgg19-matconvnet": Published(
        ("https://www.vlfeat.org/matconvnet/models/imagenet-vgg-verydeep-19.mat",),
        "the original VGG-19, converted by MatConvNet",
        "matconvnet",
        _OXFORD,
        534_904_783,
        "abdb57167f82a2a1fbab1e1c16ad9373411883f262a1a37ee5db2e6fb0044695",
        "106118b7cf60435e6d8e04f6a6dc3657",
    ),
    "vgg19-matconvnet-beta16": Published(
        ("https://www.vlfeat.org/matconvnet/models/beta16/imagenet-vgg-verydeep-19.mat",),
        "MatConvNet's file in its layout of 2015",
        "matconvnet",
        _OXFORD,
        md5="8ee3263992981a1d26e73b3ca028a123",
    ),
    "vgg19-caffe": Published(
        ("https://www.robots.ox.ac.uk/~vgg/software/very_deep/caffe/VGG_ILSVRC_19_layers.caffemodel",),
        "the original VGG-19 itself",
        "caffe",
        _OXFORD,
        574_671_192,
        md5="b5c644beabd7cf06bdd9065cfd674c97",
    ),
    "vgg19-gatys": Published(
        (
            "https://bethgelab.org/media/uploads/pytorch_models/vgg_conv.pth",
            "https://huggingface.co/fdan/neural_style_transfer_vgg/resolve/main/vgg_conv.pth",
        ),
        "VGG-19 as Gatys' later code uses it; whether it is normalised, `inspect --picture` tells",
        "caffe",
        _OXFORD,
    ),
    "vgg19-normalised": Published(
        ("https://bethgelab.org/media/uploads/deeptextures/vgg_normalised.caffemodel",),
        "VGG-19 as the paper uses it, each filter's mean activation 1",
        "caffe",
        _OXFORD,
        normalized=True,
    ),
    "vgg19-jcjohnson": Published(
        ("https://web.eecs.umich.edu/~justincj/models/vgg19-d01eb7cb.pth",),
        "the original VGG-19 as a .pth",
        "caffe",
        _OXFORD,
        sha256="d01eb7cb",
    ),
    "vgg19-pystiche": Published(
        ("https://download.pystiche.org/models/vgg19-74e45263.pth",),
        "the original VGG-19 as a .pth",
        "caffe",
        _OXFORD,
        sha256="74e45263",
    ),
    "vgg19-torchvision": Published(
        ("https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",),
        "VGG-19 trained anew by torchvision",
        "torchvision",
        _TORCHVISION,
        574_673_361,
        "dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
    ),
    "vgg19-timm": Published(
        ("https://huggingface.co/timm/vgg19.tv_in1k/resolve/main/model.safetensors",),
        "torchvision's VGG-19 as safetensors",
        "torchvision",
        _TORCHVISION,
    ),
    "vgg16-keras": Published(
        (
            f"{_KERAS[0]}/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
            f"{_KERAS[1]}/vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
        ),
        "the original VGG-16, converted by Keras, without fully connected layers",
        "caffe",
        _OXFORD,
        md5="6d6bbae143d832006294945121d1f1fc",
    ),
    "vgg16-torchvision": Published(
        ("https://download.pytorch.org/models/vgg16-397923af.pth",),
        "VGG-16 trained anew by torchvision",
        "torchvision",
        _TORCHVISION,
        sha256="397923af",
    ),
}

COLLECTIONS: dict[str, tuple[str, ...]] = {
    "vgg19": ("vgg19-keras", "vgg19-matconvnet", "vgg19-caffe"),
    "vgg16": ("vgg16-keras",),
}
"""Names that stand for the same weights in several files, to be tried in turn."""


def sources(name: str) -> dict[str, Published]:
    """The files that `name` stands for by their own names, the first choice first; ValueError if it stands for none."""
    if name not in COLLECTIONS and name not in PUBLISHED:
        raise ValueError(f"unknown name {name!r}; known: {', '.join([*COLLECTIONS, *PUBLISHED])}")
    return {file: PUBLISHED[file] for file in COLLECTIONS.get(name, (name,))}


def recognise(sha256: str, md5: str) -> tuple[str, Published] | None:
    """The name and the facts of the published file that has these checksums, or None."""
    for name, published in PUBLISHED.items():
        if (published.md5 and md5 == published.md5) or (published.sha256 and sha256.startswith(published.sha256)):
            return name, published
    return None
