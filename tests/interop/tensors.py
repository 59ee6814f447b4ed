#!/usr/bin/env python3
"""tensors.py REQUANT MODEL.onnx DATA.npz [--rows N]: a model quantized by ONNX Runtime (QDQ), tensor by tensor.

For every quantized activation: a model that holds just the nodes between it and the quantized tensors it is made from is run
by REQUANT on ONNX Runtime's values of those tensors; its codes must be within one step of ONNX Runtime's. Then the
whole model: outputs within 2 % of their maximum, same top-1. Prints the share of differing codes. Exit 1 when a bound is missed."""
import argparse, os, subprocess, sys, tempfile
import numpy as np, onnx
from onnx import helper, numpy_helper, utils
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import ort


def requant(tool, model, feeds, folder, batch):
    np.savez(folder + '/in.npz', **feeds)
    out = folder + '/out.npz'
    if os.path.exists(out):
        os.remove(out)
    p = subprocess.run([tool, 'run', model, '-d', folder + '/in.npz', '-o', out, '--threads', '1', '--batch', str(batch)], capture_output=True, text=True)
    if p.returncode:
        raise RuntimeError(p.stderr.strip()[-300:])
    z = np.load(out)
    return {k: z[k] for k in z.files}


def pairs(model):
    """activations that are quantized and dequantized again: {float value: (code value, dequantized value, scale, zero point)}"""
    init = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    dq = {n.input[0]: n for n in model.graph.node if n.op_type == 'DequantizeLinear'}
    found = {}
    for n in model.graph.node:
        if n.op_type == 'QuantizeLinear' and n.output[0] in dq and n.input[1] in init and n.input[0] not in init and init[n.input[1]].size == 1:
            d = dq[n.output[0]]
            zp = init[n.input[2]] if len(n.input) > 2 and n.input[2] else np.uint8(0)
            found[n.input[0]] = (n.output[0], d.output[0], float(init[n.input[1]].reshape(())), int(np.asarray(zp).reshape(())))
    return found


def sources(model, value, quantized):
    """float values, quantized or graph inputs, that `value` is computed from without passing another quantized one"""
    maker = {o: n for n in model.graph.node for o in n.output}
    init = {i.name for i in model.graph.initializer}
    need, seen, todo = [], set(), [value]
    while todo:
        v = todo.pop()
        for i in maker[v].input if v in maker else []:
            if not i or i in init or i in seen:
                continue
            seen.add(i)
            if i in quantized or i not in maker:
                need.append(i)
            else:
                todo.append(i)
    return sorted(set(need))


def check(tool, path, feeds, say=print):
    model = onnx.load(path)
    q = pairs(model)
    shaped = onnx.shape_inference.infer_shapes(model)
    types = {v.name: v for v in list(shaped.graph.value_info) + list(shaped.graph.input) + list(shaped.graph.output)}
    tapped = onnx.ModelProto(); tapped.CopyFrom(shaped)
    have = {o.name for o in tapped.graph.output}
    for v, (code, _, _, _) in q.items():
        if code not in have:
            tapped.graph.output.append(helper.make_tensor_value_info(code, onnx.TensorProto.UNDEFINED, None) if code not in types else types[code])
    s = ort.session(tapped.SerializeToString())
    outs = [o.name for o in s.get_outputs()]
    n = len(next(iter(feeds.values())))
    whole = any(feeds[i.name].ndim == len(i.shape) + 1 for i in s.get_inputs())  # each row is a whole feed
    got = {o: [] for o in outs}
    for i in range(n if whole else 1):
        for o, v in zip(outs, s.run(outs, {i_.name: np.asarray(feeds[i_.name][i] if whole else feeds[i_.name]) for i_ in s.get_inputs()})):
            got[o].append(v)
    got = {o: np.stack(v) for o, v in got.items()}  # first axis: feeds
    bad = tested = off = total = worst = left = 0
    extractor = utils.Extractor(shaped)
    with tempfile.TemporaryDirectory() as tmp:
        for v, (code, dq, scale, zp) in q.items():
            src = sources(shaped, v, {x for x in q if x != v})
            if not src or v in {i.name for i in model.graph.input}:
                continue
            if any(x not in q for x in src):
                left += 1
                continue
            try:
                sub = extractor.extract_model(src, [dq])
            except Exception as e:
                say(f'  {v}: cannot be cut out ({e})')
                left += 1
                continue
            sub.ir_version = model.ir_version
            f = {x: ((got[q[x][0]].astype(np.float32) - np.float32(q[x][3])) * np.float32(q[x][2])) for x in src}
            for i in sub.graph.input:  # shapes that inference did not find, as they were
                i.CopyFrom(helper.make_tensor_value_info(i.name, onnx.TensorProto.FLOAT, f[i.name].shape[1:]))
            onnx.save(sub, tmp + '/sub.onnx')
            try:
                y = requant(tool, tmp + '/sub.onnx', f, tmp, 1)[dq]
            except (RuntimeError, KeyError) as e:
                say(f'  {v}: FAILED: {e}')
                bad += 1
                continue
            codes = np.rint(y.astype(np.float64) / scale) + zp
            d = np.abs(codes - got[code].astype(np.float64).reshape(codes.shape))
            tested += 1; off += int((d > 0).sum()); total += d.size; worst = max(worst, float(d.max(initial=0)))
            if not d.max(initial=0) <= 1:
                say(f'  {v}: {d.max():.0f} steps off, {100 * (d > 0).mean():.3f} % of codes differ')
                bad += 1
        ours = requant(tool, path, feeds, tmp, n)
    for o in (x.name for x in model.graph.output):
        got[o] = got[o] if whole else got[o][0]
        rel = ort.relative(ours[o], got[o]); a, b = ours[o].argmax(-1), got[o].argmax(-1)
        step = ort.output_step(model, o); share = f', {100 * ort.differing(ours[o], got[o], step):.2f} % of codes differ' if step else ''
        say(f'  output {o}: {100 * rel:.3f} % of the maximum, top-1 same for {100 * (a == b).mean():.2f} %{share}')
        bad += not rel <= 0.02
        bad += not (a == b).all()
    say(f'  {tested} quantized tensors on the peer\'s inputs: worst {worst:.0f} step, {100 * off / max(total, 1):.4f} % of codes differ' + (f' ({left} made from float values not tried)' if left else ''))
    return bad, tested


if __name__ == '__main__':
    ap = argparse.ArgumentParser(); ap.add_argument('tool'); ap.add_argument('model'); ap.add_argument('data')
    ap.add_argument('--rows', type=int, default=4)
    a = ap.parse_args()
    z = np.load(a.data); inputs = {i.name for i in onnx.load(a.model).graph.input}
    print(a.model)
    bad, _ = check(a.tool, a.model, {k: z[k][:a.rows] for k in z.files if k in inputs})
    sys.exit(1 if bad else 0)
