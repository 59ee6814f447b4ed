# usage mistakes: exit 2, a sentence, and the nearest name there is
requant
requant quantise
requant frobnicate
requant quantize
requant quantize models/digits-cnn.onnx
requant quantize models/digits-cnn.onnx -d models/digits-train.npz
requant quantize models/digits-cnn.onnx -d
requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --methd mse
requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --method best
requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --percentile 101
requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --threads zero
requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --dim batch
requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --per-tensor=yes
requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o models/digits-cnn.onnx
cp models/digits-cnn.onnx here.onnx; requant quantize here.onnx -d models/digits-train.npz -o ./here.onnx; cmp here.onnx models/digits-cnn.onnx && echo unharmed
requant run models/digits-cnn.onnx -d models/digits-test.npz
requant eval models/digits-cnn.onnx
requant eval models/digits-cnn.onnx extra -d models/digits-test.npz
requant compare models/digits-cnn.onnx -d models/digits-test.npz
requant info
requant ops --xyz
requant eval -x
# what is written never takes the place of what is read, or of something else that is written
cp models/digits-test.npz d.npz; requant run models/digits-cnn.onnx -d d.npz -o ./d.npz; requant eval models/digits-cnn.onnx -d d.npz --json d.npz; cmp d.npz models/digits-test.npz && echo unharmed
requant info here.onnx --json here.onnx
requant quantize models/digits-cnn.onnx -d d.npz -o out.onnx --json out.onnx
requant bench models/digits-cnn.onnx --batch 0
requant bench models/digits-cnn.onnx --shape image
requant bench models/digits-cnn.onnx --shape image:1..2x1x8x8
requant bench models/digits-cnn.onnx --shape image:2x1x8x8 -d models/digits-test.npz
requant quantize models/digits-cnn.onnx -o out.onnx --mode weight-only --max-drop 1
requant quantize models/digits-cnn.onnx -o out.onnx --mode weight-only --block-size 24
requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --weights s2
requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --activations s8 --weights u8
requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --compat onnxruntime --exclude /12/Gem
requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --exclude 'Cov*'
requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o never.onnx --inputs s8
requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o never.onnx --mean 0.5
requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o never.onnx --inputs u8 --mean 0.1,0.2 --std 1,2,3
requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o never.onnx --inputs u8 --mean a
requant quantize models/digits-cnn.onnx -o out.onnx --mode dynamic --method entropy
requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --per-row
requant quantize models/digits-cnn.onnx -o out.onnx --mode dynamic --profile tensorrt
requant quantize models/digits-cnn.onnx -o out.onnx --mode weight-only --weight-form matmulnbits --profile openvino
# options that would change nothing are not passed over
requant quantize models/digits-cnn.onnx -o out.onnx --mode weight-only --const-matmul
requant quantize models/digits-cnn.onnx -o out.onnx --mode dynamic --restricted-zero-point
requant quantize models/digits-cnn.onnx -o out.onnx --mode weight-only --bins 64
requant quantize models/digits-cnn.onnx -o out.onnx --mode dynamic --compat onnxruntime --force-moves
requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o never.onnx --keep-relu; ls never.onnx
requant quantize models/digits-cnn.onnx --ranges models/README.md -o out.onnx --percentile 99
requant quantize models/digits-cnn.onnx --ranges models/README.md -d models/digits-test.npz -o out.onnx -n 16
# what is slower in int8 can be left in float: both models must run, on the same inputs
requant quantize models/digits-cnn.onnx --ranges r.json -o o.onnx --keep-losers-float
requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o o.onnx --keep-losers-float --inputs u8
requant quantize models/digits-cnn.onnx -o o.onnx --mode weight-only --keep-losers-float
