"""QOperator models that the golden data lacks: channels-last forms, integers between operators, scales that are computed."""
import numpy as np
from onnx import TensorProto, helper as h, numpy_helper as nh

MS = {'domain': 'com.microsoft'}


def models():
    """name, model, input"""
    rng = np.random.default_rng(0)
    act = {'xs': np.float32(.05), 'xz': np.uint8(120), 'ys': np.float32(.03), 'yz': np.uint8(110)}
    w = {'w': rng.integers(-100, 100, (4, 7, 3, 3)).astype(np.int8), 'ws': rng.uniform(.005, .02, 4).astype(np.float32),
         'wz': np.zeros(4, np.int8), 'b': rng.integers(-1000, 1000, 4).astype(np.int32)}
    conv = ['x', 'xs', 'xz', 'w', 'ws', 'wz', 'ys', 'yz', 'b']
    pool = ['x', 'xs', 'xz', 'ys', 'yz']

    def make(name, nodes, shape, consts):
        g = h.make_graph(nodes, name, [h.make_tensor_value_info('x', TensorProto.UINT8, shape)], [h.make_tensor_value_info('y', TensorProto.UINT8, None)],
                         [nh.from_array(v, k) for k, v in consts.items()])
        m = h.make_model(g, opset_imports=[h.make_opsetid('', 13), h.make_opsetid('com.microsoft', 1)])
        m.ir_version = 8
        return name, m, rng.integers(0, 256, shape).astype(np.uint8)

    yield make('global_average_pool_last', [h.make_node('QLinearGlobalAveragePool', pool, ['y'], channels_last=1, **MS)], (2, 5, 6, 7), act)
    yield make('average_pool_last', [h.make_node('QLinearAveragePool', pool, ['y'], channels_last=1, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], **MS)], (2, 5, 6, 7), act)
    yield make('conv_last', [h.make_node('QLinearConv', conv, ['y'], channels_last=1, pads=[1, 1, 1, 1], **MS)], (2, 5, 6, 7), act | w)
    yield make('integers_between', [h.make_node('QLinearConv', conv, ['t'], pads=[1, 1, 1, 1]), h.make_node('MaxPool', ['t'], ['m'], kernel_shape=[2, 2], strides=[2, 2]),
                                    h.make_node('Transpose', ['m'], ['n'], perm=[0, 2, 3, 1]), h.make_node('QLinearSigmoid', ['n', 'ys', 'yz', 'xs', 'xz'], ['y'], **MS)], (2, 7, 6, 5), act | w)
    yield make('computed_scale', [h.make_node('Mul', ['xs', 'one'], ['s']), h.make_node('QLinearConv', ['x', 's'] + conv[2:8], ['y'], pads=[1, 1, 1, 1])], (2, 7, 6, 5), act | w | {'one': np.float32(1)})

    # Between DequantizeLinear and QuantizeLinear: what ONNX Runtime fuses, and what it computes in floats
    dq = h.make_node('DequantizeLinear', ['x', 'xs', 'xz'], ['xr'])
    q = h.make_node('QuantizeLinear', ['yr', 'ys', 'yz'], ['y'])
    pair = {'zs': np.float32(.04), 'zz': np.uint8(131), 'z': rng.integers(0, 256, (7, 5)).astype(np.uint8)}
    dqz = h.make_node('DequantizeLinear', ['z', 'zs', 'zz'], ['zr'])
    m = {'w': rng.integers(-127, 128, (37, 19)).astype(np.int8), 'ws': rng.uniform(.001, .01, 19).astype(np.float32), 'wz': np.zeros(19, np.int8), 'b': rng.normal(size=19).astype(np.float32)}
    dqw = h.make_node('DequantizeLinear', ['w', 'ws', 'wz'], ['wr'], axis=1)
    for shape in (6, 37), (2, 6, 37):
        for terms in ['t', 'b'], ['b', 't']:
            yield make(f'matmul_bias_{len(shape)}d_{terms[0]}', [dq, dqw, h.make_node('MatMul', ['xr', 'wr'], ['t']), h.make_node('Add', terms, ['yr']), q], shape, act | m)
    for op in 'Sub', 'Div', 'Max', 'Min', 'PRelu':
        yield make(op, [dq, dqz, h.make_node(op, ['xr', 'zr'], ['yr']), q], (3, 7, 5), act | pair)
        yield make(op + '_number', [dq, h.make_node(op, ['xr', 'one'], ['yr']), q], (3, 7, 5), act | {'one': np.float32(1.7)})
    yield make('Sub_from_number', [dq, h.make_node('Sub', ['one', 'xr'], ['yr']), q], (3, 7, 5), act | {'one': np.float32(1.7)})
    yield make('Where', [dq, dqz, h.make_node('Where', ['c', 'xr', 'zr'], ['yr']), q], (3, 7, 5), act | pair | {'c': rng.integers(0, 2, (7, 5)).astype(bool)})
    for op in 'ReduceMax', 'ReduceMin', 'ReduceMean':
        yield make(op, [dq, h.make_node(op, ['xr'], ['yr'], axes=[1], keepdims=0), q], (3, 7, 5), act)
    deconv = {'w': rng.integers(-127, 128, (7, 4, 3, 4)).astype(np.int8), 'ws': rng.uniform(.001, .01, 4).astype(np.float32), 'wz': np.zeros(4, np.int8), 'b': rng.normal(size=4).astype(np.float32)}
    yield make('ConvTranspose', [dq, dqw, h.make_node('ConvTranspose', ['xr', 'wr', 'b'], ['yr'], strides=[2, 3], pads=[1, 0, 1, 2], output_padding=[1, 0]), q], (2, 7, 6, 5), act | deconv)

    # elements that move while their parameters change, and codes that are compared or added up
    for op, more, consts in (('MaxPool', {'kernel_shape': [2, 3]}, {}), ('Transpose', {'perm': [0, 3, 1, 2]}, {}), ('Reshape', {}, {'to': np.array([2, -1])}), ('Flatten', {}, {}),
                             ('Gather', {'axis': 1}, {'at': np.array([3, 0, 3])}), ('CumSum', {}, {'axis': np.array(2)}), ('CumSum', {'reverse': 1, 'exclusive': 1}, {'axis': np.array(1)}),
                             ('Pad', {}, {'pads': np.array([0, 0, 1, 2, 0, 0, 0, 1]), 'value': np.float32(.7)}), ('Softmax', {'axis': 1}, {}), ('LogSoftmax', {'axis': -1}, {}), ('GlobalMaxPool', {}, {})):
        yield make(op + '_moved', [dq, h.make_node(op, ['xr', *consts], ['yr'], **more), q], (2, 7, 6, 5), act | consts)
    at = {'at': rng.integers(-7, 7, (2, 3, 6, 5)), 'points': np.array([[1, 2], [0, 6], [1, 0]]), 'u': rng.integers(0, 256, (2, 3, 6, 5)).astype(np.uint8), 'v': rng.integers(0, 256, (3, 6, 5)).astype(np.uint8),
          'us': np.float32(.045), 'uz': np.uint8(90)}
    for op, index, updates in ('ScatterElements', 'at', 'u'), ('ScatterND', 'points', 'v'):
        more = {'axis': 1} if op == 'ScatterElements' else {}
        yield make(op, [dq, h.make_node('DequantizeLinear', [updates, 'us', 'uz'], ['ur']), h.make_node(op, ['xr', index, 'ur'], ['yr'], **more), q], (2, 7, 6, 5), act | {k: at[k] for k in (index, updates, 'us', 'uz')})
    yield make('ArgMax', [dq, h.make_node('ArgMax', ['xr'], ['at'], axis=1, keepdims=0), h.make_node('Cast', ['at'], ['y'], to=TensorProto.UINT8)], (2, 7, 6, 5), act)
    for op, n in ('InstanceNormalization', 2), ('BatchNormalization', 4):
        yield make(op, [dq, h.make_node(op, ['xr', *(f'p{i}' for i in range(n))], ['yr']), q], (2, 7, 6, 5), act | {f'p{i}': rng.uniform(.2, 1, 7).astype(np.float32) for i in range(n)})
