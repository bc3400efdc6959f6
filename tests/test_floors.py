"""The house stands: imports run downwards, files and functions are short, names that are public are meant to be."""

import ast
import re
import statistics
from pathlib import Path

import pytest

import secateur
from secateur import errors

ROOT = Path(secateur.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
FLOORS = {
    "errors": 1,
    "files": 1,
    "registry": 1,
    "hook": 1,
    "ledger": 1,
    "schedule": 1,
    "graph": 2,
    "engines": 2.5,
    "groups": 3,
    "evidence": 3.5,
    "criteria": 4,
    "cost": 4,
    "surgery": 4,
    "gates": 5,
    "allocation": 5,
    "sparsity": 5,
    "latency": 5.5,
    "pruned": 5.5,
    "prune": 6,
    "stepwise": 6,
    "methods": 7,
    "training": 8,
    "testing": 8,
    "experiments": 9,
    "report": 10,
    "integrations": 10,
    "cli": 11,
    "__main__": 12,
    "__init__": 7,  # what `import secateur` gives: everything up to methods
}
APART = [{"criteria", "cost", "surgery"}]  # wings of one floor that do not know each other
LINES, FUNCTION = 300, 60
LONG = {"training/loop.py:fit"}  # over the 50 that the design asks for, and let be
CIFAR = (
    ROOT / "experiments" / "data" / "python_batches.py"
)  # its publisher chose pickles; read without calling anything


def dotted(path):
    """`secateur.graph.rules` for both `graph/rules.py` and `graph/rules/__init__.py`."""
    parts = ("secateur", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {dotted(p): p for p in FILES}


def part(module):
    """The floor's name of a module."""
    pieces = module.split(".")
    return pieces[1] if len(pieces) > 1 else "__init__"


def target(path, node):
    """What an import names, resolved: absolute names of modules of this package."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names if alias.name.split(".")[0] == "secateur"]
    base = node.module or ""
    if node.level:
        package = dotted(path).split(".") if path.name == "__init__.py" else dotted(path).split(".")[:-1]
        package = package[: len(package) - node.level + 1]
        base = ".".join([*package, *([base] if base else [])])
    if base.split(".")[0] != "secateur":
        return []
    return [f"{base}.{a.name}" if f"{base}.{a.name}" in MODULES else base for a in node.names]


def imports(path, *, top=False):
    """Modules of this package that a file imports; `top`: when it is itself imported, leaving out TYPE_CHECKING."""
    tree = ast.parse(path.read_text())
    body = tree.body
    nodes = ast.walk(tree)
    if top:
        nodes = [n for n in body if not isinstance(n, (ast.FunctionDef, ast.ClassDef, ast.If))]
        nodes = [inner for n in nodes for inner in ast.walk(n)]
    return sorted({m for n in nodes if isinstance(n, (ast.Import, ast.ImportFrom)) for m in target(path, n)})


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_downwards(path):
    own = part(dotted(path))
    assert own in FLOORS, f"{own} has no floor"
    for module in imports(path):
        other = part(module)
        if other == own:
            continue
        assert FLOORS[other] <= FLOORS[own], f"floor {FLOORS[own]} imports {module} of floor {FLOORS[other]}"
        assert not any({own, other} <= wings for wings in APART), f"{own} imports {module}"


def circle(graph):
    """The first circle found, as a list of names, or None."""
    done, under_way = set(), []

    def visit(name):
        if name in under_way:
            return [*under_way[under_way.index(name) :], name]
        if name in done:
            return None
        under_way.append(name)
        found = next((c for c in map(visit, graph.get(name, [])) if c), None)
        under_way.pop()
        done.add(name)
        return found

    return next((c for c in map(visit, graph) if c), None)


def test_there_is_no_circle():
    assert circle({name: [m for m in imports(path, top=True) if m != name] for name, path in MODULES.items()}) is None
    assert circle({"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}) is None
    assert circle({"a": ["b"], "b": ["c", "d"], "c": [], "d": ["b"]}) == ["b", "d", "b"]


def test_the_checker_sees_what_it_should():
    """Relative, absolute, through a package: all found."""
    path = ROOT / "graph" / "trace.py"
    assert "secateur.graph.rules" in imports(path)
    assert "secateur.errors" in imports(path)
    assert imports(ROOT / "files.py") == ["secateur.errors"]
    assert "secateur.criteria.base" in imports(ROOT / "__init__.py")
    assert FLOORS[part("secateur.methods.base")] > FLOORS[part("secateur.prune")]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_are_short_and_say_what_they_are_for(path):
    text = path.read_text()
    assert len(text.splitlines()) <= LINES
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), "the first line is not the file's purpose"
        assert text.startswith('"""')


def functions(path):
    return [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]


def test_functions_are_short():
    lengths = {
        f"{path.relative_to(ROOT)}:{f.name}": f.end_lineno - f.lineno + 1 for path in FILES for f in functions(path)
    }
    assert {name: n for name, n in lengths.items() if n > FUNCTION} == {}
    assert {name for name, n in lengths.items() if n > 50} <= LONG
    assert statistics.median(lengths.values()) <= 12


def test_all_names_what_is_public():
    public = {n for n in vars(secateur) if not n.startswith("_") and not isinstance(vars(secateur)[n], type(ast))}
    registries = {"ALLOCATORS", "CRITERIA", "METHODS", "WEIGHT_CRITERIA"}
    assert set(secateur.__all__) - {"__version__"} == public - registries
    assert secateur.__all__ == sorted(secateur.__all__)
    assert all(hasattr(secateur, n) for n in secateur.__all__)


def test_the_tree_of_errors_is_the_one_that_is_drawn():
    drawn = {}
    stack = []
    for line in errors.__doc__.splitlines():
        found = re.match(r"^([│├└─ ]*)([A-Z]\w+)", line)
        if found and found[2] in vars(errors):
            depth = len(found[1]) // 4
            stack[depth:] = [found[2]]
            drawn[found[2]] = stack[depth - 1] if depth else None
    defined = {n: c for n, c in vars(errors).items() if isinstance(c, type) and issubclass(c, (Exception, Warning))}
    assert set(drawn) == set(defined)
    for name, parent in drawn.items():
        bases = [b.__name__ for b in defined[name].__bases__]
        assert bases == ([parent] if parent else [b for b in bases if b in ("Exception", "UserWarning")])


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_is_swallowed_stubbed_or_pickled(path):
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"bare except at line {node.lineno}"
            assert not all(isinstance(n, ast.Pass) for n in node.body), f"swallowed at line {node.lineno}"
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = {a.name.split(".")[0] for a in node.names} | {(getattr(node, "module", None) or "").split(".")[0]}
            allowed = {"pickle"} if path == CIFAR else set()
            assert not names & ({"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"} - allowed)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "torch.load",
            "torch.save",
            "pickle.load",
            "pickle.loads",
        ):
            raise AssertionError(f"{ast.unparse(node.func)} at line {node.lineno} pickles")


def test_criteria_and_methods_are_one_file_each_of_modest_length():
    kinds = (secateur.criteria(), secateur.weight_criteria(), secateur.methods(), secateur.allocators())
    for cls in (cls for kind in kinds for cls in kind.values()):
        path = ROOT.parent / Path(*cls.__module__.split(".")).with_suffix(".py")
        assert len(path.read_text().splitlines()) <= 120
        assert cls.__doc__
