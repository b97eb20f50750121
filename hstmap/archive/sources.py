"""What a person names on a command line becomes a manifest.

A source is a manifest file, a text list of keys, a folder, a pattern, an ``s3://`` prefix, or a
single file. Several are merged, in the order given.
"""

from __future__ import annotations

import glob
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

from hstmap.archive.arrow_values import array_of
from hstmap.archive.image_names import Named, choose_products, join_companions, name_of
from hstmap.archive.keys import BUCKET_URL, PUBLIC_PREFIX, key_of
from hstmap.archive.manifest import Manifest
from hstmap.archive.manifest_files import MANIFEST_SUFFIXES
from hstmap.archive.manifest_rows import KEY_COLUMNS
from hstmap.errors import StorageError, UsageError
from hstmap.storage import join_url, open_store, split_url

if TYPE_CHECKING:
    from hstmap.storage import StorageOptions

__all__ = ["FITS_SUFFIXES", "resolve_sources"]

FITS_SUFFIXES: Final = (".fits", ".fits.gz", ".fit")
"""What is taken for an image in a folder, a pattern or a prefix."""

#: What a run has beside this file is FITS, too; who maps a folder may have its results in it.
_RUN_FILE: Final = "run.json"
_RESULTS: Final = ("catalogs/", "coverage.moc.fits")

_LIST_SUFFIXES: Final = (".txt", ".lst")
_GLOB: Final = re.compile(r"[*?\[]")
_ROOTNAME: Final = re.compile(r"[a-z0-9]{9}", re.IGNORECASE)
_MAST_URI: Final = re.compile(r"mast:HST/product/(?P<name>[^/]+)", re.IGNORECASE)


def resolve_sources(
    sources: Sequence[str],
    options: StorageOptions | None = None,
    *,
    product: str | None = None,
    stdin: TextIO | None = None,
) -> Manifest:
    """Return the manifest of all images that the sources name.

    Parameters
    ----------
    sources : sequence of str
        Each of them is one of

        - a manifest: ``.parquet``, ``.csv``, ``.ecsv``;
        - a list: ``.txt``, ``.lst`` or ``-`` for the standard input, with a path, a URL, a key of
          the archive (``hst/public/...``), a MAST URI or a nine-character rootname a line, and
          comments after ``#``;
        - a folder, searched with all below it, for the names that end in `FITS_SUFFIXES`, less
          the results of runs;
        - a pattern with ``*``, ``?``, ``[...]`` and, locally, ``**``; in an ``s3://`` pattern
          ``*`` also stands for ``/``;
        - ``s3://bucket/prefix``, listed;
        - a single file, whatever its name, as a path, a URL, a key of the archive or a rootname.
          Whether it exists shows when it is read.
    options : StorageOptions, optional
        How to reach S3.
    product : str, optional
        Use only this product (``'flt'``, ``'drz'``, ``'ima'``) of listed archive names. None: of
        several products of one rootname in a listing, the first that there is of flt, drz, ima
        and others.
    stdin : text file, optional
        What ``-`` reads; `sys.stdin` by default.

    Returns
    -------
    Manifest
        Its `notes` say what was left aside and why.

    Raises
    ------
    UsageError
        If a source matches nothing or cannot be read, or two files have one rootname.
    """
    if not sources:
        raise UsageError("no images were named: give a manifest, a list, a folder or files")
    if len(sources) == 1 and _kind(sources[0]) == "manifest":
        return Manifest.read(sources[0], options)
    finder = _Finder(options, product, stdin or sys.stdin, [])
    manifests: list[Manifest] = []
    files: dict[str, Named] = {}
    n_repeated = 0
    for source in sources:
        if _kind(source) == "manifest":
            manifests.append(Manifest.read(source, options))
            continue
        for file in finder.find(source):
            n_repeated += file.url in files
            # A listing knows the size, a single name does not: keep whichever does.
            if file.url not in files or files[file.url].nbytes is None:
                files[file.url] = file
    images, notes = join_companions(list(files.values()))
    if n_repeated:
        notes.append(f"{n_repeated:,} names came more than once: each file is used once")
    return _merge(images, manifests, " ".join(sources), (*finder.notes, *notes))


