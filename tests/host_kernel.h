// Lets a CPU run what stands in kernels/resize.cu: blocks one after the other, and in each phase thread after thread.
#include <math.h>

static int block[3];
static int stride = 1;  // odd: the order in which a phase's threads follow each other

#define KERNEL static
#define DEVFN static inline
// What no thread has written is no number.
#define SHARED_FLOATS(name, count) \
    static float name[count];      \
    for (float& each : name) each = NAN
#define PICTURE block[2]
#define TILE_ACROSS block[0]
#define TILE_DOWN block[1]
#define EACH_THREAD(t) for (int turn = 0, t = 0; turn < THREADS; t = (++turn * stride) & (THREADS - 1))
#define OWNED THREADS
#define OWN(array, t) array[t]
#define READ(address) counted(address)

// Bytes of samples that were read, which alone are unsigned.
static long long bytes_of_samples;

template <class T>
static inline T counted(const T* address) {
    if (static_cast<T>(-1) > 0) bytes_of_samples += sizeof(T);
    return *address;
}

struct Job;
static void resize(const Job* jobs);
static void paint_floats(const Job* jobs);

static void for_every_block(void (*kernel)(const Job*), const Job* jobs, const int* grid, int order) {
    stride = order;
    for (block[2] = 0; block[2] < grid[2]; ++block[2])
        for (block[1] = 0; block[1] < grid[1]; ++block[1])
            for (block[0] = 0; block[0] < grid[0]; ++block[0]) kernel(jobs);
}

// The bytes of samples that were read.
extern "C" long long launch_resize(const Job* jobs, const int* grid, int order) {
    bytes_of_samples = 0;
    for_every_block(resize, jobs, grid, order);
    return bytes_of_samples;
}

extern "C" void launch_paint_floats(const Job* jobs, const int* grid, int order) {
    for_every_block(paint_floats, jobs, grid, order);
}
