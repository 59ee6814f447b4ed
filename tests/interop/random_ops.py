"""Operators with random shapes, attributes and inputs: what the golden data has a handful of, in any combination.

Each maker returns operator, opset, inputs by name ('' stands for one left out), attributes, outputs. Activations of recurrent
layers stay bounded, and those to whom ONNX Runtime gives an alpha of 0 where ONNX says 1 get theirs explicitly."""
import numpy as np
from onnx import ValueInfoProto, helper as h, numpy_helper as nh


class Makers:
    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def one(self, *choices):
        return choices[self.rng.integers(len(choices))]

    def n(self, lo, hi):
        return int(self.rng.integers(lo, hi + 1))

    def maybe(self, p):
        return self.rng.random() < p

    def f(self, *shape):
        return self.rng.standard_normal(shape).astype(np.float32)

    def shape(self, rank, lo, hi):
        return [self.n(lo, hi) for _ in range(rank)]

    def recurrent(self):
        op = self.one('LSTM', 'GRU', 'RNN')
        gates, acts = {'LSTM': (4, 3), 'GRU': (3, 2), 'RNN': (1, 1)}[op]
        direction = self.one('forward', 'reverse', 'bidirectional')
        d, t, b, i, z = 1 + (direction == 'bidirectional'), self.n(1, 7), self.n(1, 5), self.n(1, 9), self.n(1, 20)
        ins = {'X': self.f(t, b, i), 'W': self.f(d, gates * z, i), 'R': self.f(d, gates * z, z)}
        more = [('B', self.f(d, 2 * gates * z)), ('L', self.rng.integers(1, t + 1, b).astype(np.int32)), ('H', self.f(d, b, z))]
        if op == 'LSTM':
            more += [('C', self.f(d, b, z)), ('P', self.f(d, 3 * z))]
        for k, v in more:
            ins[k if self.maybe(.6) else ' ' + k] = v  # a blank in front: left out
        attrs = dict(hidden_size=z, direction=direction)
        if op == 'GRU' and self.maybe(.5):
            attrs['linear_before_reset'] = 1
        if op == 'LSTM' and self.maybe(.2):
            attrs['input_forget'] = 1
        if self.maybe(.3):
            attrs['clip'] = self.one(.5, 1., 3.)
        if self.maybe(.3):
            attrs['activations'] = [self.one('Tanh', 'Sigmoid', 'HardSigmoid', 'Softsign', 'ScaledTanh') for _ in range(acts * d)]
            attrs['activation_alpha'], attrs['activation_beta'] = [.5] * acts * d, [.3] * acts * d
        return op, 14, ins, attrs, ['Y', 'Yh', 'Yc'][:2 + (op == 'LSTM')]

    def resize(self):
        rank, opset, mode = self.one(3, 4, 4), self.one(11, 13, 18, 19), self.one('nearest', 'linear', 'cubic')
        mode = 'linear' if mode == 'cubic' and rank != 4 else mode
        x = self.f(self.n(1, 2), self.n(1, 3), *self.shape(rank - 2, 2, 9))
        coords = ['half_pixel', 'pytorch_half_pixel', 'align_corners', 'asymmetric'] + ['half_pixel_symmetric'] * (opset == 19)
        attrs = dict(mode=mode, coordinate_transformation_mode=self.one(*coords))
        if mode == 'nearest':
            attrs['nearest_mode'] = self.one('round_prefer_floor', 'round_prefer_ceil', 'floor', 'ceil')
        if mode == 'cubic' and self.maybe(.5):
            attrs['exclude_outside'] = 1
        if opset >= 18 and mode != 'nearest' and rank == 4 and self.maybe(.3):
            attrs['antialias'] = 1
        ins = {'X': x, 'roi': np.zeros(0, np.float32)}
        if self.maybe(.5):
            ins['scales'] = np.array([1, 1] + [self.one(.5, .6, 1., 1.3, 2., 2.5, 3.) for _ in x.shape[2:]], np.float32)
        else:
            ins['none'] = np.zeros(0, np.float32)
            ins['sizes'] = np.array(list(x.shape[:2]) + self.shape(rank - 2, 1, 15), np.int64)
            if opset >= 18 and self.maybe(.3):
                attrs['keep_aspect_ratio_policy'] = self.one('not_larger', 'not_smaller')
        return 'Resize', opset, ins, attrs, ['Y']

    def pad(self):
        mode, rank = self.one('constant', 'reflect', 'edge', 'wrap'), self.n(1, 4)
        x = self.f(*self.shape(rank, 2, 6))
        least = -1 if mode == 'constant' else 0
        ins = {'X': x, 'P': np.array([self.n(least, min(x.shape) - 1) for _ in range(2 * rank)], np.int64)}
        if mode == 'constant' and self.maybe(.5):
            ins['V'] = np.float32(1.5)
        return 'Pad', 19 if mode == 'wrap' else self.one(11, 13, 18), ins, dict(mode=mode), ['Y']

    def slice(self):
        rank = self.n(1, 4)
        axes = self.rng.permutation(rank)[:self.n(1, rank)]

        def ends():
            return np.array([self.one(-2**63 + 1, 2**63 - 1, 2**31 - 1, -100, 100) if self.maybe(.2) else self.n(-8, 8) for _ in axes], np.int64)

        ins = {'X': self.f(*self.shape(rank, 1, 7)), 's': ends(), 'e': ends(), 'a': (axes - rank * self.n(0, 1)).astype(np.int64),
               't': np.array([self.one(-3, -2, -1, 1, 1, 2, 3) for _ in axes], np.int64)}
        return 'Slice', 13, ins, {}, ['Y']

    def topk(self):
        rank = self.n(1, 3)
        x, axis = self.rng.integers(-4, 5, self.shape(rank, 1, 9)).astype(self.one(np.float32, np.int64, np.int32)), self.n(-rank, rank - 1)
        return 'TopK', 11, {'X': x, 'K': np.array([self.n(1, x.shape[axis])], np.int64)}, dict(axis=axis, largest=self.n(0, 1)), ['V', 'I']

    def suppress(self):
        b, c, n = self.n(1, 2), self.n(1, 3), self.n(1, 30)
        box = self.rng.random((b, n, 4)).astype(np.float32)
        if self.maybe(.6):
            box = np.concatenate([box[..., :2], box[..., :2] + box[..., 2:] * np.float32(.5)], -1)
        ins = {'b': box, 's': (self.rng.integers(0, 10, (b, c, n)) / 10).astype(np.float32), 'm': np.array([self.n(0, n)], np.int64),
               'i': np.array([self.one(0., .3, .5, .9)], np.float32), 't': np.array([self.one(0., .2, .5)], np.float32)}
        return 'NonMaxSuppression', 11, dict(list(ins.items())[:self.n(3, 5)]), dict(center_point_box=self.n(0, 1)), ['Y']

    def sample(self):
        n = self.n(1, 2)
        grid = (self.rng.random((n, self.n(1, 5), self.n(1, 5), 2)) * 4 - 2).astype(np.float32)
        return 'GridSample', 16, {'X': self.f(n, *self.shape(3, 1, 7)), 'G': grid}, \
            dict(mode=self.one('bilinear', 'nearest', 'bicubic'), padding_mode=self.one('zeros', 'border', 'reflection'), align_corners=self.n(0, 1)), ['Y']

    def roi(self):
        n, k = self.n(1, 3), self.n(1, 5)
        at = self.rng.random((k, 2)) * 10
        rois = np.concatenate([at, at + self.rng.random((k, 2)) * 12], 1).astype(np.float32)
        attrs = dict(output_height=self.n(1, 4), output_width=self.n(1, 4), sampling_ratio=self.n(0, 3), spatial_scale=self.one(1., .5),
                     coordinate_transformation_mode=self.one('half_pixel', 'output_half_pixel'))
        return 'RoiAlign', 16, {'X': self.f(n, self.n(1, 3), *self.shape(2, 4, 9)), 'r': rois, 'b': self.rng.integers(0, n, k)}, attrs, ['Y']

    def scatter(self):
        rank, reduction = self.n(1, 3), self.one('none', 'add', 'mul', 'min', 'max')
        x, axis = self.f(*self.shape(rank, 2, 6)), self.n(-rank, rank - 1)
        shape = [self.n(1, d) for d in x.shape]
        if reduction == 'none':
            shape[axis] = 1  # twice the same place has no one answer
        index = self.rng.integers(-x.shape[axis], x.shape[axis], shape)
        return 'ScatterElements', 18, {'X': x, 'i': index, 'u': self.f(*shape)}, dict(axis=axis, reduction=reduction), ['Y']

    def quantize(self):
        x = self.f(*self.shape(self.n(1, 4), 1, 6)) * 20
        axis, kind = self.n(-x.ndim, x.ndim - 1), np.iinfo(self.one(np.uint8, np.int8, np.uint16, np.int16))
        s = (self.rng.random(x.shape[axis] if self.maybe(.5) else ()) + .01).astype(np.float32)
        z = np.asarray(self.rng.integers(kind.min, kind.max + 1, s.shape)).astype(kind.dtype)
        return 'QuantizeLinear', 21, {'X': x, 's': s, 'z': z}, dict(axis=axis), ['Y']

    def einsum(self):
        size = {c: self.n(1, 4) for c in 'abcdef'}
        terms = [''.join(self.one(*size) for _ in range(self.n(1, 4))) for _ in range(self.n(1, 3))]
        out = self.rng.permutation(sorted(set(''.join(terms))))
        ins = {f'x{i}': self.f(*(size[c] for c in t)) for i, t in enumerate(terms)}
        return 'Einsum', 12, ins, dict(equation=','.join(terms) + '->' + ''.join(out[:self.n(0, len(out))])), ['Y']

    def transpose(self):
        rank = self.n(2, 6)
        x = self.f(*self.shape(rank, 1, 9)).astype(self.one(np.float32, np.uint8, np.int64, np.float16))
        return 'Transpose', 13, {'X': x}, dict(perm=self.rng.permutation(rank).tolist()), ['Y']


