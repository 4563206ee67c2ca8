"""The door: every kind of data gives the figures of an array, or one line."""

import itertools
import warnings

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule
from PIL import Image
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
)

import multibeta
from multibeta.data import Batches, Digits, Door
from multibeta.data.examples import read
from multibeta.data.loaders import Stream, collate
from multibeta.data.units import Summary, units_of
from multibeta.likelihoods import Gaussian, Poisson
from multibeta.multibeta_vae import MultiBetaVAE
from multibeta.networks import MLP
from tests.loaders import KINDS, SHAPE, Module, N, examples

pytestmark = pytest.mark.dots

BETAS = "0.01,1"


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return MultiBetaVAE.of(SHAPE, latent_dim=3, likelihood=Gaussian(0.3)).eval()


@pytest.fixture(scope="module")
def wanted(model):
    return model.sweep(examples(), BETAS, metrics="psnr,active_units")


# what it takes


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_figures_of_an_array(kind, model, wanted):
    found = model.sweep(KINDS[kind](), BETAS, metrics="psnr,active_units")
    assert found.about["n"] == N
    assert found.about["fingerprint"] == wanted.about["fingerprint"]
    for a, b in zip(found.rows, wanted.rows, strict=True):
        # the noise is that of a batch's place, and batches may be of another size
        assert a["rate_nats"] == pytest.approx(b["rate_nats"], rel=1e-5)
        assert a["psnr_db"] == pytest.approx(b["psnr_db"], rel=1e-5)
        assert a["distortion_nats"] == pytest.approx(b["distortion_nats"], rel=0.05)


@pytest.mark.filterwarnings("ignore:the length of the training is not known")
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "datamodule_of_ours"])
def test_a_training_on_every_kind(kind, tmp_path):
    small = MLP(width=16)
    vae = MultiBetaVAE.of(SHAPE, network=small, latent_dim=3, likelihood=Gaussian(0.3))
    data = KINDS[kind]()
    door = data if isinstance(data, LightningDataModule) else Door(data, data, batch_size=32)
    run = vae.fit(door, epochs=2, betas="1", root=tmp_path)
    assert run.curve.about["n"] == N
    units = multibeta.load(run.folder).units
    x = examples()
    assert units.n >= 2 * (N // 32) * 32
    assert (units.low, units.high) == pytest.approx((x.min().item(), x.max().item()), abs=0.01)
    assert units.total[0] == pytest.approx(x.mean().item(), rel=0.03)


class Empty(IterableDataset):
    def __iter__(self):
        return iter(())


WRONG = [
    ("digits.npz", "data is a str; give a datamodule"),
    (3, "data is a int; give a datamodule"),
    (None, "data is a NoneType; give a datamodule"),
    (iter([torch.zeros(2, *SHAPE)]), "data is a list_iterator, which can be read once only"),
    ((x for x in [torch.zeros(2, *SHAPE)]), "data is a generator, which can be read once"),
    (np.array(["a", "b"]), "data is an array of the type <U1; give numbers"),
    (np.array([{}, {}]), "data is an array of the type object; give numbers"),
    (np.zeros(0), r"data has the shape \(0,\); give examples"),
    (torch.tensor(3.0), r"data has the shape \(\); give examples"),
    ({"x": torch.zeros(3, *SHAPE)}, "data is a dict of x; give sets named train, val and"),
    ([], "the test set is empty"),
    (Empty(), "the test set is empty"),
    (torch.zeros(SHAPE), r"data has the shape \(8, 8\); the model was made for \(1, 8, 8\)"),
    (torch.zeros(2, 64), r"data has the shape \(64,\); the model was made for \(1, 8, 8\)"),
    (torch.zeros(5, 8, 8), r"data has the shape \(8, 8\); the model was made for"),
    ([torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 8, 9)], r"shape \(1, 8, 9\)"),
    (torch.zeros(5, *SHAPE, dtype=torch.int64), "whole numbers of the type int64, whose"),
    (np.zeros((5, *SHAPE), np.uint16), "whole numbers of the type uint16, whose range"),
    (torch.zeros(5, *SHAPE, dtype=torch.complex64), "complex64, and a VAE takes real numbers"),
    (torch.eye(8, dtype=torch.uint8)[None, None], "x is uint8 with 0 and 1 alone"),
    (torch.full((5, *SHAPE), torch.nan), "x holds NaN or infinity in 1 of the 1"),
    ([{"a": torch.zeros(2, 3), "b": torch.zeros(2, 4)}], "which of it is x is not clear"),
    ([{"a": "text"}], "which of it is x is not clear"),
    ([("a", 3)], "a batch is a tuple of str, int; give tensors"),
    (["abc"], "a batch is a str; give tensors"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "message"), WRONG)
