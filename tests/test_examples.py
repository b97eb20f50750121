from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from hstmap.cli import main
from support.archive import write_archive, write_broken_files

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def test_first_look_says_what_a_person_wants_to_know(tmp_path):
    write_archive(tmp_path / "images", 3)
    write_broken_files(tmp_path / "images")
    out = tmp_path / "out"
    main(["map", str(tmp_path / "images"), "-o", str(out), "--engine", "inprocess", "--quiet"])
    shown = subprocess.run(
        [sys.executable, EXAMPLES / "first_look.py", out],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for expected in ("grism", "F125W", "F160W", "##", "Depth"):
        assert expected in shown
    main(["reduce", str(out), "--rows-a-file", "5", "--engine", "inprocess", "--quiet"])
    assert (out / "sources").is_dir()
    again = subprocess.run(
        [sys.executable, EXAMPLES / "first_look.py", out],
        capture_output=True,
        text=True,
        check=True,
    )
    assert again.stdout == shown
