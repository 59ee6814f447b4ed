"""Layers of PyTorch on random numbers, for tests/nn/test_state_dict.c: state dicts, inputs and outputs in torch_nn.npz, one layer in
torch_nn.safetensors as the safetensors package writes it (where it is installed). Run with PyTorch 2.7.0:
    python tests/nn/make_torch_nn.py
"""
import json
import os
import struct

import numpy as np
import torch
import torch.nn as nn

torch.manual_seed(0)
here = os.path.dirname(os.path.abspath(__file__))
out = {}


def keep(name, module, *inputs):
    module.eval()
    for k, v in module.state_dict().items():
        if v.dtype == torch.float32:
            v.copy_(torch.randn(v.shape) * 0.4)
            if k.endswith("running_var"):
                v.abs_().add_(0.5)
        out[f"{name}/state/{k}"] = v.numpy()
    with torch.no_grad():
        y = module(*inputs)
    for i, x in enumerate(inputs):
        out[f"{name}/x{i}"] = x.numpy()
    for i, t in enumerate(y if isinstance(y, tuple) else (y,)):
        if torch.is_tensor(t):
            out[f"{name}/y{i}"] = t.numpy()
    return module


class States(nn.Module):
    def __init__(self, m):
        super().__init__()
        self.m = m

    def forward(self, x):
        y, h = self.m(x)
        return (y, *h) if isinstance(h, tuple) else (y, h)


class Attends(nn.Module):
    def __init__(self, **kw):
        super().__init__()
        self.m = nn.MultiheadAttention(**kw)

    def forward(self, q, k, v):
        return self.m(q, k, v)[0]


lstm = keep("lstm", States(nn.LSTM(5, 4, num_layers=2, bidirectional=True, batch_first=True)), torch.randn(3, 6, 5))
keep("lstm_plain", States(nn.LSTM(5, 4, bias=False)), torch.randn(6, 3, 5))
keep("gru", States(nn.GRU(5, 4, num_layers=2, bidirectional=True)), torch.randn(6, 3, 5))
x = torch.randn(2, 5, 8)
keep("self", Attends(embed_dim=8, num_heads=2, batch_first=True), x, x, x)
k = torch.randn(7, 2, 8)
keep("cross", Attends(embed_dim=8, num_heads=4), torch.randn(5, 2, 8), k, k)
keep("prelu", nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.PReLU(4), nn.BatchNorm2d(4, eps=1e-3)), torch.randn(2, 3, 7, 7))
keep("transposed", nn.Sequential(nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2), nn.GELU()), torch.randn(2, 4, 5, 5))
keep("words", nn.Sequential(nn.Embedding(9, 6), nn.Linear(6, 5), nn.LayerNorm(5), nn.SiLU()), torch.arange(8).reshape(2, 4))
np.savez(os.path.join(here, "torch_nn.npz"), **out)

# the format written by hand from its description, as the package would: names in alphabetical order, metadata first
tensors = {k: v.numpy() for k, v in lstm.m.state_dict().items()}
header, at, data = {"__metadata__": {"format": "pt"}}, 0, b""
for name in sorted(tensors):
    t = np.ascontiguousarray(tensors[name])
    header[name] = {"dtype": "F32", "shape": list(t.shape), "data_offsets": [at, at + t.nbytes]}
    data += t.tobytes()
    at += t.nbytes
text = json.dumps(header, separators=(",", ":")).encode()
text += b" " * (-len(text) % 8)
try:
    from safetensors.numpy import save

    blob = save(tensors, metadata={"format": "pt"})
except ImportError:
    blob = struct.pack("<Q", len(text)) + text + data
with open(os.path.join(here, "torch_nn.safetensors"), "wb") as f:
    f.write(blob)
