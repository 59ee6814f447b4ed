"""make_sequence.py DIR - lists of tensors as exports use them, made and taken apart at constant places."""
import sys

import numpy as np
import onnxruntime as ort
import peer
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh


def build(name, shapes, nodes, consts=(), opset=17, dims=None):
    """nodes: (op, inputs, outputs, attributes); the value y is the output."""
    feeds = {f"x{i}": peer.f(*s) for i, s in enumerate(shapes)}
    values = [h.make_tensor_value_info(f"x{i}", T.FLOAT, (dims or shapes)[i]) for i in range(len(shapes))]
    inits = [nh.from_array(np.array(v, dtype=np.int64), n) for n, v in consts]
    made = [h.make_node(op, i, o, name=f"{op}_{k}", **a) for k, (op, i, o, a) in enumerate(nodes)]
    graph = h.make_graph(made, "g", values, [h.make_empty_tensor_value_info("y")], inits)
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", opset)], ir_version=8)
    got = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds)
    e = {"id": name, "model": name + ".onnx", "params": {}, "inputs": {}, "outputs": {"y": f"{name}/out/y"},
         "peer": "onnxruntime " + ort.__version__, "tolerance": {"max_abs": 0}}
    for n, x in feeds.items():
        peer.data[f"{name}/in/{n}"] = x
        e["inputs"][n] = f"{name}/in/{n}"
    peer.data[f"{name}/out/y"] = got[0]
    peer.cases.append(e)
    peer.os.makedirs(sys.argv[1], exist_ok=True)
    with open(f"{sys.argv[1]}/{name}.onnx", "wb") as file:
        file.write(model.SerializeToString())


build("stack", [(2, 3)] * 3, [("SequenceConstruct", ["x0", "x1", "x2"], ["s"], {}),
                              ("ConcatFromSequence", ["s"], ["y"], {"axis": 1, "new_axis": 1})])
build("stack_old", [(2, 3)] * 2, [("SequenceConstruct", ["x0", "x1"], ["s"], {}),
                                  ("ConcatFromSequence", ["s"], ["y"], {"axis": -1, "new_axis": 1})], opset=11)
build("cat", [(2, 3), (4, 3)], [("SequenceConstruct", ["x0", "x1"], ["s"], {}), ("Identity", ["s"], ["t"], {}),
                                ("ConcatFromSequence", ["t"], ["y"], {"axis": 0})], opset=16)
build("chunk", [(2, 7, 3)], [("SplitToSequence", ["x0", "k"], ["s"], {"axis": 1}), ("SequenceAt", ["s", "i"], ["a"], {}),
                             ("SequenceAt", ["s", "j"], ["b"], {}), ("Concat", ["b", "a"], ["y"], {"axis": 1})],
      [("k", 3), ("i", 0), ("j", -1)])
build("split", [(9, 2)], [("SplitToSequence", ["x0", "k"], ["s"], {}), ("SequenceAt", ["s", "i"], ["a"], {}),
                          ("Neg", ["a"], ["y"], {})], [("k", [2, 4, 3]), ("i", 1)], dims=[("N", 2)])
build("split_old", [(9, 2)], [("SplitToSequence", ["x0", "k"], ["s"], {}), ("SequenceAt", ["s", "i"], ["a"], {}),
                              ("Neg", ["a"], ["y"], {})], [("k", [2, 4, 3]), ("i", 2)], opset=11)
for opset in (12, 17):
    build(f"unbind_{opset}", [(4, 3)], [("SplitToSequence", ["x0"], ["s"], {"axis": 1, "keepdims": 0}),
                                        ("SequenceAt", ["s", "i"], ["a"], {}), ("SequenceLength", ["s"], ["n"], {}),
                                        ("Cast", ["n"], ["f"], {"to": T.FLOAT}), ("Add", ["a", "f"], ["y"], {})],
          [("i", -2)], opset=opset)
build("insert", [(2, 3)] * 3, [("SequenceEmpty", [], ["e"], {}), ("SequenceInsert", ["e", "x0"], ["s"], {}),
                               ("SequenceInsert", ["s", "x1", "i"], ["t"], {}), ("SequenceInsert", ["t", "x2", "j"], ["u"], {}),
                               ("SequenceErase", ["u", "j"], ["v"], {}), ("SequenceInsert", ["v", "x2"], ["w"], {}),
                               ("ConcatFromSequence", ["w"], ["y"], {"axis": 0})], [("i", 0), ("j", -1)])
build("erase_last", [(2, 3)] * 3, [("SequenceConstruct", ["x0", "x1", "x2"], ["s"], {}), ("SequenceErase", ["s"], ["t"], {}),
                                   ("SequenceErase", ["t", "i"], ["u"], {}), ("SequenceAt", ["u", "i"], ["a"], {}),
                                   ("Neg", ["a"], ["y"], {})], [("i", 0)])
peer.done()
