#!/usr/bin/env python3
"""The quantizers beside PyTorch's, in one process, call by call in turn, one thread.

    cmake --build build --target quant_calls
    python3 bench/peers/torch_quant.py build [--elements N] [--rounds N] [--json]

Needs a Python that has torch. Each row runs ours and theirs in turn on the same data; the fastest of `rounds` calls counts on
both sides, so that a busy machine disturbs little. The results are compared too: "same" is the share of equal numbers. The C
library is told to keep freed memory, so that PyTorch, which allocates its results, does not pay for fresh pages; ours writes to
memory that was touched before."""
import argparse
import ctypes
import json
import math
import time
import warnings

warnings.filterwarnings("ignore")
libc = ctypes.CDLL(None)
libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
libc.mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD

import torch  # noqa: E402

COLUMNS = 1024
SCALE, ZERO_POINT = 0.03, 3


def p(t):
    return ctypes.c_void_p(t.data_ptr())


def i64(n):
    return ctypes.c_int64(n)


def seconds(fn):
    start = time.perf_counter()
    out = fn()
    return time.perf_counter() - start, out


def same(a, b):
    if a is None or b is None:
        return math.nan
    a, b = a.flatten(), b.flatten()
    return ((a == b) | (a.isnan() & b.isnan())).double().mean().item()


class Calls:
    """Every call of ours on buffers of its own."""

    def __init__(self, folder, x, dy):
        self.lib = ctypes.CDLL(f"{folder}/libquant_calls.so")
        self.lib.calls_isa.restype = ctypes.c_char_p
        self.lib.calls_observer.restype = ctypes.c_void_p
        self.x, self.dy, self.n = x, dy, x.numel()
        self.rows = self.n // COLUMNS
        self.y, self.mask, self.codes = torch.zeros_like(x), torch.ones(self.n, dtype=torch.uint8), torch.zeros(self.n, dtype=torch.int8)
        self.first, self.fresh = True, {}
        self.ranges = torch.zeros(self.rows, 2)
        self.check(self.lib.calls_open())

    def check(self, failed):
        if failed:
            raise SystemExit("a call of ours failed")

    def shape(self, channels):
        return i64(self.rows), i64(COLUMNS), ctypes.c_int(channels)

    def fake_quantize(self, channels, scale, zero_point, mask=False):
        self.check(self.lib.calls_fake_quantize(p(self.y), p(self.mask) if mask else None, p(self.x), *self.shape(channels), p(scale), p(zero_point)))
        return self.y

    def backward(self, channels, scale, zero_point):
        self.check(self.lib.calls_backward(p(self.y), p(self.dy), p(self.x), *self.shape(channels), p(scale), p(zero_point)))
        return self.y

    def backward_mask(self):
        self.check(self.lib.calls_backward_mask(p(self.y), p(self.dy), p(self.mask), i64(self.n)))
        return self.y

    def quantize(self):
        self.check(self.lib.calls_quantize(p(self.codes), p(self.x), i64(self.n), ctypes.c_float(SCALE), ctypes.c_int32(ZERO_POINT)))
        return self.codes

    def learned(self, channels, scale, zero_point):
        self.check(self.lib.calls_learned(p(self.y), p(self.x), *self.shape(channels), p(scale), p(zero_point)))
        return self.y

    def learned_backward(self, channels, scale, zero_point, dscale, dzero_point):
        self.check(self.lib.calls_learned_backward(p(self.y), p(dscale), p(dzero_point), p(self.dy), p(self.x), *self.shape(channels), p(scale),
                                                   p(zero_point)))
        return self.y

    def observer(self, kind, channels):
        o = ctypes.c_void_p(self.lib.calls_observer(kind, channels))
        self.check(not o.value)
        return o

    def observe(self, o, n):
        self.check(self.lib.calls_observe(o, p(self.x), i64(self.rows), i64(COLUMNS)))
        return self.range_of(o, n) if self.first else None

    def range_of(self, o, n):
        self.check(self.lib.calls_range(o, p(self.ranges), i64(n)))
        return self.ranges[:n].clone()

    def observe_and_range(self, kind, channels, n):
        """What torch.aminmax does: the extremes of one tensor, by an observer that forgets."""
        if kind not in self.fresh:
            self.fresh[kind] = self.observer(kind, channels)
        self.lib.calls_reset(self.fresh[kind])
        self.check(self.lib.calls_observe(self.fresh[kind], p(self.x), i64(self.rows), i64(COLUMNS)))
        return self.range_of(self.fresh[kind], n)


def both(forward, backward, dy, *args):
    _, mask = forward(*args, -128, 127)
    return backward(dy, mask)


def extremes(t):
    return torch.stack([v.flatten() for v in t], 1)


def seen(observer, x):
    """One call of the observer; min_val and max_val are its state."""
    observer(x)
    return torch.stack([observer.min_val.flatten(), observer.max_val.flatten()], 1)


