# training: what cannot be done is said, and nothing is written
requant train models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --epochs 1 --init 1 --eval models/digits-test.npz | sed -n '/before/s/ *loss.*accuracy */ chance: /p' | awk '$3 < 30 { print "before: drawn anew" }'
requant train models/digits-cnn.onnx -d models/digits-train.npz -o never.onnx --resume nothing
requant train models/digits-cnn.onnx -d models/digits-train.npz -o never.onnx --checkpoint-steps 3
requant train models/digits-cnn.onnx -d models/digits-train.npz -o never.onnx --augment flop
requant train models/digits-cnn.onnx -d models/digits-train.npz -o never.onnx --loss distill
requant train models/digits-cnn.onnx -d models/digits-train.npz -o never.onnx --optimizer adam --nesterov
# samples to evaluate on that say nothing about the answers: training wants them, calibration does not
{ printf '\223NUMPY\001\000\166\000'; printf '%-117s\n' "{'descr': '<f4', 'fortran_order': False, 'shape': (32, 1, 8, 8), }"; head -c 8192 /dev/zero; } >plain.npy
requant train models/digits-cnn.onnx -d models/digits-train.npz -o never.onnx --eval plain.npy
requant qat models/digits-cnn.onnx -d models/digits-train.npz -o int8.onnx --eval plain.npy --calibrate-only -q; test -s int8.onnx
# a checkpoint of another run
requant train models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx -q --checkpoint ckpt; ls ckpt
requant train models/digits-cnn.onnx -d models/digits-train.npz -o again.onnx --resume ckpt; cmp out.onnx again.onnx
requant train models/digits-cnn.onnx -d models/digits-train.npz -o never.onnx --resume ckpt --epochs 2
requant train models/digits-cnn.onnx -d models/digits-train.npz -o never.onnx --resume ckpt --eval models/digits-test.npz 2>&1 | sed 's/labels [0-9a-f]*/labels #/'
requant train models/digits-uneven.onnx -d models/digits-train.npz -o never.onnx --resume ckpt 2>&1 | sed 's/=[0-9a-f]*/=#/g'
head -c 1000 ckpt/checkpoint.npz >cut; mv cut ckpt/checkpoint.npz; requant train models/digits-cnn.onnx -d models/digits-train.npz -o never.onnx --resume ckpt
: >ckpt/checkpoint.npz; requant train models/digits-cnn.onnx -d models/digits-train.npz -o never.onnx --resume ckpt
requant train models/digits-cnn.onnx -d models/digits-train.npz -o never.onnx --checkpoint nowhere/ckpt
: >file; requant train models/digits-cnn.onnx -d models/digits-train.npz -o never.onnx --checkpoint file
# no room: the old files stay
(echo old >out.onnx; trap '' XFSZ; ulimit -f 8; requant train models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx -q; cat out.onnx) 2>&1 | cat
(trap '' XFSZ; ulimit -f 8; requant train models/digits-cnn.onnx -d models/digits-train.npz -o never.onnx -q --checkpoint full; ls full) 2>&1 | cat
ls never.onnx
# options that say nothing beside the others, or contradict them: one sentence each
for o in "--every 2" "--gamma 0.5" "--lr-min 0.1" "--schedule cosine --lr-min 0.1" "--schedule step --lr-min 0.001" "--warmup 100" "--label-smoothing 0.1 --loss mse" "--temperature 2" "--teacher models/digits-uneven.onnx" --decay-all "--json-steps 3" "--optimizer adam --momentum 0.9"; do requant train models/digits-cnn.onnx -d models/digits-train.npz -o never.onnx $o 2>&1 | head -1; done
for o in "--scale-lr 0.5" "--preset nvidia --original-lr 0.1 --lr 0.001" "--preset nvidia --original-epochs 90 --epochs 3" "--original-lr 0.1" "--config c.yaml --preset lsq" "--config c.yaml --weights-bits 4" "--calibrate-only --augment flip" "--calibrate-only --epochs 3" "--preset lsq --every 2"; do requant qat models/digits-cnn.onnx -d models/digits-train.npz -o never.onnx $o 2>&1 | head -1; done
# missing values and wrong words
for o in --preset "--preset lsqq" "--weights-bits 9" "--activations-bits 1" "--loss l1" "--optimizer rmsprop" "--schedule poly" "--lr fast" "--lr -1" "--epochs -3" "--epochs 1.5" --checkpoint --resume "--max-drop x" "--weight-bits 4" "--batch-size 32" "--learning-rate 0.1" "-o never.pt" "-o never.pt/" "--feature nothing" "--output nothing" "--teacher nothing.onnx --distill 0.5" "--config nothing.yaml"; do requant qat models/digits-cnn.onnx -d models/digits-train.npz -o never.onnx $o 2>&1 | head -1; done
