#!/usr/bin/env python3
"""coreml.py BUILD: Core ML packages that we write, in coremltools (which loads programs on Linux, but cannot run them).

Every golden package is written with other metadata, and with every weight made new; coremltools must load both, and find the
operations, names, types and constants that it finds in the golden one. An image classifier made by us must load, too. Its own
linear_quantize_weights must take our packages and leave the operations that it leaves of the golden ones; of programs under
random configs it must leave what ours leaves, bit for bit (coreml_weights.py)."""
import glob, os, subprocess, sys, tempfile
os.environ['TQDM_DISABLE'] = '1'
import logging
logging.disable(logging.WARNING)
import warnings
warnings.simplefilter('ignore')
import numpy as np
import coremltools as ct
from coremltools.converters.mil.frontend.milproto.load import load
from coremltools.models.utils import load_spec
import coreml_activations
import coreml_convert
import coreml_siblings
import coreml_weights

BUILD = os.path.abspath(sys.argv[1]); REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
bad = 0


def fail(text):
    global bad
    bad += 1
    print('FAIL', text)


def program(path):
    """(what the description says, every operation as coremltools loads it)"""
    spec = load_spec(path)
    prog = load(spec, specification_version=spec.specificationVersion, file_weights_dir=path + '/Data/com.apple.CoreML/weights')
    lines = []

    def block(b):
        for op in b.operations:
            ins = []
            for name, v in sorted(op.inputs.items()):
                for one in v if isinstance(v, (tuple, list)) else [v]:
                    val = getattr(one, 'val', None)
                    ins.append((name, one.name if val is None else None, None if val is None else (str(np.asarray(val).dtype), np.asarray(val).shape, np.asarray(val).tobytes() if np.asarray(val).dtype != object else str(val))))
            if op.op_type == "const":
                continue  # its value is part of what uses it; coremltools makes up names for some
            lines.append((op.op_type, op.name, [(o.name, str(o.dtype), tuple(str(s) for s in (o.shape or ()))) for o in op.outputs], ins))
            for inner in op.blocks:
                block(inner)
    for f in prog.functions.values():
        block(f)
    return spec, lines


def rewrite(jobs, tmp):
    with open(tmp + '/list', 'w') as f:
        f.write(''.join(' '.join(j) + '\n' for j in jobs))
    p = subprocess.run([BUILD + '/tests/rewrite_coreml', tmp + '/list'], capture_output=True, text=True)
    answers = p.stdout.splitlines()
    if p.returncode or len(answers) != len(jobs):
        fail(f'rewrite_coreml ends with {p.returncode} after {len(answers)} of {len(jobs)} jobs: {p.stderr[-300:]}')
    return answers


def quantized(path):
    cfg = ct.optimize.coreml.OptimizationConfig(global_config=ct.optimize.coreml.OpLinearQuantizerConfig(mode='linear_symmetric', weight_threshold=64))
    m = ct.optimize.coreml.linear_quantize_weights(ct.models.MLModel(path, skip_model_load=True), cfg)
    return [(o.type, o.name if hasattr(o, 'name') else '') for o in m.get_spec().mlProgram.functions['main'].block_specializations[m.get_spec().mlProgram.functions['main'].opset].operations]


def main():
    packages = sorted(glob.glob(REPO + '/tests/golden/coreml/*/*.mlpackage'))
    loaded = again = 0
    with tempfile.TemporaryDirectory() as tmp:
        jobs = [(job, p, f'{tmp}/{i}-{job}.mlpackage') for i, p in enumerate(packages) for job in ('change', 'weights')]
        jobs.append(('image', '-', tmp + '/image.mlpackage'))
        answers = rewrite(jobs, tmp)
        want = {}
        for (job, path, out), answer in zip(jobs, answers):
            name = f'{job} {os.path.basename(path)}'
            if answer != 'ok':
                fail(f'{name}: {answer}'); continue
            try:
                spec, lines = program(out)
                if job == 'image':
                    d = spec.description
                    if d.input[0].type.WhichOneof('Type') != 'imageType' or d.predictedFeatureName != 'classLabel' or [l[0] for l in lines] != ['mul', 'add', 'conv', 'reduce_mean', 'softmax', 'classify']:
                        fail(f'{name}: {d} {[l[0] for l in lines]}')
                    loaded += 1
                    continue
                if path not in want:
                    want[path] = program(path)
                if lines != want[path][1]:
                    fail(f'{name}: another program')
                a, b = want[path][0].description, spec.description
                if job == 'change':
                    if b.metadata.userDefined['requant.test'] != 'changed':
                        fail(f'{name}: no metadata')
                    del b.metadata.userDefined['requant.test']
                if a != b:
                    fail(f'{name}: another description')
                loaded += 1
            except Exception as e:
                fail(f'{name}: {type(e).__name__}: {str(e)[:300]}')
        for i, p in enumerate(packages):
            base = os.path.basename(p)
            if not base.endswith(('fp32.mlpackage', 'fp16.mlpackage')) or '/weights/' not in p or 'iOS18' not in base:
                continue
            try:
                if quantized(p) != quantized(f'{tmp}/{i}-weights.mlpackage'):
                    fail(f'linear_quantize_weights {base}: other operations')
                again += 1
            except Exception as e:
                fail(f'linear_quantize_weights {base}: {type(e).__name__}: {str(e)[:300]}')
        coreml_convert.check(fail, tmp, BUILD, REPO)
        coreml_activations.check(fail, tmp, BUILD, REPO)
        coreml_weights.check(BUILD, fail, rounds=2)
        coreml_siblings.check(fail, tmp, BUILD, REPO)
    print(f'coremltools loaded {loaded} of {len(jobs)} packages written here, and quantized {again} of them; {bad} failures')
    return 1 if bad or not again else 0


sys.exit(main())
