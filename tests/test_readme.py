import re
import subprocess
import sys

import pytest

from benchmarks.report import PAGES, filled

QUICK = """
import gc
gc.disable()  # imports are quicker
import multibeta.distortions, multibeta.likelihoods
"""
CHECK = """
import sys
plain.reconstruct(x)
heavy = (
    "lightning", "torchvision", "torchmetrics", "matplotlib", "sklearn", "pandas", "scipy",
    "jsonargparse",
)
print(type(plain.encoder), [m for m in heavy if m in sys.modules])
"""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_tables_are_those_of_the_result_files(page):
    text = page.read_text()
    assert "<!-- report: " in text
    assert filled(text) == text, "run: python -m benchmarks.report"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert (page.parent / link).exists(), link


def test_the_readmes_own_vae_runs_with_torch_alone():
    """Lightning, torchvision, torchmetrics and matplotlib are imported where they are used."""
    blocks = re.findall(r"```python\n(.*?)```", PAGES[0].read_text(), re.S)
    code = next(block for block in blocks if "multibeta.wrap" in block)
    lines = [line for line in code.splitlines() if line.strip()]
    assert len(lines) <= 12
    assert "plain = vae.at_beta" in code
    done = subprocess.run(
        [sys.executable, "-c", QUICK + code + CHECK], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "<class 'torch.nn.modules.container.Sequential'> []"
