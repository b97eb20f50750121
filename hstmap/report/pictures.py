"""Writing pictures to wherever results can be."""

from __future__ import annotations

import io
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from hstmap.errors import UsageError
from hstmap.storage import open_store, split_url

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["PICTURE_SUFFIXES", "check_picture_name", "put_picture"]

PICTURE_SUFFIXES: Final = (".png", ".pdf", ".svg")


def check_picture_name(url: str) -> None:
    """Refuse a name that says no format, before anything is drawn.

    Parameters
    ----------
    url : str
        Path or URL of a file.

    Raises
    ------
    UsageError
        If it does not end in one of `PICTURE_SUFFIXES`.
    """
    if not url.endswith(PICTURE_SUFFIXES):
        raise UsageError(
            f"{url} is no name for a picture: end it with {', '.join(PICTURE_SUFFIXES)}"
        )


def put_picture(figure: Figure, url: str, dpi: int = 100) -> None:
    """Write a picture, in the format that its name says.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    url : str
        Path or URL of a file, one that `check_picture_name` takes; folders on the way are made.
    dpi : int
        Pixels an inch.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    content = io.BytesIO()
    figure.savefig(content, format=PurePath(url).suffix.removeprefix("."), dpi=dpi)
    root, key = split_url(url)
    open_store(root).put(key, content.getvalue())
