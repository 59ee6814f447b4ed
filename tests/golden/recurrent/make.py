"""Makes cases.json, data.npz and the models beside them: DynamicQuantizeGRU and DynamicQuantizeRNN.

    python3 make.py REQUANT          (onnx, onnxruntime, torch; REQUANT: the command)

A random GRU or RNN is quantized by the command, and ONNX Runtime's CPU provider, with graph optimisations off, runs the function that the file spells the operator
out in. torch_*: PyTorch's dynamically quantized GRU with the engine qnnpack, whose codes and scales the operator is given, without a function. The format is that
of ../onnx/README.md."""
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto as T, helper as h, numpy_helper as nh

here = os.path.dirname(os.path.abspath(__file__))
rng = np.random.default_rng(20)
cases, arrays = [], {}
GATES = {"GRU": 3, "RNN": 1}


def floats(*shape, size=1.0):
    return (rng.standard_normal(shape) * size).astype(np.float32)


def keep(id, model, params, peer, feeds, wants, tolerance):
    onnx.save(model, os.path.join(here, id + ".onnx"))
    one = {"id": id, "model": id + ".onnx", "params": params, "peer": peer, "inputs": {}, "outputs": {}, "tolerance": tolerance}
    for what, side, values in (("inputs", "in", feeds), ("outputs", "out", wants)):
        for k, v in values.items():
            arrays[f"{id}/{side}/{k}"] = v
            one[what][k] = f"{id}/{side}/{k}"
    cases.append(one)


class Net:
    """Nodes, their weights, and what is fed to them."""

    def __init__(self, steps, batch, size, layout=0):
        self.steps, self.batch, self.size, self.layout = steps, batch, size, layout
        self.nodes, self.consts, self.outputs = [], {}, []
        self.feeds = {"x": floats(*((batch, steps, size) if layout else (steps, batch, size)))}

    def cell(self, op, name, hidden, direction="forward", bias=True, lengths=False, state=False, outputs="YH", **attrs):
        dirs, columns = 2 if direction == "bidirectional" else 1, GATES[op] * hidden
        ins = ["x", name + "W", name + "R", name + "B" if bias else "", "", ""]
        self.consts[name + "W"], self.consts[name + "R"] = floats(dirs, columns, self.size, size=0.4), floats(dirs, columns, hidden, size=0.4)
        if bias:
            self.consts[name + "B"] = floats(dirs, 2 * columns, size=0.4)
        if lengths:
            ins[4] = "lengths"
            self.feeds["lengths"] = np.array([self.steps - (2 * i) % self.steps for i in range(self.batch)], np.int32)
        if state:
            ins[5] = name + "state"
            self.feeds[ins[5]] = floats(*((self.batch, dirs, hidden) if self.layout else (dirs, self.batch, hidden)), size=0.7)
        while not ins[-1]:
            ins.pop()
        if self.layout:
            attrs["layout"] = 1
        outs = [name + o if o in outputs else "" for o in "YH"][: 2 if "H" in outputs else 1]
        self.outputs += [o for o in outs if o]
        self.nodes.append(h.make_node(op, ins, outs, name=name, hidden_size=hidden, direction=direction, **attrs))
        return self

    def model(self, opset):
        ins = [h.make_tensor_value_info(k, h.np_dtype_to_tensor_dtype(v.dtype), v.shape) for k, v in self.feeds.items()]
        outs = [h.make_tensor_value_info(k, T.FLOAT, None) for k in self.outputs]
        g = h.make_graph(self.nodes, "recurrent", ins, outs, [nh.from_array(v, k) for k, v in self.consts.items()])
        return h.make_model(g, opset_imports=[h.make_opsetid("", opset)], ir_version=8)


def quantized(id, net, opset=17, per_tensor=False, tolerance=1e-6):
    with tempfile.TemporaryDirectory() as tmp:
        there, back = os.path.join(tmp, "f.onnx"), os.path.join(tmp, "q.onnx")
        onnx.save(net.model(opset), there)
        subprocess.run([sys.argv[1], "quantize", there, "-o", back, "--mode", "dynamic", "-q"] + ["--per-tensor"] * per_tensor, check=True)
        model = onnx.load(back)
    onnx.checker.check_model(model)
    o = ort.SessionOptions()
    o.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    o.intra_op_num_threads = 1
    s = ort.InferenceSession(model.SerializeToString(), o, providers=["CPUExecutionProvider"])
    got = s.run(net.outputs, net.feeds)
    keep(id, model, {"op": model.graph.node[0].op_type}, "onnxruntime " + ort.__version__, net.feeds, dict(zip(net.outputs, got)), {"max_abs": tolerance})


