"""What was read of a store before, so that ten thousand runs are not read for every table.

One Parquet file a store and kind of content, in the cache folder. Every row has the ``key`` of its
run, which is made of the stamps of the run's files, so no row counts once a file has changed. All
of it may be deleted at any time: what is not there, cannot be read or was made by other versions
is read from the runs again, and where nothing can be written nothing is remembered.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tsp.atomic import replacing
from tsp.paths import cache_dir
from tsp.provenance import versions
from tsp.store.archive import without_nulls

Read = Callable[[Sequence[int]], Iterable[tuple[Sequence[int], pa.Table, Sequence[int]]]]
FORMAT = 1
CUTS = 2000  # so many parts of a table are put in another order without a copy
FEW = 25  # one run in so many is read again and again, rather than all others written anew for it
SETTLED = 2.0  # seconds; a younger file may yet change and keep its stamp, clocks being coarse


def key(run_id: str, place: Path) -> str:
    """Name a run as the files of its folder, or its pack, are now: its id and a hash.

    While they are young it is the id alone, and nothing is remembered of the run.

    Raises
    ------
    OSError
        If the files cannot be examined.
    """
    folder = place.suffix != ".parquet"
    files = os.scandir(place) if folder else [place]
    told = [(it.name, it.stat(follow_symlinks=False)) for it in files]
    if max((it.st_ctime for _, it in told), default=0.0) > time.time() - SETTLED:
        return run_id
    stamps = [(name, it.st_ino, it.st_size, it.st_mtime_ns, it.st_ctime_ns) for name, it in told]
    return f"{run_id} {blake2b(repr(stamps).encode(), digest_size=12).hexdigest()}"


def recall(root: Path, name: str) -> pa.Table | None:
    """Rows of one kind that are known of the runs in a store's folder, or None."""
    file, checks = _folder(root) / f"{name}.parquet", {"page_checksum_verification": True}
    try:
        table = pq.read_table(file, read_dictionary=["key"], **checks)
    except (OSError, pa.ArrowException):
        return None
    mine = table.schema.metadata == _sign() and table.column_names[:1] == ["key"]
    return table.unify_dictionaries() if mine else None


def keep(root: Path, name: str, table: pa.Table) -> None:
    """Remember rows of one kind, ``key`` as a dictionary, in place of those that were known."""
    names = table["key"].unique().to_pylist()
    old = {one for one in names if " " in one}
    if not old:
        return
    if len(old) < len(names):
        table = _only(table, old)
    table = table.replace_schema_metadata(_sign())
    with suppress(OSError), replacing(_folder(root) / f"{name}.parquet") as work:
        pq.write_table(
            table, work, row_group_size=2**17, compression="zstd", write_page_checksum=True
        )


def forget(root: Path) -> None:
    """Forget a store."""
    shutil.rmtree(_folder(root), ignore_errors=True)


def rows(root: Path, name: str, keys: Sequence[str], read: Read) -> pa.Table:
    """Rows of one kind of several runs, one run under the other: what is known, and the rest read.

    Parameters
    ----------
    root, name
        The store's folder and the kind.
    keys
        Of the runs, in the order of ids; an id alone for files that are young.
    read
        Gives the rows of runs in some places of ``keys``, in portions: places, their rows one run
        under the other, and how many each has.
    """
    known = recall(root, name)
    there = set() if known is None else set(known["key"].unique().to_pylist())
    fresh = [place for place, one in enumerate(keys) if one not in there]
    if known is not None and not fresh and len(there) == len(keys):
        return known
    parts = [_with_keys(it, [keys[k] for k in places], many) for places, it, many in read(fresh)]
    gone = there.difference(keys)
    if known is not None:
        parts.append(without_nulls(_only(known, set(keys))) if gone else known)
    both = _in_order(_together(parts), keys)
    if worth(len(fresh) + len(gone), len(keys)):
        keep(root, name, both)
    return both


def worth(changed: int, runs: int) -> bool:
    """Whether so many runs that came, went or changed are worth writing all anew."""
    return changed * FEW >= runs


def _in_order(table: pa.Table, keys: Sequence[str]) -> pa.Table:
    """The rows in the order of their keys."""
    order = {one: place for place, one in enumerate(keys)}
    coded = table["key"].combine_chunks()
    codes = np.array([order.get(one, -1) for one in coded.dictionary.to_pylist()])
    rows = np.argsort(codes[coded.indices.to_numpy()], kind="stable")
    cuts = np.flatnonzero(np.diff(rows) != 1) + 1
    if len(cuts) > CUTS:
        return table.take(rows)
    starts, ends = [0, *cuts], [*cuts, len(rows)]
    parts = [table.slice(rows[a], b - a) for a, b in zip(starts, ends, strict=True) if b > a]
    return pa.concat_tables(parts) if parts else table


def _together(tables: Sequence[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables, promote_options="permissive").unify_dictionaries()


def _only(table: pa.Table, keys: set[str]) -> pa.Table:
    coded = table["key"].combine_chunks()
    wanted = np.array([one in keys for one in coded.dictionary.to_pylist()])
    return table.filter(pa.array(wanted[coded.indices.to_numpy()]))


def _with_keys(table: pa.Table, keys: Sequence[str], many: Sequence[int]) -> pa.Table:
    coded = np.repeat(np.arange(len(keys), dtype=np.int32), many)
    column = pa.DictionaryArray.from_arrays(coded, list(keys))
    return table.add_column(0, "key", column).replace_schema_metadata()


def _folder(root: Path) -> Path:
    place = blake2b(str(root.resolve()).encode(), digest_size=8).hexdigest()
    return cache_dir() / "stores" / place


def _sign() -> dict[bytes, bytes]:
    """Content of other versions is not taken for one's own."""
    return {b"tsp": repr((FORMAT, versions())).encode()}
