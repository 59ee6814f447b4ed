"""make_float.py DIR - float operators that few models hold."""
import numpy as np
from peer import case, done, f, i32, i64, rng

O = lambda name, op, ins, opset=20, nout=(1,), **k: case(name, op, "", ins, nout, opset=opset, **k)
MS = lambda name, op, ins, nout=(1,), **k: case("ms_" + name, op, "com.microsoft", ins, nout, **k)

for n in (1, 2, 7, 8, 12, 25):
    O(f"dft_{n}", "DFT", [f(2, n, 3, 1), None, np.array(1, dtype=np.int64)])
    O(f"dft_complex_{n}", "DFT", [f(2, 3, n, 2)], opset=20)
    O(f"dft_inverse_{n}", "DFT", [f(2, n, 3, 2)], opset=17, inverse=1, axis=1)
    O(f"dft_onesided_{n}", "DFT", [f(2, n, 1)], opset=17, onesided=1)
O("dft_longer", "DFT", [f(2, 6, 1), np.array(10, dtype=np.int64)], opset=17)
O("dft_shorter", "DFT", [f(2, 9, 2), np.array(5, dtype=np.int64)], opset=17)
O("stft_window", "STFT", [f(2, 50, 1), np.array(7, dtype=np.int64), f(12).__abs__(), np.array(12, dtype=np.int64)], opset=17)
O("stft_both", "STFT", [f(1, 40, 1), np.array(5, dtype=np.int64), None, np.array(16, dtype=np.int64)], opset=17, onesided=0)
O("stft_odd", "STFT", [f(1, 40, 1), np.array(9, dtype=np.int64), f(9)], opset=17)
for w in ("Hann", "Hamming", "Blackman"):
    O(f"{w}_periodic".lower(), w + "Window", [np.array(13, dtype=np.int64)], opset=17)
    O(f"{w}_f64".lower(), w + "Window", [np.array(8, dtype=np.int32)], opset=17, periodic=0, output_datatype=11)
O("mel", "MelWeightMatrix", [i64(10), i64(64), i64(8000), np.array(0, np.float32), np.array(3900, np.float32)], opset=17)
O("lp_global", "GlobalLpPool", [f(2, 3, 5, 4)], p=1)
O("lp_global3", "GlobalLpPool", [f(2, 3, 5)], p=3)
O("lp_global2", "GlobalLpPool", [f(2, 3, 2, 3, 2)])
rois = np.array([[0, 0, 0, 7, 5], [1, 2, 1, 4, 4], [0, 3, 3, 3, 3], [1, -2, 4, 12, 12]], np.float32)
O("roi_pool", "MaxRoiPool", [f(2, 3, 6, 8), rois], pooled_shape=[3, 2])
x, w = f(2, 4, 7, 6), f(6, 4, 3, 2)
O("deform", "DeformConv", [x, w, f(2, 12, 5, 5)], opset=19, kernel_shape=[3, 2])
O("deform_all", "DeformConv", [x, f(6, 2, 3, 2), 3 * f(2, 24, 4, 3), f(6), f(2, 12, 4, 3)], opset=19, group=2, offset_group=2,
  strides=[2, 2], pads=[1, 0, 1, 1], dilations=[1, 2])
O("col2im", "Col2Im", [f(2, 3 * 6, 25), i64([6, 5]), i64([3, 2])], opset=18, pads=[0, 1, 1, 0])
O("crop", "CenterCropPad", [f(5, 8, 3), i64([3, 9, 4])], opset=18)
O("affine", "AffineGrid", [f(2, 2, 3), i64([2, 3, 4, 5])])
O("affine3", "AffineGrid", [f(2, 3, 4), i64([2, 1, 3, 2, 4])], align_corners=1)
at = i64(np.array([0, 3, 17, 23]).reshape(1, 1, 2, 2))
O("unpool", "MaxUnpool", [f(1, 1, 2, 2), at], kernel_shape=[2, 2], strides=[3, 4])
O("det", "Det", [f(2, 3, 5, 5)])
O("det1", "Det", [np.array([[0, 2], [3, 0]], np.float32)])
MS("inverse", "Inverse", [f(2, 4, 4)])
MS("transpose_matmul", "TransposeMatMul", [f(2, 4, 3), f(2, 4, 5)], transA=1, alpha=0.5)
MS("trilu", "Trilu", [f(2, 4, 5), i64(1)], upper=0)
MS("grid", "GridSample", [f(1, 2, 4, 5), f(1, 3, 3, 2)], mode="bilinear", align_corners=1)
MS("bias_gelu", "BiasGelu", [f(3, 4), f(4)])
done()
