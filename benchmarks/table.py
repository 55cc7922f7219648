"""The rows: what is measured against what, and what is wanted of it (README.md says where the goals come from)."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.rows import Row, compared, only, quotient, utilisation

TOKENS, PAIRS, SAMPLES = ("tokens", "tok/s"), ("rows", "pairs/s"), ("rows", "samples/s")
NEW, REQUESTS, QUESTIONS = ("new_tokens", "tok/s"), ("rows", "requests/s"), ("rows", "questions/s")

# What TRL does unless told otherwise (activations are computed again in the backward pass), and what a careful user
# tells it: no such thing, rows sorted by length.
DEFAULT, PLAIN, BEST = "checkpoint=true", "checkpoint=false", "checkpoint=false order=sorted"

TEXTS = {"s3m": "size=s3m rows=96 precision=bf16", "m25m": "size=m25m rows=48 precision=bf16"}
TEXTS_32 = {"s3m_fp32": "size=s3m rows=96 precision=fp32"}
SMALL = {"s3m": TEXTS["s3m"]}
LABELS = {"s3m": "size=s3m rows=64 precision=bf16", "m25m": "size=m25m rows=32 precision=bf16"}
LABELS_32 = {"s3m_fp32": "size=s3m rows=64 precision=fp32"}
LORA = {**LABELS_32, "m25m": LABELS["m25m"]}
EPOCHS = {"s3m": "size=s3m rows=192 epochs=2 precision=bf16"}
ROLLOUTS = {
    "s3m": "size=s3m rows=96 new_tokens=64 precision=fp32",
    "m25m": "size=m25m rows=48 new_tokens=32 precision=fp32",
}
PROMPTS = {"s3m": "size=s3m rows=64 precision=fp32"}
PROMPTS_LARGE = {"m25m": "size=m25m rows=64 precision=bf16"}
CRITICISED = {"s3m": "size=s3m rows=32 precision=fp32", "m25m": "size=m25m rows=32 precision=fp32"}
CRITICISED_SMALL = {"s3m": CRITICISED["s3m"]}
JUDGED = {size: f"size={size} rows=32 principles=1 precision=fp32" for size in ("s3m", "m25m")}
JUDGED_16 = {"s3m": "size=s3m rows=16 principles=16 precision=fp32"}

# fmt: off
COMPARED = [
    # name, title, must, stretch, what is counted a second, work, ours, peer
    ("sft_default", "SFT vs TRL's defaults", 2.5, 3.5, TOKENS, TEXTS, "ours sft", f"peers sft {DEFAULT}"),
    ("sft_packed", "SFT vs TRL packed", 1.8, 2.4, TOKENS, TEXTS | TEXTS_32,
     "ours sft", f"peers sft {PLAIN} packing=true"),
    ("sft_sorted", "SFT vs TRL, rows sorted", 1.4, 1.7, TOKENS, TEXTS, "ours sft", f"peers sft {BEST}"),
    ("dpo_default", "DPO vs TRL's defaults", 4, 6, PAIRS, LABELS, "ours dpo", f"peers dpo {DEFAULT}"),
    ("dpo_sorted", "DPO vs TRL, rows sorted", 2.5, 3.3, PAIRS, LABELS, "ours dpo", f"peers dpo {BEST}"),
    ("dpo_lora", "DPO with LoRA vs TRL", 4, 5.7, PAIRS, LORA,
     "ours dpo adapter=lora", f"peers dpo {PLAIN} adapter=lora"),
    ("dpo_shared", "DPO, prompts read once vs twice", 1.4, 1.5, PAIRS, LABELS_32, "ours dpo", "ours dpo shared=false"),
    ("dpo_cached", "DPO epoch, reference cached vs live", 1.25, 1.33, PAIRS, EPOCHS,
     "ours dpo", "ours dpo live=true"),
    ("dpo_live", "DPO, reference made in it, vs TRL's defaults", 4, 6, PAIRS, {"s3m": LABELS["s3m"]},
     "ours dpo live=true", f"peers dpo {DEFAULT}"),
    ("reward_default", "reward model vs TRL's defaults", 2.5, 4.5, PAIRS, LABELS,
     "ours reward_model", f"peers reward_model {DEFAULT}"),
    ("rl", "PPO vs TRL's RLOO", 3, 4, SAMPLES, ROLLOUTS, "ours ppo", f"peers rloo {PLAIN}"),
    ("sample", "sampling vs HF, 16 together", 2.2, 2.5, NEW, PROMPTS,
     "ours sample slots=16", "peers sample batch_size=16"),
    ("sample", "sampling vs HF, 16 together", 3, 4, NEW, PROMPTS_LARGE,
     "ours sample slots=16", "peers sample batch_size=16"),
    ("sample_best", "sampling vs HF, best of 1, 4, 64 together", 1.7, 2.2, NEW, PROMPTS | PROMPTS_LARGE,
     "ours sample slots=16", "peers sample batch_size=[1,4,64]"),
    ("critique_8", "critiques vs HF, 8 together", 10, 18, REQUESTS, CRITICISED,
     "ours critique slots=16", "peers critique batch_size=8"),
    ("critique_1", "critiques vs HF, one by one", 5, 8, REQUESTS, CRITICISED_SMALL,
     "ours critique slots=16", "peers critique batch_size=1"),
    ("critique_prefix", "critiques vs HF, prefix cached by hand", 2.2, 3.5, REQUESTS, CRITICISED,
     "ours critique slots=16", "peers critique batch_size=1 prefix=true"),
    ("label", "letters vs HF forward", 4, 5, QUESTIONS, JUDGED, "ours label slots=16", "peers label batch_size=8"),
    ("label_16", "letters under 16 principles vs HF forward", 6, 7.5, QUESTIONS, JUDGED_16,
     "ours label slots=16", "peers label batch_size=8"),
    ("label_16_whole", "the same, (A) and (B) whole as the stage asks", 6, 7.5, QUESTIONS, JUDGED_16,
     "ours label slots=16 bracket=false", "peers label batch_size=8"),
    ("sft_bare", "SFT through the trainer vs a bare loop", 0.9, 0.95, TOKENS, SMALL, "ours sft", "growth bare"),
]

# name, runs of, title, figure, must, stretch, at most: figures of the same runs that are shares
_memory = quotient("rss_mb", "ours", "peer")
REREAD = [
    ("use_sft_s3m_fp32", "sft_packed_s3m_fp32", "SFT, use of the core", utilisation("float32"), 0.5, 0.6, False),
    ("use_sft_m25m", "sft_packed_m25m", "SFT, use of the core", utilisation("bfloat16"), 0.35, 0.45, False),
    ("use_dpo_m25m", "dpo_default_m25m", "DPO, use of the core", utilisation("bfloat16"), 0.55, 0.7, False),
    ("memory_sft_s3m", "sft_sorted_s3m", "SFT, memory vs TRL", _memory, 0.8, 0.5, True),
    ("memory_sft_m25m", "sft_sorted_m25m", "SFT, memory vs TRL", _memory, 0.8, 0.5, True),
    ("memory_dpo_s3m", "dpo_sorted_s3m", "DPO, memory vs TRL", _memory, 0.5, 0.35, True),
    ("memory_dpo_m25m", "dpo_sorted_m25m", "DPO, memory vs TRL", _memory, 0.5, 0.35, True),
    ("sampling_rl_s3m", "rl_s3m", "PPO, generation's share of a step", only("sampling_share"), 0.6, 0.5, True),
    ("start_sft", "sft_default_s3m", "from start to the first SFT step", only("first_step"), 5, 3.5, True),
]
# fmt: on


def rows() -> list[Row]:
    """All rows; those that read the runs of another stand behind."""
    found = {row.name: row for line in COMPARED for row in compared(*line)}
    others = [
        replace(
            found[of],
            name=name,
            title=title,
            figure=figure,
            must=must,
            stretch=stretch,
            unit="s" if name.startswith("start_") else "share",
            at_most=at_most,
            rate=None,
            of=of,
        )
        for name, of, title, figure, must, stretch, at_most in REREAD
    ]
    return [*found.values(), *others]
