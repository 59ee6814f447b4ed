#!/usr/bin/env python3
"""write_cases.py DIR: the backend test cases of the installed onnx package, as folders of files.

A case is DIR/<kind>/<name> with model.onnx, test_data_set_N/{input,output}_i.pb, and tolerance.txt (relative, absolute) where
it is not the default one. Node cases are made by the package's own code; the others it ships as files, and they are copied."""
import os, shutil, sys

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


def main(where):
    shutil.rmtree(where, ignore_errors=True)
    cases = node.collect_testcases(None)
    for case in cases:
        write_case(f'{where}/node/{case.name}', case)
    shipped = os.path.join(os.path.dirname(onnx.__file__), 'backend', 'test', 'data')
    for kind in ('simple', 'pytorch-converted', 'pytorch-operator', 'light'):
        shutil.copytree(f'{shipped}/{kind}', f'{where}/{kind}')
    print(f'onnx {onnx.__version__}: {len(cases)} node cases')


if __name__ == '__main__':
    main(sys.argv[1])
