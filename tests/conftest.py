"""Fixtures of all tests. Here nothing heavy is imported: xdist reads this before it starts."""

import gc
import itertools
import os

import pytest

# As the command does before torch is imported: the tests of two threads share their cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Leave garbage for later while torch and the tests are imported: to look costs a third.

    What is there afterwards stays, and is not looked through again.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


_NUMBERS = itertools.count()


@pytest.fixture(autouse=True)
def one_thread_and_seed(monkeypatch, tmp_path_factory):
    """Make each test deterministic, and keep caches out of the user's folders.

    Few tests fill these folders, which are made when they are, unlike ``tmp_path``.

    What a test leaves in the environment is taken back: after a training by ddp Lightning takes
    the next process for one that somebody else has started, and waits for the others.
    """
    import torch

    before = dict(os.environ)
    torch.set_num_threads(1)
    # Before an accelerator is used, each seed of its own is kept with the stack it came from.
    at_hand = torch.accelerator.is_available()
    (torch if at_hand else torch.default_generator).manual_seed(0)
    own = tmp_path_factory.getbasetemp() / f"caches-{next(_NUMBERS)}"
    monkeypatch.setenv("MULTIBETA_CACHE", str(own / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(own / "torch"))  # where Inception is looked for
    monkeypatch.delenv("MULTIBETA_DATA", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # for the processes that a test starts
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(autouse=True)
def pictures(request, monkeypatch):
    """Keep a dot for each picture of a curve, and no others of a run, but where the mark says so.

    To draw them takes as long as a short training. The mark is ``pictures``. To lay out those of a
    curve takes a fifth of one: the mark ``dots`` leaves that out, too.
    """
    if request.node.get_closest_marker("pictures"):
        from tests.helpers import DRAWING

        for module, name in DRAWING:
            monkeypatch.setattr(module, name, DRAWING[module, name])
    elif request.node.get_closest_marker("dots"):
        from tests.helpers import dots

        monkeypatch.setattr("multibeta.curve.Curve.draw_pictures", dots)


@pytest.fixture(scope="session", autouse=True)
def _no_pictures():
    from tests.helpers import DRAWING, draw_nothing

    draw_nothing()
    yield
    for module, name in DRAWING:
        setattr(module, name, DRAWING[module, name])


@pytest.fixture(scope="session", autouse=True)
def _few_steps_are_timed():
    """Keep what a run compares itself with short: see test_costs for the whole."""
    from multibeta import costs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(costs, "_PAIRS", 2)
        yield


@pytest.fixture(scope="session")
def data_root():
    """A folder of real data sets, for the tests that measure on them when they are at hand."""
    root = os.environ.get("MULTIBETA_DATA")
    if not root:
        pytest.skip("MULTIBETA_DATA does not name a folder of real data")
    return root
