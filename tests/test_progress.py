"""Progress where it is read: in the kernel of a notebook, on a terminal, in a file."""

import re
import sys
import types

import pytest

from multibeta.callbacks import ProgressBar, ProgressInNotebook, ProgressLines, progress_at
from multibeta.progress import place, track

CELLS = (
    """
from multibeta.cli import main
main("fit --config digits.yaml --trainer.max_epochs 2 --trainer.check_val_every_n_epoch 1 "
     "--curve.betas 0.1,1".split())
""",
    "import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.show()",
)


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """A notebook that has been run by a kernel, as Jupyter does."""
    pytest.importorskip("ipykernel")
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in CELLS])
    where = {"metadata": {"path": str(tmp_path_factory.mktemp("notebook"))}}
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MPLBACKEND", raising=False)  # of a command that ran in this process
        return nbclient.NotebookClient(notebook, timeout=120, resources=where).execute().cells


def test_training_in_a_notebook_shows_a_bar(executed):
    said = str(executed[0].outputs)
    assert "\\x1b[" not in said  # as repr writes an escape
    assert "ipywidgets" not in said
    shown = [out.data for out in executed[0].outputs if out.output_type == "display_data"]
    training, curve = shown  # each bar is drawn anew in its place, and stays
    assert training["text/plain"].startswith("epoch 2, step 18 of 18: val/objective_nats ")
    done, total = re.match(r'<progress value="(\d+)" max="(\d+)"', training["text/html"]).groups()
    assert done == total == "18"
    assert curve["text/plain"] == "2 β's on the test set: 3 of 3"
    printed = "".join(out.text for out in executed[0].outputs if out.get("name") == "stdout")
    assert "Digits, test set" in printed


def test_the_command_leaves_pictures_to_the_notebook(executed):
    assert any("image/png" in out.get("data", {}) for out in executed[1].outputs)


def test_bars_are_for_terminals(monkeypatch):
    monkeypatch.delenv("JPY_PARENT_PID", raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert place() == "terminal"
    monkeypatch.setenv("JPY_PARENT_PID", "1")  # !multibeta fit, in a notebook
    assert place() == "elsewhere"
    shell = types.SimpleNamespace(kernel=None)
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    assert place() == "elsewhere"  # ipython on a terminal has no kernel
    shell.kernel = object()
    assert place() == "notebook"


@pytest.mark.parametrize(
    ("where", "kind"),
    [("terminal", ProgressBar), ("notebook", ProgressInNotebook), ("elsewhere", ProgressLines)],
)
def test_each_place_has_its_callback(where, kind):
    assert type(progress_at(where)) is kind


@pytest.mark.parametrize("known", [True, False])
def test_a_notebooks_bar_ends_full(monkeypatch, known):
    drawn = []
    handle = types.SimpleNamespace(update=lambda data, raw: drawn.append(data))

    def display(data, raw, display_id):
        drawn.append(data)
        return handle

    monkeypatch.setattr("multibeta.progress.place", lambda: "notebook")
    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(display=display))
    items = range(3)
    assert [*track(items if known else (i for i in items), "<parts>")] == [0, 1, 2]
    first, last = drawn[0], drawn[-1]
    assert first["text/plain"] == ("<parts>: 0 of 3" if known else "<parts>: 0")
    assert 'value="0"' in first["text/html"] and 'value="3" max="3"' in last["text/html"]
    assert "&lt;parts&gt;" in last["text/html"]
    assert len(drawn) == 2  # three items within a fifth of a second
