"""Neural style transfer (Gatys, Ecker, Bethge 2015) from scratch on NumPy and CuPy, every gradient by hand.

The public names are those of `nsnumpy.api`, which is loaded when one of them is asked for. So the command line, which
needs few of them, can answer Ctrl-C before NumPy is loaded.
"""

from typing import TYPE_CHECKING, Any

from ._version import __version__ as __version__

if TYPE_CHECKING:
    from .api import *  # noqa: F403
    from .api import __all__ as __all__
else:  # a type checker is to know the names above and no others

    def __getattr__(name: str) -> Any:
        if name == "api":  # Python's question before it imports the module
            raise AttributeError(name)
        from . import api

        globals().update({public: getattr(api, public) for public in api.__all__}, __all__=api.__all__)
        if name not in globals():
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return globals()[name]

    def __dir__() -> list[str]:
        return [*globals(), *__getattr__("__all__")]
