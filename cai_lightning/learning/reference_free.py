"""Preference losses of the policy alone, without a reference; they read log-probabilities per token."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from cai_lightning.learning.losses import (
    LossOutput,
    PreferenceInput,
    Row,
    preference_metrics,
    reference_free,
    weighted_mean,
)


@reference_free
def simpo_loss(pairs: PreferenceInput, *, beta: float, gamma: float) -> LossOutput:
    """The weighted mean SimPO loss in nats per pair: beta times the nats per token are to differ by gamma.

    A soft label is the mean over both hard ones, each of which wants the margin for its own reply. Lengths count the
    end token. Source: Meng et al. 2024 (arXiv 2405.14734), eq. 6.
    """
    chosen, rejected = _per_token(pairs)
    difference = beta * (chosen - rejected)
    per_pair = pairs.p_chosen * F.softplus(gamma - difference) + (1 - pairs.p_chosen) * F.softplus(gamma + difference)
    return LossOutput(weighted_mean(per_pair, pairs.weight), preference_metrics(pairs, chosen, rejected, beta))


@reference_free
def orpo_loss(pairs: PreferenceInput, *, odds_ratio_weight: float) -> LossOutput:
    """The weighted mean ORPO loss in nats per pair: how unlikely a token of the reply is, and the odds ratio's part.

    A probability is the geometric mean over a reply's tokens, the end token included; rewards are log-odds of it.
    A soft label is the mean over both hard ones, in both terms: the rejected reply is imitated too, by 1 - p_chosen.
    Source: Hong et al. 2024 (arXiv 2403.07691), eq. 6 and 7, probabilities as in eq. 3, odds as in eq. 4;
    `odds_ratio_weight` is their lambda. Deviation: the first term, too, is a mean per token of each pair, so that pairs
    count alike whatever their lengths.
    """
    chosen, rejected = _per_token(pairs)
    odds_chosen, odds_rejected = log_odds(chosen), log_odds(rejected)
    ratio = odds_chosen - odds_rejected
    of_chosen = odds_ratio_weight * F.softplus(-ratio) - chosen
    of_rejected = odds_ratio_weight * F.softplus(ratio) - rejected
    per_pair = pairs.p_chosen * of_chosen + (1 - pairs.p_chosen) * of_rejected
    metrics = preference_metrics(pairs, odds_chosen, odds_rejected, 1.0)
    metrics["nll"] = -weighted_mean(chosen, pairs.weight).detach()
    return LossOutput(weighted_mean(per_pair, pairs.weight), metrics)


def log_odds(logp: Row) -> Row:
    """ln(p / (1 - p)) of log-probabilities ln p, in nats; finite also where p rounds to 1."""
    # Nearer to 1 floats do not tell p from it: the odds would be infinite, and their gradient NaN.
    logp = logp.clamp(max=-torch.finfo(logp.dtype).eps)
    # Each form of ln(1 - p) where it loses no digits; the clamps keep the other's NaN out of the gradient.
    likely = torch.log(-torch.expm1(logp.clamp(min=-math.log(2))))
    unlikely = torch.log1p(-torch.exp(logp.clamp(max=-math.log(2))))
    return logp - torch.where(logp > -math.log(2), likely, unlikely)


def _per_token(pairs: PreferenceInput) -> tuple[Row, Row]:
    """Log-probabilities in nats per token; where the weight is 0, those of two equal replies."""
    chosen, rejected = pairs.policy_chosen / pairs.lengths_chosen, pairs.policy_rejected / pairs.lengths_rejected
    return torch.where(pairs.weight > 0, chosen, -1.0), torch.where(pairs.weight > 0, rejected, -1.0)
