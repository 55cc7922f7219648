"""A reward model by plain transformers, for tests of what is trained on one."""

import torch
from torch import nn

from cai_lightning.models.packing import texts


class LastToken(nn.Module):
    """A reward read from the state of a text's last token, by right-padded rows and transformers' own mask."""

    def __init__(self, causal):
        super().__init__()
        self.trunk = causal.model
        self.score = nn.Linear(causal.config.hidden_size, 1, bias=False)
        nn.init.zeros_(self.score.weight)

    def forward(self, packed):
        rows = [packed.ids[places] for places in texts(packed)]
        padded = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        states = self.trunk(input_ids=padded, use_cache=False).last_hidden_state
        last = torch.tensor([len(row) - 1 for row in rows])
        return self.score(states[torch.arange(len(rows)), last])[:, 0]
