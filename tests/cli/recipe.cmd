# recipes: what is wrong is named with its line and the nearest right name
printf 'methd: mse\n' >r.yaml; requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --recipe r.yaml
printf 'rules:\n  - match: {type: Convv}\n    set: {weights: u8}\n' >r.yaml; requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --recipe r.yaml
printf 'rules:\n  - match: {name: "nothing*"}\n    set: {float: true}\n' >r.yaml; requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --recipe r.yaml
printf 'method: best\n' >r.yaml; requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --recipe r.yaml
printf 'threads: many\n' >r.yaml; requant eval models/digits-cnn.onnx -d models/digits-test.npz --recipe r.yaml
printf 'a: [\n' >r.yaml; requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --recipe r.yaml
printf 'method: minmax\nsamples: 64\nrules:\n  - match: {type: Conv}\n    set: {weights: u8}\n' >r.yaml; requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --recipe r.yaml -q
ls
# a percentile means the method, as it does on the command line
printf 'percentile: 90\n' >r.yaml; requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o a.onnx --recipe r.yaml -q; requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o b.onnx --percentile 90 -q; cmp a.onnx b.onnx && echo same
# any long option may stand in it; samples that fill no batch are left out, and that is said
printf 'data: models/digits-test.npz\nout: o.npz\ndim: {batch: 3}\ntap: /2/Relu_output_0\n' >r.yaml; requant run models/digits-cnn.onnx --recipe r.yaml; test -s o.npz
# rules are for quantize; where they change nothing, that is said
printf 'rules:\n  - match: {type: Conv}\n    set: {weights: u8}\n' >r.yaml; requant run models/digits-cnn.onnx -d models/digits-test.npz -o o.npz --recipe r.yaml; requant run models/digits-cnn.onnx -d models/digits-test.npz -o o.npz --recipe r.yaml -q
# a pipe is refused, not waited for
mkfifo p; requant info p; requant eval models/digits-cnn.onnx -d p
# nor do rules escape the profile
printf 'rules:\n  - match: {type: Gemm}\n    set: {weights: s8}\n  - match: {type: Conv}\n    set: {activations: u16}\n' >r.yaml; requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o never.onnx --recipe r.yaml --profile tensorrt; ls never.onnx
# qconfigs: the same
printf 'objct_type: {LSTM: default_dynamic_qconfig}\n' >q.yaml; requant qconfigs q.yaml
printf 'module_name: {head: defalt_qconfig}\n' >q.yaml; requant qconfigs q.yaml
printf 'module_name: {head: null}\n' >q.yaml; requant qconfigs q.yaml
: >q.yaml; requant qconfigs q.yaml
# training: options in a recipe, those on the command line win; pictures are changed as --augment says
printf 'epochs: 2\nlr: 0.02\noptimizer: adam\nschedule: cosine\nlr-min: 0.001\nbatch: 64\naugment: {flip: true, crop: 2}\nseed: 3\n' >r.yaml; requant train models/digits-cnn.onnx -d models/digits-train.npz -o a.onnx --recipe r.yaml -q; requant train models/digits-cnn.onnx -d models/digits-train.npz -o b.onnx -q --epochs 2 --lr 0.02 --optimizer adam --schedule cosine --lr-min 0.001 --batch 64 --augment flip,crop=2 --seed 3; cmp a.onnx b.onnx && echo same
requant train models/digits-cnn.onnx -d models/digits-train.npz -o a.onnx --recipe r.yaml -q --epochs 1 --lr 0.05; requant train models/digits-cnn.onnx -d models/digits-train.npz -o b.onnx -q --epochs 1 --lr 0.05 --optimizer adam --schedule cosine --lr-min 0.001 --batch 64 --augment crop=2,flip --seed 3; cmp a.onnx b.onnx && echo same
printf 'preset: lsq\nweights-bits: 4\nactivations-bits: 4\nscale-lr: 0.5\nloss: distill\nfeature: [/6/MaxPool_output_0=2, /10/MaxPool_output_0]\n' >r.yaml; requant qat models/digits-cnn.onnx -d models/digits-train.npz -o a.onnx --recipe r.yaml -q; requant qat models/digits-cnn.onnx -d models/digits-train.npz -o b.onnx -q --preset lsq --weights-bits 4 --activations-bits 4 --scale-lr 0.5 --loss distill --feature /6/MaxPool_output_0=2 --feature /10/MaxPool_output_0; cmp a.onnx b.onnx && echo same
for y in 'epoch: 3' 'augment: {flop: true}' 'augment: {crop: far}' 'lr: fast' 'optimizer: rms' 'lr: [1, 2]' 'epochs: 2.5' 'milestones: [0, 1, 2, 3]'; do printf "$y\n" >r.yaml; requant train models/digits-cnn.onnx -d models/digits-train.npz -o never.onnx --recipe r.yaml; echo $?; done
ls never.onnx
