#!/usr/bin/env python3
"""results.py [--tool REQUANT] [--threads N] [--methods M,M ...] [TASK ...]: `requant quantize` on the tasks that prepare.py made, each command in a
process of its own (wall time, peak memory), the int8 model judged by evaluate.py as requant runs it and as onnxruntime runs it.
Adds to results.json in $RQ_REAL. results.py --table FILE writes the table, beside peers.json.
results.py --modes NAME,NAME ...: the modes dynamic and weight-only (the dict MODES; "all": every one), each without samples, or with those of calib.npz
where its name ends in "+data"; judged in openvino too where that is installed. --mode-table FILE writes their table.
results.py --forms NAME,NAME ...: the same for spellings and profiles (the dict FORMS), with what `requant lint` says of each file; --form-table FILE."""
import argparse, json, os, subprocess, sys, tempfile, time
HERE = os.path.dirname(os.path.abspath(__file__)); REPO = os.path.dirname(os.path.dirname(HERE)); sys.path.insert(0, HERE)
import numpy as np
import common, evaluate
REAL = os.environ.get('RQ_REAL', 'real')
ap = argparse.ArgumentParser()
ap.add_argument('--tool', default=REPO + '/build/requant'); ap.add_argument('--threads', default='1'); ap.add_argument('--methods', default='')
ap.add_argument('--modes', default=''); ap.add_argument('--mode-table'); ap.add_argument('--forms', default=''); ap.add_argument('--form-table'); ap.add_argument('--table'); ap.add_argument('--method-table'); ap.add_argument('--no-bench', action='store_true'); ap.add_argument('--memory', action='store_true', help='peak memory of percentile calibration of opennsfw for 16, 64 and 256 samples'); ap.add_argument('tasks', nargs='*')
A = ap.parse_args()
TASKS = ['digits_cnn', 'digits_mobilenet', 'ppocr_cls', 'ppocr_det', 'ppocr_rec', 'magika', 'silero_seq', 'silero_step', 'opennsfw']
MODES = {'dynamic': ['--mode', 'dynamic'], 'dynamic+data': ['--mode', 'dynamic'], 'rows': ['--mode', 'dynamic', '--per-row'],
         'conv': ['--mode', 'dynamic', '--dynamic-conv'], 'conv+data': ['--mode', 'dynamic', '--dynamic-conv'],
         'w8': ['--mode', 'weight-only'], 'w8+data': ['--mode', 'weight-only'],
         'w4': ['--mode', 'weight-only', '--weights', 'u4', '--affine-weights'], 'w4+data': ['--mode', 'weight-only', '--weights', 'u4', '--affine-weights']}
FORMS = {'qdq': [], 'qoperator': ['--format', 'qoperator'], **{p: ['--profile', p] for p in ('ort-cpu-arm64', 'tensorrt', 'qnn')}, 'qnn-u16': ['--profile', 'qnn', '--activations', 'u16']}
LINT = {'qdq': 'ort-cpu-x64', 'qoperator': 'ort-cpu-x64', 'qnn-u16': 'qnn'}  # whose rules; else those of the profile
HEAD = dict(classify='top1', agree='sqnr_db', ocr='char_acc', probmap='iou', vad='agree')


def measured(args):
    """run to its end: (exit code, wall seconds, peak MB, stderr)"""
    with tempfile.TemporaryFile() as e:
        t = time.time(); p = subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=e)
        _, status, use = os.wait4(p.pid, 0); p.returncode = os.waitstatus_to_exitcode(status)
        e.seek(0); return p.returncode, time.time() - t, use.ru_maxrss / 1024, e.read().decode(errors='replace').strip()[-300:]


def one(task, method):
    d = f'{REAL}/{task}'; t = json.load(open(d + '/task.json')); w = f'{d}/ours'; os.makedirs(w, exist_ok=True)
    key = method or 'default'; out = f'{w}/{key}.onnx'; r = {}
    common_opts = ['--threads', A.threads, '--batch', str(t['batch_size'])]
    code, s, mb, said = measured([A.tool, 'quantize', d + '/model.onnx', '-d', d + '/calib.npz', '-o', out, '--json', f'{w}/{key}.json', *common_opts, *(['--method', method] if method else [])])
    r.update(wall_s=round(s, 2), peak_rss_mb=round(mb))
    if code:
        return dict(r, error=f'quantize ended with {code}: {said}')
    r['size'] = os.path.getsize(out); r['peak_rss_mb'] = round(json.load(open(f'{w}/{key}.json'))['peak_rss_mb'])  # its own: ru_maxrss starts at this script's size
    code, s, mb, said = measured([A.tool, 'run', out, '-d', d + '/eval.npz', '-o', w + '/out.npz', *common_opts])
    if code:
        r['error'] = f'run ended with {code}: {said}'
    else:
        r['metric'] = evaluate.evaluate(d, common.load(w + '/out.npz')); r['run_s'] = round(s, 2); r['run_rss_mb'] = round(mb)
    try:
        o, _, _ = common.run_model(t, out, common.load(d + '/eval.npz')); r['onnxruntime'] = evaluate.evaluate(d, o)
    except Exception as e:
        r['onnxruntime_error'] = str(e)[:200]
    if not A.no_bench:
        code, _, _, said = measured([A.tool, 'bench', out, '--against', d + '/model.onnx', '-d', d + '/eval.npz', '--json', w + '/bench.json', *common_opts])
        if code == 0:
            b = json.load(open(w + '/bench.json')); r['ms'] = round(b['median_ms'], 3); r['float_ms'] = round(b['against']['median_ms'], 3)
        else:
            r['bench_error'] = said
    return r


