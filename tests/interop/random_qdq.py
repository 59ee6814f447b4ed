"""Single operators between DequantizeLinear and QuantizeLinear, with random shapes, attributes and parameters: what runs on codes."""
import numpy as np
from onnx import TensorProto as T, helper as h, numpy_helper as nh

BINARY = 'Sub', 'Div', 'Max', 'Min', 'PRelu', 'Add', 'Mul', 'Sum'
REDUCE = 'ReduceSum', 'ReduceMean', 'ReduceMax', 'ReduceMin', 'ReduceL1', 'ReduceL2', 'ReduceSumSquare'
OPS = BINARY + REDUCE + ('ConvTranspose', 'Resize', 'Where', 'LayerNormalization', 'InstanceNormalization', 'BatchNormalization', 'Softmax', 'LogSoftmax', 'CumSum', 'ArgMax',
                         'ArgMin', 'Pad', 'MaxPool', 'GlobalMaxPool', 'Slice', 'TopK', 'Pow', 'MatMul+Add')
# No arithmetic whose order is open, and no kernel of ONNX Runtime that rounds in a way of its own: the same codes
EXACT = {'Sub', 'Div', 'Max', 'Min', 'PRelu', 'Where', 'ReduceMax', 'ReduceMin', 'ArgMax', 'ArgMin', 'Pad', 'MaxPool', 'GlobalMaxPool', 'Slice', 'TopK', 'MatMul+Add'}


