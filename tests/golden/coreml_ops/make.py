#!/usr/bin/env python3
"""Makes the packages of this folder, cases.json and data.npz with coremltools 9.0 and torch 2.7: each operator of an ML program in its forms. Expected
numbers are those of coremltools' own constant folding (the operator built again with constants), of torch, or of the formula written out here."""
import json, os, sys, tempfile, warnings, zipfile
import numpy as np, torch, torch.nn.functional as F
import coremltools as ct
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import Function, types

warnings.filterwarnings('ignore')
HERE = os.path.dirname(os.path.abspath(__file__))
r = np.random.default_rng(11)
T15, T16, T17, T18 = (getattr(ct.target, f'iOS{v}') for v in (15, 16, 17, 18))
FP16_IO = {np.float16: types.fp16, np.float32: types.fp32, np.int32: types.int32, np.bool_: types.bool}
cases, arrays = [], {}


def key(name, a):
    a = np.array(a, order='C')
    for k, b in arrays.items():
        if a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes():
            return k
    arrays[name] = a
    return name


def save(m, name):
    """a zip of the package, always with the same bytes"""
    with tempfile.TemporaryDirectory() as d:
        folder = os.path.join(d, f'{name}.mlpackage')
        m.save(folder)
        with zipfile.ZipFile(os.path.join(HERE, f'{name}.mlpackage.zip'), 'w', zipfile.ZIP_DEFLATED, compresslevel=9) as z:
            for root, _, files in sorted(os.walk(folder)):
                z.writestr(zipfile.ZipInfo(os.path.relpath(root, d) + '/'), b'')  # the folder of the weights may be empty
                for file in sorted(files):
                    path = os.path.join(root, file)
                    with open(path, 'rb') as f:
                        z.writestr(zipfile.ZipInfo(os.path.relpath(path, d)), f.read(), zipfile.ZIP_DEFLATED)
    return f'{name}.mlpackage.zip'


def folded(fn, feeds, target):
    """what coremltools computes when the inputs are constants"""
    with Function({}, opset_version=target):
        out = fn(**{k: mb.const(val=v) for k, v in feeds.items()})
    return [v.val for v in (out if isinstance(out, (tuple, list)) else [out])]


class Family:
    """one package: inputs, and operators of them"""

    def __init__(self, name, target, tolerance=1e-5, **feeds):
        self.name, self.target, self.tolerance, self.feeds, self.ops = name, target, tolerance, feeds, []

    def __call__(self, name, fn, want=None):
        """fn takes the inputs it names; want: arrays, or None to fold"""
        used = {k: self.feeds[k] for k in fn.__code__.co_varnames[:fn.__code__.co_argcount - len(fn.__defaults__ or ())]}
        if want is None:
            want = folded(fn, used, self.target)
        want = want if isinstance(want, (list, tuple)) else [want]
        want = [np.asarray(w.detach() if torch.is_tensor(w) else w) for w in want]
        assert all(w.dtype != object for w in want), name
        self.ops.append((name, fn, list(used), want))

    def make(self):
        specs = [mb.TensorSpec(shape=v.shape, dtype=FP16_IO[v.dtype.type]) for v in self.feeds.values()]
        outputs = {}

        def build(*ins):
            given = dict(zip(self.feeds, ins))
            out = []
            for name, fn, used, want in self.ops:
                v = fn(**{k: given[k] for k in used})
                for i, (var, w) in enumerate(zip(v if isinstance(v, (tuple, list)) else [v], want)):
                    label = f'y_{name}_{i}'
                    assert tuple(var.shape) == w.shape or any(not isinstance(d, (int, np.integer)) for d in var.shape), (name, var.shape, w.shape)
                    if var.dtype in (types.bool, types.uint16):  # no type of an output
                        var, w = mb.cast(x=var, dtype='int32'), w.astype(np.int32)
                    if var.dtype == types.fp16 and self.target < T16:
                        var = mb.cast(x=var, dtype='fp32')
                    kept = mb.identity(x=var, name=label)
                    out.append(kept)
                    outputs[label] = key(f'{self.name}/{label}', w.astype(np.float32) if w.dtype.kind == 'f' else w.astype(np.int32))
            return tuple(out)

        names = ', '.join(self.feeds)
        prog = mb.program(input_specs=specs, opset_version=self.target)(eval(f'lambda {names}: build({names})', {'build': build}))
        half = any(v.dtype == np.float16 for v in self.feeds.values())
        m = ct.convert(prog, source='milinternal', convert_to='mlprogram', minimum_deployment_target=self.target, skip_model_load=True,
                       compute_precision=ct.precision.FLOAT32, pass_pipeline=ct.PassPipeline.EMPTY)
        spec = m.get_spec()
        cases.append({'id': self.name, 'package': save(m, self.name),
                      'params': {'precision': 'fp16' if half else 'fp32', 'specification_version': spec.specificationVersion},
                      'inputs': {k: key(f'{self.name}/{k}', v.astype(np.int32) if v.dtype == bool else v) for k, v in self.feeds.items()},
                      'outputs': outputs, 'output_by': 'coremltools 9.0 constant folding, torch 2.7, numpy', 'tolerance': {'rel_to_max': self.tolerance}})


def f32(*shape, lo=-2., hi=2.):
    return r.uniform(lo, hi, shape).astype(np.float32)


def t(a):
    return torch.from_numpy(np.array(a))


