"""A run goes back to where a judge that it does not maximise liked it best."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from cai_lightning.learning.held_out import HeldOutStop, never


def run(scores, *, patience=2, ses=2.0, se=0.1, resumed_at=None):
    """After iteration n the weight is n + 1; the weight that a run ends with, and the iterations that it took."""
    module, trainer, history = torch.nn.Linear(1, 1), SimpleNamespace(should_stop=False), []
    module.bias.requires_grad_(False)
    module.weight.data.fill_(0.0)
    stop = HeldOutStop(history, patience=patience, ses=ses)
    stop.on_train_start(trainer, module)
    for number, score in enumerate(scores):
        if number == resumed_at:
            state = stop.state_dict()
            stop = HeldOutStop(history, patience=patience, ses=ses)
            stop.load_state_dict(state)
            stop.on_train_start(trainer, module)
        history.append({"heldout/scores": score, "heldout/scores_se": se})
        module.weight.data.fill_(number + 1.0)
        stop.on_train_epoch_end(trainer, module)
        if trainer.should_stop:
            break
    return module.weight.item(), len(history), stop.stopped


@pytest.mark.parametrize("resumed_at", [None, 1, 2, 3, 4])
def test_a_fall_stops_the_run_at_its_best(resumed_at):
    # iteration 2 is best; the mean of the last two lies 0.55 below it: more than 2 sqrt(0.1^2 / 2 + 0.1^2) = 0.24
    assert run([0.0, 0.5, 1.0, 0.5, 0.4, 0.0, 0.0], resumed_at=resumed_at) == (2.0, 5, True)


def test_a_fall_within_noise_does_not_stop():
    assert run([0.0, 0.5, 1.0, 0.9, 0.85, 0.9]) == (6.0, 6, False)
    assert run([0.0, 0.5, 1.0, 0.5, 0.4, 0.0, 0.0], se=1.0) == (7.0, 7, False)


def test_a_rise_goes_on():
    assert run([0.0, 0.1, 0.2, 0.3]) == (4.0, 4, False)


def test_a_run_that_was_best_untrained_ends_untrained():
    assert run([1.0, 0.0, 0.0, 0.0]) == (0.0, 3, True)


def test_by_default_nothing_stops():
    assert never([]) is None
