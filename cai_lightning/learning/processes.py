"""Training in several processes: whose batches are whose, and weights cut into one part a process (FSDP2).

Data parallel: every process has the whole model, Lightning averages the gradients. Sharded: weights, gradients and
moments are spread over the processes, and a layer's weights are gathered when it is used.
"""

from __future__ import annotations

import copy
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel


def automatic() -> str:
    """What Lightning takes by itself: one process, or data parallel ones where `devices` is more than one."""
    return "auto"


class Sharded(ModelParallelStrategy):  # type: ignore[misc]
    """FSDP2 over all processes of a fit; checkpoints are one file, whatever their number."""

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        """Takes every process for a part of the data: "auto" would take every machine."""
        self._data_parallel_size = self.num_processes
        super().setup_environment()


class Shardable(LightningModule):  # type: ignore[misc]
    """A module whose weights are sharded where the strategy has a mesh of processes (`Sharded`)."""

    def configure_model(self) -> None:
        """Shards the weights of the children, if the strategy asks for it."""
        if self.device_mesh is not None:
            _shard(self)


class Whole(Callback):  # type: ignore[misc]
    """Gives a module's children their whole weights back, on the CPU of the first process, when a fit has ended.

    To be made before the fit. Without sharding it does nothing.
    """

    def __init__(self, module: LightningModule) -> None:
        self._children = dict(module.named_children())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gathers weight by weight; all processes take part."""
        for name, whole in self._children.items():
            if (sharded := getattr(pl_module, name)) is not whole:
                for mine, theirs in zip(whole.parameters(), sharded.parameters(), strict=True):
                    gathered = full(theirs.detach())
                    if trainer.is_global_zero:
                        mine.data = gathered.cpu()
                setattr(pl_module, name, whole)


def _shard(module: LightningModule) -> None:
    """Puts sharded copies of the children in their places; a training step counts as the forward pass of the rest."""
    mesh = module.device_mesh["data_parallel"]
    originals = list(module.parameters())
    for name, whole in list(module.named_children()):
        # the copy has the very parameters of the original, until sharding replaces them
        sharded = copy.deepcopy(whole, {id(parameter): parameter for parameter in whole.parameters()})
        for layer in layers_of(sharded):
            fully_shard(layer, mesh=mesh)
        setattr(module, name, sharded)
    fully_shard(module, mesh=mesh)
    register_fsdp_forward_method(module, "training_step")
    for parameter in originals:
        parameter.data = parameter.data.new_empty(0)  # or every process would hold the whole model once more


def layers_of(model: nn.Module) -> list[nn.Module]:
    """The layers of the language models inside, as Transformers names what must not be cut."""
    names = {name for part in model.modules() if isinstance(part, PreTrainedModel) for name in part._no_split_modules}
    return [layer for layer in model.modules() if type(layer).__name__ in names]


def full(value: Tensor) -> Tensor:
    """A tensor whole: itself, or where it is spread over processes, gathered by all of them."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def of_this_process(data: Any, trainer: Trainer) -> dict[str, Any]:
    """What `Trainer.fit` takes: the loaders of the data; of the training batches this process's part."""
    prepared = hasattr(data, "train_dataloader")
    loader = data.train_dataloader() if prepared else data
    if trainer.world_size > 1:
        loader = loader.part(trainer.global_rank, trainer.world_size)
    return {"train_dataloaders": loader, "val_dataloaders": (data.val_dataloader() or None) if prepared else None}
