"""dask.bag's own tests as an outside judge of the Bag and of the Dask scheduler.

The tests are read from the installed wheel and run in two ways: as they are, with `hstmap.dask.get`
as their scheduler; and with the names of `dask.bag` standing for hstmap's Bag, for every test that
does not look into a Dask graph. Nothing of them is copied. The lists below are complete: a test
that comes, goes or changes sides in another version of dask fails this module.
"""

from __future__ import annotations

import ast
import importlib.util
import math
import os
import subprocess
import sys
import types
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import hstmap
from hstmap.bag.engine import Engine, EngineOptions, InProcessEngine, make_engine

dask = pytest.importorskip("dask", reason="dask is not installed")
pytest.importorskip("scipy", reason="scipy is not installed, and five of the tests need it")

JUDGE = "dask.bag.tests.test_bag"

# -- the tests as they are, on hstmap.dask.get -----------------------------------------------------

N_PASSED = 198
SKIPPED = {"test_from_url", "test_from_s3"}  # the network, which dask's own runs skip, too
FAILED = {
    # Asserts that the file of a shuffle through `partd` outlives the computation, as it does in
    # the pool of processes that the test gives to the scheduler.
    "test_temporary_directory",
}

PLUGIN = """
import dask
import hstmap.dask


def pytest_configure(config):
    dask.config.set(scheduler=hstmap.dask.get)
"""


