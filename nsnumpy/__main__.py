"""``python -m nsnumpy``."""

from .cli import program

raise SystemExit(program())
