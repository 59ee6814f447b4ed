#!/usr/bin/env python3
"""coreml.py REQUANT ROOT [NAME]...: the networks of the results table as Core ML packages.

ROOT is the folder that prepare.py made (model.onnx, eval.npz, task.json per network). Each network is written as a package in
f32 and in f16 for the lowest target that can express it and for the newest, read back and run on the first samples of eval.npz
beside the ONNX file. Prints a markdown table: operations of the program, the largest difference of any output (and the largest number
of it), how many samples have the same largest element, and whether coremltools (RQ_COREML_PYTHON names a python that has it) loads the
package. Exit 1 when a network cannot be written, or f32 is further off than 1e-3 of the largest number."""
import json, os, subprocess, sys, tempfile
import numpy as np

SHAPES = {'digits_cnn': 'image:1..16x1x8x8', 'digits_mobilenet': 'image:1..16x1x8x8', 'magika': 'bytes:1x2048',
          'opennsfw': 'input_0:1x224x224x3', 'ppocr_cls': 'x:1x3x48x192', 'ppocr_det': 'x:1x3x320x480', 'ppocr_rec': 'x:1x3x48x320',
          'silero_seq': 'input:128x576', 'silero_step': 'input:1x576'}
SAMPLES = 4
LOAD = r"""
import logging, sys, warnings
logging.disable(logging.CRITICAL); warnings.simplefilter('ignore')
from coremltools.converters.mil.frontend.milproto.load import load
from coremltools.models.utils import load_spec
spec = load_spec(sys.argv[1])
load(spec, specification_version=spec.specificationVersion, file_weights_dir=sys.argv[1] + '/Data/com.apple.CoreML/weights')
f = spec.mlProgram.functions['main']
print(sum(o.type != 'const' for o in f.block_specializations[f.opset].operations), spec.specificationVersion + 9)
"""


def run(command):
    p = subprocess.run(command, capture_output=True, text=True)
    if p.returncode:
        raise RuntimeError((p.stderr.strip().splitlines() or [f'exit {p.returncode}'])[-1])
    return p.stdout


def outputs(requant, model, data, tmp):
    run([requant, 'run', model, '-d', data, '-o', tmp + '/out.npz', '-q', '--batch', '1'])
    with np.load(tmp + '/out.npz') as z:
        return [z[k].astype(np.float64) for k in z.files]


def row(requant, root, name, compute, target, tmp):
    data = tmp + '/data.npz'
    with np.load(f'{root}/{name}/eval.npz') as z:
        np.savez(data, **{k: z[k][:SAMPLES] for k in z.files if not k.startswith('ref')})
    model, package = f'{root}/{name}/model.onnx', f'{tmp}/{name}-{compute}.mlpackage'
    options = ['--shape', SHAPES[name]] if name in SHAPES else []
    if target:
        options += ['--target', target]
    run([requant, 'convert', model, '-o', package, '--compute', compute, '-q', *options])
    want = outputs(requant, model, data, tmp)
    with np.load(data) as z:  # words of Core ML's own are no names of inputs, and an input has an axis at least
        np.savez(data, **{k + '_workaround' if k == 'state' else k: z[k][:, None] if z[k].ndim == 1 else z[k] for k in z.files})
    got = outputs(requant, package, data, tmp)
    off = max(np.abs(a.reshape(b.shape) - b).max() for a, b in zip(got, want))
    most = max(np.abs(b).max() for b in want)
    n = want[0].shape[0]
    same = int((got[0].reshape(n, -1).argmax(1) == want[0].reshape(n, -1).argmax(1)).sum())
    python = os.environ.get('RQ_COREML_PYTHON')
    loaded = run([python, '-c', LOAD, package]).split() if python else ['-', '-']
    print(f'| {name} | {compute} | iOS {loaded[1]} | {loaded[0]} | {off:.1e} | {most:.3g} | {same} of {n} |', flush=True)
    return compute != 'f32' or off <= 1e-3 * most


def main(requant, root, names):
    print('| network | floats | target | operations | largest difference | largest number | same largest element |')
    print('|---|---|---|--:|--:|--:|--:|')
    bad = False
    for name in names or sorted(os.listdir(root)):
        if not os.path.exists(f'{root}/{name}/task.json'):
            continue
        for compute, target in (('f32', None), ('f32', 'ios18'), ('f16', None)):
            with tempfile.TemporaryDirectory() as tmp:
                try:
                    bad |= not row(requant, root, name, compute, target, tmp)
                except RuntimeError as e:
                    bad = True
                    print(f'| {name} | {compute} | {target or ""} | {str(e)[:160]} | | | |', flush=True)
    return int(bad)


if __name__ == '__main__':
    sys.exit(main(os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]), sys.argv[3:]))
