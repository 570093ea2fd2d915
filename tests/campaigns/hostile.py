"""Mutations of a workspace file that know its structure: SQLite's pages, our schema, texts, frames and containers."""

from __future__ import annotations

import hashlib
import random
import struct
from collections.abc import Callable

import apsw
import zstandard

from artifactdb.blobs.codec import decode, stored_chunk

Mutation = Callable[[bytes, random.Random], tuple[str, bytes]]

NUMBERS = [0, 1, -1, 2, 7, 127, 255, 256, 65535, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 40, 1 << 62,
           (1 << 63) - 1, -(1 << 63)]  # fmt: skip
TEXTS = [
         "", "x", "null", "[]", "{}", "0", "-1", "1e999", "NaN", "nan", "[[1,2]]", '{"a":', "[" * 900 + "]" * 900,
         "[" * 5000, "../../x", "/etc/passwd", "a\x00b", "\x1b[31m", "9" * 5000, "s1.A>s1", "1.x", "x" * 20000,
         "é\u2028",
         '{"a":1,"a":2}', '["x"]', '[[8,80000000]]', "[[1,-1]]", "[[1e999,1]]",
         '{"source_models":[1]}', "O", "|O", "<f8",
         "[-1]", "[4611686018427387904,4]", "all", "$", "0001_pls$aaaaaaaaaaaa:0", "🦀", "true"]  # fmt: skip
STATEMENTS = [
    "CREATE TRIGGER planted AFTER INSERT ON records BEGIN DELETE FROM chunks; END",
    "CREATE VIEW planted AS SELECT * FROM records",
    "CREATE TABLE planted (a)",
    "CREATE INDEX planted ON records (lower(class_name))",
    "CREATE TABLE planted (a, b AS (hex(a)))",
    "DROP INDEX records_by_class",
    "DROP VIEW artifacts",
    "ALTER TABLE records ADD COLUMN planted",
]


