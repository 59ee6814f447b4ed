"""Data of tests/coreml/test_activations.c: what coremltools makes of programs when it quantizes activations.

coremltools measures ranges by running a model, which it can on a Mac only; here ranges are drawn at random and handed to the
passes behind. Needs coremltools 9.0 and torch: python make.py FOLDER [--all]. Writes FOLDER/<name>.mlpackage and FOLDER/programs.json:
per case (with --all some more, not kept here) the package, the settings, the ranges, and every operation of the result with its names and constants.

In float32 programs coremltools gives a pair behind an operator a float16 scale and then refuses it; here that scale is made
float32. Left out, since coremltools stops there: ranges that are zero with zero points."""
import json, logging, os, shutil, sys, warnings
warnings.filterwarnings("ignore")
logging.disable(logging.CRITICAL)
import numpy as np
import torch
import torch.nn.functional as F
import coremltools as ct
import coremltools.optimize as cto
from coremltools.converters.mil.mil import Builder as mb
from coremltools.optimize.coreml import _post_training_quantization as ptq

from coremltools.optimize import _utils as oq

OUT, ALL = sys.argv[1], "--all" in sys.argv
quantize_weight = oq.quantize_weight


def in_float32(*args, **kwargs):
    """Where coremltools stops at a float32 program: scales are of its type, as those of the other pairs are."""
    q, scale, zero = quantize_weight(*args, **kwargs)
    return q, scale.astype(np.float32), zero


Q = cto.coreml.OpLinearQuantizerConfig


class Conv(torch.nn.Module):
    def __init__(s):
        super().__init__()
        s.a = torch.nn.Conv2d(3, 4, 3, padding=1)
    def forward(s, x):
        return s.a(x)


class ConvRelu(Conv):
    def forward(s, x):
        return torch.relu(s.a(x)) * 2


class ConvReluOut(Conv):
    def forward(s, x):
        return torch.relu(s.a(x))


class Chain(torch.nn.Module):
    def __init__(s, act):
        super().__init__()
        s.a, s.b, s.c = torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 6, 1), torch.nn.Conv2d(6, 2, 3)
        s.act = act
    def forward(s, x):
        return torch.exp(s.c(s.act(s.b(s.act(s.a(x))))))


class Residual(torch.nn.Module):
    def __init__(s):
        super().__init__()
        s.a, s.b, s.c = (torch.nn.Conv2d(n, 4, 3, padding=1) for n in (3, 4, 4))
        s.l = torch.nn.Linear(4, 5)
    def forward(s, x):
        y = torch.relu(s.a(x))
        z = torch.relu(s.b(y) + y)
        w = s.c(z) + z
        return s.l(F.max_pool2d(w, 2).mean((2, 3)))


class Branches(torch.nn.Module):
    def __init__(s):
        super().__init__()
        s.a, s.b, s.c, s.d = (torch.nn.Conv2d(n, 4, 1) for n in (3, 4, 4, 8))
    def forward(s, x):
        y = s.a(x)
        p, q = s.b(y), torch.tanh(s.c(y))
        z = torch.cat([p, q], 1)
        return s.d(z) + torch.sigmoid(y), F.avg_pool2d(z, 2)


class Shared(torch.nn.Module):
    """Several users of one value: activations, supported and other operators."""
    def __init__(s):
        super().__init__()
        s.a, s.b, s.c = (torch.nn.Conv2d(n, 4, 1) for n in (3, 4, 4))
    def forward(s, x):
        y = s.a(x)
        u = torch.relu(y)
        v = torch.sigmoid(y)
        w = s.b(y)
        return s.c(u) + w, v * 3, torch.exp(u) + 1


class Mlp(torch.nn.Module):
    def __init__(s):
        super().__init__()
        s.a, s.b, s.c = torch.nn.Linear(8, 16), torch.nn.Linear(16, 16), torch.nn.Linear(16, 4)
    def forward(s, x):
        y = F.relu6(s.a(x))
        y = y + F.leaky_relu(s.b(y), 0.1)
        y = y.reshape(2, 8, 2).transpose(1, 2).reshape(2, 16)
        return torch.softmax(s.c(y), -1)


class Pools(torch.nn.Module):
    def __init__(s):
        super().__init__()
        s.a, s.b = torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 4, 3)
    def forward(s, x):
        y = F.max_pool2d(s.a(x), 2, 2)
        y = F.avg_pool2d(F.gelu(s.b(y)), 2, 1)
        return y * 0.5


class Adds(torch.nn.Module):
    """Additions of constants, of one value with itself, of inputs."""
    def __init__(s):
        super().__init__()
        s.a = torch.nn.Conv2d(3, 3, 1)
    def forward(s, x, y):
        z = (x + y) + 1.5
        z = z + z
        w = s.a(z) + torch.relu(s.a(x) - z)
        return torch.relu(w + x) * 2


