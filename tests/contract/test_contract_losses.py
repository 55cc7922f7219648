"""What every preference loss under conf/loss/ must do: one row a loss, the same tests for all of them."""

import functools
import math
from typing import Any, NamedTuple

import pytest
import torch
from omegaconf import OmegaConf

from cai_lightning.experiment.compose import CONF
from cai_lightning.experiment.targets import RESERVED, construct
from cai_lightning.learning.losses import PreferenceInput, needs_reference

YAMLS = sorted((CONF / "loss").glob("*.yaml"))
MARGIN = 2.5  # nats; of the third figure of a row


class Row(NamedTuple):
    """Settings that make the figures round, and two hard labels' losses worked by hand: at margin 0 and at MARGIN.

    `imitates`: the loss learns texts as well, so a soft label may raise both of its replies.
    """

    settings: dict[str, float]
    at_zero: float
    at_margin: float
    imitates: bool = False


ROWS = {
    # ln 2; ln(1 + exp(-0.4 * 2.5)) = ln(1 + 1/e) = ln 1.3678794
    "dpo": Row({"beta": 0.4}, 0.6931471806, 0.3132616875),
    # the label 3/4 has the loss of the label 1 and a quarter of the margin 0.4 * 2.5 = 1: 0.3132617 + 0.25
    "cdpo": Row({"beta": 0.4, "label_smoothing": 0.25}, 0.6931471806, 0.5632616875),
    # target 1 / (2 * 0.1) = 5: 5^2; (2.5 - 5)^2
    "ipo": Row({"beta": 0.1}, 25.0, 6.25),
    # 1 - 0; 1 - 0.2 * 2.5
    "hinge": Row({"beta": 0.2}, 1.0, 0.5),
    # 3/4 of the label's loss less 1/4 of the flipped one's, over 1/2: 1.5 * 0.3132617 - 0.5 * 1.3132617
    "robust": Row({"beta": 0.4, "flip_rate": 0.25}, 0.6931471806, -0.1867383125),
    # nats per token -18.75 / 4 and -26.25 / 5 differ by 9/16, so by 2 with beta; ln(1 + e^1), ln(1 + e^(1 - 2))
    "simpo": Row({"beta": 32 / 9, "gamma": 1.0}, 1.3132616875, 0.3132616875),
    # 5 + 2 ln 2; e^-4.6875 = .0092096816 and e^-5.25 = .0052475184 have the odds .0092952882 and .0052752001, of the
    # ratio 1.7620731076, so 4.6875 + 2 ln(1 + 1 / 1.7620731076)
    "orpo": Row({"odds_ratio_weight": 2.0}, 6.3862943611, 5.5864810116, imitates=True),
}


def settings_of(name: str) -> dict[str, Any]:
    return OmegaConf.to_container(OmegaConf.load(CONF / "loss" / f"{name}.yaml"))  # type: ignore[return-value]


def configured(name: str) -> Any:
    """The loss as its YAML builds it."""
    return construct(settings_of(name))


