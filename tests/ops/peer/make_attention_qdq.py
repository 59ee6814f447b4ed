"""make_attention_qdq.py DIR - attention between Q and DQ: fused, and as MatMul, Softmax, MatMul. The peer computes reals."""
import sys

import numpy as np
import onnxruntime as ort
import peer
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh


def build(name, middle, shapes, out_step, opset=23):
    """inputs -> Q -> DQ -> middle -> Q -> DQ -> y; middle(names) gives nodes and the name of what they make."""
    nodes, inits, feeds, steps, values = [], [], {}, {}, []

    def pair(x, scale, zero, dtype):
        inits.append(nh.from_array(np.array(scale, np.float32), x + "_s"))
        inits.append(nh.from_array(np.array(zero, dtype), x + "_z"))
        nodes.append(h.make_node("QuantizeLinear", [x, x + "_s", x + "_z"], [x + "_q"]))
        nodes.append(h.make_node("DequantizeLinear", [x + "_q", x + "_s", x + "_z"], [x + "_d"]))
        return x + "_d"

    for i, s in enumerate(shapes):
        feeds[f"x{i}"] = peer.f(*s)
        values.append(h.make_tensor_value_info(f"x{i}", T.FLOAT, s))
    ins = [pair(f"x{i}", 0.02 + 0.003 * i, [3, -7, 0][i], np.int8) for i in range(len(shapes))]
    made = middle(nodes, inits, pair, ins)
    nodes.append(h.make_node("Identity", [pair(made, out_step, 120, np.uint8)], ["y"]))
    graph = h.make_graph(nodes, "g", values, [h.make_tensor_value_info("y", T.FLOAT, None)], inits)
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", opset), h.make_opsetid("com.microsoft", 1)], ir_version=10)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    got = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, feeds)
    e = {"id": name, "model": name + ".onnx", "params": {}, "inputs": {}, "outputs": {"y": f"{name}/out/y"},
         "peer": "onnxruntime " + ort.__version__, "tolerance": {"max_abs": out_step * 1.001}}
    for n, x in feeds.items():
        peer.data[f"{name}/in/{n}"] = x
        e["inputs"][n] = f"{name}/in/{n}"
    peer.data[f"{name}/out/y"] = got[0]
    peer.cases.append(e)
    peer.os.makedirs(sys.argv[1], exist_ok=True)
    with open(f"{sys.argv[1]}/{name}.onnx", "wb") as file:
        file.write(model.SerializeToString())


def attention(nodes, inits, pair, ins, **k):
    nodes.append(h.make_node("Attention", ins, ["a"], name="attend", **k))
    return "a"


def multi(nodes, inits, pair, ins, **k):
    nodes.append(h.make_node("MultiHeadAttention", ins, ["a"], domain="com.microsoft", name="attend", num_heads=3, **k))
    return "a"


def apart(nodes, inits, pair, ins):
    nodes.append(h.make_node("Transpose", [ins[1]], ["kt"], perm=[0, 1, 3, 2]))
    nodes.append(h.make_node("MatMul", [ins[0], pair("kt", 0.023, -7, np.int8)], ["scores"], name="scores"))
    nodes.append(h.make_node("Softmax", [pair("scores", 0.05, 128, np.uint8)], ["shares"], name="softmax"))
    nodes.append(h.make_node("MatMul", [pair("shares", 1 / 255, 0, np.uint8), ins[2]], ["a"], name="values"))
    return "a"


deep, flat = [(2, 3, 9, 8)] * 3, [(2, 9, 24)] * 3
build("fused", attention, deep, 0.01)
build("fused_causal", lambda *a: attention(*a, is_causal=1), deep, 0.01)
build("fused_shared", lambda *a: attention(*a, q_num_heads=4, kv_num_heads=2), [(1, 5, 32), (1, 70, 16), (1, 70, 12)], 0.008)
build("multi", multi, flat, 0.01, opset=17)
build("multi_causal", lambda *a: multi(*a, unidirectional=1), flat, 0.01, opset=17)
build("apart", apart, deep, 0.01, opset=17)
peer.done()
