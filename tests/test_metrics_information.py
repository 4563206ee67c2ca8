import math

import pytest
import torch
from torch.distributions import Independent, Normal

from multibeta.divergences import aggregated_rate_terms, kl_standard_normal
from multibeta.metrics import Evaluated, Information
from multibeta.vae import BetaVAE, ELBOTerms


def evaluated(z, mean, std):
    q = Independent(Normal(mean, std), 1)
    return Evaluated(mean, ELBOTerms(mean[:, 0], kl_standard_normal(q), q, z), torch.randn)


def metric(most=10_000):
    return Information(BetaVAE(torch.nn.Identity(), torch.nn.Identity(), None, (3,), 1.0), most)


def codes(n):
    mean, std = torch.randn(n, 3), torch.rand(n, 3) + 0.1
    return mean + std * torch.randn(n, 3), mean, std


def test_columns_are_the_means_of_the_terms_with_their_errors():
    whole = codes(500)
    information = metric()
    for part in zip(*(v.split(120) for v in whole), strict=True):
        information.update(evaluated(*part))
    found, terms = information.compute(), aggregated_rate_terms(*whole)
    columns = {
        "information": terms.mutual_information_nats,
        "total_correlation": terms.total_correlation_nats,
        "dimension_kl": terms.dimension_kl_nats.sum(1),
        "aggregated_kl": terms.aggregated_kl_nats,
    }
    for name, values in columns.items():
        assert found[f"{name}_nats"] == pytest.approx(values.mean().item())
        assert found[f"{name}_se"] == pytest.approx(values.std().item() / math.sqrt(500))
    parts = ("information_nats", "total_correlation_nats", "dimension_kl_nats")
    assert sum(found[name] for name in parts) == pytest.approx(
        terms.rate_nats.mean().item(), abs=1e-9
    )
    assert found["log_n_nats"] == pytest.approx(math.log(500))


def test_keeps_no_more_than_asked_for():
    z, mean, std = codes(100)
    some, few = metric(most=30), metric()
    for rows in torch.arange(100).split(20):
        some.update(evaluated(z[rows], mean[rows], std[rows]))
    few.update(evaluated(z[:30], mean[:30], std[:30]))
    assert some.compute() == pytest.approx(few.compute())


def test_one_example_has_no_standard_error():
    information = metric()
    information.update(evaluated(*codes(1)))
    found = information.compute()
    assert math.isnan(found["information_se"])
    assert found["information_nats"] == pytest.approx(0, abs=1e-9)