def f64(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def pairs(margins: list[float], p_chosen: list[float], weight: list[float] | None = None) -> PreferenceInput:
    """Pairs with these log-ratio margins, half of each on either reply.

    Tokens have -5 nats under the reference, so that at margin 0 no loss prefers a reply; lengths are arbitrary.
    """
    n = len(margins)
    half = f64(*margins) / 2
    return PreferenceInput(
        policy_chosen=half - 20,
        policy_rejected=-half - 25,
        lengths_chosen=torch.full((n,), 4),
        lengths_rejected=torch.full((n,), 5),
        reference_chosen=f64(*[-20.0] * n),
        reference_rejected=f64(*[-25.0] * n),
        p_chosen=f64(*p_chosen),
        weight=f64(*(weight or [1.0] * n)),
        margin=f64(*[0.0] * n),
        source=torch.zeros(n, dtype=torch.int64),
        sources=(),
    )


def lowered(row: PreferenceInput, nats: float) -> PreferenceInput:
    """The pairs with less likely replies: large margins are possible there."""
    names = ("policy_chosen", "policy_rejected", "reference_chosen", "reference_rejected")
    return row._replace(**{name: getattr(row, name) - nats for name in names})


def slopes(loss: Any, row: PreferenceInput) -> tuple[float, float]:
    """The derivatives by the log-probability of the chosen and of the rejected reply."""
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
    chosen, rejected = slopes(configured(name), pairs([0.0], [p_chosen]))
    assert sign * (chosen - rejected) < 0
    if p_chosen in (0.0, 1.0) or not ROWS[name].imitates:
        assert sign * chosen < 0 < sign * rejected


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("margin", [-2000.0, 2000.0])
@pytest.mark.parametrize("p_chosen", [0.0, 0.5, 1.0])
def test_far_margins_have_finite_loss_and_slope(name: str, margin: float, p_chosen: float) -> None:
    loss = configured(name)
    far = lowered(pairs([margin], [p_chosen]), 2000.0)
    assert math.isfinite(loss(far).loss.item())
    assert all(map(math.isfinite, slopes(loss, far)))


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


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_what_stands_beside_weight_0_enters_neither_value_nor_gradient(name: str, poison: float) -> None:
    def found(hidden: float) -> list[list[float]]:
        row = pairs([1.3, hidden, -0.4], [0.8, 0.5, 0.3], [1.0, 0.0, 2.0])
        row = row._replace(margin=f64(0.5, hidden, 0.0), p_chosen=f64(0.8, hidden, 0.3))
        chosen, rejected = row.policy_chosen.requires_grad_(), row.policy_rejected.requires_grad_()
        output = configured(name)(row)
        gradients = torch.autograd.grad(output.loss, (chosen, rejected))
        figures = [output.loss.item(), *(figure.item() for figure in output.metrics.values())]
        return [figures, *(gradient.tolist() for gradient in gradients)]

    clean, poisoned = found(0.0), found(poison)
    assert clean == poisoned
    assert clean[1][1] == clean[2][1] == 0.0


@pytest.mark.parametrize("name", ROWS)
def test_gradients_are_the_differences_of_values(name: str) -> None:
    row = pairs([1.3, -0.4, 0.1], [0.8, 0.3, 1.0], [1.0, 2.0, 0.5])._replace(margin=f64(0.5, 0.2, 0.0))
    loss = configured(name)

    def value(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = loss(row._replace(policy_chosen=chosen, policy_rejected=rejected)).loss
        return found

    assert torch.autograd.gradcheck(value, (row.policy_chosen.requires_grad_(), row.policy_rejected.requires_grad_()))


@pytest.mark.parametrize("name", ROWS)
def test_a_loss_says_of_itself_whether_it_needs_a_reference(name: str) -> None:
    loss, row = configured(name), pairs([1.3, -0.4], [0.8, 0.3])
    bare = row._replace(reference_chosen=None, reference_rejected=None)
    if needs_reference(loss):
        with pytest.raises(ValueError, match="needs reference log-probabilities"):
            loss(bare)
    else:
        assert loss(bare).loss.item() == loss(row).loss.item() == loss(lowered(row, 0.0)).loss.item()


@pytest.mark.parametrize("name", ROWS)
def test_accuracies_of_several_sources_are_told_apart(name: str) -> None:
    """Of the first source one of two is right and one undecided, of the second all, of the third there is none."""
    row = pairs([1.0, 1.0, 1.0, -1.0], [1.0, 0.0, 0.5, 0.0])._replace(source=torch.tensor([0, 0, 0, 1]))
    metrics = configured(name)(row._replace(sources=("ai", "human", "other"))).metrics
    assert metrics["rewards/accuracies/ai"].item() == 0.5
    assert metrics["rewards/accuracies/human"].item() == 1.0
    assert math.isnan(metrics["rewards/accuracies/other"].item())
    assert not [figure for figure in configured(name)(row._replace(sources=("ai",))).metrics if "accuracies/" in figure]
