import math
from types import SimpleNamespace

import pytest
import torch

from cai_lightning.learning.figures import StepFigures


class Module:
    def __init__(self, *, accumulate=1, processes=1, batches=100, step=0, every=1):
        strategy = SimpleNamespace(reduce=lambda both, reduce_op: 2 * both if reduce_op == "sum" else None)
        self.trainer = SimpleNamespace(
            global_step=step,
            log_every_n_steps=every,
            accumulate_grad_batches=accumulate,
            world_size=processes,
            num_training_batches=batches,
            strategy=strategy,
        )
        self.logged = []

    def log_dict(self, figures):
        self.logged.append({name: float(value) for name, value in figures.items()})


def add(figures, module, number, weight, masses=None, **values):
    given = {name: torch.tensor(value) for name, value in values.items()}
    parts = {name: torch.tensor(mass) for name, mass in (masses or {}).items()}
    figures.add(module, number, given, torch.tensor(weight), masses=lambda: parts)


def test_the_batches_of_a_step_are_averaged_by_weight():
    """Losses 1, 4 and 7 of weights 1, 2 and 0: 9 / 3; a figure that only one batch has is that batch's."""
    figures, module = StepFigures(), Module(accumulate=3)
    add(figures, module, 0, 1.0, loss=1.0, accuracy=math.nan)
    add(figures, module, 1, 2.0, loss=4.0, accuracy=0.25)
    assert module.logged == []
    add(figures, module, 2, 0.0, loss=7.0, accuracy=1.0)
    assert module.logged == [{"accuracy": 0.25, "loss": 3.0}]
    add(figures, module, 3, 1.0, loss=5.0)
    add(figures, module, 4, 1.0, loss=5.0)
    add(figures, module, 5, 1.0, loss=5.0)
    assert module.logged[1:] == [{"loss": 5.0}]


def test_a_mean_over_a_part_of_a_batch_weighs_as_much_as_the_part():
    """One label, right, then ten, all wrong: 1 / 11, whatever the batches weigh; a batch that fills up counts none."""
    figures, module = StepFigures(), Module(accumulate=3)
    add(figures, module, 0, 10.0, {"accuracy": 1}, loss=1.0, accuracy=1.0)
    add(figures, module, 1, 10.0, {"accuracy": 10}, loss=3.0, accuracy=0.0)
    add(figures, module, 2, 0.0, {"accuracy": 5}, loss=9.0, accuracy=1.0)
    assert module.logged == [{"accuracy": pytest.approx(1 / 11), "loss": 2.0}]


def test_the_last_batches_of_an_epoch_make_a_step():
    figures, module = StepFigures(), Module(accumulate=4, batches=6)
    add(figures, module, 4, 1.0, loss=2.0)
    add(figures, module, 5, 3.0, loss=6.0)
    assert module.logged == [{"loss": 5.0}]


def test_what_nobody_has_stays_unknown():
    figures, module = StepFigures(), Module(accumulate=1, processes=2)
    add(figures, module, 0, 1.0, accuracy=math.nan, loss=2.0)
    assert math.isnan(module.logged[0]["accuracy"]) and module.logged[0]["loss"] == 2.0


def test_a_batch_alone_is_logged_as_it_is():
    figures, module = StepFigures(), Module()
    add(figures, module, 0, 3.0, loss=0.1)
    assert module.logged == [{"loss": pytest.approx(0.1, rel=1e-7)}]


def test_steps_that_are_not_written_cost_nothing():
    figures, module = StepFigures(), Module(step=3, every=10)
    add(figures, module, 0, 1.0, loss=1.0)
    assert module.logged == []