def models(n, seed=0):
    """n times: name, model, inputs to feed. Empty inputs stand in the model as constants."""
    make = Makers(seed)
    kinds = [make.recurrent, make.recurrent, make.resize, make.resize, make.pad, make.slice, make.topk, make.suppress, make.sample,
             make.roi, make.scatter, make.quantize, make.einsum, make.transpose]
    for i in range(n):
        op, opset, ins, attrs, outs = kinds[i % len(kinds)]()
        names = ['' if k[0] == ' ' else k for k in ins]
        while names[-1] == '':
            names.pop()
        feeds = {k: np.asarray(v) for k, v in ins.items() if k in names and np.asarray(v).size}
        consts = [nh.from_array(np.asarray(v), k) for k, v in ins.items() if k in names and k not in feeds]
        g = h.make_graph([h.make_node(op, names, outs, **attrs)], 'g',
                         [h.make_tensor_value_info(k, h.np_dtype_to_tensor_dtype(v.dtype), v.shape) for k, v in feeds.items()],
                         [ValueInfoProto(name=o) for o in outs], consts)
        yield f'{i} {op} {attrs}', h.make_model(g, opset_imports=[h.make_opsetid('', opset)], ir_version=10), feeds


def differs(got, want):
    """None, or what is wrong: floats within 5e-5 of the largest, everything else equal"""
    if got.shape != want.shape or got.dtype != want.dtype:
        return f'is {got.dtype}{got.shape}, expected {want.dtype}{want.shape}'
    if want.dtype.kind != 'f':
        return None if (got == want).all() else f'{(got != want).sum()} of {want.size} differ'
    off = np.abs(got.astype(np.float64) - want).max(initial=0) / max(1e-3, np.abs(want).max(initial=0))
    return None if off <= 5e-5 else f'off by {off:.2g} of the largest'
