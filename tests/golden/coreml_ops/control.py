"""Part of make.py: recurrent layers, attention, conditions, loops, lists, states."""
import numpy as np, torch, torch.nn.functional as F
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import types


def act(name, x):
    return {'tanh': np.tanh, 'scaled_tanh': np.tanh, 'sigmoid': lambda v: 1 / (1 + np.exp(-v)), 'relu': lambda v: np.maximum(v, 0), 'linear': lambda v: v,
            'hard_sigmoid': lambda v: np.clip(.2 * v + .5, 0, 1)}[name](x)


def lstm(x, h, c, w, u, b, p, acts=('sigmoid', 'tanh', 'tanh'), clip=np.inf):
    """the formula of the operator, one direction; gates i, f, o, z"""
    out, H = [], h.shape[1]
    pi, pf, po = np.split(p, 3)
    for xt in x:
        i, f, o, z = np.split(xt @ w.T + h @ u.T + b, 4, -1)
        i, f = act(acts[0], i + pi * c), act(acts[0], f + pf * c)
        c = np.clip(f * c + i * act(acts[1], z), -clip, clip)
        o = act(acts[0], o + po * c)
        h = o * act(acts[2], c)
        out.append(h)
    return np.stack(out), h, c


def gru(x, h, w, u, b, b_in=None, after=False, acts=('sigmoid', 'tanh')):
    """gates r, o, z; the reset gate before the product, as coremltools' own tests have it, or after it"""
    out = []
    for xt in x:
        (wr, wo, wz), (ur, uo, uz), (br, bo, bz) = np.split(w, 3), np.split(u, 3), np.split(b, 3)
        ir, io, iz = np.split(np.zeros_like(b) if b_in is None else b_in, 3)
        r, z = act(acts[0], xt @ wr.T + h @ ur.T + br + ir), act(acts[0], xt @ wz.T + h @ uz.T + bz + iz)
        o = act(acts[1], xt @ wo.T + io + r * (h @ uo.T + bo)) if after else act(acts[1], xt @ wo.T + (r * h) @ uo.T + bo + io)
        h = (1 - z) * o + z * h
        out.append(h)
    return np.stack(out), h


