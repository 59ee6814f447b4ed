"""make_functions.py DIR - model-local functions, written for other opsets than the model's: nested, with default attributes,
overloaded, with graphs inside. ONNX Runtime refuses most of them; what it makes of the same in one graph is expected."""
import sys

import numpy as np
import onnx
import onnxruntime as ort
import peer
from onnx import TensorProto as T
from onnx import helper as h


def ref(node, name, attr, kind):
    """attribute `attr` of the node is the function's attribute `name`"""
    a = onnx.AttributeProto(name=attr, ref_attr_name=name, type=kind)
    node.attribute.append(a)
    return node


def function(name, ins, outs, nodes, opset, attrs=(), defaults=(), overload=None, more=()):
    f = h.make_function("local", name, ins, outs, nodes, [h.make_opsetid("", opset), *(h.make_opsetid(d, 1) for d in more)],
                        attributes=list(attrs), attribute_protos=list(defaults))
    if overload:
        f.overload = overload
    return f


def build(name, opset, functions, nodes, twin, shape=(2, 3, 4), ir=10):
    """twin: the same in one graph of opset 20"""
    x = peer.f(*shape)
    values = [h.make_tensor_value_info("x", T.FLOAT, shape)], [h.make_empty_tensor_value_info("y")]
    model = h.make_model(h.make_graph(nodes, "g", *values), opset_imports=[h.make_opsetid("", opset), h.make_opsetid("local", 1)],
                         functions=functions, ir_version=ir)
    plain = h.make_model(h.make_graph(twin, "g", *values), opset_imports=[h.make_opsetid("", 20)], ir_version=ir)
    got = ort.InferenceSession(plain.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})
    e = {"id": name, "model": name + ".onnx", "params": {}, "inputs": {"x": f"{name}/in/x"}, "outputs": {"y": f"{name}/out/y"},
         "peer": "onnxruntime " + ort.__version__ + ", one graph", "tolerance": {"rel_to_max": 1e-5, "abs": 1e-6}}
    peer.data[f"{name}/in/x"] = x
    peer.data[f"{name}/out/y"] = got[0]
    peer.cases.append(e)
    peer.os.makedirs(sys.argv[1], exist_ok=True)
    with open(f"{sys.argv[1]}/{name}.onnx", "wb") as file:
        file.write(model.SerializeToString())


n = h.make_node


def c(name, value):
    return n("Constant", [], [name], value=onnx.numpy_helper.from_array(np.array(value)))


f32 = np.float32
# opset 9 attributes inside opset 17: Clip's limits, ReduceSum's axes, Softmax that flattens
old = function("Old", ["a"], ["c"], [n("Clip", ["a"], ["b"], min=-0.5, max=0.75), n("ReduceSum", ["b"], ["c"], axes=[1], keepdims=1)], 9)
soft = function("Soft", ["a"], ["b"], [n("Softmax", ["a"], ["b"], axis=1)], 11)
limits = [c("lo", f32(-0.5)), c("hi", f32(0.75)), c("one", [1])]
build("older_body", 17, [old], [n("Old", ["x"], ["s"], domain="local"), n("Add", ["x", "s"], ["y"])],
      [*limits, n("Clip", ["x", "lo", "hi"], ["b"]), n("ReduceSum", ["b", "one"], ["s"]), n("Add", ["x", "s"], ["y"])])
build("older_softmax", 17, [soft], [n("Soft", ["x"], ["y"], domain="local")],
      [c("two", [2, 12]), c("back", [2, 3, 4]), n("Reshape", ["x", "two"], ["f"]), n("Softmax", ["f"], ["s"]), n("Reshape", ["s", "back"], ["y"])])
# a body newer than the model, whose own nodes are in old words
new = function("New", ["a"], ["b"], [n("Gelu", ["a"], ["b"], approximate="tanh")], 20)
build("newer_body", 11, [new],
      [n("ReduceSum", ["x"], ["s"], axes=[2], keepdims=1), n("New", ["s"], ["g"], domain="local"), n("Softmax", ["g"], ["y"], axis=1)],
      [c("axes", [2]), n("ReduceSum", ["x", "axes"], ["s"]), n("Gelu", ["s"], ["g"], approximate="tanh"), n("Softmax", ["g"], ["y"], axis=1)])
# both at once, one inside the other
outer = function("Outer", ["a"], ["d"], [n("Old", ["a"], ["b"], domain="local"), n("Sub", ["a", "b"], ["c"]), n("New", ["c"], ["d"], domain="local")], 15,
                 more=["local"])
build("nested", 13, [old, new, outer], [n("Outer", ["x"], ["z"], domain="local"), n("Squeeze", ["z"], ["q"]), n("Relu", ["q"], ["y"])],
      [*limits, n("Clip", ["x", "lo", "hi"], ["b"]), n("ReduceSum", ["b", "one"], ["s"]), n("Sub", ["x", "s"], ["d"]),
       n("Gelu", ["d"], ["g"], approximate="tanh"), n("Relu", ["g"], ["y"])])
# attributes: given, by default, left out
leaky = function("Leaky", ["a"], ["b"], [ref(n("LeakyRelu", ["a"], ["b"]), "slope", "alpha", onnx.AttributeProto.FLOAT)], 16,
                 defaults=[h.make_attribute("slope", 0.25)])
build("attribute_default", 17, [leaky], [n("Leaky", ["x"], ["z"], domain="local"), n("Leaky", ["z"], ["y"], domain="local", slope=0.5)],
      [n("LeakyRelu", ["x"], ["z"], alpha=0.25), n("LeakyRelu", ["z"], ["y"], alpha=0.5)])
bare = function("Bare", ["a"], ["b"], [ref(n("LeakyRelu", ["a"], ["b"]), "slope", "alpha", onnx.AttributeProto.FLOAT)], 9, attrs=["slope"])
build("attribute_absent", 17, [bare], [n("Bare", ["x"], ["y"], domain="local")], [n("LeakyRelu", ["x"], ["y"])])
# two of one name
neg = function("Two", ["a"], ["b"], [n("Neg", ["a"], ["b"])], 13, overload="neg")
mag = function("Two", ["a"], ["b"], [n("Abs", ["a"], ["b"])], 12, overload="abs")
first, second = n("Two", ["x"], ["z"], domain="local"), n("Two", ["z"], ["y"], domain="local")
first.overload, second.overload = "abs", "neg"
build("overloads", 17, [neg, mag], [first, second], [n("Abs", ["x"], ["z"]), n("Neg", ["z"], ["y"])])
# a graph inside a body, with old nodes in its branches
then = h.make_graph([n("Clip", ["a"], ["t"], max=0.0)], "then", [], [h.make_empty_tensor_value_info("t")])
other = h.make_graph([n("Clip", ["a"], ["e"], min=0.0)], "else", [], [h.make_empty_tensor_value_info("e")])
branch = function("Branch", ["a"], ["b"], [n("ReduceSum", ["a"], ["s"], keepdims=0), n("Constant", [], ["zero"], value=h.make_tensor("z", T.FLOAT, [], [0.0])),
                                           n("Greater", ["s", "zero"], ["c"]), n("If", ["c"], ["b"], then_branch=then, else_branch=other)], 9)
build("graph_inside", 17, [branch], [n("Branch", ["x"], ["y"], domain="local")],
      [n("ReduceSum", ["x"], ["s"], keepdims=0), c("zero", f32(0)), n("Greater", ["s", "zero"], ["p"]), n("Min", ["x", "zero"], ["t"]), n("Max", ["x", "zero"], ["e"]),
       n("Where", ["p", "t", "e"], ["y"])])
peer.done()
