"""`cai ablate` in the words of `cai run`: which experiment it is, and where models are trained a job a principle."""

from __future__ import annotations

import re

from omegaconf import DictConfig

from cai_lightning.experiment.compose import CONF, compose_config, jobs
from cai_lightning.experiment.errors import UserError, nearest
from cai_lightning.experiment.pipeline import with_sources
from cai_lightning.experiment.recipe import raw_value
from cai_lightning.experiment.runtime import check_config
from cai_lightning.experiment.targets import construct

PREFIX = "ablate_"
LABELS = "labels"  # one run that holds the answers under every principle; whatever is trained takes a run a principle
PIPELINE = "pipeline"  # its own constitution is what remains of the whole, which is the one that a user names
PLAIN = re.compile(r"[A-Za-z][\w-]*")


def as_run(arguments: list[str]) -> list[str]:
    """The arguments of `cai run` that an ablation is: `through=NAME` is experiment ablate_NAME, on top of any other.

    Raises UserError on a `through` that no experiment is named after, and on a constitution that has fewer than two
    principles that compare.
    """
    through = _value(arguments, "through") or LABELS
    known = [path.stem.removeprefix(PREFIX) for path in sorted((CONF / "experiment").glob(f"{PREFIX}*.yaml"))]
    if through not in known:
        raise UserError(f"through: is {through!r}; it is one of {', '.join(known)}.{nearest(through, known)}")
    under = (_value(arguments, "experiment") or "").strip("[]")
    rest = [text for text in arguments if not text.startswith(("through=", "experiment="))]
    wanted = [f"experiment=[{','.join(filter(None, [under, PREFIX + through]))}]", *rest]
    if through == PIPELINE:
        wanted = [re.sub(r"^(\+*)constitution(=|\.)", _whole, text) for text in wanted]
    if through == LABELS or any(text.startswith("without=") for text in rest):
        return wanted
    part = "whole" if through == PIPELINE else "constitution"
    names = _principles(part, [text for text in wanted if not text.startswith("-")])
    flags = [] if {"-m", "--multirun"} & set(rest) else ["-m"]
    return [*flags, *wanted, f"without={','.join(['null', *map(_quoted, names)])}"]


def _whole(found: re.Match[str]) -> str:
    return f"{found[1]}{'constitution@whole=' if found[2] == '=' else 'whole.'}"


def _principles(key: str, overrides: list[str]) -> list[str]:
    """The ids of the principles of the first job that may be left out: of labels those that compare, else all."""
    config = compose_config(jobs(overrides)[0])
    assert isinstance(config, DictConfig)
    check_config(config)
    try:
        constitution = construct(with_sources(raw_value(config, key)))
    except ValueError as error:
        raise UserError(f"constitution: {error}") from None
    if len(constitution.comparing) < 2:
        raise UserError(f"constitution: {len(constitution.comparing)} principle compares; to leave one out takes two")
    return [
        principle.id for principle in (constitution.comparing if key == "constitution" else constitution.principles)
    ]


def _value(arguments: list[str], key: str) -> str | None:
    """What the last argument key=value gives."""
    return next((text.partition("=")[2] for text in reversed(arguments) if text.startswith(f"{key}=")), None)


def _quoted(name: str) -> str:
    """An id in Hydra's grammar; quoted where a word would be read as something else."""
    if PLAIN.fullmatch(name) and name.lower() not in ("null", "true", "false", "nan", "inf"):
        return name
    escaped = name.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
