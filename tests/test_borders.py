"""The import rule of the house: widgets -> review -> engine <- trainer."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

WINDOW = ("napari", "qtpy", "magicgui", "superqt")
BINDINGS = ("PySide6", "PyQt5", "PyQt6")

FORBIDDEN = {
    "napari_brainldm/engine": (
        *WINDOW,
        *BINDINGS,
        "trainer",
        "napari_brainldm.review",
        "napari_brainldm.widgets",
        "napari_brainldm.cli",
        "napari_brainldm.commands",
    ),
    "napari_brainldm/review": (
        *WINDOW,
        *BINDINGS,
        "trainer",
        "napari_brainldm.widgets",
        "napari_brainldm.cli",
        "napari_brainldm.commands",
    ),
    "napari_brainldm/widgets": (
        "torch",
        "monai",
        "trainer",
        "napari_brainldm.cli",
        *BINDINGS,
    ),
    "napari_brainldm/cli.py": (*BINDINGS, "trainer"),
    "napari_brainldm/commands": (
        *WINDOW,
        *BINDINGS,
        "trainer",
        "napari_brainldm.widgets",
        "napari_brainldm.cli",
    ),
    "trainer": (
        *WINDOW,
        *BINDINGS,
        "napari_brainldm.review",
        "napari_brainldm.widgets",
        "napari_brainldm.cli",
    ),
}

# What a training machine has: torch, MONAI with einops, numpy, safetensors, accelerate.
HEAVY_READERS = (
    "nibabel",
    "SimpleITK",
    "nilearn",
    "atlasreader",
    "scipy",
    "skimage",
    "sklearn",
    "pandas",
    "matplotlib",
    "bids2table",
    "tensorboard",
    "tyro",
)

# Calls that run code found in a file, or load less than the file promised.
UNSAFE_CALLS = ("pickle.load", "pickle.loads", "torch.jit.load", "eval", "exec")
UNSAFE_KEYWORDS = {"weights_only": False, "allow_pickle": True, "strict": False}
STRICT_OWNER = "load_state_dict"  # zip(strict=False) is harmless

WALK = """
import importlib, pkgutil, sys
def fail(name):
    raise
package = importlib.import_module(sys.argv[1])
prefix = package.__name__ + "."
for module in pkgutil.walk_packages(getattr(package, "__path__", ()), prefix, fail):
    importlib.import_module(module.name)
roots = {name.partition(".")[0] for name in sys.modules}
print(*sorted(roots & set(sys.argv[2:])))
"""

BARE = """
import importlib, sys
for name in sys.argv[2:]:
    sys.modules[name] = None  # an import of it raises
importlib.import_module(sys.argv[1])
"""


def sources(place: Path) -> list[Path]:
    """The Python files of a folder, or the one file."""
    return [place] if place.is_file() else sorted(place.rglob("*.py"))


def imported(tree: ast.AST, package: str) -> Iterator[str]:
    """Full names that `tree`, a module of `package`, imports anywhere."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute(node, package)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def absolute(node: ast.ImportFrom, package: str) -> str:
    """The module named after `from`, its leading dots resolved."""
    if not node.level:
        return node.module or ""
    parents = package.split(".")
    kept = parents[: len(parents) - node.level + 1]
    return ".".join([*kept, *([node.module] if node.module else [])])


def crossings(path: Path, root: Path, forbidden: tuple[str, ...]) -> list[str]:
    """The imports of one file that cross a border."""
    package = ".".join(path.relative_to(root).parent.parts)
    names = imported(ast.parse(path.read_text()), package)
    return [n for n in names if any(f"{n}.".startswith(f"{f}.") for f in forbidden)]


