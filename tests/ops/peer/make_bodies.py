"""make_bodies.py DIR - Q and DQ inside the bodies of If, Loop and Scan, scales and weights inside or outside of them."""
import sys

import numpy as np
import onnxruntime as ort
import peer
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

n = h.make_node


def product(x, y, k, p, m, hold):
    """y = DQ(Q(x @ w)) with codes of x and w, plus the constants of it in `hold`"""
    rng = np.random.default_rng(11)
    hold += [nh.from_array(rng.integers(-100, 100, (k, m)).astype(np.int8), p + "w"),
             nh.from_array((0.002 + 0.01 * rng.random(m)).astype(np.float32), p + "ws"), nh.from_array(np.zeros(m, np.int8), p + "wz"),
             nh.from_array(np.float32(0.03), p + "xs"), nh.from_array(np.uint8(128), p + "xz"),
             nh.from_array(np.float32(0.11), p + "ys"), nh.from_array(np.uint8(121), p + "yz")]
    return [n("QuantizeLinear", [x, p + "xs", p + "xz"], [p + "q"]), n("DequantizeLinear", [p + "q", p + "xs", p + "xz"], [p + "d"]),
            n("DequantizeLinear", [p + "w", p + "ws", p + "wz"], [p + "wd"], axis=1), n("MatMul", [p + "d", p + "wd"], [p + "m"]),
            n("QuantizeLinear", [p + "m", p + "ys", p + "yz"], [p + "r"]), n("DequantizeLinear", [p + "r", p + "ys", p + "yz"], [y])]


def build(name, inputs, nodes, outer):
    feeds = {k: v for k, v in inputs.items()}
    values = [h.make_tensor_value_info(k, peer.DT[v.dtype], v.shape) for k, v in inputs.items()]
    graph = h.make_graph(nodes, "g", values, [h.make_empty_tensor_value_info("y")], outer)
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)
    fused, plain = (ort.InferenceSession(model.SerializeToString(), o, providers=["CPUExecutionProvider"]).run(None, feeds)[0] for o in (ort.SessionOptions(), off()))
    e = {"id": name, "model": name + ".onnx", "params": {}, "inputs": {}, "outputs": {"y": f"{name}/out/y"},
         "outputs_unoptimised": {"y": f"{name}/plain/y"}, "peer": "onnxruntime " + ort.__version__, "tolerance": {"max_abs": 0}}
    for k, x in feeds.items():
        peer.data[f"{name}/in/{k}"] = x
        e["inputs"][k] = f"{name}/in/{k}"
    peer.data[f"{name}/out/y"], peer.data[f"{name}/plain/y"] = fused, plain
    peer.cases.append(e)
    peer.os.makedirs(sys.argv[1], exist_ok=True)
    with open(f"{sys.argv[1]}/{name}.onnx", "wb") as file:
        file.write(model.SerializeToString())
    print(name, np.abs(fused - plain).max())


def off():
    o = ort.SessionOptions()
    o.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return o


def value(name, *shape):
    return h.make_tensor_value_info(name, T.FLOAT, shape)


for where in ("inside", "outside"):
    inner, outer = [], []
    hold = inner if where == "inside" else outer
    body = h.make_graph([n("Identity", ["go"], ["on"]), *product("c", "t", 8, "p_", 8, hold), n("Add", ["t", "x"], ["next"]), n("Relu", ["t"], ["seen"])], "body",
                        [h.make_tensor_value_info("i", T.INT64, []), h.make_tensor_value_info("go", T.BOOL, []), value("c", 3, 8)],
                        [h.make_tensor_value_info("on", T.BOOL, []), value("next", 3, 8), value("seen", 3, 8)], inner)
    build("loop_" + where, {"x": peer.f(3, 8)}, [n("Loop", ["trips", "", "x"], ["last", "all"], body=body), n("ReduceSum", ["all"], ["sum"], keepdims=0),
                                                 n("Add", ["last", "sum"], ["y"])], [*outer, nh.from_array(np.int64(3), "trips")])
    inner, outer = [], []
    hold = inner if where == "inside" else outer
    yes = h.make_graph(product("x", "t", 8, "a_", 8, hold), "yes", [], [value("t", 3, 8)], inner)
    no = h.make_graph([n("Neg", ["x"], ["e"])], "no", [], [value("e", 3, 8)])
    for flag in (True, False):
        build(f"if_{where}_{flag}".lower(), {"x": peer.f(3, 8), "p": np.array(flag)}, [n("If", ["p"], ["y"], then_branch=yes, else_branch=no)], outer)
    inner, outer = [], []
    hold = inner if where == "inside" else outer
    scan = h.make_graph([n("Add", ["s", "xt"], ["u"]), *product("u", "o", 8, "s_", 8, hold), n("Identity", ["o"], ["so"])], "scan",
                        [value("s", 8), value("xt", 8)], [value("so", 8), value("o", 8)], inner)
    build("scan_" + where, {"x": peer.f(5, 8), "s0": peer.f(8)}, [n("Scan", ["s0", "x"], ["last", "y"], body=scan, num_scan_inputs=1)], outer)
peer.done()
