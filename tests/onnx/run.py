#!/usr/bin/env python3
"""run.py BUILD [DIR] [OPTION]...: ONNX's backend test cases through BUILD/tests/run_onnx.

Without DIR, both sets there are: Debian's package libonnx-testdata (opsets up to 17), and the newest, which the onnx package
of the interop environment writes to BUILD/onnx-cases (kept for the next time). A set that is not there is named; with none,
or in continuous integration with one missing, exit 77 or 1. Options go to run_onnx."""
import importlib.util, os, subprocess, sys

HERE = os.path.dirname(os.path.abspath(__file__))
DEBIAN = '/usr/share/libonnx-testdata/data'


def interop():
    spec = importlib.util.spec_from_file_location('interop', HERE + '/../interop/run.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def newest(build):
    """the folder of the newest cases, written if need be; None when there is no onnx package"""
    where, mark = build + '/onnx-cases', build + '/onnx-cases.made-by'
    try:
        python = interop().environment(build)
    except SystemExit:
        return None
    p = subprocess.run([python, '-c', 'import onnx; print(onnx.__version__)'], capture_output=True, text=True)
    made_by = p.stdout + open(HERE + '/write_cases.py').read()
    if p.returncode:
        print('onnx tests:', (p.stderr.strip().splitlines() or ['no onnx'])[-1])
        return None
    if not os.path.isdir(where) or not os.path.exists(mark) or open(mark).read() != made_by:
        p = subprocess.run([python, '-W', 'ignore', HERE + '/write_cases.py', where], text=True)
        if p.returncode:
            return None
        with open(mark, 'w') as f:
            f.write(made_by)
    return where


def main(build, given, options):
    missing = []
    if given:
        sets = [given]
    else:
        new = newest(build)
        sets = [d for d in (DEBIAN, new) if d and os.path.isdir(d)]
        if DEBIAN not in sets:
            missing.append("Debian's package libonnx-testdata")
        if not new:
            missing.append("the newest cases (the onnx package is not to be had here)")
    for what in missing:
        print('onnx tests: not there, not run:', what)
    if not sets or (missing and os.environ.get('CI') == 'true'):
        return 1 if os.environ.get('CI') == 'true' else 77
    rc = 0
    for d in sets:
        print(f'=== {d}', flush=True)
        rc = subprocess.run([build + '/tests/run_onnx', d, *options]).returncode or rc
    return rc


if __name__ == '__main__':
    rest = sys.argv[2:]
    given = rest.pop(0) if rest and not rest[0].startswith('-') else None
    sys.exit(main(os.path.abspath(sys.argv[1]), given, rest))