def test_what_it_refuses_in_one_line(data, message, model):
    with pytest.raises(ValueError, match=message) as info:
        model.sweep(data, BETAS)
    assert "\n" not in str(info.value)


def test_a_late_batch_with_nan_is_named(model):
    x = examples().clone()
    x[150, 0, 3, 3] = torch.inf
    with pytest.raises(ValueError, match=r"infinity in 1 of the 20 examples .* first at 10"):
        model.sweep(DataLoader(TensorDataset(x), 20), BETAS)


# what is in a batch


def batch():
    return torch.rand(4, *SHAPE)


FORMS = [
    lambda x: x,
    lambda x: x.numpy(),
    lambda x: x.double(),
    lambda x: (x,),
    lambda x: [x, torch.arange(4)],
    lambda x: (torch.arange(4), x),
    lambda x: (torch.arange(4), x, ["a"] * 4),
    lambda x: (["a"] * 4, x),
    lambda x: {"x": x},
    lambda x: {"image": x, "label": torch.zeros(4, 2)},
    lambda x: {"label": torch.zeros(4, 2), "image": x},
    lambda x: {"pixel_values": x, "label": torch.arange(4)},
    lambda x: {"signal": x, "label": torch.arange(4)},
    lambda x: {"x": x.numpy(), "label": np.arange(4)},
]


@pytest.mark.parametrize("of", FORMS)
def test_x_is_found(of, model):
    x = batch()
    assert torch.allclose(model.read(of(x)).x, x)


def test_what_nothing_takes_of_a_dict_is_said_once():
    vae = MultiBetaVAE.of(SHAPE, latent_dim=3, likelihood=Gaussian(0.3))
    assert vae.read({"signal": batch(), "label": torch.arange(4)}).inputs == {}
    of_batch = {"x": batch(), "speed": torch.arange(4), "label": torch.arange(4)}
    with pytest.warns(UserWarning, match="nothing takes speed of a batch"):
        assert vae.read(of_batch).inputs == {}
    vae.read(of_batch)
    assert list(read(of_batch).inputs) == ["speed", "label"]


def test_a_key_says_which(model):
    data = [{"a": torch.zeros(2, *SHAPE), "b": torch.ones(2, *SHAPE)}]
    with pytest.raises(ValueError, match=r"a \(2, 1, 8, 8\), b \(2, 1, 8, 8\), and which"):
        model.sweep(data, BETAS)
    fresh = MultiBetaVAE.of(SHAPE, latent_dim=3, likelihood=Gaussian(0.3))
    with pytest.warns(UserWarning, match="nothing takes a of a batch"):
        assert fresh.sweep(Door(data, key="b"), BETAS).about["range"] == [1, 1]
    with pytest.raises(ValueError, match="a batch has no entry 'c'; it has a"):
        model.sweep(Door(data, key="c"), BETAS)


def test_casts():
    x = torch.tensor([[0, 128, 255]], dtype=torch.uint8)
    assert read(x).x.tolist()[0] == pytest.approx([0, 128 / 255, 1])
    assert x.tolist() == [[0, 128, 255]], "the batch itself is left alone"
    assert read(x, counts=True).x.tolist() == [[0, 128, 255]]
    assert read(torch.tensor([[0, 255]], dtype=torch.uint8), counts=True).x.tolist() == [[0, 1]]
    assert read(torch.tensor([[True, False]])).x.tolist() == [[1, 0]]
    assert read(torch.tensor([[7, 300]]), counts=True).x.tolist() == [[7, 300]]
    assert read(np.array([[7]], np.uint16), counts=True).x.tolist() == [[7]]
    assert read(np.ones((1, 2))).x.dtype == torch.float64
    assert read(np.ones((1, 2)), dtype=torch.float32).x.dtype == torch.float32


