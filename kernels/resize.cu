// Decoded surfaces to small sRGB pictures: every picture of a batch in one launch, each from its own source.
//
// The mathematics is that of reference.py (weights, chroma, colour) and hdr.py (light, tone, primaries), with weights,
// matrices and tables computed there and handed in. What is particular here is the order of the work:
//
//   1. Squeeze: of the source columns that a tile of the picture needs, every thread takes four neighbours (one read
//      of 4 bytes, or of 8 where samples have 16 bits) down the rows of one target row, and leaves four sums in shared
//      memory. Neighbouring threads read neighbouring words, so a warp reads 128 bytes in a row.
//   2. Gather: every thread owns a column of the tile and adds up, across those sums, the taps of its pixels.
//   3. Paint: colours are made and written.
//
// Down comes before across because only then are reads of the source whole words side by side. Columns are squeezed in
// strips of CHUNK samples, which bounds shared memory whatever the source's width and the filter's reach. All planes of
// a picture add to sums in registers: nothing but the finished picture is ever written.
//
// What that costs, counted (`python -m bench kernel`), for 1080p NV12 to 320x180 by lanczos3: memory has to move
// 3,110,400 bytes in and 172,800 out, which takes an H100 (3.35 TB/s) 0.98 us and an L4 (300 GB/s) 10.9 us at least.
// Tiles share the rims of what their taps reach, so 1.49 times the source goes through L2 (1.02 times by area); a
// tile's target rows share source rows, so L1 is asked for it 6.8 times over (1.2). Weights, 112 KB in all, come on
// top and stay in L2. All that is arithmetic on paper, not a measurement.
//
// A kernel here is a sequence of phases, `EACH_THREAD(t) { ... }`, with a barrier after each. That is all that threads
// ever wait for, so the tests run the same text on a CPU by letting a phase's threads follow each other in any order.

#ifndef KERNEL  // the tests define what follows for the host's compiler
#define KERNEL extern "C" __global__ __launch_bounds__(THREADS, BLOCKS)
#define DEVFN __device__ __forceinline__
#define SHARED_FLOATS(name, count) __shared__ float name[count]
#define PICTURE blockIdx.z
#define TILE_ACROSS blockIdx.x
#define TILE_DOWN blockIdx.y
#define EACH_THREAD(t) for (int t = threadIdx.x, todo = 1; todo; todo = 0, __syncthreads())
#define OWNED 1  // how many of what threads keep from phase to phase: on a GPU each has its own, in registers
#define OWN(array, t) array[0]
#define READ(address) __ldg(address)
#endif

constexpr int THREADS = 256;
constexpr int BLOCKS = 4;       // on a multiprocessor at once, so with 64 registers for each thread
constexpr int TILE_WIDTH = 32;  // a warp gathers and paints one row of it
constexpr int TILE_HEIGHT = 16;
constexpr int ROW_STEP = THREADS / TILE_WIDTH;
constexpr int ROWS = TILE_HEIGHT / ROW_STEP;  // pixels of one thread: those of its column, every ROW_STEP-th row
constexpr int CHUNK = 224;                    // samples of a row squeezed at a time: BLOCKS have room in 64 KB
constexpr int BANKS = 32;
constexpr int STRIP = CHUNK + CHUNK / BANKS;  // their places in shared memory, see `place`

static_assert(CHUNK % 4 == 0 && TILE_HEIGHT % ROW_STEP == 0, "tiles and strips are made of whole steps");

typedef unsigned char Byte;

// Weights along one axis: target i is the sum of taps[k * target + i] * source[start[i] + k] over 0 <= k < support, and
// no index leaves the source. `start` never decreases.
struct Axis {
    const float* taps;
    const int* start;
    int target;
    int support;
};

// Samples of 1 or 2 bytes, of 16 bits where they have fewer in the upper ones. `width`: of a row, in samples, those of
// all channels counted. `across` speaks of samples of one channel.
struct Plane {
    const Byte* data;
    long long pitch;  // bytes
    int width;
    int sample_bytes;
    Axis across;
    Axis down;
};

