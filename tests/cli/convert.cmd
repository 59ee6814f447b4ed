# ONNX to Core ML packages, and back
requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o int8.onnx -q
requant convert int8.onnx int8.mlpackage; requant info int8.mlpackage
requant convert int8.onnx -o half.mlpackage --compute f16 --shape image:1x1x8x8; requant info half.mlpackage | head -6
requant convert int8.onnx pixels.mlpackage --target ios18 --image image:0.0625:-0.5:gray --shape image:1x1x8x8; requant info pixels.mlpackage | head -5
requant convert int8.onnx range.mlpackage --shape image:1..16x1x8x8 -q; requant info range.mlpackage | head -4
requant convert int8.onnx list.mlpackage --shape image:1x1x8x8,4x1x8x8 -q; requant info list.mlpackage | head -4
seq 10 > names; requant convert int8.onnx named.mlpackage --labels names -q; requant info named.mlpackage | head -6
requant convert int8.mlpackage again.onnx; requant compare int8.onnx again.onnx -d models/digits-test.npz --batch 1 | mask | grep -A1 output
requant convert int8.onnx int8.mlpackage --target ios16
requant convert int8.onnx other.onnx --format qoperator; requant info other.onnx | grep operators
requant convert models/digits-cnn.onnx newer.onnx --opset 19; requant info newer.onnx | grep opset
requant quantize models/digits-cnn.onnx -o w4.mlpackage --mode weight-only --weights s4 -q; requant info w4.mlpackage | head -6
requant convert w4.mlpackage w4-16.mlpackage --target ios16
requant convert w4.mlpackage plain.mlpackage --decompress; requant info plain.mlpackage | head -6
requant convert ../golden/coreml_metadata/ptq_int4_blocks.onnx own.mlpackage --metadata ../golden/coreml_metadata/ptq_int4_blocks.safetensors; requant info own.mlpackage | head -6
# what is wrong
requant convert ../golden/coreml_metadata/ptq_int4_blocks.onnx a.mlpackage --target ios16 --metadata ../golden/coreml_metadata/ptq_int4_blocks.safetensors
requant convert int8.onnx a.mlpackage --metadata ../golden/coreml_metadata/pruned.safetensors
requant convert int8.onnx a.onnx --metadata ../golden/coreml_metadata/pruned.safetensors
requant convert int8.onnx a.mlpackage --decompress
requant convert w4.mlpackage a.mlpackage --decompress --compute f16
requant convert int8.onnx
requant convert int8.onnx a.mlpackage -o b.mlpackage
requant convert int8.onnx a.mlpackage --shape pixels:1x1x8x8
requant convert int8.onnx a.mlpackage --shape image:1x1x8
requant convert int8.onnx a.mlpackage --shape image=1x1x8x8
requant convert int8.onnx a.mlpackage --shape image:1x1..2x8x8,1x1x8x8
requant convert int8.onnx a.mlpackage --image image:0.1:1,2
requant convert int8.onnx a.mlpackage --image image:1
requant convert int8.onnx a.mlpackage --labels nothing
requant convert int8.onnx a.mlpackage --opset 17
requant convert int8.onnx a.onnx --compute f16
requant convert int8.onnx a.mlpackage --target ios14
mkdir full.mlpackage; echo > full.mlpackage/a; requant convert int8.onnx full.mlpackage; ls -A full.mlpackage
requant convert int8.mlpackage int8.mlpackage/
ls -d *.mlpackage* | tr '\n' ' '
