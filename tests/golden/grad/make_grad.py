#!/usr/bin/env python3
"""Gradients of small networks as PyTorch 2.7 computes them: model files, inputs, dy, outputs and gradients.

    python3 tests/golden/grad/make_grad.py        writes *.onnx, cases.json and data.npz beside itself

Models are what torch.onnx.export writes of a module in training (nothing folded), so that initializers carry the names of
parameters. Seeded: the same bytes each time.
"""
import io
import json
import pathlib
import sys
import warnings

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.onnx._internal import onnx_proto_utils

warnings.simplefilter("ignore")
onnx_proto_utils._add_onnxscript_fn = lambda model, opsets: model  # needs the package onnx; we use no such function

HERE = pathlib.Path(__file__).resolve().parent
arrays, cases = {}, []


class Fn(nn.Module):
    """A function as a module, with parameters."""

    def __init__(self, fn, **parameters):
        super().__init__()
        self.fn = fn
        for name, shape in parameters.items():
            setattr(self, name, nn.Parameter(torch.randn(*shape) * 0.5))

    def forward(self, *x):
        return self.fn(self, *x)


def rnd(*shape):
    return torch.randn(*shape)


def distinct(*shape):
    """Numbers far apart, for what looks for the largest."""
    n = int(np.prod(shape))
    return (torch.randperm(n).float() - n / 2).reshape(shape) / 8


def case(name, module, *x, train=True, opset=17, tol=None):
    """One forward and backward of module on x."""
    torch.manual_seed(len(cases) * 7919 + 13)
    for p in module.parameters():  # every bias, every weight of a normalization: nothing is left at 0 or 1
        with torch.no_grad():
            p.copy_(torch.randn_like(p) * (0.3 if p.dim() > 1 else 0.2) + (1.0 if p.dim() == 1 and "norm" in name else 0.0))
    for b_name, b in module.named_buffers():
        if b_name.endswith("running_mean"):
            b.copy_(torch.randn_like(b) * 0.1)
        elif b_name.endswith("running_var"):
            b.copy_(torch.rand_like(b) + 0.5)
    module.train(train)
    names = [f"x{i}" for i in range(len(x))]
    n_out = len(y) if isinstance(y := module(*x), (tuple, list)) else 1
    outs = [f"y{i}" for i in range(n_out)]
    f = io.BytesIO()
    torch.onnx.export(  # runs the module: running statistics move before they are written
        module, x, f, dynamo=False, do_constant_folding=False, keep_initializers_as_inputs=False,
        training=torch.onnx.TrainingMode.TRAINING if train else torch.onnx.TrainingMode.PRESERVE, input_names=names,
        output_names=outs, opset_version=opset, custom_opsets={"com.microsoft": 1} if name.startswith("fused") else None)
    (HERE / f"{name}.onnx").write_bytes(f.getvalue())
    x = [v.requires_grad_() if v.is_floating_point() else v for v in x]
    y = module(*x)
    ys = list(y) if isinstance(y, (tuple, list)) else [y]
    dys = [torch.randn_like(v) for v in ys]
    torch.autograd.backward(ys, dys)
    after = module.state_dict()
    grads = {k: p.grad for k, p in module.named_parameters()}
    dxs = [v.grad if v.is_floating_point() else None for v in x]
    inputs, outputs = {}, {}

    def put(side, key, v):
        array = f"{name}/{key}"
        arrays[array] = np.ascontiguousarray(v.detach().numpy())
        side[key] = array

    for n, v, d in zip(names, x, dxs):
        put(inputs, f"x:{n}", v)
        if d is not None:
            put(outputs, f"dx:{n}", d)
    for n, v, d in zip(outs, ys, dys):
        put(inputs, f"dy:{n}", d)
        put(outputs, f"y:{n}", v)
    for k, g in grads.items():
        put(outputs, f"dw:{k}", g)
    for k, v in after.items():
        if k.endswith(("running_mean", "running_var")) and train:
            put(outputs, f"stat:{k}", v)
    cases.append({"id": name, "op": "gradient", "params": {"model": f"{name}.onnx", "train": train},
                  "inputs": inputs, "outputs": outputs, "tol": tol or {"default": {"abs": 2e-5, "rel": 2e-5}}})


