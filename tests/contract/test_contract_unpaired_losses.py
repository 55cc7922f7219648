"""What every loss of unpaired replies under conf/unpaired_loss/ must do."""

import functools
import math
from typing import Any, NamedTuple

import pytest
import torch
from omegaconf import OmegaConf

from cai_lightning.experiment.compose import CONF
from cai_lightning.experiment.targets import RESERVED, construct
from cai_lightning.learning.unpaired_losses import UnpairedInput

YAMLS = sorted((CONF / "unpaired_loss").glob("*.yaml"))
RATIO = 2.5  # nats; of the third and fourth figure of a row


class Row(NamedTuple):
    """Settings, and losses worked by hand at KL 0: of a good and a bad reply that have not moved, and at RATIO."""

    settings: dict[str, float]
    good: float
    bad: float
    good_moved: float
    bad_moved: float


ROWS = {
    # weights 3 and 1: half of each; sigmoid(0.4 * 2.5) = 1 / (1 + 1/e) = 0.7310585786, so 3 * 0.2689414214 and that
    "kto": Row({"beta": 0.4, "desirable_weight": 3.0, "undesirable_weight": 1.0}, 1.5, 0.5, 0.8068242641, 0.7310585786),
}


def settings_of(name: str) -> dict[str, Any]:
    return OmegaConf.to_container(OmegaConf.load(CONF / "unpaired_loss" / f"{name}.yaml"))  # type: ignore[return-value]


def configured(name: str) -> Any:
    """The loss as its YAML builds it."""
    return construct(settings_of(name))


def f64(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def replies(
    ratios: list[float], p_desirable: list[float], weight: list[float] | None = None, kl: float = 0.0
) -> UnpairedInput:
    n = len(ratios)
    return UnpairedInput(
        policy=f64(*ratios) - 20,
        reference=f64(*[-20.0] * n),
        p_desirable=f64(*p_desirable),
        weight=f64(*(weight or [1.0] * n)),
        kl=torch.tensor(kl, dtype=torch.float64),
    )


def value(loss: Any, *given: Any, **more: Any) -> float:
    found: float = loss(replies(*given, **more)).loss.item()
    return found


def test_every_loss_yaml_has_a_row() -> None:
    assert {path.stem for path in YAMLS} == set(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_a_row_sets_every_number_of_its_yaml(name: str) -> None:
    assert set(ROWS[name].settings) == set(settings_of(name)) - set(RESERVED)


@pytest.mark.parametrize("name", ROWS)
def test_hand_worked_values(name: str) -> None:
    row = ROWS[name]
    loss = functools.partial(configured(name), **row.settings)
    wanted = ((0.0, 1.0, row.good), (0.0, 0.0, row.bad), (RATIO, 1.0, row.good_moved), (RATIO, 0.0, row.bad_moved))
    for ratio, p, expected in wanted:
        assert value(loss, [ratio], [p]) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize(("p_desirable", "sign"), [(1.0, 1), (0.6, 1), (0.4, -1), (0.0, -1)])
@pytest.mark.parametrize("kl", [0.0, 3.0])
def test_a_step_down_raises_good_replies_and_lowers_bad_ones(
    name: str, p_desirable: float, sign: int, kl: float
) -> None:
    row = replies([0.0], [p_desirable], kl=kl)
    row.policy.requires_grad_()
    (slope,) = torch.autograd.grad(configured(name)(row).loss, row.policy)
    assert sign * slope.item() < 0


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("ratio", [-1e5, 1e5])
@pytest.mark.parametrize("p_desirable", [0.0, 0.5, 1.0])
def test_far_ratios_have_finite_loss_and_slope(name: str, ratio: float, p_desirable: float) -> None:
    row = replies([ratio], [p_desirable])
    loss = configured(name)(row._replace(policy=row.policy.requires_grad_())).loss
    (slope,) = torch.autograd.grad(loss, row.policy)
    assert math.isfinite(loss.item()) and math.isfinite(slope.item())


@pytest.mark.parametrize("name", ROWS)
def test_a_soft_rating_is_the_mean_of_the_hard_ones(name: str) -> None:
    loss = configured(name)
    hard, soft, turned = (value(loss, [1.7], [p], kl=0.3) for p in (1.0, 0.7, 0.0))
    assert soft == pytest.approx(0.7 * hard + 0.3 * turned, abs=1e-9)


@pytest.mark.parametrize("name", ROWS)
def test_weights_count_replies(name: str) -> None:
    """Only their ratios matter, 2 is the reply twice."""
    loss = configured(name)
    plain = value(loss, [1.3, -0.4, -0.4], [0.8, 0.3, 0.3], kl=0.2)
    assert value(loss, [1.3, -0.4], [0.8, 0.3], [1.0, 2.0], kl=0.2) == pytest.approx(plain, abs=1e-9)
    assert value(loss, [1.3, -0.4], [0.8, 0.3], [5.0, 10.0], kl=0.2) == pytest.approx(plain, abs=1e-9)


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_what_stands_beside_weight_0_enters_neither_value_nor_gradient(name: str, poison: float) -> None:
    def found(hidden: float) -> tuple[list[float], list[float]]:
        row = replies([1.3, hidden, -0.4], [0.8, hidden, 0.3], [1.0, 0.0, 2.0], kl=0.2)
        output = configured(name)(row._replace(policy=row.policy.requires_grad_()))
        (gradient,) = torch.autograd.grad(output.loss, row.policy)
        return [output.loss.item(), *(figure.item() for figure in output.metrics.values())], gradient.tolist()

    clean, poisoned = found(0.0), found(poison)
    assert clean == poisoned and clean[1][1] == 0.0


@pytest.mark.parametrize("name", ROWS)
def test_gradients_are_the_differences_of_values_and_none_goes_to_the_kl(name: str) -> None:
    row = replies([1.3, -0.4, 0.1], [0.8, 0.3, 1.0], [1.0, 2.0, 0.5], kl=0.2)
    loss = configured(name)
    assert torch.autograd.gradcheck(lambda policy: loss(row._replace(policy=policy)).loss, row.policy.requires_grad_())
    moved = row._replace(kl=row.kl.requires_grad_())
    assert torch.autograd.grad(loss(moved).loss, moved.kl, allow_unused=True) == (None,)


@pytest.mark.parametrize("name", ROWS)
def test_metrics_have_no_graph(name: str) -> None:
    row = replies([1.3, -0.4], [1.0, 0.0], kl=0.2)
    metrics = configured(name)(row._replace(policy=row.policy.requires_grad_())).metrics
    assert not any(figure.requires_grad for figure in metrics.values())
    assert metrics["kl"].item() == 0.2
    assert metrics["rewards/desirable"].item() > 0 > metrics["rewards/undesirable"].item()
