"""The examples in the docstrings of every module of the algorithm run and are true."""

import doctest
import importlib.util
import pkgutil
from pathlib import Path

import pytest

import nsnumpy

MODULES = [module.name for module in pkgutil.walk_packages(nsnumpy.__path__, "nsnumpy.")]
WITH_EXAMPLES = [name for name in MODULES if ">>> " in Path(importlib.util.find_spec(name).origin).read_text()]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples(name):
    done = doctest.testmod(importlib.import_module(name))
    assert done.attempted > 0
    assert done.failed == 0


def test_there_are_examples():
    assert len(MODULES) > len(WITH_EXAMPLES) >= 5