def _kind(source: str) -> str:
    """Tell a source by its name: "manifest", "list", or "" for what has to be looked at."""
    lower = source.lower()
    if source == "-" or lower.endswith(_LIST_SUFFIXES):
        return "list"
    return "manifest" if lower.endswith(MANIFEST_SUFFIXES) else ""


def _is_fits(name: str) -> bool:
    """Tell images by their name; hidden files are none (copies from a Mac hold ``._x.fits``)."""
    return name.lower().endswith(FITS_SUFFIXES) and not name.rpartition("/")[2].startswith(".")


@dataclass(frozen=True)
class _Finder:
    """Finds the files that sources name."""

    options: StorageOptions | None
    product: str | None
    stdin: TextIO
    notes: list[str]

    def find(self, source: str) -> Iterable[Named]:
        """Return the files of one source.

        Raises
        ------
        UsageError
            If there are none.
        """
        if _kind(source) == "list":
            return self._listed_in_text(source)
        if "://" in source:
            return self._remote(source)
        path = Path(source).expanduser()
        if path.is_dir():
            return self._listed(source, str(path), "")
        if path.exists():
            return [name_of(join_url(*split_url(source)))]
        return self._not_here(source)

    def _not_here(self, source: str) -> Iterable[Named]:
        """Return the files of a source that is no local file: the archive's, or a pattern's."""
        if source.startswith(PUBLIC_PREFIX):
            return self._remote(join_url(BUCKET_URL, source))
        if _GLOB.search(source):
            return self._matching(source)
        if not _is_fits(source) and not _names_archive_file(source):
            raise UsageError(f"{source} is neither a file nor a folder: check the name")
        return [name_of(self._url(source))]

    def _url(self, text: str) -> str:
        """Return where the file lies that a line of a list, or a source, names by itself."""
        if "://" in text:
            return join_url(*split_url(text))
        if text.startswith(PUBLIC_PREFIX):
            return join_url(BUCKET_URL, text)
        if _ROOTNAME.fullmatch(text):
            return join_url(BUCKET_URL, key_of(text, self.product or "flt"))
        match = _MAST_URI.fullmatch(text)
        if match:
            named = name_of(match["name"])
            return join_url(BUCKET_URL, key_of(named.rootname, named.product))
        return join_url(*split_url(text))

    def _listed_in_text(self, source: str) -> Iterator[Named]:
        """Yield the files of a text list."""
        if source == "-":
            name, text = "the standard input", self.stdin.read()
        else:
            name, text = source, self._read_text(source)
        n_found = 0
        for number, line in enumerate(text.splitlines(), 1):
            words = re.split(r"(?:^|\s)#", line, maxsplit=1)[0].strip()
            if not words:
                continue
            try:
                yield name_of(self._url(words))
            except UsageError as error:
                raise UsageError(f"line {number} of {name}: {error}") from error
            n_found += 1
        if not n_found:
            raise UsageError(f"{name} lists no image: one key, path or URL a line was expected")

    def _read_text(self, source: str) -> str:
        root, key = split_url(source)
        try:
            return open_store(root, self.options).get(key).decode("utf-8-sig")
        except StorageError as error:
            raise UsageError(f"cannot read the list {error}") from error
        except UnicodeDecodeError as error:
            raise UsageError(
                f"{source} is not a text list: byte {error.start} is not UTF-8. "
                "One key, path or URL a line was expected"
            ) from error

    def _remote(self, source: str) -> Iterable[Named]:
        root, key = split_url(source)
        if not root.startswith(("s3://", "memory://")):
            return self.find(join_url(root, key))
        if _GLOB.search(key):
            start = _GLOB.split(key, maxsplit=1)[0]
            return self._listed(source, root, start, pattern=key)
        if _is_fits(key):
            return [name_of(join_url(root, key))]
        return self._listed(source, root, key)

    def _matching(self, source: str) -> list[Named]:
        """Return the images that fit a local pattern, sorted by path."""
        # pathlib's glob takes no absolute pattern.
        matches = sorted(glob.glob(str(Path(source).expanduser()), recursive=True))  # noqa: PTH207
        paths = (match for match in matches if _is_fits(match) and Path(match).is_file())
        return self._chosen(source, [name_of(join_url(*split_url(path))) for path in paths])

    def _listed(self, source: str, root: str, prefix: str, pattern: str = "") -> list[Named]:
        """Return the images whose keys begin with the prefix, sorted by key."""
        store = open_store(root, self.options)
        infos, runs = [], []
        try:
            for info in store.list(prefix):
                if _is_fits(info.key) and (not pattern or fnmatchcase(info.key, pattern)):
                    infos.append(info)
                elif info.key.rpartition("/")[2] == _RUN_FILE and not pattern:
                    runs.append(info.key.removesuffix(_RUN_FILE))
        except StorageError as error:
            raise UsageError(f"cannot list {source}: {error}") from error
        results = tuple(run + name for run in runs for name in _RESULTS)
        images = [info for info in infos if not info.key.startswith(results)]
        if len(images) < len(infos):
            n_results = len(infos) - len(images)
            note = f"{n_results:,} FITS files are results of runs, and no images"
            if not images:
                raise UsageError(f"{source} holds no image: {note}")
            self.notes.append(f"{source}: {note}")
        found = [
            name_of(join_url(store.url, info.key), info.nbytes, info.etag or "") for info in images
        ]
        return self._chosen(source, sorted(found, key=lambda file: file.url))

    def _chosen(self, source: str, found: list[Named]) -> list[Named]:
        """Return what is used of a listing."""
        if not found:
            endings = ", ".join(FITS_SUFFIXES)
            raise UsageError(f"{source} holds no image: no name in it ends in {endings}")
        chosen, notes = choose_products(found, self.product)
        if not chosen:
            raise UsageError(f"{source} holds no image to use: {'; '.join(notes)}")
        self.notes.extend(f"{source}: {note}" for note in notes)
        return chosen


