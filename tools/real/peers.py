#!/usr/bin/env python3
"""peers.py TASK_DIR [METHOD ...]: onnxruntime's own quantizers on a task; each quantization in its own process
(wall time, peak RSS), each model evaluated with run_ort.py over eval.npz. Adds to peers.json in $RQ_REAL (default: real).
peers.py --table FILE: write the markdown table."""
import sys, os, json, time, subprocess, resource, fcntl
HERE = os.path.dirname(os.path.abspath(__file__)); sys.path.insert(0, HERE)
RES = os.path.join(os.environ.get('RQ_REAL', 'real'), 'peers.json')
MEM = int(float(os.environ.get('PEER_MEM_GB', '10')) * 2 ** 30); LIMIT = int(os.environ.get('PEER_LIMIT_S', '240'))
METHODS = {  # name: (calibration, activation symmetric s8?, per channel)
    'minmax_u8s8': ('MinMax', False, True), 'minmax_s8s8': ('MinMax', True, True), 'minmax_u8s8_pt': ('MinMax', False, False),
    'pct9999_u8s8': ('Percentile', False, True), 'entropy_u8s8': ('Entropy', False, True),
    'pct9999_s8s8': ('Percentile', True, True), 'entropy_s8s8': ('Entropy', True, True), 'core_u8s8': ('MinMax', False, True), 'core_pct_u8s8': ('Percentile', False, True), 'convonly_u8s8': ('MinMax', False, True), 'convonly_pct_u8s8': ('Percentile', False, True), 'dynamic': None}
DEFAULT = ['minmax_u8s8', 'minmax_s8s8', 'minmax_u8s8_pt', 'convonly_u8s8', 'dynamic', 'pct9999_u8s8', 'entropy_u8s8']
W4 = {'w4_rtn_b32': (4, 32, True), 'w4_rtn_b128': (4, 128, True), 'w4_rtn_b32_asym': (4, 32, False), 'w8_rtn_b32': (8, 32, True)}


def child(d, what, out):
    import logging; logging.disable(logging.WARNING); os.chdir(d + '/peers')  # quant_pre_process drops temporary files in the working folder
    resource.setrlimit(resource.RLIMIT_DATA, (MEM, MEM))
    import onnx, numpy as np
    from onnxruntime.quantization import quantize_static, quantize_dynamic, QuantFormat, QuantType, CalibrationMethod, CalibrationDataReader
    from onnxruntime.quantization.shape_inference import quant_pre_process
    from common import load, feeds
    t = json.load(open(d + '/task.json')); note = []; pre = f'{d}/peers/pre.onnx'; base = None
    import onnxruntime; base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; cpu = time.process_time()
    t0 = time.time()
    if what == 'pre':
        src = d + '/model.onnx'; m = onnx.load(src); v = [o.version for o in m.opset_import if o.domain in ('', 'ai.onnx')][0]
        if v < 13:
            try:
                m = onnx.version_converter.convert_version(m, 13); note.append(f'opset {v}->13'); onnx.save(m, out + '.c.onnx'); src = out + '.c.onnx'
            except Exception as e: note.append('version_converter failed: ' + str(e)[:80])
        for kw in ({}, dict(skip_symbolic_shape=True), dict(skip_symbolic_shape=True, skip_optimization=True), dict(skip_symbolic_shape=True, skip_onnx_shape=True)):
            try: quant_pre_process(src, out, **kw); note.append('pre ' + (','.join(kw) or 'full')); break
            except Exception as e: note.append(f'pre {list(kw)} failed: {type(e).__name__} {str(e)[:60]}')
        else: import shutil; shutil.copy(src, out)
    elif what == 'dynamic':
        quantize_dynamic(pre, out, per_channel=True, weight_type=QuantType.QInt8)
    elif what in W4:
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
        b, g, s = W4[what]; q = MatMulNBitsQuantizer(onnx.load(pre), block_size=g, is_symmetric=s, bits=b); q.process(); q.model.save_model_to_file(out)
    else:
        cal, sym, pc = METHODS[what]; c = load(d + '/calib.npz'); n = int(os.environ.get('PEER_CALIB', '0'))
        if n: c = {k: v[:n] for k, v in c.items()}; note.append(f'only {n} calibration samples')
        nn = len(next(iter(c.values()))); t['batch_size'] = max(b for b in range(1, t['batch_size'] + 1) if nn % b == 0)  # ORT's histogram calibrators crash on a short last batch
        import onnx as ox
        names = {i.name for i in ox.load(pre, load_external_data=False).graph.input}
        class R(CalibrationDataReader):
            def __init__(s): s.rewind()
            def rewind(s): s.it = feeds(t, c, [k for k in c if k in names])
            def get_next(s): return next(s.it, None)
        eo = dict(ActivationSymmetric=sym, WeightSymmetric=True)
        if cal == 'Percentile': eo['CalibPercentile'] = 99.99
        ops = ['Conv', 'ConvTranspose', 'MatMul', 'Gemm'] if what.startswith('convonly') else ['Conv', 'ConvTranspose', 'MatMul', 'Gemm', 'Relu', 'Clip', 'LeakyRelu', 'MaxPool', 'GlobalAveragePool', 'Add'] if what.startswith('core') else None
        quantize_static(pre, out, R(), op_types_to_quantize=ops, quant_format=QuantFormat.QDQ, per_channel=pc, activation_type=QuantType.QInt8 if sym else QuantType.QUInt8, weight_type=QuantType.QInt8,
                        calibrate_method=getattr(CalibrationMethod, cal), extra_options=eo)
    w = time.time() - t0
    print(json.dumps(dict(wall_s=round(w, 2), cpu_s=round(time.process_time() - cpu, 2), peak_rss_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024), import_rss_mb=round(base / 1024), note='; '.join(note))))


