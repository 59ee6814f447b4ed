# the main job, with what varies between machines masked
requant quantize models/digits-cnn.onnx -d models/digits-train.npz --eval models/digits-test.npz -o int8.onnx --json v.json | mask | grep -vE '^(Time|Most|Verdict)'
requant info int8.onnx | mask
requant convert int8.onnx -o integers.onnx --format qoperator; requant info integers.onnx | mask; requant compare int8.onnx integers.onnx -d models/digits-test.npz | mask | grep output
requant lint int8.onnx; requant lint integers.onnx --profile tensorrt | tail -3; requant lint models/digits-cnn.onnx | head -3
requant eval int8.onnx -d models/digits-test.npz | mask
requant eval models/digits-cnn.onnx -d models/digits-test.npz | mask
requant compare models/digits-cnn.onnx int8.onnx -d models/digits-test.npz -q
requant run int8.onnx -d models/digits-test.npz -o out.npz
requant bench models/digits-cnn.onnx --against int8.onnx --runs 10 | tail -4 | mask | sed -E 's/the first.*|.*faster.*/the ratio/'
requant quantize int8.onnx -d models/digits-train.npz -o again.onnx
requant quantize int8.onnx -d models/digits-train.npz -o again.onnx --requantize -q
# weights only: no samples needed, and then nothing is judged
requant quantize models/digits-cnn.onnx -o weights.onnx --mode weight-only; requant info weights.onnx | mask | head -12
requant quantize models/digits-cnn.onnx -o w4.onnx --mode weight-only --weights u4 --affine-weights --block-size 16; requant compare models/digits-cnn.onnx w4.onnx -d models/digits-test.npz | mask | grep -A1 output
requant quantize models/digits-cnn.onnx -o w4.onnx --mode weight-only --weights s4 --eval models/digits-test.npz | mask | grep -E 'Gemm|layers|codes'
# inputs measured as they pass
requant quantize models/digits-cnn.onnx -o dyn.onnx --mode dynamic --eval models/digits-test.npz | mask | grep -E 'Integer|layers'
requant quantize models/digits-uneven.onnx -o dyn.onnx --mode dynamic --per-row; requant info dyn.onnx | mask | grep operators
requant ops | head -2
# ranges as a file: the same model as from samples; as a cache of TensorRT's; judged where there are samples
requant calibrate models/digits-cnn.onnx -d models/digits-train.npz -o ranges.json; grep -c method ranges.json
requant quantize models/digits-cnn.onnx --ranges ranges.json -o r1.onnx | mask; requant quantize models/digits-cnn.onnx -d models/digits-train.npz --eval models/digits-test.npz -o r2.onnx -q; cmp r1.onnx r2.onnx && echo same
requant calibrate models/digits-cnn.onnx -d models/digits-train.npz -o ranges.cache --method percentile -q; head -1 ranges.cache; requant quantize models/digits-cnn.onnx --ranges ranges.cache --activations s8 --symmetric -o r3.onnx -d models/digits-test.npz | mask | grep -E 'output|image'
# as ONNX Runtime's quantizer does it
requant quantize models/digits-cnn.onnx -d models/digits-train.npz --eval models/digits-test.npz -o ort.onnx --compat onnxruntime --method percentile --weight-pairs --dedicated-pairs | mask | grep -E 'output|image'
# the verdict missed: exit 3, nothing written, what was there stays, the worst layers named
printf 'max-drop: 0.5\nrules:\n  - match: {tensor: image}\n    set: {scale: 2.0, zero-point: 0}\n' >r.yaml
echo old >bad.onnx; requant quantize models/digits-cnn.onnx -d models/digits-train.npz --eval models/digits-test.npz -o bad.onnx --recipe r.yaml -q 2>&1 | mask; cat bad.onnx
requant quantize models/digits-cnn.onnx -d models/digits-train.npz --eval models/digits-test.npz -o bad.onnx --recipe r.yaml -q >/dev/null 2>&1
requant quantize models/digits-cnn.onnx -d models/digits-train.npz --eval models/digits-test.npz -o bad.onnx --recipe r.yaml --max-drop 100 -q
# the same command gives the same bytes, and --seed another draw
requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o a.onnx -q; requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o b.onnx -q --threads 1; cmp a.onnx b.onnx && echo same
requant quantize models/digits-cnn.onnx -d models/digits-train.npz --samples 16 --seed 1 -o b.onnx -q; cmp -s a.onnx b.onnx || echo differs
ls
# as JSON
requant eval models/digits-cnn.onnx -d models/digits-test.npz --json - | mask
requant bench models/digits-cnn.onnx --runs 3 --json - | head -5 | mask
requant compare models/digits-cnn.onnx a.onnx -d models/digits-test.npz --json - | mask | sed -E 's/^ +//' | head -20
requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o trt.onnx --profile tensorrt --opset 13 | tail -1; requant info trt.onnx | mask
requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o pixels.onnx --inputs u8 --outputs u8 --mean 0.25 --std 0.5 -q; requant info pixels.onnx | mask | head -2; requant lint pixels.onnx
# for a runtime: what it will do with the file is said without samples too
requant quantize models/digits-cnn.onnx --ranges ranges.json -o r4.onnx --profile openvino | mask
# layers by the names and types that rules go by
requant info models/digits-cnn.onnx --modules | tail -16; requant info models/digits-cnn.onnx --modules -q --json - | grep -A6 modules
# layers that lose time stay in float, if any do
requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o fast.onnx --keep-losers-float --threads 1 | grep -cE 'no layer is slower|slower, but stays|kept in float' | sed 's/[1-9][0-9]*/some/'; requant info fast.onnx | mask | grep -c input
