"""Packages that `requant quantize` palettizes, prunes and compresses jointly, and that `requant convert --metadata` makes of networks of
coremltools.optimize.torch: coremltools loads each (it infers every type again and compares), and what it decompresses them to is what
`requant convert --decompress` writes."""
import glob, json, os, subprocess, zipfile
import numpy as np
import coremltools as ct
import coremltools.optimize.coreml as cto
from coremltools.converters.mil.frontend.milproto.load import load
from coremltools.models.utils import load_spec

LUT, SPARSE, SCALE = 'constexpr_lut_to_dense', 'constexpr_sparse_to_dense', 'constexpr_blockwise_shift_scale'
PALETTE = dict(config_type='OpPalettizerConfig', global_config=dict(nbits=4, weight_threshold=100))
GROUPS = dict(config_type='OpPalettizerConfig', global_config=dict(nbits=3, granularity='per_grouped_channel', group_size=4, weight_threshold=100))
VECTORS = dict(config_type='OpPalettizerConfig', global_config=dict(nbits=4, cluster_dim=2, weight_threshold=100))
SCALED = dict(config_type='OpPalettizerConfig', global_config=dict(nbits=4, enable_per_channel_scale=True, weight_threshold=100))
UNIQUE = dict(config_type='OpPalettizerConfig', op_name_configs=dict(levels=dict(mode='unique', weight_threshold=100)))
PRUNE = dict(config_type='OpMagnitudePrunerConfig', global_config=dict(target_sparsity=0.5, weight_threshold=100))
RATIO = dict(config_type='OpMagnitudePrunerConfig', global_config=dict(n_m_ratio=[2, 4], weight_threshold=100))
QUANTIZE = dict(config_type='OpLinearQuantizerConfig', global_config=dict(mode='linear', weight_threshold=100))
TENSOR = dict(config_type='OpLinearQuantizerConfig', global_config=dict(granularity='per_tensor', weight_threshold=100))
OLD = [([PALETTE], {LUT}), ([UNIQUE], {LUT}), ([PRUNE], {SPARSE}), ([RATIO], {SPARSE})]
NEW = [([GROUPS], {LUT}), ([VECTORS], {LUT}), ([SCALED], {SCALE, LUT}), ([PRUNE, PALETTE], {'constexpr_lut_to_sparse', SPARSE}),
       ([PRUNE, PALETTE, TENSOR], {SCALE, 'constexpr_lut_to_sparse', SPARSE}), ([PALETTE, TENSOR], {SCALE, LUT}),
       ([QUANTIZE, PALETTE], {SCALE, LUT}), ([QUANTIZE, PRUNE], {'constexpr_sparse_blockwise_shift_scale', SPARSE}),
       ([PALETTE, PRUNE], {'constexpr_lut_to_sparse', SPARSE})]


def types(path):
    spec = load_spec(path)
    prog = load(spec, specification_version=spec.specificationVersion, file_weights_dir=path + '/Data/com.apple.CoreML/weights')
    return {o.op_type for o in prog.functions['main'].operations if o.op_type.startswith('constexpr_')}


def weights(model):
    """float constants of two axes and more that operators read, in their order (passes of the reference join and rename operators)"""
    out = []
    for op in model._mil_program.functions['main'].operations if model._mil_program else []:
        if op.op_type == 'const':
            continue
        for name, v in sorted(op.inputs.items()):
            val = getattr(v, 'val', None)
            if name in ('weight', 'y') and isinstance(val, np.ndarray) and val.dtype in (np.float16, np.float32) and val.ndim > 1:
                out.append((op.name, name, val))
    return out


def check(fail, tmp, build, repo):
    done = 0

    def requant(*args):
        p = subprocess.run([build + '/requant', *args], capture_output=True, text=True, cwd=tmp)
        if p.returncode:
            raise RuntimeError(p.stderr.strip()[-300:])

    def decompressed(path):
        """both ways; the reference's through its own loader"""
        requant('convert', path, path + '.plain.mlpackage', '--decompress')
        theirs = cto.decompress_weights(ct.models.MLModel(path, skip_model_load=True))
        theirs.save(path + '.theirs.mlpackage')
        both = []
        for p in (path + '.plain.mlpackage', path + '.theirs.mlpackage'):
            spec = load_spec(p)
            m = ct.models.MLModel(p, skip_model_load=True)
            m._mil_program = load(spec, specification_version=spec.specificationVersion, file_weights_dir=p + '/Data/com.apple.CoreML/weights')
            both.append(weights(m))
        return both

    def same(name, path):
        ours, theirs = decompressed(path)
        if [w[1] for w in ours] != [w[1] for w in theirs] or not ours:
            fail(f'{name}: decompressed, other operators: {[w[:2] for w in ours]}, {[w[:2] for w in theirs]}')
        for a, b in zip(ours, theirs):
            if a[2].shape != b[2].shape or not np.allclose(a[2].astype(np.float64), b[2].astype(np.float64), rtol=1e-3 if a[2].dtype == np.float16 else 1e-6, atol=1e-7):
                fail(f'{name}: decompressed, {a[1]} of {a[0]} has other numbers')

    for base in ('ios16_f32', 'ios18_f16', 'ios18_f32'):
        zipfile.ZipFile(f'{repo}/tests/golden/coreml_siblings/{base}.zip').extractall(f'{tmp}/siblings')
        for i, (steps, want) in enumerate(OLD + (NEW if base.startswith('ios18') else [])):
            name = f'{base} {[s["config_type"] for s in steps]}'
            path = f'{tmp}/siblings/{base}.mlpackage'
            try:
                for k, config in enumerate(steps):
                    with open(f'{tmp}/c.yaml', 'w') as f:
                        json.dump(config, f)
                    out = f'{tmp}/siblings/{base}-{i}-{k}.mlpackage'
                    requant('quantize', path, '-o', out, '--mode', 'weight-only', '--config', f'{tmp}/c.yaml', '-q', *(['--joint'] if k else []))
                    path = out
                if types(path) != want:
                    fail(f'{name}: {types(path)}, expected {want}')
                same(name, path)
                done += 1
            except Exception as e:
                fail(f'{name}: {type(e).__name__}: {str(e)[:300]}')
    for state in sorted(glob.glob(repo + '/tests/golden/coreml_metadata/*.safetensors')):
        name = os.path.basename(state)[:-len('.safetensors')]
        try:
            path = f'{tmp}/{name}-own.mlpackage'
            requant('convert', state[:-len('safetensors')] + 'onnx', path, '--metadata', state, '-q')
            if not types(path):
                fail(f'{name}: no constexpr_ operations')
            same(name, path)
            done += 1
        except Exception as e:
            fail(f'{name}: {type(e).__name__}: {str(e)[:300]}')
    print(f'coremltools loaded and decompressed {done} packages that were palettized, pruned, compressed jointly, or made with metadata here')
