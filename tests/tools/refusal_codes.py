# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find every code that a refusal can have, by reading the sources.

refusal_codes.py    prints each code and where it is made; exit status 1 where a code cannot be told

A refusal is made by ``refusal(code, reason, remedy)``, by a reaction that ends a migration, or written as a dictionary
with ``code``, ``reason`` and ``remedy``. Where its code is not written there, it is followed: to the constant, the row
of a table, the field of a record, or to the callers of a function that is given the code. A code that is taken from
another refusal (``why["code"]``, ``**why``) is not a new one.
"""

from __future__ import annotations

import ast
import dataclasses
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "ansible_collections.kvmops.cluster."
MAKER = "plugins/module_utils/core/refusal.py"
#: Functions that take a refusal apart and make it again: its code is not a new one.
RELAYS = {
    ("plugins/module_utils/core/capsule/frames.py", "_told"),
    ("plugins/module_utils/core/plan/plan.py", "guest_remarks"),
    (MAKER, "refusal"),
}
#: What a move that broke off can be found to be, but is then settled and not refused (Recoverer).
SETTLED = {"close", "resume_source"}

Found = dict[str, set[str]]
#: A definition: the file it is in, and its name.
Origin = tuple[str, str]


class UnknownCodeError(Exception):
    """A code that cannot be told from the sources."""


@dataclasses.dataclass(frozen=True, eq=False)
class File:
    """One file: its tree, what is above each item, and what its names stand for."""

    path: str
    tree: ast.Module
    parents: dict[ast.AST, ast.AST]
    imported: dict[str, Origin]

    @classmethod
    def read(cls, path: str, text: str) -> File:
        tree = ast.parse(text)
        parents: dict[ast.AST, ast.AST] = {}
        for item in ast.walk(tree):
            for value in (value for dummy, value in ast.iter_fields(item)):
                children = value if isinstance(value, list) else [value]
                parents.update({child: item for child in children if isinstance(child, ast.AST)})
        imported = {}
        for item in ast.walk(tree):
            if isinstance(item, ast.ImportFrom) and (item.module or "").startswith(PACKAGE):
                where = (item.module or "").removeprefix(PACKAGE).replace(".", "/")
                for one in item.names:
                    imported[one.asname or one.name] = (where, one.name)
        return cls(path, tree, parents, imported)

    def place(self, item: ast.expr) -> str:
        return f"{self.path}:{item.lineno}"

    def above(self, item: ast.AST) -> Iterator[ast.AST]:
        """What a item is in, the innermost first."""
        while item in self.parents:
            item = self.parents[item]
            yield item

    def origin(self, item: ast.expr) -> Origin:
        """Where a function, class or constant is defined that an expression names."""
        if isinstance(item, ast.Attribute):
            if isinstance(item.value, ast.Name) and item.value.id in self.imported:
                where, name = self.imported[item.value.id]
                return f"{where}/{name}.py", item.attr
            return self.path, item.attr
        if isinstance(item, ast.Name):
            where, name = self.imported.get(item.id, ("", item.id))
            return (f"{where}.py", name) if where else (self.path, item.id)
        return self.path, ""


class Sources:
    """All files, with what is looked up in them."""

    def __init__(self, files: dict[str, str]) -> None:
        self.files = {path: File.read(path, text) for path, text in sorted(files.items())}
        self.calls: dict[Origin, list[tuple[File, ast.Call]]] = defaultdict(list)
        self.methods: dict[str, list[tuple[File, ast.Call]]] = defaultdict(list)
        self.constants: dict[Origin, ast.expr] = {}
        self.functions: dict[Origin, ast.FunctionDef] = {}
        self.fields: dict[str, list[tuple[Origin, int]]] = defaultdict(list)
        self.open: set[ast.expr] = set()
        for file in self.files.values():
            self._read(file)

    def _read(self, file: File) -> None:
        for item in ast.walk(file.tree):
            if isinstance(item, ast.Call):
                self.calls[file.origin(_called(file, item))].append((file, item))
                if isinstance(item.func, ast.Attribute):
                    self.methods[item.func.attr].append((file, item))
            elif isinstance(item, ast.FunctionDef):
                self.functions[file.path, item.name] = item
            elif isinstance(item, ast.ClassDef):
                own = [_name_of(one.target) for one in item.body if isinstance(one, ast.AnnAssign)]
                for number, field in enumerate(own):
                    self.fields[field].append(((file.path, item.name), number))
        for item in file.tree.body:
            if isinstance(item, ast.Assign | ast.AnnAssign) and item.value is not None:
                for target in item.targets if isinstance(item, ast.Assign) else [item.target]:
                    for name, value in _pairs(target, item.value):
                        self.constants[file.path, name] = value

    # ---- where refusals are made

    def codes(self) -> Found:
        """Every code, with the places that make a refusal of it."""
        found: Found = defaultdict(set)
        for file, item in self.made():
            for code in self.values(file, item) - SETTLED:
                found[code].add(file.place(item))
        return found

    def made(self) -> Iterator[tuple[File, ast.expr]]:
        """The code of each refusal that is made, as it is written there."""
        for file, call in self.calls[MAKER, "refusal"]:
            yield from ((file, code) for code in _argument(call, 0, "code"))
        for file, call in self.calls["plugins/module_utils/core/control/reaction.py", "Reaction"]:
            yield from ((file, code) for code in _argument(call, None, "code"))
        for file in self.files.values():
            for item in ast.walk(file.tree):
                if isinstance(item, ast.Dict):
                    keys = [one.value if isinstance(one, ast.Constant) else None for one in item.keys]
                    if {"code", "reason", "remedy"} <= set(keys) and not _describes(item):
                        yield file, item.values[keys.index("code")]

    # ---- what an expression can be

    def values(self, file: File, item: ast.expr) -> set[str]:
        """Every text that an expression can be; none where it is the code of another refusal."""
        if item in self.open:
            return set()
        self.open.add(item)
        try:
            return self._values(file, item)
        finally:
            self.open.discard(item)

    def _values(self, file: File, item: ast.expr) -> set[str]:
        if isinstance(item, ast.Constant):
            return {item.value} if isinstance(item.value, str) and item.value else set()
        if isinstance(item, ast.IfExp):
            listed = _one_of(item)
            return self._all([(file, one) for one in (*(listed or [item.body]), item.orelse)])
        if isinstance(item, ast.BoolOp):
            return self._all([(file, one) for one in item.values])
        if isinstance(item, ast.Subscript):
            return self._part(file, item)
        if isinstance(item, ast.Attribute):
            return self._attribute(file, item)
        if isinstance(item, ast.Name):
            return self._name(file, item)
        raise UnknownCodeError(f"{file.place(item)}: {ast.unparse(item)}")

    def _all(self, expressions: list[tuple[File, ast.expr]]) -> set[str]:
        return {text for file, item in expressions for text in self.values(file, item)}

    def _part(self, file: File, item: ast.Subscript) -> set[str]:
        """A field of another refusal, or one value of a tuple that is a constant."""
        if isinstance(item.slice, ast.Constant):
            if item.slice.value == "code":
                return set()
            origin = file.origin(item.value)
            table = self.constants.get(origin)
            if isinstance(table, ast.Tuple) and isinstance(item.slice.value, int):
                return self.values(self.files[origin[0]], table.elts[item.slice.value])
        raise UnknownCodeError(f"{file.place(item)}: {ast.unparse(item)}")

    def _attribute(self, file: File, item: ast.Attribute) -> set[str]:
        """A constant of another file, or a field of a record: what every such record is made with."""
        origin = file.origin(item)
        if origin in self.constants:
            return self.values(self.files[origin[0]], self.constants[origin])
        given = [
            (where, value)
            for record, number in self._records(file, item)
            for where, call in self.calls[record]
            for value in _argument(call, number, item.attr)
        ]
        if not given:
            raise UnknownCodeError(f"{file.place(item)}: {ast.unparse(item)}")
        return self._all(given)

    def _records(self, file: File, item: ast.Attribute) -> list[tuple[Origin, int]]:
        """The classes with such a field: the one that an argument must be, or those of this file."""
        if isinstance(item.value, ast.Name):
            for function in file.above(item):
                if isinstance(function, ast.FunctionDef):
                    for argument in _arguments(function):
                        if argument.arg == item.value.id and isinstance(argument.annotation, ast.Name):
                            origin = file.origin(argument.annotation)
                            return [one for one in self.fields[item.attr] if one[0] == origin]
        return [one for one in self.fields[item.attr] if one[0][0] == file.path]

    def _name(self, file: File, item: ast.Name) -> set[str]:
        for above in file.above(item):
            if isinstance(above, ast.FunctionDef):
                if (file.path, above.name) in RELAYS:
                    return set()
                found = self._local(file, above, item)
                if found is not None:
                    return found
        origin = file.origin(item)
        if origin not in self.constants:
            raise UnknownCodeError(f"{file.place(item)}: {item.id}")
        return self.values(self.files[origin[0]], self.constants[origin])

    def _local(self, file: File, function: ast.FunctionDef, item: ast.Name) -> set[str] | None:
        """What a name is within a function: assigned, the variable of a loop, or an argument. None: not its own."""
        found: list[tuple[File, ast.expr]] = []
        for one in ast.walk(function):
            if isinstance(one, ast.Assign):
                for target in one.targets:
                    found.extend(self._assigned(file, target, one.value, item.id))
            elif isinstance(one, ast.For | ast.comprehension):
                for row in self._rows(file, one.iter):
                    found.extend(self._assigned(file, one.target, row, item.id))
        names = [argument.arg for argument in _arguments(function)]
        if item.id in names:
            found.extend(self._given(file, function, names.index(item.id), item.id))
        return self._all(found) if found or item.id in names else None

    def _assigned(self, file: File, target: ast.expr, value: ast.expr, name: str) -> Iterator[tuple[File, ast.expr]]:
        """What an assignment makes of a name: the value, or its part of each tuple that the value can be."""
        if isinstance(target, ast.Name) and target.id == name:
            yield file, value
        elif isinstance(target, ast.Tuple):
            for row in self._tuples(file, value):
                for part, one in zip(target.elts, row.elts, strict=False):
                    yield from self._assigned(file, part, one, name)

    def _tuples(self, file: File, value: ast.expr) -> Iterator[ast.Tuple]:
        """The tuples that an expression can be: one of two, a row of a table, or what a function returns."""
        if isinstance(value, ast.Tuple):
            yield value
        elif isinstance(value, ast.IfExp):
            yield from self._tuples(file, value.body)
            yield from self._tuples(file, value.orelse)
        elif isinstance(value, ast.Call | ast.Subscript):
            function = self.functions.get(file.origin(value.func)) if isinstance(value, ast.Call) else None
            if function is not None:
                returned = [one.value for one in ast.walk(function) if isinstance(one, ast.Return)]
                rows = [one for one in returned if one is not None]
            else:
                rows = self._rows(file, value.value if isinstance(value, ast.Subscript) else value)
            for row in rows:
                yield from self._tuples(file, row)

    def _rows(self, file: File, table: ast.expr) -> list[ast.expr]:
        """The rows of a table of this file: what a loop over it gives, or a look-up in it."""
        if isinstance(table, ast.Call):
            table = table.func
        if isinstance(table, ast.Attribute) and table.attr in ("values", "get"):
            table = table.value
        if isinstance(table, ast.Name):
            table = self.constants.get((file.path, table.id), table)
        if isinstance(table, ast.Dict):
            return table.values
        return list(table.elts) if isinstance(table, ast.Tuple | ast.List) else []

    def _given(self, file: File, function: ast.FunctionDef, number: int, name: str) -> Iterator[tuple[File, ast.expr]]:
        """What callers give a function for one of its arguments, and what it is without that."""
        owner = next((one for one in file.above(function) if isinstance(one, ast.ClassDef)), None)
        if owner is None:
            calls = self.calls[file.path, function.name]
        elif function.name == "__init__":
            calls = self.calls[file.path, owner.name]
        else:
            calls = self.methods[function.name]
        for where, call in calls:
            yield from ((where, value) for value in _argument(call, number - (owner is not None), name))
        plain = function.args.args[len(function.args.args) - len(function.args.defaults) :]
        for argument, value in zip(plain, function.args.defaults, strict=True):
            if argument.arg == name:
                yield file, value


def _called(file: File, call: ast.Call) -> ast.expr:
    """What is called; of ``super().__init__`` the class above."""
    func = call.func
    if isinstance(func, ast.Attribute) and func.attr == "__init__" and isinstance(func.value, ast.Call):
        owner = next(one for one in file.above(call) if isinstance(one, ast.ClassDef))
        return owner.bases[0] if owner.bases else func
    return func


def _argument(call: ast.Call, number: int | None, name: str) -> list[ast.expr]:
    """What a call gives for an argument, if it does."""
    named = [one.value for one in call.keywords if one.arg == name]
    if named or number is None or number >= len(call.args) or isinstance(call.args[number], ast.Starred):
        return named
    return [call.args[number]]


def _arguments(function: ast.FunctionDef) -> list[ast.arg]:
    return [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]


def _name_of(item: ast.expr) -> str:
    return item.id if isinstance(item, ast.Name) else ""


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(target, ast.Name):
        yield target.id, value
    elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for one, part in zip(target.elts, value.elts, strict=True):
            yield from _pairs(one, part)


def _one_of(item: ast.IfExp) -> list[ast.expr]:
    """The texts of ``x if x in ("a", "b") else ...``."""
    test = item.test
    if isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.In):
        texts = test.comparators[0]
        if isinstance(texts, ast.Tuple) and ast.dump(test.left) == ast.dump(item.body):
            return texts.elts
    return []


def _describes(item: ast.Dict) -> bool:
    """Whether it is what a refusal looks like (its shape, the lengths of its texts), or a check that has passed."""
    return any(
        (isinstance(value, ast.Constant) and isinstance(value.value, int) and value.value is not False)
        or isinstance(value, ast.Call)
        or (isinstance(value, ast.Name) and value.id == "_TEXT")
        for key, value in zip(item.keys, item.values, strict=True)
        if not (isinstance(key, ast.Constant) and key.value in ("reason", "remedy"))
    )


def read(root: Path) -> dict[str, str]:
    """The plugins of a checkout."""
    return {str(path.relative_to(root)): path.read_text(encoding="utf-8") for path in (root / "plugins").rglob("*.py")}


def codes(files: dict[str, str]) -> Found:
    """Every code of these files, with the places that make a refusal of it.

    Raises: UnknownCodeError where a refusal is made with a code that cannot be told.
    """
    return Sources(files).codes()


if __name__ == "__main__":
    try:
        every = codes(read(Path(__file__).parents[2]))
    except UnknownCodeError as error:
        sys.exit(f"cannot tell the code at {error}")
    print("\n".join(f"{code}: {', '.join(sorted(every[code]))}" for code in sorted(every)))
