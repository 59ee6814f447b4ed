#!/usr/bin/env python3
"""run.py BUILD [--coreml]: check every file the tests write with onnx's checker and with ONNX Runtime; with --coreml the
packages with coremltools, in an environment of its own.

Makes a virtual environment in BUILD with the pinned requirements (kept for the next time) and runs check.py in it. Offline it
says what it skipped and exits with 77; with CI=true that is a failure. RQ_INTEROP_PYTHON (RQ_COREML_PYTHON) names a python to use instead."""
import os, shutil, subprocess, sys

HERE = os.path.dirname(os.path.abspath(__file__))
COREML = '--coreml' in sys.argv
NAME = 'coreml' if COREML else 'interop'
PEERS = 'coremltools' if COREML else 'onnx or onnxruntime'
REQUIREMENTS = HERE + ('/requirements-coreml.txt' if COREML else '/requirements.txt')


def skip(why):
    print(f'{NAME}: skipped, nothing was compared with {PEERS}:', why)
    sys.exit(1 if os.environ.get('CI') == 'true' else 77)


def environment(build):
    """the python of the pinned environment, made if need be"""
    given = os.environ.get('RQ_COREML_PYTHON' if COREML else 'RQ_INTEROP_PYTHON')
    if given:
        return given
    where, want = f'{build}/{NAME}-venv', open(REQUIREMENTS).read()
    python, mark = where + '/bin/python', where + '/requirements.txt'
    if os.path.exists(mark) and open(mark).read() == want:
        return python
    shutil.rmtree(where, ignore_errors=True)
    for what in ([sys.executable, '-m', 'venv', where],
                 [python, '-m', 'pip', 'install', '-q', '--disable-pip-version-check', '--only-binary=:all:', '-r', REQUIREMENTS]):
        try:
            p = subprocess.run(what, capture_output=True, text=True, timeout=240)
        except (OSError, subprocess.TimeoutExpired) as e:
            skip(f'{" ".join(what[:4])}: {e}')
        if p.returncode:
            skip((p.stderr.strip().splitlines() or p.stdout.strip().splitlines() or ['exit %d' % p.returncode])[-1])
    shutil.copy(REQUIREMENTS, mark)
    return python


if __name__ == '__main__':
    build = os.path.abspath(sys.argv[1])
    rest = [a for a in sys.argv[2:] if a != '--coreml']
    sys.exit(subprocess.run([environment(build), HERE + ('/coreml.py' if COREML else '/check.py'), build, *rest]).returncode)
