"""TRL's and transformers' side, in an environment of their own: `python -m benchmarks.peers TASK work=FOLDER ...`."""

from __future__ import annotations

import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from benchmarks import files, hf
from benchmarks.measure import Task, main, one_thread

TOGETHER = 8  # rows a batch, TRL's default


class Watch:
    """What a trainer did: processor seconds from its first step to its last, and what its batches held."""

    def __init__(self) -> None:
        self.start = self.end = self.first_step = 0.0
        self.texts = self.tokens = self.places = self.targets = 0

    def callback(self) -> Any:
        """The callback that tells the time."""
        from transformers import TrainerCallback

        watch = self

        class Watching(TrainerCallback):  # type: ignore[misc]
            def on_step_begin(self, *_: Any, **__: Any) -> None:
                watch.start = watch.start or time.process_time()

            def on_step_end(self, *_: Any, **__: Any) -> None:
                watch.end = time.process_time()
                watch.first_step = watch.first_step or watch.end

        return Watching()

    def look(self, trainer: Any) -> None:
        """Counts what the trainer's batches hold as they come."""
        step = trainer.training_step

        def counted(model: Any, inputs: Any, *arguments: Any, **given: Any) -> Any:
            if "input_ids" in inputs:
                ids = inputs["input_ids"]
                packed = "attention_mask" not in inputs
                self.places += ids.numel()
                self.tokens += ids.numel() if packed else int(inputs["attention_mask"].sum())
                self.texts += int((inputs["position_ids"] == 0).sum()) if packed else len(ids)
            if "labels" in inputs:
                self.targets += int((inputs["labels"] != -100).sum())
            elif "completion_mask" in inputs:
                self.targets += int(inputs["completion_mask"].sum())
            return step(model, inputs, *arguments, **given)

        trainer.training_step = counted


