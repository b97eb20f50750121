"""The manifest: which images there are, one row an image, as a file that people can keep.

A manifest is checked as a whole before any work: names are unique, keys are there, numbers are
numbers. Its content hash is that of its rows, whatever file they were read from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hstmap.archive.arrow_values import scalar_of
from hstmap.archive.manifest_rows import (
    MANIFEST_COLUMNS,
    SCHEMA_VERSION,
    as_array,
    canonical_table,
    check_columns,
    check_rows,
    hash_rows,
    values_of,
)
from hstmap.archive.plain_rows import plain_rows
from hstmap.errors import UsageError
from hstmap.storage import join_url, split_url

if TYPE_CHECKING:
    import pyarrow as pa
    from arro3.core import Table

    from hstmap.storage import StorageOptions

__all__ = ["MANIFEST_COLUMNS", "SCHEMA_VERSION", "Manifest"]


@dataclass(frozen=True, eq=False)
class Manifest:
    """The images of a run, one row an image, checked and in one canonical form.

    Made by `from_rows`, `from_columns`, `from_table` and `read`. An unknown text is empty and an
    unknown number null; integers are int64 and fractions float64. The rows are held without
    pyarrow, which a map of a folder never needs, and which is half of the memory of its client.

    Parameters
    ----------
    rows : arro3.core.Table
        The rows; columns as `MANIFEST_COLUMNS` describes them. `table` is the same for pyarrow.
    store : str or None
        URL that the keys are relative to; None if each key is a URL or path of its own.
    query : str
        What was asked to get these rows: a question to the archive, or the sources given.
    created : str
        When, in UTC (ISO 8601).
    provenance : dict
        What else is to be known of the answer: the rows that the archive counted and those that
        came, when keys were verified. Plain values, kept in the file as they are. ``notes`` is a
        list of lines for people, such as what was left aside.
    """

    rows: Table
    store: str | None = None
    query: str = ""
    created: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_rows(
        cls, rows: Iterable[Mapping[str, object]], *, store: str | None = None, query: str = ""
    ) -> Manifest:
        """Make a manifest of rows; a column that a row lacks is unknown there.

        Raises
        ------
        UsageError
            If the rows are not those of a manifest; names the row and the column.
        """
        listed = list(rows)
        names = dict.fromkeys(name for row in listed for name in row)
        columns = {name: [row.get(name) for row in listed] for name in names}
        return cls.from_columns(columns, store=store, query=query)

    @classmethod
    def from_columns(
        cls,
        columns: Mapping[str, Sequence[object] | pa.Array | pa.ChunkedArray],
        *,
        store: str | None = None,
        query: str = "",
        provenance: Mapping[str, Any] | None = None,
    ) -> Manifest:
        """Make a manifest of columns of one length.

        Raises
        ------
        UsageError
            As `from_rows`.
        """
        lengths = {name: len(values) for name, values in columns.items()}
        if len(set(lengths.values())) > 1:
            raise UsageError(f"the manifest's columns differ in length: {lengths}")
        check_columns(list(columns))
        rows = plain_rows(columns)
        if rows is not None:
            return cls._checked(rows, store, query, provenance=provenance)
        import pyarrow as pa

        table = pa.table({name: as_array(name, values) for name, values in columns.items()})
        return cls.from_table(table, store=store, query=query, provenance=provenance)

    @classmethod
    def from_table(
        cls,
        table: pa.Table,
        *,
        store: str | None = None,
        query: str = "",
        created: str = "",
        provenance: Mapping[str, Any] | None = None,
    ) -> Manifest:
        """Make a manifest of a table, whose columns are brought to their canonical types.

        Raises
        ------
        UsageError
            As `from_rows`.
        """
        check_columns(table.column_names)
        rows = _held(canonical_table(table))
        return cls._checked(rows, store, query, created, provenance)

    @classmethod
    def _checked(
        cls,
        rows: Table,
        store: str | None,
        query: str,
        created: str = "",
        provenance: Mapping[str, Any] | None = None,
    ) -> Manifest:
        """Make a manifest of canonical rows, if a run could account for them."""
        check_rows(rows, store)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        root = store.rstrip("/") or "/" if store else None
        return cls(rows, root, query, created or now, dict(provenance or {}))

    @classmethod
    def read(cls, url: str, options: StorageOptions | None = None) -> Manifest:
        """Read a manifest from a ``.parquet``, ``.csv`` or ``.ecsv`` file.

        Raises
        ------
        UsageError
            If there is no such file, it cannot be decoded, or its rows are not a manifest's.
        """
        from hstmap.archive.manifest_files import read_table

        table, metadata = read_table(url, options)
        try:
            return cls.from_table(
                table,
                store=metadata.get("store"),
                query=metadata.get("query", ""),
                created=metadata.get("created", ""),
                provenance=metadata.get("provenance"),
            )
        except UsageError as error:
            raise UsageError(f"{url}: {error}") from error

    def write(self, url: str, options: StorageOptions | None = None) -> None:
        """Write a ``.parquet``, ``.csv`` or ``.ecsv`` file, whole or not at all.

        Raises
        ------
        UsageError
            If the name ends otherwise.
        StorageError
            If it cannot be written there.
        """
        from hstmap.archive.manifest_files import write_table

        write_table(self, url, options)

    def __len__(self) -> int:
        return int(self.rows.num_rows)

    @cached_property
    def table(self) -> pa.Table:
        """The rows as a `pyarrow.Table`, which shares their memory."""
        import pyarrow as pa

        # `pyarrow.table` would import pandas, to see whether that is what it is given.
        return pa.RecordBatchReader.from_stream(self.rows).read_all()

    @property
    def column_names(self) -> list[str]:
        """What is known of the images."""
        names: list[str] = self.rows.column_names
        return names

    def values(self, column: str) -> list[Any]:
        """Return a column's values, None for an unknown number.

        Raises
        ------
        KeyError
            If there is no such column.
        """
        if column not in self.column_names:
            raise KeyError(column)
        return values_of(self.rows, column)

    @property
    def metadata(self) -> dict[str, Any]:
        """What is written beside the rows."""
        return {
            "schema_version": SCHEMA_VERSION,
            "content_hash": self.content_hash,
            "store": self.store,
            "query": self.query,
            "created": self.created,
            "provenance": dict(self.provenance),
        }

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines for people: what they should know of how the manifest was made."""
        return tuple(self.provenance.get("notes", ()))

    @property
    def urls(self) -> list[str]:
        """Where each image lies; relative paths are those of the current folder, made absolute."""
        return self._urls("key")

    @property
    def companion_urls(self) -> list[str]:
        """Where the weight or error image of each bare science image lies; empty if there is none.

        Returns
        -------
        list of str
            As long as the manifest.
        """
        if "companion_key" not in self.column_names:
            return [""] * len(self)
        return self._urls("companion_key")

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of the store and the rows in their order, in hex.

        The same for every file format. Columns in which nothing is known do not count, nor does
        the order of the columns, nor `query` and `created`.
        """
        return hash_rows(self.rows, self.store)

    def filter(self, **values: str | int | float) -> Manifest:
        """Return the rows whose columns have these values; text is compared without its case.

        Raises
        ------
        UsageError
            If there is no such column, if rows do not know theirs (dropping them in silence would
            lose images), or if no row fits.

        Examples
        --------
        >>> manifest.filter(filter="F160W", product="flt")  # doctest: +SKIP
        """
        import pyarrow.compute as pc

        table = self.table
        for name, value in values.items():
            if name not in self.column_names:
                raise UsageError(
                    f"cannot choose by {name}: the manifest has the columns "
                    f"{', '.join(self.column_names)}"
                )
            column = table[name]
            is_text = MANIFEST_COLUMNS.get(name, (str(column.type), ""))[0] == "string"
            unknown = (
                pc.sum(pc.equal(column, scalar_of("")) if is_text else pc.is_null(column)).as_py()
                or 0
            )
            if unknown:
                raise UsageError(
                    f"cannot choose by {name}: {unknown} of {len(column)} rows of the manifest do "
                    "not say theirs. Give a manifest that knows it for every image "
                    "(hstmap manifest makes one)"
                )
            wanted = scalar_of(str(value).lower() if is_text else value)
            table = table.filter(pc.equal(pc.utf8_lower(column) if is_text else column, wanted))
            if not table.num_rows:
                found = ", ".join(map(str, pc.unique(column).to_pylist()[:12]))
                raise UsageError(f"no image of the manifest has {name} {value}: there are {found}")
        return replace(self, rows=_held(table))

    def head(self, n_rows: int) -> Manifest:
        """Return the first `n_rows` rows.

        Raises
        ------
        UsageError
            If `n_rows` is below 1.
        """
        if n_rows < 1:
            raise UsageError(f"asked for the first {n_rows} images: give a number above 0")
        return replace(self, rows=self.rows.slice(0, min(n_rows, len(self))))

    def _urls(self, column: str) -> list[str]:
        keys: list[str] = self.values(column)
        if self.store is None:
            # A worker's current folder is not the one in which a relative path was written.
            return [
                join_url(*split_url(key)) if key and key[0] != "/" and "://" not in key else key
                for key in keys
            ]
        return [join_url(self.store, key) if key else "" for key in keys]


def _held(table: pa.Table) -> Table:
    """Return a table as a manifest holds it, in one piece and in the same memory."""
    from arro3.core import Table

    return Table.from_arrow(table.combine_chunks())
