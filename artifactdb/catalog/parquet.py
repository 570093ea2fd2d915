"""One Parquet file of the catalog, written from sorted batches: how it is encoded, and what is remembered of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from artifactdb.catalog.bloom import BloomBuilder
from artifactdb.catalog.columns import ARRAY_SCHEMA, SCHEMA, SORTED_BY
from artifactdb.catalog.files import OWNER, content_hash
from artifactdb.database import disk
from artifactdb.errors import StorageFullError

SCHEMAS = {"meta": SCHEMA, "data": ARRAY_SCHEMA}
ORDERS = {"meta": SORTED_BY, "data": ("array_id",)}
"""What the rows of a file are sorted by."""

ROWS_A_BATCH = 4_096
META_ROWS_A_GROUP = 65_536
DATA_ROWS_A_GROUP = 16_384
DATA_BYTES_A_GROUP = 8 << 20
_IDS = {"meta": "id", "data": "array_id"}


@dataclass(frozen=True, slots=True)
class Written:
    """What the workspace keeps of a file."""

    kind: str = ""
    rows: int = 0
    filter_bits: bytes = b""
    digest: bytes = b""


def write(
    batches: Iterable[pa.RecordBatch], path: Path, kind: str, owner: bytes, expected: int,
    progress: Callable[[int], None],
) -> Written:  # fmt: skip
    """Write sorted rows, and wait until they are on the disk.

    Parameters
    ----------
    owner : bytes
        As ``files.owner_of`` gives it.
    expected : int
        How many rows there are at the most.
    progress : callable
        Called with the rows written so far.
    """
    schema = SCHEMAS[kind]
    position = schema.get_field_index(_IDS[kind])
    filter_of_ids = BloomBuilder(expected)
    rows = 0
    try:
        with pq.ParquetWriter(path, schema, **_options(kind, schema, expected)) as writer:
            group: list[pa.RecordBatch] = []
            for batch in batches:
                group.append(batch)
                rows += batch.num_rows
                filter_of_ids.add(batch.column(position).to_pylist())
                if _is_full(kind, group):
                    _write_group(writer, group, schema)
                    group = []
                    progress(rows)
            if group or not rows:
                _write_group(writer, group, schema)
            writer.add_key_value_metadata({OWNER: owner})
    except pa.ArrowException as error:
        raise StorageFullError(f"{path} could not be written ({error}).", hint="Nothing was lost.") from error
    disk.sync(path)
    return Written(kind, rows, filter_of_ids.bits(), content_hash(path))


def written_of(path: Path, kind: str) -> Written:
    """Give what the workspace keeps of a file that was written before."""
    with pq.ParquetFile(path) as file:
        filter_of_ids = BloomBuilder(file.metadata.num_rows)
        for ids in ids_of(path, kind):
            filter_of_ids.add(ids)
        return Written(kind, file.metadata.num_rows, filter_of_ids.bits(), content_hash(path))


def ids_of(path: Path, kind: str) -> Iterator[list[str]]:
    """Give the ids of a file, some at a time."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS_A_BATCH, columns=[_IDS[kind]]):
            yield batch.column(0).to_pylist()


def _is_full(kind: str, group: list[pa.RecordBatch]) -> bool:
    rows: int = sum(batch.num_rows for batch in group)
    if kind == "meta":
        return rows >= META_ROWS_A_GROUP
    size_bytes: int = sum(batch.nbytes for batch in group)
    return rows >= DATA_ROWS_A_GROUP or size_bytes >= DATA_BYTES_A_GROUP


def _write_group(writer: pq.ParquetWriter, group: list[pa.RecordBatch], schema: pa.Schema) -> None:
    table = pa.Table.from_batches(group).cast(schema) if group else schema.empty_table()
    writer.write_table(table, row_group_size=max(1, table.num_rows))


def _options(kind: str, schema: pa.Schema, rows: int) -> dict[str, object]:
    """Say how a file is encoded.

    Rows are sorted by what people filter on, so that the least and greatest value of a row group tell whether it
    can be skipped; ids, which are spread over all groups, get Bloom filters instead. Floats are split into byte
    planes, which zstd packs better; texts are kept as dictionaries, but for those that never repeat.
    """
    if kind == "meta":
        unique = {"id", "scores", "y_pred_id", "y_proba_id"}
        texts = [field.name for field in schema if pa.types.is_string(field.type) and field.name not in unique]
        floats = [field.name for field in schema if pa.types.is_floating(field.type)]
        most = {"id": META_ROWS_A_GROUP, "model_artifact_id": 4096}
        # Before pyarrow 26 a filter takes the room of so many values, however few there are.
        filtered = {name: {"ndv": max(1, min(rows, values)), "fpp": 0.01} for name, values in most.items()}
        numbers = [field.name for field in schema if pa.types.is_integer(field.type)]
    else:
        texts, floats, numbers = ["array_type", "array_shape", "array_dtype"], ["array_data.list.element"], []
        filtered = {}
    return {
        "compression": "zstd",
        "use_dictionary": [*texts, *numbers],
        "use_byte_stream_split": floats,
        "write_page_checksum": True,
        "bloom_filter_options": filtered or None,
        "sorting_columns": [pq.SortingColumn(schema.get_field_index(name)) for name in ORDERS[kind]],
        "store_schema": False,
    }
