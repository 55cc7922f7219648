"""The command line: `cai run | plan | ablate | ls | show | adopt | gc | env`, and the verbs of the room `commands`.

Loads no stage and no torch.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import yaml  # type: ignore[import-untyped]
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from cai_lightning import __version__
from cai_lightning.experiment import inspection, workspace
from cai_lightning.experiment.ablation import as_run
from cai_lightning.experiment.asked import MULTIRUN, SEARCH, asked
from cai_lightning.experiment.compose import CONF, CONFIG_NAME, compose_config, parse, quoted
from cai_lightning.experiment.errors import UserError, failed, nearest, one_line
from cai_lightning.experiment.pipeline import Plan, make_plan
from cai_lightning.experiment.places import chosen, place_of
from cai_lightning.experiment.runtime import check_config, check_writable
from cai_lightning.experiment.search import check_search
from cai_lightning.experiment.sweep import entered, run_job
from cai_lightning.experiment.worker import UNTIL, end_with_parent

HELP = f"""cai {__version__} - Constitutional AI experiments from one config

  cai run  [key=value ...] [-m]   build what is missing and write a report      cai run experiment=smoke
  cai plan [key=value ...]        the tree of stages: what exists, what would be built, at which price
  cai ablate [constitution=NAME]  which principle does what: the price first (--price: no more than that), then a page
                                  through=labels | reward_model | training | pipeline
  cai ls                          finished results in the store
  cai show KEY                    recipe, upstream and provenance of one result
  cai adopt KEY                   keep a result after a harmless edit of the source
  cai gc [--yes]                  list (and with --yes remove) what no folder under runs/ or sweeps/ refers to
  cai env                         versions, device, and whether the file system keeps locks

{{commands}}

Overrides are Hydra's: key=value, a choice list with -m (replicate=0,1,2), experiment=NAME, sweeps=NAME.
runtime.outputs=DIR moves what is written. Configs lie in {CONF}.
"""

# a parameter that a config group of the same name gives: `stages.revisions.constitution: principles[3].id: ...`
IN_GROUP = re.compile(r"stages\.\w+\.(?P<group>\w+)(: |\.)(?P<problem>.*)", re.DOTALL)


class Stopped(BaseException):
    """SIGINT or SIGTERM arrived. No KeyboardInterrupt: Lightning would swallow one and exit with 1."""


def main() -> None:
    """Entry point of the `cai` command."""
    arguments = sys.argv[1:]
    logging.raiseExceptions = False  # a full disk would print a traceback for every line that run.log misses
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except (UserError, OSError, yaml.YAMLError) as error:
        print(f"cai: {one_line(error)}", file=sys.stderr)
        code = 1
    except (KeyboardInterrupt, Stopped) as stop:
        code = 128 + int(*stop.args) if isinstance(stop, Stopped) else 130
        print(
            f"cai: stopped; the same command goes on where it was: {shlex.join(['cai', *arguments])}", file=sys.stderr
        )
    sys.exit(code)


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        return _help()
    command, rest = arguments[0], arguments[1:]
    if command == "--version":
        print(__version__)
        return 0
    if command not in COMMANDS:
        others = workspace.commands()
        if command in others:
            return workspace.command(command, rest)
        raise UserError(f"no command {command!r}.{nearest(command, [*COMMANDS, *others])} `cai --help` lists them")
    if {"-h", "--help"} & set(rest):
        return _help()
    function, flags = COMMANDS[command]
    for text in rest:
        if text.startswith("-") and text not in flags:
            raise UserError(f"cai {command}: no option {text!r}.{nearest(text, list(flags))} `cai --help` lists them")
    return function(rest)


def _help() -> int:
    lines = (line.lstrip("`").split("`: ", 1) for line in workspace.commands().values())
    print(HELP.format(commands="\n".join(f"  {usage:30}  {' '.join(about)}".rstrip(" .") for usage, *about in lines)))
    return 0


def run(arguments: list[str]) -> int:
    """Builds what is missing and writes the report; everything is checked before anything is written."""
    if os.environ.pop(UNTIL, None):
        threading.Thread(target=end_with_parent, daemon=True).start()
    wanted = asked(arguments)
    if wanted.search is not None and wanted.search._target_ == SEARCH:
        check_search(wanted.search)
    plans = [_plan(overrides) for overrides in wanted.jobs]
    for one in plans:
        check_writable(one.store.root)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra passes errors on in place of printing them
    with entered(wanted, plans) if wanted.hydra else contextlib.nullcontext() as folder:
        sys.argv = ["cai", *wanted.arguments, *([f"hydra.sweep.dir={quoted(folder)}"] if folder else [])]
        try:
            _hydra_main()
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(one_line(error)) from None
    return 1 if failed else 0


def _stop(number: int, _: Any) -> None:
    raise Stopped(number)


@hydra.main(version_base="1.3", config_path=str(CONF), config_name=CONFIG_NAME)
def _hydra_main(config: DictConfig) -> None:
    run_job(config)


def plan(arguments: list[str]) -> int:
    """Prints the tree of stages with what exists and what would be built."""
    wanted = asked(arguments)
    plans = [_plan(overrides) for overrides in wanted.jobs]
    if wanted.search is None:
        inspection.print_plans(plans, wanted.jobs, brief=False)
    else:
        inspection.print_search(plans, wanted.jobs, wanted.search.get("n_trials"))
    return 0


def ablate(arguments: list[str]) -> int:
    """Prints what it costs to find out which principle does what, and without `--price` finds it out."""
    wanted = as_run([text for text in arguments if text != PRICE])
    found = asked(wanted)
    inspection.print_plans([_plan(overrides) for overrides in found.jobs], found.jobs, brief=True)
    return 0 if PRICE in arguments else run(wanted)


def _plan(overrides: list[str]) -> Plan:
    """The plan of a job; an error in an option of a config group is placed in the option's file."""
    try:
        return make_plan(_checked(overrides))
    except UserError as error:
        if (found := IN_GROUP.match(str(error))) is None:
            raise
        changed = any(text.lstrip("+~").startswith(f"{found['group']}.") for text in overrides)
        files = [] if changed else chosen(found["group"], compose_config(overrides, hydra_config=True).hydra)
        at = place_of(found["problem"], files)
        raise UserError(f"{at}: {error}" if at else str(error)) from None