def sft(
    work: Path, *, size: str, rows: int, precision: str, checkpoint: bool, order: str = "random", packing: bool = False
) -> dict[str, Any]:
    """Supervised finetuning on the chosen replies; packed into rows of 1024 tokens by best-fit decreasing."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer  # type: ignore[import-not-found]

    texts = [(pair.ids[0], pair.ids[1]) for pair in _pairs(work, size, rows, order, both=False)]
    data = Dataset.from_dict(
        {
            "input_ids": [prompt + reply for prompt, reply in texts],
            "completion_mask": [[0] * len(prompt) + [1] * len(reply) for prompt, reply in texts],
        }
    )
    options: dict[str, Any] = {"completion_only_loss": True, "packing": packing, "max_length": files.MAX_TOKENS}
    if packing:
        options["per_device_train_batch_size"] = 2  # of 1024 tokens: about as many rows as unpacked
    config = _config(SFTConfig, precision, checkpoint, order, **options)
    watch = _trained(SFTTrainer(_causal(work, size), config, train_dataset=data, **_common(work, size)))
    found = _found(watch, watch.texts, precision)
    found["work"]["targets"] = watch.targets
    return found


def reward_model(
    work: Path, *, size: str, rows: int, precision: str, checkpoint: bool, order: str = "random"
) -> dict[str, Any]:
    """A reward model on the pairs."""
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification
    from trl import RewardConfig, RewardTrainer

    pairs = _pairs(work, size, rows, order, both=True)
    sides = {"chosen_ids": 1, "rejected_ids": 2}
    data = Dataset.from_dict({name: [pair.ids[0] + pair.ids[side] for pair in pairs] for name, side in sides.items()})
    model = AutoModelForSequenceClassification.from_pretrained(files.model(work, size), num_labels=1, dtype="float32")
    config = _config(RewardConfig, precision, checkpoint, order, max_length=files.MAX_TOKENS)
    watch = _trained(RewardTrainer(model, args=config, train_dataset=data, **_common(work, size)))
    return _found(watch, watch.texts // 2, precision)


def dpo(
    work: Path,
    *,
    size: str,
    rows: int,
    precision: str,
    checkpoint: bool,
    order: str = "random",
    adapter: str = "full",
) -> dict[str, Any]:
    """DPO with a live reference; with LoRA that is the policy with its adapter off."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import DPOConfig, DPOTrainer

    texts = [pair.texts for pair in _pairs(work, size, rows, order, both=True)]
    data = Dataset.from_dict(
        dict(zip(("prompt", "chosen", "rejected"), map(list, zip(*texts, strict=True)), strict=True))
    )
    low_rank = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = DPOTrainer(
        _causal(work, size),
        args=_config(DPOConfig, precision, checkpoint, order, max_length=files.MAX_TOKENS),
        train_dataset=data,
        peft_config=low_rank if adapter == "lora" else None,
        **_common(work, size),
    )
    watch = _trained(trainer)
    found = _found(watch, watch.texts // 2, precision)
    found["work"]["targets"] = watch.targets
    return found


def rloo(work: Path, *, size: str, rows: int, precision: str, checkpoint: bool, new_tokens: int) -> dict[str, Any]:
    """RLOO with the same reward model: four replies a prompt, eight a step."""
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification
    from trl import RLOOConfig, RLOOTrainer

    data = Dataset.from_dict({"prompt": [asked.text for _, asked in files.replies(work, size, rows // 4)]})
    options = {"num_generations": 4, "max_completion_length": new_tokens, "temperature": 1.0, "beta": 0.05}
    judge = AutoModelForSequenceClassification.from_pretrained(files.reward_model(work, size), dtype="float32").eval()
    config = _config(RLOOConfig, precision, checkpoint, "random", **options)
    trainer = RLOOTrainer(_causal(work, size), judge, config, train_dataset=data, **_common(work, size))
    watch = _trained(trainer)
    did = {"rows": TOGETHER * trainer.state.global_step, "precision": precision}
    lengths = [row["completions/mean_length"] for row in trainer.state.log_history if "completions/mean_length" in row]
    new = round(TOGETHER * sum(lengths) * trainer.state.global_step / max(len(lengths), 1))
    return {
        "seconds": watch.end - watch.start,
        "work": {**did, "new_tokens_at_most": rows * new_tokens},
        "new_tokens": new,
    }


def _pairs(work: Path, size: str, rows: int, order: str, *, both: bool) -> list[files.Pair]:
    pairs = files.pairs(work, size, rows)
    return files.sorted_by_length(pairs, TOGETHER, both=both) if order == "sorted" else pairs


def _causal(work: Path, size: str) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(files.model(work, size), dtype="float32")


def _common(work: Path, size: str) -> dict[str, Any]:
    from transformers import AutoTokenizer

    return {"processing_class": AutoTokenizer.from_pretrained(files.model(work, size))}


def _config(kind: Any, precision: str, checkpoint: bool, order: str, **options: Any) -> Any:
    given = {
        "output_dir": tempfile.mkdtemp(),
        "num_train_epochs": 1,
        "per_device_train_batch_size": TOGETHER,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "bf16": precision == "bf16",
        "gradient_checkpointing": checkpoint,
    }
    if order == "sorted":
        given["train_sampling_strategy"] = "sequential"
    return kind(**{**given, **options})


def _trained(trainer: Any) -> Watch:
    watch = Watch()
    trainer.add_callback(watch.callback())
    watch.look(trainer)
    trainer.train()
    return watch


def _found(watch: Watch, rows: int, precision: str) -> dict[str, Any]:
    did = {"rows": rows, "tokens": watch.tokens, "precision": precision}
    spent = {"seconds": watch.end - watch.start, "first_step": watch.first_step}
    return {**spent, "work": did, "pad_efficiency": watch.tokens / max(watch.places, 1)}


def _quiet() -> None:
    import datasets

    warnings.filterwarnings("ignore")
    datasets.disable_progress_bars()


TASKS: dict[str, Task] = {"sft": sft, "reward_model": reward_model, "dpo": dpo, "rloo": rloo, **hf.TASKS}

if __name__ == "__main__":
    one_thread()
    _quiet()
    main(TASKS)