def families(f, target):
    """those of floats, in type f"""
    half = f is np.float16
    tag = f'iOS{target.value + 9}_{"fp16" if half else "fp32"}'
    tol = 4e-3 if half else 1e-5
    wide = lambda a: t(np.asarray(a, np.float32))

    # ---- elements ----
    x, y = f32(2, 3, 4).astype(f), f32(3, 1).astype(f)
    y[np.abs(y) < .2] = .5
    e = Family(f'elements_{tag}', target, tol, x=x, y=y, pos=f32(2, 3, 4, lo=.1, hi=3).astype(f), unit=f32(2, 3, 4, lo=-.9, hi=.9).astype(f),
               i=r.integers(-9, 9, (2, 3, 4)).astype(np.int32), j=np.array([[-4], [3], [7]], np.int32), p=r.integers(0, 2, (2, 3, 4)).astype(bool), q=np.array([True, False, True, False]))
    for op in 'abs ceil cos erf exp exp2 floor round sign sin square tanh cosh sinh atan'.split():
        e(op, lambda x, op=op: getattr(mb, op)(x=x), None if op != 'erf' else torch.erf(wide(x)))
    for op in 'tan acos asin atanh'.split():
        e(op, lambda unit, op=op: getattr(mb, op)(x=unit))
    for op in 'sqrt inverse log rsqrt'.split():
        e(op, lambda pos, op=op: getattr(mb, op)(x=pos))
    e('inverse_epsilon', lambda pos: mb.inverse(x=pos, epsilon=f(.5)))
    e('log_epsilon', lambda pos: mb.log(x=pos, epsilon=f(.5)))
    e('rsqrt_epsilon', lambda pos: mb.rsqrt(x=pos, epsilon=f(.5)))
    for op in 'abs sign square'.split():
        e(op + '_int', lambda i, op=op: getattr(mb, op)(x=i))
    for op in 'add sub mul real_div floor_div mod maximum minimum equal not_equal greater greater_equal less less_equal'.split():
        e(op, lambda x, y, op=op: getattr(mb, op)(x=x, y=y))
        if op != 'real_div':
            e(op + '_int', lambda i, j, op=op: getattr(mb, op)(x=i, y=j))
    e('floor_div_exact', lambda x: mb.floor_div(x=mb.add(x=mb.mul(x=x, y=f(0)), y=f(1)), y=f(.1)), np.full((2, 3, 4), np.floor_divide(f(1), f(.1))))
    e('pow', lambda pos, y: mb.pow(x=pos, y=y))
    e('pow_int', lambda i: mb.pow(x=i, y=np.int32(2)))
    for op in 'and or xor'.split():
        e('logical_' + op, lambda p, q, op=op: getattr(mb, 'logical_' + op)(x=p, y=q))
    e('logical_not', lambda p: mb.logical_not(x=p))
    e('select', lambda p, x, y: mb.select(cond=p, a=x, b=y))
    e('select_int', lambda q, i, j: mb.select(cond=q, a=i, b=j))
    e('clip', lambda x: mb.clip(x=x, alpha=f(-.5), beta=f(1)))
    e('threshold', lambda x: mb.threshold(x=x, alpha=f(.25)))
    e('threshold_int', lambda i: mb.threshold(x=i, alpha=np.int32(2)))
    e('identity', lambda x: mb.identity(x=x))
    X = wide(x)
    for op, want in (('relu', F.relu(X)), ('relu6', F.relu6(X * 1)), ('sigmoid', X.sigmoid()), ('silu', F.silu(X)), ('softplus', F.softplus(X)), ('softsign', F.softsign(X))):
        e(op, lambda x, op=op: getattr(mb, op)(x=x), want)
    for mode, want in (('EXACT', F.gelu(X)), ('TANH_APPROXIMATION', F.gelu(X, approximate='tanh')), ('SIGMOID_APPROXIMATION', X * (1.702 * X).sigmoid())):
        e('gelu_' + mode.lower(), lambda x, mode=mode: mb.gelu(x=x, mode=mode), want)
    for axis in (-1, 0, 1):
        e(f'softmax_{axis + 1}', lambda x, axis=axis: mb.softmax(x=x, axis=axis), X.softmax(axis))
    e('leaky_relu', lambda x: mb.leaky_relu(x=x, alpha=f(.3)), F.leaky_relu(X, .3))
    e('elu', lambda x: mb.elu(x=x, alpha=f(.7)), F.elu(X, .7))
    e('thresholded_relu', lambda x: mb.thresholded_relu(x=x, alpha=f(-.5)), torch.where(X >= -.5, X, 0 * X))
    e('clamped_relu', lambda x: mb.clamped_relu(x=x, alpha=f(.2), beta=f(1)), torch.minimum(torch.tensor(1.), F.leaky_relu(X, .2)))
    e('linear_activation', lambda x: mb.linear_activation(x=x, alpha=f(1.5), beta=f(-.5)), 1.5 * X - .5)
    e('scaled_tanh', lambda x: mb.scaled_tanh(x=x, alpha=f(1.5), beta=f(.75)), 1.5 * torch.tanh(.75 * X))
    e('sigmoid_hard', lambda x: mb.sigmoid_hard(x=x, alpha=f(.25), beta=f(.5)), (.25 * X + .5).clamp(0, 1))
    alpha, beta = np.array([.1, .2, .3]).astype(f), np.array([1., 2., .5]).astype(f)
    e('prelu', lambda x: mb.prelu(x=x, alpha=np.full(3, .25).astype(f)), F.prelu(X, torch.tensor([.25])))
    e('softplus_parametric', lambda x: mb.softplus_parametric(x=x, alpha=alpha, beta=beta), wide(alpha)[:, None] * torch.log1p(torch.exp(wide(beta)[:, None] * X)))
    e.make()

    # ---- products, convolutions, pools, normalization ----
    img, seq, mat = f32(2, 4, 7, 6).astype(f), f32(2, 4, 9).astype(f), f32(3, 5).astype(f)
    vol = f32(1, 2, 4, 5, 3).astype(f)
    l = Family(f'linear_{tag}', target, 5e-3 if half else tol, img=img, seq=seq, mat=mat, vol=vol)
    I, S, M, V = wide(img), wide(seq), wide(mat), wide(vol)

    def w(*shape):
        return f32(*shape, lo=-.5, hi=.5).astype(f)

    w1, b1, w2, w3, w4, w5 = w(6, 4, 3, 2), w(6), w(4, 1, 3, 3), w(5, 4, 3), w(3, 2, 2, 2, 2), w(6, 2, 3, 3)
    l('conv', lambda img: mb.conv(x=img, weight=w1, bias=b1), F.conv2d(I, wide(w1), wide(b1)))
    l('conv_custom', lambda img: mb.conv(x=img, weight=w1, strides=[2, 1], pad_type='custom', pad=[1, 2, 0, 1], dilations=[1, 2]),
      F.conv2d(F.pad(I, (0, 1, 1, 2)), wide(w1), None, (2, 1), 0, (1, 2)))
    l('conv_depthwise', lambda img: mb.conv(x=img, weight=w2, groups=4, pad_type='custom', pad=[1, 1, 1, 1]), F.conv2d(I, wide(w2), None, 1, 1, 1, 4))
    l('conv_groups', lambda img: mb.conv(x=img, weight=w5, groups=2), F.conv2d(I, wide(w5), None, 1, 0, 1, 2))
    l('conv_1d', lambda seq: mb.conv(x=seq, weight=w3, strides=[2]), F.conv1d(S, wide(w3), None, 2))
    l('conv_3d', lambda vol: mb.conv(x=vol, weight=w4), F.conv3d(V, wide(w4)))

    def same(size, k, s, d=1, lower=False):
        p = max(0, s * -(-size // s) - size + (k - 1) * d + 1 - s)
        return (p - p // 2, p // 2) if lower else (p // 2, p - p // 2)

    for s in (1, 2, 3):
        for lower in ((False, True) if target >= T16 else (False,)):
            (a, b), (c, d) = same(7, 3, s, 1, lower), same(6, 2, s, 1, lower)
            kind = 'same_lower' if lower else 'same'
            l(f'conv_{kind}_{s}', lambda img, s=s, kind=kind: mb.conv(x=img, weight=w1, strides=[s, s], pad_type=kind), F.conv2d(F.pad(I, (c, d, a, b)), wide(w1), None, s))
            l(f'max_pool_{kind}_{s}', lambda img, s=s, kind=kind: mb.max_pool(x=img, kernel_sizes=[3, 2], strides=[s, s], pad_type=kind),
              F.max_pool2d(F.pad(I, (c, d, a, b), value=-1e4), (3, 2), s))
    u1, ub, u2, u3 = w(4, 3, 3, 2), w(3), w(4, 2, 4, 4), w(4, 3, 3)
    l('conv_transpose', lambda img: mb.conv_transpose(x=img, weight=u1, bias=ub), F.conv_transpose2d(I, wide(u1), wide(ub)))
    l('conv_transpose_pad', lambda img: mb.conv_transpose(x=img, weight=u1, strides=[2, 3], pad_type='custom', pad=[1, 0, 0, 1]), F.conv_transpose2d(I, wide(u1), None, (2, 3))[:, :, 1:, :-1])
    l('conv_transpose_groups', lambda img: mb.conv_transpose(x=img, weight=u2, strides=[2, 2], pad_type='custom', pad=[1, 1, 1, 1], groups=2), F.conv_transpose2d(I, wide(u2), None, 2, 1, 0, 2))
    l('conv_transpose_shape', lambda img: mb.conv_transpose(x=img, weight=u1, strides=[2, 2], pad_type='custom', pad=[1, 1, 0, 0], output_shape=[2, 3, 14, 12]),
      F.conv_transpose2d(I, wide(u1), None, 2, (1, 0), (1, 0)))
    full = F.conv_transpose2d(I, wide(u1), None, 2)
    l('conv_transpose_same', lambda img: mb.conv_transpose(x=img, weight=u1, strides=[2, 2], pad_type='same'), full[:, :, 0:14, 0:12])
    l('conv_transpose_same_4', lambda img: mb.conv_transpose(x=img, weight=u2, strides=[1, 1], pad_type='same', groups=2), F.conv_transpose2d(I, wide(u2), None, 1, 0, 0, 2)[:, :, 1:8, 1:7])
    l('conv_transpose_1d', lambda seq: mb.conv_transpose(x=seq, weight=u3, strides=[2], dilations=[2]), F.conv_transpose1d(S, wide(u3), None, 2, 0, 0, 1, 2))
    lw, lb, lw2 = w(7, 5), w(7), w(8, 9)
    l('linear', lambda mat: mb.linear(x=mat, weight=lw, bias=lb), F.linear(M, wide(lw), wide(lb)))
    l('linear_3', lambda seq: mb.linear(x=seq, weight=lw2), F.linear(S, wide(lw2)))
    z = w(2, 9, 3)
    l('matmul', lambda seq: mb.matmul(x=seq, y=z), S @ wide(z))
    l('matmul_turned', lambda seq: mb.matmul(x=seq, y=seq, transpose_y=True), S @ S.mT)
    z2, z3 = w(6, 4), w(6, 4)
    l('matmul_ranks', lambda seq: mb.matmul(x=z2, y=seq), wide(z2) @ S)
    l('matmul_x_turned', lambda seq: mb.matmul(x=seq, y=z3, transpose_x=True, transpose_y=True),
      S.mT @ wide(z3).mT)
    ya = w(2, 6, 7, 5)
    l('einsum', lambda img: mb.einsum(values=(img, ya), equation='nchw,nwhu->nchu'), torch.einsum('nchw,nwhu->nchu', I, wide(ya)))
    yc = w(9, 4, 3)
    l('einsum_3', lambda seq: mb.einsum(values=(mb.transpose(x=seq, perm=[1, 0, 2]), mb.slice_by_size(x=yc, begin=[0, 0, 0], size=[9, 2, 3])), equation='chw,whr->chr'),
      torch.einsum('chw,whr->chr', S.transpose(0, 1), wide(yc[:, :2])))

    for k, s, p, cm in (((2, 2), (2, 2), 0, False), ((3, 2), (1, 2), 1, False), ((3, 3), (2, 2), 1, True), ((2, 3), (3, 2), 0, True)):
        name = f'{k[0]}{k[1]}_{s[0]}{s[1]}_{p}_{int(cm)}'
        kw = dict(kernel_sizes=k, strides=s, pad_type='custom' if p else 'valid', ceil_mode=cm, **({'pad': [p] * 4} if p else {}))
        l('max_pool_' + name, lambda img, kw=kw: mb.max_pool(x=img, **kw), F.max_pool2d(I, k, s, p, 1, cm))
        for ex in (False, True):
            l(f'avg_pool_{name}_{int(ex)}', lambda img, kw=kw, ex=ex: mb.avg_pool(x=img, exclude_padding_from_average=ex, **kw), F.avg_pool2d(I, k, s, p, cm, not ex))
    l('max_pool_1d', lambda seq: mb.max_pool(x=seq, kernel_sizes=[3], pad_type='valid'), F.max_pool1d(S, 3, 1))
    l('avg_pool_3d', lambda vol: mb.avg_pool(x=vol, kernel_sizes=[2, 2, 2], strides=[1, 2, 1], pad_type='valid'), F.avg_pool3d(V, 2, (1, 2, 1)))
    l('l2_pool', lambda img: mb.l2_pool(x=img, kernel_sizes=[2, 3], strides=[2, 1], pad_type='valid'), F.lp_pool2d(I, 2, (2, 3), (2, 1)))

    mean, var, gam, bet = w(4), f32(4, lo=.3, hi=2).astype(f), w(4), w(4)
    l('batch_norm', lambda img: mb.batch_norm(x=img, mean=mean, variance=var, gamma=gam, beta=bet, epsilon=f(1e-3)), F.batch_norm(I, wide(mean), wide(var), wide(gam), wide(bet), eps=1e-3))
    l('batch_norm_bare', lambda seq: mb.batch_norm(x=seq, mean=mean, variance=var), F.batch_norm(S, wide(mean), wide(var)))
    l('batch_norm_3d', lambda vol: mb.batch_norm(x=vol, mean=mean[:2], variance=var[:2], gamma=gam[:2]), F.batch_norm(V, wide(mean[:2]), wide(var[:2]), wide(gam[:2])))
    l('instance_norm', lambda img: mb.instance_norm(x=img, gamma=gam, beta=bet), F.instance_norm(I, None, None, wide(gam), wide(bet)))
    l('instance_norm_bare', lambda seq: mb.instance_norm(x=seq, epsilon=f(1e-2)), F.instance_norm(S, eps=1e-2))
    g9, c9 = w(9), w(9)
    l('layer_norm', lambda seq: mb.layer_norm(x=seq, axes=[-1], gamma=g9, beta=c9), F.layer_norm(S, (9,), wide(g9), wide(c9)))
    l('layer_norm_bare', lambda seq: mb.layer_norm(x=seq, axes=[2, 1], epsilon=f(1e-2)), F.layer_norm(S, (4, 9), eps=1e-2))
    l('layer_norm_all', lambda mat: mb.layer_norm(x=mat, axes=[0, 1]), F.layer_norm(M, (3, 5)))

    def norm(X, axes, g, b, shape, eps=1e-5):
        m_, v_ = X.mean(axes, keepdim=True), X.var(axes, unbiased=False, keepdim=True)
        return (X - m_) / torch.sqrt(v_ + eps) * g.reshape(shape) + b.reshape(shape)

    l('layer_norm_channels', lambda img: mb.layer_norm(x=img, axes=[1], gamma=gam, beta=bet), norm(I, (1,), wide(gam), wide(bet), (4, 1, 1)))
    g47, b47 = w(4, 7), w(4, 7)
    l('layer_norm_middle', lambda img: mb.layer_norm(x=img, axes=[1, 2], gamma=g47, beta=b47), norm(I, (1, 2), wide(g47), wide(b47), (4, 7, 1)))
    l('l2_norm', lambda img: mb.l2_norm(x=img, epsilon=f(1e-3)), I / torch.sqrt((I * I).sum((1, 2, 3), keepdim=True) + 1e-3))
    l('local_response_norm', lambda img: mb.local_response_norm(x=img, size=3, alpha=f(.2), beta=f(.5), k=f(1.5)), F.local_response_norm(I, 3, .2, .5, 1.5))
    l.make()

    # ---- reductions ----
    x = f32(2, 3, 4, lo=.2, hi=3).astype(f)
    x[0, 1] *= -1
    d = Family(f'reduce_{tag}', target, tol, x=x, pos=np.abs(x), i=r.integers(-20, 20, (3, 4, 5)).astype(np.int32))
    for op in 'sum mean max min prod sum_square l1_norm l2_norm log_sum_exp'.split():
        for axes, keep in (([1], False), ([-1, 0], True), (None, False), ([0, 1, 2], True)):
            kw = dict(axes=axes) if axes else {}
            d(f'{op}_{"".join(str(a + 3 if a < 0 else a) for a in axes or [])}_{int(keep)}', lambda x, op=op, kw=kw, keep=keep: getattr(mb, 'reduce_' + op)(x=x, keep_dims=keep, **kw))
    d('log_sum', lambda pos: mb.reduce_log_sum(x=pos, axes=[2]))
    for op in 'sum max min sum_square'.split():
        d(op + '_int', lambda i, op=op: getattr(mb, 'reduce_' + op)(x=i, axes=[0, 2]))
    for op in 'argmax argmin'.split():
        d(op, lambda x, op=op: getattr(mb, 'reduce_' + op)(x=x, axis=1))
        d(op + '_keep', lambda x, op=op: getattr(mb, 'reduce_' + op)(x=x, keep_dims=True))
        if target >= T17:
            d(op + '_u16', lambda x, op=op: getattr(mb, 'reduce_' + op)(x=x, axis=0, output_dtype='uint16'))
    for axis in (0, 1, -1):
        d(f'cumsum_{axis % 3}', lambda x, axis=axis: mb.cumsum(x=x, axis=axis))
        d(f'cumsum_{axis % 3}_reverse', lambda x, axis=axis: mb.cumsum(x=x, axis=axis, reverse=True))
    d('cumsum_exclusive', lambda x: mb.cumsum(x=x, axis=2, exclusive=True), np.concatenate([np.zeros((2, 3, 1)), np.cumsum(x.astype(np.float32), 2)[:, :, :-1]], 2))
    d('cumsum_int', lambda i: mb.cumsum(x=i, axis=1))
    for k, axis, up in ((1, -1, False), (2, 1, True), (3, 2, False)):
        d(f'topk_{k}{axis % 3}{int(up)}', lambda x, k=k, axis=axis, up=up: mb.topk(x=x, k=k, axis=axis, ascending=up))
    if target >= T16:
        d('topk_values', lambda x: mb.topk(x=x, k=2, axis=2, sort=True, return_indices=False), torch.topk(wide(x), 2, 2)[0])
    if target >= T17:
        d('topk_u16', lambda x: mb.topk(x=x, k=2, axis=0, output_indices_dtype='uint16'))
    for up in (False, True):
        d(f'argsort_{int(up)}', lambda x, up=up: mb.argsort(x=x, axis=1, ascending=up))
    d.make()


def shapes(target):
    tag = f'iOS{target.value + 9}'
    x, i, b, m, v = f32(2, 3, 4, 6), np.arange(24).reshape(2, 3, 4).astype(np.int32), r.integers(0, 2, (2, 3, 4)).astype(bool), f32(5, 6), f32(1, 3, 1, 2)
    s = Family(f'shapes_{tag}', target, 1e-6, x=x, i=i, b=b, m=m, v=v, n=np.array([3, 4], np.int32))
    s('reshape', lambda x: mb.reshape(x=x, shape=[6, -1]))
    s('reshape_zero', lambda x: mb.reshape(x=x, shape=[0, -1, 2, 0]))
    s('reshape_int', lambda i: mb.reshape(x=i, shape=[4, 6]))
    s('reshape_computed', lambda i: mb.reshape(x=i, shape=mb.concat(values=(mb.slice_by_size(x=mb.shape(x=i), begin=[1], size=[2]), [2]), axis=0)), i.reshape(3, 4, 2))
    s('transpose', lambda x: mb.transpose(x=x, perm=[2, 0, -1, 1]))
    s('expand_dims', lambda i: mb.expand_dims(x=i, axes=[0, -1]))
    s('squeeze', lambda v: mb.squeeze(x=v, axes=[0]))
    s('squeeze_all', lambda v: mb.squeeze(x=v))
    s('squeeze_kept', lambda v: mb.squeeze(x=v, axes=[0, 1, -2]), v.reshape(3, 2))
    s('flatten2d', lambda x: mb.flatten2d(x=x, axis=2))
    s('shape', lambda x: mb.shape(x=x), np.array(x.shape, np.int32))
    for axis in (0, 1, -1):
        s(f'concat_{axis % 3}', lambda i, axis=axis: mb.concat(values=(i, i, i), axis=axis))
    s('concat_numbers', lambda i, n: mb.concat(values=(mb.reduce_sum(x=n), mb.reduce_max(x=i)), axis=0), np.array([7, 23], np.int32))
    s('concat_const', lambda i: mb.concat(values=(i, np.zeros((2, 1, 4), np.int32)), axis=1))
    for axis in (0, 1, 2):
        s(f'interleave_{axis}', lambda i, axis=axis: mb.concat(values=(i, mb.mul(x=i, y=np.int32(-1))), axis=axis, interleave=True),
          np.stack([i, -i], axis + 1).reshape([d * 2 if k == axis else d for k, d in enumerate(i.shape)]))
    for axis in (0, 2, -1):
        s(f'stack_{axis % 4}', lambda i, axis=axis: mb.stack(values=(i, i), axis=axis))
    s('split', lambda x: mb.split(x=x, num_splits=3, axis=1))
    s('split_sizes', lambda x: mb.split(x=x, split_sizes=[1, 3, 2], axis=-1))
    X = t(x)
    c = f32(2, 8, 3, 2)
    s('depth_to_space', lambda x: mb.depth_to_space(x=mb.concat(values=(x, mb.slice_by_size(x=x, begin=[0, 0, 0, 0], size=[2, 1, 4, 6])), axis=1), block_size=2),
      (lambda a: a.reshape(2, 2, 2, 1, 4, 6).permute(0, 3, 4, 1, 5, 2).reshape(2, 1, 8, 12))(torch.cat([X, X[:, :1]], 1)))
    s('space_to_depth', lambda x: mb.space_to_depth(x=x, block_size=2), X.reshape(2, 3, 2, 2, 3, 2).permute(0, 3, 5, 1, 2, 4).reshape(2, 12, 2, 3))
    s('pixel_shuffle', lambda x: mb.pixel_shuffle(x=mb.concat(values=(x, mb.slice_by_size(x=x, begin=[0, 0, 0, 0], size=[2, 1, 4, 6])), axis=1), upscale_factor=2), F.pixel_shuffle(torch.cat([X, X[:, :1]], 1), 2))
    if target >= T16:
        s('pixel_unshuffle', lambda x: mb.pixel_unshuffle(x=x, downscale_factor=np.uint32(2)), F.pixel_unshuffle(X, 2))
        s('reshape_like', lambda x, i, m: mb.reshape_like(x=mb.slice_by_size(x=x, begin=[0, 0, 0, 0], size=[2, 3, 4, 5]), ref_tensors=(i, m), begins=(0, 0), ends=(3, 1), end_masks=(False, False)), x[..., :5].reshape(2, 3, 4, 5))
        s('fill_like', lambda i: mb.fill_like(ref_tensor=i, value=np.float32(2.5)), np.full(i.shape, 2.5, np.float32))
    s('space_to_batch', lambda x: mb.space_to_batch(x=x, block_shape=[2, 3], paddings=[[1, 1], [0, 3]]),
      np.pad(x, ((0, 0), (0, 0), (1, 1), (0, 3))).reshape(2, 3, 3, 2, 3, 3).transpose(3, 5, 0, 1, 2, 4).reshape(12, 3, 3, 3))
    s('batch_to_space', lambda x: mb.batch_to_space(x=x, block_shape=[2, 1], crops=[[1, 0], [2, 1]]), x.reshape(2, 1, 1, 3, 4, 6).transpose(2, 3, 4, 0, 5, 1).reshape(1, 3, 8, 6)[:, :, 1:, 2:5])

    # ---- slices ----
    for k, kw in enumerate([dict(begin=[0, 1, 1, 0], end=[2, 3, 3, 6]), dict(begin=[0, -2, 0, 1], end=[2, 3, -1, 6], stride=[1, 1, 1, 2]),
                            dict(begin=[1, 0, 3, -1], end=[0, 3, 0, 1], stride=[-1, 1, -2, -1]), dict(begin=[0, 1, 2, 0], end=[0, 0, 1, 2], begin_mask=[True, False, False, True], end_mask=[True, True, True, False]),
                            dict(begin=[0, 1, 0, 5], end=[0, 3, 0, 0], stride=[-1, 1, -1, -2], begin_mask=[True, False, True, False], end_mask=[True, False, True, True])]):
        s(f'slice_{k}', lambda x, kw=kw: mb.slice_by_index(x=x, **kw))
    s('slice_squeeze', lambda x: mb.slice_by_index(x=x, begin=[1, 0, -1, 0], end=[0, 3, 0, 6], squeeze_mask=[True, False, True, False]), x[1, :, -1])
    s('slice_scalar', lambda i: mb.slice_by_index(x=i, begin=[1, 2, -1], end=[2, 3, 0], squeeze_mask=[True, True, True]), i[1, 2, 3])
    s('slice_bool', lambda b: mb.slice_by_index(x=b, begin=[0, 1, 0], end=[2, 2, 4]))
    s('slice_computed', lambda m, n: mb.slice_by_index(x=m, begin=mb.sub(x=n, y=np.int32(3)), end=n), m[0:3, 1:4])
    s('slice_computed_mask', lambda m, n: mb.slice_by_index(x=m, begin=mb.sub(x=n, y=np.int32(4)), end=n, squeeze_mask=[True, False], end_mask=[False, True]), m[-1, 0:])
    s('slice_by_size', lambda x: mb.slice_by_size(x=x, begin=[0, 1, 2, 0], size=[2, 1, -1, 3]), x[:, 1:2, 2:, :3])
    s('slice_by_size_computed', lambda m, n: mb.slice_by_size(x=m, begin=mb.sub(x=n, y=np.int32(2)), size=np.array([2, -1], np.int32)), m[1:3, 2:])
    if target >= T18:
        u = f32(2, 2)
        want = m.copy(); want[1:3, 0:4:2] = u
        s('slice_update', lambda m: mb.slice_update(x=m, update=u, begin=[1, 0], end=[3, 4], stride=[1, 2]), want)
        want2 = m.copy(); want2[4] = m[0]
        s('slice_update_squeeze', lambda m: mb.slice_update(x=m, update=mb.slice_by_index(x=m, begin=[0, 0], end=[1, 6], squeeze_mask=[True, False]), begin=[-1, 0], end=[0, 0], squeeze_mask=[True, False], end_mask=[False, True], begin_mask=[False, True]), want2)
        want3 = m.copy(); want3[3:5, :] = 1
        s('slice_update_computed', lambda m, n: mb.slice_update(x=m, update=np.ones((2, 6), np.float32), begin=mb.mul(x=n, y=np.array([1, 0], np.int32)), end=mb.add(x=n, y=np.int32(2))), want3)
    s('crop', lambda x: mb.crop(x=x, crop_height=[0, 1], crop_width=[2, 1]), x[:, :, :3, 2:5])
    s('reverse', lambda x: mb.reverse(x=x, axes=[1, -1]))
    s('reverse_all', lambda i: mb.reverse(x=i))
    for mode in ('constant', 'reflect', 'replicate'):
        s('pad_' + mode, lambda x, mode=mode: mb.pad(x=x, pad=[1, 2, 0, 3], mode=mode, **({'constant_val': np.float32(1.5)} if mode == 'constant' else {})))
    s('pad_computed', lambda m, n: mb.pad(x=m, pad=mb.concat(values=(n, [0, 1]), axis=0)), np.pad(m, ((3, 4), (0, 1))))
    s('tile', lambda i: mb.tile(x=i, reps=[1, 2, 3]))
    s('tile_computed', lambda m, n: mb.tile(x=m, reps=n), np.tile(m, (3, 4)))
    s('sliding_windows', lambda x: mb.sliding_windows(x=x, axis=-1, size=3, stride=2), np.stack([x[..., 0:3], x[..., 2:5]], -2))
    s('fill', lambda n: mb.fill(shape=n, value=np.float32(1.5)), np.full((3, 4), 1.5, np.float32))
    s('fill_int', lambda n: mb.fill(shape=n, value=np.int32(-2)), np.full((3, 4), -2))
    one = np.int32(1)
    s('range', lambda n: mb.range_1d(start=one, end=mb.reduce_sum(x=n, axes=[0]), step=np.int32(2)), np.arange(1, 7, 2))
    s('range_float', lambda m: mb.range_1d(start=np.float32(0), end=mb.add(x=mb.reduce_max(x=mb.mul(x=m, y=np.float32(0))), y=np.float32(2)), step=np.float32(.5)), np.arange(0, 2, .5, dtype=np.float32))
    for lo, up in ((0, -1), (-1, 0), (1, 2), (-1, -1)):
        s(f'band_part_{lo + 1}{up + 1}', lambda m, lo=lo, up=up: mb.band_part(x=m, lower=lo, upper=up))
    s('band_part_int', lambda i: mb.band_part(x=i, lower=1, upper=0))
    s.make()


def picks(target):
    tag = f'iOS{target.value + 9}'
    x, m = f32(2, 3, 4, 5), f32(4, 6)
    i2, neg = np.array([[0, 2], [1, 0]], np.int32), np.array([-1, 2, 0], np.int32)
    s = Family(f'pick_{tag}', target, 1e-6, x=x, m=m, i2=i2, neg=neg if target < T17 else np.abs(neg), n=np.arange(24).reshape(4, 6).astype(np.int32), lens=np.array([1, 3], np.int32))
    for axis in (0, 1, -1):
        s(f'gather_{axis % 4}', lambda x, i2, axis=axis: mb.gather(x=x, indices=mb.minimum(x=i2, y=np.int32(1)), axis=axis), np.take(x, np.minimum(i2, 1), axis))
    s('gather_1d', lambda m, neg: mb.gather(x=m, indices=neg, axis=1), np.take(m, neg if target < T17 else np.abs(neg), 1))
    s('gather_scalar', lambda m: mb.gather(x=m, indices=np.int32(2), axis=0), m[2])
    if target >= T16:
        for axis in (1, 2, 3):
            s(f'gather_batch_{axis}', lambda x, i2, axis=axis: mb.gather(x=x, indices=i2, axis=axis, batch_dims=1), np.stack([np.take(x[b], i2[b], axis - 1) for b in range(2)]))
        i3 = r.integers(0, 4, (2, 3, 2)).astype(np.int32)
        s('gather_batch_two', lambda x: mb.gather(x=x, indices=i3, axis=2, batch_dims=2), np.stack([np.stack([np.take(x[a, b], i3[a, b], 0) for b in range(3)]) for a in range(2)]))
        s('gather_nd_batch', lambda x, i2: mb.gather_nd(x=x, indices=mb.expand_dims(x=i2, axes=[-1]), batch_dims=1), np.stack([x[b][i2[b]] for b in range(2)]))
    if target >= T17:
        s('gather_u16', lambda m: mb.gather(x=m, indices=np.array([3, 0], np.uint16), axis=0, validate_indices=False), m[[3, 0]])
        s('gather_i8', lambda m: mb.gather(x=m, indices=np.array([3, 0], np.int8), axis=0, validate_indices=True), m[[3, 0]])
    ia = r.integers(0, 4, (4, 3)).astype(np.int32)
    s('gather_along_axis', lambda m: mb.gather_along_axis(x=mb.slice_by_size(x=m, begin=[0, 0], size=[4, 3]), indices=ia, axis=0), np.take_along_axis(m[:, :3], ia, 0))
    s('gather_nd', lambda x, i2: mb.gather_nd(x=x, indices=mb.minimum(x=i2, y=np.int32(1))), np.stack([x[tuple(np.minimum(a, 1))] for a in i2]))
    import operator as o
    ops = dict(update=lambda a, b: b, add=o.add, sub=o.sub, mul=o.mul, div=o.truediv, max=np.maximum, min=np.minimum)
    up0, up1 = f32(2, 6, lo=.5, hi=2), f32(4, 3, lo=.5, hi=2)
    for mode, fn in ops.items():
        w0, w1, w2, w3 = m.copy(), m.copy(), m.copy(), m.copy()
        w0[[3, 1]] = fn(w0[[3, 1]], up0)
        w1[:, [5, 0, 2]] = fn(w1[:, [5, 0, 2]], up1)
        s('scatter_' + mode, lambda m, mode=mode: mb.scatter(data=m, indices=np.array([3, 1], np.int32), updates=up0, axis=0, mode=mode), w0)
        s(f'scatter_{mode}_1', lambda m, mode=mode: mb.scatter(data=m, indices=np.array([5, 0, 2], np.int32), updates=up1, axis=-1, mode=mode), w1)
        ind = np.argsort(f32(4, 6), 1)[:, :3].astype(np.int32)
        np.put_along_axis(w2, ind, fn(np.take_along_axis(m, ind, 1), up1), 1)
        s('scatter_along_axis_' + mode, lambda m, ind=ind, mode=mode: mb.scatter_along_axis(data=m, indices=ind, updates=up1, axis=1, mode=mode), w2)
        nd = np.array([[0, 1], [3, 5], [2, 2]], np.int32)
        w3[tuple(nd.T)] = fn(w3[tuple(nd.T)], up1[0])
        s('scatter_nd_' + mode, lambda m, nd=nd, mode=mode: mb.scatter_nd(data=m, indices=nd, updates=up1[0], mode=mode), w3)
    wd = m.copy(); wd[[3, 1]] += up0
    s('scatter_default', lambda m: mb.scatter(data=m, indices=np.array([3, 1], np.int32), updates=up0), wd)
    wt = m.copy(); np.add.at(wt, [1, 1], up0)
    s('scatter_twice', lambda m: mb.scatter(data=m, indices=np.array([1, 1], np.int32), updates=up0, mode='add'), wt)
    wi = np.arange(24).reshape(4, 6).copy(); wi[2] = 7
    s('scatter_int', lambda n: mb.scatter(data=n, indices=np.array([2], np.int32), updates=np.full((1, 6), 7, np.int32), mode='update'), wi)
    for axis in (-1, 0, 1):
        hot = np.eye(4, dtype=np.float32)[i2] * 3 - 1
        s(f'one_hot_{axis + 1}', lambda i2, axis=axis: mb.one_hot(indices=i2, one_hot_vector_size=4, axis=axis, on_value=np.float32(2), off_value=np.float32(-1)), np.moveaxis(hot, -1, axis))
    s('one_hot_int', lambda i2: mb.one_hot(indices=i2, one_hot_vector_size=3), np.eye(3, dtype=np.int32)[i2])
    s('non_zero', lambda n: mb.non_zero(x=mb.mod(x=n, y=np.int32(5))), np.transpose(np.nonzero(np.arange(24).reshape(4, 6) % 5)).astype(np.int32))
    rs = x.copy(); rs[0, :, :1] = x[0, :, :1][:, ::-1]; rs[1, :, :3] = x[1, :, :3][:, ::-1]
    s('reverse_sequence', lambda x, lens: mb.reverse_sequence(x=x, lengths=lens, seq_axis=2, batch_axis=0), rs)
    s.make()


def images(target):
    tag = f'iOS{target.value + 9}'
    x = f32(2, 3, 4, 5)
    X = t(x)
    s = Family(f'images_{tag}', target, 1e-5, x=x, one=f32(1, 2, 1, 4))
    for k, (h, w) in enumerate([(2, 3), (1, 2)]):
        s(f'nearest_{k}', lambda x, h=h, w=w: mb.upsample_nearest_neighbor(x=x, scale_factor_height=h, scale_factor_width=w), X.repeat_interleave(h, 2).repeat_interleave(w, 3))
    s('nearest_part', lambda x: mb.upsample_nearest_neighbor(x=x, scale_factor_height=np.float32(2.5), scale_factor_width=np.float32(1.4)), F.interpolate(X, size=(10, 7), mode='nearest'))
    for al in (False, True):
        for h, w in ((2, 3), (1.5, .8)):
            f = (lambda v: v) if isinstance(h, int) else np.float32
            s(f'bilinear_{int(al)}_{int(h * 10)}', lambda x, al=al, h=f(h), w=f(w): mb.upsample_bilinear(x=x, scale_factor_height=h, scale_factor_width=w, align_corners=al),
              F.interpolate(X, size=(int(4 * h), int(5 * w)), mode='bilinear', align_corners=al))
    s('resize_nearest', lambda x: mb.resize_nearest_neighbor(x=x, target_size_height=9, target_size_width=3), F.interpolate(X, size=(9, 3), mode='nearest'))

    def grid(mode, n, out):
        i = np.arange(out, dtype=np.float64)
        if mode in ('STRICT_ALIGN_CORNERS', 'ALIGN_CORNERS'):
            g = i * (n - 1) / (out - 1) if out > 1 else np.array([(n - 1) / 2 if mode == 'ALIGN_CORNERS' else 0.])
        elif mode == 'DEFAULT':
            g = i * (n - n / out) / (out - 1) if out > 1 else np.zeros(1)
        elif mode == 'OFFSET_CORNERS':
            delta = max(1, n - 1) / out
            g = .5 * delta + i * delta
        else:
            g = i * n / out + .5 * n / out - .5
        return np.clip(g, 0, n - 1)

    def lerp(a, g, axis):
        lo = np.floor(g).astype(int)
        hi = np.minimum(lo + 1, a.shape[axis] - 1)
        f = (g - lo).reshape([-1 if k == axis % a.ndim else 1 for k in range(a.ndim)])
        return np.take(a, lo, axis) * (1 - f) + np.take(a, hi, axis) * f

    def resized(a, mode, h, w):
        return lerp(lerp(a.astype(np.float64), grid(mode, a.shape[-2], h), -2), grid(mode, a.shape[-1], w), -1)

    modes = ('STRICT_ALIGN_CORNERS', 'ALIGN_CORNERS', 'DEFAULT', 'OFFSET_CORNERS', 'UNALIGN_CORNERS')
    for mode in modes:
        for h, w in ((7, 3), (1, 8), (1, 1)):
            s(f'resize_{mode.lower()}_{h}{w}', lambda x, mode=mode, h=h, w=w: mb.resize_bilinear(x=x, target_size_height=h, target_size_width=w, sampling_mode=mode), resized(x, mode, h, w))
        s(f'resize_{mode.lower()}_one', lambda one, mode=mode: mb.resize_bilinear(x=one, target_size_height=3, target_size_width=6, sampling_mode=mode), resized(s.feeds['one'], mode, 3, 6))
        if target >= T17:
            s(f'resize17_{mode.lower()}', lambda x, mode=mode: mb.resize(x=x, shape=[9, 6, 0], resized_dims=np.uint32(2), interpolation_mode='LINEAR', sampling_mode=mode), resized(x, mode, 6, 5))
    if target >= T17:
        s('resize17_nearest', lambda x: mb.resize(x=x, shape=[8, 10], resized_dims=np.uint32(2), interpolation_mode='NEAREST_NEIGHBOR'), F.interpolate(X, size=(8, 10), mode='nearest'))
        s('resize17_computed', lambda x: mb.resize(x=x, shape=mb.mul(x=mb.shape(x=x), y=np.array([0, 0, 2, 2], np.int32)), resized_dims=np.uint32(2), sampling_mode='UNALIGN_CORNERS'), F.interpolate(X, size=(8, 10), mode='bilinear'))
    pts = f32(2, 3, 4, 2, lo=-1.4, hi=1.4)
    for pad, tp in (('constant', 'zeros'), ('border', 'border'), ('reflection', 'reflection')):
        for mode in ('bilinear', 'nearest'):
            s(f'resample_{pad}_{mode}', lambda x, pad=pad, mode=mode: mb.resample(x=x, coordinates=pts, sampling_mode=mode, padding_mode=pad, padding_value=np.float32(0), coordinates_mode='normalized_minus_one_to_one', align_corners=True),
              F.grid_sample(X, t(pts), mode, tp, True))
    s('resample_edges', lambda x: mb.resample(x=x, coordinates=pts, sampling_mode='bilinear', padding_mode='border', padding_value=np.float32(0), coordinates_mode='normalized_minus_one_to_one', align_corners=False),
      F.grid_sample(X, t(pts), 'bilinear', 'border', False))
    s('resample_symmetric', lambda x: mb.resample(x=x, coordinates=pts, sampling_mode='bilinear', padding_mode='symmetric', padding_value=np.float32(0), coordinates_mode='normalized_minus_one_to_one', align_corners=False),
      F.grid_sample(X, t(pts), 'bilinear', 'reflection', False))
    s('resample_unit', lambda x: mb.resample(x=x, coordinates=(pts + 1) / 2, sampling_mode='bilinear', padding_mode='border', padding_value=np.float32(0), coordinates_mode='normalized_zero_to_one', align_corners=True),
      F.grid_sample(X, t(pts), 'bilinear', 'border', True))
    px = ((pts + 1) / 2 * np.array([4, 3])).astype(np.float32)
    s('resample_pixels', lambda x: mb.resample(x=x, coordinates=px, sampling_mode='bilinear', padding_mode='constant', padding_value=np.float32(.75), coordinates_mode='unnormalized', align_corners=True),
      F.grid_sample(X - .75, t(pts), 'bilinear', 'zeros', True) + .75)
    th = np.array([[.8, .1, .2, -.1, .9, -.3], [1, 0, .5, 0, 1, 0]], np.float32)
    s('affine', lambda x: mb.affine(x=x, transform_matrix=th, output_height=3, output_width=6, sampling_mode='bilinear', padding_mode='constant', padding_value=np.float32(0), coordinates_mode='normalized_minus_one_to_one', align_corners=True),
      F.grid_sample(X, F.affine_grid(t(th).reshape(2, 2, 3), (2, 3, 3, 6), True), 'bilinear', 'zeros', True))
    # the examples of coremltools' own tests for crop_resize
    sq = np.arange(1, 17, dtype=np.float32).reshape(1, 1, 4, 4)
    box = np.array([1, 1, 2, 2], np.float32)
    want = {2: [6, 7, 10, 11], 1: [8.5]}
    if target < T17:
        s('crop_resize_2', lambda: mb.crop_resize(x=sq, roi=box.reshape(1, 1, 4, 1, 1), target_width=2, target_height=2, sampling_mode='ALIGN_CORNERS'), np.array(want[2], np.float32).reshape(1, 1, 1, 2, 2))
        s('crop_resize_1', lambda: mb.crop_resize(x=sq, roi=box.reshape(1, 1, 4, 1, 1), target_width=1, target_height=1, sampling_mode='ALIGN_CORNERS'), np.array(want[1], np.float32).reshape(1, 1, 1, 1, 1))
        s('crop_resize_4', lambda: mb.crop_resize(x=sq, roi=box.reshape(1, 1, 4, 1, 1), target_width=4, target_height=4, sampling_mode='ALIGN_CORNERS'), (6 + np.arange(4) / 3 + 4 * np.arange(4)[:, None] / 3).reshape(1, 1, 1, 4, 4))
        s('crop_resize_back', lambda: mb.crop_resize(x=sq, roi=np.array([2, 2, 1, 1], np.float32).reshape(1, 1, 4, 1, 1), target_width=2, target_height=2, sampling_mode='ALIGN_CORNERS'),
          np.array([11, 10, 7, 6], np.float32).reshape(1, 1, 1, 2, 2))
        s('crop_resize_index', lambda x: mb.crop_resize(x=mb.slice_by_size(x=x, begin=[0, 0, 0, 0], size=[1, 3, 4, 5]), roi=np.array([[0, 0, 0, 1 / 3, .5], [0, 1 / 3, .25, 1, 1]], np.float32).reshape(2, 1, 5, 1, 1), target_width=3, target_height=2, normalized_coordinates=True, sampling_mode='ALIGN_CORNERS'),
          np.stack([lerp(lerp(x[0:1], np.linspace(0, 1, 2), -2), np.linspace(0, 2, 3), -1), lerp(lerp(x[0:1], np.linspace(1, 3, 2), -2), np.linspace(1, 4, 3), -1)]))
        s('crop_resize_centre', lambda x: mb.crop_resize(x=x, roi=np.array([[2, 1.5, 2, 1]], np.float32).reshape(1, 1, 4, 1, 1), target_width=3, target_height=2, box_coordinate_mode='CENTER_SIZE_WIDTH_FIRST', sampling_mode='ALIGN_CORNERS'),
          lerp(lerp(x, np.linspace(1, 2, 2), -2), np.linspace(1, 3, 3), -1)[None])
    else:
        s('crop_resize', lambda x: mb.crop_resize(x=x, boxes=np.array([[0, 0, 1, 2], [1, 1, 3, 4]], np.float32), box_indices=np.array([1, 0], np.int32), target_width=3, target_height=2, sampling_mode='ALIGN_CORNERS'),
          np.concatenate([lerp(lerp(x[1:2], np.linspace(0, 1, 2), -2), np.linspace(0, 2, 3), -1), lerp(lerp(x[0:1], np.linspace(1, 3, 2), -2), np.linspace(1, 4, 3), -1)]))
    # boxes that are kept
    boxes = np.concatenate([f32(2, 7, 2, lo=0, hi=3), f32(2, 7, 2, lo=1, hi=3)], -1)
    scores = f32(2, 7, 3, lo=0, hi=1)

    def nms(B, S, iou, least, most, apart):
        n, k, c = S.shape
        ob, os_, oi, on = np.zeros((n, most, 4), np.float32), np.zeros((n, most, c), np.float32), np.full((n, most), -1), np.zeros(n, int)
        for b in range(n):
            best, cls, got = S[b].max(1), S[b].argmax(1), []
            for a in np.argsort(-best, kind='stable'):
                if best[a] < least:
                    continue

                def over(q):
                    lo, hi = np.maximum(B[b, a, :2] - B[b, a, 2:] / 2, B[b, q, :2] - B[b, q, 2:] / 2), np.minimum(B[b, a, :2] + B[b, a, 2:] / 2, B[b, q, :2] + B[b, q, 2:] / 2)
                    inter = np.prod(np.maximum(0, hi - lo))
                    return inter / (np.prod(B[b, a, 2:]) + np.prod(B[b, q, 2:]) - inter) > iou
                if not any((not apart or cls[a] == cls[q]) and over(q) for q in got):
                    got.append(a)
            got = got[:most]
            ob[b, :len(got)], os_[b, :len(got)], oi[b, :len(got)], on[b] = B[b, got], S[b, got], got, len(got)
        return [ob, os_, oi, on]

    for apart in (False, True):
        for most in (3, 9):
            for iou, least in ((.3, .5), (.2, 0.)):
                kw = dict(iou_threshold=np.float32(iou), max_boxes=most, per_class_suppression=apart)
                if target < T17:
                    s(f'nms_{int(apart)}{most}{int(iou * 10)}', lambda kw=kw, least=least: mb.non_maximum_suppression(boxes=boxes, scores=scores, score_threshold=np.float32(least), **kw), nms(boxes, scores, iou, least, most, apart))
                elif not least:
                    a = nms(boxes, scores, iou, -1, most, apart)
                    s(f'nms_{int(apart)}{most}', lambda kw=kw: mb.non_maximum_suppression(boxes=boxes.transpose(0, 2, 1).copy(), scores=scores.transpose(0, 2, 1).copy(), **kw), [a[0].transpose(0, 2, 1), a[1].transpose(0, 2, 1), a[2]])
    s.make()


def main():
    families(np.float32, T15)
    families(np.float16, T17)
    for target in (T15, T18):
        shapes(target)
    for target in (T15, T17):
        picks(target)
        images(target)
    import control
    control.make(sys.modules[__name__])
    with open(os.path.join(HERE, 'cases.json'), 'w') as f:
        json.dump({'cases': cases}, f, indent=1)
    np.savez(os.path.join(HERE, 'data.npz'), **arrays)


if __name__ == '__main__':
    sys.modules['make'] = sys.modules['__main__']
    main()
