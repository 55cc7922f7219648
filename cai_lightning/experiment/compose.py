"""Where `conf/` and `sweeps/` lie, and configs composed without Hydra's folders: for checks before a run and tests."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cai_lightning.experiment.errors import UserError, nearest

PACKAGE = Path(__file__).resolve().parent.parent
ROOT = PACKAGE if (PACKAGE / "conf").is_dir() else PACKAGE.parent
CONF = ROOT / "conf"
CONFIG_NAME = "config"
os.environ["CAI_ROOT"] = str(ROOT)
OmegaConf.register_new_resolver("package", lambda path: str(PACKAGE / path), replace=True)
OmegaConf.register_new_resolver("add", lambda a, b: a + b, replace=True)
OmegaConf.register_new_resolver("times", lambda a, b: a * b, replace=True)


def _existing(path: str) -> str:
    """The path, or where it is missing its subset `NAME.shared.SUFFIX`, if that exists."""
    file = Path(path)
    stem, dot, suffix = file.name.partition(".")
    shared = file.with_name(f"{stem}.shared{dot}{suffix}")
    return str(shared) if not file.exists() and shared.exists() else path


OmegaConf.register_new_resolver("existing", _existing, replace=True)


def compose_config(overrides: list[str], *, hydra_config: bool = False) -> DictConfig:
    """The config of one job, struct mode on, with Hydra's own node on request. Raises UserError in one line."""
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
            return compose(CONFIG_NAME, overrides=overrides, return_hydra_config=hydra_config)
    except (HydraException, OmegaConfBaseException, ValueError) as error:  # ValueError: a group is set to null
        raise UserError(_one_line(error, overrides)) from None


def parse(overrides: list[str]) -> list[Override]:
    """The overrides in Hydra's grammar. Raises UserError."""
    found = []
    for text in overrides:
        try:
            found += OverridesParser.create().parse_overrides([text])
        except HydraException as error:
            raise UserError(f"{text}: {_first(error)}; write key=value") from None
        if not found[-1].key_or_group:
            raise UserError(f"{text}: no key before the sign; write key=value")
    return found


def jobs(overrides: list[str]) -> list[list[str]]:
    """The overrides of every job of a multirun: the product of all choices, in order; a key's last override counts."""
    parts: dict[str, list[str]] = {}
    for text, override in zip(overrides, parse(overrides), strict=True):
        key = override.get_key_element()
        if not override.is_sweep_override():
            parts[key] = [text]
        elif override.is_discrete_sweep():
            parts[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
        else:
            raise UserError(f"{text}: an interval has no end of points; hydra/sweeper=search chooses among them")
    return [list(job) for job in itertools.product(*parts.values())]


def quoted(text: object) -> str:
    """A value, such as a path, as Hydra's grammar takes it whatever it holds."""
    return QuotedString(str(text), Quote.single).with_quotes()


def _first(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _one_line(error: Exception, overrides: list[str]) -> str:
    message = _first(error)
    cause = error.__cause__ or error.__context__
    detail = _first(cause) if cause is not None and _first(cause) not in message else ""
    text = f"{message} {detail}".strip()
    if ("Key '" in text and "not in" in text) or "Could not override" in text or "Could not find" in text:
        text = f"{text.rstrip('.')}.{_suggestion(overrides)}"
    return text


def _suggestion(overrides: list[str]) -> str:
    """The nearest existing key or option for the first override that fits nothing."""
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        known = leaf_names(compose(CONFIG_NAME))
    groups = {str(p.parent.relative_to(CONF)) for p in CONF.rglob("*.yaml") if p.parent != CONF}
    for text in overrides:
        key, _, value = text.lstrip("+~").partition("=")
        group, _, place = key.partition("@")
        if group in groups:
            options = [p.stem for p in (CONF / group).glob("*.yaml")]
            if value not in options:
                return nearest(value, options)
            if place and place not in known:
                return nearest(place, known)
        elif key not in known and key not in ("experiment", "sweeps") and not key.startswith("hydra"):
            return nearest(key, [*known, *groups])
    return ""


def leaf_names(config: DictConfig) -> list[str]:
    """Every dotted key of a config, inner nodes included."""
    names: list[str] = []

    def walk(node: object, prefix: str) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                name = f"{prefix}.{key}" if prefix else str(key)
                names.append(name)
                walk(value, name)

    walk(OmegaConf.to_container(config, resolve=False), "")
    return names