def rows_of(c):
    """(name, ours, theirs, least ratio)"""
    aten = torch.ops.aten
    x2, dy2, n = c.x.view(-1, COLUMNS), c.dy.view(-1, COLUMNS), c.rows
    one, one_zp, one_zf = torch.full((1,), SCALE), torch.full((1,), ZERO_POINT, dtype=torch.int32), torch.full((1,), float(ZERO_POINT))
    scale = SCALE + torch.arange(n) / 1e7
    zp = (torch.arange(n) % 7 - 3).int()
    dscale, dzp = torch.zeros(n), torch.zeros(n)
    _, mask_pt = aten.fake_quantize_per_tensor_affine_cachemask(c.x, SCALE, ZERO_POINT, -128, 127)
    _, mask_pc = aten.fake_quantize_per_channel_affine_cachemask(x2, scale, zp, 0, -128, 127)
    c.mask.copy_(mask_pt)
    yield ("fake_quantize per tensor", lambda: c.fake_quantize(0, one, one_zp),
           lambda: torch.fake_quantize_per_tensor_affine(c.x, SCALE, ZERO_POINT, -128, 127), 3)
    yield ("fake_quantize per channel", lambda: c.fake_quantize(1, scale, zp),
           lambda: torch.fake_quantize_per_channel_affine(x2, scale, zp, 0, -128, 127), 3)
    yield ("backward, from the mask", c.backward_mask,
           lambda: aten.fake_quantize_per_tensor_affine_cachemask_backward(c.dy, mask_pt), 3)
    yield ("forward and backward per tensor", lambda: (c.fake_quantize(0, one, one_zp), c.backward(0, one, one_zp))[1],
           lambda: both(aten.fake_quantize_per_tensor_affine_cachemask, aten.fake_quantize_per_tensor_affine_cachemask_backward, c.dy, c.x,
                        SCALE, ZERO_POINT), 3)
    yield ("forward and backward per channel", lambda: (c.fake_quantize(1, scale, zp), c.backward(1, scale, zp))[1],
           lambda: both(aten.fake_quantize_per_channel_affine_cachemask, aten.fake_quantize_per_channel_affine_cachemask_backward, dy2, x2,
                        scale, zp, 0), 3)
    yield ("learned per tensor", lambda: c.learned(0, one, one_zf),
           lambda: torch._fake_quantize_learnable_per_tensor_affine(c.x, one, one_zf, -128, 127, 1.0), 3)
    yield ("learned per tensor, backward", lambda: c.learned_backward(0, one, one_zf, dscale, dzp),
           lambda: aten._fake_quantize_learnable_per_tensor_affine_backward(c.dy, c.x, one, one_zf, -128, 127, 1.0)[0], 3)
    yield ("learned per channel", lambda: c.learned(1, scale, zp.float()),
           lambda: torch._fake_quantize_learnable_per_channel_affine(x2, scale, zp.float(), 0, -128, 127, 1.0), 3)
    yield ("learned per channel, backward", lambda: c.learned_backward(1, scale, zp.float(), dscale, dzp),
           lambda: aten._fake_quantize_learnable_per_channel_affine_backward(dy2, x2, scale, zp.float(), 0, -128, 127, 1.0)[0], 3)
    yield ("quantize s8", c.quantize, lambda: torch.quantize_per_tensor(c.x, SCALE, ZERO_POINT, torch.qint8).int_repr()
           if c.first else torch.quantize_per_tensor(c.x, SCALE, ZERO_POINT, torch.qint8), 1)
    yield ("aminmax", lambda: c.observe_and_range(0, 0, 1), lambda: extremes(torch.aminmax(c.x)), 1)
    ao = torch.ao.quantization
    for name, kind, channels, theirs, x, least in (
            ("MinMaxObserver", 0, 0, ao.MinMaxObserver(), c.x, 1),
            ("MovingAverageMinMaxObserver", 1, 0, ao.MovingAverageMinMaxObserver(), c.x, 1),
            ("PerChannelMinMaxObserver", 0, 1, ao.PerChannelMinMaxObserver(), x2, 3)):
        o = c.observer(kind, channels)
        yield (name, lambda o=o, m=n if channels else 1: c.observe(o, m), lambda t=theirs, x=x: seen(t, x), least)
    o, theirs = c.observer(2, 0), ao.HistogramObserver()
    yield ("HistogramObserver", lambda: (c.observe(o, 1), None)[1],
           lambda: (theirs(c.x), None)[1], 3)
    yield ("HistogramObserver, range", lambda: c.range_of(o, 1), lambda: extremes(theirs._non_linear_param_search()), 3)


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("build", help="the build folder, with libquant_calls.so in it")
    a.add_argument("--elements", type=int, default=1 << 24)
    a.add_argument("--rounds", type=int, default=7)
    a.add_argument("--json", action="store_true")
    a = a.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    n = max(a.elements // COLUMNS, 1) * COLUMNS
    with torch.no_grad():
        c = Calls(a.build, torch.randn(n), torch.rand(n) - 0.5)
        if not a.json:
            print(f"{n} elements, one thread, requant {c.lib.calls_isa().decode()}, torch {torch.__version__} {torch.backends.cpu.get_cpu_capability()}, "
                  f"best of {a.rounds}")
            print(f"{'row':34} {'ours ms':>9} {'torch ms':>9} {'ratio':>7}  target  same")
        for name, ours, theirs, least in rows_of(c):
            best = [math.inf, math.inf]
            c.first = True
            share = same(ours(), theirs())  # and warms both up
            c.first = False
            for _ in range(a.rounds):
                best = [min(best[0], seconds(ours)[0]), min(best[1], seconds(theirs)[0])]
            ratio = best[1] / best[0]
            if a.json:
                print(json.dumps({"row": name, "ms": round(1e3 * best[0], 4), "torch_ms": round(1e3 * best[1], 4), "ratio": round(ratio, 3),
                                  "target": least, "met": ratio >= least, "same": share}), flush=True)
            else:
                print(f"{name:34} {1e3 * best[0]:9.3f} {1e3 * best[1]:9.3f} {ratio:7.2f}  >= {least}    {share:.6f}{'' if ratio >= least else '  missed'}",
                      flush=True)


main()
