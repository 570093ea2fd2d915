"""Tables of pyarrow as Arrow IPC streams, which every Arrow library reads."""

from __future__ import annotations

from typing import Any

from artifactdb.content import Content, Segment, StoredContent
from artifactdb.errors import DeserializationError
from artifactdb.formats.arrow_messages import facts
from artifactdb.formats.serializer import Dumped

_KINDS = frozenset({("pyarrow.lib", "Table"), ("pyarrow.lib", "RecordBatch")})
_SINGLE = {"artifactdb": "RecordBatch"}
"""Said of the one batch of a stream that was a RecordBatch and no Table; other readers pass over it."""
_BUILT_IN_EXTENSIONS = frozenset(
    {b"arrow.bool8", b"arrow.fixed_shape_tensor", b"arrow.json", b"arrow.opaque", b"arrow.uuid"}
)
"""Types that Arrow itself knows. What a file says of another goes to a Python class, where one is registered."""


class ArrowSerializer:
    """``pyarrow.Table`` and ``pyarrow.RecordBatch``, their metadata included."""

    name = "arrow"
    extension = "arrows"
    executable = False

    def takes(self, obj: Any) -> bool:
        """Tell whether an object is a table or a batch, without importing pyarrow."""
        kind = type(obj)
        return (kind.__module__, kind.__qualname__) in _KINDS

    def dump(self, obj: Any) -> Dumped:
        """Give the stream of a table.

        Raises
        ------
        TypeError, ValueError, pyarrow.ArrowException
            For other objects, for types that only Python classes know, and for what the stream cannot hold.

        Examples
        --------
        >>> import pyarrow
        >>> table = pyarrow.table({"band": [1, 2]})
        >>> pyarrow.ipc.open_stream(ArrowSerializer().dump(table).content.segments[0].data).read_all().equals(table)
        True
        """
        import pyarrow

        if type(obj) is not pyarrow.Table and type(obj) is not pyarrow.RecordBatch:
            raise TypeError(f"{type(obj).__name__} is no pyarrow.Table or pyarrow.RecordBatch")
        sink = pyarrow.BufferOutputStream()
        with pyarrow.ipc.new_stream(sink, obj.schema, options=pyarrow.ipc.IpcWriteOptions(compression=None)) as writer:
            if type(obj) is pyarrow.Table:
                writer.write_table(obj)
            else:
                writer.write_batch(obj, custom_metadata=_SINGLE)
        stream = sink.getvalue()
        problem = _problem(stream, pyarrow)
        if problem:
            raise TypeError(problem)
        return Dumped(Content([Segment(memoryview(stream).cast("B"))]), frozenset({"pyarrow"}))

    def load(self, content: StoredContent) -> Any:
        """Give the table of a stream that anybody may have written, once all of it is seen to be valid.

        Raises
        ------
        DeserializationError
        """
        import pyarrow

        stream = pyarrow.py_buffer(content.data)
        try:
            problem = _problem(stream, pyarrow)
            if problem:
                raise DeserializationError(f"the table is not read: {problem}.")
            return _read(stream, pyarrow)
        except (pyarrow.ArrowException, ValueError, TypeError, OSError, MemoryError) as error:
            raise DeserializationError(f"the content is no Arrow stream: {error}.") from error


def _problem(stream: Any, pyarrow: Any) -> str:
    compressed, extensions = facts(stream, pyarrow)
    if compressed:
        return "its buffers are compressed, to sizes that only their author knows"
    unknown = b", ".join(sorted(extensions - _BUILT_IN_EXTENSIONS)[:5])
    return f"extension types are read by code: {unknown.decode(errors='replace')[:200]}" if unknown else ""


def _read(stream: Any, pyarrow: Any) -> Any:
    batches, single = [], False
    with pyarrow.ipc.open_stream(stream) as reader:
        schema = reader.schema
        try:
            while True:
                batch, said = reader.read_next_batch_with_custom_metadata()
                # An offset that leads out of a buffer is read without a further look later.
                batch.validate(full=True)
                batches.append(batch)
                single = said is not None and said.get(b"artifactdb") == b"RecordBatch"
        except StopIteration:
            pass
    if single and len(batches) == 1:
        return batches[0]
    return pyarrow.Table.from_batches(batches, schema)
