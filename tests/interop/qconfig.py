#!/usr/bin/env python3
"""qconfig.py [--print]: are the tables of tests/quant/test_qconfig.c what the PyTorch that is installed makes of its qconfigs?

Compares the rows of presets, and the lookups of FX mode, token by token (--print: shows them). Exit 1 on a difference, 77 without torch."""
import os, re, sys, warnings

try:
    import torch
    import torch.ao.quantization.fake_quantize as F
    import torch.ao.quantization.qconfig as Q
    from torch.ao.quantization.fx import qconfig_mapping_utils as U
    from torch.ao.quantization.qconfig_mapping import QConfigMapping
    from torch.ao.quantization.utils import _parent_name
except (ImportError, AttributeError) as e:
    print('qconfig: skipped, no torch.ao.quantization:', e)
    sys.exit(77)

warnings.filterwarnings('ignore')


def row(constructor):
    """what a constructor makes, as the test writes it"""
    if constructor is torch.nn.Identity:
        return '"", "", "", "", 0, 0, 0, 0, 0, -1, 0, 0'
    made = constructor()
    fake = isinstance(made, F.FakeQuantizeBase)
    o = made.activation_post_process if fake else made
    words = [type(made).__name__ if fake else '', type(o).__name__] + [str(getattr(o, k, '')).replace('torch.', '') for k in ('dtype', 'qscheme')]
    ends = [getattr(o, k, 0) or 0 for k in ('quant_min', 'quant_max')]
    return '%s, %d, %d, %.9g, %.9g, %d, %d, %.9g, %d' % (
        ', '.join('"%s"' % w for w in words), *ends, float(getattr(o, 'eps', 0)), getattr(o, 'averaging_constant', 0),
        bool(getattr(o, 'is_dynamic', False)), getattr(o, 'ch_axis', -1), float(getattr(o, 'scale', 0)), int(getattr(o, 'zero_point', 0)))


def presets():
    named = [(n, getattr(Q, n)) for n in dir(Q) if not n.startswith('_') and isinstance(getattr(Q, n), Q.QConfig)]
    for b in ('fbgemm', 'x86', 'qnnpack', 'onednn'):
        named += [(b, Q.get_default_qconfig(b)), (b + '_qat_v0', Q.get_default_qat_qconfig(b, 0)), (b + '_qat', Q.get_default_qat_qconfig(b, 1))]
    return {n: '%s / %s' % (row(q.activation), row(q.weight)) for n, q in named}


def lookups(sites):
    m = QConfigMapping().set_global(0).set_object_type('Linear', 1).set_object_type('relu', 2).set_object_type('Block', 3)
    m.set_module_name_regex('enc.*fc', 4).set_module_name_regex(r'enc\.[0-9]+', 5).set_module_name_regex('head', 6)
    m.set_module_name('enc.1', 7).set_module_name('enc.1.attn', 8).set_module_name('dec', 9)
    m.set_module_name_object_type_order('enc.0', 'Linear', 1, 10).set_module_name_object_type_order('enc.0', 'relu', 0, 11)
    m.set_module_name_object_type_order('', 'Linear', 0, 12)
    got = {}
    for name, kind, op, index in sites:
        base = U._get_object_type_qconfig(m, op, m.global_qconfig) if op else m.global_qconfig
        q = U._maybe_adjust_qconfig_for_module_type_or_name(m, kind, name, base)
        holder = name if op else _parent_name(name)[0]
        got[name, kind, op, index] = U._maybe_adjust_qconfig_for_module_name_object_type_order(m, holder, op or kind, index, q)
    return got


def squeeze(text):
    return re.sub(r'\s+', ' ', text).strip()


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    test = open(here + '/../quant/test_qconfig.c').read()
    written = {n: squeeze(a) + ' / ' + squeeze(w) for n, a, w in re.findall(r'\{\s*"(\w+)",\s*\{((?:\s*"\w*",){4}[^{}]*)\},\s*\{([^{}]*)\}\s*\}', test)}
    sites = {(n, k, None if op == 'NULL' else op.strip('"'), int(i)): int(want)
             for n, k, op, i, want in re.findall(r'\{ \{ "([\w.]*)", "(\w+)", (NULL|"\w+"), (\d+) \}, (\d+) \},', test.split('} lookups[] = {')[1].split('};')[0])}
    made, found, bad = presets(), lookups(sites), 0
    for n in sorted(set(made) | set(written)):
        if '--print' in sys.argv:
            print(n, made.get(n))
        if made.get(n) != written.get(n):
            bad += 1
            print(f'FAIL {n}: torch makes {made.get(n)}, the test says {written.get(n)}')
    for s in sites:
        if found[s] != sites[s]:
            bad += 1
            print(f'FAIL {s}: torch finds {found[s]}, the test says {sites[s]}')
    print(f'qconfig: {len(written)} presets and {len(sites)} lookups compared with torch {torch.__version__}, {bad} differ')
    sys.exit(bad > 0 or not written or not sites)


main()
