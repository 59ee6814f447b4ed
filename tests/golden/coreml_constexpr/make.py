#!/usr/bin/env python3
"""Makes the packages of this folder, cases.json and data.npz with coremltools (9.0): each of the constexpr_ operators in both of its forms with
many shapes of blocks, tables and masks, and what coremltools' own code decompresses them to. Each constant is multiplied by the input, which is 1."""
import json, os, shutil
import numpy as np, coremltools as ct
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import types

HERE = os.path.dirname(os.path.abspath(__file__))
r = np.random.default_rng(7)
I4, U4, U1, U2, U3, U6 = (types.nptype_from_builtin(types.string_to_builtin(t)) for t in ('int4', 'uint4', 'uint1', 'uint2', 'uint3', 'uint6'))


def ints(shape, dtype, lo, hi):
    return r.integers(lo, hi, shape).astype(dtype)


def scales(shape, f):
    return r.uniform(.01, .2, shape).astype(f)


def packed(values, bits):
    flat = np.unpackbits(values.reshape(-1, 1).astype(np.uint8), axis=1, count=bits, bitorder='little').reshape(-1)
    return np.packbits(flat, bitorder='little')


def old(f):
    """operators of iOS 16, attributes"""
    A, L, S = mb.constexpr_affine_dequantize, mb.constexpr_lut_to_dense, mb.constexpr_sparse_to_dense
    yield lambda: A(quantized_data=ints((4, 6), np.int8, -128, 128), zero_point=np.int8(3), scale=f(.05), axis=np.int32(0), name='affine_one')
    yield lambda: A(quantized_data=ints((4, 6), np.uint8, 0, 256), zero_point=ints((6,), np.uint8, 0, 256), scale=scales((6,), f), axis=np.int32(1), name='affine_last')
    yield lambda: A(quantized_data=ints((3, 4, 2, 2), np.int8, -128, 128), zero_point=ints((3,), np.int8, -9, 9), scale=scales((3,), f), axis=np.int32(-4), name='affine_first')
    yield lambda: A(quantized_data=ints((3, 4), np.uint8, 0, 256), zero_point=r.uniform(0, 9, (3,)).astype(np.float32), scale=scales((3,), f), axis=np.int32(0), name='affine_real_zero')
    for bits in (1, 2, 4, 6, 8):
        shape = (3, 5, 7)
        yield lambda bits=bits, shape=shape: L(lut=r.normal(size=2 ** bits).astype(f), indices=packed(r.integers(0, 2 ** bits, 105), bits), shape=np.array(shape, np.uint32), name=f'table_{bits}')
    mask = r.integers(0, 2, 30)
    yield lambda: S(nonzero_data=r.normal(size=mask.sum()).astype(f), mask=packed(mask, 1), shape=np.array((5, 6), np.uint32), name='sparse')
    if f is np.float32:
        yield lambda: mb.constexpr_cast(source_val=r.normal(size=(3, 5)).astype(np.float16), output_dtype='fp32', name='widened')


def new(f):
    """operators of iOS 18, inputs"""
    B, L, S = mb.constexpr_blockwise_shift_scale, mb.constexpr_lut_to_dense, mb.constexpr_sparse_to_dense
    LS, SB = mb.constexpr_lut_to_sparse, mb.constexpr_sparse_blockwise_shift_scale
    blocks = {'tensor': (1, 1, 1, 1), 'first': (8, 1, 1, 1), 'second': (1, 12, 1, 1), 'both': (8, 12, 1, 1), 'blocks': (8, 3, 1, 1), 'columns': (1, 3, 1, 1),
              'two': (4, 3, 1, 1), 'three': (4, 3, 2, 1), 'last': (1, 1, 1, 3), 'all': (8, 12, 2, 3), 'rows': (2, 1, 1, 1)}
    for name, shape in blocks.items():
        for t, lo, hi in ((np.int8, -128, 128), (I4, -8, 8), (U4, 0, 16), (np.uint8, 0, 256)):
            offset = t in (U4, np.uint8) or name == 'blocks'
            yield lambda name=name, shape=shape, t=t, lo=lo, hi=hi, offset=offset: B(
                data=ints((8, 12, 2, 3), t, lo, hi), scale=scales(shape, f), offset=ints(shape, t, lo, hi) if offset else None,
                name=f'{name}_{types.builtin_to_string(types.numpy_type_to_builtin_type(t))}')
    yield lambda: B(data=ints((4, 6), np.int8, -128, 128), scale=scales((4, 2), f), offset=r.normal(size=(4, 2)).astype(f), name='real_offset')
    yield lambda: B(data=r.normal(size=(4, 6)).astype(f), scale=scales((4, 3), f), name='real_data')
    yield lambda: B(data=ints((7,), np.int8, -128, 128), scale=scales((7,), f), name='vector')
    for t, bits in ((U1, 1), (U2, 2), (U3, 3), (U4, 4), (U6, 6), (np.uint8, 8)):
        for name, prefix, v, axis in (('one', (1, 1, 1), 1, None), ('groups', (2, 1, 1), 1, None), ('grid', (2, 3, 1), 1, None), ('vectors', (1, 1, 1), 2, 0),
                                      ('middle', (2, 1, 1), 3, 1), ('end', (1, 3, 1), 4, -1)):
            yield lambda t=t, bits=bits, name=name, prefix=prefix, v=v, axis=axis: L(
                indices=ints((4, 6, 5), t, 0, 2 ** bits), lut=r.normal(size=(*prefix, 2 ** bits, v)).astype(f), vector_axis=None if axis is None else np.int32(axis), name=f'{name}_{bits}')
    mask = r.integers(0, 2, (5, 6)).astype(np.uint8)
    n = int(mask.sum())
    yield lambda: S(nonzero_data=r.normal(size=n).astype(f), mask=mask.astype(U1), name='masked')
    def quantized_table(group):
        lut = B(data=ints((group, 1, 16, 1), np.int8, -127, 128), scale=scales((1, 1, 1, 1), f), offset=ints((1, 1, 1, 1), np.int8, -9, 9))
        return L(indices=ints((4, 6), U4, 0, 16), lut=lut, name=f'joint_table_{group}')
    yield lambda: quantized_table(1)
    yield lambda: quantized_table(2)
    def scaled_table():
        codes = L(indices=ints((4, 6), U4, 0, 16), lut=ints((1, 1, 16, 1), np.int8, -127, 128))
        return B(data=codes, scale=scales((4, 1), f), name='scaled_table')
    yield scaled_table
    def sparse_blocks(t, lo, hi, shape, name):
        m, d = SB(data_mask=mask.astype(U1), nonzero_data=ints((n,), t, lo, hi), scale=scales(shape, f), offset=ints(shape, t, lo, hi) if lo == 0 else None)
        return S(nonzero_data=d, mask=m, name=name)
    yield lambda: sparse_blocks(np.int8, -127, 128, (5, 1), 'sparse_int8')
    yield lambda: sparse_blocks(I4, -8, 8, (5, 3), 'sparse_int4')
    yield lambda: sparse_blocks(U4, 0, 16, (1, 2), 'sparse_uint4')
    def sparse_table(v, axis, name):
        m, d = LS(indices_mask=mask.astype(U1), indices_nonzero_data=ints((n,), U2, 0, 4), lut=r.normal(size=(1, 1, 4, v)).astype(f), vector_axis=None if axis is None else np.int32(axis))
        return S(nonzero_data=d, mask=m, name=name)
    yield lambda: sparse_table(1, None, 'sparse_table')
    yield lambda: sparse_table(2, 0, 'sparse_vectors')
    yield lambda: sparse_table(3, 1, 'sparse_vectors_end')


