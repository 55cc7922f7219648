"""What every preference loss under conf/loss/ must do: one row a loss, the same tests for all of them."""

import functools
import math
from typing import Any, NamedTuple

import pytest
import torch
from omegaconf import OmegaConf

from cai_lightning.experiment.compose import CONF
from cai_lightning.experiment.targets import RESERVED, construct
from cai_lightning.learning.losses import PreferenceInput

YAMLS = sorted((CONF / "loss").glob("*.yaml"))
MARGIN = 2.5  # nats; of the third figure of a row


class Row(NamedTuple):
    """Settings that make the figures round, and two hard labels' losses worked by hand: at margin 0 and at MARGIN."""

    settings: dict[str, float]
    at_zero: float
    at_margin: float


ROWS = {
    # ln 2; ln(1 + exp(-0.4 * 2.5)) = ln(1 + 1/e) = ln 1.3678794
    "dpo": Row({"beta": 0.4}, 0.6931471806, 0.3132616875),
    # the label 3/4 has the loss of the label 1 and a quarter of the margin 0.4 * 2.5 = 1: 0.3132617 + 0.25
    "cdpo": Row({"beta": 0.4, "label_smoothing": 0.25}, 0.6931471806, 0.5632616875),
    # target 1 / (2 * 0.1) = 5: 5^2; (2.5 - 5)^2
    "ipo": Row({"beta": 0.1}, 25.0, 6.25),
    # 1 - 0; 1 - 0.2 * 2.5
    "hinge": Row({"beta": 0.2}, 1.0, 0.5),
}


def settings_of(name: str) -> dict[str, Any]:
    return OmegaConf.to_container(OmegaConf.load(CONF / "loss" / f"{name}.yaml"))  # type: ignore[return-value]


def configured(name: str) -> Any:
    """The loss as its YAML builds it."""
    return construct(settings_of(name))


def f64(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def pairs(margins: list[float], p_chosen: list[float], weight: list[float] | None = None) -> PreferenceInput:
    """Pairs with these log-ratio margins, half of each on either reply; log-probabilities and lengths are arbitrary."""
    n = len(margins)
    half = f64(*margins) / 2
    return PreferenceInput(
        policy_chosen=half - 20,
        policy_rejected=-half - 31,
        lengths_chosen=torch.full((n,), 4),
        lengths_rejected=torch.full((n,), 5),
        reference_chosen=f64(*[-20.0] * n),
        reference_rejected=f64(*[-31.0] * n),
        p_chosen=f64(*p_chosen),
        weight=f64(*(weight or [1.0] * n)),
    )


def slopes(loss: Any, margin: float, p_chosen: float) -> tuple[float, float]:
    """The derivatives by the log-probability of the chosen and of the rejected reply."""
    row = pairs([margin], [p_chosen])
    chosen, rejected = row.policy_chosen.requires_grad_(), row.policy_rejected.requires_grad_()
    found = torch.autograd.grad(loss(row).loss, (chosen, rejected))
    return found[0].item(), found[1].item()


def test_every_loss_yaml_has_a_row() -> None:
    assert {path.stem for path in YAMLS} == set(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_a_row_sets_every_number_of_its_yaml(name: str) -> None:
    assert set(ROWS[name].settings) == set(settings_of(name)) - set(RESERVED)


@pytest.mark.parametrize("name", ROWS)
def test_hand_worked_values(name: str) -> None:
    row = ROWS[name]
    loss = functools.partial(configured(name), **row.settings)
    assert loss(pairs([0.0], [1.0])).loss.item() == pytest.approx(row.at_zero, abs=1e-9)
    assert loss(pairs([MARGIN], [1.0])).loss.item() == pytest.approx(row.at_margin, abs=1e-9)


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize(("p_chosen", "sign"), [(1.0, 1), (0.6, 1), (0.4, -1), (0.0, -1)])
def test_a_step_down_raises_the_reply_that_the_label_prefers(name: str, p_chosen: float, sign: int) -> None:
    chosen, rejected = slopes(configured(name), 0.0, p_chosen)
    assert sign * chosen < 0 < sign * rejected


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("margin", [-2000.0, 2000.0])
@pytest.mark.parametrize("p_chosen", [0.0, 0.5, 1.0])
def test_far_margins_have_finite_loss_and_slope(name: str, margin: float, p_chosen: float) -> None:
    loss = configured(name)
    assert math.isfinite(loss(pairs([margin], [p_chosen])).loss.item())
    assert all(map(math.isfinite, slopes(loss, margin, p_chosen)))


@pytest.mark.parametrize("name", ROWS)
def test_swapping_replies_and_label_changes_nothing(name: str) -> None:
    one = pairs([1.3, -0.4, 30.0], [0.8, 0.3, 1.0], [1.0, 2.0, 0.5])
    other = one._replace(
        policy_chosen=one.policy_rejected,
        policy_rejected=one.policy_chosen,
        lengths_chosen=one.lengths_rejected,
        lengths_rejected=one.lengths_chosen,
        reference_chosen=one.reference_rejected,
        reference_rejected=one.reference_chosen,
        p_chosen=1 - one.p_chosen,
    )
    loss = configured(name)
    assert loss(one).loss.item() == pytest.approx(loss(other).loss.item(), abs=1e-9)


@pytest.mark.parametrize("name", ROWS)
def test_a_soft_label_is_the_mean_of_the_hard_ones(name: str) -> None:
    loss = configured(name)
    hard, soft, turned = (loss(pairs([1.7], [p])).loss.item() for p in (1.0, 0.7, 0.0))
    assert soft == pytest.approx(0.7 * hard + 0.3 * turned, abs=1e-9)


@pytest.mark.parametrize("name", ROWS)
def test_weights_count_pairs(name: str) -> None:
    """Only their ratios matter, 2 is the pair twice, and a pair of weight 0 (padding of a batch) is not there."""
    loss = configured(name)
    plain = loss(pairs([1.3, -0.4, -0.4], [0.8, 0.3, 0.3])).loss.item()
    assert loss(pairs([1.3, -0.4], [0.8, 0.3], [1.0, 2.0])).loss.item() == pytest.approx(plain, abs=1e-9)
    assert loss(pairs([1.3, -0.4], [0.8, 0.3], [5.0, 10.0])).loss.item() == pytest.approx(plain, abs=1e-9)
    padded = pairs([1.3, 900.0, -0.4], [0.8, 0.0, 0.3], [1.0, 0.0, 2.0])
    assert loss(padded).loss.item() == pytest.approx(plain, abs=1e-9)


@pytest.mark.parametrize("name", ROWS)
def test_metrics_carry_the_common_names_and_no_graph(name: str) -> None:
    row = pairs([1.3, -0.4], [0.8, 0.3])
    row.policy_chosen.requires_grad_()
    metrics = configured(name)(row).metrics
    assert {"rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"} <= set(metrics)
    assert {"logps/chosen", "logps/rejected"} <= set(metrics)
    assert not any(figure.requires_grad for figure in metrics.values())
    assert metrics["rewards/accuracies"].item() == 1.0  # +1.3 with 0.8 and -0.4 with 0.3: both agree