class Case:
    def __init__(self, rng, op):
        self.rng, self.op, self.nodes, self.consts, self.inputs, self.feeds = rng, op, [], {}, [], {}
        self.code = rng.choice([np.uint8, np.int8])

    def shape(self, rank, lo=1, hi=9):
        return [int(v) for v in self.rng.integers(lo, hi, rank)]

    def const(self, name, value):
        self.consts[name] = np.asarray(value)
        return name

    def real(self, name, shape):
        return self.const(name, self.rng.normal(size=shape).astype(np.float32))

    def params(self, name):
        """tie-rich steps among them"""
        scale = self.rng.uniform(.005, .06) if self.rng.random() < .7 else 2. ** -self.rng.integers(3, 7)
        info = np.iinfo(self.code)
        return [self.const(name + 's', np.float32(scale)), self.const(name + 'z', self.code(self.rng.integers(info.min, info.max + 1)))]

    def activation(self, name, shape):
        self.feeds[name] = (self.rng.normal(size=shape) * 1.5).astype(np.float32)
        self.inputs.append(h.make_tensor_value_info(name, T.FLOAT, shape))
        p = self.params(name)
        self.node('QuantizeLinear', [name, *p], [name + 'q'])
        return self.node('DequantizeLinear', [name + 'q', *p], [name + 'd'])

    def weight(self, shape, axis, n):
        w = self.const('w', self.rng.integers(-127, 128, shape).astype(np.int8))
        per_channel = self.rng.random() < .5
        s = self.const('ws', self.rng.uniform(.001, .01, n if per_channel else ()).astype(np.float32))
        return self.node('DequantizeLinear', [w, s, self.const('wz', np.zeros(n if per_channel else (), np.int8))], ['wd'], **({'axis': axis} if per_channel else {}))

    def node(self, op, inputs, outputs=('yr',), **attrs):
        self.nodes.append(h.make_node(op, inputs, list(outputs), **attrs))
        return outputs[0]

    def build(self):
        op, rng, pick = self.op, self.rng, lambda *v: v[rng.integers(len(v))]
        rank = int(rng.integers(1, 5)) if op in BINARY else 2 if op == 'TopK' else 3 if op in ('LayerNormalization', 'Softmax', 'LogSoftmax', 'CumSum', 'ArgMax', 'ArgMin', 'Where', 'Pad', 'Slice', 'MatMul+Add') else 4
        shape = self.shape(rank, 4 if op in ('MaxPool', 'TopK', 'Pad', 'Slice') else 1, 12)
        nd, group = int(rng.integers(1, 4)), pick(1, 1, 2)
        if op == 'ConvTranspose':
            shape = [pick(1, 2), group * int(rng.integers(1, 5))] + self.shape(nd, 2, 8)
        x, axis = self.activation('x', shape), int(rng.integers(-rank, rank))
        if op in BINARY:
            other = [1 if rng.random() < .3 else v for v in shape]
            y = self.activation('c', other) if rng.random() < .5 else self.real('c', other if rng.random() < .6 else [])
            self.node(op, [y, x] if op != 'PRelu' and rng.random() < .4 else [x, y])
        elif op in REDUCE:
            self.node(op, [x, self.const('axes', sorted(set(rng.integers(0, 4, pick(1, 2, 3)))))], keepdims=pick(0, 1))
        elif op == 'ConvTranspose':
            kernel, strides, dilations, out = self.shape(nd, 1, 5), self.shape(nd, 1, 4), self.shape(nd, 1, 3), pick(1, 2, 3, 4)
            pads = [int(rng.integers(0, 2)) if (kernel[i % nd] - 1) * dilations[i % nd] >= 2 else 0 for i in range(2 * nd)]
            ins = [x, self.weight([shape[1], out] + kernel, 1, out)] + ([self.real('b', out * group)] if rng.random() < .5 else [])
            self.node(op, ins, strides=strides, dilations=dilations, pads=pads, output_padding=[int(rng.integers(0, s)) for s in strides], group=group)
        elif op == 'Resize':
            self.node(op, [x, '', self.const('scales', np.float32([1, 1, rng.uniform(.5, 3), rng.uniform(.5, 3)]))], mode=pick('linear', 'cubic', 'nearest'),
                      coordinate_transformation_mode=pick('half_pixel', 'asymmetric', 'pytorch_half_pixel'))
        elif op == 'Where':
            self.inputs.append(h.make_tensor_value_info('k', T.BOOL, shape))
            self.feeds['k'] = rng.random(shape) < .5
            self.node(op, ['k', x, self.activation('c', [1] + shape[1:])])
        elif op.endswith('Normalization'):
            n = shape[-1] if op[0] == 'L' else shape[1]
            self.node(op, [x, *(self.const(f'p{i}', rng.uniform(.2, 1, n).astype(np.float32)) for i in range(4 if op[0] == 'B' else 2))])
        elif op in ('Softmax', 'LogSoftmax'):
            self.node(op, [x], axis=axis)
        elif op == 'CumSum':
            self.node(op, [x, self.const('axis', axis)], exclusive=pick(0, 1), reverse=pick(0, 1))
        elif op in ('ArgMax', 'ArgMin'):
            self.node(op, [x], ['y'], axis=axis, select_last_index=pick(0, 1))
        elif op == 'Pad':
            self.node(op, [x, self.const('pads', rng.integers(-1, 3, 6)), self.const('value', np.float32(rng.normal()))], mode=pick('constant', 'edge', 'reflect'))
        elif op == 'MaxPool':
            self.node(op, [x], kernel_shape=[2, 3], strides=[1, 2], pads=[0, 1, 1, 0])
        elif op == 'Slice':
            self.node(op, [x, *(self.const(k, [v]) for k, v in (('from', 1), ('to', 9), ('axes', 1), ('steps', 2)))])
        elif op == 'TopK':
            self.node(op, [x, self.const('k', [3])], ['yr', 'places'])
        elif op == 'Pow':
            self.node(op, [x, self.const('e', np.float32(pick(2, 3, .5, -1, 1.5)))])
        elif op == 'MatMul+Add':
            n = int(rng.integers(1, 30))
            self.node('Add', [self.node('MatMul', [x, self.weight([shape[-1], n], 1, n)], ['t']), self.real('b', n)])
        else:
            self.node(op, [x])
        if op.startswith('Arg'):
            return T.INT64
        p = self.params('y')
        self.node('QuantizeLinear', ['yr', *p], ['yq'])
        self.node('DequantizeLinear', ['yq', *p], ['y'])
        return T.FLOAT


def models(n, seed=0):
    """name, model, feeds, step of the output, share of elements that may be a step off"""
    rng = np.random.default_rng(seed)
    for i in range(n):
        op = OPS[i % len(OPS)]
        c = Case(rng, op)
        y = h.make_tensor_value_info('y', c.build(), None)
        m = h.make_model(h.make_graph(c.nodes, 'g', c.inputs, [y], [nh.from_array(v, k) for k, v in c.consts.items()]), opset_imports=[h.make_opsetid('', 18)])
        m.ir_version = 8
        yield f'{i} {op}', m, c.feeds, float(c.consts.get('ys', 1)), 0 if op in EXACT else .03
