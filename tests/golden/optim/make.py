"""Makes optim.npz: what torch.optim, torch.nn.functional and torch.optim.lr_scheduler compute.

    python tests/golden/optim/make.py        (torch 2.7.0)

Optimizers: two parameters, `start` (and start2), gradients g[step] and g2[step]; <case>.p and <case>.p2 are the
parameters after each step. Losses: <case>.y, .t, .loss, .dy. Rates: <case> holds the rate of each step.
"""
import os

import numpy as np
import torch
import torch.nn.functional as F

torch.manual_seed(6)
torch.set_num_threads(1)
out = {}

STEPS = 12
start, start2 = torch.randn(37), torch.randn(5)
g = torch.randn(STEPS, 37) * torch.logspace(-3, 1, 37)
g2 = torch.randn(STEPS, 5) * 0.1
out.update(start=start, start2=start2, g=g, g2=g2)


def optimize(name, make, clip_norm=0, clip_value=0):
    p, p2 = start.clone().requires_grad_(), start2.clone().requires_grad_()
    o = make([p, p2])
    a, b = [], []
    for i in range(STEPS):
        p.grad, p2.grad = g[i].clone(), g2[i].clone()
        if clip_value:
            torch.nn.utils.clip_grad_value_([p, p2], clip_value)
        if clip_norm:
            torch.nn.utils.clip_grad_norm_([p, p2], clip_norm)
        o.step()
        a.append(p.detach().clone())
        b.append(p2.detach().clone())
    out[name + ".p"], out[name + ".p2"] = torch.stack(a), torch.stack(b)


O = torch.optim
optimize("sgd", lambda p: O.SGD(p, lr=0.1))
optimize("sgd_momentum", lambda p: O.SGD(p, lr=0.1, momentum=0.9))
optimize("sgd_damped", lambda p: O.SGD(p, lr=0.05, momentum=0.8, dampening=0.3, weight_decay=0.01))
optimize("sgd_nesterov", lambda p: O.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.1))
optimize("adam", lambda p: O.Adam(p))
optimize("adam_decay", lambda p: O.Adam(p, lr=0.01, betas=(0.4, 0.95), eps=1e-4, weight_decay=0.05))
optimize("adamw", lambda p: O.AdamW(p))
optimize("adamw_decay", lambda p: O.AdamW(p, lr=0.02, betas=(0.8, 0.9), weight_decay=0.3))
optimize("clip_norm", lambda p: O.SGD(p, lr=0.1, momentum=0.9), clip_norm=2.0)
optimize("clip_value", lambda p: O.Adam(p, lr=0.1), clip_value=0.05)
optimize("clip_both", lambda p: O.SGD(p, lr=0.1), clip_norm=1.0, clip_value=0.5)
optimize("groups", lambda p: O.SGD([{"params": [p[0]], "lr": 0.05, "weight_decay": 0.2}, {"params": [p[1]]}],
                                   lr=0.1, momentum=0.5))


def loss(name, y, t, fn):
    y = y.clone().requires_grad_()
    v = fn(y, t)
    v.backward()
    out[name + ".y"], out[name + ".t"] = y.detach(), t
    out[name + ".loss"], out[name + ".dy"] = v.detach().reshape(1), y.grad


y = torch.randn(7, 9) * 3
c = torch.randint(0, 9, (7,))
c2 = c.clone()
c2[1] = c2[4] = -100
ys, cs = torch.randn(2, 5, 3, 4) * 2, torch.randint(0, 5, (2, 3, 4))
cs[0, 1, 2] = 2
p = F.softmax(torch.randn(7, 9), 1)
loss("mse", y, torch.randn(7, 9), F.mse_loss)
loss("mse_broadcast", torch.randn(3, 4, 5), torch.randn(4, 1), lambda a, b: F.mse_loss(a, b.expand(3, 4, 5)))
loss("ce", y, c, F.cross_entropy)
loss("ce_ignored", y, c2, F.cross_entropy)
loss("ce_smooth", y, c2, lambda a, b: F.cross_entropy(a, b, label_smoothing=0.1))
loss("ce_planes", ys, cs, lambda a, b: F.cross_entropy(a, b, ignore_index=2, label_smoothing=0.2))
loss("ce_shares", y, p, lambda a, b: F.cross_entropy(a, b, label_smoothing=0.1))
loss("ce_large", y * 100, c, F.cross_entropy)
loss("ce_one", torch.randn(6), torch.tensor(4), F.cross_entropy)
loss("ce_given", F.softmax(y, 1), c, lambda a, b: F.nll_loss(a.log(), b))
loss("bce", y, torch.rand(7, 9), F.binary_cross_entropy_with_logits)
loss("bce_large", y * 50, (torch.rand(7, 9) > 0.5).float(), F.binary_cross_entropy_with_logits)
loss("bce_given", torch.sigmoid(y), torch.rand(7, 9), F.binary_cross_entropy)


def kl(T, axis=-1):
    return lambda a, b: F.kl_div(F.log_softmax(a / T, axis), F.log_softmax(b / T, axis), log_target=True,
                                 reduction="sum") * T * T / (a.numel() / a.shape[axis])


loss("kl", y, torch.randn(7, 9) * 2, kl(1))
loss("kl_warm", y, torch.randn(7, 9) * 2, kl(4))
loss("kl_planes", ys, torch.randn(2, 5, 3, 4), kl(2, 1))
loss("kl_given", F.softmax(y, 1), F.softmax(torch.randn(7, 9), 1),
     lambda a, b: kl(1)(a.log(), b.log()))


def rates(name, make, n):
    o = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    s = make(o)
    r = []
    for _ in range(n):
        r.append(o.param_groups[0]["lr"])
        o.step()
        s.step()
    out[name] = np.array(r, dtype=np.float64)


S = torch.optim.lr_scheduler
rates("rate_step", lambda o: S.StepLR(o, 4, 0.3), 15)
rates("rate_cosine", lambda o: S.CosineAnnealingLR(o, 20, 0.001), 21)
rates("rate_warm", lambda o: S.SequentialLR(o, [S.LambdaLR(o, lambda t: t / 5), S.CosineAnnealingLR(o, 15, 0.01)], [5]), 20)

here = os.path.dirname(os.path.abspath(__file__))
np.savez(os.path.join(here, "optim.npz"), **{k: np.asarray(v) for k, v in out.items()})
