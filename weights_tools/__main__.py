"""``python -m weights_tools``."""

from nsnumpy.cli.command import to_the_end

from .cli import main

raise SystemExit(to_the_end(main))
