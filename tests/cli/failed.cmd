# exit 1: the world is not as it should be
requant info no-such-model.onnx
requant info models/README.md
requant eval models/digits-cnn.onnx -d no-such-data.npz
requant eval models/digits-cnn.onnx -d models/digits-test.npz --output logitz
requant run models/digits-cnn.onnx -d models/digits-test.npz -o out.npz --tap nothing
requant run models/digits-cnn.onnx -d models/digits-test.npz -o nowhere/out.npz
requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o nowhere/out.onnx
requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --samples 5000
requant eval models/digits-cnn.onnx -d models/digits-test.npz --dim nosuch=3
RQ_CPU=486 requant eval models/digits-cnn.onnx -d models/digits-test.npz
requant eval models/digits-cnn.onnx -d models/digits-test.npz --recipe no-such-recipe.yaml
ls
