"""Packages that `requant convert` makes of ONNX files: coremltools loads each (it infers every type again and compares), gives back the
description that it read, finds the operators that are expected, and quantizes the weights of those in floats; and run here they give what the ONNX
file gives: in fp32 within 1e-5 of the largest output, in fp16 within 2e-2, quantized within a step of the last scale."""
import collections, glob, os, shutil, subprocess
import numpy as np
import coremltools as ct
from coremltools.converters.mil.frontend.milproto.load import load
from coremltools.models.utils import load_spec

TARGETS = {'ios15': 6, 'ios16': 7, 'ios17': 8, 'ios18': 9}
QUANTIZED = dict(int8='--activations u8', codes8='--activations s8 --symmetric', tensor='--per-tensor', skewed='--affine-weights --activations u8')
PAIRS = dict(codes8=11)  # a ReLU is no part of codes around 0
WEIGHTS = dict(w8='--weights s8', w4='--weights s4', blocks='--weights u4 --affine-weights --block-size 16', nbits='--weights u4 --affine-weights --block-size 16 --weight-form matmulnbits')


class Converted:
    def __init__(self, fail, tmp, build, repo):
        self.fail, self.tmp, self.build, self.repo = fail, tmp, build, repo
        self.loaded = self.ran = self.again = self.refused = 0

    def requant(self, *args):
        return subprocess.run([self.build + '/requant', *args], capture_output=True, text=True, cwd=self.tmp)

    def operators(self, path):
        """of a package, as coremltools loads them; the description survives it"""
        spec = load_spec(path)
        prog = load(spec, specification_version=spec.specificationVersion, file_weights_dir=path + '/Data/com.apple.CoreML/weights')
        m = ct.models.MLModel(path, skip_model_load=True)
        again = path[:-len('.mlpackage')] + '-again.mlpackage'
        m.save(again)
        if load_spec(again).description != spec.description or m.get_spec() != spec:
            self.fail(f'{path}: another specification after get_spec and save')
        shutil.rmtree(again)
        return spec, collections.Counter(op.op_type for op in prog.functions['main'].operations if op.op_type != 'const')

    def outputs(self, model, data):
        p = self.requant('run', model, '-d', data, '-o', 'y.npz', '--batch', '1', '-q')
        if p.returncode:
            raise RuntimeError(f'run {model}: {p.stderr.strip()[-300:]}')
        y = np.load(self.tmp + '/y.npz')
        return {k: y[k] for k in y.files}

    def same(self, name, onnx, package, data, tolerance):
        want, got = self.outputs(onnx, data), self.outputs(package, data)
        for k, w in want.items():
            g = got.get(k, got.get(''.join(c if c.isalnum() else '_' for c in k)))
            most = max(np.abs(w).max(), 1e-6)
            if g is None or g.shape != w.shape or not np.abs(g - w).max() <= tolerance * most:
                self.fail(f'{name}: {k} differs by {np.abs(g - w).max() if g is not None and g.shape == w.shape else "its shape"}, at most {tolerance * most} is allowed')
        self.ran += 1

    def convert(self, name, onnx, target, compute, want=None, least=0, data=None, tolerance=1e-5, shape=None):
        """of this target; below `least` it must be refused and nothing be written"""
        out = f'{self.tmp}/{name}-{target}-{compute}.mlpackage'
        p = self.requant('convert', onnx, out, '-q', '--target', target, '--compute', compute, *(['--shape', shape] if shape else []))
        if TARGETS[target] < least:
            self.refused += 1
            if p.returncode != 1 or os.path.exists(out) or f'; iOS {least + 9} can' not in p.stderr:
                self.fail(f'{name} {target}: should be refused, naming iOS {least + 9}: {p.stderr.strip()[-200:]}')
            return
        try:
            if p.returncode:
                raise RuntimeError(p.stderr.strip()[-300:])
            spec, ops = self.operators(out)
            self.loaded += 1
            if spec.specificationVersion != TARGETS[target]:
                self.fail(f'{name} {target}: specification {spec.specificationVersion}')
            for op, n in (want or {}).items():
                if ops[op] != n:
                    self.fail(f'{name} {target} {compute}: {ops[op]} {op}, expected {n}; {dict(ops)}')
            if data:
                self.same(f'{name} {target} {compute}', onnx, out, data, 2e-2 if compute == 'f16' else tolerance)
            if TARGETS[target] > 6 and not want:
                cfg = ct.optimize.coreml.OptimizationConfig(global_config=ct.optimize.coreml.OpLinearQuantizerConfig(mode='linear_symmetric', weight_threshold=64))
                ct.optimize.coreml.linear_quantize_weights(ct.models.MLModel(out, skip_model_load=True), cfg)
                self.again += 1
        except Exception as e:
            self.fail(f'{name} {target} {compute}: {type(e).__name__}: {str(e)[:300]}')
        shutil.rmtree(out, ignore_errors=True)

    def digits(self):
        digits = self.repo + '/models/digits-cnn.onnx'
        test = np.load(self.repo + '/models/digits-test.npz')
        np.savez(self.tmp + '/digits.npz', **{k: test[k][:8] for k in test.files})
        for target in TARGETS:
            for compute in ('f32', 'f16'):
                self.convert('digits', digits, target, compute, data='digits.npz')
        products = dict(conv=3, linear=2)
        for kind, options in QUANTIZED.items():
            onnx = f'{self.tmp}/{kind}.onnx'
            p = self.requant('quantize', digits, '-d', self.repo + '/models/digits-train.npz', '-o', onnx, '-q', *options.split())
            if p.returncode:
                self.fail(f'{kind}: {p.stderr.strip()[-300:]}')
            for target in TARGETS:
                new = target == 'ios18'
                want = dict(products, constexpr_affine_dequantize=0 if new else 5, constexpr_blockwise_shift_scale=5 if new else 0, quantize=PAIRS.get(kind, 7), dequantize=PAIRS.get(kind, 7))
                for compute in ('f32', 'f16'):  # one code in the last layer's input may round the other way
                    self.convert(kind, onnx, target, compute, want, 8, 'digits.npz', 2e-2)
        for kind, options in WEIGHTS.items():
            onnx = f'{self.tmp}/{kind}.onnx'
            p = self.requant('quantize', digits, '-o', onnx, '-q', '--mode', 'weight-only', *options.split())
            if p.returncode:
                self.fail(f'{kind}: {p.stderr.strip()[-300:]}')
            for target in TARGETS:
                new = target == 'ios18'
                want = dict(products, constexpr_affine_dequantize=0 if new else 5, constexpr_blockwise_shift_scale=5 if new else 0) if kind in ('w8', 'w4') else products
                for compute in ('f32', 'f16'):
                    self.convert(kind, onnx, target, compute, want, 7 if kind == 'w8' else 9, 'digits.npz', 1e-5)

    def interfaces(self):
        """shapes that vary, images, labels"""
        digits = self.repo + '/models/digits-cnn.onnx'
        open(self.tmp + '/labels', 'w').write(''.join(f'digit {i}\n' for i in range(10)))
        for name, options in dict(range=['--shape', 'image:1..16x1x8x8'], listed=['--shape', 'image:1x1x8x8,4x1x8x8'], image=['--image', 'image:0.0625:-0.5:gray'],
                                  labels=['--labels', 'labels', '--compute', 'f16'], all=['--image', 'image:0.0625:-0.5:gray', '--labels', 'labels', '--compute', 'f16', '--target', 'ios18']).items():
            out = f'{self.tmp}/{name}.mlpackage'
            p = self.requant('convert', digits, out, '-q', *options)
            try:
                if p.returncode:
                    raise RuntimeError(p.stderr.strip()[-300:])
                spec, _ = self.operators(out)
                self.loaded += 1
                t = spec.description.input[0].type
                right = dict(range=lambda: [(r.lowerBound, r.upperBound) for r in t.multiArrayType.shapeRange.sizeRanges] == [(1, 16), (1, 1), (8, 8), (8, 8)],
                             listed=lambda: [list(s.shape) for s in t.multiArrayType.enumeratedShapes.shapes] == [[1, 1, 8, 8], [4, 1, 8, 8]],
                             image=lambda: (t.imageType.width, t.imageType.height, t.imageType.colorSpace) == (8, 8, 10),
                             labels=lambda: spec.description.predictedFeatureName == 'classLabel' and len(spec.description.output) == 2,
                             all=lambda: t.WhichOneof('Type') == 'imageType' and spec.description.predictedProbabilitiesName == 'classLabel_probs')[name]()
                if not right:
                    self.fail(f'{name}: {spec.description}')
            except Exception as e:
                self.fail(f'{name}: {type(e).__name__}: {str(e)[:300]}')

    def networks(self):
        """whatever can be expressed"""
        for onnx in sorted(glob.glob(self.repo + '/tests/golden/grad/net_*.onnx') + glob.glob(self.repo + '/models/digits-uneven.onnx')):
            name = os.path.basename(onnx)[:-5]
            p = self.requant('convert', onnx, f'{self.tmp}/{name}.mlpackage', '-q', '--target', 'ios18')
            if p.returncode:
                self.refused += 1
                if 'cannot be expressed' not in p.stderr:
                    self.fail(f'{name}: {p.stderr.strip()[-300:]}')
                continue
            try:
                self.operators(f'{self.tmp}/{name}.mlpackage')
                self.loaded += 1
            except Exception as e:
                self.fail(f'{name}: {type(e).__name__}: {str(e)[:300]}')


def check(fail, tmp, build, repo):
    c = Converted(fail, tmp, build, repo)
    c.digits()
    c.interfaces()
    c.networks()
    print(f'coremltools loaded {c.loaded} packages converted from ONNX files and quantized {c.again} of them; {c.ran} were run, {c.refused} refused as they should be')
