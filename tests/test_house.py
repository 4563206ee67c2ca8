"""The house: imports point one way, the public names are there, nothing names a machine."""

import ast
import importlib
import inspect
import re
import subprocess
from pathlib import Path

import pytest

import multibeta

ROOT = Path(multibeta.__file__).parent
TOP = ROOT.parent

# A module may import from its own line and the lines above.
ORDER = [
    {
        "options",
        "files",
        "faults",
        "schemas",
        "completion",
        "progress",
        "markup",
        "hub",
        "citations",
        "tables",
        "conventions",
        "jumps",
    },
    {"specs", "tensors", "densities"},
    {"betas", "likelihoods", "divergences", "conditioning", "noise"},
    {"distortions", "networks", "adapters"},
    {"objectives", "data"},
    {"priors", "vae"},
    {"verify", "axes"},
    {"multibeta_vae"},
    {"codec"},
    {"settings", "metrics"},
    {"module", "checkpoints", "plots"},
    {"purposes"},
    {"curve", "saved"},
    {"pretrained"},
    {"codes"},
    {"evaluation"},
    {"compare", "scores", "generate", "compression"},
    {"choose"},
    {"runs"},
    {"outputs"},
    {"costs"},
    {"results"},
    {"callbacks", "principal_axes"},
    {"resume"},
    {"training", "fitting"},
    {"report", "export"},
    {"verbs"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}


def part(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


# Methods of a model that stand for functions above it, such as vae.sweep and vae.fit.
SHORTCUTS = {
    ("multibeta_vae", "checkpoints"), ("multibeta_vae", "evaluation"),
    ("multibeta_vae", "fitting"), ("multibeta_vae", "pretrained"),
    ("vae", "pretrained"), ("vae", "saved"),
}  # fmt: skip


def imports(path):
    """Yield the parts of multibeta that a module imports, anywhere in it but for its types."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("multibeta."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.ImportFrom) and node.module == "multibeta":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("multibeta."):
                    yield alias.name.split(".")[1]


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.name))
def test_imports_point_one_way(path):
    mine = part(path)
    if mine == "__init__":
        return
    back = {(mine, name) for name in imports(path) if name != mine and LEVEL[name] > LEVEL[mine]}
    assert back <= SHORTCUTS


def test_data_does_not_know_the_model():
    for path in (ROOT / "data").glob("*.py"):
        assert "model" not in set(imports(path))


def test_public_names():
    for name in multibeta.__all__:
        assert getattr(multibeta, name) is not None
    assert multibeta.__all__ == sorted(multibeta.__all__)
    assert set(multibeta.__all__) <= set(dir(multibeta))
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        multibeta.nope  # noqa: B018


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.name))
def test_every_module_lists_what_it_offers(path):
    if path.name in ("__main__.py",):
        return
    name = ".".join(path.relative_to(TOP).with_suffix("").parts).removesuffix(".__init__")
    module = importlib.import_module(name)
    assert module.__doc__
    for public in module.__all__:
        value = getattr(module, public)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), f"{name}.{public} has no docstring"


def test_nothing_committed_names_a_machine():
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=TOP, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    wrong = re.compile(r"(?<![\w.])/(work|root)/\w")
    for name in filter(None, listed.stdout.split("\0")):
        path = TOP / name
        if path.suffix in {".py", ".md", ".toml", ".yaml", ".json", ".csv", ""} and path.is_file():
            found = wrong.search(path.read_text(errors="ignore"))
            assert found is None, f"{name}: {found}"
