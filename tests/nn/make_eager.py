#!/usr/bin/env python3
"""Eager mode of PyTorch 2.7, trained and converted: where prepare_qat puts fake-quantizers, what they see in three batches, and what comes out.

    python3 tests/nn/make_eager.py        writes eager.npz beside itself

Arrays: init/<state dict>, x<step>, y and z (evaluation of x0 after the last step), fq/<name>/scale and /zero_point. Seeded.
"""
import pathlib
import warnings

import numpy as np
import torch
import torch.nn as nn
import torch.ao.quantization as q

warnings.simplefilter("ignore")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.quant, self.dequant = q.QuantStub(), q.DeQuantStub()
        self.conv1, self.bn1, self.relu1 = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU()
        self.conv2 = nn.Conv2d(6, 6, 1)
        for op in "mul", "add", "add_relu", "cat", "add_scalar", "mul_scalar", "matmul":
            setattr(self, f"ff_{op}", torch.ao.nn.quantized.FloatFunctional())
        self.up, self.hs, self.leaky = nn.ConvTranspose2d(12, 4, 2, stride=2), nn.Hardswish(), nn.LeakyReLU(0.1)
        self.relu6, self.bare, self.pool = nn.ReLU6(), nn.ReLU(), nn.MaxPool2d(2)
        self.flatten, self.fc1, self.fcrelu = nn.Flatten(), nn.Linear(4 * 4 * 4, 16), nn.ReLU()
        self.fc2, self.sigmoid, self.tanh = nn.Linear(16, 5), nn.Sigmoid(), nn.Tanh()

    def forward(self, x):
        x = self.relu1(self.bn1(self.conv1(self.quant(x))))
        a = self.conv2(x)
        m = self.ff_mul.mul(x, a)
        s = self.ff_add.add(m, x)
        r = self.ff_add_relu.add_relu(s, a)
        z = self.ff_matmul.matmul(r, x)
        c = self.ff_cat.cat([r, x], 1)
        c = self.ff_mul_scalar.mul_scalar(self.ff_add_scalar.add_scalar(c, 0.5), 2.0)
        c = self.relu6(self.leaky(self.hs(self.up(c))))
        c = self.flatten(self.pool(self.pool(self.bare(c))))
        y = self.tanh(self.sigmoid(self.fc2(self.fcrelu(self.fc1(c)))))
        return self.dequant(y), self.dequant(z)


torch.manual_seed(11)
net, arrays = Net(), {}
for k, v in net.state_dict().items():
    if not k.endswith("num_batches_tracked"):
        arrays[f"init/{k}"] = v.clone().numpy()
net.train()
q.fuse_modules_qat(net, [["conv1", "bn1", "relu1"], ["fc1", "fcrelu"]], inplace=True)
net.qconfig = q.get_default_qat_qconfig("fbgemm")
q.prepare_qat(net, inplace=True)
for step in range(3):
    x = torch.randn(2, 3, 8, 8) * (1 + step)
    arrays[f"x{step}"] = x.numpy()
    net(x)
net.eval()
net.apply(q.disable_observer)
y, z = net(torch.from_numpy(arrays["x0"]))  # within the ranges: real codes saturate at 255, simulated ones at 127
arrays["y"], arrays["z"] = y.detach().numpy(), z.detach().numpy()
for name, m in net.named_modules():
    if isinstance(m, q.FakeQuantizeBase) and "_scalar" not in name:  # which never sees anything
        arrays[f"fq/{name}/scale"] = m.scale.detach().float().numpy().reshape(-1)
        arrays[f"fq/{name}/zero_point"] = m.zero_point.detach().float().numpy().reshape(-1)
np.savez_compressed(pathlib.Path(__file__).resolve().parent / "eager.npz", **arrays)