def test_counts_are_taken_by_a_likelihood_of_counts():
    vae = MultiBetaVAE.of((6,), latent_dim=2, likelihood=Poisson())
    counts = torch.randint(0, 9, (40, 6))
    assert vae.sweep(counts, "1").about["range"][1] == counts.max()
    with pytest.raises(ValueError, match="whole numbers"):
        vae.sweep(counts + 0.5, "1")


def test_layout():
    vae = MultiBetaVAE.of((3, 8, 6), latent_dim=2, likelihood=Gaussian(0.3))
    last = torch.rand(20, 8, 6, 3)
    with pytest.raises(ValueError, match=r"the data has the shape \(8, 6, 3\)"):
        vae.sweep(last, "1")
    found = vae.sweep(Door(last, layout="NHWC"), "1")
    assert found.rows == vae.sweep(last.movedim(-1, 1).contiguous(), "1").rows
    moved = vae.sweep(Door([{"a": last, "label": torch.zeros(20, 2)}], layout="NHWC"), "1")
    assert moved.about["fingerprint"] == found.about["fingerprint"]


def test_pictures_of_pil_are_channels_first():
    pictures = [Image.new("RGB", (6, 8), (i, 0, 255)) for i in range(4)]
    x = collate(pictures)
    assert x.shape == (4, 3, 8, 6) and x.dtype == torch.uint8
    assert collate([{"image": p, "label": 1} for p in pictures])["label"].tolist() == [1] * 4
    assert collate([[[1.0, 2.0]], [[3.0, 4.0]]]).shape == (2, 1, 2)
    with pytest.raises(ValueError, match="examples have different shapes, such as"):
        collate([*pictures, Image.new("RGB", (5, 8))])


@pytest.mark.parametrize("call", ["encode", "reconstruct", "terms", "loss", "plain"])
def test_a_wrong_shape_is_not_flattened_in_silence(call, model):
    plain = model.at_beta(1)
    of = {
        "encode": lambda x: model.encode(x, 1.0),
        "reconstruct": lambda x: model.reconstruct(x, 1.0),
        "terms": lambda x: model.elbo_terms(x, 1.0),
        "loss": model.loss,
        "plain": plain.encode,
    }[call]
    of(torch.rand(2, *SHAPE))
    of(torch.rand(2, *SHAPE, dtype=torch.float64))
    of(torch.randint(0, 256, (2, *SHAPE), dtype=torch.uint8))
    for wrong in ((2, 64), SHAPE, (2, 8, 8), (2, 1, 8, 9)):
        with pytest.raises(ValueError, match=r"\(B, 1, 8, 8\) is wanted"):
            of(torch.rand(wrong))


def test_uint8_is_scaled_as_in_training(model):
    x = torch.randint(0, 256, (4, *SHAPE), dtype=torch.uint8)
    a, b = model.encode(x, 1.0).mean, model.encode(x / 255, 1.0).mean
    torch.testing.assert_close(a, b)


# in which order


def test_a_loader_that_shuffles_is_measured_in_order(model):
    x = examples()
    data = TensorDataset(x)
    one, two = (model.sweep(DataLoader(data, 20, shuffle=of), BETAS) for of in (True, False))
    assert one.rows == two.rows
    assert one.rows == model.sweep(DataLoader(data, 20, shuffle=True), BETAS).rows


def test_a_sampler_of_the_users_is_measured_twice_with_the_same_figures(model):
    data = TensorDataset(examples())
    sampler = WeightedRandomSampler([1.0] * 50 + [0.0] * (N - 50), 60)
    one, two = (model.sweep(DataLoader(data, 20, sampler=sampler), BETAS) for _ in range(2))
    assert one.rows == two.rows and one.about["n"] == 60


