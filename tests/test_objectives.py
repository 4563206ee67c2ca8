import torch

from multibeta.objectives import BetaELBO


def test_beta_elbo():
    distortion, rate = torch.tensor([3.0, 5.0]), torch.tensor([[1.0, 2.0], [0.0, 1.0]])
    beta = torch.tensor([1.0, 10.0])
    assert BetaELBO()(distortion, rate, beta).tolist() == [6.0, 15.0]
