"""What docs/bag.md shows is true: its code runs, and its plan is the plan."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import hstmap

PAGE = (Path(__file__).parents[2] / "docs" / "bag.md").read_text()


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
def test_the_code_runs(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "import dask" in block:
        pytest.importorskip("dask", reason="dask is not installed")
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "docs/bag.md", "exec"), {"__name__": "docs"})


def test_the_plan_is_the_plan() -> None:
    (shown,) = re.findall(r"```text\n(Plan.*?)```", PAGE, re.DOTALL)
    numbers = hstmap.from_sequence(range(1000), npartitions=20)
    total = numbers.map(lambda x: x * x).filter(lambda x: x % 2).sum()
    assert repr(total.plan()) == shown.rstrip()


def test_every_method_that_users_see_is_dasks_or_is_named_as_ours() -> None:
    db = pytest.importorskip("dask.bag", reason="dask is not installed")
    public = {name for name in dir(hstmap.Bag) if not name.startswith("_")}
    assert public - set(dir(db.Bag)) == {"plan", "failures", "drop_failures", "npartitions", "name"}
    theirs = {name for name in dir(db.Bag) if not name.startswith("_")} - public
    for name in theirs:
        assert f"`{name}`" in PAGE, f"docs/bag.md does not say why there is no {name}"


def test_arguments_have_the_order_of_dask() -> None:
    import inspect

    db = pytest.importorskip("dask.bag", reason="dask is not installed")
    left_out = {("to_dataframe", "optimize_graph")}
    replaced = {"compute", "persist", "visualize"}  # by engines, and by drawings of stages
    names = [
        name
        for name in dir(hstmap.Bag)
        if not name.startswith("_") and callable(getattr(db.Bag, name, None))
    ]
    assert len(names) > 30
    for name in sorted(set(names) - replaced):
        mine = list(inspect.signature(getattr(hstmap.Bag, name)).parameters)
        theirs = list(inspect.signature(getattr(db.Bag, name)).parameters)
        assert mine == [each for each in theirs if (name, each) not in left_out], name