class Recurrent(nn.Module):
    """All outputs of an LSTM, GRU or RNN, with given first states or none."""

    def __init__(self, rnn):
        super().__init__()
        self.rnn = rnn

    def forward(self, x, *states):
        y, h = self.rnn(x, *([states if len(states) > 1 else states[0]] if states else []))
        return (y, *h) if isinstance(h, tuple) else (y, h)


class Attention(nn.Module):
    """Self-attention as networks write it by hand: one product for q, k and v, a causal mask."""

    def __init__(self, size, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(size, 3 * size)
        self.out = nn.Linear(size, size)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = self.qkv(x).split(c, dim=2)
        q, k, v = (u.view(b, t, self.heads, c // self.heads).transpose(1, 2) for u in (q, k, v))
        s = q @ k.transpose(-2, -1) / (c // self.heads) ** 0.5
        s = s.masked_fill(torch.ones(t, t).tril() == 0, float("-inf")).softmax(-1)
        return self.out((s @ v).transpose(1, 2).reshape(b, t, c))


class Block(nn.Module):
    """A transformer's: normalized, attention and two layers, each with its residual."""

    def __init__(self, size, heads, wide, causal=False):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(size), nn.LayerNorm(size)
        self.attention = Attention(size, heads) if causal else nn.MultiheadAttention(size, heads, batch_first=True)
        self.up, self.down = nn.Linear(size, wide), nn.Linear(wide, size)

    def forward(self, x):
        h = self.norm1(x)
        h = self.attention(h) if isinstance(self.attention, Attention) else self.attention(h, h, h)[0]
        x = x + h
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 16)
        self.blocks = nn.Sequential(Block(16, 4, 32), Block(16, 2, 24, causal=True))
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 11)

    def forward(self, x):
        return self.head(self.norm(self.blocks(self.embed(x)))).log_softmax(-1)


class Classifier(nn.Module):
    """Words to a class: two layers in both directions."""

    def __init__(self, cell):
        super().__init__()
        self.embed = nn.Embedding(13, 8)
        self.rnn = cell(8, 6, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(12, 4)

    def forward(self, x):
        y, _ = self.rnn(self.embed(x))
        return self.head(y.mean(1))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.conv2, self.norm2 = nn.Conv2d(6, 6, 3, padding=1, groups=3), nn.BatchNorm2d(6)
        self.skip, self.head = nn.Conv2d(3, 6, 1), nn.Linear(6, 5)

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)))
        y = F.relu(self.norm2(self.conv2(y)) + self.skip(x))
        return self.head(F.adaptive_avg_pool2d(y, 1).flatten(1))


