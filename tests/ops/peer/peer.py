"""peer.py - models of one operator each, and what ONNX Runtime makes of them: cases.json, data.npz and the models, as
tests/golden/onnx/README.md describes. Needs onnx and onnxruntime; run by hand, never by the build."""
import json
import os
import sys

import numpy as np
import onnxruntime as ort
from onnx import TensorProto as T
from onnx import helper as h

ort.set_default_logger_severity(3)
DT = {np.dtype("float32"): T.FLOAT, np.dtype("float64"): T.DOUBLE, np.dtype("int32"): T.INT32, np.dtype("int64"): T.INT64,
      np.dtype("float16"): T.FLOAT16, np.dtype("bool"): T.BOOL, np.dtype("uint8"): T.UINT8}
rng = np.random.default_rng(7)
cases, data = [], {}


def f(*s):
    return rng.standard_normal(s).astype(np.float32)


def i32(x):
    return np.array(x, dtype=np.int32)


def i64(x):
    return np.array(x, dtype=np.int64)


def case(name, op, domain, ins, nout, opset=17, tol=None, **attrs):
    """One model. ins: arrays, None for an input left out; nout: a flag per output."""
    inputs, names, feeds = [], [], {}
    for i, x in enumerate(ins):
        if x is None:
            names.append("")
            continue
        names.append(f"x{i}")
        feeds[f"x{i}"] = x
        inputs.append(h.make_tensor_value_info(f"x{i}", DT[x.dtype], x.shape))
    outs = [f"y{i}" if o else "" for i, o in enumerate(nout)]
    node = h.make_node(op, names, outs, domain=domain, name="n", **attrs)
    graph = h.make_graph([node], "g", inputs, [h.make_empty_tensor_value_info(o) for o in outs if o])
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", opset), h.make_opsetid("com.microsoft", 1)], ir_version=10)
    pid = os.fork()  # some of these kill the runtime
    if pid == 0:
        try:
            ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds)
        finally:
            os._exit(0)
    if os.waitpid(pid, 0)[1] != 0:
        return print("CRASH", name)
    try:
        got = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds)
    except Exception as e:  # noqa: BLE001
        return print("REFUSED", name, str(e)[:150])
    e = {"id": name, "model": name + ".onnx", "params": {"op": op, "domain": domain}, "inputs": {}, "outputs": {},
         "peer": "onnxruntime " + ort.__version__, "tolerance": tol or {"rel_to_max": 1e-5, "abs": 1e-6}}
    for n, x in feeds.items():
        data[f"{name}/in/{n}"] = x
        e["inputs"][n] = f"{name}/in/{n}"
    for o, x in zip([o for o in outs if o], got):
        assert x.dtype.kind != "f" or not np.isnan(x).any(), name
        data[f"{name}/out/{o}"] = x
        e["outputs"][o] = f"{name}/out/{o}"
    cases.append(e)
    os.makedirs(sys.argv[1], exist_ok=True)
    with open(f"{sys.argv[1]}/{name}.onnx", "wb") as file:
        file.write(model.SerializeToString())


def done():
    with open(f"{sys.argv[1]}/cases.json", "w") as file:
        json.dump(cases, file, indent=0)
    np.savez(f"{sys.argv[1]}/data.npz", **data)
    print(len(cases), "cases")
