"""The command line: what `nsnumpy` is called with, and its exit status. Only this folder prints.

What takes long to load is imported inside the function: Ctrl-C meanwhile ends the program without a word.
"""

import signal
import sys


def program() -> int:
    """The program ``nsnumpy``: `main` on the command line that it was started with, with the right BLAS kernel."""
    hear_no_ctrl_c_yet()
    if sys.argv[1:] not in ([], ["-h"], ["--help"]):  # which do without NumPy
        import numpy  # noqa: F401 -- its BLAS is looked at

        from ..machine import restart_with_better_kernel

        restart_with_better_kernel()
    from .command import to_the_end
    from .main import main

    return to_the_end(main)


def hear_no_ctrl_c_yet() -> None:
    """Until a program deals with it, Ctrl-C ends it as the system does, with no traceback; who ignores it, does."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
