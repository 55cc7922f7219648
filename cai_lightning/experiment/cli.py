"""The command line: `cai run | plan | ls | show | adopt | gc | env`. Loads no stage and no torch."""

from __future__ import annotations

import json
import logging
import signal
import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from cai_lightning import __version__
from cai_lightning.experiment import inspection
from cai_lightning.experiment.compose import CONF, CONFIG_NAME, compose_config, jobs, parse
from cai_lightning.experiment.errors import UserError, nearest
from cai_lightning.experiment.pipeline import make_plan

HELP = f"""cai {__version__} - Constitutional AI experiments from one config

  cai run  [key=value ...] [-m]   build what is missing and write a report      cai run experiment=smoke
  cai plan [key=value ...]        the tree of stages: what exists, what would be built, at which price
  cai ls                          finished results in the store
  cai show KEY                    recipe, upstream and provenance of one result
  cai adopt KEY                   keep a result after a harmless edit of the source
  cai gc [--yes]                  list (and with --yes remove) results that no recent run refers to, and leftovers
  cai env                         versions, device, and whether the file system keeps locks

Overrides are Hydra's: key=value, a choice list with -m (replicate=0,1,2), experiment=NAME, sweeps=NAME.
runtime.outputs=DIR moves what is written. Configs lie in {CONF}.
"""
log = logging.getLogger("cai")


class Terminated(BaseException):
    """SIGTERM arrived."""


def main() -> None:
    """Entry point of the `cai` command."""
    try:
        code = _dispatch(sys.argv[1:])
    except UserError as error:
        print(f"cai: {error}", file=sys.stderr)
        code = 1
    except (KeyboardInterrupt, Terminated) as stop:
        code = 130 if isinstance(stop, KeyboardInterrupt) else 143
        print(f"cai: stopped; the same command goes on where it was: cai {' '.join(sys.argv[1:])}", file=sys.stderr)
    except BrokenPipeError:
        code = 0
    sys.exit(code)


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP)
        return 0
    command, rest = arguments[0], arguments[1:]
    if command == "--version":
        print(__version__)
        return 0
    if command not in COMMANDS:
        raise UserError(f"no command {command!r}.{nearest(command, list(COMMANDS))} `cai --help` lists them")
    return int(COMMANDS[command](rest) or 0)


def all_jobs(arguments: list[str]) -> tuple[list[str], list[list[str]]]:
    """Hydra's flags, and the overrides of every job that these arguments ask for, each composed and checked."""
    flags = [text for text in arguments if text.startswith("-")]
    overrides = [text for text in arguments if not text.startswith("-")]
    parse(overrides)
    multirun = bool({"-m", "--multirun"} & set(flags))
    if any(text.startswith("sweeps=") for text in overrides):
        params = compose_config(overrides, hydra_config=True).hydra.sweeper.params or {}
        overrides = [*(f"{key}={value}" for key, value in params.items()), *overrides]
        multirun = True
    return flags, jobs(overrides) if multirun else [overrides]


def run(arguments: list[str]) -> int:
    """Builds what is missing and writes the report; everything is checked before anything is written."""
    if {"-h", "--help"} & set(arguments):
        print(HELP)
        return 0
    _, job_list = all_jobs(arguments)
    for overrides in job_list:
        make_plan(compose_config(overrides))
    signal.signal(signal.SIGTERM, _terminate)
    sys.argv = ["cai", *arguments]
    _failures.clear()
    _hydra_main()
    return 1 if _failures else 0


_failures: list[str] = []


def _terminate(*_: Any) -> None:
    raise Terminated


@hydra.main(version_base="1.3", config_path=str(CONF), config_name=CONFIG_NAME)
def _hydra_main(config: DictConfig) -> None:
    """One job, inside Hydra."""
    from cai_lightning.experiment.run import execute

    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        execute(config, folder)
    except Exception as error:
        _failures.append(str(folder))
        if isinstance(error, UserError | ValueError):
            log.error("cai: %s", error)
            log.debug("traceback", exc_info=True)
        else:
            log.exception("cai: %s failed: %s", folder.name, error)


def plan(arguments: list[str]) -> int:
    """Prints the tree of stages with what exists and what would be built."""
    _, job_list = all_jobs(arguments)
    inspection.print_plans([make_plan(compose_config(overrides)) for overrides in job_list], job_list)
    return 0


def _outputs(arguments: list[str]) -> Path:
    overrides = [text for text in arguments if "=" in text]
    return Path(compose_config(overrides).runtime.outputs)


def ls(arguments: list[str]) -> int:
    """Lists the finished results."""
    inspection.print_store(_outputs(arguments))
    return 0


def show(arguments: list[str]) -> int:
    """Prints where one result came from."""
    inspection.print_artifact(_outputs(arguments), _one_key(arguments, "show"))
    return 0


def adopt(arguments: list[str]) -> int:
    """Records that a result is still right for today's source."""
    inspection.adopt(_outputs(arguments), _one_key(arguments, "adopt"))
    return 0


def gc(arguments: list[str]) -> int:
    """Removes what no run under outputs/ refers to."""
    inspection.collect_garbage(_outputs(arguments), really="--yes" in arguments)
    return 0


def env(arguments: list[str]) -> int:
    """Prints versions and facts of this machine."""
    print(json.dumps(inspection.environment_facts(_outputs(arguments)), indent=1))
    return 0


def _one_key(arguments: list[str], command: str) -> str:
    keys = [text for text in arguments if "=" not in text and not text.startswith("-")]
    if len(keys) != 1:
        raise UserError(f"cai {command} wants one key; `cai ls` lists them")
    return keys[0]


COMMANDS = {"run": run, "plan": plan, "ls": ls, "show": show, "adopt": adopt, "gc": gc, "env": env}