PARAMS = {'constexpr_affine_dequantize': 'quantized_data zero_point scale axis', 'constexpr_blockwise_shift_scale': 'data scale offset', 'constexpr_lut_to_sparse': 'indices_mask indices_nonzero_data lut vector_axis',
          'constexpr_sparse_blockwise_shift_scale': 'data_mask nonzero_data scale offset'}


def value(op, output=0):
    """what the decompressing code of coremltools makes of an operation, whose parameters may be such operations"""
    def of(name):
        v = getattr(op, name)
        return None if v is None else v.val if v.val is not None else value(v.op, v.op.outputs.index(v))
    old = hasattr(op, 'shape')
    names = PARAMS.get(op.op_type) or {'constexpr_lut_to_dense': 'lut indices shape' if old else 'indices lut vector_axis', 'constexpr_sparse_to_dense': 'nonzero_data mask' + ' shape' * old}.get(op.op_type)
    if not names:
        return op.source_val.val.astype(np.float32)
    v = op.decompress(*(of(n) for n in names.split()))
    return np.ascontiguousarray(v[output] if isinstance(v, tuple) else v)


def main():
    cases, data = [], {'one32': np.ones((1,), np.float32)}
    for target, rows, f in ((ct.target.iOS16, old, np.float32), (ct.target.iOS17, old, np.float16), (ct.target.iOS18, new, np.float32), (ct.target.iOS18, new, np.float16)):
        known = {}
        real = types.fp32 if f is np.float32 else types.fp16

        @mb.program(input_specs=[mb.TensorSpec((1,), dtype=real)], opset_version=target)
        def prog(x):
            ys = []
            for make in rows(f):
                c = make()
                known[c.name] = value(c.op)
                ys.append(mb.mul(x=x, y=c, name='y_' + c.name))
            return tuple(ys)
        name = f'{target.name}_{"fp32" if f is np.float32 else "fp16"}'
        m = ct.convert(prog, convert_to='mlprogram', minimum_deployment_target=target, compute_precision=ct.precision.FLOAT32, skip_model_load=True, pass_pipeline=ct.PassPipeline.EMPTY)
        shutil.rmtree(f'{HERE}/{name}.mlpackage', ignore_errors=True)
        m.save(f'{HERE}/{name}.mlpackage')
        for d, _, files in os.walk(f'{HERE}/{name}.mlpackage'):
            for file in files:
                os.chmod(f'{d}/{file}', 0o644)
        case = {'id': name, 'package': name + '.mlpackage', 'params': {'precision': name[-4:], 'specification_version': m.get_spec().specificationVersion},
                'inputs': {'x': 'one32'}, 'outputs': {}, 'decompressed': {}, 'tolerance': {'rel_to_max': 0}, 'peer': 'coremltools ' + ct.__version__}
        for k, v in known.items():
            data[f'{name}/{k}'] = v
            case['decompressed'][k] = {'array': f'{name}/{k}'}
            case['outputs']['y_' + k] = f'{name}/{k}'
        cases.append(case)
    np.savez(HERE + '/data.npz', **data)
    json.dump({'cases': cases}, open(HERE + '/cases.json', 'w'), indent=1)


main()
