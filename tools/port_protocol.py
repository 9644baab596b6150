"""Ports a protocol file that was written for hvo 0.1.0.

usage: python tools/port_protocol.py OLD > NEW

Imports from `hvo.steps` become imports from `hvo.protocol`, names that changed are changed where
the file uses them, and `yield STEP(...)` becomes `yield from STEP(...)`, whose type is the step's
result; `shared_tail`, which gave False where there is no memory, gives None. Everything else,
comments and layout too, stays as it is. A name that means something else in the file as well keeps
its old spelling, by `import ... as`. The edits are made at the places that the syntax tree gives,
so text that only looks like a name is left alone.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PROTOCOL = "hvo.protocol"
STEP_MODULES = {
    "hvo.steps.composite",
    "hvo.steps.consumer",
    "hvo.steps.folio",
    "hvo.steps.hotplug",
    "hvo.steps.pool",
    "hvo.steps.processors",
    "hvo.steps.raw_errors",
    "hvo.steps.references",
    "hvo.steps.tables",
    "hvo.steps.vocabulary",
}
"""Modules of 0.1.0 whose names are all in `hvo.protocol`."""
RENAMED_STEPS = {
    "PileFrames": "ListAdd",
    "PileIsEmpty": "ListEmpty",
    "TakePiled": "ListPop",
    "FreePile": "FreeVmemmapPageList",
}
RENAMED_ELSEWHERE = {"hvo.vmemmap.context": {"REFUSED": "EOPNOTSUPP"}}
STARRED = {
    "Any": "from typing import Any",
    "Callable": "from collections.abc import Callable",
    "ClassVar": "from typing import ClassVar",
    "Enum": "from enum import Enum",
    "Generator": "from collections.abc import Generator",
    "NDArray": "from numpy.typing import NDArray",
    "NamedTuple": "from typing import NamedTuple",
    "TypeAlias": "from typing import TypeAlias",
    "dataclass": "from dataclasses import dataclass",
    "np": "import numpy as np",
}
"""What `import *` from these modules gave besides, and how to import it."""


class Edit(NamedTuple):
    """Bytes from `start` to `end` become `text`."""

    start: int
    end: int
    text: str


class _File:
    """A source file with its tree and what its names mean."""

    def __init__(self, source: str) -> None:
        self.bytes = source.encode()
        self.tree = ast.parse(source)
        self.nodes = list(ast.walk(self.tree))
        lengths = [len(line) for line in self.bytes.splitlines(keepends=True)]
        self._starts = [sum(lengths[:number]) for number in range(len(lengths) + 1)]
        self.names = {node.id for node in self.nodes if isinstance(node, ast.Name)}
        self.imports = [node for node in self.nodes if isinstance(node, ast.ImportFrom)]
        self.starred = [
            node
            for node in self.imports
            if node.module in STEP_MODULES and node.names[0].name == "*"
        ]
        self.renamed = dict(self._renamed())

    def span(self, node: ast.expr | ast.stmt | ast.alias) -> tuple[int, int]:
        """Where a node is, in bytes."""
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = self._starts[node.lineno - 1] + node.col_offset
        return start, self._starts[node.end_lineno - 1] + node.end_col_offset

    def _renamed(self) -> Iterator[tuple[str, str]]:
        """Names that are used as they were imported and mean nothing else in the file."""
        for node in self.imports:
            table = renamed_in(node.module)
            given = {alias.name for alias in node.names if alias.asname is None}
            for name in table if node in self.starred else given & table.keys():
                if not self.binds(name) and table[name] not in self._identifiers():
                    yield name, table[name]

    def binds(self, name: str) -> bool:
        """Whether the file gives `name` a meaning of its own."""
        for node in self.nodes:
            match node:
                case ast.Name(id=found) | ast.arg(arg=found) if found == name:
                    if isinstance(node, ast.arg) or not isinstance(node.ctx, ast.Load):
                        return True
                case ast.FunctionDef(name=found) | ast.ClassDef(name=found) if found == name:
                    return True
                case _:
                    pass
        return False

    def _identifiers(self) -> set[str]:
        bound = {getattr(node, "name", None) for node in self.nodes}
        bound |= {node.arg for node in self.nodes if isinstance(node, ast.arg)}
        return self.names | {name for name in bound if isinstance(name, str)}


def renamed_in(module: str | None) -> dict[str, str]:
    """What is called something else among the names of a module of 0.1.0."""
    if module in STEP_MODULES:
        return RENAMED_STEPS
    return RENAMED_ELSEWHERE.get(module or "", {})


def port(source: str) -> str:
    """The text of a protocol file for this version."""
    file = _File(source)
    edits = [*_imports(file), *_uses(file), *_modules(file), *_yields(file), *_refusals(file)]
    text = file.bytes
    for edit in sorted(set(edits), reverse=True):
        text = text[: edit.start] + edit.text.encode() + text[edit.end :]
    return text.decode()


# -- from hvo.steps.x import a, b --


def _imports(file: _File) -> Iterator[Edit]:
    for node in file.imports:
        table = renamed_in(node.module)
        if node in file.starred:
            yield from _starred(file, node)
            continue
        if node.module in STEP_MODULES:
            yield _module_name(file, node, PROTOCOL)
        for alias in node.names:
            if alias.name in table:
                kept = alias.asname or (alias.name if alias.name not in file.renamed else None)
                new = table[alias.name]
                yield Edit(*file.span(alias), f"{new} as {kept}" if kept else new)


def _module_name(file: _File, node: ast.ImportFrom, name: str) -> Edit:
    start, end = file.span(node)
    found = re.match(rb"from[\s\\]+([\w.]+)", file.bytes[start:end])
    assert found is not None
    return Edit(start + found.start(1), start + found.end(1), name)


def _starred(file: _File, node: ast.ImportFrom) -> Iterator[Edit]:
    """The first `import *` gives everything; later ones that stand alone go."""
    start, end = file.span(node)
    if node is not file.starred[0] and node in file.tree.body:
        line_end = file.bytes.find(b"\n", end) + 1 or len(file.bytes)
        alone = not file.bytes[end:line_end].strip() and file.bytes[:start][-1:] in (b"", b"\n")
        yield Edit(start, line_end, "") if alone else Edit(start, end, "pass")
        return
    lines = [f"from {PROTOCOL} import *"]
    lines += [
        f"from {PROTOCOL} import {new} as {old}"
        for old, new in RENAMED_STEPS.items()
        if old in file.names and old not in file.renamed
    ]
    imported = {
        alias.asname or alias.name
        for other in file.nodes
        if isinstance(other, ast.Import | ast.ImportFrom)
        for alias in other.names
    }
    lines += sorted(STARRED[name] for name in (file.names & STARRED.keys()) - imported)
    yield Edit(start, end, f"\n{' ' * node.col_offset}".join(lines))


# -- names in the code --


def _uses(file: _File) -> Iterator[Edit]:
    for node in file.nodes:
        if isinstance(node, ast.Name) and node.id in file.renamed:
            yield Edit(*file.span(node), file.renamed[node.id])
        elif isinstance(node, ast.Constant) and node.value in RENAMED_STEPS:
            assert isinstance(node.value, str)
            start, end = file.span(node)
            text = file.bytes[start:end].decode().replace(node.value, RENAMED_STEPS[node.value])
            yield Edit(start, end, text)


# -- modules as names: from hvo.steps import vocabulary as s; import hvo.steps.vocabulary --


def _modules(file: _File) -> Iterator[Edit]:
    aliases: set[str] = set()
    for node in file.imports:
        if node.module == "hvo.steps":
            aliases |= {alias.asname or alias.name for alias in node.names}
            yield _module_name(file, node, "hvo")
            for alias in node.names:
                yield Edit(*file.span(alias), f"protocol as {alias.asname or alias.name}")
    for node in file.nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in STEP_MODULES:
                    aliases.add(alias.asname or alias.name)
                    named = f" as {alias.asname}" if alias.asname else ""
                    yield Edit(*file.span(alias), PROTOCOL + named)
    for node in file.nodes:
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in aliases:
            yield from _attribute(file, node)


def _attribute(file: _File, node: ast.Attribute) -> Iterator[Edit]:
    start, end = file.span(node.value)
    if file.bytes[start:end].decode() in STEP_MODULES:
        yield Edit(start, end, PROTOCOL)
    if node.attr in RENAMED_STEPS:
        end = file.span(node)[1]
        yield Edit(end - len(node.attr.encode()), end, RENAMED_STEPS[node.attr])


# -- yield STEP(...), and what shared_tail gives --


def _yields(file: _File) -> Iterator[Edit]:
    modules, names = _step_modules(file), set(_step_names(file))
    for node in file.nodes:
        if isinstance(node, ast.Yield) and isinstance(node.value, ast.Call):
            called = node.value.func
            attribute = isinstance(called, ast.Attribute) and ast.unparse(called.value) in modules
            if attribute or (isinstance(called, ast.Name) and called.id in names):
                end = file.span(node)[0] + len(b"yield")
                yield Edit(end, end, " from")


def _step_modules(file: _File) -> set[str]:
    """What the file calls the modules that have steps."""
    found = {
        alias.asname or alias.name
        for node in file.imports
        for alias in node.names
        if node.module == "hvo.steps" or (node.module, alias.name) == ("hvo", "protocol")
    }
    return found | {
        alias.asname or alias.name
        for node in file.nodes
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name in {PROTOCOL, *STEP_MODULES}
    }


def _step_names(file: _File) -> Iterator[str]:
    """Names of classes that the file has from there."""
    for node in file.imports:
        if node.module in {PROTOCOL, *STEP_MODULES}:
            for alias in node.names:
                if alias.name == "*":
                    yield from (name for name in file.names if not file.binds(name))
                elif alias.name[0].isupper():
                    yield alias.asname or alias.name


def _refusals(file: _File) -> Iterator[Edit]:
    """`shared is False`, where `shared` is what `shared_tail` gave."""
    given = {
        target.id
        for node in file.nodes
        if isinstance(node, ast.Assign) and _calls(node.value, "shared_tail")
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in file.nodes:
        match node:
            case ast.Compare(left=ast.Name(id=name), comparators=[ast.Constant(value=False) as no]):
                if name in given:
                    yield Edit(*file.span(no), "None")
            case _:
                pass


def _calls(node: ast.expr, name: str) -> bool:
    return (
        isinstance(node, ast.YieldFrom)
        and isinstance(node.value, ast.Call)
        and ast.unparse(node.value.func).split(".")[-1] == name
    )


def main() -> int:
    """The command line -> the exit status."""
    if len(sys.argv) != 2:
        print("usage: python tools/port_protocol.py OLD > NEW", file=sys.stderr)
        return 2
    try:
        sys.stdout.write(port(Path(sys.argv[1]).read_text()))
    except (OSError, UnicodeDecodeError, SyntaxError) as error:
        print(f"{sys.argv[1]}: {error}: expected a protocol file of hvo 0.1.0", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