def _outputs(arguments: list[str]) -> Path:
    overrides = [text for text in arguments if not text.startswith("-")]
    parse(overrides)
    return Path(_checked(overrides).runtime.outputs)


def _checked(overrides: list[str]) -> DictConfig:
    config = compose_config(overrides)
    check_config(config)
    return config


def ls(arguments: list[str]) -> int:
    """Lists the finished results."""
    inspection.print_store(_outputs(arguments))
    return 0


def show(arguments: list[str]) -> int:
    """Prints where one result came from."""
    key, overrides = _one_key(arguments, "show")
    inspection.print_artifact(_outputs(overrides), key)
    return 0


def adopt(arguments: list[str]) -> int:
    """Records that a result is still right for today's source."""
    key, overrides = _one_key(arguments, "adopt")
    inspection.adopt(_outputs(overrides), key)
    return 0


def gc(arguments: list[str]) -> int:
    """Removes what no run under outputs/ refers to."""
    inspection.collect_garbage(_outputs(arguments), really="--yes" in arguments)
    return 0


def env(arguments: list[str]) -> int:
    """Prints versions and facts of this machine."""
    print(json.dumps(inspection.environment_facts(_outputs(arguments)), indent=1))
    return 0


def _one_key(arguments: list[str], command: str) -> tuple[str, list[str]]:
    keys = [text for text in arguments if "=" not in text]
    if len(keys) != 1:
        raise UserError(f"cai {command} wants one key; `cai ls` lists them")
    return keys[0], [text for text in arguments if text not in keys]


PRICE = "--price"
COMMANDS: dict[str, tuple[Callable[[list[str]], int], tuple[str, ...]]] = {
    "run": (run, MULTIRUN),
    "plan": (plan, MULTIRUN),
    "ablate": (ablate, (*MULTIRUN, PRICE)),
    "ls": (ls, ()),
    "show": (show, ()),
    "adopt": (adopt, ()),
    "gc": (gc, ("--yes",)),
    "env": (env, ()),
}