def single():
    case("conv1d", nn.Conv1d(4, 6, 3, stride=2, padding=1), rnd(2, 4, 9))
    case("conv2d", nn.Conv2d(3, 5, 3, padding=1), rnd(2, 3, 6, 7))
    case("conv2d_groups", nn.Conv2d(4, 6, (3, 2), groups=2, stride=(2, 1), padding=(1, 0), bias=False), rnd(2, 4, 7, 5))
    case("conv2d_depthwise", nn.Conv2d(4, 8, 3, groups=4, padding=1), rnd(2, 4, 6, 6))
    case("conv2d_dilated", nn.Conv2d(3, 4, 3, dilation=2, padding=2), rnd(1, 3, 8, 8))
    case("conv3d", nn.Conv3d(2, 3, 2, stride=(1, 2, 1), padding=(0, 1, 0)), rnd(1, 2, 3, 5, 4))
    case("conv_transpose1d", nn.ConvTranspose1d(4, 3, 4, stride=2, padding=1), rnd(2, 4, 5))
    case("conv_transpose2d", nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2), rnd(2, 4, 4, 3))
    case("linear", nn.Linear(7, 5), rnd(4, 7))
    case("linear_rank3", nn.Linear(7, 5), rnd(2, 3, 7))
    case("matmul", Fn(lambda s, a, b: a @ b), rnd(2, 3, 4, 5), rnd(3, 5, 2))
    case("norm_batch_train", nn.BatchNorm2d(4), rnd(3, 4, 5, 3))
    case("norm_batch_eval", nn.BatchNorm2d(4), rnd(3, 4, 5, 3), train=False)
    case("norm_batch1d", nn.BatchNorm1d(5), rnd(8, 5))
    case("norm_layer", nn.LayerNorm(8), rnd(3, 4, 8))
    case("norm_layer_written_out", nn.LayerNorm(8), rnd(3, 4, 8), opset=14)
    case("norm_group", nn.GroupNorm(2, 6), rnd(2, 6, 4, 3), opset=14)
    case("norm_instance", nn.InstanceNorm2d(3, affine=True), rnd(2, 3, 4, 5))
    case("softmax", nn.Softmax(-1), rnd(3, 4, 7))
    case("softmax_axis1", nn.Softmax(1), rnd(3, 4, 7))
    case("log_softmax", nn.LogSoftmax(-1), rnd(5, 9))
    case("gelu", nn.GELU(), rnd(4, 33))
    case("gelu_tanh", nn.GELU(approximate="tanh"), rnd(4, 33))
    case("gelu_op", nn.GELU(), rnd(4, 33), opset=20)
    case("silu", nn.SiLU(), rnd(4, 33))
    case("hardswish", nn.Hardswish(), rnd(4, 33) * 2)
    case("prelu", nn.PReLU(4), rnd(2, 4, 3, 3))
    case("embedding", nn.Embedding(9, 5), torch.randint(0, 9, (3, 4)))
    case("max_pool", nn.MaxPool2d(3, stride=2, padding=1), distinct(2, 3, 7, 6))
    case("avg_pool", nn.AvgPool2d(3, stride=2, padding=1), rnd(2, 3, 7, 6))
    case("avg_pool_valid", nn.AvgPool2d((2, 3), count_include_pad=False, padding=(1, 1)), rnd(2, 3, 6, 6))
    case("adaptive_avg_pool", nn.AdaptiveAvgPool2d(1), rnd(2, 3, 5, 4))
    case("interpolate_nearest", nn.Upsample(scale_factor=2), rnd(1, 3, 3, 4))
    case("interpolate_bilinear", nn.Upsample(scale_factor=2, mode="bilinear"), rnd(1, 3, 3, 4))
    case("interpolate_corners", nn.Upsample(size=(7, 5), mode="bilinear", align_corners=True), rnd(1, 2, 3, 4))
    case("lstm", Recurrent(nn.LSTM(5, 4)), rnd(6, 2, 5))
    case("lstm_states", Recurrent(nn.LSTM(3, 4)), rnd(4, 2, 3), rnd(1, 2, 4), rnd(1, 2, 4))
    case("lstm_bidirectional", Recurrent(nn.LSTM(5, 4, num_layers=2, bidirectional=True, batch_first=True)), rnd(2, 6, 5))
    case("gru", Recurrent(nn.GRU(5, 4)), rnd(6, 2, 5))
    case("gru_states", Recurrent(nn.GRU(5, 4)), rnd(6, 2, 5), rnd(1, 2, 4))
    case("gru_bidirectional", Recurrent(nn.GRU(5, 4, bidirectional=True, bias=False)), rnd(6, 2, 5))
    case("rnn", Recurrent(nn.RNN(5, 4, nonlinearity="tanh")), rnd(6, 2, 5))
    case("rnn_relu", Recurrent(nn.RNN(5, 4, nonlinearity="relu")), rnd(6, 2, 5))
    case("attention", nn.MultiheadAttention(8, 2, batch_first=True), rnd(2, 5, 8), rnd(2, 6, 8), rnd(2, 6, 8))
    case("attention_causal", Attention(8, 2), rnd(2, 5, 8))
    case("scaled_dot_product", Fn(lambda s, q, k, v: F.scaled_dot_product_attention(q, k, v)), rnd(2, 2, 4, 6), rnd(2, 2, 5, 6),
         rnd(2, 2, 5, 6))
    case("elementwise", Fn(lambda s, a, b: (a - b) * torch.sigmoid(a) / (1.5 + torch.tanh(b)) + (a * b).exp().clamp(max=2) ** 0.5),
         rnd(2, 3, 4), rnd(3, 1))
    case("reductions", Fn(lambda s, x: torch.cat([x.mean((1, 2)), x.amax((1, 2)), x.logsumexp((1, 2)), x.norm(dim=(1, 2)),
                                                   x.abs().sum((1, 2))])), distinct(3, 4, 5))
    case("shapes", Fn(lambda s, x: torch.cat([x[:, 1::2].flip(2), x.roll(1, 2)[:, :2]], 1).permute(0, 2, 1).repeat(1, 2, 1)
                      .reshape(2, -1)), rnd(2, 5, 4))
    case("pads", Fn(lambda s, x: F.pad(F.pad(F.pad(x, (1, 2, 1, 0), mode="reflect"), (0, 1, 2, 1), mode="replicate"), (1, 0, 0, 2))),
         rnd(2, 3, 4, 5))
    case("gathers", Fn(lambda s, x, i: x.gather(1, i) + x.index_select(1, torch.tensor([2, 0, 2]))), rnd(3, 4, 5),
         torch.randint(0, 4, (3, 3, 5)))
    case("where", Fn(lambda s, a, b: torch.where(a > b, a * b, torch.minimum(a, b)).cumsum(1)), rnd(3, 5), rnd(3, 5))


