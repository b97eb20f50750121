"""What a worker has imported when its first image comes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from hstmap.wfc3.simulate import simulate_flt
from hstmap.wfc3.simulate_scene import scene

BATCH = """
import importlib, json, sys
from hstmap.batch import Batch, ImageKey
from hstmap.pipeline import BATCH_MODULES
for name in BATCH_MODULES:
    importlib.import_module(name)
before = set(sys.modules)
from hstmap.worker import run_batch
report = run_batch(Batch((ImageKey("isim01a1q", sys.argv[1]),), sys.argv[2]))
print(json.dumps([report.outcomes, sorted(set(sys.modules) - before)]))
"""


def test_a_batch_finds_all_that_it_needs_imported(tmp_path: Path) -> None:
    """What each worker imported for itself would be in memory once a worker, not once."""
    image = simulate_flt(scene("sparse"), "isim01a1q")
    path = tmp_path / image.filename
    path.write_bytes(image.content)
    answer = subprocess.run(
        [sys.executable, "-c", BATCH, str(path), str(tmp_path / "out")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    outcomes, imported = json.loads(answer.stdout)
    assert outcomes == {"ok": 1}
    third_party = {name.partition(".")[0] for name in imported} - set(sys.stdlib_module_names)
    assert third_party == set()
