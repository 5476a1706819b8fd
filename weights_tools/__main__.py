"""``python -m weights_tools``."""

from .cli import main

raise SystemExit(main())
