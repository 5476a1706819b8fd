"""``python -m nsnumpy``."""

from .cli import main

raise SystemExit(main())
