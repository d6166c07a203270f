"""Style that a machine can judge, judged by a machine, so that a review can talk about meaning.

Each rule is a function from a parsed file to what it finds there, "line: what"; a test runs it over
the packages and shows everything it found at once. An exception to a rule stands in a table beside
the rule, with its reason; a table entry that is no longer needed fails too. Below, every rule is
tried on a snippet that breaks it, because a rule that finds nothing may also be blind.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("actors", "bolt", "graph")

FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70  # a screen; the docstring, which is the contract, is not counted

# Files and functions that may be longer, each with its reason.
LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}  # "path:function"

# What can run code that came as data. Nothing that a client, a peer or a disk sent is unpickled.
BANNED_EVERYWHERE = {"cloudpickle", "dill", "marshal", "pickle", "shelve"}
BANNED_CALLS = {"eval", "exec", "yaml.load", "yaml.unsafe_load"}
CODE_FROM_DATA: dict[str, str] = {}

# Ray stays behind few doors, so that all the rest is tested without it.
RAY_FILES = {
    "actors/cli.py",
    "actors/cluster.py",
    "actors/gateway_actor.py",
    "actors/handle.py",
    "actors/server_actor.py",
    "actors/supervisor.py",
    "actors/transport.py",
}

# What would make two servers differ, or a test depend on more than its seed.
IMPURE = {"asyncio", "multiprocessing", "os", "random", "secrets", "select", "selectors", "socket"}
IMPURE |= {"ssl", "subprocess", "tempfile", "threading", "time", "uuid"}
BANNED_BELOW = {
    "actors/raft/": IMPURE,
    "graph/": IMPURE,
    "bolt/": IMPURE - {"uuid"},  # a UUID is a value of PackStream
}
# "path:module", with the reason.
ALLOWED_IMPORTS: dict[str, str] = {
    "graph/columns.py:threading": "roots used by several threads share one string dictionary",
    "graph/engine.py:threading": "threads share the caches of prepared statements",
    "graph/indexes.py:threading": "roots used by several threads share indexes",
    "graph/store.py:threading": "transactions in several threads take ids from one allocator",
}


@dataclass(frozen=True)
class Source:
    """One Python file; ``path`` is relative to the repository."""

    path: str
    text: str

    @property
    def tree(self) -> ast.Module:
        return _parsed(self.text)


@cache
def _parsed(text: str) -> ast.Module:
    return ast.parse(text)


Rule = Callable[[Source], Iterable[str]]


def files() -> list[Source]:
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    paths += [ROOT / "rayft.py"] if (ROOT / "rayft.py").exists() else []
    return [Source(path.relative_to(ROOT).as_posix(), path.read_text("utf-8")) for path in paths]


# --- Rules ----------------------------------------------------------------------------------------


def long_file(source: Source) -> Iterator[str]:
    lines = len(source.text.splitlines())
    if lines > FILE_LINES_MAX:
        yield f"1: the file has {lines} lines, {FILE_LINES_MAX} are allowed"


def long_function(source: Source) -> Iterator[str]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if ast.get_docstring(node) is not None:
                docstring = node.body[0]
                lines -= (docstring.end_lineno or docstring.lineno) - docstring.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield f"{node.lineno}: {node.name} has {lines} lines, {FUNCTION_LINES_MAX} allowed"


def no_theory(source: Source) -> Iterator[str]:
    if source.tree.body and ast.get_docstring(source.tree) is None:
        yield "1: the module does not open with its theory of operation"


def left_to_do(source: Source) -> Iterator[str]:
    for number, line in enumerate(source.text.splitlines(), 1):
        if re.search(r"#.*\b(TODO|FIXME|XXX)\b", line):
            yield f"{number}: {line.strip()}"


def _running_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those below ``if TYPE_CHECKING``, which never run."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for other in node.orelse:
                yield other
                yield from _running_nodes(other)
            continue
        yield node
        yield from _running_nodes(node)


def imported(source: Source) -> Iterator[tuple[int, str]]:
    """The top-level package of each absolute import that runs, with its line."""
    for node in _running_nodes(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = {alias.name for alias in node.names}
            # Random is the class of a generator that is passed in: a type, no source of chance.
            if (node.module, names) != ("random", {"Random"}):
                yield node.lineno, node.module.partition(".")[0]


def code_from_data(source: Source) -> Iterator[str]:
    for line, module in imported(source):
        if module in BANNED_EVERYWHERE:
            yield f"{line}: import of {module}"
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in BANNED_CALLS:
            yield f"{node.lineno}: call of {ast.unparse(node.func)}"


def ray_elsewhere(source: Source) -> Iterator[str]:
    if source.path not in RAY_FILES:
        for line, module in imported(source):
            if module == "ray":
                yield f"{line}: import of ray outside the files that may"


def impure_import(source: Source) -> Iterator[str]:
    for place, banned in BANNED_BELOW.items():
        if source.path.startswith(place):
            for line, module in imported(source):
                if module in banned:
                    yield f"{line}: import of {module} below {place}"


def init_with_logic(source: Source) -> Iterator[str]:
    if source.path.endswith("__init__.py") or source.path == "rayft.py":
        for node in source.tree.body:
            docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            public = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
            if not (docstring or public or isinstance(node, ast.Import | ast.ImportFrom)):
                yield f"{node.lineno}: more than a re-export"


def _exported(tree: ast.Module) -> tuple[int, list[str]] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return node.lineno, list(ast.literal_eval(node.value))
    return None


def _export_order(name: str) -> tuple[int, list[tuple[bool, int, str]]]:
    """Constants, then classes, then the rest; numbers by value. The order in which ruff sorts."""
    kind = 0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2
    parts = re.findall(r"\d+|\D+", name)
    return kind, [(not p.isdigit(), int(p) if p.isdigit() else 0, p) for p in parts]


def _bound(statements: Iterable[ast.stmt]) -> Iterator[str]:
    """The names that ``statements`` bind, "*" for unknown ones."""
    for node in statements:
        match node:
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                yield from (alias.asname or alias.name.partition(".")[0] for alias in names)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name
            case _:
                for child in ast.iter_child_nodes(node):
                    if isinstance(child, ast.stmt):
                        yield from _bound([child])
                    elif isinstance(child, ast.ExceptHandler):
                        yield from _bound(child.body)
                    else:
                        yield from (n.id for n in ast.walk(child) if isinstance(n, ast.Name))


def bad_exports(source: Source) -> Iterator[str]:
    found = _exported(source.tree)
    if found is None:
        return
    line, names = found
    if names != sorted(set(names), key=_export_order):
        yield f"{line}: __all__ is not sorted, or has a name twice"
    bound = set(_bound(source.tree.body))
    for name in names:
        if name not in bound and "*" not in bound:
            yield f"{line}: __all__ names {name}, which is not there"


# --- The rules over the packages ------------------------------------------------------------------


def _allowed(finding: str, source: Source, exceptions: dict[str, str]) -> str | None:
    """The key of ``exceptions`` that allows ``finding``."""
    words = re.findall(r"[\w.]+", finding.partition(": ")[2])
    keys = [source.path, *(f"{source.path}:{word}" for word in words)]
    return next((key for key in keys if key in exceptions), None)


@pytest.mark.parametrize(
    ("rule", "exceptions"),
    [
        (long_file, LONG_FILES),
        (long_function, LONG_FUNCTIONS),
        (no_theory, {}),
        (left_to_do, {}),
        (code_from_data, CODE_FROM_DATA),
        (ray_elsewhere, {}),
        (impure_import, ALLOWED_IMPORTS),
        (init_with_logic, {}),
        (bad_exports, {}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_packages(rule: Rule, exceptions: dict[str, str]) -> None:
    findings = []
    used = set()
    for source in files():
        for finding in rule(source):
            key = _allowed(finding, source, exceptions)
            if key is None:
                findings.append(f"{source.path}:{finding}")
            else:
                used.add(key)
    assert not findings, "\n" + "\n".join(findings)
    assert set(exceptions) == used, "an exception that nothing needs any more"


def test_there_is_something_to_judge() -> None:
    assert {source.path.partition("/")[0] for source in files()} >= set(PACKAGES)


# --- The rules over snippets ----------------------------------------------------------------------

LONG_BODY = "    pass\n" * FUNCTION_LINES_MAX

BREACHES: list[tuple[Rule, str, str]] = [
    (long_file, "graph/x.py", "\n" * (FILE_LINES_MAX + 1)),
    (long_function, "graph/x.py", f"def f():\n{LONG_BODY}"),
    (long_function, "graph/x.py", f"class C:\n  async def f():\n{LONG_BODY}"),
    (no_theory, "graph/x.py", "x = 1"),
    (left_to_do, "graph/x.py", "x = 1  # TODO: more"),
    (code_from_data, "graph/x.py", "import pickle"),
    (code_from_data, "graph/x.py", "def f():\n    from cloudpickle import loads"),
    (code_from_data, "graph/x.py", "import marshal as m"),
    (code_from_data, "graph/x.py", "eval('1')"),
    (code_from_data, "graph/x.py", "yaml.load(text)"),
    (ray_elsewhere, "actors/wal.py", "import ray.util.state"),
    (ray_elsewhere, "graph/x.py", "from ray import remote"),
    (impure_import, "actors/raft/core.py", "import os, time"),
    (impure_import, "actors/raft/core.py", "from random import randint"),
    (impure_import, "graph/store.py", "def f():\n    import threading"),
    (impure_import, "graph/store.py", "if not TYPE_CHECKING:\n    pass\nimport uuid"),
    (impure_import, "bolt/connection.py", "import asyncio.streams"),
    (init_with_logic, "graph/__init__.py", "def f(): pass"),
    (init_with_logic, "rayft.py", "x = 1"),
    (bad_exports, "graph/x.py", "__all__ = ['b', 'a']\na = b = 1"),
    (bad_exports, "graph/x.py", "__all__ = ['a', 'B']\na = B = 1"),
    (bad_exports, "graph/x.py", "__all__ = ['a', 'a']\na = 1"),
    (bad_exports, "graph/x.py", "__all__ = ['a', 'b']\na = 1"),
]


@pytest.mark.parametrize(("rule", "path", "text"), BREACHES)
def test_rule_sees_a_breach(rule: Rule, path: str, text: str) -> None:
    assert list(rule(Source(path, text)))


FINE: list[tuple[Rule, str, str]] = [
    (long_file, "graph/x.py", "\n" * FILE_LINES_MAX),
    (long_function, "graph/x.py", f'def f():\n    """{LONG_BODY}"""\n    pass'),
    (no_theory, "graph/__init__.py", ""),
    (no_theory, "graph/x.py", '"""Theory."""\nx = 1'),
    (code_from_data, "graph/x.py", "expression.eval(row)\nfrom . import pickle_free"),
    (ray_elsewhere, "actors/transport.py", "import ray"),
    (ray_elsewhere, "actors/wal.py", "import rayft"),
    (impure_import, "actors/disk.py", "import os"),
    (impure_import, "graph/x.py", "if TYPE_CHECKING:\n    import threading"),
    (impure_import, "graph/x.py", "from random import Random"),
    (impure_import, "bolt/packstream.py", "import uuid"),
    (init_with_logic, "graph/__init__.py", '"""Doc."""\nfrom a import b\n__all__ = ["b"]'),
    (bad_exports, "graph/x.py", "A1 = B = Z = b2 = b10 = 1\n__all__ = ['A1', 'B', 'b2', 'b10']"),
    (bad_exports, "graph/x.py", "try:\n  import a\nexcept E:\n  a = 0\n__all__ = ['a']"),
    (bad_exports, "graph/x.py", "__all__ = ['a', 'f']\nfrom x import y as a\ndef f(): pass"),
]


@pytest.mark.parametrize(("rule", "path", "text"), FINE)
def test_rule_lets_pass(rule: Rule, path: str, text: str) -> None:
    assert list(rule(Source(path, text))) == []


# --- Documents ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["run", "test"])
def test_readme_has_the_command(name: str) -> None:
    """What .ci/run relies on: a marker, and under it a fenced block of one line."""
    readme = ROOT / "README.md"
    if not readme.exists():
        pytest.skip("there is no README.md yet")
    block = rf"^<!-- command:{name} -->\n+```(?:sh|bash|console)\n(\S[^\n]*)\n```$"
    commands = re.findall(block, readme.read_text("utf-8"), re.MULTILINE)
    assert len(commands) == 1, f"README.md: <!-- command:{name} --> and one fenced line, once"


def test_contributing_is_two_pages_at_most() -> None:
    assert len((ROOT / "CONTRIBUTING.md").read_text("utf-8").splitlines()) <= 120