struct Job {
    Plane planes[3];   // Y and interleaved chroma, or Y, U and V
    float matrix[9];   // R'G'B' in 0..255 from samples as they are stored: matrix * samples + bias
    float bias[3];
    int interleaved;   // is there a plane of both chromas
    const float* light;  // by signals of 16 bits; null: the signal is sRGB already
    const float* gain;   // by brightness, see `tone`; null: no tone mapping
    const Byte* srgb;    // codes, by light of 16 bits
    float most;          // light of the brightest that the source can show, SDR white being 1
    float ootf;          // light of HLG's peak; 0: no OOTF
    float to_bt709[9];
    Byte* out;           // of the pixel (0, 0), R first
    long long out_across;  // bytes from pixel to pixel: negative or swapped where the picture is turned
    long long out_down;
    int width;
    int height;
};

static_assert(sizeof(Job) == JOB_BYTES, "resize.py packs jobs otherwise");

struct Tile {
    int x, y;           // of its first pixel
    int columns, rows;  // how much of it lies in the picture
};

struct Sums {
    float of[3][ROWS];  // Y, U, V
};

struct Four {
    float a, b, c, d;
};

struct Rgb {
    float r, g, b;
};

DEVFN int smaller(int a, int b) { return a < b ? a : b; }
DEVFN int larger(int a, int b) { return a > b ? a : b; }
DEVFN float clipped(float value, float most) { return fminf(fmaxf(value, 0.0f), most); }

// Where sample i of a strip lies: one place is left out after every 32, or samples that are a power of two apart (the
// pixels of a warp at such a ratio, and the four of each thread) would all lie in a few of the banks.
DEVFN int place(int i) { return i + i / BANKS; }

// ---------------------------------------------------------------------------------------------------- 1. squeeze

template <class Sample> struct WordOf;
template <> struct WordOf<Byte> { typedef unsigned int Type; };
template <> struct WordOf<unsigned short> { typedef unsigned long long Type; };

template <class Sample>
DEVFN Four unpacked(typename WordOf<Sample>::Type word) {
    constexpr int BITS = 8 * sizeof(Sample);
    return {
        static_cast<float>(static_cast<Sample>(word)),
        static_cast<float>(static_cast<Sample>(word >> BITS)),
        static_cast<float>(static_cast<Sample>(word >> (2 * BITS))),
        static_cast<float>(static_cast<Sample>(word >> (3 * BITS))),
    };
}

template <class Word>
DEVFN bool begins_a_word(const Byte* address) {
    return reinterpret_cast<unsigned long long>(address) % sizeof(Word) == 0;
}

// The four samples at `address`, of which only the first `inside` lie in the row; zero for the others.
template <class Sample>
DEVFN typename WordOf<Sample>::Type word_in_parts(const Byte* address, int inside) {
    typedef typename WordOf<Sample>::Type Word;
    if (inside >= 4 && begins_a_word<Word>(address)) return READ(reinterpret_cast<const Word*>(address));
    Word word = 0;
#pragma unroll 1
    for (int i = 0; i < smaller(4, inside); ++i)
        word |= static_cast<Word>(READ(reinterpret_cast<const Sample*>(address) + i)) << (8 * sizeof(Sample) * i);
    return word;
}

// Four neighbouring columns of the plane, from sample x on, brought to target row y. WHOLE: in every row they are one
// whole word. Not so at a row's end, and not where rows are no multiple of four samples: there each begins anywhere.
template <class Sample, bool WHOLE>
DEVFN Four squeezed(const Plane& plane, int x, int y) {
    typedef typename WordOf<Sample>::Type Word;
    const Axis& down = plane.down;
    const float* tap = down.taps + y;
    const Byte* at = plane.data + READ(down.start + y) * plane.pitch + x * sizeof(Sample);
    Four sum = {0, 0, 0, 0};
#pragma unroll(WHOLE ? 16 / sizeof(Word) : 1)
    for (int k = 0; k < down.support; ++k, tap += down.target, at += plane.pitch) {
        const float weight = READ(tap);
        const Four four = unpacked<Sample>(
            WHOLE ? READ(reinterpret_cast<const Word*>(at)) : word_in_parts<Sample>(at, plane.width - x));
        sum.a += weight * four.a;
        sum.b += weight * four.b;
        sum.c += weight * four.c;
        sum.d += weight * four.d;
    }
    return sum;
}

