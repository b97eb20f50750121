"""``python -m hstmap``."""

from __future__ import annotations

import sys

from hstmap.cli import main

if __name__ == "__main__":
    sys.exit(main())
