"""make_reference.py DIR - operators that ONNX Runtime does not have yet (or has in training builds), by onnx's reference."""
import sys

import numpy as np
import onnx
import peer
from onnx import helper as h
from onnx.reference import ReferenceEvaluator
from peer import f, i64


def case(name, op, ins, nout=(1,), opset=26, **attrs):
    inputs = [h.make_tensor_value_info(f"x{i}", peer.DT[x.dtype], x.shape) for i, x in enumerate(ins) if x is not None]
    names = ["" if x is None else f"x{i}" for i, x in enumerate(ins)]
    outs = [f"y{i}" for i in range(len(nout))]
    node = h.make_node(op, names, outs, name="n", **attrs)
    graph = h.make_graph([node], "g", inputs, [h.make_empty_tensor_value_info(o) for o in outs])
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", opset)], ir_version=10)
    feeds = {f"x{i}": x for i, x in enumerate(ins) if x is not None}
    got = ReferenceEvaluator(model).run(None, feeds)
    e = {"id": name, "model": name + ".onnx", "params": {"op": op, "domain": ""}, "inputs": {}, "outputs": {},
         "peer": "onnx reference " + onnx.__version__, "tolerance": {"rel_to_max": 1e-5, "abs": 1e-6}}
    for n, x in feeds.items():
        peer.data[f"{name}/in/{n}"] = x
        e["inputs"][n] = f"{name}/in/{n}"
    for o, x in zip(outs, got):
        peer.data[f"{name}/out/{o}"] = np.asarray(x)
        e["outputs"][o] = f"{name}/out/{o}"
    peer.cases.append(e)
    peer.os.makedirs(sys.argv[1], exist_ok=True)
    with open(f"{sys.argv[1]}/{name}.onnx", "wb") as file:
        file.write(model.SerializeToString())


labels = i64([[0, 2, 1], [3, 2, 2]])
for how in ("none", "sum", "mean"):
    case(f"nll_{how}", "NegativeLogLikelihoodLoss", [f(2, 4, 3), labels, f(4).__abs__()], opset=22, reduction=how, ignore_index=2)
    case(f"cross_{how}", "SoftmaxCrossEntropyLoss", [f(2, 4, 3), labels, f(4).__abs__()], (1, 1), opset=13, reduction=how)
case("cross_plain", "SoftmaxCrossEntropyLoss", [f(5, 3), i64([0, 1, 2, 1, 0])], opset=13)
for exclusive in (0, 1):
    for reverse in (0, 1):
        case(f"cumprod_{exclusive}{reverse}", "CumProd", [f(2, 5, 3), i64(1)], exclusive=exclusive, reverse=reverse)
case("bits", "BitCast", [f(3, 4)], to=6)
for rule in ("linear", "gated", "delta", "gated_delta"):
    g = -f(2, 5, 2).__abs__() if "gated" in rule else None
    b = f(2, 5, 2).__abs__() / 4 if "delta" in rule else None
    ins = [f(2, 5, 4 * 3), f(2, 5, 2 * 3) / 2, f(2, 5, 2 * 4), f(2, 2, 3, 4), g, b]
    while ins[-1] is None:
        ins.pop()
    case(f"linear_{rule}", "LinearAttention", ins, (1, 1), opset=27, q_num_heads=4, kv_num_heads=2, update_rule=rule)
case("causal_conv", "CausalConvWithState", [f(2, 3, 5), f(3, 1, 4), f(3), f(2, 3, 3)], (1, 1), opset=27, activation="silu")
case("causal_conv_short", "CausalConvWithState", [f(2, 3, 2), f(3, 1, 4)], (1, 1), opset=27)
case("gate", "SwiGLU", [f(2, 5), f(2, 5)], opset=28, alpha=1.5)
q, k, v = f(2, 4, 5, 8), f(2, 2, 7, 8), f(2, 2, 7, 6)
case("windows", "Attention", [q, k, v], opset=25, left_window_size=2, right_window_size=1)
case("windows_causal", "Attention", [q, k, v, None, None, None, i64([4, 7])], opset=25, left_window_size=1, is_causal=1)
case("mask_heads", "Attention", [q, k, v, f(4, 1, 7)], opset=23)
case("mask_short", "Attention", [q, k, v, f(5, 4), None, None, i64([3, 4])], opset=24)
case("turned", "RotaryEmbedding", [f(2, 3, 5, 8), f(9, 2), f(9, 2), i64([[0, 1, 2, 3, 4], [4, 3, 2, 8, 0]])], opset=23,
     rotary_embedding_dim=4, interleaved=1)
peer.done()
