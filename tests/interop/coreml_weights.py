"""coreml_weights.py: linear_quantize_weights of coremltools and ours, on programs made here under random configs: the same operations in the same order,
and every compressed weight the same, bit for bit; where one refuses, so does the other.

    import coreml_weights; coreml_weights.check(BUILD, fail, seed, rounds)"""
import os, random, shutil, subprocess, tempfile
import numpy as np
import coremltools as ct
import coremltools.optimize.coreml as cto
import yaml
from coremltools.converters.mil import Builder as mb
from coremltools.models.utils import load_spec

TARGETS = {6: ct.target.iOS15, 7: ct.target.iOS16, 8: ct.target.iOS17, 9: ct.target.iOS18}
BITS = {10: 'fp16', 11: 'fp32', 21: 'int8', 25: 'int4', 31: 'uint8', 35: 'uint4'}


def programs(spec, dtype, rng):
    """name -> program"""
    def n(*shape):
        return rng.standard_normal(shape).astype(dtype)
    opset = TARGETS[spec]

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 30, 10, 10))], opset_version=opset)
    def layers(x):
        x = mb.relu(x=mb.conv(x=x, weight=n(90, 30, 2, 2), name='conv'))
        x = mb.linear(x=mb.reshape(x=x, shape=(1, 90, 81)), weight=n(70, 81), bias=n(70), name='linear')
        x = mb.matmul(x=x, y=n(2, 1, 70, 35), name='matmul')
        return mb.conv_transpose(x=mb.reshape(x=x, shape=(1, 30, 21, 10)), weight=n(30, 4, 21, 10), name='conv_transpose')

    small, large = n(6, 8), n(16, 8)

    @mb.program(input_specs=[mb.TensorSpec(shape=(4, 8))], opset_version=opset)
    def shared(x):
        k = mb.const(val=n(4, 8), name='kept')
        return (mb.linear(x=x, weight=small, name='la'), mb.linear(x=x, weight=small.copy(), name='lb'),
                mb.matmul(x=x, y=large, transpose_y=True, name='my'), mb.linear(x=x, weight=large.copy(), name='lc'),
                mb.add(x=x, y=k, name='add'), mb.mul(x=mb.matmul(x=n(4, 4), y=x, name='mx'), y=k, name='mul'), k)

    inner = n(8, 8)

    @mb.program(input_specs=[mb.TensorSpec(shape=(4, 8))], opset_version=opset)
    def loop(x):
        _, a = mb.while_loop(_cond=lambda i, a: mb.less(x=i, y=5),
                             _body=lambda i, a: (mb.add(x=i, y=1), mb.add(x=mb.linear(x=a, weight=inner), y=n(4, 8))),
                             loop_vars=(np.int32(0), x))
        return mb.linear(x=a, weight=inner, name='after'), mb.gather(x=n(20, 5), indices=np.array([1, 2], np.int32), axis=0, name='table')

    c, q = n(12, 10, 3), n(20, 30)
    c[2] = 0; c[5] = 1e-7; c[6] = 3; c[7] = -2; c[8, 0, 0] = 600
    q[0] = 0; q[:, 4] = 0; q[3] *= 1e-6; q[4] = abs(q[4])

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 10, 9)), mb.TensorSpec(shape=(3, 30))], opset_version=opset)
    def corners(x, y):
        return mb.conv(x=x, weight=c, name='conv'), mb.linear(x=y, weight=q, name='linear'), mb.matmul(x=y, y=q.T.copy(), name='matmul')

    return {'layers': layers, 'shared': shared, 'loop': loop, 'corners': corners}


def config(rng, spec):
    def fields():
        return {'mode': rng.choice(['linear', 'linear_symmetric']),
                'dtype': rng.choice(['int8', 'uint8'] + (['int4', 'uint4'] if spec >= 9 else [])),
                'granularity': rng.choice(['per_tensor', 'per_channel'] + (['per_block'] * 2 if spec >= 9 else [])),
                'block_size': rng.choice([0, 1, 2, 3, 4, 8, 10, 27]), 'weight_threshold': rng.choice([0, 10, 30, 100, 500])}
    d = {'config_type': 'OpLinearQuantizerConfig', 'global_config': fields()}
    if rng.random() < 0.5:
        d['op_type_configs'] = {rng.choice(['conv', 'linear', 'conv_transpose', 'matmul', 'gather']): rng.choice([None, fields()])}
    return d


