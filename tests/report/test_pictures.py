"""Pictures are written in the format that their name says, wherever results can be."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from hstmap.errors import StorageError, UsageError
from hstmap.report.pictures import PICTURE_SUFFIXES, check_picture_name, put_picture

#: How files of each kind begin.
MAGIC = {".png": b"\x89PNG\r\n", ".pdf": b"%PDF-", ".svg": b"<?xml"}


@pytest.mark.parametrize("suffix", PICTURE_SUFFIXES)
def test_the_ending_says_the_format(tmp_path, suffix):
    file = tmp_path / "made" / "on the way" / f"picture{suffix}"
    put_picture(Figure(figsize=(1, 1)), str(file))
    assert file.read_bytes().startswith(MAGIC[suffix])


@pytest.mark.parametrize("dpi", [50, 200])
def test_pictures_have_the_pixels_that_were_asked_for(tmp_path, dpi):
    file = tmp_path / "picture.png"
    put_picture(Figure(figsize=(2, 1)), str(file), dpi)
    # PNG (ISO/IEC 15948), 11.2.2: width and height follow the chunk's name.
    head = file.read_bytes()[16:24]
    assert (int.from_bytes(head[:4], "big"), int.from_bytes(head[4:], "big")) == (2 * dpi, dpi)


@pytest.mark.parametrize("name", ["picture", "picture.xyz", "picture.png.txt", "png", ""])
def test_a_name_without_a_format_is_refused(name):
    with pytest.raises(UsageError, match=r"is no name for a picture: end it with \.png, \.pdf"):
        check_picture_name(name)
    check_picture_name(f"s3://bucket/{name}.png")


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        put_picture(Figure(figsize=(1, 1)), str(tmp_path / "file" / "picture.png"))


def test_a_picture_can_go_to_a_bucket(s3_bucket):
    from hstmap.storage import open_store

    put_picture(Figure(figsize=(1, 1)), f"{s3_bucket}/plots/picture.png")
    assert open_store(s3_bucket).get("plots/picture.png").startswith(MAGIC[".png"])
