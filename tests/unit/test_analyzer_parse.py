"""YAML that is read, and YAML that is not: each with its line, and within bounds."""

import pytest

from pytest_triton_perf.analyzer.parse import MAX_BYTES, MAX_VALUES, parse
from pytest_triton_perf.errors import UsageError


def plain(text: str):
    return parse(text.encode(), "f.yaml").plain


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1\nb: 2.5\nc: true\nd:\ne: x", {"a": 1, "b": 2.5, "c": True, "d": None, "e": "x"}),
        ("a: [1, {b: 2}]", {"a": [1, {"b": 2}]}),
        ("1: a\ntrue: b", {"1": "a", "true": "b"}),
        ("a: '1'\nb: \"2\"", {"a": "1", "b": "2"}),
        ("a: 2024-01-01", {"a": "2024-01-01"}),
        ("\ufeffa: é", {"a": "é"}),
        ("a: !!int '7'\nb: !!str 7", {"a": 7, "b": "7"}),
    ],
)
def test_plain_values_are_read(text, value):
    assert plain(text) == value


def test_a_range_is_not_a_number_to_the_base_of_60():
    assert plain("a: 1:8:2\nb: 1:30.5") == {"a": "1:8:2", "b": "1:30.5"}


def test_a_value_has_the_line_of_its_key_and_a_part_of_a_list_its_own():
    value = parse(b"# hi\na:\n  b:\n    - 1\n    - 2\n", "f.yaml").data["a"].data["b"]
    assert value.where == "f.yaml:3"
    assert [part.line for part in value.data] == [4, 5]


def test_aliases_and_merged_mappings_are_read_at_the_line_where_they_stand():
    root = parse(b"a: &x {p: 1, q: 2}\nb: *x\nc:\n  q: 3\n  <<: *x\n", "f.yaml")
    assert root.plain["b"] == {"p": 1, "q": 2}
    assert root.plain["c"] == {"p": 1, "q": 3}
    assert root.data["b"].line == 2


def test_of_merged_mappings_the_first_has_the_word():
    assert plain("a: &x {p: 1}\nb: &y {p: 2, q: 2}\nc: {<<: [*x, *y]}")["c"] == {"p": 1, "q": 2}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a:\n\tb: 1\n", "f.yaml:2: a tab indents this line; YAML takes spaces"),
        (b"a: b\n\tc: d\n", "f.yaml:2: a tab indents this line; YAML takes spaces"),
        (b"a: 1\nb: 2\na: 3\n", "f.yaml:3: 'a' stands in line 1 already"),
        (b"x:\n  a: 1\n  'a': 3\n", "f.yaml:3: 'a' stands in line 2 already"),
        (b"a: [1\nb: 2\n", "f.yaml:2: this is not YAML: expected ',' or ']', but got ':'"),
        (b"a: 1\n[1]: 2\n", "f.yaml:2: a key is a plain text"),
        (b"", "f.yaml: it is empty; name the models under profile_models"),
        (b"# nothing\n\n", "f.yaml: it is empty; name the models under profile_models"),
        (b"a: 1\n---\nb: 2\n", "f.yaml:2: a second document begins here; a config is one"),
        ("a: 1\nb: é\n".encode("latin-1"), "f.yaml:2: this is not UTF-8; save the file as UTF-8"),
        ("a: 1".encode("utf-16"), "f.yaml:1: this is not UTF-8; save the file as UTF-8"),
        (b"a: 1\nb: \0\n", "f.yaml:2: the character 0x0 is not allowed"),
        (b"a: !!bool maybe\n", "f.yaml:1: 'maybe' cannot be read as bool"),
        (b"a: !!int ''\n", "f.yaml:1: '' cannot be read as int"),
        (b"a: " + b"9" * 5000, f"f.yaml:1: '{'9' * 40}…' cannot be read as int"),
        (b"a: 1\nb: *x\n", "f.yaml:2: there is no finished value &x before this"),
        (b"a: &x\n  b: *x\n", "f.yaml:2: there is no finished value &x before this"),
        (b"a: {<<: 1}\n", "f.yaml:1: << merges a mapping, or a list of them"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(content, message):
    with pytest.raises(UsageError) as error:
        parse(content, "f.yaml")
    assert str(error.value) == message


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\nb: !!python/object/apply:os.system ['touch constructed']",
        "a: 1\nb: !!python/object/new:os.system ['touch constructed']",
        "a: 1\nb: !!python/name:os.system ''",
        "a: 1\nb: !!python/module:os ''",
        "a: 1\nb: !mine {x: 1}",
        "a: 1\nb: !!binary aGk=",
        "a: 1\nb: !!set {x}",
    ],
)
def test_a_tag_constructs_nothing(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"^f.yaml:2: the tag !\S+ is not read: a config has pla"):
        parse(text.encode(), "f.yaml")
    assert list(tmp_path.iterdir()) == []


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]\n" for i in range(30)
)
CHAIN = "a0: &a0 [x]\n" + "".join(f"a{i + 1}: &a{i + 1} [*a{i}]\n" for i in range(2000))


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 10_000_000, r"^f.yaml: it has 10,000,000 bytes; a config has 262,144 at most$"),
        ("[" * MAX_BYTES, r"^f.yaml:1: values are nested more than 32 deep$"),
        ("a: " + "{a: " * 60_000, r"^f.yaml:1: values are nested more than 32 deep$"),
        ("? " * 100_000, r"^f.yaml:1: values are nested more than 32 deep$"),
        ("\n".join(" " * i + "a:" for i in range(500)), r"^f.yaml:33: values are nested more"),
        (LAUGHS, rf"^f.yaml:5: this is more than {MAX_VALUES:,} values, with what aliases repeat"),
        (CHAIN, r"^f.yaml:33: values are nested more than 32 deep$"),
        ("- 1\n" * 60_000, rf"^f.yaml:1: this is more than {MAX_VALUES:,} values"),
    ],
    ids=["10 MB", "lists", "mappings", "keys", "blocks", "laughs", "alias chain", "flat"],
)
def test_a_bomb_is_an_error_within_bounds(text, message):
    with pytest.raises(UsageError, match=message):
        parse(text.encode(), "f.yaml")
