"""How the scores of a collection [row] are scaled before they become rewards."""

from __future__ import annotations

from torch import Tensor


def raw(scores: Tensor) -> Tensor:
    """The scores as they are: the faithful choice, since whitening would undo a clamp of the labels."""
    return scores


class RunningWhiten:
    """Scores less a running mean, over a running standard deviation; the first batch sets both."""

    def __init__(self, *, momentum: float) -> None:
        self._momentum = momentum
        self.mean: float | None = None
        self.sd: float | None = None

    def __call__(self, scores: Tensor) -> Tensor:
        """The whitened scores, this batch's statistics included."""
        mean, sd = scores.mean().item(), scores.std(correction=0).item()
        self.mean = mean if self.mean is None else self._momentum * self.mean + (1 - self._momentum) * mean
        self.sd = sd if self.sd is None else self._momentum * self.sd + (1 - self._momentum) * sd
        return (scores - self.mean) / (self.sd + 1e-5)

    def state_dict(self) -> dict[str, float | None]:
        """The running mean and standard deviation."""
        return {"mean": self.mean, "sd": self.sd}

    def load_state_dict(self, state: dict[str, float | None]) -> None:
        """Takes both over."""
        self.mean, self.sd = state["mean"], state["sd"]
