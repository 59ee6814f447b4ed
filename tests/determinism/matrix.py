"""matrix.py [--write DOC] [--dir GOLDEN] [--pattern GLOB] BUILD [BUILD-ARM64 EMULATOR...]: the same integers at every level of RQ_CPU.

A row per kernel (tests/kernel_rows of a build folder) and per model of a set (tests/golden --levels): one hash over the integer tensors that no
float operator feeds, which every level of every machine must share; of what lies behind float operators the largest difference from
the scalar level. The whole table goes to BUILD/matrix.md, a line per topic is printed, and put into DOC between its marks with --write.
Exit 1 when hashes differ, or rows, or a row has no hash of a level that the machine has."""
import argparse
import hashlib
import subprocess
import sys

KNOWN = ['scalar', 'avx2', 'avxvnni', 'avx512', 'vnni', 'amx', 'neon', 'dotprod', 'i8mm']
BEGIN, END = '<!-- matrix: make matrix -->\n', '<!-- end of matrix -->\n'


def rows_of(command, failures):
    """{name: (integer tensors, others, {level: (hash, hash of the others, difference)})}"""
    rows = {}
    p = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for line in p.stdout:
        if line.startswith('FAIL'):
            failures.append(line.strip())
        if not line.startswith('ROW\t'):
            continue
        _, name, whole, rest, *levels = line.rstrip('\n').split('\t')
        at = {}
        for level in levels:
            key, h, other, apart = level.split('=')
            at[key] = (h, other, float(apart))
        rows[name] = (int(whole), int(rest), at)
    p.wait()
    return rows


def main():
    p = argparse.ArgumentParser()
    p.add_argument('--write')
    p.add_argument('--dir', default='tests/golden')
    p.add_argument('--pattern', action='append')
    p.add_argument('builds', nargs=argparse.REMAINDER)
    args = p.parse_args()
    here, arm = args.builds[0], args.builds[1:]
    machines = [('', here, [])] + ([('arm64 ', arm[0], arm[1:])] if arm else [])
    failures, columns, table = [], [], {}
    for machine, build, emulator in machines:
        rows = rows_of(emulator + [build + '/tests/kernel_rows'], failures)
        for pattern in args.pattern or [None]:
            rows.update(rows_of(emulator + [build + '/tests/golden', '--levels', args.dir] + ([pattern] if pattern else []), failures))
        here_levels = []
        for name, (_, _, at) in rows.items():
            for level in at:
                if machine + level not in here_levels:
                    here_levels.append(machine + level)
        columns += sorted(here_levels, key=lambda c: KNOWN.index(c.split()[-1]))
        for name, (whole, rest, at) in rows.items():
            row = table.setdefault(name, {'whole': whole, 'rest': rest, 'at': {}})
            if (whole, rest) != (row['whole'], row['rest']):
                failures.append('%s: %d and %d tensors, %d and %d on the other machine' % (name, row['whole'], row['rest'], whole, rest))
            for level, seen in at.items():
                row['at'][machine + level] = seen
    topics = {}
    lines = ['| row | integer tensors | hash | others | largest difference | levels |', '|---|---|---|---|---|---|']
    for name, row in sorted(table.items()):
        at = row['at']
        missing = [c for c in columns if c not in at]
        hashes = {seen[0] for seen in at.values()}
        base = at.get('scalar', next(iter(at.values())))
        # another machine's scalar level is compared by its hash: the same bits, or no number can be given
        apart = max((seen[2] for seen in at.values()), default=0.0)
        foreign = [c for c, seen in at.items() if c.endswith(' scalar') and seen[1] != base[1]]
        if len(hashes) != 1:
            failures.append('%s: %s' % (name, ', '.join('%s %s' % (c, at[c][0]) for c in columns if c in at)))
        if missing:
            failures.append('%s: nothing of %s' % (name, ', '.join(missing)))
        shown = 'other bits on arm64' if foreign else '%g' % apart
        lines.append('| %s | %d | %s | %d | %s | %d |' % (name, row['whole'], '`%s`' % base[0] if row['whole'] else '-', row['rest'],
                                                       shown if row['rest'] else '-', len(at)))
        topic = name.rsplit('/', 1)[0]
        t = topics.setdefault(topic, {'rows': 0, 'whole': 0, 'rest': 0, 'apart': 0.0, 'foreign': 0, 'hash': hashlib.sha256(), 'same': 0})
        t['rows'] += 1
        t['whole'] += row['whole']
        t['rest'] += row['rest']
        t['apart'] = max(t['apart'], apart)
        t['foreign'] += bool(foreign)
        t['same'] += len(hashes) == 1 and not missing
        t['hash'].update((name + base[0]).encode())
    absent = [c for c in KNOWN if c not in [x.split()[-1] for x in columns]]
    said = 'Levels: %s. %s\n\n' % (', '.join('`%s`' % c for c in columns),
                                  'Not on these machines: %s.' % ', '.join('`%s`' % c for c in absent) if absent else 'None is missing.')
    with open(here + '/matrix.md', 'w') as f:
        f.write(said + '\n'.join(lines) + '\n')
    short = ['| rows | how many | same integers at all levels | integer tensors | their hash | others | largest difference | not the bits of x86-64 |',
             '|---|---|---|---|---|---|---|---|']
    for topic, t in sorted(topics.items()):
        short.append('| %s | %d | %d | %d | `%s` | %d | %g | %d |' % (topic, t['rows'], t['same'], t['whole'], t['hash'].hexdigest()[:12], t['rest'],
                                                                   t['apart'], t['foreign']))
    text = said + '\n'.join(short) + '\n'
    print(text, end='')
    for failure in failures:
        print('matrix: ' + failure)
    if args.write:
        with open(args.write) as f:
            doc = f.read()
        begin, end = doc.index(BEGIN) + len(BEGIN), doc.index(END)
        with open(args.write, 'w') as f:
            f.write(doc[:begin] + '\n' + text + '\n' + doc[end:])
    return 1 if failures or not table else 0


sys.exit(main())
