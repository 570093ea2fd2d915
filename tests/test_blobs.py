"""Blobs: each content once, in chunks, whatever its size and however it is encoded."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from artifactdb import ArtifactRecord, InvalidValueError, SerializationError, Workspace
from artifactdb.blobs import store
from artifactdb.content import Content, Segment
from artifactdb.errors import CorruptBlobError


def put(workspace: Workspace, content: Content) -> int:
    ready = store.encode_ahead(content, store.present_of(workspace.database, (*content.parts, content)))
    with workspace.transaction():
        return store.put(workspace.database, content, "2026-01-01T00:00:00+00:00", ready)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pieces=st.lists(st.tuples(st.binary(max_size=300), st.sampled_from([1, 2, 4, 8, 16, 64]), st.integers(1, 40))),
    chunk_bytes=st.sampled_from([64, 100, 1000, 2100, 5000, 4 * 1024 * 1024]),
)
def test_what_is_put_comes_back_whatever_the_chunks(
    workspace: Workspace, pieces: list[tuple[bytes, int, int]], chunk_bytes: int
) -> None:
    segments = [Segment(data[: len(data) // size * size] * times, size) for data, size, times in pieces]
    content = Content(segments)
    plain = b"".join(bytes(segment.data) for segment in segments)
    assert content.digest == hashlib.sha256(plain).digest()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "CHUNK_BYTES", chunk_bytes)
        key = put(workspace, content)
    assert put(workspace, content) == key
    assert store.get_many(workspace.database, [key])[0].data == plain
    assert store.check(workspace.database, key) == ""


def test_an_array_of_many_chunks_comes_back_equal(workspace: Workspace) -> None:
    array = np.random.default_rng(0).normal(size=(1_200, 1_000))
    registry = workspace.registry("wheat", "0001")
    artifact_id = registry.register(array, "0001$aaaaaaaaaaaa:0", "model").artifact_id
    chunks = workspace.query("SELECT count(*), max(size_bytes) FROM chunks")[0]
    assert chunks[0] >= 3 and chunks[1] <= store.CHUNK_BYTES
    loaded = workspace.load(artifact_id)
    np.testing.assert_array_equal(loaded, array)
    assert loaded.flags.writeable and loaded.flags.aligned


def test_content_too_large_to_wait_in_memory_is_streamed(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "ENCODE_AHEAD_BYTES", 1000)
    monkeypatch.setattr(store, "CHUNK_BYTES", 10_000)
    array = np.arange(50_000, dtype=np.float32)
    artifact_id = workspace.registry("w", "0001").register(array, "0001$aaaaaaaaaaaa:0", "model").artifact_id
    np.testing.assert_array_equal(workspace.load(artifact_id), array)
    stored = workspace.query("SELECT sum(stored_bytes) FROM blobs")[0][0]
    assert stored == workspace.query("SELECT sum(length(payload)) FROM chunks")[0][0]


def test_incompressible_bytes_are_stored_raw_and_compressible_ones_are_not(workspace: Workspace) -> None:
    for data in (np.random.default_rng(0).bytes(100_000), b"spectrum" * 10_000):
        key = put(workspace, Content([Segment(data)]))
        codec, stored = workspace.query("SELECT codec, length(payload) FROM chunks WHERE blob_key = ?", (key,))[0]
        assert codec == ("zstd" if b"spectrum" in data else "raw")
        assert stored <= len(data)


def test_an_array_changed_while_it_is_saved_is_refused(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.zeros(200_000)
    encode = store.encode

    def encode_and_change(group: list[Segment]) -> Any:
        array[-1] += 1.0
        return encode(group)

    monkeypatch.setattr(store, "encode", encode_and_change)
    with pytest.raises(SerializationError, match="changed while"):
        workspace.registry("w", "0001").register(array, "0001$aaaaaaaaaaaa:0", "model")
    assert workspace.query("SELECT count(*) FROM blobs")[0] == (0,)


def test_a_codec_that_loses_bytes_is_found_out_before_anything_is_stored(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from artifactdb.blobs import codec

    monkeypatch.setattr(codec, "_shuffle", lambda plain, layout: bytes(plain)[::-1])
    with pytest.raises(CorruptBlobError):
        workspace.registry("w", "0001").register(np.arange(1000.0), "0001$aaaaaaaaaaaa:0", "model")


def test_the_same_bytes_re_encoded_keep_their_id(workspace: Workspace, fitted: dict[str, Any]) -> None:
    """``optimize`` may re-encode a blob at any time: id, hash and object stay."""
    registry = workspace.registry("w", "0001")
    record = registry.register_with_chain(fitted["forest"], "s1.RF", "model", 1)
    with workspace.transaction():
        for key, index, *chunk in workspace.database.rows(
            "SELECT blob_key, chunk_index, size_bytes, codec, shuffle, payload FROM chunks"
        ):
            plain = bytes(store.decode(store.EncodedChunk(*chunk)))
            workspace.database.rows(
                "UPDATE chunks SET codec = 'raw', shuffle = NULL, payload = ? WHERE blob_key = ? AND chunk_index = ?",
                (plain, key, index),
            )
        workspace.database.rows(
            "UPDATE blobs AS b SET stored_bytes = "
            "(SELECT sum(length(c.payload)) FROM chunks AS c WHERE c.blob_key = b.blob_key)"
        )
    assert workspace.record(record.artifact_id) == record
    assert workspace.load(record.artifact_id).n_estimators == 10


class TestOptimizing:
    @pytest.fixture
    def record(self, workspace: Workspace) -> ArtifactRecord:
        """What is so large that saving it takes little effort."""
        spectra = np.random.default_rng(0).integers(0, 50, (132, 1000)).astype(float)
        saved = {"spectra": spectra, "names": [f"sample {n}" for n in range(999)]}
        return workspace.registry("wheat", "0001").register(saved, "0001$aaaaaaaaaaaa:0", "model")

    @pytest.mark.campaign
    def test_what_is_smaller_now_is_the_same(self, workspace: Workspace, record: ArtifactRecord) -> None:
        workspace.gc()
        before, size = workspace.load(record.artifact_id), workspace.path.stat().st_size
        seen: list[tuple[int, int]] = []
        optimized = workspace.optimize(progress=lambda *done: seen.append(done))
        assert optimized.smaller and optimized.after_bytes < 0.95 * optimized.before_bytes
        assert seen[-1] == (optimized.blobs, optimized.blobs)
        assert workspace.path.stat().st_size < size, "and the room is given back"
        (again,) = workspace.records()
        assert again == record
        with Workspace(workspace.path, mode="ro") as fresh:
            loaded = fresh.load(record.artifact_id)
        assert all(np.array_equal(loaded[name], before[name]) for name in before)
        assert workspace.optimize().smaller == 0
        assert [event.act for event in workspace.history()].count("optimized") == 2

    def test_what_is_damaged_is_named_and_left(self, workspace: Workspace, record: ArtifactRecord) -> None:
        rows = workspace.database.rows("SELECT rowid, payload FROM chunks WHERE chunk_index = 0 ORDER BY size_bytes")
        rowid, payload = rows[-1]
        wrong = payload[:-1] + bytes([payload[-1] ^ 1])
        workspace.database.rows("UPDATE chunks SET payload = ? WHERE rowid = ?", (wrong, rowid))
        assert len(workspace.optimize().damaged) == 1
        assert workspace.database.value("SELECT payload FROM chunks WHERE rowid = ?", (rowid,)) == wrong
        workspace.database.rows("UPDATE chunks SET payload = ? WHERE rowid = ?", (payload, rowid))
        workspace.load(record.artifact_id)

    def test_who_is_broken_off_keeps_what_is_done(self, workspace: Workspace, record: ArtifactRecord) -> None:
        def stop(done: int, total: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            workspace.optimize(progress=stop)
        assert workspace.verify().ok
        assert workspace.load(record.artifact_id)["names"][0] == "sample 0"

    @pytest.mark.parametrize("level", [0, 20, 2.5, "high"])
    def test_a_level_that_there_is_not_is_refused(self, workspace: Workspace, level: Any) -> None:
        with pytest.raises(InvalidValueError, match="from 1 to 19"):
            workspace.optimize(level)
