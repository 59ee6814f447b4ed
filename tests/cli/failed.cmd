# exit 1: the world is not as it should be
requant info no-such-model.onnx
requant info models/README.md
requant eval models/digits-cnn.onnx -d no-such-data.npz
printf 'TRT-8501-EntropyCalibration2\nimage: 3c0' >cut.cache; requant quantize models/digits-cnn.onnx --ranges cut.cache -o never.onnx
printf '{"image": [0, 1], "/5/Relu_output_1": [0, 2]}' >other.json; requant quantize models/digits-cnn.onnx --ranges other.json -o never.onnx
printf '{"image": [0, 1]}' >few.json; requant quantize models/digits-cnn.onnx --ranges few.json -o never.onnx
requant eval models/digits-cnn.onnx -d models/digits-test.npz --output logitz
requant run models/digits-cnn.onnx -d models/digits-test.npz -o out.npz --tap nothing
requant run models/digits-cnn.onnx -d models/digits-test.npz -o nowhere/out.npz
requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o nowhere/out.onnx
requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --samples 5000
requant eval models/digits-cnn.onnx -d models/digits-test.npz --dim nosuch=3
RQ_CPU=486 requant eval models/digits-cnn.onnx -d models/digits-test.npz
requant eval models/digits-cnn.onnx -d models/digits-test.npz --recipe no-such-recipe.yaml
requant bench models/digits-cnn.onnx --dim nosuch=3
requant eval models/digits-cnn.onnx -d .
head -c 50000 models/digits-cnn.onnx >cut.onnx; requant info cut.onnx
: >empty.onnx; requant info empty.onnx; : >empty.npz; requant eval models/digits-cnn.onnx -d empty.npz
requant run models/digits-cnn.onnx -d models/digits-test.npz -o models
requant eval models/digits-cnn.onnx -d models/digits-test.npz -q --json /dev/full
# no room for the new file: the old one stays, and nothing half-written beside it
echo old >out.onnx; trap '' XFSZ; ulimit -f 8; requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx -q; cat out.onnx
echo old >out.npz; trap '' XFSZ; ulimit -f 8; requant run models/digits-cnn.onnx -d models/digits-test.npz -o out.npz; cat out.npz
ls
# said before the work begins
requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o never.onnx --output logitz; ls never.onnx
requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o never.onnx --profile tensorrt --activations u8
requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o never.onnx --profile tensorrt --opset 10
requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o never.onnx --profile openvino --format qoperator; ls never.onnx
requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o never.onnx --inputs u8 --mean 0.1,0.2,0.3
requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o x.onnx --profile tensorrt --inputs s8 --mean 0.5 --std 0.5; ls x.onnx 2>/dev/null
requant bench models/digits-cnn.onnx --shape nosuch:1x1x8x8; requant bench models/digits-cnn.onnx --shape image:2x1x9x8
