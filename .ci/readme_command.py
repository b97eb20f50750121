"""Print a command that README shows, so that what is run is what is shown.

Usage: readme_command.py NAME, for the block after ``<!-- command: NAME -->``.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"


def readme_command(text: str, name: str) -> str:
    """Find a command in a text; there must be one of that name, of one line.

    Parameters
    ----------
    text : str
        Of README.
    name : str
        Which command.

    Returns
    -------
    str
        To be given to a shell.

    Raises
    ------
    LookupError
        If there is none, or several.
    """
    pattern = rf"<!-- command: {re.escape(name)} -->\n```sh\n([^\n]+)\n```"
    found = re.findall(pattern, text)
    if len(found) != 1:
        raise LookupError(f"README has {len(found)} commands marked {name!r}; it needs one")
    return str(found[0])


if __name__ == "__main__":
    print(readme_command(README.read_text(encoding="utf-8"), sys.argv[1]))
