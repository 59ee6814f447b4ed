/* A program outside the tree that finds and links the installed library. */
#include <requant/requant.h>
#include <stdio.h>

int main(void)
{
    rq_err err = { 0 };
    rq_graph *g = NULL;
    if (rq_load(&g, "no-such-model.onnx", &err) != RQ_IO)
        return 1;
    printf("requant %s: %s\n", rq_version(), err.text);
    return 0;
}