def recurrent(M, f, target):
    half = f is np.float16
    q = lambda *s: M.f32(*s, lo=-.6, hi=.6).astype(f)
    S, B, I, H = 5, 2, 3, 4
    x, h, c, h2, c2 = q(S, B, I), q(B, H), q(B, H), q(B, 2 * H), q(B, 2 * H)
    e = M.Family(f'recurrent_iOS{target.value + 9}_{"fp16" if half else "fp32"}', target, 1e-2 if half else 1e-5, x=x, h=h, c=c, h2=h2, c2=c2)
    w, u, b, p = q(4 * H, I), q(4 * H, H), q(4 * H), q(3 * H)
    wb, ub, bb, pb = q(4 * H, I), q(4 * H, H), q(4 * H), q(3 * H)
    w64 = lambda *a: [v.astype(np.float64) for v in a]
    zero = np.zeros(3 * H)

    def one(x, h, c, w, u, b, p=None, every=True, back=False, **kw):
        x, h, c, w, u, b = w64(x, h, c, w, u, b)
        y, hn, cn = lstm(x[::-1] if back else x, h, c, w, u, b, zero if p is None else p.astype(np.float64), **kw)
        return [y if every else y[-1:], hn, cn]

    for every in (True, False):
        for back in (False, True):
            e(f'lstm_{int(every)}{int(back)}', lambda x, h, c, every=every, back=back: mb.lstm(x=x, initial_h=h, initial_c=c, weight_ih=w, weight_hh=u, bias=b, output_sequence=every, direction='reverse' if back else 'forward'),
              one(x, h, c, w, u, b, every=every, back=back))
        y1, hn1, cn1 = one(x, h2[:, :H], c2[:, :H], w, u, b, p)
        y2, hn2, cn2 = one(x, h2[:, H:], c2[:, H:], wb, ub, bb, pb, back=True)
        y = np.concatenate([y1, y2[::-1]], -1) if every else np.concatenate([hn1, hn2], -1)[None]
        e(f'lstm_both_{int(every)}', lambda x, h2, c2, every=every: mb.lstm(x=x, initial_h=h2, initial_c=c2, weight_ih=w, weight_hh=u, bias=b, peephole=p, weight_ih_back=wb, weight_hh_back=ub, bias_back=bb, peephole_back=pb,
                                                                          output_sequence=every, direction='bidirectional'), [y, np.concatenate([hn1, hn2], -1), np.concatenate([cn1, cn2], -1)])
    e('lstm_clip', lambda x, h, c: mb.lstm(x=x, initial_h=h, initial_c=c, weight_ih=w, weight_hh=u, bias=b, peephole=p, output_sequence=True, clip=f(.25)), one(x, h, c, w, u, b, p, clip=.25))
    e('lstm_clip_back', lambda x, h, c: mb.lstm(x=x, initial_h=h, initial_c=c, weight_ih=w, weight_hh=u, clip=f(.125), direction='reverse', recurrent_activation='hard_sigmoid'),
      one(x, h, c, w, u, 0 * b, every=False, back=True, clip=.125, acts=('hard_sigmoid', 'tanh', 'tanh')))
    (y1, hn1, cn1), (y2, hn2, cn2) = one(x, h2[:, :H], c2[:, :H], w, u, b, clip=.25), one(x, h2[:, H:], c2[:, H:], wb, ub, bb, back=True, clip=.25)
    e('lstm_clip_both', lambda x, h2, c2: mb.lstm(x=x, initial_h=h2, initial_c=c2, weight_ih=w, weight_hh=u, bias=b, weight_ih_back=wb, weight_hh_back=ub, bias_back=bb, output_sequence=True, direction='bidirectional', clip=f(.25)),
      [np.concatenate([y1, y2[::-1]], -1), np.concatenate([hn1, hn2], -1), np.concatenate([cn1, cn2], -1)])
    e('lstm_bare', lambda x, h, c: mb.lstm(x=x, initial_h=h, initial_c=c, weight_ih=w, weight_hh=u, output_sequence=True), one(x, h, c, w, u, 0 * b))
    for acts in (('hard_sigmoid', 'relu', 'linear'), ('sigmoid', 'scaled_tanh', 'hard_sigmoid')):
        e('lstm_' + acts[0], lambda x, h, c, acts=acts: mb.lstm(x=x, initial_h=h, initial_c=c, weight_ih=w, weight_hh=u, bias=b, peephole=p, output_sequence=True, recurrent_activation=acts[0], cell_activation=acts[1], activation=acts[2]),
          one(x, h, c, w, u, b, p, acts=acts))
    if not half:  # torch has the same numbers: i, f, z, o
        t = torch.nn.LSTM(I, H)
        order = [0, 1, 3, 2]
        gate = lambda a: torch.from_numpy(np.concatenate([np.split(a, 4)[k] for k in order]))
        t.load_state_dict({'weight_ih_l0': gate(w), 'weight_hh_l0': gate(u), 'bias_ih_l0': gate(b), 'bias_hh_l0': gate(0 * b)})
        y, (hn, cn) = t(M.t(x), (M.t(h)[None], M.t(c)[None]))
        e('lstm_torch', lambda x, h, c: mb.lstm(x=x, initial_h=h, initial_c=c, weight_ih=w, weight_hh=u, bias=b, output_sequence=True), [y, hn[0], cn[0]])
    gw, gu, gb, gi = q(3 * H, I), q(3 * H, H), q(3 * H), q(3 * H)
    for every, back in ((True, False), (False, True), (True, True)):
        y, hn = gru(*w64(x[::-1] if back else x, h, gw, gu, gb))
        e(f'gru_{int(every)}{int(back)}', lambda x, h, every=every, back=back: mb.gru(x=x, initial_h=h, weight_ih=gw, weight_hh=gu, bias=gb, output_sequence=every, direction='reverse' if back else 'forward'), [y if every else y[-1:], hn])
    y, hn = gru(*w64(x, h, gw, gu, 0 * gb), acts=('hard_sigmoid', 'relu'))
    e('gru_acts', lambda x, h: mb.gru(x=x, initial_h=h, weight_ih=gw, weight_hh=gu, output_sequence=True, recurrent_activation='hard_sigmoid', activation='relu'), [y, hn])
    if target >= M.T18:
        for after in (False, True):
            y, hn = gru(*w64(x, h, gw, gu, gb, gi), after=after)
            e(f'gru_18_{int(after)}', lambda x, h, after=after: mb.gru(x=x, initial_h=h, weight_ih=gw, weight_hh=gu, bias=gb, input_bias=gi, reset_after=after, output_sequence=True), [y, hn])
        t = torch.nn.GRU(I, H)  # r, z, n
        gate = lambda a: torch.from_numpy(np.concatenate([np.split(a, 3)[k] for k in (0, 2, 1)]).astype(np.float32))
        t.load_state_dict({'weight_ih_l0': gate(gw), 'weight_hh_l0': gate(gu), 'bias_ih_l0': gate(gi), 'bias_hh_l0': gate(gb)})
        y, hn = t(M.t(x.astype(np.float32)), M.t(h.astype(np.float32))[None])
        e('gru_torch', lambda x, h: mb.gru(x=x, initial_h=h, weight_ih=gw, weight_hh=gu, bias=gb, input_bias=gi, reset_after=True, output_sequence=True), [y, hn[0]])
    rw, ru, rb = q(H, I), q(H, H), q(H)
    for name, back in (('tanh', False), ('relu', True), ('sigmoid', False)):
        hh, out = h.astype(np.float64), []
        for xt in (x[::-1] if back else x).astype(np.float64):
            hh = act(name, xt @ rw.T.astype(np.float64) + hh @ ru.T.astype(np.float64) + rb)
            out.append(hh)
        e('rnn_' + name, lambda x, h, name=name, back=back: mb.rnn(x=x, initial_h=h, weight_ih=rw, weight_hh=ru, bias=rb, activation=name, output_sequence=True, direction='reverse' if back else 'forward'), [np.stack(out), hh])
    e.make()