class Reshapes(torch.nn.Module):
    def __init__(s):
        super().__init__()
        s.a, s.l = torch.nn.Conv2d(3, 4, 2), torch.nn.Linear(36, 5)
    def forward(s, x):
        return torch.sin(s.l(torch.relu(s.a(x)).reshape(1, 36)))


class Transposes(torch.nn.Module):
    def __init__(s):
        super().__init__()
        s.l, s.k, s.c = torch.nn.Linear(4, 4), torch.nn.Linear(4, 3), torch.nn.Conv1d(6, 6, 1)
    def forward(s, x, y):
        u = s.l(x.transpose(1, 2))
        v = s.k(y)
        w = s.c(y) + u
        return v.transpose(1, 2), torch.cat([w, y], 2) * 2


def nets():
    t = torch.rand
    x = (t(1, 3, 8, 8),)
    yield "conv", Conv(), x
    yield "conv_relu", ConvRelu(), x
    yield "conv_relu_out", ConvReluOut(), x
    for n, a in (("relu", torch.relu), ("sigmoid", torch.sigmoid), ("tanh", torch.tanh), ("silu", F.silu),
                 ("leaky", lambda v: F.leaky_relu(v, 0.2)), ("clip", lambda v: torch.clamp(v, -1, 2))):
        yield "chain_" + n, Chain(a), x
    yield "residual", Residual(), x
    yield "branches", Branches(), x
    yield "shared", Shared(), x
    yield "mlp", Mlp(), (t(2, 8),)
    yield "pools", Pools(), (t(1, 3, 12, 12),)
    yield "adds", Adds(), (t(1, 3, 4, 4), t(1, 3, 4, 4))
    yield "reshapes", Reshapes(), (t(1, 3, 4, 4),)
    yield "transposes", Transposes(), (t(1, 4, 6), t(1, 6, 4))


def tensor(v):
    t = v.type.tensorType
    w = v.immediateValue.tensor
    kind = w.WhichOneof("value")
    if kind == "bytes":
        return w.bytes.values.hex()
    return list(getattr(w, kind).values)


def operations(model):
    spec = model.get_spec()
    f = spec.mlProgram.functions["main"]
    out = []
    for o in f.block_specializations[f.opset].operations:
        e = {"type": o.type, "name": o.attributes["name"].immediateValue.tensor.strings.values[0],
             "outputs": [v.name for v in o.outputs],
             "types": [v.type.tensorType.dataType for v in o.outputs],
             "inputs": {k: [b.name for b in a.arguments] for k, a in sorted(o.inputs.items())}}
        if o.type == "const" and o.attributes["val"].WhichOneof("value") == "immediateValue":
            e["val"] = tensor(o.attributes["val"])
        out.append(e)
    return {"spec": spec.specificationVersion, "opset": f.opset, "operations": out,
            "outputs": list(f.block_specializations[f.opset].outputs)}


def draw(rng, names, kind):
    s = {}
    for n in names:
        if kind == "unit":
            lo, hi = 0.0, 1.0
        elif kind == "same":
            lo, hi = -1.0, 2.0
        else:
            lo, hi = sorted(float(v) for v in np.float32(rng.normal(size=2) * rng.choice([0.01, 1, 30])))
            if rng.random() < 0.4:
                lo = 0.0
                hi = abs(hi) + 0.125
            if rng.random() < 0.1:
                lo, hi = -abs(hi), 0.0
        s[n] = {"rmin": lo, "rmax": hi}
    return s


def config(c):
    def one(d):
        return None if d is None else Q(**d)
    k = cto.coreml.OptimizationConfig(global_config=one(c.get("global")))
    for t, d in c.get("types", {}).items():
        k.set_op_type(t, one(d))
    for n, d in c.get("names", {}).items():
        k.set_op_name(n, one(d))
    return k