def test_training_batches_of_a_loader_go_on_from_a_position():
    loader = DataLoader(TensorDataset(torch.arange(50.0)[:, None]), 8, shuffle=True)
    door = Door(loader)
    torch.manual_seed(3)
    batches = door.train_dataloader()
    seen = [b[0].flatten().tolist() for _ in range(2) for b in batches]
    assert len(seen) == 14 and sorted(itertools.chain(*seen[:7])) == list(range(50))
    assert seen[:7] != seen[7:]
    torch.manual_seed(3)
    again = Door(loader)
    part = iter(again.train_dataloader())
    head = [next(part)[0].flatten().tolist() for _ in range(3)]
    after = Door(loader)
    after.load_state_dict(again.state_dict())
    tail = [b[0].flatten().tolist() for b in after.train_dataloader()]
    assert head + tail == seen[:10]


def test_workers_do_not_change_the_order():
    data = TensorDataset(torch.arange(40.0)[:, None])
    found = []
    for workers in (0, 2):
        torch.manual_seed(1)
        batches = Door(DataLoader(data, 8, shuffle=True, num_workers=workers)).train_dataloader()
        found.append([b[0].tolist() for b in batches])
        assert batches.state_dict()["epoch"] == 1
    assert found[0] == found[1]


class Doubled(IterableDataset):
    def __iter__(self):
        return iter(examples())


class SharedOut(IterableDataset):
    def __iter__(self):
        info = torch.utils.data.get_worker_info()
        return iter(examples()[info.id :: info.num_workers])


def test_a_stream_that_each_worker_reads_whole_is_said(model):
    with pytest.warns(UserWarning, match="Doubled does not ask .* 2 workers will each give every"):
        Door.of(DataLoader(Doubled(), 20, num_workers=2)).batches("test")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Door.of(DataLoader(Doubled(), 20)).batches("test")
        found = model.sweep(DataLoader(SharedOut(), 20, num_workers=2), "1")
    assert found.about["n"] == N


def test_the_first_examples_of_a_stream(model):
    found = model.sweep(DataLoader(Doubled(), 20), BETAS, first=50)
    assert found.about["n"] == 50 and found.about["first"] == 50
    assert "the first 50" in found.table()


# sets


class NoTest(LightningDataModule):
    def train_dataloader(self):
        return DataLoader(TensorDataset(examples()), 32, shuffle=True)

    def val_dataloader(self):
        return DataLoader(TensorDataset(examples()[:40]), 32)


class NoVal(NoTest):
    val_dataloader = LightningDataModule.val_dataloader


class Broken(NoTest):
    def test_dataloader(self):
        return DataLoader(TensorDataset(torch.rand(5, 3, 3)), 2)


@pytest.mark.parametrize(
    ("data", "said", "n"),
    [(NoTest, "has no test set: the curve is that of the val set", 40),
     (NoVal, "has no test set: the curve is that of the train set", N)],
)  # fmt: skip
def test_a_set_that_is_not_there(data, said, n, tmp_path, capsys):
    vae = MultiBetaVAE.of(SHAPE, latent_dim=3, likelihood=Gaussian(0.3))
    run = vae.fit(data(), epochs=1, betas="1", root=tmp_path)
    assert f"{data.__name__} {said}" in capsys.readouterr().err
    assert run.curve.about["n"] == n
    assert (run.folder / "checkpoints" / "last.ckpt").exists()
    with pytest.raises(ValueError, match=f"{data.__name__} has no test set; it has train"):
        vae.sweep(data(), "1")


def test_a_set_that_does_not_fit_is_found_before_the_training(tmp_path):
    vae = MultiBetaVAE.of(SHAPE, latent_dim=3, likelihood=Gaussian(0.3))
    before = vae.state_dict()["encoder.1.weight"].clone()
    with pytest.raises(ValueError, match=r"the test set: the data has the shape \(3, 3\)"):
        vae.fit(Broken(), epochs=1, root=tmp_path)
    assert torch.equal(before, vae.state_dict()["encoder.1.weight"])
    assert not list(tmp_path.rglob("*.ckpt"))


