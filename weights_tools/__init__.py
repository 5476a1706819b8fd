"""Getting weights for nsnumpy: VGG files of every published format, fetched, converted, inspected, compared.

``python -m weights_tools`` is the command line. Nothing here runs code from a weight file, and no framework is needed.
"""

import sys

from nsnumpy.cli import hear_no_ctrl_c_yet

if sys.argv[:1] == ["-m"]:  # so Python calls it until it has found `__main__`: this is to be the program
    hear_no_ctrl_c_yet()

from .compare import Comparison, compare
from .convert import Found, Overrides, convert, read_any
from .fetch import FetchError, fetch
from .formats import FormatError
from .normalize import mean_activations, normalize

__all__ = [
    "Comparison",
    "FetchError",
    "FormatError",
    "Found",
    "Overrides",
    "compare",
    "convert",
    "fetch",
    "mean_activations",
    "normalize",
    "read_any",
]
