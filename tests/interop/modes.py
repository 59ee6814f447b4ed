"""The modes dynamic and weight-only on the networks in models/ and on one network with every operator that they know: what
`requant quantize` writes passes the checker, runs in ONNX Runtime and, where it is installed, in OpenVINO, and gives what our executor gives."""
import subprocess
import numpy as np, onnx
from onnx import helper as h, numpy_helper as nh, TensorProto as T
import ort

FLOAT32 = 1e-4  # same numbers, summed in another order
DYNAMIC = [[], ['--per-row'], ['--per-tensor'], ['--weights', 'u8', '--affine-weights'], ['--dynamic-conv'], ['--dynamic-conv', '--per-row']]
WEIGHTS = [[], ['--per-tensor'], ['--weights', 'u8', '--affine-weights'], ['--block-size', '32'], ['--weights', 's4'], ['--weights', 'u4', '--affine-weights', '--block-size', '16'],
           ['--weights', 's4', '--weight-method', 'ort'], ['--weights', 's2'], ['--weights', 'u4', '--affine-weights', '--weight-method', 'hqq', '--weight-form', 'matmulnbits'],
           ['--weights', 's4', '--weight-form', 'matmulnbits', '--block-size', '16'], ['--weights', 'u8', '--affine-weights', '--block-size', '64', '--weight-form', 'matmulnbits'],
           ['--weights', 'u2', '--affine-weights', '--weight-form', 'matmulnbits']]
NO_OPENVINO = {'--weight-form', 's2', 'u2', '--weight-method'}  # com.microsoft operators, 2 bits, negative scales: not its business


def everything(path):
    """x [4, 6, 20] f32, i [4, 6] s64; one output per operator"""
    r = np.random.default_rng(7); c, n, out = [], [], []
    f = lambda name, *shape: (c.append(nh.from_array((r.standard_normal(shape) * r.uniform(.2, 3, shape[-1])).astype(np.float32), name)), name)[1]
    k = lambda name, *v: (c.append(nh.from_array(np.array(v, np.int64), name)), name)[1]

    def add(op, ins, name, **a):
        n.append(h.make_node(op, ins, [name] if isinstance(name, str) else name, name=op + '_' + (name if isinstance(name, str) else name[0]), **a))
        return name if isinstance(name, str) else name[0]

    def give(name):
        out.append(h.make_tensor_value_info(name, T.FLOAT, None))
    x2 = add('Reshape', ['x', k('s2', 24, 20)], 'x2')
    give(add('MatMul', ['x', f('w3', 20, 17)], 'batched_input'))
    give(add('MatMul', ['x', f('wb', 4, 20, 5)], 'batched_weight'))
    give(add('Gemm', [x2, f('wt', 9, 20), f('b9', 9)], 'gemm', transB=1, alpha=.5, beta=2.))
    give(add('Gemm', [add('Transpose', [x2], 'x2t', perm=[1, 0]), f('wn', 20, 40), f('b2', 24, 40)], 'gemm_a', transA=1, beta=-1.))
    give(add('Gemm', [x2, f('w4', 20, 4)], 'gemm_nobias', alpha=-1.))
    tied = f('tied', 20, 20)
    give(add('MatMul', [add('MatMul', ['x', tied], 't1'), tied], 'tied_twice'))
    x4 = add('Reshape', ['x', k('s4', 4, 6, 4, 5)], 'x4')
    give(add('Conv', [x4, f('cw', 8, 6, 3, 3), f('cb', 8)], 'conv', pads=[1, 1, 1, 1]))
    give(add('Conv', [x4, f('dw', 6, 1, 3, 2)], 'depthwise', group=6, strides=[2, 1]))
    give(add('Conv', ['x', f('c1', 32, 6, 3), f('c1b', 32)], 'conv1d', auto_pad='SAME_UPPER'))
    give(add('ConvTranspose', [x4, f('tw', 6, 3, 2, 2)], 'deconv', strides=[2, 2]))
    give(add('Gather', [f('table', 50, 36), 'i'], 'gather'))
    for d in (1, 2):
        s = f'LSTM{d}'
        give(add('LSTM', ['x', f(s + 'w', d, 32, 20), f(s + 'r', d, 32, 8), f(s + 'b', d, 64)], s + 'y', hidden_size=8, direction=['forward', 'bidirectional'][d - 1]))
    g = h.make_graph(n, 'everything', [h.make_tensor_value_info('x', T.FLOAT, [4, 6, 20]), h.make_tensor_value_info('i', T.INT64, [4, 6])], out, c)
    onnx.save(h.make_model(g, opset_imports=[h.make_opsetid('', 17)], ir_version=8), path)
    r = np.random.default_rng(3)  # OpenVINO quantizes no state of an LSTM: half of such inputs are within the tolerance, as these are
    return {'x': r.standard_normal((4, 6, 20)).astype(np.float32), 'i': r.integers(0, 50, (4, 6))}