def _names_archive_file(source: str) -> bool:
    return bool(_ROOTNAME.fullmatch(source) or _MAST_URI.fullmatch(source))


def _merge(
    images: list[Named], manifests: list[Manifest], query: str, notes: tuple[str, ...]
) -> Manifest:
    """Put files and manifests into one manifest, with keys relative to what they share."""
    columns: dict[str, Any] = {
        "rootname": [image.rootname for image in images],
        "key": [image.url for image in images],
        "product": [image.product for image in images],
        "nbytes": [image.nbytes for image in images],
        "etag": [image.etag for image in images],
        "companion_key": [image.companion_url for image in images],
    }
    if manifests:
        columns = _joined(manifests, columns if images else {})
    store = _shared_root(columns["key"])
    if store is not None:
        n_cut = len(store.rstrip("/")) + 1
        for name in KEY_COLUMNS:
            if name in columns:
                columns[name] = [(url or "")[n_cut:] for url in columns[name]]
    provenance = {"notes": list(notes)} if notes else None
    return Manifest.from_columns(columns, store=store, query=query, provenance=provenance)


def _joined(manifests: Sequence[Manifest], columns: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Put the rows of manifests and of other images together; keys are lists of whole URLs."""
    import pyarrow as pa

    tables = []
    for manifest in manifests:
        table = manifest.table
        for name, urls in (("key", manifest.urls), ("companion_key", manifest.companion_urls)):
            if name in table.column_names:
                table = table.set_column(table.column_names.index(name), name, array_of(urls))
        tables.append(table)
    if columns:
        arrays = {name: array_of(values) for name, values in columns.items()}
        arrays["nbytes"] = arrays["nbytes"].cast(pa.int64())
        tables.append(pa.table(arrays))
    try:
        table = pa.concat_tables(tables, promote_options="default")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise UsageError(f"the manifests do not go together: {error}") from error
    return {
        name: table[name].to_pylist() if name in KEY_COLUMNS else table[name]
        for name in table.column_names
    }


def _shared_root(urls: list[str]) -> str | None:
    """Return the bucket or folder that all URLs lie in, None if they share none."""
    roots = Counter("/".join(url.split("/", 3)[:3]) if "://" in url else "/" for url in urls)
    if len(roots) > 1:
        return None
    root = next(iter(roots))
    if root != "/":
        return root
    first, last = min(urls), max(urls)
    n_shared = next(
        (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first)
    )
    return first[:n_shared].rpartition("/")[0] or "/"