def unsafe(tree: ast.AST) -> list[str]:
    """The unsafe loads of a module, as source text."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [ast.unparse(call) for call in calls if is_unsafe(call)]


def is_unsafe(call: ast.Call) -> bool:
    """Whether a call may run code from a file or load it in part."""
    function = ast.unparse(call.func)
    keywords = {k.arg: ast.unparse(k.value) for k in call.keywords}
    if function in UNSAFE_CALLS:
        return True
    if function == "torch.load" and keywords.get("weights_only") != "True":
        return True
    return any(
        keywords.get(name) == str(value)
        for name, value in UNSAFE_KEYWORDS.items()
        if name != "strict" or function.endswith(STRICT_OWNER)
    )


def fresh(code: str, root: Path, *arguments: str) -> str:
    """Run `code` in a fresh interpreter and return what it printed."""
    command = [sys.executable, "-c", code, *arguments]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


@pytest.mark.parametrize(
    "package",
    [
        "napari_brainldm.engine",
        "napari_brainldm.review",
        "trainer",
        "napari_brainldm.cli",
    ],
)
def test_engine_trainer_and_cli_import_without_a_window(package, root):
    assert fresh(WALK, root, package, *WINDOW, *BINDINGS) == ""


@pytest.mark.parametrize("module", ["napari_brainldm.engine.renderer", "trainer.loop"])
def test_rendering_and_training_import_on_a_bare_gpu_machine(module, root):
    fresh(BARE, root, module, *WINDOW, *BINDINGS, *HEAVY_READERS)


@pytest.mark.parametrize("place", FORBIDDEN)
def test_no_arrow_goes_back_up(place, root):
    found = {
        path.relative_to(root): crossed
        for path in sources(root / place)
        if (crossed := crossings(path, root, FORBIDDEN[place]))
    }
    assert found == {}


def test_every_source_stands_where_the_rule_looks(root):
    places = [root / place for place in FORBIDDEN]
    strays = [
        path.relative_to(root)
        for path in sources(root / "napari_brainldm")
        if not any(path == place or place in path.parents for place in places)
    ]
    assert strays == [Path("napari_brainldm/__init__.py")]


def test_the_package_itself_imports_nothing(root):
    tree = ast.parse((root / "napari_brainldm" / "__init__.py").read_text())
    assert list(imported(tree, "napari_brainldm")) == []


@pytest.mark.parametrize("place", ["napari_brainldm", "trainer"])
def test_no_file_is_loaded_unsafely(place, root):
    found = {
        path.relative_to(root): loads
        for path in sources(root / place)
        if (loads := unsafe(ast.parse(path.read_text())))
    }
    assert found == {}


@pytest.mark.parametrize(
    "line",
    [
        "import trainer",
        "import napari.layers as l",
        "from napari_brainldm import widgets",
        "from napari_brainldm.widgets.desk import Desk",
        "from ...widgets import desk",
        "def f():\n    from .. import review, widgets",
    ],
)
def test_the_rule_sees_a_crossing(line, tmp_path):
    path = tmp_path / "napari_brainldm" / "engine" / "networks" / "unet.py"
    path.parent.mkdir(parents=True)
    path.write_text(line.replace("from .. ", "from ... "))
    assert crossings(path, tmp_path, FORBIDDEN["napari_brainldm/engine"])


@pytest.mark.parametrize(
    "line", ["import napari_brainldm.engine", "from . import unet", "import trainers"]
)
def test_the_rule_lets_the_rest_pass(line, tmp_path):
    path = tmp_path / "napari_brainldm" / "engine" / "renderer.py"
    path.parent.mkdir(parents=True)
    path.write_text(line)
    assert crossings(path, tmp_path, FORBIDDEN["napari_brainldm/engine"]) == []


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "pickle.load(f)",
        "torch.jit.load(f)",
        "np.load(f, allow_pickle=True)",
        "net.load_state_dict(t, strict=False)",
    ],
)
def test_the_rule_sees_an_unsafe_load(line):
    assert unsafe(ast.parse(line))


@pytest.mark.parametrize(
    "line",
    ["torch.load(f, weights_only=True)", "net.eval()", "zip(a, b, strict=False)"],
)
def test_the_rule_lets_a_safe_load_pass(line):
    assert unsafe(ast.parse(line)) == []
