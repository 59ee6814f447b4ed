#!/usr/bin/env python3
"""coreml.py BUILD: ONNX's own test cases by way of Core ML packages.

Each model is written as a package for the lowest target that can express it, read back, run, and compared with the expected
output (BUILD/tests/run_onnx --coreml); as many as AT_LEAST says must pass, and none may fail. Those of one operator are saved, too,
and coremltools must load every one: it infers the type of each operation and compares it with what we wrote. Without coremltools
(tests/interop/run.py --coreml makes its environment; RQ_COREML_PYTHON names another) that part is said to be left out."""
import os, subprocess, sys, tempfile
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import run

# what passes of onnx 1.23.2; raise it when more does
AT_LEAST = {'node': 1325, 'node-f16': 651, 'node-f64': 649, 'pytorch-converted': 80, 'pytorch-operator': 31, 'simple': 7}
LOAD = r"""
import logging, os, sys, warnings
logging.disable(logging.CRITICAL); warnings.simplefilter('ignore')
from coremltools.converters.mil.frontend.milproto.load import load
from coremltools.models.utils import load_spec
bad, names = 0, sorted(os.listdir(sys.argv[1]))
for name in names:
    path = os.path.join(sys.argv[1], name)
    try:
        spec = load_spec(path)
        load(spec, specification_version=spec.specificationVersion, file_weights_dir=path + '/Data/com.apple.CoreML/weights')
    except Exception as e:
        bad += 1
        print('FAIL', name, type(e).__name__, str(e)[:200].replace('\n', ' '))
print(f'coremltools loaded {len(names) - bad} of {len(names)} packages')
sys.exit(bad > 0)
"""


def coremltools(build):
    python = os.environ.get('RQ_COREML_PYTHON', build + '/coreml-venv/bin/python')
    return python if os.path.exists(python) else None


def main(build):
    cases = run.newest(build)
    if not cases:
        print('onnx coreml: not run: the newest cases (the onnx package is not to be had here)')
        return 1 if os.environ.get('CI') == 'true' else 77
    rc = 0
    with tempfile.TemporaryDirectory() as tmp:
        for kind, least in AT_LEAST.items():
            print(f'=== {kind}', flush=True)
            save = ['--save', tmp] if kind == 'node' else []
            rc = subprocess.run([build + '/tests/run_onnx', f'{cases}/{kind}', '--coreml', '0', '--at-least', str(least), *save]).returncode or rc
        python = coremltools(build)
        if not python:
            print('onnx coreml: coremltools is not there: packages were not loaded by it')
        elif os.listdir(tmp):
            rc = subprocess.run([python, '-c', LOAD, tmp]).returncode or rc
    return rc


if __name__ == '__main__':
    sys.exit(main(os.path.abspath(sys.argv[1])))
