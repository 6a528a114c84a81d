/* libcuda.so.1: one card, whose memory is the host's, and whose streams have always done all that they were given. */

#include <stdlib.h>
#include <string.h>

typedef int Result;
typedef unsigned long long Address;

static char context[16];
static __thread char *current; /* the streams' handles only have to differ from 0 */

Result cuInit(unsigned flags) { return 0; }
Result cuDriverGetVersion(int *version) { *version = 13000; return 0; }
Result cuDeviceGetCount(int *count) { *count = 1; return 0; }
Result cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
Result cuGetErrorName(int error, const char **name) { *name = "STANDIN_ERROR"; return 0; }
Result cuGetErrorString(int error, const char **text) { *text = "an error of the stand-in"; return 0; }

Result cuDevicePrimaryCtxRetain(void **made, int device) { *made = context; return 0; }
Result cuDevicePrimaryCtxRelease_v2(int device) { return 0; }
Result cuCtxCreate_v2(void **made, unsigned flags, int device) { *made = context; return 0; }
Result cuCtxDestroy_v2(void *given) { return 0; }
Result cuCtxPushCurrent_v2(void *given) { current = given; return 0; }
Result cuCtxPopCurrent_v2(void **was) { if (was) *was = current; return 0; }
Result cuCtxGetDevice(int *device) { *device = 0; return 0; }
Result cuStreamGetCtx(void *stream, void **of) { *of = context; return 0; }

Result cuStreamCreate(void **stream, unsigned flags) { *stream = context + 1; return 0; }
Result cuStreamDestroy_v2(void *stream) { return 0; }
Result cuStreamSynchronize(void *stream) { return 0; }
Result cuStreamWaitEvent(void *stream, void *event, unsigned flags) { return 0; }
Result cuEventCreate(void **event, unsigned flags) { *event = context + 2; return 0; }
Result cuEventDestroy_v2(void *event) { return 0; }
Result cuEventRecord(void *event, void *stream) { return 0; }
Result cuEventSynchronize(void *event) { return 0; }

Result cuMemAlloc_v2(Address *made, size_t size) { *made = (Address)calloc(1, size); return 0; }
Result cuMemAllocAsync(Address *made, size_t size, void *stream) { return cuMemAlloc_v2(made, size); }
Result cuMemAllocPitch_v2(Address *made, size_t *pitch, size_t width, size_t height, unsigned element) {
    *pitch = (width + 511) & ~(size_t)511;
    return cuMemAlloc_v2(made, *pitch * height);
}
Result cuMemFree_v2(Address address) { free((void *)address); return 0; }
Result cuMemFreeAsync(Address address, void *stream) { return cuMemFree_v2(address); }
Result cuMemcpyDtoH_v2(void *to, Address from, size_t size) { memcpy(to, (void *)from, size); return 0; }
Result cuMemcpyDtoHAsync_v2(void *to, Address from, size_t size, void *stream) { return cuMemcpyDtoH_v2(to, from, size); }
Result cuMemcpyHtoD_v2(Address to, const void *from, size_t size) { memcpy((void *)to, from, size); return 0; }
Result cuPointerGetAttribute(void *value, int attribute, Address of) { return 0; }

/* CUDA_MEMCPY2D */
typedef struct { size_t x, y; int type; void *host; Address device; void *array; size_t pitch; } Side;
typedef struct { Side from, to; size_t width, height; } Copy;
enum { HOST = 1 };

Result cuMemcpy2D_v2(const Copy *copy) {
    const char *from = copy->from.type == HOST ? copy->from.host : (char *)copy->from.device;
    char *to = copy->to.type == HOST ? copy->to.host : (char *)copy->to.device;
    for (size_t y = 0; y < copy->height; y++) memcpy(to + y * copy->to.pitch, from + y * copy->from.pitch, copy->width);
    return 0;
}
Result cuMemcpy2DAsync_v2(const Copy *copy, void *stream) { return cuMemcpy2D_v2(copy); }
