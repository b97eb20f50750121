"""The documentation says what is so, and what checks that sees what is not."""

from __future__ import annotations

import argparse
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest

from hstmap.cli import build_parser

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def check() -> ModuleType:
    """The script docs/check, as a module."""
    loader = SourceFileLoader("docs_check", str(REPOSITORY / "docs" / "check"))
    spec = spec_from_loader("docs_check", loader)
    assert spec is not None
    module = module_from_spec(spec)
    write_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = write_bytecode
    return module


@pytest.fixture(scope="module")
def parser() -> argparse.ArgumentParser:
    return build_parser()


def test_the_documentation_has_no_mistakes() -> None:
    answer = subprocess.run(
        [sys.executable, str(REPOSITORY / "docs" / "check")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (answer.returncode, answer.stdout) == (0, "documentation: 0 mistakes\n")


def test_the_page_of_columns_is_what_the_schema_says() -> None:
    subprocess.run(
        [sys.executable, str(REPOSITORY / "docs" / "make_columns"), "--check"], check=True
    )


def test_every_decision_is_in_the_list() -> None:
    folder = REPOSITORY / "docs" / "decisions"
    listed = (folder / "README.md").read_text()
    names = sorted(path.name for path in folder.glob("[0-9]*.md"))
    assert [name[:4] for name in names] == [f"{i:04d}" for i in range(1, len(names) + 1)]
    for name in names:
        number, _, title = (folder / name).read_text().splitlines()[0].partition(". ")
        assert number == f"# {int(name[:4])}"
        assert f"[{name[:4]}]({name}) | {title} |" in listed


PAGE = """\
# A page

## Two `words` [here](#a-page)

## Twice
## Twice

```python
# not a heading
x = 1
```
"""


def test_headings_can_be_linked_to_as_on_github(check: ModuleType) -> None:
    assert check.anchors(PAGE) == {"a-page", "two-words-here", "twice", "twice-1"}


@pytest.mark.parametrize(
    ("link", "n_broken"),
    [
        ("other.md", 0),
        ("other.md#there", 0),
        ("#a-page", 0),
        ("https://example.org/nowhere", 0),
        ("mailto:a@example.org", 0),
        ("missing.md", 1),
        ("other.md#not-there", 1),
        ("#nowhere", 1),
    ],
)
def test_links_are_followed(check: ModuleType, tmp_path: Path, link: str, n_broken: int) -> None:
    (tmp_path / "other.md").write_text("# There\n")
    page = tmp_path / "page.md"
    page.write_text(f"{PAGE}\n[a link]({link}) and ![a picture]({link})\n")
    broken = list(check.broken_links(page, page.read_text()))
    assert len(broken) == 2 * n_broken


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        ("hstmap map a.fits --limit 3", [["map", "a.fits", "--limit", "3"]]),
        ("python -m hstmap reduce OUT > log.txt", [["reduce", "OUT"]]),
        (".venv/bin/python3.12 -m hstmap map && echo done", [["map"]]),
        ("A=1 .venv/bin/hstmap map; hstmap reduce OUT", [["map"], ["reduce", "OUT"]]),
        ("hstmap map 's3://a b/c'", [["map", "s3://a b/c"]]),
        ("hstmap map \\\n    --limit 1", [["map", "--limit", "1"]]),
        ("cat hstmap", []),
        ("python -m hstmap_other map", []),
        ("echo 1 > hstmap", []),
    ],
)
def test_commands_are_found_in_shell(
    check: ModuleType, line: str, arguments: list[list[str]]
) -> None:
    assert list(check.shown_commands(f"```sh\n{line}\n```\n")) == arguments


def test_consoles_show_commands_after_a_prompt(check: ModuleType) -> None:
    text = "```console\n$ hstmap map\nhstmap said this\n```\n\n```text\nhstmap map\n```\n"
    assert list(check.shown_commands(text)) == [["map"]]


def test_the_real_parser_decides(check: ModuleType, parser: argparse.ArgumentParser) -> None:
    assert check.refused(parser, ["map", "a.fits", "--limit", "3"]) is None
    assert check.refused(parser, ["map", "--help"]) is None
    assert "--lmit" in check.refused(parser, ["map", "--lmit", "3"])
    assert "fly" in check.refused(parser, ["fly"])


@pytest.mark.parametrize(
    ("text", "n_unknown"),
    [
        ("use `hstmap map --limit N` or `python -m hstmap reduce OUT`", 0),
        ("`hstmap`, `hstmap.bag` and `hstmap --version`", 0),
        ("`hstmap fly`", 1),
        ("`hstmap map --fly --limit 3`", 1),
    ],
)
def test_commands_in_passing_exist(
    check: ModuleType, parser: argparse.ArgumentParser, text: str, n_unknown: int
) -> None:
    assert len(list(check.unknown_names(parser, text))) == n_unknown


def test_python_must_be_python(check: ModuleType) -> None:
    assert list(check.bad_python("```python\nx = 1\n```\n")) == []
    assert len(list(check.bad_python("```python\nx = = 1\n```\n"))) == 1


def test_paths_of_one_machine_are_seen(check: ModuleType) -> None:
    somebody = next(
        path for path in sorted(Path("/").iterdir())
        if path.is_dir() and path.name not in check.SYSTEM_FOLDERS | {"home"}
    )  # fmt: skip
    assert list(check.foreign_paths(f"see {somebody}/notes")) == [
        f"a path of one machine: {somebody}/notes"
    ]
    for text in (
        "/usr/bin/env",
        "https://x.org/a/b",
        "and/or/not",
        "/no-such-folder/x",
        "~/.aws/x",
    ):
        assert list(check.foreign_paths(text)) == []
