#!/usr/bin/env python3
"""The speed table: int8 models in requant and in ONNX Runtime, the same QDQ files, and what else is promised about speed.

    cmake --build build --target requant model_calls bench_kernels
    python3 bench/peers/ort.py build [--parts PART,..] [--only NAME,..] [--threads 1,2] [--batch 1,8] [--quick] [--fastest] [--cpu-time] [--json FILE] [--update]

Needs a Python that has numpy, onnxruntime, and torch and torchvision to make the models, which are kept in a cache folder ($RQ_BENCH_CACHE,
else ~/.cache/requant-bench). The real networks come from $RQ_REAL (tools/real/prepare.py) and are left out without it.

Each side is a process of its own that does one model; all but the one whose turn it is are stopped (SIGSTOP), because threads of ONNX Runtime
spin between runs. They take turns of about 60 ms; the medians of all runs are compared (on a machine that is busy with other work --fastest, the
fastest runs, and --cpu-time, of one thread, are disturbed less).

--update writes the tables of the parts that were measured into docs/results.md and leaves the others as they are. With --json, rows that are in FILE and were not
measured now are kept, there and in the tables, so that a part, or a model of it, can be measured anew; each table says when and how its rows were
measured."""
import argparse
import ctypes
import datetime
import json
import math
import os
import platform
import signal
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TURN_MS = 60
PARTS = ("models", "dynamic", "levels", "load", "memory", "kernels")
KEYS = ("model", "threads", "batch", "level", "what")  # which row of a part it is


def marks(part):
    return f"<!-- table: bench/peers/ort.py --parts {part} -->\n", f"<!-- end of {part} -->\n"



# ---- a side: a process that opens one model and runs it when told ----

def rss(key):
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith(key)) / 1024


class Ours:
    types = {"float32": "f32", "float64": "f64", "int32": "s32", "int64": "s64", "uint8": "u8", "int8": "s8", "bool": "bool"}

    def __init__(self, lib):
        self.lib = ctypes.CDLL(lib)
        self.lib.model_open.restype = ctypes.c_void_p

    def open(self, path, threads):
        self.model = ctypes.c_void_p(self.lib.model_open(path.encode(), threads))
        if not self.model.value:
            raise SystemExit(f"{path} cannot be opened")

    def feed(self, feeds):
        self.keep = feeds
        for name, x in feeds.items():
            dims = (ctypes.c_int64 * x.ndim)(*x.shape)
            name = ctypes.c_char_p(name.encode())
            self.keep = (self.keep, name)
            if self.lib.model_feed(self.model, name, self.types[x.dtype.name].encode(), dims, x.ndim, ctypes.c_void_p(x.ctypes.data)):
                raise SystemExit("an input cannot be fed")

    def run(self, runs, cpu=False):
        ms = (ctypes.c_double * runs)()
        if self.lib.model_run(self.model, runs, int(cpu), ms):
            raise SystemExit("a run failed")
        return list(ms)

    def output(self, n):
        y = (ctypes.c_float * n)()
        self.lib.model_output(self.model, 0, y, ctypes.c_int64(n))
        return list(y)

    def close(self):
        self.lib.model_close(self.model)


class Ort:
    def __init__(self):
        import onnxruntime
        self.ort = onnxruntime

    def open(self, path, threads):
        options = self.ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self.session = self.ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def feed(self, feeds):
        self.feeds = feeds

    def run(self, runs, cpu=False):
        ms, clock = [], time.process_time if cpu else time.perf_counter
        for _ in range(runs):
            start = clock()
            self.session.run(None, self.feeds)
            ms.append(1e3 * (clock() - start))
        return ms

    def output(self, n):
        return [float(v) for v in self.session.run(None, self.feeds)[0].ravel()[:n]]

    def close(self):
        del self.session


