# quantization-aware training: the JSON lines end with the verdict of integers and with what simulation and integers differ in
requant qat models/digits-cnn.onnx -d models/digits-train.npz --eval models/digits-test.npz -o out.onnx --preset lsq --weights-bits 4 --activations-bits 4 --json lines -q; cut -c1-12 lines; wc -l <lines
grep -o '"verdict": {"epoch": [0-9]*, "ptq": {"loss": [0-9.e-]*, "accuracy": [0-9.]*}, "float": {"accuracy": 0.9[0-9]*, "interval": \[0[0-9.]*, 0[0-9.]*\], "ms": [0-9.]*, "bytes": [0-9]*}, "int8": {"accuracy"' lines | mask
grep -o '"simulation": {"samples": 500, "codes": 2245000, "differ": [0-9]*, "differ_in_all": [0-9]*, "limit": 0.001, "layers": \[{"name": "image"' lines | mask
requant qat models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --calibrate-only --json - | cut -c1-40 | mask
requant qat models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --calibrate-only -q --json nowhere/lines
# codes of few bits are shown as such, and judged by them: no suspicions
requant qat models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --preset lsq --weights-bits 4 --activations-bits 4 --calibrate-only --deterministic | sed -n '/^layer.*type/,/kept in/p;/Suspicions/,$p' | mask
requant compare models/digits-cnn.onnx out.onnx -d models/digits-test.npz | awk '/u8/ { print $1, $3 }'
# a preset's own milestones are no news; what nobody said is said
requant qat models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --preset lsq --calibrate-only | grep -c warning
requant qat models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --preset nvidia >/dev/null
requant qat models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --preset nvidia --original-lr 0.1 --original-epochs 12 --deterministic | grep '^epoch' | mask
# milestones that the run is too short for
printf 'global_config: {milestones: [0, 100, 400, 200]}\n' >c.yaml; requant qat models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --config c.yaml --batch 100 >/dev/null
# a rule that decides nothing: each ReLU is part of its convolution
printf 'module_type_configs: {ReLU: {activation_dtype: float32}}\n' >r.yaml; requant qat models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --config r.yaml --calibrate-only >/dev/null
# a checkpoint of another run: what differs, in words
requant qat models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx -q --checkpoint ckpt
for o in "--optimizer adam" "--schedule step" "--loss mse" "--augment crop=1" "--weights-bits 4" "--epochs 3" "--batch 32" "--lr 0.1" "-n 32" --deterministic --keep-last; do requant qat models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx -q --resume ckpt $o; done
# - is the output as it stands, also one that is appended to
echo old >log; requant qat models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --json - >>log; cut -c1-12 log
# all quantizers, with their bits, scales and errors
requant qat models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --weights-bits 4 --calibrate-only --deterministic -v 2>/dev/null | sed -n '/name |/,/^$/p' | mask | head -4
# a model that is quantized starts from its scales; in no file are its floats
requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o q.onnx -q; requant qat q.onnx -d models/digits-train.npz -o out.onnx --lr 0.0001 --deterministic | grep -E 'start from|^Size|given' | mask
requant qat q.onnx -d models/digits-train.npz -o missed.onnx --lr 1 --clip-norm 1 --max-drop 0 -q; echo $?; ls missed.onnx
# the folder to go on from is where further checkpoints go
requant qat models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx -q --resume ckpt --checkpoint-steps 20; ls ckpt
# training that begins far below what calibration gave
requant qat models/digits-cnn.onnx -d models/digits-train.npz --eval models/digits-test.npz -o out.onnx --lr 1 --clip-norm 1 --deterministic 2>&1 >/dev/null | mask
