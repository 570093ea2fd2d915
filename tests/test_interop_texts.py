"""YAML and JSON of strangers: plain values within bounds, and nothing is run."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from artifactdb.artifacts.reading import parse_json
from artifactdb.errors import InvalidValueError
from artifactdb.interop.texts import parse_configuration, parse_yaml

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
HOSTILE = {
    "an object that runs a command": "!!python/object/apply:os.system ['touch ran']",
    "a name of Python's": "a: !!python/name:os.system x",
    "an unknown tag": "a: !custom {b: 1}",
    "a billion laughs": LAUGHS,
    "a circle": "a: &a [*a]",
    "deep nesting": "[" * 500 + "]" * 500,
    "very deep nesting": "[" * 100_000,
    "a broken mapping": "a: b: c",
    "an open bracket": "{a: [1, 2",
    "two documents": "a: 1\n---\nb: 2",
    "a list for a key": "? [1, 2]\n: 3",
    "a control character": "a: \x00",
    "a bad number": "!!int 'abc'",
    "a huge number": "9" * 10_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_yaml_is_refused(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidValueError):
        parse_yaml(text, "manifest.yaml")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, 2.5, None, True, "x"], "b": {"c": {}}, "d": []},
        ["1", "yes", "null", "2026-01-01", "1e-4", "0x1f", "~", "", " padded ", "é\n\tü", "a: b"],
        {"chain_path": "s1.A[br=0.1,src=0,sub=2]>s2.B", "hash": "sha256:" + "0" * 64},
    ],
)
def test_what_yaml_writes_is_read_back(value: object) -> None:
    assert parse_yaml(yaml.safe_dump(value, sort_keys=False), "m") == value


def test_aliases_and_merges_are_read_as_by_everybody() -> None:
    text = "base: &b {x: 1, y: 2}\nmore: {<<: *b, y: 3}\nagain: [*b, *b]"
    assert parse_yaml(text, "m") == yaml.safe_load(text)


def test_times_stay_text_and_an_empty_file_is_nothing() -> None:
    assert parse_yaml("at: 2026-11-23 21:35:36", "m") == {"at": "2026-11-23 21:35:36"}
    assert parse_yaml("", "empty.yaml") is None


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "nul", ""])
def test_broken_json_is_refused(text: str) -> None:
    with pytest.raises(InvalidValueError):
        parse_json(text, "pipeline.json")


def test_in_what_somebody_wrote_a_key_stands_once() -> None:
    """In what programs wrote the last one counts, as it did: an import loses nothing."""
    for name, text, said in (
        (
            "a.yaml",
            "- model: x\n  params: {a: 1}\n  params: {a: 2}\n",
            r"a.yaml: the key 'params' stands twice \(line 3\)",
        ),
        ("a.yml", "a: &a {x: 1}\nb: {<<: *a, <<: *a}", "the key '<<' stands twice"),
        ("a.json", '[{"model": "x", "model": "y"}]', "a.json: the key 'model' stands twice.*Keep one"),
    ):
        with pytest.raises(InvalidValueError, match=said):
            parse_configuration(text, name)
    assert parse_yaml("{a: 1, a: 2}", "m") == parse_json('{"a": 1, "a": 2}', "m") == {"a": 2}
    text = "base: &b {x: 1, y: 2}\nmore: {<<: *b, y: 3}"
    assert parse_configuration(text, "m.yaml") == yaml.safe_load(text)


def test_numbers_that_somebody_wrote_are_those_of_yaml_today() -> None:
    numbers = ["1e-3", "1E5", "-.5", "2.5e+3", "+1.", "12", "0x1f"]
    assert parse_configuration(f"[{', '.join(numbers)}]", "a.yaml") == [1e-3, 1e5, -0.5, 2500.0, 1.0, 12, 31]
    texts = ["e3", "1e", "1e3x", ".", "-", "1.2.3", "2026-01-01"]
    assert parse_configuration(f"[{', '.join(texts)}, '1e-3', !!str 1e-3]", "a.yaml") == [*texts, "1e-3", "1e-3"]
    assert parse_yaml("1e-3", "m") == "1e-3", "as programs write a text"
    assert parse_configuration("[08, 007]", "a.yaml") == ["08", 7]