def feeds_of(samples, batch):
    import numpy as np
    data = np.load(samples)
    if not batch:
        return {k: np.ascontiguousarray(data[k]) for k in data.files}
    return {k: np.ascontiguousarray(np.concatenate([data[k]] * -(-batch // len(data[k])))[:batch]) for k in data.files}


def side_main(kind, lib):
    side = Ort() if kind == "ort" else Ours(lib)
    for line in sys.stdin:
        a = json.loads(line)
        if a["do"] == "open":
            feeds = feeds_of(a["samples"], a["batch"])
            with open("/proc/self/clear_refs", "w") as f:
                f.write("5")  # the peak begins here
            before, start = rss("VmRSS"), time.perf_counter()
            side.open(a["path"], a["threads"])
            opened = 1e3 * (time.perf_counter() - start)
            side.feed(feeds)
            answer = {"open_ms": opened, "first_ms": side.run(1)[0], "before_mb": before}
        elif a["do"] == "run":
            answer = {"ms": side.run(a["runs"], a["cpu"])}
        elif a["do"] == "output":
            answer = {"y": side.output(a["n"])}
        elif a["do"] == "peak":
            answer = {"peak_mb": rss("VmHWM")}
        else:
            side.close()
            answer = {}
        print(json.dumps(answer), flush=True)


class Side:
    def __init__(self, kind, lib, level=None):
        env = dict(os.environ, **({"RQ_CPU": level} if level else {}), **({"ONEDNN_MAX_CPU_ISA": "AVX2"} if level == "avx2" else {}))
        self.p = subprocess.Popen([sys.executable, os.path.abspath(__file__), "--side", kind, lib], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  text=True, env=env)
        self.ms = []

    def ask(self, **a):
        os.kill(self.p.pid, signal.SIGCONT)
        self.p.stdin.write(json.dumps(a) + "\n")
        self.p.stdin.flush()
        line = self.p.stdout.readline()
        if not line:
            raise RuntimeError(f"a side ended at {a}")
        os.kill(self.p.pid, signal.SIGSTOP)
        return json.loads(line)

    def open(self, path, samples, threads, batch):
        return self.ask(do="open", path=path, samples=samples, threads=threads, batch=batch)

    def runs(self, a, n):
        return self.ask(do="run", runs=n, cpu=a.cpu_time)["ms"]

    def end(self):
        self.p.kill()
        self.p.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


def take_turns(a, sides):
    """Runs of each side in turn, about a second of each: medians and fastest."""
    turns, (budget_s, least) = [], (0.3, 3) if a.quick else (1.2, 7)
    for s in sides:
        s.runs(a, 1)
        t = max(1e-3, min(s.runs(a, 2)))
        turns.append((s, max(1, round(TURN_MS / t)), t))
        s.ms = []
    slowest = max(n * t for _, n, t in turns) / 1e3
    for _ in range(max(least, round(budget_s / slowest))):
        for s, n, _ in turns:
            s.ms += s.runs(a, n)
    return [(statistics.median(s.ms), min(s.ms)) for s in sides]


def settle(a, keys, times):
    """The number that counts under its key, the other one beside it."""
    row = {}
    for key, (median, fastest) in zip(keys, times):
        row[key], row[key + "_median"], row[key + "_fastest"] = fastest if a.fastest else median, median, fastest
    return row


# ---- rows ----

def race(a, sides, samples, threads, batch):
    """sides: {name: (kind, file)}, first ours and then ONNX Runtime's: times of each, and by how much their answers differ."""
    opened = {}
    try:
        for key, (kind, path) in sides.items():
            opened[key] = Side(kind, a.lib)
            opened[key].open(path, samples, threads, batch)
        times = take_turns(a, list(opened.values()))
        y, z = (opened[k].ask(do="output", n=4096)["y"] for k in ("ours", "ort"))
        worst = max(abs(p - q) for p, q in zip(y, z)) / max(1e-30, max(map(abs, z)))
    finally:
        for s in opened.values():
            s.end()
    return {"differs": worst, **settle(a, opened, times)}


def models_row(a, name, paths, threads, batch):
    model, int8, samples = paths
    sides = {"ours": ("ours", int8), "ort": ("ort", int8), "ours_float": ("ours", model), "ort_float": ("ort", model)}
    if a.no_float:
        sides = {k: v for k, v in sides.items() if "float" not in k}
    return {"model": name, "threads": threads, "batch": batch, **race(a, sides, samples, threads, batch)}


def dynamic_row(a, name, paths, threads):
    """A file of dynamic quantization, the same one to both but where it says otherwise; its samples are fed as they are."""
    path, samples, batch, there = paths
    return {"model": name, "threads": threads, **race(a, {"ours": ("ours", path), "ort": ("ort", there)}, samples, threads, batch)}


def levels_row(a, name, paths, level):
    """int8 beside our own float, one thread, one image, at a level of RQ_CPU."""
    model, int8, samples = paths
    with Side("ours", a.lib, level) as i, Side("ours", a.lib, level) as f:
        i.open(int8, samples, 1, 1)
        f.open(model, samples, 1, 1)
        times = take_turns(a, [i, f])
    return {"model": name, "level": level, **settle(a, ("ours", "ours_float"), times)}


def load_row(a, name, paths):
    """Until the first answer could begin: opening, and what the first run takes over a usual one."""
    _, int8, samples = paths
    found = {"ours": [], "ort": []}
    for _ in range(3 if a.quick else 7):
        for kind, list_ in found.items():
            with Side(kind, a.lib) as s:
                o = s.open(int8, samples, 1, 1)
                usual = statistics.median(s.runs(a, 5))
                list_.append((o["open_ms"], max(0, o["first_ms"] - usual)))
    out = {"model": name}
    for kind, list_ in found.items():
        out[kind + "_open"], out[kind + "_first"] = (statistics.median(v) for v in zip(*list_))
    return out


def memory_row(a, name, paths):
    _, int8, samples = paths
    out = {"model": name}
    for kind in ("ours", "ort"):
        with Side(kind, a.lib) as s:
            before = s.open(int8, samples, 1, 1)["before_mb"]
            s.runs(a, 5)
            peak = s.ask(do="peak")["peak_mb"]
            out[kind], out[kind + "_peak"] = peak - before, peak
    return out


def kernels_rows(a):
    path = os.path.join(a.build, "bench_kernels")
    if not os.path.exists(path):
        return []
    out = subprocess.run([path, "--bars"], capture_output=True, text=True, check=False).stdout
    return [json.loads(line) for line in out.splitlines() if line.startswith("{")]


# ---- showing ----

def mean(v):
    return math.exp(sum(map(math.log, v)) / len(v))


def mark(value, bar, at_most=False):
    ok = value <= bar if at_most else value >= bar
    return "" if ok else " **missed**"


def machine():
    name, flags = platform.machine(), set()
    try:
        with open("/proc/cpuinfo") as f:
            for line in f:
                if line.startswith("model name"):
                    name = line.split(":")[1].strip()
                if line.startswith(("flags", "Features")):
                    flags = set(line.split(":")[1].split())
    except OSError:
        pass
    known = ["avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512vbmi", "amx_int8", "asimddp", "i8mm"]
    return f"{os.cpu_count()} cores of {name} ({', '.join(k for k in known if k in flags)})"


def show_models(rows):
    p = ["| int8, ms | threads | batch | ONNX Runtime | requant | times as fast | bar | float: ONNX Runtime | requant | int8 / own float |",
         "|---|---|---|---|---|---|---|---|---|---|"]
    ratios = []
    for m in rows:
        bar = 1.15 if m["model"] == "resnet50" else 1.0
        ratio = m["ort"] / m["ours"]
        ratios.append(ratio)
        f = [f"{m['ort_float']:.2f}", f"{m['ours_float']:.2f}", f"{m['ours_float'] / m['ours']:.2f}"] if "ours_float" in m else ["", "", ""]
        p.append(f"| {m['model']} | {m['threads']} | {m['batch']} | {m['ort']:.2f} | {m['ours']:.2f} | {ratio:.2f} | {bar:.2f}{mark(ratio, bar)} | " +
                 " | ".join(f) + " |")
    p.append(f"| geometric mean | | | | | {mean(ratios):.2f} | 1.50{mark(mean(ratios), 1.5)}, 1.25 the least{mark(mean(ratios), 1.25)} | | | |")
    return p


def show_dynamic(rows):
    p = ["| dynamic quantization, batch 1, ms | threads | ONNX Runtime | requant | times as fast | bar |", "|---|---|---|---|---|---|"]
    for m in rows:
        ratio = m["ort"] / m["ours"]
        p.append(f"| {m['model']} | {m['threads']} | {m['ort']:.4g} | {m['ours']:.4g} | {ratio:.2f} | 1.00{mark(ratio, 1.0)} |")
    return p


def show_levels(rows):
    p = ["| one thread, batch 1, ms | level | float | int8 | times as fast | bar |", "|---|---|---|---|---|---|"]
    for m in rows:
        bar = 1.1 if m["level"] == "avx2" else {"resnet50": 2.7, "mobilenetv2": 2.0}.get(m["model"])
        ratio = m["ours_float"] / m["ours"]
        p.append(f"| {m['model']} | {m['level']} | {m['ours_float']:.2f} | {m['ours']:.2f} | {ratio:.2f} | " +
                 (f"{bar:.1f}{mark(ratio, bar)} |" if bar else "|"))
    return p


def show_load(rows):
    p = ["| load and plan, ms | ONNX Runtime: session | its first run, over a usual one | requant: load, session | its first run, likewise | bar |",
         "|---|---|---|---|---|---|"]
    for m in rows:
        both = m["ours_open"] + m["ours_first"]
        p.append(f"| {m['model']} | {m['ort_open']:.1f} | {m['ort_first']:.1f} | {m['ours_open']:.1f} | {m['ours_first']:.1f} | "
                 f"{both:.1f} at most {m['ort_open']:.1f}{mark(both, m['ort_open'], True)} |")
    return p


def show_memory(rows):
    p = ["| peak memory of loading and running, MB over an idle process | ONNX Runtime | requant | bar |", "|---|---|---|---|"]
    return p + [f"| {m['model']} | {m['ort']:.1f} | {m['ours']:.1f} | under ONNX Runtime's{mark(m['ours'], m['ort'], True)} |" for m in rows]


def show_kernels(rows):
    p = ["| kernel, one thread | level | measured | bar |", "|---|---|---|---|"]
    for k in rows:
        bar = f"{'at most' if k['at_most'] else 'at least'} {k['bar']:g}{mark(k['value'], k['bar'], k['at_most'])}" if k.get("bar") else ""
        p.append(f"| {k['what']} | {k['level']} | {k['value']:.2f} {k['unit']} | {bar} |")
    return p


def show(part, rows):
    """A table, and under which circumstances its rows were measured: in one run, or each where it is named."""
    runs = {}
    for row in rows:
        runs.setdefault(row["run"], []).append(row.get("model", row.get("what")))
    lines = [how if len(runs) == 1 else f"{', '.join(dict.fromkeys(names))}: {how}" for how, names in runs.items()]
    table = {"models": show_models, "dynamic": show_dynamic, "levels": show_levels, "load": show_load, "memory": show_memory, "kernels": show_kernels}
    return "\n".join([*lines, "", *table[part](rows)]) + "\n"


def merge(before, now):
    """The rows of `before`, in its order, those that were measured now in place of the old ones; then what is new."""
    def key(row):
        return tuple(row.get(k) for k in KEYS)

    fresh = {key(row): row for row in now}
    kept = [fresh.pop(key(row), row) for row in before]
    return kept + list(fresh.values())


def update(texts):
    path = os.path.join(HERE, "..", "..", "docs", "results.md")
    with open(path) as f:
        page = f.read()
    for part, text in texts.items():
        begin, end = marks(part)
        if begin not in page or end not in page:
            raise SystemExit(f"docs/results.md has no line '{begin.strip()}' or no '{end.strip()}'")
        head, rest = page.split(begin, 1)
        page = head + begin + text + end + rest.split(end, 1)[1]
    with open(path, "w") as f:
        f.write(page)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("build", help="build folder")
    ap.add_argument("--only", help="names of models, with commas between")
    ap.add_argument("--threads", default="1,2")
    ap.add_argument("--batch", default="1,8")
    ap.add_argument("--quick", action="store_true", help="a quarter of the time")
    ap.add_argument("--fastest", action="store_true", help="compare the fastest runs, not the medians")
    ap.add_argument("--cpu-time", action="store_true", help="time that the process was given; one thread only")
    ap.add_argument("--no-float", action="store_true", help="int8 against ONNX Runtime only")
    ap.add_argument("--parts", default=",".join(PARTS), help="which tables")
    ap.add_argument("--cache", default=os.environ.get("RQ_BENCH_CACHE", os.path.expanduser("~/.cache/requant-bench")))
    ap.add_argument("--requantize", action="store_true", help="make the int8 files anew")
    ap.add_argument("--json", help="keep what was measured here; rows that are there and are not measured now stay")
    ap.add_argument("--update", action="store_true", help="write the tables into docs/results.md")
    a = ap.parse_args()
    import onnxruntime
    import ort_models
    if a.cpu_time and a.threads != "1":
        raise SystemExit("--cpu-time adds up the time of all threads: it goes with --threads 1")
    if a.update and a.only and not a.json:
        raise SystemExit("--update with --only would leave the other rows out of the tables: it wants the --json that has them")
    a.build = os.path.abspath(a.build)
    a.lib = os.path.join(a.build, "libmodel_calls.so")
    parts = a.parts.split(",")
    if set(parts) - set(PARTS):
        raise SystemExit(f"no part is called {(set(parts) - set(PARTS)).pop()}; there are {', '.join(PARTS)}")

    def quantize(model, samples, out, options):
        say(f"quantizing {model}")
        data = ["-d", samples, "--batch", "4"] if samples else []
        subprocess.run([os.path.join(a.build, "requant"), "quantize", model, *data, "-o", out, "-q", *options], check=True)

    def say(text):
        print(text, file=sys.stderr, flush=True)

    every = [*ort_models.NAMES, *ort_models.DYNAMIC]
    names = a.only.split(",") if a.only else every
    unknown = [n for n in names if n not in every]
    if unknown:
        raise SystemExit(f"no model is called {unknown[0]}; there are {', '.join(every)}")
    real, paths, dynamic = os.environ.get("RQ_REAL"), {}, {}
    for n in names:
        if n in ort_models.DYNAMIC and "dynamic" in parts:
            dynamic[n] = ort_models.prepare_dynamic(n, a.cache, real, quantize, a.requantize)
        elif n in ort_models.NAMES and set(parts) - {"dynamic", "kernels"}:
            paths[n] = ort_models.prepare(n, a.cache, real, quantize, a.requantize)
    for found in (paths, dynamic):
        for n in [n for n, p in found.items() if not p]:
            say(f"{n} is left out: it wants RQ_REAL")
            del found[n]
    r = measure(a, parts, paths, dynamic, say)
    how = (f"{machine()}; ONNX Runtime {onnxruntime.__version__}; {datetime.date.today().isoformat()}; {'fastest' if a.fastest else 'medians'} of runs in turn"
           f"{', time of the CPU' if a.cpu_time else ''}{', --quick' if a.quick else ''}; load of the machine {os.getloadavg()[0]:.1f}.")
    before = {}
    if a.json and os.path.exists(a.json):
        with open(a.json) as f:
            before = json.load(f)
    for part, rows in r.items():
        for row in rows:
            row["run"] = how
        before[part] = merge(before.get(part, []), rows)
    if a.json:
        with open(a.json, "w") as f:
            json.dump(before, f, indent=1)
    texts = {part: show(part, before[part]) for part in r if before[part]}
    print("\n".join(texts.values()))
    if a.update:
        update(texts)


def measure(a, parts, paths, dynamic, say):
    r = {part: [] for part in PARTS if part in parts}
    for n in paths if "models" in parts else []:
        for batch in map(int, a.batch.split(",")):
            for threads in map(int, a.threads.split(",")):
                say(f"{n}, threads {threads}, batch {batch}")
                r["models"].append(models_row(a, n, paths[n], threads, batch))
    for n in dynamic:
        for threads in map(int, a.threads.split(",")):
            say(f"{n}, threads {threads}")
            r["dynamic"].append(dynamic_row(a, n, dynamic[n], threads))
    for n in paths if "levels" in parts else []:
        for level in ("vnni", "avx2"):
            say(f"{n} at {level}")
            try:
                r["levels"].append(levels_row(a, n, paths[n], level))
            except RuntimeError:
                say(f"level {level} is left out: this machine lacks it")
    for part, row, n in (("load", load_row, "resnet50"), ("memory", memory_row, "mobilenetv2")):
        if part in parts and n in paths:
            r[part].append(row(a, n, paths[n]))
    if "kernels" in parts:
        r["kernels"] = kernels_rows(a)
    return r


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1] == "--side":
        side_main(sys.argv[2], sys.argv[3])
    else:
        main()