def contents(path):
    """(types of operations, {name of a compressed weight: {parameter: (type, shape, bytes)}})"""
    spec, weights = load_spec(path), path + '/Data/com.apple.CoreML/weights/weight.bin'
    f = list(spec.mlProgram.functions.values())[0]
    file = open(weights, 'rb').read() if os.path.exists(weights) else b''

    def value(v):
        t = v.type.tensorType
        shape = tuple(d.constant.size for d in t.dimensions)
        kind = BITS.get(t.dataType, t.dataType)
        if v.WhichOneof('value') == 'blobFileValue':
            at = v.blobFileValue.offset
            size, data = (int.from_bytes(file[at + k:at + k + 8], 'little') for k in (8, 16))
            return kind, shape, file[data:data + size]
        tensor = v.immediateValue.tensor
        one = tensor.WhichOneof('value')
        if one == 'bytes':
            return kind, shape, tensor.bytes.values
        return kind, shape, np.array(getattr(tensor, one).values, np.float32 if one == 'floats' else np.int32).tobytes()

    types, out = [], {}

    def block(b):
        for o in b.operations:
            if o.type != 'const':
                types.append(o.type)
            if o.type.startswith('constexpr_'):
                name = o.attributes['name'].immediateValue.tensor.strings.values[0]
                out[name] = {k: value(v) for k, v in o.attributes.items() if k != 'name'}
                out[name].update({k: value(a.arguments[0].value) for k, a in o.inputs.items() if a.arguments[0].WhichOneof('binding') == 'value'})
            for inner in o.blocks:
                block(inner)
    block(f.block_specializations[f.opset])
    return types, out


def check(build, fail, seed=0, rounds=4):
    rng, n = random.Random(seed), 0
    with tempfile.TemporaryDirectory() as tmp:
        for spec in TARGETS:
            dtype = np.float16 if spec >= 8 and rng.random() < 0.5 else np.float32
            for name, prog in programs(spec, dtype, np.random.default_rng(seed + spec)).items():
                source = f'{tmp}/{name}.mlpackage'
                ct.convert(prog, convert_to='mlprogram', minimum_deployment_target=TARGETS[spec], skip_model_load=True,
                           compute_precision=ct.precision.FLOAT16 if dtype == np.float16 else ct.precision.FLOAT32).save(source)
                for _ in range(rounds):
                    c = config(rng, spec)
                    with open(tmp + '/c.yaml', 'w') as f:
                        yaml.safe_dump(c, f)
                    for p in 'theirs', 'ours':
                        shutil.rmtree(f'{tmp}/{p}.mlpackage', ignore_errors=True)
                    what = f'weights of {name}, specification {spec}, {np.dtype(dtype).name}, {c}'
                    run = subprocess.run([build + '/requant', 'quantize', source, '-o', tmp + '/ours.mlpackage', '--mode', 'weight-only', '--config', tmp + '/c.yaml'],
                                         capture_output=True, text=True)
                    try:
                        cto.linear_quantize_weights(ct.models.MLModel(source, skip_model_load=True),
                                                    cto.OptimizationConfig.from_yaml(tmp + '/c.yaml')).save(tmp + '/theirs.mlpackage')
                    except ValueError as e:
                        if not run.returncode:
                            fail(f'{what}: taken, where coremltools says {str(e)[:200]}')
                        continue
                    types, weights = contents(tmp + '/theirs.mlpackage')
                    if run.returncode:  # of a package in which nothing is to be done we say so
                        if weights or 'was not written' not in run.stderr:
                            fail(f'{what}: {run.stderr.strip()[-300:]}')
                        continue
                    got_types, got = contents(tmp + '/ours.mlpackage')
                    if got_types != types:
                        fail(f'{what}: operations {got_types}, expected {types}')
                    for k in sorted(set(got) | set(weights)):
                        if got.get(k) != weights.get(k):
                            a, b = got.get(k) or {}, weights.get(k) or {}
                            fail(f'{what}: {k}: ' + '; '.join(f'{p} {a.get(p, [None] * 2)[:2]}, expected {b.get(p, [None] * 2)[:2]}' for p in sorted(set(a) | set(b)) if a.get(p) != b.get(p)))
                    if spec == 9 and name == 'layers':
                        ct.models.MLModel(tmp + '/ours.mlpackage', skip_model_load=True)
                    n += 1
    print(f'weights: {n} packages quantized by both')
    if n < rounds * 8:
        fail(f'only {n} packages were compared')


if __name__ == '__main__':
    import sys
    check(os.path.abspath(sys.argv[1]), lambda text: print('FAIL', text[:1500]), int(sys.argv[2]) if len(sys.argv) > 2 else 0, int(sys.argv[3]) if len(sys.argv) > 3 else 4)
