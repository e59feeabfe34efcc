// What all kernels share. Plain per-thread code: it also compiles as C++ for a processor, where the
// tests run it beside the twins.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

// IEEE half and bfloat16 by their bits, rounded to nearest even: no header has to be there.
static __device__ inline u16 half_bits(float value) {
    u32 bits = __float_as_uint(value);
    u32 sign = (bits >> 16) & 0x8000u;
    u32 size = bits & 0x7fffffffu;
    if (size >= 0x7f800000u) return (u16)(sign | (size > 0x7f800000u ? 0x7e00u : 0x7c00u));
    if (size >= 0x477ff000u) return (u16)(sign | 0x7c00u);  // rounds to infinity
    if (size < 0x38800000u)                                 // subnormal in half
        return (u16)(sign | (u32)rintf(__uint_as_float(size) * 16777216.0f));
    u32 rounded = size + 0xfffu + ((size >> 13) & 1u);
    return (u16)(sign | ((rounded - 0x38000000u) >> 13));
}

static __device__ inline u16 bfloat_bits(float value) {
    u32 bits = __float_as_uint(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (u16)((bits >> 16) | 0x40u);
    return (u16)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

#if OUT == 1
typedef u16 out_t;
#define PUT(value) half_bits(value)
#elif OUT == 2
typedef u16 out_t;
#define PUT(value) bfloat_bits(value)
#else
typedef float out_t;
#define PUT(value) (value)
#endif

static __device__ inline float clamped(float value, float low, float high) {
    return fminf(fmaxf(value, low), high);
}

static __device__ inline int inside(int at, int size) { return at < 0 ? 0 : at >= size ? size - 1 : at; }

// Once more, mirrored at the rim, the rim's pixel not repeated: for whatever lies outside.
static __device__ inline int mirrored(int at, int size) {
    if (size == 1) return 0;
    int period = 2 * size - 2;
    at %= period;
    if (at < 0) at += period;
    return at < size ? at : period - at;
}

static __device__ inline u8 level(float value) { return (u8)rintf(clamped(value, 0.0f, 255.0f)); }

// Samples of a plane lie `step` bytes apart (NV12's chroma: 2), its rows `pitch` bytes.
struct Plane {
    const u8* at;
    int width, height, pitch, step;
};

static __device__ inline float sample(const Plane& plane, int x, int y) {
    return (float)plane.at[(long long)y * plane.pitch + (long long)x * plane.step];
}

// Between the four pixels around (x, y); whole numbers are centres. Outside: the rim's pixels.
static __device__ inline float between(const Plane& plane, float x, float y) {
    float left = floorf(x), top = floorf(y);
    float across = x - left, down = y - top;
    int x0 = inside((int)left, plane.width), x1 = inside((int)left + 1, plane.width);
    int y0 = inside((int)top, plane.height), y1 = inside((int)top + 1, plane.height);
    float upper = sample(plane, x0, y0) * (1.0f - across) + sample(plane, x1, y0) * across;
    float lower = sample(plane, x0, y1) * (1.0f - across) + sample(plane, x1, y1) * across;
    return upper * (1.0f - down) + lower * down;
}

// Whether (x, y) lies among the centres of a plane's pixels; it may miss them by what float rounds.
static __device__ inline bool on_it(float x, float y, int width, int height) {
    const float edge = 1e-3f;
    return x >= -edge && y >= -edge && x <= width - 1 + edge && y <= height - 1 + edge;
}