// `count` columns from sample `first` on, for every row of the tile. (A copy of `plane` stays in registers, where what
// is behind a reference would be read again after each write to `strips`.)
template <class Sample>
DEVFN void squeeze(const Plane plane, const Tile& tile, int first, int count, float* strips, int t) {
    typedef typename WordOf<Sample>::Type Word;
    const bool aligned = begins_a_word<Word>(plane.data) && plane.pitch % sizeof(Word) == 0;
    const int quads = (count + 3) / 4;
    for (int item = t; item < tile.rows * quads; item += THREADS) {
        const int row = item / quads, i = 4 * (item % quads);
        const int x = first + i, y = tile.y + row;
        const Four sum = aligned && x + 4 <= plane.width ? squeezed<Sample, true>(plane, x, y)
                                                         : squeezed<Sample, false>(plane, x, y);
        float* strip = strips + row * STRIP + place(i);  // four that begin at a multiple of four lie side by side
        strip[0] = sum.a;
        strip[1] = sum.b;
        strip[2] = sum.c;
        strip[3] = sum.d;
    }
}

DEVFN void squeeze_plane(const Plane& plane, const Tile& tile, int first, int count, float* strips, int t) {
    if (plane.sample_bytes == 1) squeeze<Byte>(plane, tile, first, count, strips, t);
    else squeeze<unsigned short>(plane, tile, first, count, strips, t);
}

// ----------------------------------------------------------------------------------------------------- 2. gather

// Adds, to the sums of this thread's pixels from channel FIRST on, the taps that fall on the `count` samples squeezed
// from `first` on.
template <int FIRST, int CHANNELS>
DEVFN void gather(const Axis& across, const Tile& tile, int first, int count, const float* strips, Sums& sums, int t) {
    const int column = t % TILE_WIDTH, top = t / TILE_WIDTH;
    if (column >= tile.columns) return;
    const int x = tile.x + column;
    const int start = READ(across.start + x) * CHANNELS - first;  // of this pixel's taps; may lie before the strip
    const int begin = larger(0, -start / CHANNELS), end = smaller(across.support, (count - start) / CHANNELS);
#pragma unroll 2
    for (int k = begin; k < end; ++k) {
        const float weight = READ(across.taps + k * across.target + x);
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
            const int row = top + r * ROW_STEP;
            if (row >= tile.rows) break;
#pragma unroll
            for (int c = 0; c < CHANNELS; ++c)
                sums.of[FIRST + c][r] += weight * strips[row * STRIP + place(start + k * CHANNELS + c)];
        }
    }
}

// The planes' channels, as constants: sums that are reached by a number known only later would not lie in registers.
DEVFN void gather_plane(
    const Job& job, int p, const Tile& tile, int first, int count, const float* strips, Sums& sums, int t) {
    const Axis& across = job.planes[p].across;
    if (p == 0) gather<0, 1>(across, tile, first, count, strips, sums, t);
    else if (job.interleaved) gather<1, 2>(across, tile, first, count, strips, sums, t);
    else if (p == 1) gather<1, 1>(across, tile, first, count, strips, sums, t);
    else gather<2, 1>(across, tile, first, count, strips, sums, t);
}

// ------------------------------------------------------------------------------------------------------ 3. paint

DEVFN Rgb product(const float* m, const Rgb& v) {
    return {
        m[0] * v.r + m[1] * v.g + m[2] * v.b,
        m[3] * v.r + m[4] * v.g + m[5] * v.b,
        m[6] * v.r + m[7] * v.g + m[8] * v.b,
    };
}

DEVFN Rgb scaled(const Rgb& v, float by) { return {v.r * by, v.g * by, v.b * by}; }

// 0..1 to 16 bits, rounded.
DEVFN int word(float unit) { return static_cast<int>(clipped(unit, 1.0f) * 65535.0f + 0.5f); }

// HLG's OOTF (ITU-R BT.2100-2, table 5): display light is scene light times its luminance to the power of gamma - 1.
DEVFN float ootf(const Rgb& light, float peak) {
    const float luminance = 0.2627f * light.r + 0.6780f * light.g + 0.0593f * light.b;
    return peak * powf(fmaxf(luminance, 1e-6f), 0.2f);
}

// What light is multiplied with, so that highlights roll off: by a table over the square root of its brightest.
DEVFN float tone(const Rgb& light, const float* gain, float most) {
    const float brightest = fmaxf(light.r, fmaxf(light.g, light.b));
    if (brightest > most) return 1.0f / brightest;  // beyond the peak nothing is brighter than white
    return READ(gain + word(sqrtf(clipped(brightest / most, 1.0f))));
}