quantized("gru", Net(5, 3, 6).cell("GRU", "a", 9), per_tensor=True)
quantized("gru_behind", Net(5, 3, 6).cell("GRU", "a", 9, linear_before_reset=1))
quantized("gru_both", Net(6, 2, 7).cell("GRU", "a", 17, "bidirectional", state=True))
quantized("gru_both_lengths", Net(6, 3, 7).cell("GRU", "a", 8, "bidirectional", lengths=True, state=True, linear_before_reset=1))
quantized("gru_reverse_lengths", Net(7, 4, 5).cell("GRU", "a", 8, "reverse", lengths=True))
quantized("gru_reverse_no_bias", Net(7, 1, 5).cell("GRU", "a", 33, "reverse", bias=False, linear_before_reset=1), opset=11)
quantized("gru_batch_first", Net(4, 3, 5, layout=1).cell("GRU", "a", 8, "bidirectional", lengths=True, state=True), opset=14)
quantized("gru_clip", Net(5, 2, 6).cell("GRU", "a", 9, "reverse", clip=0.4), opset=22)
quantized("gru_functions", Net(5, 2, 6).cell("GRU", "a", 9, "bidirectional", activations=["HardSigmoid", "ScaledTanh", "sigmoid", "Elu"],
                                              activation_alpha=[0.3, 0.9, 0.8], activation_beta=[0.4, 1.1]))
quantized("gru_long", Net(40, 2, 48).cell("GRU", "a", 64, linear_before_reset=1), tolerance=2e-6)
quantized("rnn", Net(5, 3, 6).cell("RNN", "a", 9))
quantized("rnn_both_lengths", Net(5, 3, 6).cell("RNN", "a", 9, "bidirectional", lengths=True, activations=["Relu", "Affine"],
                                                activation_alpha=[0.5], activation_beta=[0.1]))
quantized("rnn_batch_first", Net(5, 2, 6, layout=1).cell("RNN", "a", 18, "reverse", state=True))
# nodes that differ have overloads of one function, and equal ones share it
quantized("overloads", Net(5, 2, 6).cell("GRU", "a", 9).cell("GRU", "b", 5, linear_before_reset=1).cell("RNN", "c", 7).cell("GRU", "d", 4).cell("GRU", "e", 4, bias=False)
          .cell("GRU", "f", 4, outputs="Y").cell("RNN", "g", 4, outputs="H"))


def torch_gru(id, steps, batch, size, hidden, both):
    torch.backends.quantized.engine = "qnnpack"
    torch.manual_seed(3)
    gru = torch.nn.GRU(size, hidden, bidirectional=both)
    q = torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(gru), {torch.nn.GRU})[0]
    weights, biases, ends = q.get_weight(), q.get_bias(), ["", "_reverse"][: 1 + both]
    turn = lambda a: np.concatenate([a[hidden : 2 * hidden], a[:hidden], a[2 * hidden :]])  # r, z, n to z, r, h
    consts = {}
    for name, which in (("W", "ih"), ("R", "hh")):
        all = [weights[f"weight_{which}_l0{e}"] for e in ends]
        consts[name] = np.stack([turn(w.int_repr().numpy()).T for w in all])
        consts[name + "s"] = np.array([w.q_scale() for w in all], np.float32)
        consts[name + "z"] = np.array([w.q_zero_point() for w in all], np.int8)
    consts["B"] = np.stack([np.concatenate([turn(biases[f"bias_{which}_l0{e}"].detach().numpy()) for which in ("ih", "hh")]) for e in ends])
    x, state = floats(steps, batch, size), floats(1 + both, batch, hidden, size=0.5)
    with torch.no_grad():
        y, last = q(torch.from_numpy(x), torch.from_numpy(state))
    node = h.make_node("DynamicQuantizeGRU", ["x", "W", "R", "B", "", "state", "Ws", "Wz", "Rs", "Rz"], ["Y", "H"], domain="requant",
                       hidden_size=hidden, direction="bidirectional" if both else "forward", linear_before_reset=1)
    feeds = {"x": x, "state": state}
    g = h.make_graph([node], id, [h.make_tensor_value_info(k, T.FLOAT, v.shape) for k, v in feeds.items()],
                     [h.make_tensor_value_info(k, T.FLOAT, None) for k in "YH"], [nh.from_array(v, k) for k, v in consts.items()])
    model = h.make_model(g, opset_imports=[h.make_opsetid("", 17), h.make_opsetid("requant", 1)], ir_version=8)
    wants = {"Y": y.numpy().reshape(steps, batch, 1 + both, hidden).transpose(0, 2, 1, 3).copy(), "H": last.numpy()}
    keep(id, model, {"op": "DynamicQuantizeGRU"}, "torch " + torch.__version__ + ", qnnpack", feeds, wants, {"max_abs": 1e-6})


torch_gru("torch_gru", 7, 2, 6, 9, False)
torch_gru("torch_gru_both", 12, 3, 10, 20, True)

np.savez(os.path.join(here, "data.npz"), **{k: np.asarray(v) for k, v in arrays.items()})
with open(os.path.join(here, "cases.json"), "w") as f:
    json.dump(cases, f, indent=0)
print(len(cases), "cases")
