from __future__ import annotations

import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"


def test_the_page_of_columns_is_what_the_schema_says():
    subprocess.run([sys.executable, DOCS / "make_columns", "--check"], check=True)
