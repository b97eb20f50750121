from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from hstmap.cli import main
from support.archive import write_archive, write_broken_files

REPOSITORY = Path(__file__).resolve().parent.parent
EXAMPLES = REPOSITORY / "examples"


def blocks_of(page):
    """The Python that a page shows."""
    return re.findall(r"```python\n(.*?)```", (REPOSITORY / page).read_text(), re.DOTALL)


def test_what_the_first_page_does_with_a_summary_works(tmp_path, monkeypatch):
    write_archive(tmp_path / "images", 2)
    monkeypatch.chdir(tmp_path)
    main(["map", "images", "-o", "hstmap-out", "--engine", "inprocess", "--quiet"])
    (block,) = blocks_of("README.md")
    seen = {}
    monkeypatch.setenv("MPLBACKEND", "agg")
    exec(compile(block, "README.md", "exec"), seen)
    sources, unflagged = seen["sources"], seen["unflagged"]
    assert 0 < unflagged.sum() < len(sources)
    assert set(sources["flags"][unflagged]) <= {0, 32}
    assert not (set(sources["flags"][~unflagged]) & {0, 32})


@pytest.mark.parametrize(("sign", "shown"), [
    ("lambda_pricing", "Plan: 458 tasks in 4 stages"),
    ("drop_failures", "[('ZeroDivisionError', 1)]"),
])  # fmt: skip
def test_what_the_page_of_bags_shows_works(tmp_path, sign, shown):
    (block,) = (block for block in blocks_of("docs/bag.md") if sign in block)
    script = tmp_path / "block.py"  # a traceback has the line of a file
    script.write_text(block)
    answer = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert shown in answer.stdout


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