def openvino_run(task, path, npz):
    import openvino as ov
    m = ov.Core().compile_model(path, 'CPU', {'INFERENCE_PRECISION_HINT': 'f32', 'INFERENCE_NUM_THREADS': int(A.threads)})
    names = [next((n for n in sorted(i.names) if n in npz), '') for i in m.inputs]  # a port has several names, in no order
    called = {o: next((n for n in sorted(o.names) if n in task['outputs']), '') for o in m.outputs}; outs = {n: [] for n in called.values()}
    for f in common.feeds(task, npz, [n for n in names if n in npz]):
        y = m(f)
        for o in m.outputs:
            outs[called[o]].append(y[o])
    join = np.stack if task['feed'] == 'sample' else np.concatenate
    return {n: join(v) for n, v in outs.items() if n in task['outputs']}


def one_mode(task, mode):
    form = mode in FORMS
    d = f'{REAL}/{task}'; t = json.load(open(d + '/task.json')); w = f'{d}/ours'; os.makedirs(w, exist_ok=True); out = f'{w}/{"form" if form else "mode"}-{mode}.onnx'
    common_opts = ['--threads', A.threads, '--batch', str(t['batch_size'])]
    code, s, mb, said = measured([A.tool, 'quantize', d + '/model.onnx', '-o', out, *(FORMS if form else MODES)[mode], *common_opts, *(['-d', d + '/calib.npz'] if form or mode.endswith('+data') else [])])
    r = dict(wall_s=round(s, 2), peak_rss_mb=round(mb))
    if code:
        return dict(r, error=f'quantize ended with {code}: {said}')
    if form:
        profile = LINT.get(mode, mode)
        measured([A.tool, 'lint', out, '--profile', profile, '--json', w + '/lint.json', '-q'])
        v = json.load(open(w + '/lint.json')); r['lint'] = {k: v[k] for k in ('profile', 'integer', 'gone', 'float', 'refused')}
    r['size'] = os.path.getsize(out); npz = common.load(d + '/eval.npz')
    code, s, mb, said = measured([A.tool, 'run', out, '-d', d + '/eval.npz', '-o', f'{w}/out-{mode}.npz', *common_opts])
    if code:
        r['error'] = f'run ended with {code}: {said}'
    else:
        r['metric'] = evaluate.evaluate(d, common.load(f'{w}/out-{mode}.npz')); r['run_s'] = round(s, 2)
    for engine, run in ('onnxruntime', lambda: common.run_model(t, out, npz)[0]), ('openvino', lambda: openvino_run(t, out, npz)):
        try:
            r[engine] = evaluate.evaluate(d, run())
        except ImportError:
            pass
        except (Exception, SystemExit) as e:
            r[engine + '_error'] = (str(e).strip().splitlines() or [type(e).__name__])[-1][:200]
    return r


def form_table(path):
    ours, peers = json.load(open(REAL + '/results.json')), json.load(open(REAL + '/peers.json')); fs = list(FORMS)
    L = ['| network | metric | float | ' + ' | '.join(fs) + ' |', '|---' * (len(fs) + 3) + '|']
    I = ['| operators in integers | ' + ' | '.join(fs) + ' |', '|---' * (len(fs) + 1) + '|']
    for task in TASKS:
        h = HEAD[peers[task]['float']['kind']]; g = lambda m: ours.get(task, {}).get('forms', {}).get(m) or {}
        n = lambda v: 'fails' if h not in v else f'{v[h]:.4f}' if abs(v[h]) < 10 else f'{v[h]:.1f}'
        e = lambda m, k: n(g(m)[k]) if k in g(m) else 'refused' if k + '_error' in g(m) else '-'
        L.append(f"| {task} | {h} | {n(peers[task]['float']['metric'])} | " + ' | '.join(g(m) and '; '.join(e(m, k) for k in ('metric', 'onnxruntime', 'openvino')) or '-' for m in fs) + ' |')
        I.append(f'| {task} | ' + ' | '.join(f"{g(m)['lint']['integer'] + g(m)['lint']['gone']} of {sum(v for k, v in g(m)['lint'].items() if k != 'profile')}" if 'lint' in g(m) else '-' for m in fs) + ' |')
    mark, end = '<!-- table: tools/real/results.py --form-table -->', '<!-- end of form table -->'
    s = open(path).read(); head, tail = (s.split(mark)[0], s.split(end)[1]) if mark in s else (s.rstrip('\n') + '\n\n', '\n')
    open(path, 'w').write(head + mark + '\n' + '\n'.join(L + [''] + I) + '\n' + end + tail)


