"""TOML files and the lines of their keys: what tomllib does not tell (SPEC 4, "line of the key")."""

from __future__ import annotations

import os
import random
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyd.config.problems import KeyPath, Problem
from policyd.config.toml import file
from policyd.config.toml.file import TomlFile, read_toml
from policyd.config.toml.lines import Lines
from policyd.loading.load import load

DOCUMENT = """\
include = ["a"]  # 1

[service]
listen = [  # 4
  "inet:127.0.0.1:1",  # 5, with a ] and a "
  'unix:/a',

  # a comment: ]
  "inet:127.0.0.1:2", "inet:127.0.0.1:3",  # 9
]
mode = "enforce"  # 11

[organizations.contoso]  # 13
"accepted_domains" = ["contoso.com"]
[organizations.contoso.connectors."a.b"]  # 15
addresses = ["10.0.0.1"]
connectors.inline = 1
[organizations]
fabrikam.accepted_domains = ["x"]  # 19
fabrikam.connectors = { one = { addresses = ["10.0.0.2",
 "10.0.0.3"] }, two = { } }
[organizations.tailspin.partners.bank]  # 22
[[list.of]]  # 23
[[list.of]]  # 24
key = 1
"b\\u00fcro" = 2  # 26
"""

PLACES: list[tuple[int, KeyPath]] = [
    (1, ("include",)),
    (1, ("include", 0)),
    (3, ("service",)),
    (4, ("service", "listen")),
    (5, ("service", "listen", 0)),
    (6, ("service", "listen", 1)),
    (9, ("service", "listen", 2)),
    (9, ("service", "listen", 3)),
    (4, ("service", "listen", 4)),
    (11, ("service", "mode")),
    (3, ("service", "nothing")),
    (13, ("organizations", "contoso")),
    (14, ("organizations", "contoso", "accepted_domains", 0)),
    (15, ("organizations", "contoso", "connectors", "a.b")),
    (15, ("organizations", "contoso", "connectors")),
    (16, ("organizations", "contoso", "connectors", "a.b", "addresses", 0)),
    (19, ("organizations", "fabrikam")),
    (19, ("organizations", "fabrikam", "accepted_domains", 0)),
    (20, ("organizations", "fabrikam", "connectors", "one", "addresses", 0)),
    (21, ("organizations", "fabrikam", "connectors", "one", "addresses", 1)),
    (21, ("organizations", "fabrikam", "connectors", "two")),
    (22, ("organizations", "tailspin")),
    (22, ("organizations", "tailspin", "partners", "bank", "sender_domains")),
    (23, ("list", "of", 0)),
    (24, ("list", "of", 1)),
    (25, ("list", "of", 1, "key")),
    (26, ("list", "of", 1, "büro")),
    (1, ("nowhere", "at", "all")),
]


@pytest.mark.parametrize(("line", "path"), PLACES)
def test_lines(line: int, path: KeyPath) -> None:
    assert Lines(DOCUMENT).line(path) == line


# Multi-line strings that hold what looks like TOML; the line of u.d is that of `d = 1`.
MULTI_LINE = [
    "[u]\nb = '''\n[x]\ny\n'''\nd = 1\n",
    '[u]\nb = """\n[x]\ny\n"""\nd = 1\n',
    '[u]\nb = """\n[x]\\"""\nz""""\nd = 1\n',
    "[u]\nb = '''\n[x]''\nz'''''\nd = 1\n",
    '[u]\nb = """\n""x" \\\\"""\n\n\nd = 1\n',
    "[u]\nb = ''''''\nc = \"\"\"\"\"\"\nd = 1\n",
    "[u]\nb = ['''\n]''', [\"\"\"\n[v]\n\"\"\"]] # '''\nd = 1\n",
    "[u]\nb = { c = '''\n}\n''' }\nd = 1\n",
    'b = """\n[u]\nd = 2\n"""\n[u]\nd = 1\n',
]


@pytest.mark.parametrize("text", MULTI_LINE)
def test_multi_line_strings(text: str) -> None:
    assert tomllib.loads(text)["u"]["d"] == 1
    assert Lines(text).line(("u", "d")) == text.split("\n").index("d = 1", text.count("\n", 0, text.rindex("d ="))) + 1


