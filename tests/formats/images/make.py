"""Make the pictures of this folder and what Pillow and torchvision turn them into (expected.npz). Run with Pillow, torch and
torchvision installed; the tests only read what it wrote."""
import numpy as np
from PIL import Image
import torchvision.transforms as T
import torchvision.transforms.functional as F

rng = np.random.default_rng(7)
y, x = np.mgrid[0:60, 0:83]
smooth = np.stack([127 + 120 * np.sin(x / 9), 127 + 120 * np.cos(y / 7), (x * 3 + y * 2) % 256], -1)
photo = np.clip(smooth + rng.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)
img = Image.fromarray(photo)
img.save("photo.jpg", quality=90)
img.save("progressive.jpg", quality=80, progressive=True)
img.convert("L").save("gray.jpg", quality=90)
img.convert("CMYK").save("cmyk.jpg", quality=90)
img.save("photo.png")
img.convert("P", palette=Image.Palette.ADAPTIVE, colors=32).save("palette.png")
img.convert("L").save("gray.png")
Image.merge("RGBA", (*img.split(), img.convert("L"))).save("alpha.png")
open("cut.jpg", "wb").write(open("photo.jpg", "rb").read()[:1500])
open("cut.png", "wb").write(open("photo.png", "rb").read()[:4000])

out = {}
for name in ("photo.jpg", "progressive.jpg", "gray.jpg", "photo.png", "palette.png", "gray.png", "alpha.png"):
    out[name] = np.asarray(Image.open(name).convert("RGB"))
src = Image.open("photo.png").convert("RGB")
for f, filt in (("nearest", Image.NEAREST), ("box", Image.BOX), ("bilinear", Image.BILINEAR), ("bicubic", Image.BICUBIC)):
    for h, w in ((17, 24), (60, 40), (90, 110)):
        out[f"{f}_{h}_{w}"] = np.asarray(src.resize((w, h), filt))
out["gray_of_photo"] = np.asarray(src.convert("L"))
net = T.Compose([T.Resize(33), T.CenterCrop((28, 25)), T.ToTensor(), T.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])
out["torchvision"] = net(src).numpy()
np.savez_compressed("expected.npz", **out)