def mode_table(path):
    ours, peers = json.load(open(REAL + '/results.json')), json.load(open(REAL + '/peers.json')); ms = list(MODES)
    n = lambda v, h: '-' if not v else 'fails' if h not in v.get('metric', {}) else f"{v['metric'][h]:.4f}" if abs(v['metric'][h]) < 10 else f"{v['metric'][h]:.1f}"
    L = ['| network | metric | float | onnxruntime dynamic | ' + ' | '.join(ms) + ' |', '|---' * (len(ms) + 4) + '|']
    S = ['| kB | float | onnxruntime dynamic | ' + ' | '.join(ms) + ' |', '|---' * (len(ms) + 3) + '|']
    E = ['| the same file in onnxruntime; openvino | ' + ' | '.join(ms) + ' |', '|---' * (len(ms) + 1) + '|']
    for task in TASKS:
        p = peers[task]; h = HEAD[p['float']['kind']]; g = lambda m: ours.get(task, {}).get('modes', {}).get(m)
        L.append(f"| {task} | {h} | {n(p['float'], h)} | {n(p.get('dynamic'), h)} | " + ' | '.join(n(g(m), h) for m in ms) + ' |')
        S.append(f"| {task} | {p['float']['size'] / 1e3:.0f} | {p.get('dynamic', {}).get('size', 0) / 1e3:.0f} | " + ' | '.join('-' if not g(m) else f"{g(m).get('size', 0) / 1e3:.0f}" for m in ms) + ' |')
        e = lambda v, k: '-' if not v else n({'metric': v[k]}, h) if k in v else 'refused' if k + '_error' in v else '-'
        E.append(f'| {task} | ' + ' | '.join(e(g(m), 'onnxruntime') + '; ' + e(g(m), 'openvino') for m in ms) + ' |')
    mark, end = '<!-- table: tools/real/results.py --mode-table -->', '<!-- end of mode table -->'
    s = open(path).read(); head, tail = (s.split(mark)[0], s.split(end)[1]) if mark in s else (s.rstrip('\n') + '\n\n', '\n')
    open(path, 'w').write(head + mark + '\n' + '\n'.join(L + [''] + S + [''] + E) + '\n' + end + tail)


def table(path):
    ours, peers = json.load(open(REAL + '/results.json')), json.load(open(REAL + '/peers.json'))
    L = ['| network | metric | float | requant | the same file in onnxruntime | onnxruntime min-max | its best static | its dynamic |', '|---' * 8 + '|']
    C = ['| network | quantize s: requant | onnxruntime min-max | percentile | peak MB: requant | min-max | percentile | file kB: float | int8 | ms: float | int8 | onnxruntime float | its int8 |', '|---' * 13 + '|']
    for task in TASKS:
        v, p = ours.get(task, {}).get('default', {}), peers.get(task, {}); f = p.get('float', {}); h = HEAD[f['kind']]
        get = lambda m: p.get(m, {}).get('metric', {}).get(h)
        static = {m: get(m) for m in p if m not in ('float', 'pre', 'dynamic') and not m.startswith('w') and get(m) is not None}
        best = max(static, key=static.get) if static else None
        n = lambda x: 'fails' if x is None else f'{x:.4f}' if abs(x) < 10 else f'{x:.1f}'
        L.append(f"| {task} | {h} | {n(f['metric'][h])} | {n(v['metric'][h]) if 'metric' in v else v.get('error', 'not run')} | {n(v.get('onnxruntime', {}).get(h))} | {n(get('minmax_u8s8'))} | {n(static[best]) + ' ' + best if best else 'all fail'} | {n(get('dynamic'))} |")
        s = lambda m, k: p.get(m, {}).get(k) if 'metric' in p.get(m, {}) else None
        pct = next((m for m in ('pct9999_u8s8', 'pct9999_u8s8@16', 'pct9999_u8s8@32') if 'metric' in p.get(m, {})), 'pct9999_u8s8')
        x = lambda y: '-' if y is None else y
        C.append(f"| {task} | {x(v.get('wall_s'))} | {x(s('minmax_u8s8', 'wall_s'))} | {x(s(pct, 'wall_s'))} | {x(v.get('peak_rss_mb'))} | {x(s('minmax_u8s8', 'peak_rss_mb'))} | {x(s(pct, 'peak_rss_mb'))} | {f['size'] / 1e3:.0f} | {v.get('size', 0) / 1e3:.0f} | {x(v.get('float_ms'))} | {x(v.get('ms'))} | {x(f.get('ms_quiet', f.get('ms')))} | {x(p.get('minmax_u8s8', {}).get('ms_quiet', p.get('minmax_u8s8', {}).get('ms')))} |")
    M = [f"| {k} | {v.get('peak_rss_mb', v.get('error'))} | {v.get('wall_s', '-')} |" for k, v in sorted(ours.get('memory', {}).items(), key=lambda kv: int(kv[0]))]
    M = ['', '| samples, percentile calibration of opennsfw | peak MB | s |', '|---|---|---|'] + M if M else []
    mark, end = '<!-- table: tools/real/results.py --table -->', '<!-- end of table -->'
    s = open(path).read() if os.path.exists(path) else ''
    head, tail = (s.split(mark)[0], s.split(end)[1] if end in s else '\n') if mark in s else (s, '\n')
    open(path, 'w').write(head + mark + '\n' + '\n'.join(L + [''] + C + M) + '\n' + end + tail)


