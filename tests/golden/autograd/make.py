#!/usr/bin/env python3
"""branches.npz: one forward and backward by PyTorch of a network with branches, a convolution that is used twice, values
that are read several times, batch norm, and two outputs; tests/run/test_autograd_torch.c builds the same. Needs torch, numpy."""
import numpy as np
import torch
import torch.nn.functional as F

torch.manual_seed(5)
x = torch.randn(4, 3, 8, 8, requires_grad=True)
p = {
    "w1": torch.randn(6, 3, 3, 3) * 0.3, "b1": torch.randn(6) * 0.1,
    "gamma": torch.rand(6) + 0.5, "beta": torch.randn(6) * 0.2,
    "w2": torch.randn(6, 6, 3, 3) * 0.2,
    "w3": torch.randn(5, 12) * 0.3, "b3": torch.randn(5) * 0.1,
}
for t in p.values():
    t.requires_grad_()
mean, var = torch.randn(6) * 0.1, torch.rand(6) + 0.5
out = {"x": x.detach().clone(), "mean": mean.clone(), "var": var.clone()}
out.update({k: v.detach().clone() for k, v in p.items()})

c = F.conv2d(x, p["w1"], p["b1"], padding=1)
h = F.relu(F.batch_norm(c, mean, var, p["gamma"], p["beta"], training=True, momentum=0.1, eps=1e-5))
a = F.conv2d(F.conv2d(h, p["w2"], padding=1), p["w2"], padding=1)
b = h * torch.sigmoid(h)
y = F.linear(torch.cat([a, b], 1).mean((2, 3)), p["w3"], p["b3"])
dy, dh = torch.randn_like(y), torch.randn_like(h) * 0.1
torch.autograd.backward([y, h], [dy, dh])

out.update({"y": y, "h": h, "dy": dy, "dh": dh, "dx": x.grad, "mean_after": mean, "var_after": var})
out.update({"d_" + k: v.grad for k, v in p.items()})
np.savez("tests/golden/autograd/branches.npz", **{k: v.detach().numpy() for k, v in out.items()})
