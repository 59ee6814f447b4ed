#!/usr/bin/env python3
"""Makes the packages of this folder, cases.json and data.npz with coremltools 9.0 and torch 2.7: forms that packages come in beside those of
../coreml. quantize, dequantize and cast of every type (expected: coremltools' own evaluation of the operators on constants), classifiers, image
inputs with scale and bias, fp16 inputs and outputs, several functions (expected: torch)."""
import json, os, shutil, tempfile
import numpy as np, torch, coremltools as ct
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import types

HERE = os.path.dirname(os.path.abspath(__file__))
r = np.random.default_rng(11)
torch.manual_seed(11)
cases, data = [], {}


def tidy(name):
    for d, _, files in os.walk(f'{HERE}/{name}.mlpackage'):
        for f in files:
            os.chmod(f'{d}/{f}', 0o644)


def save(name, m, inputs, outputs, tolerance, precision):
    path = f'{HERE}/{name}.mlpackage'
    if isinstance(m, str):
        shutil.rmtree(path, ignore_errors=True)
        shutil.move(m, path)
        m = ct.models.MLModel(path, skip_model_load=True)
    else:
        shutil.rmtree(path, ignore_errors=True)
        m.save(path)
    tidy(name)
    case = {'id': name, 'package': name + '.mlpackage', 'params': {'precision': precision, 'specification_version': m.get_spec().specificationVersion}, 'inputs': {}, 'outputs': {},
            'tolerance': {'rel_to_max': tolerance}, 'peer': f'coremltools {ct.__version__}, torch {torch.__version__}'}
    for what, arrays in (('inputs', inputs), ('outputs', outputs)):
        for k, v in arrays.items():
            data[f'{name}/{k}'] = np.ascontiguousarray(v)
            case[what][k] = f'{name}/{k}'
    cases.append(case)


# ---- operators, as coremltools evaluates them ----

def operators(f):
    scalar, vector = dict(scale=f(.037)), dict(scale=r.uniform(.01, .1, 6).astype(f), axis=np.int32(1))
    last = dict(scale=r.uniform(.01, .1, 4).astype(f), axis=np.int32(-1))
    for t, name in ((np.int8, 'int8'), (np.uint8, 'uint8')):
        zero = (lambda n: r.integers(np.iinfo(t).min, np.iinfo(t).max + 1, n).astype(t))
        for form, kw in (('one', scalar), ('one_zero', dict(scalar, zero_point=t(17))), ('second', vector), ('second_zero', dict(vector, zero_point=zero(6))),
                         ('last_zero', dict(last, zero_point=zero(4)))):
            q = lambda x, kw=kw, name=name: mb.quantize(input=x, output_dtype=name, **kw)
            yield f'{form}_{name}', lambda x, kw=kw, q=q: mb.dequantize(input=q(x), **kw)
            yield f'codes_{form}_{name}', lambda x, q=q: mb.cast(x=q(x), dtype='int32')
    for t in ('int32', 'fp16', 'fp32', 'bool', 'int8', 'int16'):
        yield f'to_{t}', lambda x, t=t: mb.cast(x=mb.cast(x=x, dtype=t), dtype='fp32')
    whole = lambda x: mb.cast(x=mb.relu(x=x), dtype='int32')
    yield 'to_uint8', lambda x: mb.cast(x=mb.cast(x=whole(x), dtype='uint8'), dtype='fp32')
    yield 'to_uint16', lambda x: mb.cast(x=mb.cast(x=whole(x), dtype='uint16'), dtype='fp32')


def precise(prog, target):
    return ct.convert(prog, convert_to='mlprogram', minimum_deployment_target=target, compute_precision=ct.precision.FLOAT32, skip_model_load=True, pass_pipeline=ct.PassPipeline.EMPTY)


