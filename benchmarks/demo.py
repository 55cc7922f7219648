"""Where the time of the demo goes, as a picture: `python -m benchmarks.demo PICTURE NAME=OUTPUTS ...`.

Each OUTPUTS is the folder of a run that built everything. Slots that take less than a hundredth of the longest run are
one bar.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

SHOWN = 0.01


def seconds(outputs: Path) -> dict[str, float]:
    """The seconds that each slot of the newest run took when it was built."""
    names = json.loads((outputs / "latest" / "artifacts.json").read_text(encoding="utf-8"))
    found = {}
    for slot, name in names.items():
        timing = outputs / "store" / str(name) / "timing.json"
        found[slot] = float(json.loads(timing.read_text(encoding="utf-8"))["seconds"])
    return found


def draw(picture: Path, runs: dict[str, dict[str, float]]) -> None:
    """Bars of every slot, one a run, the longest first; totals stand in the legend."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    last = next(reversed(runs.values()))
    least = SHOWN * max(sum(run.values()) for run in runs.values())
    slots = sorted((slot for slot in last if any(run.get(slot, 0) >= least for run in runs.values())), key=last.get)
    rest = {name: sum(took for slot, took in run.items() if slot not in slots) for name, run in runs.items()}
    figure, axes = pyplot.subplots(figsize=(8, 0.36 * (len(slots) + 1) * 1.2 + 1))
    height = 0.8 / len(runs)
    for number, (name, run) in enumerate(runs.items()):
        lengths = [rest[name], *(run.get(slot, 0) for slot in slots)]
        places = [place + (0.5 - (number + 0.5) / len(runs)) * 0.8 for place in range(len(lengths))]
        axes.barh(places, lengths, height, label=f"{name}: {sum(run.values()):.0f} s", color=f"C{number}")
    axes.set_yticks(range(len(slots) + 1), ["all others", *slots])
    axes.set_xlabel("seconds")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    draw(
        Path(sys.argv[1]), {name: seconds(Path(folder)) for name, folder in (one.split("=", 1) for one in sys.argv[2:])}
    )