def test_sets_by_name(model):
    x = examples()
    sets = {"train": x, "validation": x[:30], "test": x[:20]}
    for split, n in {"train": N, "val": 30, "test": 20}.items():
        assert model.sweep(sets, "1", split=split).about["n"] == n
    with pytest.raises(ValueError, match="split=dev is unknown; allowed: train, val, test"):
        model.sweep(sets, "1", split="dev")


def test_a_datamodule_is_made_ready_once(model):
    class Counts(Module):
        calls: list = []  # noqa: RUF012

        def prepare_data(self):
            self.calls.append("prepare")

        def setup(self, stage):
            self.calls.append(stage)

    data = Counts()
    model.sweep(data, "1", metrics="psnr")
    assert Counts.calls == ["prepare", "test"]
    assert Door.of(data).label == "Counts"


def test_hooks_of_a_datamodule_are_kept(tmp_path):
    class Halves(Module):
        def on_after_batch_transfer(self, batch, dataloader_idx):
            return batch[0] / 2

    vae = MultiBetaVAE.of(SHAPE, latent_dim=3, likelihood=Gaussian(0.3))
    vae.fit(Halves(), epochs=1, betas="1", root=tmp_path)
    assert vae.units.high == pytest.approx(examples().max().item() / 2)


# units


def test_the_digest_does_not_depend_on_order_or_batches():
    x = torch.randn(100, 3, 4)
    one, two = Summary(), Summary()
    one.add(x)
    for part in x[torch.randperm(100)].split(7):
        two.add(part)
    assert one.fingerprint == two.fingerprint
    assert one.units().mean == pytest.approx(x.double().mean((0, 2)).tolist())
    assert one.units().std == pytest.approx(x.double().std((0, 2), correction=0).tolist())
    swapped = x.clone()
    swapped[0, 0, 0], swapped[1, 0, 0] = x[1, 0, 0], x[0, 0, 0]
    three = Summary()
    three.add(swapped)
    assert three.fingerprint != one.fingerprint, "the sum over examples is not that of values"


UNITS = [
    ((0, 1), (0, 255), "refused"),
    ((0, 1), (-1, 1), "refused"),
    ((-1, 1), (0, 255), "refused"),
    ((0, 1), (0, 4095), "refused"),
    ((0, 1), (0, 1 / 16), "warned"),  # 12 bits in a file of 16
    ((0, 1), (-0.1, 1.1), "warned"),
    ((0, 1), (0, 0.9), "taken"),
    ((-3, 2.5), (-8, 8), "taken"),
    ((-3, 2.5), (-50, 50), "warned"),
    ((-3, 2.5), (-3000, 2500), "refused"),  # microvolts for millivolts
    ((0, 255), (0, 1), "warned"),
]


@pytest.mark.parametrize(("trained", "other", "verdict"), UNITS)
def test_other_units(trained, other, verdict):
    x = torch.linspace(0, 1, 640).reshape(10, *SHAPE)
    mine = trained[0] + (trained[1] - trained[0]) * x
    theirs = other[0] + (other[1] - other[0]) * x
    vae = MultiBetaVAE.of(SHAPE, latent_dim=3, likelihood=Gaussian(0.3))
    vae.units = units_of(mine)
    if verdict == "refused":
        with pytest.raises(ValueError, match="bring the data into these units"):
            vae.sweep(theirs, "1")
        with pytest.raises(ValueError, match="bring the data into these units"):
            multibeta_score(vae, mine, theirs)
        return
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        vae.sweep(theirs, "1")
    assert any("are the units the same?" in str(w.message) for w in said) == (verdict == "warned")


def multibeta_score(vae, mine, theirs):
    from multibeta.scores import score

    return score(vae, mine, theirs, "1", examples=8)


def test_psnr_takes_its_peak_from_the_training_data(tmp_path):
    x = 2 * examples() - 1
    vae = MultiBetaVAE.of(SHAPE, latent_dim=3, likelihood=Gaussian(0.3))
    run = vae.fit(x, x, epochs=1, betas="1", metrics="psnr", root=tmp_path)
    assert run.curve.about["psnr"]["peak"] == 2
    mse = (vae.at_beta(1).reconstruct(x) - x).square().flatten(1).mean(1)
    psnr = (10 * (4 / mse).log10()).mean().item()
    assert run.curve.rows[0]["psnr_db"] == pytest.approx(psnr, rel=1e-5)


