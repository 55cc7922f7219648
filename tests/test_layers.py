"""The house: imports point down only, planning stays light, files stay small."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "cai_lightning"
LEVELS = {
    "text": 0,
    "constitution": 1,
    "models": 1,
    "microworld": 2,
    "data": 2,
    "learning": 2,
    "evaluation": 3,
    "report": 4,
    "stages": 5,
    "commands": 6,
}
FILES = sorted(PACKAGE.rglob("*.py"))
HEAVY = {"torch", "lightning", "transformers", "peft", "datasets", "wandb", "numpy", "matplotlib"}
LIGHT_ROOMS = ("text", "constitution", "microworld", "stages", "experiment")


def room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else ""


def imported(path: Path, *, top_level_only: bool) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            here = (PACKAGE.name, *path.relative_to(PACKAGE).parts)[: -node.level] if node.level else ()
            module = ".".join([*here, *([node.module] if node.module else [])])
            # what is taken from a package may be one of its modules
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    here = room(path)
    for name in imported(path, top_level_only=False):
        parts = name.split(".")
        if parts[0] != "cai_lightning" or len(parts) < 2 or parts[1] == "__version__":
            continue
        if here in ("experiment", ""):
            assert parts[1] == "experiment", f"{path} imports {name}"
        else:
            assert parts[1] != "experiment", f"{path} imports {name}"
            assert LEVELS[parts[1]] <= LEVELS[here], f"{path} imports {name}, which stands above it"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_planning_rooms_load_nothing_heavy(path: Path) -> None:
    if room(path) in LIGHT_ROOMS and path.name not in ("training.py", "checks.py"):
        assert not {name.split(".")[0] for name in imported(path, top_level_only=True)} & HEAVY


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_stay_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300


def test_planning_never_imports_torch() -> None:
    code = (
        "import sys\n"
        "from cai_lightning.experiment.compose import compose_config\n"
        "from cai_lightning.experiment.pipeline import make_plan\n"
        "import cai_lightning.experiment.cli\n"
        "plan = make_plan(compose_config(['experiment=smoke', 'runtime.outputs=nowhere']))\n"
        "assert len(plan.nodes) > 20\n"
        "sys.exit(len({'torch', 'numpy', 'transformers', 'lightning'} & set(sys.modules)))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_no_function_of_ours_has_a_default_number() -> None:
    """A number has one home, conf/: a default that is a number, in what a config can call, would be a second one."""
    for path in FILES:
        if room(path) not in ("learning", "models", "data", "stages", "microworld", "constitution", "evaluation"):
            continue
        if path.name == "tiny_model.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                for default in (*node.args.defaults, *node.args.kw_defaults):
                    leaves = [leaf for leaf in ast.walk(default) if isinstance(leaf, ast.Constant)] if default else []
                    number = any(type(leaf.value) in (int, float) for leaf in leaves)
                    assert not number, f"{path.name}:{node.name} has a default number"
