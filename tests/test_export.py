"""The exported VAE, in onnxruntime and in processes without multibeta, against the model."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import multibeta
from multibeta import MultiBetaVAE
from multibeta.cli import main
from multibeta.export import export
from multibeta.likelihoods import Bernoulli, Gaussian
from multibeta.networks import MLP, Conv, ResNet

MODELS = {
    "mlp": lambda: MultiBetaVAE.of((1, 8, 8), network=MLP(16), latent_dim=3),
    "conv": lambda: MultiBetaVAE.of((3, 16, 16), network=Conv(4, 2), latent_dim=3,
                                    likelihood=Gaussian(0.1)),
    "resnet": lambda: MultiBetaVAE.of((1, 16, 16), network=ResNet(4, 2), latent_dim=3),
    "signal": lambda: MultiBetaVAE.of((2, 40), network=Conv(4, 2), latent_dim=3,
                                      likelihood=Gaussian(0.1)),
    "foreign": lambda: multibeta.wrap(
        torch.nn.Linear(5, 6), torch.nn.Linear(3, 5), likelihood=Bernoulli(),
        example=torch.rand(4, 5),
    ),
}  # fmt: skip


def made(name):
    torch.manual_seed(0)
    model = MODELS[name]()
    with torch.no_grad():
        for p in model.parameters():
            p += 0.05 * torch.randn_like(p)
    return model.eval()


@pytest.mark.parametrize(("name", "beta"), [("resnet", 0.01), ("signal", 10.0), ("foreign", 1.0)])
def test_onnx_gives_what_the_model_does_for_any_number_of_examples(tmp_path, name, beta):
    onnxruntime = pytest.importorskip("onnxruntime")
    model = made(name)
    files = export(model, beta, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "README.md", "decoder.onnx", "encoder.onnx", "load.py"
    ]  # fmt: skip
    assert sorted(files) == sorted(tmp_path.iterdir())
    plain = model.at_beta(beta)
    encoder, decoder = (
        onnxruntime.InferenceSession(tmp_path / f"{part}.onnx") for part in ("encoder", "decoder")
    )
    for n in (0, 1, 7):
        x, z = torch.rand(n, *model.shape), torch.randn(n, *model.latent_shape)
        mean, std = encoder.run(["mean", "std"], {"x": x.numpy()})
        q = plain.encode(x)
        np.testing.assert_allclose(mean, q.mean.detach(), atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(std, q.stddev.detach(), atol=1e-5, rtol=1e-5)
        (x_hat,) = decoder.run(["x_hat"], {"z": z.numpy()})
        np.testing.assert_allclose(x_hat, plain.decode(z).mean.detach(), atol=1e-5, rtol=1e-5)


WITHOUT = """
import gc
gc.disable()  # imports are quicker
import sys
class Refuse:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "multibeta":
            raise ImportError("multibeta is not here")
sys.meta_path.insert(0, Refuse())
"""


def run_without_multibeta(code, folder):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT + code], cwd=folder, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_loader_beside_the_files_needs_no_multibeta(tmp_path):
    pytest.importorskip("onnxruntime")
    export(made("mlp"), 0.1, tmp_path)
    printed = run_without_multibeta((tmp_path / "load.py").read_text(), tmp_path)
    assert printed == "codes (5, 3)\nsamples (5, 1, 8, 8)\n"
    assert "β = 0.1" in (tmp_path / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["mlp", pytest.param("resnet", marks=pytest.mark.slow)])
def test_beta_is_an_input_where_all_are_kept(tmp_path, name):
    onnxruntime = pytest.importorskip("onnxruntime")
    model = made(name)
    export(model, None, tmp_path)
    encoder, decoder = (
        onnxruntime.InferenceSession(tmp_path / f"{part}.onnx") for part in ("encoder", "decoder")
    )
    x, z = torch.rand(3, *model.shape), torch.randn(3, *model.latent_shape)
    betas = torch.tensor([0.01, 1.0, 10.0])
    mean, std = encoder.run(["mean", "std"], {"x": x.numpy(), "beta": betas.numpy()})
    (x_hat,) = decoder.run(["x_hat"], {"z": z.numpy(), "beta": betas.numpy()})
    for i, beta in enumerate(betas.tolist()):
        plain = model.at_beta(beta)
        q = plain.encode(x[i : i + 1])
        np.testing.assert_allclose(mean[i], q.mean[0].detach(), atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(std[i], q.stddev[0].detach(), atol=1e-5, rtol=1e-5)
        expected = plain.decode(z[i : i + 1]).mean[0].detach()
        np.testing.assert_allclose(x_hat[i], expected, atol=1e-5, rtol=1e-5)
    printed = run_without_multibeta((tmp_path / "load.py").read_text(), tmp_path)
    latent, shape = str((5, *model.latent_shape)), str((5, *model.shape))
    assert printed == f"codes {latent}\nsamples {shape}\n"
    readme = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "every β from 0.01 to 10" in readme and "Nothing here checks it" in readme


def test_pt2_runs_with_torch_alone(tmp_path):
    model = made("conv")
    export(model, 0.3, tmp_path, format="pt2", what="decoder")
    z = torch.randn(4, 3)
    np.save(tmp_path / "z.npy", z.numpy())
    run_without_multibeta(
        "import numpy as np, torch\n"
        "decode = torch.export.load('decoder.pt2').module()\n"
        "np.save('x.npy', decode(torch.from_numpy(np.load('z.npy'))).detach().numpy())",
        tmp_path,
    )
    expected = model.at_beta(0.3).decode(z).mean.detach().numpy()
    np.testing.assert_allclose(np.load(tmp_path / "x.npy"), expected, atol=1e-5)


def test_safetensors_hold_the_state_dicts(tmp_path):
    safetensors = pytest.importorskip("safetensors")
    model = made("foreign")
    export(model, 0.3, tmp_path, format="safetensors")
    with safetensors.safe_open(tmp_path / "model.safetensors", "pt") as file:
        about = json.loads(file.metadata()["multibeta"])
        found = {key: file.get_tensor(key) for key in file.keys()}
    assert about["beta"] == 0.3 and about["shape"] == [5]
    decoder = torch.nn.Linear(3, 5)
    decoder.load_state_dict(
        {k.removeprefix("decoder."): v for k, v in found.items() if k.startswith("decoder.")}
    )
    z = torch.randn(4, 3)
    torch.testing.assert_close(torch.sigmoid(decoder(z)), model.at_beta(0.3).decode(z).mean)


def test_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["export", "digits", "--beta=0.1", "--format=pt2", "--what=encoder"]) == 0
    assert capsys.readouterr().out == "files: exported/encoder.pt2, exported/README.md\n"
    for options, said in (
        (["--beta=20"], "beta=20 is outside the trained range"),
        (["--beta=0.1", "--format=tflite"], "format"),
        (["--beta=x"], "beta"),
        ([], "export takes --beta B or --all-betas; neither was given"),
        (["--beta=1", "--all-betas"], "both was given"),
        (["--all-betas", "--format=safetensors"], "safetensors hold the weights at one β"),
    ):
        assert main(["export", "digits", *options, "--out=other"]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_missing_package_is_named(tmp_path, monkeypatch, package):
    monkeypatch.setattr("multibeta.export.find_spec", lambda name: None if name == package else 1)
    with pytest.raises(ValueError, match=rf"needs {package}: pip install 'multibeta\[export\]'"):
        export(made("mlp"), 1.0, tmp_path)
    assert list(tmp_path.iterdir()) == []