def record(task, key, val):
    if os.environ.get('PEER_CALIB') and not key.startswith(('float', 'pre')): key += '@' + os.environ['PEER_CALIB']
    with open(RES + '.lock', 'w') as lk:
        fcntl.flock(lk, fcntl.LOCK_EX)
        r = json.load(open(RES)) if os.path.exists(RES) else {}
        r.setdefault(task, {})[key] = val; json.dump(r, open(RES + '.tmp', 'w'), indent=1, sort_keys=True); os.replace(RES + '.tmp', RES)


def go(cmd, limit):
    t = time.time()
    try: p = subprocess.run(cmd, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired: return None, f'over {limit} s'
    l = [x for x in p.stdout.splitlines() if x.startswith('{')]
    if p.returncode or not l: return None, (([x for x in p.stderr.splitlines() if x.strip()] or ['exit %d' % p.returncode])[-1])[:200] + (f' [rc {p.returncode}]' if p.returncode else '')
    v = json.loads(l[-1]); v['process_s'] = round(time.time() - t, 2)
    return v, None


def main(d, methods):
    d = os.path.abspath(d); t = json.load(open(d + '/task.json')); task = t['name']; os.makedirs(d + '/peers', exist_ok=True)
    record(task, 'float', dict(metric=t['float_metric'], size=t['model_bytes'], ms=t['float_ms_per_run'], kind=t['metric']))
    me = [sys.executable, os.path.abspath(__file__)]
    if not os.path.exists(d + '/peers/pre.onnx'):
        r, e = go(me + ['--child', d, 'pre', d + '/peers/pre.onnx'], LIMIT); record(task, 'pre', r or dict(error=e)); print(task, 'pre', r or e, flush=True)
        if not r: return
    for m in methods:
        o = f"{d}/peers/{m}{os.environ.get('PEER_CALIB', '')}.onnx"
        r, e = go(me + ['--child', d, m, o], LIMIT)
        if not r: r = dict(error=e)
        else:
            r['size'] = os.path.getsize(o) + (os.path.getsize(o + '.data') if os.path.exists(o + '.data') else 0)
            v, e = go([sys.executable, HERE + '/run_ort.py', d, o], LIMIT)
            if v: r['ms'] = v.pop('ms_per_run'); v.pop('model'); v.pop('task'); v.pop('process_s'); r['metric'] = v
            else: r['run_error'] = e
        record(task, m, r); print(task, m, json.dumps(r), flush=True)


HEAD = dict(classify='top1 agree sqnr_db prob_err', agree='sqnr_db prob_mae prob_max agree', sq='sqnr_db cos agree', ocr='char_acc exact same_as_float prob_mae_top',
            probmap='iou cos mae dice_truth', vad='agree prob_mae prob_max acc_truth')


def table(path):
    r = json.load(open(RES)); L = []; S = ['## Summary (headline metric)', '', '| task | metric | float | ORT default (minmax u8s8) | worst static | best static | dynamic | quantize cpu s / RSS MB: minmax | pct 99.99 |', '|---' * 9 + '|']
    for t in r:
        f = r[t].get('float', {}); ks = HEAD[f['kind']].split(); h = ks[0]; low = h == 'ppl'
        val = {m: v['metric'][h] for m, v in r[t].items() if m.split('@')[0] in METHODS and m != 'dynamic' and h in v.get('metric', {})}
        g = lambda m: r[t].get(m, {}).get('metric', {}).get(h, 'fails')
        w = sorted(val, key=lambda m: val[m], reverse=low); tm = lambda m: (lambda v: f"{v.get('cpu_s', v.get('wall_s', '-'))}{'' if 'cpu_s' in v else 'w'} / {v.get('peak_rss_mb', '-')}" if v else '-')(next((r[t][x] for x in r[t] if x.split('@')[0] == m and 'metric' in r[t][x]), None))
        S.append(f"| {t} | {h} | {f['metric'][h]} | {g('minmax_u8s8')} | {val[w[0]]} {w[0]} | {val[w[-1]]} {w[-1]} | {g('dynamic')} | {tm('minmax_u8s8')} | {tm('pct9999_u8s8')} |" if w else f"| {t} | {h} | {f['metric'][h]} | all fail | | | {g('dynamic')} | | |")
        L += [f"\n### {t} — float {f.get('size', 0) / 1e6:.2f} MB, {f.get('ms_quiet', f.get('ms'))} ms/run", '', '| method | ' + ' | '.join(ks) + ' | quantize s (cpu) | peak RSS MB | MB | ms/run | note |', '|---' * (len(ks) + 6) + '|']
        for m in ['float', *[x for x in list(METHODS) + list(W4) if x in r[t]], *[x for x in r[t] if x not in METHODS and x not in W4 and x not in ('float', 'pre')]]:
            v = r[t][m]
            if 'metric' in v: L.append(f"| {m} | " + ' | '.join(str(v['metric'].get(k, '')) for k in ks) + f" | {v.get('wall_s', '')}{' (%s)' % v['cpu_s'] if 'cpu_s' in v else ''} | {v.get('peak_rss_mb', '')} | {'%.2f' % (v['size'] / 1e6) if v.get('size') else ''} | {'%s q' % v['ms_quiet'] if 'ms_quiet' in v else v.get('ms', '')} | {v.get('note', '')} |")
            else:
                e = v.get('error') or 'model made, does not load: ' + str(v.get('run_error'))
                if 'Non-zero status' in e or 'bad_alloc' in e or 'MemoryError' in e: e = 'fails: over the 10 GB memory limit while calibrating'
                L.append(f"| {m} | {e.replace('|', '/')} |" + ' |' * (len(ks) - 1) + f" {v.get('wall_s', '')} | {v.get('peak_rss_mb', '')} | | | |")
        if r[t].get('pre'): L += ['', f"quant_pre_process: {r[t]['pre'].get('wall_s')} s, {r[t]['pre'].get('peak_rss_mb')} MB; {r[t]['pre'].get('note') or r[t]['pre'].get('error')}"]
    s = open(path).read() if os.path.exists(path) else ''
    mark = '<!-- table -->'
    head = s.split(mark)[0] if mark in s else s
    open(path, 'w').write(head + mark + '\n' + '\n'.join(S + L) + '\n')


if __name__ == '__main__':
    if sys.argv[1] == '--child': child(*sys.argv[2:5])
    elif sys.argv[1] == '--table': table(sys.argv[2])
    else: main(sys.argv[1], sys.argv[2:] or DEFAULT)