def calibration():
    """Ranges of the network "branches" in float32 on three samples, by torch; what concat joins has one range."""
    net = Branches().eval()
    torch.manual_seed(3)
    for p in net.parameters():
        torch.nn.init.uniform_(p, -0.5, 0.5)
    rng = np.random.default_rng(11)
    x = np.float32(rng.normal(size=(3, 1, 3, 8, 8)))
    names = [v for o in operations(ct.models.MLModel(os.path.join(OUT, "branches_ios17_f32.mlpackage"),
                                                     skip_model_load=True))["operations"]
             if o["type"] != "const" for v in o["outputs"]]
    seen = {"x0": [x]}
    with torch.no_grad():
        for v in torch.from_numpy(x):
            y = net.a(v)
            p, t = net.b(y), net.c(y)
            q = torch.tanh(t)
            z = torch.cat([p, q], 1)
            d = net.d(z)
            for n, value in zip(names, (y, p, t, q, z, d, torch.sigmoid(y))):
                seen.setdefault(n, []).append(value.numpy())
    ranges = {n: [float(min(a.min() for a in v)), float(max(a.max() for a in v))] for n, v in seen.items()}
    joined = names[1], names[3], names[4]
    for n in joined:
        ranges[n] = [min(ranges[k][0] for k in joined), max(ranges[k][1] for k in joined)]
    np.savez(os.path.join(OUT, "calibration.npz"), x0=x)
    with open(os.path.join(OUT, "calibration.json"), "w") as f:
        json.dump({"ranges": ranges, "outputs": names[7:]}, f, indent=0)


class Bools(torch.nn.Module):
    def __init__(s):
        super().__init__()
        s.a, s.b = torch.nn.Linear(6, 4), torch.nn.Linear(6, 4)
    def forward(s, x):
        return torch.logical_and(s.a(x) > 0, s.b(x) > 0).float() * s.a(x)


def bools():
    torch.manual_seed(5)
    x = torch.rand(2, 6) - 0.5
    model = ct.convert(torch.jit.trace(Bools().eval(), x), inputs=[ct.TensorType(name="x0", shape=(2, 6))],
                       minimum_deployment_target=ct.target.iOS17, skip_model_load=True)
    model.save(os.path.join(OUT, "bools_ios17_f16.mlpackage"))
    np.savez(os.path.join(OUT, "bools.npz"), x0=x.numpy()[None])


def main():
    shutil.rmtree(OUT, ignore_errors=True) if os.path.exists(OUT + "/programs.json") else None
    os.makedirs(OUT, exist_ok=True)
    rng = np.random.default_rng(7)
    cases = []
    modes = [{"mode": m, "dtype": d} for m in ("linear_symmetric", "linear") for d in ("int8", "uint8")]
    for n, net, args in nets():
        torch.manual_seed(3)
        for p in net.parameters():
            torch.nn.init.uniform_(p, -0.5, 0.5)
        traced = torch.jit.trace(net.eval(), args)
        for target, half in (("iOS15", True), ("iOS17", True), ("iOS18", True), ("iOS17", False)):
            if target in ("iOS15", "iOS18") and n not in ("conv_relu", "residual", "adds", "transposes", "branches", "shared"):
                continue
            model = ct.convert(traced, inputs=[ct.TensorType(name="x%d" % i, shape=a.shape) for i, a in enumerate(args)],
                               compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
                               minimum_deployment_target=getattr(ct.target, target), skip_model_load=True)
            package = "%s_%s_%s.mlpackage" % (n, target.lower(), "f16" if half else "f32")
            before = operations(model)
            values = [i.name for i in model.get_spec().description.input] + \
                     [v for o in before["operations"] if o["type"] != "const" for v in o["outputs"]]
            cores = [o for o in before["operations"] if o["type"] in ("conv", "linear", "add", "avg_pool", "max_pool")]
            todo = [({"global": m}, k) for m in modes for k in ("unit", "drawn", "same")]
            todo.append(({"global": None, "types": {"conv": modes[0]}}, "drawn"))
            todo.append(({"global": modes[2], "types": {"add": None}}, "drawn"))
            todo.append(({"global": modes[1], "types": {"conv": modes[3]}, "names": {cores[0]["name"]: None}}, "drawn"))
            todo.append(({"global": None, "names": {cores[-1]["name"]: modes[2]}}, "drawn"))
            if not ALL and (not half or target != "iOS17"):
                todo = todo[len(cases) % 4 * 3 + 1:][:1]
            elif not ALL:
                todo = todo[:1] * (n in ("conv", "conv_relu")) + todo[1::3][:4] + todo[12:]
            saved = False
            for c, kind in todo:
                stats = draw(rng, values, kind)
                ptq._get_activation_calibration_stats = lambda *a: stats
                mb.name_count.clear()
                oq.quantize_weight = quantize_weight if half else in_float32
                try:
                    got = operations(ptq.linear_quantize_activations(model, config(c), []))
                except Exception as e:
                    print(package, c, "coremltools stops:", str(e)[:100])
                    continue
                if not saved:
                    model.save(os.path.join(OUT, package))
                    saved = True
                cases.append({"package": package, "config": c, "stats": stats, "expected": got})
        with open(os.path.join(OUT, "programs.json"), "w") as f:
            json.dump(cases, f, separators=(",", ":"))
    print(len(cases), "cases")


if "--calibration" not in sys.argv:
    main()
calibration()
bools()