def attention(M, f):
    q, k, v = M.f32(2, 3, 4, 8).astype(f), M.f32(2, 3, 5, 8).astype(f), M.f32(2, 3, 5, 6).astype(f)
    e = M.Family(f'attention_iOS18_{"fp16" if f is np.float16 else "fp32"}', M.T18, 4e-3 if f is np.float16 else 1e-5, q=q, k=k, v=v)
    Q, K, V = (M.t(a.astype(np.float32)) for a in (q, k, v))
    mask, add = M.r.integers(0, 2, (4, 5)).astype(bool), M.f32(2, 1, 4, 5).astype(f)
    mask[:, 0] = True
    a = mb.scaled_dot_product_attention
    e('plain', lambda q, k, v: a(query=q, key=k, value=v), F.scaled_dot_product_attention(Q, K, V))
    e('bool', lambda q, k, v: a(query=q, key=k, value=v, attn_mask=mask), F.scaled_dot_product_attention(Q, K, V, M.t(mask)))
    e('added', lambda q, k, v: a(query=q, key=k, value=v, attn_mask=add), F.scaled_dot_product_attention(Q, K, V, M.t(add.astype(np.float32))))
    e.make()


def control(M, target):
    x, n = M.f32(3, 4), np.array([5], np.int32)
    e = M.Family(f'control_iOS{target.value + 9}', target, 1e-5, x=x, n=n, flag=np.array([7], np.int32))
    one = np.int32(1)

    def number(n):
        return mb.squeeze(x=n)

    e('cond_then', lambda x, n: mb.cond(pred=mb.greater(x=number(n), y=one), _true_fn=lambda: mb.add(x=x, y=np.float32(1)), _false_fn=lambda: mb.mul(x=x, y=np.float32(2))), x + 1)
    e('cond_else', lambda x, n: mb.cond(pred=mb.less(x=number(n), y=one), _true_fn=lambda: mb.add(x=x, y=np.float32(1)), _false_fn=lambda: mb.identity(x=x)), x)
    e('cond_two', lambda x, n: mb.cond(pred=mb.less(x=number(n), y=one), _true_fn=lambda: (mb.relu(x=x), mb.add(x=n, y=one)), _false_fn=lambda: (mb.tanh(x=x), mb.sub(x=n, y=one))), [np.tanh(x), np.array([4])])

    def loop(x, n):
        return mb.while_loop(_cond=lambda i, v: mb.less(x=i, y=number(n)), _body=lambda i, v: (mb.add(x=i, y=one), mb.add(x=mb.mul(x=v, y=np.float32(.5)), y=x)), loop_vars=(np.int32(0), x))

    w = x.copy()
    for _ in range(5):
        w = w * np.float32(.5) + x
    e('while', loop, [np.int32(5), w])
    e('while_never', lambda x: mb.while_loop(_cond=lambda i, v: mb.less(x=i, y=np.int32(0)), _body=lambda i, v: (mb.add(x=i, y=one), mb.relu(x=v)), loop_vars=(np.int32(0), x)), [np.int32(0), x])

    def nested(x, n):
        def body(i, v):
            j, u = mb.while_loop(_cond=lambda j, u: mb.less(x=j, y=i), _body=lambda j, u: (mb.add(x=j, y=one), mb.add(x=u, y=np.float32(1))), loop_vars=(np.int32(0), v))
            return mb.add(x=i, y=one), mb.cond(pred=mb.greater(x=i, y=np.int32(2)), _true_fn=lambda: mb.mul(x=u, y=np.float32(.5)), _false_fn=lambda: mb.identity(x=u))
        return mb.while_loop(_cond=lambda i, v: mb.less(x=i, y=number(n)), _body=body, loop_vars=(np.int32(0), x))

    w = x.copy()
    for i in range(5):
        w = w + np.float32(i)
        w = w * np.float32(.5) if i > 2 else w
    e('while_nested', nested, [np.int32(5), w])

    def lists(x):
        ls = mb.make_list(init_length=3, dynamic_length=False, elem_shape=(4,), dtype='fp32')
        ls = mb.list_write(ls=ls, index=np.int32(1), value=mb.gather(x=x, indices=np.int32(0), axis=0))
        ls = mb.list_scatter(ls=ls, indices=np.array([2, 0], np.int32), value=mb.slice_by_size(x=x, begin=[1, 0], size=[2, 4]))
        return mb.list_read(ls=ls, index=np.int32(2)), mb.list_gather(ls=ls, indices=np.array([1, 1, 0], np.int32)), mb.add(x=mb.list_length(ls=ls), y=np.int32(0))

    e('list', lists, [x[1], x[[0, 0, 2]], np.int32(3)])

    def growing(x, n):
        ls = mb.make_list(init_length=1, dynamic_length=True, elem_shape=(3, 4), dtype='fp32')
        i, ls = mb.while_loop(_cond=lambda i, ls: mb.less(x=i, y=number(n)), _body=lambda i, ls: (mb.add(x=i, y=one), mb.list_write(ls=ls, index=i, value=mb.mul(x=x, y=mb.cast(x=i, dtype='fp32')))), loop_vars=(np.int32(0), ls))
        return mb.list_gather(ls=ls, indices=np.array([4, 0, 2], np.int32)), mb.add(x=mb.list_length(ls=ls), y=np.int32(0))

    e('list_grows', growing, [np.stack([4 * x, 0 * x, 2 * x]), np.int32(5)])
    e.make()


