#!/usr/bin/env python3
"""write_cases.py DIR: the backend test cases of the installed onnx package, as folders of files.

Kinds node-f16 and node-f64 are the node cases again with f32 inputs and outputs in another type, where the operator takes it;
what is expected stays what it was in f32, within a tolerance of the inputs' rounding.

A case is DIR/<kind>/<name> with model.onnx, test_data_set_N/{input,output}_i.pb, and tolerance.txt (relative, absolute) where
it is not the default one. Node cases are made by the package's own code; the others it ships as files, and they are copied."""
import dataclasses, os, shutil, sys

import numpy
import onnx
import onnx.backend.test.case.node as node
from onnx import TensorProto, numpy_helper

DEFAULT = (1e-3, 1e-7)


def proto(x, info):
    """a value as the message its type asks for"""
    t, name = info.type, info.name
    if isinstance(x, TensorProto):
        return x
    if t.HasField('map_type'):
        return numpy_helper.from_dict(x, name)
    if t.HasField('sequence_type'):
        return numpy_helper.from_list(x, name)
    if t.HasField('optional_type'):
        return numpy_helper.from_optional(x, name)
    return numpy_helper.from_array(numpy.asarray(x), name)


def write(path, message):
    with open(path, 'wb') as f:
        f.write(message.SerializeToString())


def write_case(where, case):
    os.makedirs(where)
    write(where + '/model.onnx', case.model)
    if (case.rtol, case.atol) != DEFAULT:
        with open(where + '/tolerance.txt', 'w') as f:
            f.write(f'{case.rtol!r} {case.atol!r}\n')
    for i, (inputs, outputs) in enumerate(case.data_sets):
        at = f'{where}/test_data_set_{i}'
        os.makedirs(at)
        for kind, values, infos in (('input', inputs, case.model.graph.input), ('output', outputs, case.model.graph.output)):
            for k, x in enumerate(values):
                write(f'{at}/{kind}_{k}.pb', proto(x, infos[k]))


TWINS = {'f16': (TensorProto.FLOAT16, numpy.float16, 'tensor(float16)', (0.03, 0.02)), 'f64': (TensorProto.DOUBLE, numpy.float64, 'tensor(double)', (1e-3, 1e-5))}
# an attribute says the type; values beyond what f16 holds; random
NO_TWIN = {'BitCast', 'BlackmanWindow', 'Cast', 'CastLike', 'Constant', 'ConstantOfShape', 'DynamicQuantizeLinear', 'EyeLike', 'HammingWindow', 'HannWindow',
           'Bernoulli', 'Dropout', 'If', 'Loop', 'MelWeightMatrix', 'QLinearConv', 'QLinearMatMul', 'QuantizeLinear', 'RandomUniformLike', 'Scan', 'SequenceMap'}


def twin(case, number, text):
    """the names of f32 inputs and outputs that may have the type, and the model with them in it; None when there are none"""
    m, nodes = case.model, case.model.graph.node
    versions = [o.version for o in m.opset_import if o.domain in ('', 'ai.onnx')]
    if len(nodes) != 1 or nodes[0].domain not in ('', 'ai.onnx') or nodes[0].op_type in NO_TWIN or not versions or 'large_number' in case.name:
        return None
    schema = onnx.defs.get_schema(nodes[0].op_type, versions[0])
    allowed = {c.type_param_str: set(c.allowed_type_strs) for c in schema.type_constraints}
    infos, names = {v.name: v for v in [*m.graph.input, *m.graph.output]}, set()
    for values, formals in ((nodes[0].input, schema.inputs), (nodes[0].output, schema.outputs)):
        for i, name in enumerate(values):
            if name in infos and not infos[name].type.HasField('tensor_type'):
                return None
            if name in infos and infos[name].type.tensor_type.elem_type == TensorProto.FLOAT:
                formal = formals[min(i, len(formals) - 1)].type_str
                if text in allowed.get(formal, {formal}):
                    names.add(name)
    made = onnx.ModelProto()
    made.CopyFrom(m)
    for v in [*made.graph.input, *made.graph.output]:
        if v.name in names:
            v.type.tensor_type.elem_type = number
    return (names, made) if names else None


def write_twin(where, case, kind):
    number, dtype, text, tolerance = TWINS[kind]
    found = twin(case, number, text)
    if not found:
        return 0
    names, model = found
    turn = lambda values, infos: [numpy.asarray(x).astype(dtype) if infos[k].name in names else x for k, x in enumerate(values)]
    inputs, outputs = case.data_sets[0]
    write_case(f'{where}/node-{kind}/{case.name}',
               dataclasses.replace(case, model=model, rtol=tolerance[0], atol=tolerance[1],
                                   data_sets=[(turn(inputs, model.graph.input), turn(outputs, model.graph.output))]))
    return 1


def main(where):
    shutil.rmtree(where, ignore_errors=True)
    cases, twins = node.collect_testcases(None), 0
    for case in cases:
        write_case(f'{where}/node/{case.name}', case)
        twins += sum(write_twin(where, case, kind) for kind in TWINS)
    shipped = os.path.join(os.path.dirname(onnx.__file__), 'backend', 'test', 'data')
    for kind in ('simple', 'pytorch-converted', 'pytorch-operator', 'light'):
        shutil.copytree(f'{shipped}/{kind}', f'{where}/{kind}')
    print(f'onnx {onnx.__version__}: {len(cases)} node cases, {twins} in other types')


if __name__ == '__main__':
    main(sys.argv[1])