def test_dask_bag_passes_its_own_tests_on_our_scheduler(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "our_scheduler.py").write_text(PLUGIN)
    report = tmp_path / "report.xml"
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "pytest", "-p", "our_scheduler", "--pyargs", JUDGE, "-q"]
    subprocess.run(
        [*command, "-p", "no:cacheprovider", f"--junitxml={report}"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
        check=False,
    )

    outcomes: dict[str, list[str]] = {"passed": [], "failed": [], "skipped": []}
    for case in ET.parse(report).getroot().iter("testcase"):
        kinds = {child.tag for child in case}
        failed = kinds & {"failure", "error"}
        kind = "failed" if failed else "skipped" if "skipped" in kinds else "passed"
        outcomes[kind].append(case.get("name", ""))
    tell(capsys, f"dask.bag's tests on hstmap.dask.get: {numbers_of(outcomes)}")
    assert set(outcomes["failed"]) == FAILED
    assert set(outcomes["skipped"]) == SKIPPED
    assert len(outcomes["passed"]) == N_PASSED


def numbers_of(outcomes: dict[str, list[str]]) -> str:
    return ", ".join(f"{len(names)} {kind}" for kind, names in outcomes.items())


def tell(capsys: pytest.CaptureFixture[str], line: str) -> None:
    with capsys.disabled():
        sys.stdout.write(f"\n{line}\n")


# -- the tests with our Bag in the place of dask's -------------------------------------------------

RUN = [
    "test_bag_groupby_normal_hash",
    "test_bag_groupby_none",
    "test_bag_groupby_dataclass",
    "test_bag_map",
    "test_map_method",
    "test_starmap",
    "test_remove",
    "test_iter",
    "test_repr",
    "test_pluck",
    "test_pluck_with_default",
    "test_unzip",
    "test_fold",
    "test_fold_bag",
    "test_distinct",
    "test_distinct_with_key",
    "test_frequencies",
    "test_frequencies_sorted",
    "test_topk",
    "test_topk_with_non_callable_key",
    "test_topk_with_multiarg_lambda",
    "test_lambdas",
    "test_reductions",
    "test_aggregation",
    "test_non_splittable_reductions",
    "test_std",
    "test_var",
    "test_join",
    "test_foldby_tree_reduction",
    "test_map_partitions",
    "test_random_sample_size",
    "test_random_sample_prob_range",
    "test_random_sample_repeated_computation",
    "test_random_sample_different_definitions",
    "test_random_sample_random_state",
    "test_take",
    "test_take_npartitions",
    "test_take_npartitions_warn",
    "test_can_use_dict_to_make_concrete",
    "test_from_long_sequence",
    "test_from_empty_sequence",
    "test_product",
    "test_groupby",
    "test_groupby_with_indexer",
    "test_groupby_with_npartitions_changed",
    "test_groupby_with_scheduler_func",
    "test_concat",
    "test_flatten",
    "test_concat_after_map",
    "test_args",
    "test_string_namespace",
    "test_string_namespace_with_unicode",
    "test_str_empty_split",
    "test_map_with_iterator_function",
    "test_ensure_compute_output_is_concrete",
    "test_bag_class_extend",
    "test_zip",
    "test_repartition_partition_size",
    "test_multiple_repartition_partition_size",
    "test_repartition_partition_size_complex_dtypes",
    "test_repartition_names",
    "test_repartition_input_errors",
    "test_accumulate",
    "test_groupby_tasks_2",
    "test_groupby_tasks_3",
    "test_reduction_empty",
    "test_reduction_empty_aggregate",
    "test_reduction_with_non_comparable_objects",
    "test_reduction_with_sparse_matrices",
    "test_empty",
    "test_bag_picklable",
    "test_msgpack_unicode",
    "test_bag_with_single_callable",
    "test_reductions_are_lazy",
    "test_repeated_groupby",
    "test_empty_bag",
    "test_map_partitions_arg",
    "test_map_releases_element_references_as_soon_as_possible",
    "test_map_total_mem_usage",
]

N_CASES = 112

LEFT_OUT = {
    "tests functions inside dask, and no Bag at all": [
        "test_lazify_task",
        "test_lazify_task_legacy",
        "test_lazify",
        "test_map_is_lazy",
        "test_partition_collect",
        "test_reify_empty_iterator",
        "test_reify_iterator_of_iterators",
        "test_empty_safe_apply_with_fake_sparse",
        "test_empty_safe_apply_numpy",
        "test_empty_safe_apply_with_scipy_sparse",
    ],
    "looks into a Dask graph, or builds a Bag from one": [
        "test_Bag",
        "test_keys",
        "test_filter",
        "test_reduction_names",
        "test_tree_reductions",
        "test_foldby",
        "test_map_partitions_blockwise",
        "test_from_sequence",
        "test_range",
        "test_repartition_npartitions",
        "test_groupby_tasks",
        "test_groupby_tasks_names",
        "test_optimize_fuse_keys",
        "test_map_keynames",
        "test_dask_layers",
        "test_dask_layers_to_delayed",
        "test_default_partitioning_worker_saturation",
        "test_npartitions_saturation",
        "test_to_dataframe_optimize_graph",
        "test_to_delayed_optimize_graph",
    ],
    "reads or writes text files: keys and bytes are hstmap.storage's, and map can read anything": [
        "test_read_text",
        "test_read_text_large",
        "test_read_text_encoding",
        "test_read_text_large_gzip",
        "test_to_textfiles",
        "test_to_textfiles_name_function_preserves_order",
        "test_to_textfiles_name_function_warn",
        "test_to_textfiles_encoding",
        "test_to_textfiles_inputs",
        "test_to_textfiles_endlines",
        "test_to_textfiles_empty_partitions",
        "test_gh715",
        "test_bag_paths",
    ],
    "makes a bag of Delayed objects, or the other way round: hstmap.dask.get runs these": [
        "test_to_delayed",
        "test_from_delayed",
        "test_from_delayed_iterator",
        "test_bagged_array_delayed",
        "test_map_partitions_args_kwargs",
    ],
    "makes a dask.dataframe: ours is a pandas DataFrame": ["test_to_dataframe"],
    "expects keywords of compute that nobody knows to be ignored: ours are refused": [
        "test_bag_compute_forward_kwargs"
    ],
    "expects keys in the order of Dask's own hash": ["test_bag_groupby_pure_hash"],
    "expects the file of a shuffle in dask's temporary directory": ["test_temporary_directory"],
    "needs the network; dask's own runs skip it": ["test_from_url", "test_from_s3"],
}


class _AnyBag(type):
    """Makes dask's `Bag` of tests: every bag of ours is one, and it can be made of a dict."""

    def __instancecheck__(cls, thing: object) -> bool:
        return isinstance(thing, hstmap.Bag)

    def __call__(cls, *arguments: Any) -> Any:
        if len(arguments) == 1:
            return super().__call__(*arguments)
        graph, name, n_partitions = arguments
        partitions = [graph[name, index] for index in range(n_partitions)]
        numbers = hstmap.from_sequence(range(n_partitions), partition_size=1)
        return numbers.map_partitions(lambda index: _partition(partitions[next(iter(index))]))


def _partition(task: Any) -> Any:
    """Return what a task of a graph makes; anything but a task is a partition already."""
    if isinstance(task, tuple) and callable(task[0]):
        return list(task[0](*task[1:]))
    return task


class DaskBag(hstmap.Bag, metaclass=_AnyBag):
    """What the tests call `Bag`."""


def assert_eq(left: Any, right: Any) -> None:
    """Take the place of `dask.bag.utils.assert_eq`, which names a scheduler."""
    left, right = (side.compute() if hasattr(side, "compute") else side for side in (left, right))
    assert left == right


OUR_NAMES = {
    "Bag": DaskBag,
    "assert_eq": assert_eq,
    "dask": types.SimpleNamespace(
        compute=hstmap.compute, config=dask.config, delayed=dask.delayed, utils=dask.utils
    ),
    "pytest": types.SimpleNamespace(
        importorskip=pytest.importorskip,
        mark=types.SimpleNamespace(
            # Marks that no suite but dask's has; the tests that bear them are left out.
            network=lambda test: test,
            slow=lambda test: test,
            parametrize=pytest.mark.parametrize,
            skip=pytest.mark.skip,
            xfail=pytest.mark.xfail,
        ),
        raises=pytest.raises,
        skip=pytest.skip,
        warns=pytest.warns,
    ),
    "db": types.SimpleNamespace(
        Bag=DaskBag,
        Item=hstmap.Item,
        compute=hstmap.compute,
        concat=hstmap.concat,
        from_sequence=hstmap.from_sequence,
        map=hstmap.map,
        map_partitions=hstmap.map_partitions,
        range=hstmap.range,
        zip=hstmap.zip,
    ),
}


def judge_with_our_names() -> dict[str, Callable[..., None]]:
    """Run the source of dask's tests, with our names from its last import on."""
    spec = importlib.util.find_spec(JUDGE)
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text())
    imports = [
        n for n, node in enumerate(tree.body) if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    after = imports[-1] + 1
    tree.body[after:after] = ast.parse("globals().update(__our_names__)").body
    module = types.ModuleType("hstmap_judged_by_dask")
    module.__dict__["__our_names__"] = OUR_NAMES
    sys.modules[module.__name__] = module  # dataclasses look for their module
    exec(compile(tree, spec.origin, "exec"), module.__dict__)
    return {name: thing for name, thing in vars(module).items() if name.startswith("test_")}


JUDGE_TESTS = judge_with_our_names()
globals().update(
    {f"test_of_dask_{name[5:]}": JUDGE_TESTS[name] for name in RUN if name in JUDGE_TESTS}
)


COMPARES_BY_IDENTITY = "test_of_dask_repartition_partition_size_complex_dtypes"  # of arrays
HAS_A_GENERATOR = "test_of_dask_reductions_are_lazy"  # as a partition, which cannot travel
NOT_ELSEWHERE = {
    "objects": (),
    "stored": (COMPARES_BY_IDENTITY,),
    "lithops": (COMPARES_BY_IDENTITY, HAS_A_GENERATOR),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of dask in every way that results and functions can travel."""
    name = metafunc.definition.originalname
    if name.startswith("test_of_dask_"):
        ways = [way for way, names in NOT_ELSEWHERE.items() if name not in names]
        metafunc.parametrize("way", ways, indirect=True)


@pytest.fixture(scope="module")
def lithops_engine() -> Iterator[Engine]:
    with make_engine("lithops", EngineOptions(n_workers=2, stragglers=None)) as engine:
        yield engine


@pytest.fixture(autouse=True)
def way(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """Let results stay objects; or travel, every one of them through a store; or processes work."""
    chosen = getattr(request, "param", "objects")
    if chosen == "objects":
        yield
        return
    is_lithops = chosen == "lithops"
    engine = request.getfixturevalue("lithops_engine") if is_lithops else InProcessEngine()
    store = tmp_path / "spill"
    with hstmap.use_engine(engine, spill_url=str(store), inline_nbytes=100 if is_lithops else 0):
        yield
    assert not [path for path in store.rglob("*") if path.is_file()], "something was left behind"


def n_cases(function: Callable[..., None]) -> int:
    marks = [mark for mark in getattr(function, "pytestmark", ()) if mark.name == "parametrize"]
    return math.prod(len(mark.args[1]) for mark in marks)


def test_the_lists_are_complete(capsys: pytest.CaptureFixture[str]) -> None:
    left_out = [name for names in LEFT_OUT.values() for name in names]
    cases = sum(n_cases(JUDGE_TESTS[name]) for name in RUN if name in JUDGE_TESTS)
    tell(
        capsys,
        f"dask.bag's tests on our Bag: {len(RUN)} functions ({cases} cases) run, "
        f"{len(left_out)} left out",
    )
    assert sorted([*RUN, *left_out]) == sorted(JUDGE_TESTS)
    assert cases == N_CASES
