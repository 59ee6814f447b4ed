#!/usr/bin/env python3
"""light.py BUILD [DIR] [NAME]...: ONNX's light_* networks through the command: nine large topologies whose weights one number
fills. Each is run on the input its expected output was made from and compared with that, then quantized on made-up images.

DIR has the light_*.onnx files (default: what tests/onnx/run.py wrote to BUILD/onnx-cases). Prints a table; exit 1 when a number
is off or a command fails, 77 when the networks are not there."""
import array, glob, io, json, os, random, resource, struct, subprocess, sys, time, zipfile

RTOL, ATOL = 1e-3, 1e-7 # as ONNX's runner


def write_npy(path, shape, values):
    head = "{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }" % ''.join(f'{n},' for n in shape)
    head += ' ' * (63 - (len(head) + 10) % 64) + '\n'
    with open(path, 'wb') as f:
        f.write(b'\x93NUMPY\1\0' + struct.pack('<H', len(head)) + head.encode())
        values.tofile(f)


def read_npz(path):
    """the only array of an archive, as floats"""
    with zipfile.ZipFile(path) as z:
        data = z.read(z.namelist()[0])
    start = 10 + struct.unpack('<H', data[8:10])[0]
    a = array.array('f')
    a.frombytes(data[start:])
    return a


def varint(b, at):
    n = shift = 0
    while True:
        n |= (b[at] & 127) << shift
        shift += 7
        at += 1
        if not b[at - 1] & 128:
            return n, at


def read_tensor(path):
    """raw_data of a TensorProto of floats"""
    b, at = open(path, 'rb').read(), 0
    while at < len(b):
        tag, at = varint(b, at)
        n, at = varint(b, at)
        if tag & 7 == 2:
            if tag >> 3 == 9:
                a = array.array('f')
                a.frombytes(b[at:at + n])
                return a
            at += n
    raise ValueError(path)


def run(command):
    """seconds and peak MB of a command; raises with its words when it fails"""
    begin = time.monotonic()
    p = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    text = p.stdout.read().decode()
    _, status, use = os.wait4(p.pid, 0)
    p.returncode = os.waitstatus_to_exitcode(status)
    if p.returncode:
        raise RuntimeError(f'{os.path.basename(command[0])} {command[1]}: {text.strip()}')
    return time.monotonic() - begin, use.ru_maxrss / 1024


def one(requant, model, tmp, images):
    info = json.loads(subprocess.run([requant, 'info', model, '-q', '--json', '/dev/stdout'], capture_output=True, check=True).stdout)
    shape = info['inputs'][0]['shape']
    n = shape[0] * shape[1] * shape[2] * shape[3]
    write_npy(tmp + '/in.npy', shape, array.array('f', (i / n for i in range(n))))
    run([requant, 'run', model, '-d', tmp + '/in.npy', '-o', tmp + '/out.npz', '-q'])
    got, want = read_npz(tmp + '/out.npz'), read_tensor(model[:-5] + '_output_0.pb')
    off = max(abs(g - w) / (ATOL + RTOL * abs(w)) if g == g else float('inf') for g, w in zip(got, want))
    q = tmp + '/' + os.path.basename(model)[:-5] + '-int8.onnx'
    seconds, mb = run([requant, 'quantize', model, '-d', images, '-o', q, '-q', '--json', tmp + '/report.json'])
    report = json.load(open(tmp + '/report.json'))
    run([requant, 'run', q, '-d', tmp + '/in.npy', '-o', tmp + '/out.npz', '-q'])
    real = sum(1 for l in report['layers'] if l['reason_float'] is None)
    print(f"{os.path.basename(model)[6:-5]:16} {info['nodes']:5} {off:8.3f} {real:4}/{len(report['layers']):<4}"
          f"{report['float']['ms']:8.1f} {report['int8']['ms']:8.1f} {seconds:9.1f} {mb:8.0f} {os.path.getsize(q) / 1e6:8.1f}", flush=True)
    ok = len(got) == len(want) and off <= 1
    os.remove(q)
    return ok


def main(build, where, names):
    models = [m for m in sorted(glob.glob(where + '/light_*.onnx')) if not names or os.path.basename(m)[6:-5] in names]
    if not models:
        print(f'light: no light_*.onnx in {where}; make onnx-tests fetches them')
        return 77
    tmp = build + '/tests/tmp/light'
    os.makedirs(tmp, exist_ok=True)
    random.seed(1)
    write_npy(tmp + '/images.npy', [4, 3, 224, 224], array.array('f', (random.gauss(0, 1) for _ in range(4 * 3 * 224 * 224))))
    print('off: distance from the expected output, in tolerances (1 is the most allowed); integer: layers that run in integers;\n'
          'ms a batch of one, seconds and MB to quantize, MB written')
    print(f"{'network':16} {'nodes':>5} {'off':>8} {'integer':>9}{'float ms':>8} {'int8 ms':>8} {'quantize s':>9} {'peak MB':>8} {'file MB':>8}")
    bad = 0
    for m in models:
        try:
            bad += not one(build + '/requant', m, tmp, tmp + '/images.npy')
        except RuntimeError as e:
            print(f'FAIL {os.path.basename(m)}: {e}')
            bad += 1
    print(f'light: {len(models) - bad} passed, {bad} failed')
    return 1 if bad else 0


if __name__ == '__main__':
    build = os.path.abspath(sys.argv[1])
    rest = sys.argv[2:]
    where = rest.pop(0) if rest and os.path.isdir(rest[0]) else build + '/onnx-cases/light'
    sys.exit(main(build, where, rest))
