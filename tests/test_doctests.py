"""The examples in the docstrings of every module of the algorithm run and are true."""

import doctest
import importlib
import pkgutil

import pytest

import nsnumpy

MODULES = [
    module.name for module in pkgutil.walk_packages(nsnumpy.__path__, "nsnumpy.") if module.name != "nsnumpy.__main__"
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples():
    attempted = sum(doctest.testmod(importlib.import_module(name)).attempted for name in MODULES)
    assert attempted >= 8
