"""Fail if a test run skipped what it may not skip, or ran nothing.

Usage: check_skips.py RESULTS.xml ALLOWED.txt

RESULTS.xml is pytest's ``--junitxml``. ALLOWED.txt has a line for each test that may be skipped:
``tests.room.test_module::test_name`` (parameters left out), then whitespace and why. A line that
matches nothing is out of date, and an error too.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from pathlib import Path


def test_name(case: ET.Element) -> str:
    """Name a test without its parameters."""
    name = case.get("name", "").split("[")[0]
    return f"{case.get('classname')}::{name}" if case.get("classname") else name


def allowed_names(text: str) -> dict[str, str]:
    """Read the list of tests that may be skipped, with the reasons."""
    lines = [line.strip() for line in text.splitlines()]
    entries = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    without_reason = [entry[0] for entry in entries if len(entry) == 1]
    if without_reason:
        raise ValueError(f"no reason is given for {', '.join(without_reason)}")
    return {entry[0]: entry[1] for entry in entries}


def problems(results: str, allowed: str) -> list[str]:
    """Say what is wrong with a test run.

    Parameters
    ----------
    results : str
        Content of the XML file.
    allowed : str
        Content of the list.

    Returns
    -------
    list of str
        A line for each; empty if all is well.
    """
    cases = list(ET.fromstring(results).iter("testcase"))
    skipped = {
        test_name(case): reason.get("message", "")
        for case in cases
        for reason in case.findall("skipped")
    }
    may = allowed_names(allowed)
    ran = [case for case in cases if case.find("skipped") is None]
    return (
        ([] if ran else ["no test ran"])
        + [f"skipped: {name}: {why}" for name, why in skipped.items() if name not in may]
        + [f"may be skipped and was not: {name}" for name in may if name not in skipped]
    )


if __name__ == "__main__":
    found = problems(Path(sys.argv[1]).read_text(), Path(sys.argv[2]).read_text())
    for line in found:
        print(line, file=sys.stderr)
    sys.exit(bool(found))
