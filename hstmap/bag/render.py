"""Shows collections and plans to people: text always, SVG where Graphviz is there."""

from __future__ import annotations

import html
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from hstmap.bag.graph import Node, Source
from hstmap.bag.plan import Plan
from hstmap.errors import UsageError
from hstmap.storage import open_store, split_url

__all__ = ["Drawing", "count", "draw", "human_nbytes"]

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def count(number: int, noun: str, ending: str = "s") -> str:
    """Return a number and its noun, with the ending of its plural if there are several.

    Examples
    --------
    >>> count(1, "task"), count(1200, "task"), count(2, "batch", "es")
    ('1 task', '1,200 tasks', '2 batches')
    """
    return f"{number:,} {noun}{'' if number == 1 else ending}"


def human_nbytes(nbytes: int | None) -> str:
    """Return a number of bytes in three digits and decimal units; a dash for None.

    Examples
    --------
    >>> human_nbytes(1_234_567), human_nbytes(12), human_nbytes(None)
    ('1.23 MB', '12 B', '-')
    """
    if nbytes is None:
        return "-"
    size = float(nbytes)
    for unit in _UNITS:
        if size < 999.5 or unit == _UNITS[-1]:
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.3g} {unit}"


@dataclass(frozen=True)
class Drawing:
    """The stages of a computation, as text and in Graphviz' language.

    Shown as SVG by notebooks, where Graphviz is installed, and as text everywhere else.

    Parameters
    ----------
    text : str
    dot : str
    """

    text: str
    dot: str

    def __repr__(self) -> str:
        return self.text

    def svg(self) -> str:
        """Return the drawing as SVG.

        Raises
        ------
        UsageError
            If Graphviz is not installed.
        """
        if not _has_graphviz():
            raise UsageError(
                "an SVG needs Graphviz: install its program (apt install graphviz) and its Python "
                "package (pip install graphviz), or ask for a .txt or .dot file"
            )
        import graphviz

        return str(graphviz.Source(self.dot).pipe(format="svg", encoding="utf-8"))

    def save(self, filename: str) -> None:
        """Write a ``.txt``, ``.dot`` or ``.svg`` file, to a path or a URL.

        Raises
        ------
        UsageError
            If the name ends otherwise, or for ``.svg`` without Graphviz.
        """
        suffix = PurePath(filename).suffix
        if suffix == ".svg":
            content = self.svg()
        elif suffix in (".txt", ".dot"):
            content = self.text if suffix == ".txt" else self.dot
        else:
            raise UsageError(f"{filename!r} ends in {suffix!r}; give .svg, .txt or .dot")
        folder, name = split_url(filename)
        open_store(folder).put(name, f"{content.rstrip()}\n".encode())

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        bundle = {"text/plain": self.text, "text/html": f"<pre>{html.escape(self.text)}</pre>"}
        if _has_graphviz():
            bundle["image/svg+xml"] = self.svg()
            del bundle["text/html"]
        return bundle


def _has_graphviz() -> bool:
    if shutil.which("dot") is None:
        return False
    import importlib.util

    return importlib.util.find_spec("graphviz") is not None


def draw(plan: Plan) -> Drawing:
    """Draw a plan: a box for what shares a task, an arrow for what it reads."""
    names: dict[Node, str] = {}
    lines: list[str] = []
    dot = ["digraph plan {", "  rankdir=TB;", '  node [shape=box, fontname="Helvetica"];']
    for stage in plan.stages:
        lines.append(f"stage {stage.level}: {count(stage.n_tasks, 'task')}")
        for part in stage.parts:
            name = names[part.root] = f"{stage.level}.{len(names)}"
            reads = [names[node] for node in part.inputs if node in names]
            suffix = f"  (reads {', '.join(reads)})" if reads else ""
            lines.append(f"  [{name}] {part.name} x {part.n_tasks:,}{suffix}")
            label = f"{part.name}\n{count(part.n_tasks, 'task')}"
            dot.append(f"  {_quoted(name)} [label={_quoted(label)}];")
            dot += [f"  {_quoted(read)} -> {_quoted(name)};" for read in reads]
            dot += _source_boxes(part.inputs, name)
    if not lines:
        lines.append(f"nothing to run: {_labels(plan.targets)}")
    dot.append("}")
    return Drawing("\n".join(lines), "\n".join(dot))


def _source_boxes(inputs: Sequence[Node], reader: str) -> list[str]:
    lines = []
    for number, node in enumerate(inputs):
        if isinstance(node.operation, Source):
            name = f"{reader}-source-{number}"
            label = f"{node.label}\n{count(node.n_partitions, 'partition')}"
            lines.append(f"  {_quoted(name)} [label={_quoted(label)}, style=dashed];")
            lines.append(f"  {_quoted(name)} -> {_quoted(reader)};")
    return lines


def _labels(nodes: Sequence[Node]) -> str:
    return ", ".join(node.label for node in nodes)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
