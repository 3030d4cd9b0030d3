"""The layout of the code, held against its own files: rooms, arrows of import that only go down, small files."""

import ast
import functools
import sys
from pathlib import Path

import pytest

from components.base import imports as walker
from components.pipeline import PIPELINE
from flows.project.presets import SAMPLES

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(path for top in ("components", "consume", "flows") for path in (ROOT / top).rglob("*.py"))

# From the ground up: a room imports only rooms that stand before it.
ROOMS = (
    "consume.pull", "consume.signed",  # others copy them: they import nothing of ours
    "components.base", "components.decode", "components.samples", "components.html", "components.embed",
    "components.diffusion", "components.networks", "components.dataset", "components.model",
    "components.collect", "components.clean", "components.resize", "components.split", "components.profile",
    "components.describe", "components.diff", "components.review", "components.contract", "components.export",
    "components.encode", "components.train", "components.evaluate", "components.report", "components.register",
    "components.distil", "components.pipeline", "components.__main__", "components.forking",
    "flows.workspace", "flows.dvc", "flows.history", "flows.registry", "flows.data", "flows.model", "flows.worker",
    "flows.run", "flows.keep", "flows.project", "flows.cli",
)  # fmt: skip
STAGES = tuple(stage.name for stage in PIPELINE)
LINES, FUNCTION = 400, 60
LINKED = {Path("flows/project", name) for name in ("params.yaml", *SAMPLES)}
"""What comes with the package, to make a project from: links to the checkout's own files."""


def name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def room(module: str) -> str:
    return ".".join(module.split(".")[:2])


def imports(path: Path) -> set[str]:
    """The modules of ours that ``path`` imports, anywhere in it; packages themselves hold no code."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= set(walker.named(node, name(path)))
    return found & MODULES


MODULES = {name(path) for path in SOURCES if path.stem != "__init__"}


@functools.cache  # not where the tests are collected: each process does that, and one needs it
def imported() -> dict[str, set[str]]:
    """What each module of ours imports."""
    return {name(path): imports(path) for path in SOURCES if path.stem != "__init__"}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of a circle of imports in their order, empty when there is none."""
    done: set[str] = set()

    def walk(module: str, trail: list[str]) -> list[str]:
        if module in trail:
            return [*trail[trail.index(module) :], module]
        if module in done:
            return []
        for other in sorted(graph[module]):
            if found := walk(other, [*trail, module]):
                return found
        done.add(module)
        return []

    return next((found for module in sorted(graph) if (found := walk(module, []))), [])


def test_a_circle_is_found_where_there_is_one():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": set()}) == ["a", "b", "c", "a"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_no_module_imports_itself_by_way_of_others():
    assert circle(imported()) == []


def test_every_room_has_its_place_in_the_order():
    assert {room(module) for module in MODULES} == set(ROOMS)


def test_a_module_imports_only_rooms_below_its_own():
    places = {module: ROOMS.index(room(module)) for module in MODULES}
    wrong = [(module, other) for module in sorted(MODULES) for other in imported()[module]
             if places[other] > places[module]]  # fmt: skip
    assert wrong == [], "each imports one that stands above it"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_imports_no_other_stage(stage):
    others = {f"components.{other}" for other in STAGES if other != stage}
    mine = {other for module, found in imported().items() if room(module) == f"components.{stage}" for other in found}
    assert not {room(other) for other in mine} & others


def test_every_folder_with_code_is_a_package_and_holds_code_alone():
    for top in ("components", "consume", "flows"):
        for path in (ROOT / top).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and path.relative_to(ROOT) not in LINKED:
                assert path.suffix == ".py", f"{path}: not code"
                assert (path.parent / "__init__.py").is_file(), f"{path.parent} is no package"


def test_tests_and_benchmarks_are_short_files_too():
    paths = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    assert [path for path in paths if path.read_text("utf-8").count("\n") > LINES] == []


def test_nothing_lies_loose_beside_the_packages():
    assert {path.name for path in (ROOT / "components").glob("*.py")} == {"__init__.py", "__main__.py", "pipeline.py"}
    assert {path.name for path in (ROOT / "flows").glob("*.py")} == {"__init__.py"}


def test_a_package_says_what_it_is_for_and_holds_no_code():
    for path in SOURCES:
        if (
            path.stem == "__init__" and name(path) != "components.__init__"
        ):  # it silences libraries, before their import
            body = ast.parse(path.read_text("utf-8")).body
            assert len(body) == 1 and ast.get_docstring(ast.parse(path.read_text("utf-8"))), path


def test_files_and_functions_are_short():
    long = [f"{path}: {LINES} lines at most: a second subject gets a home of its own"
            for path in SOURCES if path.read_text("utf-8").count("\n") > LINES]  # fmt: skip
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > FUNCTION:
                    long.append(f"{path}: {node.name} has {lines} lines, {FUNCTION} at most")
    assert long == []


def test_the_tests_lie_in_the_same_tree():
    rooms = {module.split(".")[1] for module in MODULES} - {"pipeline", "__main__"}
    folders = {path.name for path in (ROOT / "tests").iterdir() if any(path.glob("test_*.py"))}
    assert folders <= rooms | {"flows", "components", "consume"}


@pytest.mark.parametrize("name", ["pull.py", "signed.py"])
def test_what_others_copy_is_a_file_of_at_most_200_lines_that_needs_nothing_else(name):
    assert {path.name for path in (ROOT / "consume").glob("*.py")} == {"__init__.py", "pull.py", "signed.py"}
    text = (ROOT / "consume" / name).read_text("utf-8")
    assert text.count("\n") <= 200
    named = {alias.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import) for alias in node.names}
    named |= {node.module for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)}
    assert {each.split(".")[0] for each in named} <= sys.stdlib_module_names - {"pickle", "subprocess"}