def mutated(content: bytes, chance: random.Random) -> tuple[str, bytes]:
    """Give what was done, and the bytes of the file that came of it."""
    name, mutation = chance.choice(list(MUTATIONS.items()))
    for _ in range(20):
        try:
            what, changed = mutation(content, chance)
        except (apsw.Error, IndexError, ValueError):
            continue  # no such place in this file
        if changed != content:
            return f"{name}: {what}"[:200], changed
        content = content[: chance.randrange(100, len(content))] if chance.random() < 0.05 else content
    return "cut", content[: len(content) // 2]


# -- bytes and pages --------------------------------------------------------------------------------


def _bytes(content: bytes, chance: random.Random) -> tuple[str, bytes]:
    changed = bytearray(content)
    places = [chance.randrange(len(content)) for _ in range(chance.choice([1, 1, 2, 8, 64]))]
    for place in places:
        changed[place] = chance.randrange(256)
    return f"{places[:8]}", bytes(changed)


def _header(content: bytes, chance: random.Random) -> tuple[str, bytes]:
    offset, size = chance.choice(
        [(16, 2), (18, 1), (19, 1), (20, 1), (21, 1), (24, 4), (28, 4), (32, 4), (36, 4), (40, 4), (44, 4), (48, 4),
         (52, 4), (56, 4), (60, 4), (64, 4), (68, 4), (92, 4), (96, 4)]
    )  # fmt: skip
    value = chance.choice(NUMBERS) % (1 << 8 * size)
    return f"{offset}={value}", content[:offset] + value.to_bytes(size, "big") + content[offset + size :]


def page_size(content: bytes) -> int:
    size = int.from_bytes(content[16:18], "big")
    return 65536 if size == 1 else size


def _page(content: bytes, chance: random.Random) -> tuple[int, int]:
    """Give the offsets of a page and of its header."""
    size = page_size(content)
    start = chance.randrange(len(content) // size) * size
    return start, start + (100 if start == 0 else 0)


def _page_header(content: bytes, chance: random.Random) -> tuple[str, bytes]:
    _, header = _page(content, chance)
    offset, size = chance.choice([(0, 1), (1, 2), (3, 2), (5, 2), (7, 1), (8, 4)])
    value = chance.choice([*NUMBERS, 2, 5, 10, 13]) % (1 << 8 * size)
    place = header + offset
    return f"{place}={value}", content[:place] + value.to_bytes(size, "big") + content[place + size :]


def _cell_pointers(content: bytes, chance: random.Random) -> tuple[str, bytes]:
    start, header = _page(content, chance)
    changed = bytearray(content)
    cells = int.from_bytes(content[header + 3 : header + 5], "big") % 200 or 1
    for _ in range(chance.choice([1, 1, 3])):
        place = header + (8 if content[header] in (10, 13) else 12) + 2 * chance.randrange(cells)
        value = chance.choice([chance.randrange(page_size(content)), 0, 1, 65535])
        changed[place : place + 2] = value.to_bytes(2, "big")
    return f"page at {start}", bytes(changed)


def _cell(content: bytes, chance: random.Random) -> tuple[str, bytes]:
    """Change the first bytes of a cell: sizes, keys, child pages, types of values."""
    start, header = _page(content, chance)
    cells = int.from_bytes(content[header + 3 : header + 5], "big") % 200 or 1
    pointer = header + (8 if content[header] in (10, 13) else 12) + 2 * chance.randrange(cells)
    place = start + int.from_bytes(content[pointer : pointer + 2], "big") + chance.randrange(12)
    changed = bytearray(content)
    changed[place : place + 1] = bytes([chance.choice([0, 1, 5, 6, 8, 9, 12, 13, 127, 128, 129, 255])])
    return f"{place}", bytes(changed[: len(content)])


def _pages(content: bytes, chance: random.Random) -> tuple[str, bytes]:
    size = page_size(content)
    pages = [content[start : start + size] for start in range(0, len(content), size)]
    first, second = chance.randrange(len(pages)), chance.randrange(len(pages))
    way = chance.choice(["swap", "copy", "zero", "noise", "drop", "cut", "longer"])
    if way == "swap":
        pages[first], pages[second] = pages[second], pages[first]
    elif way == "copy":
        pages[first] = pages[second]
    elif way == "zero":
        pages[first] = bytes(size)
    elif way == "noise":
        pages[first] = chance.randbytes(size)
    elif way == "drop":
        del pages[first]
    elif way == "cut":
        pages[first:] = [pages[first][: chance.randrange(size)]]
    else:
        pages.append(chance.randbytes(size))
    return f"{way} {first}", b"".join(pages)


# -- through SQL ------------------------------------------------------------------------------------


class _Open:
    """The file in memory, open to be changed without any rule."""

    def __init__(self, content: bytes) -> None:
        self.connection = apsw.Connection(":memory:")
        # In memory there is no write-ahead log.
        self.connection.deserialize("main", content[:18] + b"\1\1" + content[20:])
        for pragma in ("ignore_check_constraints=1", "foreign_keys=0", "writable_schema=1"):
            self.connection.execute(f"PRAGMA {pragma}")

    def run(self, sql: str, values: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        return self.connection.execute(sql, values).fetchall()

    def without_types(self) -> dict[str, str]:
        """Let any value be written anywhere, until ``content`` is given the texts that come back."""
        texts = {
            str(name): str(sql) for name, sql in self.run("SELECT name, sql FROM sqlite_schema WHERE type = 'table'")
        }
        for name, sql in texts.items():
            loose = sql.replace(") STRICT, WITHOUT ROWID", ") WITHOUT ROWID").replace(") STRICT", ")")
            self.run("UPDATE sqlite_schema SET sql = ? WHERE name = ?", (loose, name))
        self._again()
        return texts

    def _again(self) -> None:
        version = self.run("PRAGMA schema_version")[0][0]
        self.run(f"PRAGMA schema_version = {int(str(version)) + 1}")
        content = self.connection.serialize("main")
        self.connection.close()
        self.connection = apsw.Connection(":memory:")
        self.connection.deserialize("main", content)
        for pragma in ("ignore_check_constraints=1", "foreign_keys=0", "writable_schema=1"):
            self.connection.execute(f"PRAGMA {pragma}")

    def content(self, texts: dict[str, str] | None = None) -> bytes:
        for name, sql in (texts or {}).items():
            self.run("UPDATE sqlite_schema SET sql = ? WHERE name = ?", (sql, name))
        content = self.connection.serialize("main")
        self.connection.close()
        return content[:18] + b"\2\2" + content[20:]


def _schema(content: bytes, chance: random.Random) -> tuple[str, bytes]:
    file = _Open(content)
    way = chance.randrange(4)
    if way == 0:
        statement = chance.choice(STATEMENTS)
        file.run("PRAGMA writable_schema=0")
        file.run(statement)
        return statement, file.content()
    (name, sql), *_ = chance.sample(file.run("SELECT name, sql FROM sqlite_schema WHERE sql NOT NULL"), 1)
    if way == 1:
        page = chance.choice([0, 1, 2, 3, 5, 1 << 20, -1])
        file.run("UPDATE sqlite_schema SET rootpage = ? WHERE name = ?", (page, name))
        return f"{name} at page {page}", file.content()
    text = str(sql)
    place = chance.randrange(len(text))
    planted = chance.choice(["", "x", "(", ")", "'", "--", ",", "\x00", "DESC", "load_extension('x')"])
    text = text[:place] + planted + text[place + chance.randrange(3) :]
    file.run("UPDATE sqlite_schema SET sql = ? WHERE name = ?", (text, name))
    return f"{name} at {place}", file.content()


def _value(content: bytes, chance: random.Random) -> tuple[str, bytes]:
    """Change one value of one table: another text, JSON or number, or a value of another type."""
    file = _Open(content)
    texts = file.without_types() if chance.random() < 0.4 else None
    tables = [str(name) for (name,) in file.run("SELECT name FROM sqlite_schema WHERE type = 'table' AND sql NOT NULL")]
    table = chance.choice([name for name in tables if file.run(f'SELECT 1 FROM "{name}" LIMIT 1')])
    columns = file.run(f'PRAGMA table_info("{table}")')
    column = str(chance.choice(columns)[1])
    (old,) = chance.choice(file.run(f'SELECT "{column}" FROM "{table}"'))
    kind = chance.choice([int, str, bytes, float, None]) if texts else type(old)
    value: object
    if kind is int:
        value = chance.choice(NUMBERS)
    elif kind is str:
        value = chance.choice(TEXTS) if chance.random() < 0.7 or not isinstance(old, str) else _other_text(old, chance)
    elif kind is float:
        value = chance.choice([0.5, float("inf"), -1e300])
    elif kind is bytes:
        value = _other_bytes(old if isinstance(old, bytes) else b"abc", chance)
    else:
        value = None
    file.run(f'UPDATE OR IGNORE "{table}" SET "{column}" = ? WHERE "{column}" IS ?', (value, old))
    return f"{table}.{column} = {value!r:.60}", file.content(texts)


def _other_text(text: str, chance: random.Random) -> str:
    place = chance.randrange(len(text) + 1)
    return (
        text[:place]
        + chance.choice(["", "[", "}", '"', "\\", ">", "s1.", ":", "0", "-", "e5", ","])
        + text[place + 1 :]
    )


def _other_bytes(data: bytes, chance: random.Random) -> bytes:
    way, changed = chance.randrange(4), bytearray(data)
    if way == 0 and data:
        for _ in range(chance.choice([1, 4])):
            changed[chance.randrange(min(len(data), chance.choice([16, 64, 1 << 30])))] = chance.randrange(256)
        return bytes(changed)
    if way == 1:
        return data[: chance.randrange(len(data) + 1)]
    return data + chance.randbytes(chance.choice([1, 8, 100])) if way == 2 else chance.randbytes(len(data))


def _frame(content: bytes, chance: random.Random) -> tuple[str, bytes]:
    """Change how a chunk is encoded, its hash left as it was."""
    file = _Open(content)
    key, index, size, payload = chance.choice(file.run("SELECT blob_key, chunk_index, size_bytes, payload FROM chunks"))
    payload, size = bytes(payload), int(str(size))  # type: ignore[call-overload]
    plain = bytes(min(size, 1 << 20))
    skippable = struct.pack("<II", 0x184D2A50, 8) + b"skipped!"
    way, changed = chance.choice(
        [
            ("size", zstandard.ZstdCompressor().compress(bytes(size + 1))),
            ("bomb", zstandard.ZstdCompressor().compress(bytes(64 << 20)) if chance.random() < 0.1 else skippable),
            ("skippable", skippable + payload),
            ("twice", payload + payload),
            ("no size", zstandard.ZstdCompressor(write_content_size=False).compress(plain)),
            ("window", b"\x28\xb5\x2f\xfd" + bytes([0x80, 0xF8]) + struct.pack("<I", size) + payload[8:]),
            ("dictionary", b"\x28\xb5\x2f\xfd" + bytes([0xA3]) + b"\1\2\3\4" + struct.pack("<I", size) + payload[9:]),
            ("header", payload[:4] + chance.randbytes(4) + payload[8:]),
            ("bits", _other_bytes(payload, chance)),
        ]
    )
    file.run(
        "UPDATE chunks SET payload = ?, codec = 'zstd' WHERE blob_key = ? AND chunk_index = ?", (changed, key, index)
    )
    said = chance.choice([size, size, 64 << 20, 1 << 31, 1 << 62, size + 1])
    file.run("UPDATE chunks SET size_bytes = ? WHERE blob_key = ? AND chunk_index = ?", (said, key, index))
    if chance.random() < 0.5:
        file.run("UPDATE blobs SET size_bytes = ?, stored_bytes = ? WHERE blob_key = ?", (said, len(changed), key))
    return f"{way}, {said} bytes", file.content()


def _map(content: bytes, chance: random.Random) -> tuple[str, bytes]:
    """Change which chunks and parts a blob has."""
    file = _Open(content)
    key = chance.choice(file.run("SELECT blob_key FROM blobs"))[0]
    part = chance.choice(file.run("SELECT blob_key FROM blobs"))[0]
    statement = chance.choice(
        [
            f"UPDATE chunks SET chunk_index = chunk_index + 1 WHERE blob_key = {key}",
            f"UPDATE OR IGNORE chunks SET blob_key = {part} WHERE blob_key = {key}",
            f"DELETE FROM chunks WHERE blob_key = {key}",
            f"INSERT INTO chunks SELECT blob_key, chunk_index + 1, size_bytes, codec, shuffle, payload FROM chunks "
            f"WHERE blob_key = {key}",
            f"UPDATE blobs SET size_bytes = {chance.choice(NUMBERS)} WHERE blob_key = {key}",
            f"UPDATE blobs SET stored_bytes = {chance.choice(NUMBERS)} WHERE blob_key = {key}",
            f"INSERT OR IGNORE INTO blob_parts VALUES ({key}, 0, {key})",
            f"INSERT OR IGNORE INTO blob_parts VALUES ({key}, 7, {part}), ({part}, 7, {key})",
            "INSERT OR IGNORE INTO blob_parts SELECT blob_key, position + 1, part_key FROM blob_parts",
            f"WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 3000) "
            f"INSERT OR IGNORE INTO blob_parts SELECT {key}, x, {part} FROM n",
            f"DELETE FROM blob_parts WHERE part_key = {part}",
            f"DELETE FROM blobs WHERE blob_key = {key}",
            f"UPDATE records SET blob_key = {key}",
            f"UPDATE chunks SET size_bytes = {chance.choice(NUMBERS)}",
            "UPDATE record_sources SET source_key = record_key",
            "INSERT OR IGNORE INTO record_sources SELECT r.record_key, 9, s.record_key FROM records r, records s",
            "UPDATE catalog_payloads SET chunk_index = chunk_index + 1",
            "UPDATE catalog_files SET name = '../../x', kind = '../../y'",
            f"UPDATE catalog_files SET size_bytes = {chance.choice(NUMBERS)}, rows = {chance.choice(NUMBERS)}",
        ]
    )  # fmt: skip
    file.run(statement)
    return statement, file.content()


def _container(content: bytes, chance: random.Random) -> tuple[str, bytes]:
    """Change the head of an object container, and let its hash fit."""
    file = _Open(content)
    rows = file.run(
        "SELECT c.blob_key, c.size_bytes, c.codec, c.shuffle, c.payload "
        "FROM chunks AS c JOIN records AS r ON r.blob_key = c.blob_key WHERE c.chunk_index = 0 "
        "AND r.format IN ('pickle5', 'data')"
    )
    key, size_bytes, codec, shuffle, payload = chance.choice(rows)
    plain = decode(stored_chunk(size_bytes, codec, shuffle, payload))
    place, size = chance.choice(
        [(0, 8), (8, 4), (12, 4), (16, 8), (24, 8), (32, 4), (36, 4), (40, 8), (48, 4), (52, 4)]
    )
    value = chance.choice([*NUMBERS, 10_000_000]) % (1 << 8 * size)
    plain[place : place + size] = value.to_bytes(size, "little")
    file.run(
        "UPDATE chunks SET payload = ?, codec = 'raw', shuffle = NULL, size_bytes = ? WHERE blob_key = ?",
        (bytes(plain), len(plain), key),
    )
    file.run(
        "UPDATE blobs SET content_hash = ?, size_bytes = ?, stored_bytes = ? WHERE blob_key = ?",
        (hashlib.sha256(plain).digest(), len(plain), len(plain), key),
    )
    return f"{place} = {value}", file.content()


def _parquet(content: bytes, chance: random.Random) -> tuple[str, bytes]:
    """Change a Parquet file that lies inside, with or without its hash."""
    file = _Open(content)
    rows = file.run("SELECT file_key, chunk_index, payload FROM catalog_payloads")
    if not rows:
        return _value(content, chance)
    key, index, payload = chance.choice(rows)
    changed = _other_bytes(bytes(payload), chance)  # type: ignore[call-overload]
    if chance.random() < 0.5:
        changed = bytes(payload)[:-200] + _other_bytes(bytes(payload)[-200:], chance)  # type: ignore[call-overload]
    file.run("UPDATE catalog_payloads SET payload = ? WHERE file_key = ? AND chunk_index = ?", (changed, key, index))
    if chance.random() < 0.7:
        length = int.from_bytes(changed[-8:-4], "little")
        footer = hashlib.sha256(changed[max(0, len(changed) - 8 - length) :]).digest()
        file.run(
            "UPDATE catalog_files SET content_hash = ?, footer_hash = ?, size_bytes = ? WHERE file_key = ?",
            (hashlib.sha256(changed).digest(), footer, max(1, len(changed)), key),
        )
    return f"file {key}", file.content()


MUTATIONS: dict[str, Mutation] = {
    "bytes": _bytes, "header": _header, "page header": _page_header, "cell pointers": _cell_pointers, "cell": _cell,
    "pages": _pages, "schema": _schema, "value": _value, "more values": _value, "frame": _frame, "map": _map,
    "container": _container, "parquet": _parquet,
}  # fmt: skip