@pytest.mark.parametrize(("sigma", "said"), [(0.1, False), (30.0, True), (1e-5, True)])
def test_a_sigma_far_from_the_data_is_said(sigma, said, tmp_path):
    vae = MultiBetaVAE.of(SHAPE, latent_dim=3, likelihood=Gaussian(sigma))
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        vae.fit(examples(), epochs=1, betas="1", root=tmp_path)
    assert any("σ far from the data's scale" in str(w.message) for w in found) == said


def test_curves_are_comparable_by_their_examples(model):
    from multibeta.compare import check_comparable

    x = examples()
    one = model.sweep(x, BETAS)
    check_comparable({"a": one, "b": model.sweep(list(x.split(20)), BETAS)})
    other = model.sweep(torch.zeros_like(x), BETAS)
    with pytest.raises(ValueError, match="a and b cannot be compared: they were measured"):
        check_comparable({"a": one, "b": other})


def test_nan_in_a_training_batch_is_said_before_the_learning_rate(tmp_path):
    x = examples().clone()
    x[100:] = torch.nan
    loader = DataLoader(TensorDataset(x), 20)
    vae = MultiBetaVAE.of(SHAPE, latent_dim=3, likelihood=Gaussian(0.3))
    with pytest.raises(ValueError, match="x holds NaN or infinity in 20 of the 20 examples"):
        vae.fit(loader, examples(), epochs=1, root=tmp_path)


def test_our_own_sets_pass_the_same_door(model):
    data = Digits(batch_size=50)
    door = Door(data)
    door.setup("fit")
    assert isinstance(door.train_dataloader(), Batches)
    assert door.sizes == {"train": 1258, "val": 180, "test": 359}
    assert len(door.batches("test").images) == 359
    assert isinstance(Door(DataLoader(Doubled(), 3)).batches("test"), Stream)
    with pytest.raises(AttributeError, match="Door has no nonsense"):
        Door(examples()).nonsense  # noqa: B018
    with pytest.raises(ValueError, match="val is given beside a datamodule"):
        Door(data, examples())


def test_a_subset_and_a_dataset_of_the_users_own(model):
    class Pairs(Dataset):
        def __len__(self):
            return N

        def __getitem__(self, i):
            return i, examples()[i]

    assert model.sweep(Pairs(), "1").about["n"] == N
    assert model.sweep(Subset(Pairs(), range(30)), "1").about["n"] == 30
    assert model.sweep(DataLoader(Pairs(), sampler=RandomSampler(Pairs())), "1").about["n"] == N


@pytest.mark.parametrize("form", [None, "torch", "numpy"])
def test_hugging_face(form, model):
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict({"image": examples().tolist(), "label": [*range(N)]})
    digest = model.sweep(examples(), "1").about["fingerprint"]
    stream = rows.to_iterable_dataset(num_shards=4).with_format(form)
    for data in (rows.with_format(form), stream, datasets.DatasetDict({"test": rows})):
        found = model.sweep(data, "1").about
        assert (found["n"], found["fingerprint"]) == (N, digest)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # an open tar
def test_pictures_of_hugging_face_and_webdataset(model, tmp_path):
    datasets, webdataset = (pytest.importorskip(name) for name in ("datasets", "webdataset"))
    x = (examples() * 255).round().byte()
    digest = model.sweep(x, "1").about["fingerprint"]
    pictures = [Image.fromarray(picture[0].numpy()) for picture in x]
    rows = datasets.Dataset.from_dict({"image": pictures})
    with webdataset.TarWriter(str(tmp_path / "a.tar")) as archive:
        for i, picture in enumerate(x):
            archive.write({"__key__": f"{i:03}", "x.npy": picture.numpy()})
    packed = webdataset.WebDataset(str(tmp_path / "a.tar"), shardshuffle=False).decode()
    streamed = packed.to_tuple("x.npy")
    for data in (rows, DataLoader(rows, 32), streamed, streamed.batched(32)):
        found = model.sweep(data, "1").about
        assert (found["n"], found["fingerprint"]) == (N, digest)