PIECES = [
    "key = 1\n",
    "# x = [ '\n",
    "\n",
    '  key.key2 = "x]\\"#" # y\n',
    "'key 3' = 'a\\'\n",
    "key4 = ['x', \"y\"]\n",
    "key5 = [\n 'x', # ]\n [\"]\"],\n]\n",
    "key6 = {key = 1, key2 = [1, 2]}\n",
    "key7 = '''\n[x]\n'''\n",
    'key8 = """\\\n  [y]\n  a\\""" b"""""\n',
    "[key9]\n",
    "[key10.key]\n",
    "[[key11]]\n",
    "[ key12 . 'key.13' ]\n",
    "key14 = 1979-05-27T07:32:00Z\n",
    "key15 = [ ]   \n",
    "\t key16 = +1e3\t#\n",
    "key17 = ''''''\n",
    "key18 = [\"\"\" a ] \"\"\", ''' b ''']\n",
]


def paths(data: object, above: KeyPath = ()) -> Iterator[KeyPath]:
    """Every key of the data."""
    if isinstance(data, dict):
        for key, value in data.items():
            yield (*above, key)
            yield from paths(value, (*above, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from paths(value, (*above, index))


def test_each_key_stands_on_its_line() -> None:
    choose, documents = random.Random(20), 0
    for _ in range(3000):
        text = "".join(choose.choices(PIECES, k=choose.randint(1, 8)))
        try:
            data = tomllib.loads(text)
        except ValueError:
            continue
        documents += 1
        lines = Lines(text)
        for path in paths(data):
            assert str(path[-1]) in text.split("\n")[lines.line(path) - 1], (text, path)
    assert documents > 500


# --- files


def problem_of(path: Path) -> Problem:
    """What is wrong with a file."""
    found = read_toml(str(path))
    assert isinstance(found, Problem)
    assert found.severity == "error"
    return found


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(b"a = 1\r\n[b]\r\nc = 2\r\n")
    found = read_toml(str(path))
    assert isinstance(found, TomlFile)
    assert (found.data, found.folder) == ({"a": 1, "b": {"c": 2}}, str(tmp_path))
    assert found.line(("b", "c")) == 3


@pytest.mark.parametrize(
    ("content", "line", "text"),
    [
        (b"a = 1\nb = '\xfc'\n", 2, "not UTF-8 (octet 0xfc"),
        ("a = 1\n".encode("utf-16"), 1, "UTF-16"),
        (b"\xef\xbb\xbfa = 1\n", 1, "byte order mark"),
        (b"a = 1\nb = yes\n", 2, "write b = true"),
        (b"a = 1\nb = No # x\n", 2, "write b = false"),
        (b"a = 1\nb = full\n", 2, 'write b = "full"'),
        (b"a = 1\n\nb = [1\n", 3, "bracket"),
        (b"a = 1\n[b]\nc = 1\n\n[b]\n", 5, '"b" is already defined at {path}:2'),
        (b"[b]\nc = 1\nd = 2\nc = 3\n", 4, '"b.c" is already defined at {path}:2'),
        (b"a = " + b"9" * 5000, 1, "shorter number"),
        (b"a = " + b"[" * 100_000, 0, "nested too deeply"),
        (b"a = 1\nb = 2\x00\n", 2, "not valid TOML"),
    ],
)
def test_damaged(content: bytes, line: int, text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(content)
    problem = problem_of(path)
    assert problem.line == line, problem
    assert text.format(path=path) in problem.message


def test_no_file(tmp_path: Path) -> None:
    assert "no such file" in problem_of(tmp_path / "a").message
    assert "a folder" in problem_of(tmp_path).message
    assert "no regular file" in problem_of(Path("/dev/zero")).message
    assert "cannot be read: " in problem_of(tmp_path / ("x" * 300)).message
    assert "cannot be read: " in problem_of(Path("a\0b")).message
    link = tmp_path / "link"
    link.symlink_to("nowhere")
    assert "symbolic link" in problem_of(link).message


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by chmod, since root may read everything."""

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "a.toml"
    path.touch()
    monkeypatch.setattr("os.open", refuse)
    assert "permission denied" in problem_of(path).message


def test_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(b"#" * 11)
    monkeypatch.setattr(file, "LARGEST_FILE", 10)
    assert "larger than" in problem_of(path).message


def test_a_folder_of_includes_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "policyd.toml"
    (tmp_path / "organizations.d").mkdir()
    path.write_text('include = ["organizations.d/*.toml"]\n')
    monkeypatch.setattr(os, "listdir", refuse)
    (problem,) = load(str(path)).problems
    assert (problem.severity, problem.line) == ("error", 1)
    assert "cannot read the folder" in problem.message