def networks():
    case("net_residual_norm", Residual(), rnd(4, 3, 8, 8))
    case("net_residual_norm_eval", Residual(), rnd(4, 3, 8, 8), train=False)
    case("net_transformer_norm", Transformer(), torch.randint(0, 11, (2, 6)))
    case("net_transformer_norm_written_out", Transformer(), torch.randint(0, 11, (2, 6)), opset=14)
    case("net_lstm", Classifier(nn.LSTM), torch.randint(0, 13, (3, 7)))
    case("net_gru", Classifier(nn.GRU), torch.randint(0, 13, (3, 7)))


class Node(torch.autograd.Function):
    """What stands in the file instead of the function: one node."""

    @staticmethod
    def forward(ctx, op, attrs, y, *x):
        return y.clone()

    @staticmethod
    def symbolic(g, op, attrs, y, *x):
        def omitted():
            n = g.op("prim::Constant")
            n.setType(torch._C.OptionalType.ofTensor())
            return n

        return g.op(op, *(omitted() if v is None or v.node().mustBeNone() else v for v in x), **attrs)


class Fused(Fn):
    """fn(module, *x), whose file holds one node `op` of the inputs that place(module, *x) names."""

    def __init__(self, op, fn, place, attrs, **parameters):
        super().__init__(fn, **parameters)
        self.op, self.place, self.attrs = op, place, attrs

    def forward(self, *x):
        y = self.fn(self, *x)
        return Node.apply(self.op, self.attrs, y, *self.place(self, *x)) if torch.onnx.is_in_onnx_export() else y