def cells(path):
    """GRU and RNN, which dynamic quantization spells out as functions"""
    r = np.random.default_rng(3); n, c, out = [], [], []
    for op, g in (('GRU', 3), ('RNN', 1)):
        for d in (1, 2):
            s = f'{op}{d}'
            for name, shape in (('w', (d, g * 8, 20)), ('r', (d, g * 8, 8)), ('b', (d, g * 16))):
                c.append(nh.from_array((r.standard_normal(shape) * .4).astype(np.float32), s + name))
            n.append(h.make_node(op, ['x', s + 'w', s + 'r', s + 'b'], [s + 'y'], name=s, hidden_size=8, direction=['forward', 'bidirectional'][d - 1]))
            out.append(h.make_tensor_value_info(s + 'y', T.FLOAT, None))
    g = h.make_graph(n, 'cells', [h.make_tensor_value_info('x', T.FLOAT, [4, 6, 20])], out, c)
    onnx.save(h.make_model(g, opset_imports=[h.make_opsetid('', 17)], ir_version=8), path)
    return {'x': r.standard_normal((4, 6, 20)).astype(np.float32)}


def branches(path):
    """an If whose branches have weights of their own, one of them twice"""
    r = np.random.default_rng(1); w = lambda name: nh.from_array(r.standard_normal((20, 30)).astype(np.float32), name)
    then = h.make_graph([h.make_node('MatMul', ['x', 'w'], ['yt'])], 'then', [], [h.make_tensor_value_info('yt', T.FLOAT, None)], [w('w')])
    other = h.make_graph([h.make_node('MatMul', ['x', 'v'], ['e1']), h.make_node('MatMul', ['x', 'v'], ['e2']), h.make_node('Add', ['e1', 'e2'], ['ye'])], 'else', [], [h.make_tensor_value_info('ye', T.FLOAT, None)], [w('v')])
    g = h.make_graph([h.make_node('If', ['c'], ['y'], then_branch=then, else_branch=other), h.make_node('MatMul', ['x', 'u'], ['z'])], 'branches',
                     [h.make_tensor_value_info('x', T.FLOAT, [3, 20]), h.make_tensor_value_info('c', T.BOOL, [])], [h.make_tensor_value_info('y', T.FLOAT, None), h.make_tensor_value_info('z', T.FLOAT, None)], [w('u')])
    onnx.save(h.make_model(g, opset_imports=[h.make_opsetid('', 13)], ir_version=8), path)
    return {'x': r.standard_normal((3, 20)).astype(np.float32), 'c': np.array(False)}


def openvino_run(path, feeds):
    import openvino as ov
    # group size 0: else it rounds inputs of products with 8-bit weights to 8 bits as well, whatever the file says
    m = ov.Core().compile_model(path, 'CPU', {'INFERENCE_PRECISION_HINT': 'f32', 'DYNAMIC_QUANTIZATION_GROUP_SIZE': '0'})
    y = m(feeds)
    return {next(iter(o.names)): y[o] for o in m.outputs}


