/* kernels/dwplane_part.h — for dwplane_tmpl.h, where the instruction set loads and stores whole vectors only: others go element by element. */
typedef struct vmask {
    int from, to;
} vmask;

static inline vmask vmask_of(int64_t from, int64_t to)
{
    from = from < 0 ? 0 : from > VEC_WIDTH ? VEC_WIDTH : from;
    to = to < from ? from : to > VEC_WIDTH ? VEC_WIDTH : to;
    return (vmask) { (int)from, (int)to };
}
static inline vf vload_if(const float *p, vmask m)
{
    float part[VEC_WIDTH] = { 0 };
    if (m.to - m.from == VEC_WIDTH)
        return vload(p);
    for (int i = m.from; i < m.to; i++)
        part[i] = p[i];
    return vload(part);
}
static inline void vstore_if(float *p, vf v, vmask m)
{
    float part[VEC_WIDTH];
    if (m.to - m.from == VEC_WIDTH) {
        vstore(p, v);
        return;
    }
    vstore(part, v);
    for (int i = m.from; i < m.to; i++)
        p[i] = part[i];
}
