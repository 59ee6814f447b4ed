"""Core ML packages written as ONNX files: the checker accepts them, ONNX Runtime computes what the cases of tests/golden (coreml*) state, and
the codes of quantized weights stand in the file."""
import json
import numpy as np, onnx
from onnx import numpy_helper
import ort


def cases(golden):
    for topic in ('coreml/weights', 'coreml/w8a8', 'coreml_constexpr', 'coreml_forms'):
        data = np.load(f'{golden}/{topic}/data.npz')
        made = json.load(open(f'{golden}/{topic}/cases.json'))
        for c in made['cases'] if isinstance(made, dict) else made:
            if 'package' in c:
                yield f'{golden}/{topic}/{c["package"]}', c, data


def feeds(model, case, data):
    types = {i.name: onnx.helper.tensor_dtype_to_np_dtype(i.type.tensor_type.elem_type) for i in model.graph.input}
    return {k: data[key].astype(types[k]) for k, key in case['inputs'].items()}


def far(case, got, want, step):
    """why two outputs differ by more than the case allows, or None"""
    t, rel = case['tolerance'], ort.relative(got, want)
    steps = np.abs(np.asarray(got, np.float64) - want).max() / step if step else 0
    if 'rel_to_max' in t:
        return rel > t['rel_to_max'] and f'rel_to_max {rel:.3g}'
    if step and 'output_max_steps' in t:
        return steps > t['output_max_steps'] + 1e-3 and f'{steps:.3f} steps'
    return rel > t['output_rel'] and f'output_rel {rel:.3g}'


def codes(model, case, data):
    """the first weight whose codes, scale or zero point are not in the file, or None; how many there are"""
    init, made = {}, {}

    def look(g):
        init.update((i.name, i) for i in g.initializer)
        for n in g.node:
            if n.op_type == 'DequantizeLinear':
                made[n.output[0]] = n
            for a in n.attribute:
                if a.type == onnx.AttributeProto.GRAPH:
                    look(a.g)
    look(model.graph)
    found = 0
    for name, w in case.get('weights', {}).items():
        n = made.get(name)
        if w['op'] == 'constexpr_sparse_blockwise_shift_scale' or 'lut' in name:
            continue  # these become numbers
        if n is None:
            return name, found
        if not np.array_equal(numpy_helper.to_array(init[n.input[0]]).astype(np.int32), data[w['codes']].astype(np.int32)):
            return name, found
        s = numpy_helper.to_array(init[n.input[1]])
        if str(s.dtype) != {'fp16': 'float16', 'fp32': 'float32'}[w['scale_type']] or set(s.reshape(-1)) != set(data[w['scale']].reshape(-1)):
            return name, found
        found += 1
    return None, found


def check(golden, rewrite, tmp, fail, checker):
    L = list(cases(golden))
    said = rewrite([('copy', p, f'{tmp}/p{i}.onnx') for i, (p, _, _) in enumerate(L)], tmp)
    ran = kept = left = 0
    for i, ((p, c, data), s) in enumerate(zip(L, said)):
        out = f'{tmp}/p{i}.onnx'
        if s != 'ok':
            fail(f'packages {c["id"]}: {s}'); continue
        why = checker(out)
        if why:
            fail(f'packages {c["id"]}: onnx.checker: {why}'); continue
        model = onnx.load(out)
        wrong, n = codes(model, c, data)
        kept += n
        if wrong:
            fail(f'packages {c["id"]}: the codes or scales of {wrong} are others')
        if 'inputs' not in c:
            continue
        try:
            f = feeds(model, c, data)
            got = [ort.run(out, f, optimise) for optimise in (False, True)]
        except Exception as e:
            if 'data type is not supported' in str(e):  # fp16, in some operators
                left += 1
                continue
            fail(f'packages {c["id"]}: onnxruntime: {str(e)[:200]}'); continue
        ran += 1
        for name, key in c.get('outputs', {}).items():
            for g in got:
                why = far(c, g[name], data[key], ort.output_step(model, name))
                if why:
                    fail(f'packages {c["id"]}: {name}: {why}')
    print(f'packages: {len(L)} packages as ONNX, {ran} run by ONNX Runtime, {kept} weights with their codes' + (f'; {left} in types that the peer lacks' if left else ''))
