"""The order of a Parquet file's own metadata, which arro3 leaves to chance.

arro3 keeps the keys and values in a hash map, so that the same file comes out with its entries in
another order each time. Files of a run are compared by their bytes, so the entries are sorted.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from typing import IO, Final

__all__ = ["sort_metadata"]

#: Of a file, after its footer: the footer's size, and the letters PAR1.
_TAIL_NBYTES: Final = 8
#: Thrift's compact protocol: a field of bytes whose number is one more than that of the last one.
_BINARY_FIELD: Final = b"\x18"
_END_OF_STRUCT: Final = b"\x00"


def sort_metadata(file: IO[bytes], metadata: Mapping[str, str]) -> None:
    """Bring the entries of a file's metadata into the order of their keys, in place.

    Parameters
    ----------
    file : binary file
        A whole Parquet file, open for reading and writing; afterwards it is at its end.
    metadata : mapping of str to str
        Its entries, as they were given to the writer. They follow each other in the footer; if
        they do not, the file stays as it is.

    Notes
    -----
    Apache Parquet, ``parquet.thrift``: ``key_value_metadata`` is a list of ``KeyValue``, of which
    the first field is the key and the second the value. No size and no offset changes.
    """
    file.seek(-_TAIL_NBYTES, io.SEEK_END)
    (nbytes,) = struct.unpack("<I", file.read(4))
    file.seek(-_TAIL_NBYTES - nbytes, io.SEEK_END)
    footer = file.read(nbytes)
    entries = [_entry(key, metadata[key]) for key in sorted(metadata)]
    found = b"".join(sorted(entries, key=footer.find))
    if (start := footer.find(found)) >= 0:
        file.seek(-_TAIL_NBYTES - nbytes + start, io.SEEK_END)
        file.write(b"".join(entries))
    file.seek(0, io.SEEK_END)


def _entry(key: str, value: str) -> bytes:
    """Write a ``KeyValue``."""
    return _binary(key.encode()) + _binary(value.encode()) + _END_OF_STRUCT


def _binary(content: bytes) -> bytes:
    return _BINARY_FIELD + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    """Write a number by 7 bits a byte, the least first."""
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    digits.append(number)
    return bytes(digits)
