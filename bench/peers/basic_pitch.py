#!/usr/bin/env python3
"""basic_pitch.py REQUANT [FOLDER]: one network as its authors give it twice, as ONNX and as a Core ML package, and what requant makes of both.

Spotify's basic-pitch (its wheel from PyPI, unpacked into FOLDER) finds notes in audio. Both files run here on windows of synthetic chords; the ONNX file
becomes a package, and both become integers. Prints a table in Markdown; exits with 1 where two floats differ by more than 1e-3. Needs numpy and pip."""
import glob, os, subprocess, sys, tempfile, zipfile
import numpy as np

REQUANT = os.path.abspath(sys.argv[1])
FOLDER = os.path.abspath(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp())
WHEEL = 'basic-pitch==0.4.0'
ONNX_IN, ML_IN = 'serving_default_input_2:0', 'input_2'
# the same three tensors: contours, notes, onsets
ONNX_OUT = ['StatefulPartitionedCall:0', 'StatefulPartitionedCall:1', 'StatefulPartitionedCall:2']
ML_OUT = ['Identity', 'Identity_1', 'Identity_2']
# Core ML takes no colons in names
OWN_IN, OWN_OUT = ONNX_IN.replace(':', '_'), [n.replace(':', '_') for n in ONNX_OUT]
FRONT = '*cq_t2010v2_1*'  # the filter bank in front of the network: numbers over many orders of magnitude


def window(r, n=43844, rate=22050):
    """two seconds of decaying notes with harmonics, and a little noise"""
    t, y = np.arange(n) / rate, np.zeros(n)
    for _ in range(r.integers(2, 9)):
        f, at = 440 * 2 ** ((r.integers(36, 85) - 69) / 12), r.uniform(0, 1.6)
        loud = np.exp(-np.maximum(t - at, 0) * r.uniform(1, 6)) * (t >= at) * np.clip((t - at) / 0.01, 0, 1)
        for h in range(1, r.integers(3, 9)):
            y += r.uniform(.2, 1) / h * loud * np.sin(2 * np.pi * f * h * (t - at) + r.uniform(0, 6.28))
    y += r.normal(0, .003, n)
    return (y * r.uniform(.1, .9) / np.abs(y).max()).astype(np.float32)[:, None]


def data():
    for name, n, seed in (('calib', 16, 1), ('test', 12, 2)):
        r = np.random.default_rng(seed)
        x = np.stack([window(r) for _ in range(n)])
        np.savez(f'{FOLDER}/{name}-onnx.npz', **{ONNX_IN: x})
        np.savez(f'{FOLDER}/{name}-ml.npz', **{ML_IN: x[:, None]})  # each row a whole feed
        np.savez(f'{FOLDER}/{name}-own.npz', **{OWN_IN: x[:, None]})


def requant(*args):
    p = subprocess.run([REQUANT, *args, '-q'], cwd=FOLDER, capture_output=True, text=True)
    if p.returncode:
        sys.exit(f'requant {" ".join(args)}: {p.stderr.strip()}')


def outputs(model, which, names):
    requant('run', model, '-d', f'test-{which}.npz', '-o', 'out.npz')
    got = np.load(FOLDER + '/out.npz')
    return [got[n].reshape(12, 172, -1) for n in names]


def main():
    os.makedirs(FOLDER, exist_ok=True)
    if not glob.glob(FOLDER + '/*.whl'):
        subprocess.run([sys.executable, '-m', 'pip', 'download', '-q', '--no-deps', '-d', FOLDER, WHEEL], check=True)
    with zipfile.ZipFile(glob.glob(FOLDER + '/basic_pitch*.whl')[0]) as z:
        z.extractall(FOLDER, [n for n in z.namelist() if '/nmp.onnx' in n or '/nmp.mlpackage/' in n])
    at = 'basic_pitch/saved_models/icassp_2022/nmp'
    data()
    rows, worst = [], 0

    def row(what, model, which, names, floats):
        nonlocal worst
        got = outputs(model, which, names)
        far = max(float(np.abs(a - b).max()) for a, b in zip(got, base))
        db = [10 * np.log10((b.astype(np.float64) ** 2).sum() / max(((a - b).astype(np.float64) ** 2).sum(), 1e-30)) for a, b in zip(got, base)]
        if floats:
            worst = max(worst, far)
        path = FOLDER + '/' + model
        size = sum(os.path.getsize(f) for f in ([path] if os.path.isfile(path) else glob.glob(path + '/**', recursive=True)) if os.path.isfile(f))
        rows.append(f'| {what} | {size / 1000:.0f} kB | {far:.2g} | ' + ' | '.join(f'{min(d, 200):.1f}' for d in db) + ' |')

    base = outputs(at + '.onnx', 'onnx', ONNX_OUT)
    row('its ONNX file', at + '.onnx', 'onnx', ONNX_OUT, True)
    row('its Core ML package', at + '.mlpackage', 'ml', ML_OUT, True)
    requant('convert', at + '.onnx', 'own.mlpackage', '--shape', ONNX_IN + ':1x43844x1')
    row('ONNX to a package by requant', 'own.mlpackage', 'own', OWN_OUT, True)
    requant('convert', at + '.mlpackage', 'own.onnx')
    row('its package to ONNX by requant', 'own.onnx', 'ml', ML_OUT, True)
    requant('quantize', at + '.mlpackage', '-o', 'w8.mlpackage', '--mode', 'weight-only')
    row('its package, W8', 'w8.mlpackage', 'ml', ML_OUT, False)
    requant('quantize', at + '.mlpackage', '-o', 'w8a8.mlpackage', '--mode', 'static', '-d', 'calib-ml.npz')
    row('its package, W8A8', 'w8a8.mlpackage', 'ml', ML_OUT, False)
    with open(FOLDER + '/but.yaml', 'w') as f:
        f.write(f"config_type: OpLinearQuantizerConfig\nglobal_config: {{}}\nop_name_configs: {{'{FRONT}': null}}\n")
    requant('quantize', at + '.mlpackage', '-o', 'but-w8a8.mlpackage', '--mode', 'static', '-d', 'calib-ml.npz', '--config', 'but.yaml')
    row('the same but the filter bank', 'but-w8a8.mlpackage', 'ml', ML_OUT, False)
    requant('quantize', at + '.onnx', '-o', 'int8.onnx', '-d', 'calib-onnx.npz')
    row('its ONNX file, int8', 'int8.onnx', 'onnx', ONNX_OUT, False)
    requant('quantize', at + '.onnx', '-o', 'but.onnx', '-d', 'calib-onnx.npz', '--exclude', FRONT)
    row('the same but the filter bank', 'but.onnx', 'onnx', ONNX_OUT, False)
    requant('convert', 'but.onnx', 'but.mlpackage', '--shape', ONNX_IN + ':1x43844x1')
    row('that as a package', 'but.mlpackage', 'own', OWN_OUT, False)
    print('| | size | largest difference | contours, dB | notes, dB | onsets, dB |\n|---|---|---|---|---|---|')
    print('\n'.join(rows))
    if worst > 1e-3:
        sys.exit(f'two files of one network differ by {worst:.3g}, expected 1e-3 at most')


if __name__ == '__main__':
    main()