for f, real in ((np.float32, types.fp32), (np.float16, types.fp16)):
    x, want, rows = (r.normal(size=(2, 6, 3, 4)) * 3).astype(f), {}, list(operators(f))

    @mb.program(input_specs=[mb.TensorSpec(x.shape, dtype=real)], opset_version=ct.target.iOS17)
    def program(x):
        return tuple(mb.identity(x=make(x), name=name) for name, make in rows)

    values = x

    @mb.program(input_specs=[mb.TensorSpec((1,), dtype=real)], opset_version=ct.target.iOS17)
    def known(unused):
        for name, make in rows:
            y = make(mb.const(val=values))
            want[name] = y.op.materialized_val_inference() if y.op.op_type == 'dequantize' else y.val
        return unused

    save('operators_' + np.dtype(f).name, precise(program, ct.target.iOS17), {'x': x}, want, 0 if f is np.float32 else 2e-2, 'fp32')  # x / scale in fp16: a tie may fall either way


# ---- networks ----

class Net(torch.nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.a = torch.nn.Conv2d(channels, 6, 3, 2, 1)
        self.b = torch.nn.Linear(6, 4)

    def forward(self, x):
        return torch.softmax(self.b(torch.relu(self.a(x)).mean((2, 3))), -1)


def traced(channels):
    net = Net(channels).eval()
    x = torch.tensor(r.uniform(0, 255, (1, channels, 8, 8)).round().astype(np.float32))
    return net, x, torch.jit.trace(net, x)


for precision, target in (('fp32', ct.target.iOS15), ('fp16', ct.target.iOS17)):
    compute = ct.precision.FLOAT16 if precision == 'fp16' else ct.precision.FLOAT32
    near = 2e-2 if precision == 'fp16' else 1e-5
    common = dict(minimum_deployment_target=target, compute_precision=compute, skip_model_load=True)
    net, x, t = traced(3)
    for labels, kind in ((['a', 'b', 'c', 'd'], 'names'), ([3, 1, 4, 15], 'numbers')):
        m = ct.convert(t, inputs=[ct.TensorType('x', x.shape)], classifier_config=ct.ClassifierConfig(labels), **common)
        probabilities = m.get_spec().description.predictedProbabilitiesName
        save(f'classifier_{kind}_{precision}', m, {'x': x.numpy()}, {probabilities: net(x).detach().numpy()}, near, precision)
    for channels, layout in ((3, ct.colorlayout.RGB), (3, ct.colorlayout.BGR), (1, ct.colorlayout.GRAYSCALE)):
        net, x, t = traced(channels)
        scale, bias = 1 / 57, [-2.1, -2.0, -1.8][:channels]
        m = ct.convert(t, inputs=[ct.ImageType('image', x.shape, scale=scale, bias=bias if channels > 1 else bias[0], color_layout=layout)], outputs=[ct.TensorType('y')], **common)
        y = net(x * scale + torch.tensor(bias).reshape(1, -1, 1, 1)).detach().numpy()
        save(f'image_{layout.name.lower()}_{precision}', m, {'image': x.numpy()}, {'y': y}, near, precision)

net, x, t = traced(3)
m = ct.convert(t, inputs=[ct.TensorType('x', x.shape, dtype=np.float16)], outputs=[ct.TensorType('y', dtype=np.float16)], minimum_deployment_target=ct.target.iOS16, skip_model_load=True)
save('half_ends', m, {'x': x.numpy()}, {'y': net(x).detach().numpy()}, 2e-2, 'fp16')

with tempfile.TemporaryDirectory() as tmp:
    both = ct.utils.MultiFunctionDescriptor()
    nets = []
    for i in range(2):
        net, x, t = traced(3)
        nets.append((net, x))
        ct.convert(t, inputs=[ct.TensorType('x', x.shape)], outputs=[ct.TensorType('y')], minimum_deployment_target=ct.target.iOS18, compute_precision=ct.precision.FLOAT32, skip_model_load=True).save(f'{tmp}/{i}.mlpackage')
        both.add_function(f'{tmp}/{i}.mlpackage', src_function_name='main', target_function_name=('first', 'second')[i])
    both.default_function_name = 'second'
    ct.utils.save_multifunction(both, tmp + '/both.mlpackage')
    net, x = nets[1]
    save('functions', tmp + '/both.mlpackage', {'x': x.numpy()}, {'y': net(x).detach().numpy()}, 1e-5, 'fp32')

np.savez(HERE + '/data.npz', **data)
json.dump({'cases': cases}, open(HERE + '/cases.json', 'w'), indent=1)