def method_table(path):
    ours = json.load(open(REAL + '/results.json')); peers = json.load(open(REAL + '/peers.json'))
    ms = ['minmax', 'ema', 'percentile', 'entropy', 'mse']; L = ['| network | metric | float | ' + ' | '.join(ms) + ' |', '|---' * (len(ms) + 3) + '|']
    for task in TASKS:
        h = HEAD[peers[task]['float']['kind']]; g = lambda m: ours.get(task, {}).get(m, {}).get('metric', {}).get(h)
        L.append(f"| {task} | {h} | {peers[task]['float']['metric'][h]} | " + ' | '.join('-' if g(m) is None else f'{g(m):.4f}' for m in ms) + ' |')
    open(path, 'w').write('\n'.join(L) + '\n')


def memory():
    d, found = f'{REAL}/opennsfw', {}
    for n, f in (16, 'calib16'), (64, 'calib'), (256, 'calib256'):
        code, s, mb, said = measured([A.tool, 'quantize', d + '/model.onnx', '-d', f'{d}/{f}.npz', '-o', f'{d}/memory.onnx', '--method', 'percentile', '--threads', A.threads])
        found[n] = dict(peak_rss_mb=round(mb), wall_s=round(s, 1)) if code == 0 else dict(error=said)
        print(n, 'samples:', json.dumps(found[n]), flush=True)
    return found


if A.memory:
    path = REAL + '/results.json'; all_ = json.load(open(path)) if os.path.exists(path) else {}
    all_['memory'] = memory(); json.dump(all_, open(path, 'w'), indent=1, sort_keys=True)
elif A.mode_table:
    mode_table(A.mode_table)
elif A.form_table:
    form_table(A.form_table)
elif A.modes or A.forms:
    for task in A.tasks or TASKS:
        kinds, asked, key = (MODES, A.modes, 'modes') if A.modes else (FORMS, A.forms, 'forms')
        for m in list(kinds) if asked == 'all' else asked.split(','):
            r = one_mode(task, m); print(task, m, json.dumps(r), flush=True)
            path = REAL + '/results.json'; all_ = json.load(open(path)) if os.path.exists(path) else {}
            all_.setdefault(task, {}).setdefault(key, {})[m] = r
            if m == 'qdq' and 'metric' in r:  # the same command as the default one
                all_[task].setdefault('default', {}).update({k: r[k] for k in ('metric', 'onnxruntime', 'size') if k in r})
            json.dump(all_, open(path + '.tmp', 'w'), indent=1, sort_keys=True); os.replace(path + '.tmp', path)
elif A.table:
    table(A.table)
elif A.method_table:
    method_table(A.method_table)
else:
    for task in A.tasks or TASKS:
        for m in A.methods.split(',') if A.methods else ['']:
            r = one(task, m); print(task, m or 'default', json.dumps(r), flush=True)
            path = REAL + '/results.json'; all_ = json.load(open(path)) if os.path.exists(path) else {}
            all_.setdefault(task, {})[m or 'default'] = r
            json.dump(all_, open(path + '.tmp', 'w'), indent=1, sort_keys=True); os.replace(path + '.tmp', path)
