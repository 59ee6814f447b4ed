"""Packages with integer activations (and weights) that requant makes of the networks of tests/golden/coreml_activations, in coremltools: it loads them,
finds a program of specification 8 with pairs in it, and its own linear_quantize_weights makes of the one with integer activations what
requant made: the same operations."""
import collections, glob, os, subprocess
import numpy as np
import coremltools as ct
from coremltools.models.utils import load_spec


def types(spec):
    f = spec.mlProgram.functions['main']
    return collections.Counter(o.type for o in f.block_specializations[f.opset].operations if o.type != 'const')


def check(fail, tmp, build, repo):
    done = 0
    rng = np.random.default_rng(1)
    config = ct.optimize.coreml.OptimizationConfig(
        global_config=ct.optimize.coreml.OpLinearQuantizerConfig(mode='linear_symmetric', weight_threshold=10))
    for p in sorted(glob.glob(repo + '/tests/golden/coreml_activations/*.mlpackage'))[::2]:
        name = os.path.basename(p)
        inputs = {i.name: rng.normal(size=(3, *i.type.multiArrayType.shape)).astype(np.float32)
                  for i in load_spec(p).description.input}
        np.savez(tmp + '/samples.npz', **inputs)
        out = [f'{tmp}/a8-{name}', f'{tmp}/w8a8-{name}']
        for path, mode in zip(out, ('activations', 'static')):
            r = subprocess.run([build + '/requant', 'quantize', p, '-o', path, '-d', tmp + '/samples.npz', '--mode', mode, '--quiet']
                               + ([] if mode == 'activations' else ['--weight-threshold', '10']), capture_output=True, text=True)
            if r.returncode:
                fail(f'{mode} {name}: {r.stderr[-300:]}')
        try:
            theirs = ct.optimize.coreml.linear_quantize_weights(ct.models.MLModel(out[0], skip_model_load=True), config).get_spec()
            ours = ct.models.MLModel(out[1], skip_model_load=True).get_spec()
            if ours.specificationVersion < 8 or not types(ours)['quantize']:
                fail(f'{name}: specification {ours.specificationVersion}, {types(ours)}')
            if types(ours) != types(theirs):
                fail(f'{name}: coremltools makes {types(theirs)} of our activations, we made {types(ours)}')
            done += 1
        except Exception as e:
            fail(f'{name}: {type(e).__name__}: {str(e)[:300]}')
    print(f'coremltools loaded {done} packages with integer activations')
