/* tensor/storage.h — who holds the bytes of a tensor. */
#ifndef RQ_TENSOR_STORAGE_H
#define RQ_TENSOR_STORAGE_H

#include "requant/tensor.h"

/* The bytes of t become its own, to be changed: they are copied unless no other tensor holds them and the library made them (those of a
 * mapped file are not). RQ_NO_MEMORY: as it was. */
rq_status rq_tensor_unshare(rq_tensor *t);

#endif