def states(M):
    """what is kept between calls: an input that is zeros when it is not fed, and an output"""
    import coremltools as ct
    specs = [mb.TensorSpec((2, 3), dtype=types.fp16), mb.StateTensorSpec((2, 3), dtype=types.fp16), mb.StateTensorSpec((4, 3), dtype=types.fp16)]

    @mb.program(input_specs=specs, opset_version=M.T18)
    def prog(x, sum, cache):
        a = mb.read_state(input=sum)
        b = mb.coreml_update_state(state=sum, value=mb.add(x=a, y=x))
        c = mb.read_state(input=cache)
        d = mb.slice_update(x=c, update=x, begin=[1, 0], end=[3, 3])
        e = mb.coreml_update_state(state=cache, value=d)
        return mb.mul(x=b, y=np.float16(2), name='y'), mb.reduce_sum(x=e, axes=[0], name='z')

    m = ct.convert(prog, source='milinternal', convert_to='mlprogram', minimum_deployment_target=M.T18, skip_model_load=True, compute_precision=ct.precision.FLOAT32, pass_pipeline=ct.PassPipeline.EMPTY)
    package = M.save(m, 'states')
    x, s = M.f32(2, 3).astype(np.float16), M.f32(2, 3).astype(np.float16)
    for name, fed in (('states', None), ('states_fed', s)):
        total = (x + (0 if fed is None else fed)).astype(np.float16)
        cache = np.zeros((4, 3), np.float16)
        cache[1:3] = x
        outputs = {'y': total * np.float16(2), 'z': x.astype(np.float32).sum(0), 'sum.new': total, 'cache.new': cache}
        M.cases.append({'id': name, 'package': package, 'params': {'precision': 'fp16', 'specification_version': 9},
                        'inputs': {'x': M.key('states/x', x), **({} if fed is None else {'sum': M.key('states/sum', fed)})},
                        'outputs': {k: M.key(f'{name}/{k}', v.astype(np.float32)) for k, v in outputs.items()}, 'output_by': 'numpy', 'tolerance': {'rel_to_max': 2e-3}})


def make(M):
    recurrent(M, np.float32, M.T15)
    recurrent(M, np.float32, M.T18)
    recurrent(M, np.float16, M.T17)
    attention(M, np.float32)
    attention(M, np.float16)
    control(M, M.T15)
    control(M, M.T18)
    states(M)