// The signal of another standard, in 0..255, as that of sRGB.
DEVFN Rgb srgb_of(const Job& job, const Rgb& signal) {
    Rgb light = {
        READ(job.light + word(signal.r / 255)),
        READ(job.light + word(signal.g / 255)),
        READ(job.light + word(signal.b / 255)),
    };
    if (job.ootf > 0) light = scaled(light, ootf(light, job.ootf));
    if (job.gain) light = scaled(light, tone(light, job.gain, job.most));
    light = product(job.to_bt709, light);
    return {
        static_cast<float>(READ(job.srgb + word(light.r))),
        static_cast<float>(READ(job.srgb + word(light.g))),
        static_cast<float>(READ(job.srgb + word(light.b))),
    };
}

// Clipped to 0..255 and rounded, halves upwards.
DEVFN Byte quantised(float value) { return static_cast<Byte>(clipped(value, 255.0f) + 0.5f); }

DEVFN void paint(const Job& job, const Tile& tile, const Sums& sums, int t) {
    const int column = t % TILE_WIDTH, top = t / TILE_WIDTH;
    if (column >= tile.columns) return;
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
        const int row = top + r * ROW_STEP;
        if (row >= tile.rows) break;
        Rgb rgb = product(job.matrix, {sums.of[0][r], sums.of[1][r], sums.of[2][r]});
        rgb = {rgb.r + job.bias[0], rgb.g + job.bias[1], rgb.b + job.bias[2]};
        if (job.light) rgb = srgb_of(job, rgb);
        Byte* pixel = job.out + (tile.x + column) * job.out_across + (tile.y + row) * job.out_down;
        pixel[0] = quantised(rgb.r);
        pixel[1] = quantised(rgb.g);
        pixel[2] = quantised(rgb.b);
    }
}

// ------------------------------------------------------------------------------------------------------- kernels
// The grid is as large as the largest picture needs: (tiles across, tiles down, pictures).

DEVFN Tile tile_of(const Job& job, int x, int y) {
    return {x, y, smaller(TILE_WIDTH, job.width - x), smaller(TILE_HEIGHT, job.height - y)};
}

KERNEL void resize(const Job* jobs) {
    SHARED_FLOATS(strips, TILE_HEIGHT * STRIP);
    const Job& job = jobs[PICTURE];
    const int x = TILE_ACROSS * TILE_WIDTH, y = TILE_DOWN * TILE_HEIGHT;
    if (x >= job.width || y >= job.height) return;
    const Tile tile = tile_of(job, x, y);
    Sums sums[OWNED] = {};
    for (int p = 0; p < (job.interleaved ? 2 : 3); ++p) {
        const Plane& plane = job.planes[p];
        const int channels = p == 1 && job.interleaved ? 2 : 1;
        const int begin = READ(plane.across.start + x) * channels / 4 * 4;  // where a word begins
        const int end = (READ(plane.across.start + x + tile.columns - 1) + plane.across.support) * channels;
        for (int first = begin; first < end; first += CHUNK) {
            const int count = smaller(CHUNK, end - first);
            EACH_THREAD(t) squeeze_plane(plane, tile, first, count, strips, t);
            EACH_THREAD(t) gather_plane(job, p, tile, first, count, strips, OWN(sums, t), t);
        }
    }
    EACH_THREAD(t) paint(job, tile, OWN(sums, t), t);
}

// Only the last step, for planes that something else has brought to the picture's size, with floats for samples.
KERNEL void paint_floats(const Job* jobs) {
    const Job& job = jobs[PICTURE];
    const int x = TILE_ACROSS * TILE_WIDTH, y = TILE_DOWN * TILE_HEIGHT;
    if (x >= job.width || y >= job.height) return;
    const Tile tile = tile_of(job, x, y);
    EACH_THREAD(t) {
        const int column = smaller(t % TILE_WIDTH, tile.columns - 1);
        Sums sums;
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
            const int row = smaller(t / TILE_WIDTH + r * ROW_STEP, tile.rows - 1);
#pragma unroll
            for (int c = 0; c < 3; ++c) {
                const bool paired = c > 0 && job.interleaved;
                const Plane& plane = job.planes[paired ? 1 : c];
                const float* values = reinterpret_cast<const float*>(plane.data + (y + row) * plane.pitch);
                sums.of[c][r] = READ(values + (paired ? 2 * (x + column) + c - 1 : x + column));
            }
        }
        paint(job, tile, sums, t);
    }
}