def tolerance(engine, dynamic, whole, output):
    """of an output's maximum. With weight-only all arithmetic is float. With dynamic a tie in the codes of an input may fall to
    the other side, and LSTM products of ONNX Runtime round their state on their own."""
    if not dynamic:
        return FLOAT32 if engine == 'onnxruntime' else 1e-3
    return FLOAT32 if engine == 'onnxruntime' and whole and 'LSTM' not in output else 5e-2


def check(tool, tmp, fail, checker, name, model, feeds, whole, opts, openvino):
    out, samples = tmp + '/mode.onnx', tmp + '/mode.npz'
    p = subprocess.run([tool, 'quantize', model, '-o', out, *opts], capture_output=True, text=True)
    if p.returncode:
        return fail(f'modes {name}: {p.stderr.strip()[-300:]}')
    if 'not judged' not in p.stdout:
        fail(f'modes {name}: without samples it must say that nothing was judged')
    why = checker(out)
    if why and 's2' not in opts and 'u2' not in opts:
        fail(f'modes {name}: onnx.checker: {why}')
    np.savez(samples, **({k: v[None] for k, v in feeds.items()} if whole else feeds))
    p = subprocess.run([tool, 'run', out, '-d', samples, '-o', tmp + '/mode-out.npz'], capture_output=True, text=True)
    if p.returncode:
        return fail(f'modes {name}: run: {p.stderr.strip()[-300:]}')
    got = np.load(tmp + '/mode-out.npz')
    # unoptimised: ONNX Runtime makes MatMulNBits of DequantizeLinear and MatMul, and then rounds its inputs to 8 bits
    engines = {'onnxruntime': lambda m, f: ort.run(m, f, 'dynamic' in opts)}
    # OpenVINO wants weights of GRU to be constants, and one scale is none to it; it puts no functions in place of their calls
    if openvino and not NO_OPENVINO & set(opts) and not (whole and '--per-tensor' in opts) and not onnx.load(out).functions:
        engines['openvino'] = openvino_run
        float_here, float_there = ort.run(model, feeds), openvino_run(model, feeds)
    for engine, run in engines.items():
        try:
            want = run(out, feeds)
        except Exception as e:
            fail(f'modes {name}: {engine}: {str(e).strip()[:300]}'); continue
        for o in want:
            if engine == 'openvino' and ort.relative(float_there[o], float_here[o]) > 1e-3:
                continue  # it does not agree with ONNX Runtime about the float model either (recurrent operators)
            a = got[o][0] if whole else got[o]
            rel = ort.relative(a.reshape(want[o].shape), want[o])
            if not rel <= tolerance(engine, 'dynamic' in opts, whole, o):
                fail(f'modes {name}: {engine}: {o} differs by {rel:.2e} of its maximum')


def run(tool, tmp, fail, checker, repo):
    try:
        import openvino  # noqa: F401
        openvino = True
    except ImportError:
        openvino = False
    test = {'image': np.load(repo + '/models/digits-test.npz')['image'][:40]}
    nets = {'everything': (tmp + '/everything.onnx', everything(tmp + '/everything.onnx'), True), 'branches': (tmp + '/branches.onnx', branches(tmp + '/branches.onnx'), True),
            'cells': (tmp + '/cells.onnx', cells(tmp + '/cells.onnx'), True)}
    nets.update({m: (f'{repo}/models/{m}.onnx', test, False) for m in ('digits-cnn', 'digits-uneven')})
    n = 0
    for net, (model, feeds, whole) in nets.items():
        for mode, ways in (('dynamic', DYNAMIC), ('weight-only', WEIGHTS)):
            for opts in ways:
                check(tool, tmp, fail, checker, f'{net} {mode} {" ".join(opts)}', model, feeds, whole, ['--mode', mode, *opts], openvino); n += 1
    print(f'modes: {n} models, in onnxruntime' + (' and openvino' if openvino else ''))