def attend(q, k, v, heads, kv_heads=None, mask=None, causal=False, softcap=0.0, sink=None, turn=None):
    """[B,S,H*D] each; heads of queries share heads of keys."""
    kv_heads = kv_heads or heads
    q, k, v = (t.unflatten(2, (h, -1)).transpose(1, 2) for t, h in ((q, heads), (k, kv_heads), (v, kv_heads)))
    if turn is not None:
        q, k = turn(q), turn(k)
    k, v = (t.repeat_interleave(heads // kv_heads, 1) for t in (k, v))
    s = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
    s = softcap * torch.tanh(s / softcap) if softcap else s
    s = s + mask if mask is not None else s
    if causal:
        s = s.masked_fill(torch.ones(s.shape[-2:]).tril() == 0, float("-inf"))
    if sink is not None:
        s = torch.cat([s, sink[None, :, None, None].expand(*s.shape[:3], 1)], 3).softmax(3)[..., :-1]
    else:
        s = s.softmax(3)
    return (s @ v).transpose(1, 2).flatten(2)


def rotary(angles):
    def turn(x):
        a, b = x.chunk(2, 3)
        c, s = angles.cos(), angles.sin()
        return torch.cat([a * c - b * s, a * s + b * c], 3)

    return turn


def fused():
    """Operators that runtimes put together: fused_*."""
    ms = "com.microsoft::"
    case("fused_attention", Fused(ms + "Attention", lambda s, x, m: attend(*(x @ s.w + s.b).split([6, 6, 4], 2), 2, mask=m, causal=True),
                                  lambda s, x, m: (x, s.w, s.b, None, None, m),
                                  {"num_heads_i": 2, "unidirectional_i": 1, "qkv_hidden_sizes_i": [6, 6, 4]}, w=(5, 16), b=(16,)),
         rnd(2, 4, 5), rnd(1, 2, 4, 4))
    case("fused_multi_head", Fused(ms + "MultiHeadAttention",
                                   lambda s, q, k, v: attend(q + s.b[:6], k + s.b[6:12], v + s.b[12:], 2),
                                   lambda s, q, k, v: (q, k, v, s.b), {"num_heads_i": 2}, b=(16,)),
         rnd(2, 3, 6), rnd(2, 5, 6), rnd(2, 5, 4))
    case("fused_multi_head_packed", Fused(ms + "MultiHeadAttention",
                                          lambda s, q: attend(*(q[:, :, :, i].flatten(2) + s.b[i * 6:i * 6 + 6] for i in range(3)), 2),
                                          lambda s, q: (q, None, None, s.b), {"num_heads_i": 2}, b=(18,)), rnd(2, 4, 2, 3, 3))
    lengths, total = torch.tensor([3, 3], dtype=torch.int32), torch.tensor(4, dtype=torch.int32)
    angles = torch.arange(6.0)[:, None] * torch.tensor([1.0, 0.1])
    case("fused_group_query", Fused(ms + "GroupQueryAttention",
                                    lambda s, q, k, v: attend(q, k, v, 4, 2, causal=True, softcap=1.5, sink=s.sink, turn=rotary(angles[:4])),
                                    lambda s, q, k, v: (q, k, v, None, None, lengths, total, angles.cos(), angles.sin(), None, None, s.sink),
                                    {"num_heads_i": 4, "kv_num_heads_i": 2, "do_rotary_i": 1, "softcap_f": 1.5}, sink=(4,)),
         rnd(2, 4, 16), rnd(2, 4, 8), rnd(2, 4, 8))
    case("fused_skip_norm", Fused(ms + "SkipLayerNormalization", lambda s, x, y: F.layer_norm(x + y + s.bias, (7,), s.gamma, s.beta, 1e-5),
                                  lambda s, x, y: (x, y, s.gamma, s.beta, s.bias), {"epsilon_f": 1e-5}, gamma=(7,), beta=(7,), bias=(7,)),
         rnd(2, 3, 7), rnd(2, 3, 7))
    for mode, padding, align in (("bilinear", "zeros", False), ("bilinear", "border", True), ("bilinear", "reflection", False),
                                 ("bicubic", "zeros", True), ("bicubic", "reflection", False), ("nearest", "border", False)):
        case(f"grid_sample_{mode}_{padding}", Fn(lambda s, x, g: F.grid_sample(x, g, mode, padding, align)), rnd(2, 3, 5, 6),
             rnd(2, 4, 3, 2) * 0.8, opset=16)
    case("spatial_transformer", Fused("AffineGrid", lambda s, t: F.affine_grid(t, (2, 1, 3, 4), align_corners=False),
                                      lambda s, t: (t, torch.tensor([2, 1, 3, 4])), {"align_corners_i": 0}), rnd(2, 2, 3), opset=20)


def more():
    """What single() leaves out: dimensions, dilation beside groups and strides, other windows, every activation."""
    case("conv2d_groups_dilated", nn.Conv2d(6, 9, (3, 2), groups=3, stride=(1, 2), padding=(2, 1), dilation=(2, 3)), rnd(2, 6, 9, 8))
    case("conv1d_causal", Fn(lambda s, x: F.conv1d(F.pad(x, (4, 0)), s.w, dilation=2), w=(5, 3, 3)), rnd(2, 3, 10))
    case("conv3d_groups", nn.Conv3d(4, 4, (2, 3, 1), groups=2, padding=(1, 1, 0), dilation=(1, 2, 1)), rnd(1, 4, 4, 6, 3))
    case("conv_transpose2d_depthwise", nn.ConvTranspose2d(4, 4, 3, groups=4, padding=1), rnd(2, 4, 5, 4))
    case("conv_transpose2d_dilated", nn.ConvTranspose2d(3, 5, (2, 3), stride=(3, 1), padding=(0, 2), dilation=(1, 2), bias=False), rnd(1, 3, 4, 6))
    case("conv_transpose3d", nn.ConvTranspose3d(4, 2, 2, stride=2, groups=2, output_padding=1), rnd(1, 4, 2, 3, 2))
    case("norm_batch3d", nn.BatchNorm3d(3, momentum=0.3, eps=1e-3), rnd(2, 3, 2, 3, 2))
    case("norm_instance1d", nn.InstanceNorm1d(4, affine=True), rnd(2, 4, 7))
    case("norm_layer_two_axes", nn.LayerNorm((3, 5)), rnd(4, 3, 5))
    case("norm_rms", Fn(lambda s, x: x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * s.weight, weight=(6,)), rnd(3, 4, 6))
    case("log_softmax_axis1", nn.LogSoftmax(1), rnd(3, 5, 2, 2))
    case("softmax_large", nn.Softmax(-1), rnd(4, 6) * 40)
    case("activations", Fn(lambda s, x: torch.cat([f(x) for f in (
        torch.relu, F.relu6, F.leaky_relu, F.elu, F.selu, F.celu, torch.sigmoid, torch.tanh, F.hardsigmoid, F.hardtanh, F.softplus,
        F.softsign, F.mish, F.logsigmoid)], 1)), rnd(4, 17) * 3)
    case("glu", nn.GLU(1), rnd(2, 6, 3))
    case("max_pool_dilated", nn.MaxPool2d((2, 3), stride=1, padding=(1, 1), dilation=(2, 1)), distinct(1, 2, 6, 7))
    case("max_pool_ceil", nn.MaxPool2d(2, stride=2, ceil_mode=True), distinct(2, 2, 5, 7))
    case("max_pool3d", nn.MaxPool3d(2), distinct(1, 2, 4, 4, 6))
    case("avg_pool_ceil", nn.AvgPool2d(3, stride=2, ceil_mode=True), rnd(1, 2, 6, 7))
    case("lp_pool", nn.LPPool2d(2, 2), rnd(1, 3, 4, 6).abs() + 0.1)
    case("interpolate_bicubic", nn.Upsample(scale_factor=2, mode="bicubic"), rnd(1, 2, 4, 3))
    case("interpolate_smaller", nn.Upsample(size=(3, 2), mode="bilinear"), rnd(1, 2, 7, 5))
    case("interpolate_linear", nn.Upsample(size=11, mode="linear"), rnd(2, 3, 4))
    case("interpolate_nearest_smaller", nn.Upsample(size=(3, 4)), rnd(1, 2, 7, 5))
    case("pixel_shuffle", Fn(lambda s, x, a: F.pixel_unshuffle(F.pixel_shuffle(x, 2) * a, 2)), rnd(2, 8, 3, 2), rnd(2, 1, 1))
    case("einsum", Fn(lambda s, a, b: torch.einsum("bik,bjk->bij", a, b) + torch.einsum("bik,k->bi", a, s.w)[:, :, None], w=(5,)),
         rnd(2, 3, 5), rnd(2, 4, 5))
    case("powers", Fn(lambda s, a, b: a.abs().pow(b) / (b.square() + 1).sqrt() + (a.abs() + 1).log() * b.sin() - (a * b).cos().reciprocal().tanh()),
         rnd(3, 4), rnd(4))
    case("extremes", Fn(lambda s, a, b: torch.maximum(a, b) * torch.minimum(a, b) + a.amin(1, keepdim=True) + a.prod(0) + a.norm(1, dim=1, keepdim=True)),
         distinct(3, 5) / 4, rnd(3, 5))
    case("lstm_deep", Recurrent(nn.LSTM(4, 5, num_layers=3, bias=False)), rnd(5, 2, 4))


def main():
    torch.set_num_threads(1)
    torch.manual_seed(2718)
    single()
    networks()
    fused()
    more()
    (HERE / "cases.json").write_text(
        '{"topic": "grad", "seed": 2718, "about": "gradients of small networks", "peer": "torch %s",\n "cases": [\n%s\n ]}\n'
        % (torch.__version__.split("+")[0], ",\n".join("  " + json.dumps(c) for c in cases)))
    np.savez(HERE / "data.npz", **arrays)
    return 0


if __name__ == "__main__":
    sys.exit(main())
