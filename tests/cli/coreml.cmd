# packages that are none
mkdir cut.mlpackage; echo '{"fileFormatVersion": "1.0.0", ' > cut.mlpackage/Manifest.json; requant info cut.mlpackage
mkdir out.mlpackage; echo '{"fileFormatVersion": "1.0.0", "itemInfoEntries": {"a": {"author": "", "description": "", "name": "", "path": "../../secret"}}, "rootModelIdentifier": "a"}' > out.mlpackage/Manifest.json; requant info out.mlpackage
requant info --modules cut.mlpackage
mkdir empty.mlpackage; requant info empty.mlpackage
requant run empty.mlpackage -d x.npz -o y.npz
printf text > text.mlpackage; requant info text.mlpackage
requant quantize gone.mlpackage -o q.mlpackage --mode weight-only --config c.yaml
requant convert gone.mlpackage plain.mlpackage --decompress
