// How patches have to change to look like what they will cover: per channel gain and offset, from mean
// and spread under the mask. A thread per column of a patch and 32 rows of it; blockIdx.z is the patch.
// `ways` [n, 6]: pixels of the patch -> of the frame. `sums` [n, 14], zero before and after: weight; per
// channel of the patch, then of the frame, sum and sum of squares; how many threads are done. Whole
// numbers, so that the order in which threads add does not matter. The last thread makes `changes` [n, 6].

static __device__ inline double taken(u64* from) {
    u64 value = atomicAdd(from, 0ull);
    *from = 0;
    return (double)value;
}

extern "C" __global__ void colours(
    const u8* frame, const u8* patches, const u8* masks, const float* ways, u64* sums, float* changes,
    int width, int height, int size, float least_spread) {
    int x = blockIdx.x * blockDim.x + threadIdx.x, strip = blockIdx.y * blockDim.y + threadIdx.y;
    int strips = (size + 31) / 32;
    if (x >= size || strip >= strips) return;
    const float* way = ways + 6 * blockIdx.z;
    const u8* mask = masks + (long long)size * size * blockIdx.z;
    const u8* patch = patches + 3 * (long long)size * size * blockIdx.z;
    u64 mine[13] = {};
    for (int y = 32 * strip; y < 32 * strip + 32 && y < size; ++y) {
        float fx = way[0] * x + way[1] * y + way[2], fy = way[3] * x + way[4] * y + way[5];
        u64 weight = mask[y * size + x];
        if (weight == 0 || !on_it(fx, fy, width, height)) continue;
        mine[0] += weight;
        for (int c = 0; c < 3; ++c) {
            Plane part = {frame + c, width, height, 3 * width, 3};
            u64 here = patch[3 * (y * size + x) + c], there = level(between(part, fx, fy));
            mine[1 + 4 * c] += weight * here, mine[2 + 4 * c] += weight * here * here;
            mine[3 + 4 * c] += weight * there, mine[4 + 4 * c] += weight * there * there;
        }
    }
    u64* sum = sums + 14 * blockIdx.z;
    for (int i = 0; i < 13; ++i)
        if (mine[i]) atomicAdd(sum + i, mine[i]);
    __threadfence();
    if (atomicAdd(sum + 13, 1ull) + 1 < (u64)size * strips) return;
    __threadfence();
    double total = taken(sum);
    taken(sum + 13);
    for (int c = 0; c < 3; ++c) {
        double held[4];
        for (int i = 0; i < 4; ++i) held[i] = taken(sum + 1 + 4 * c + i) / fmax(total, 1.0);
        double spread = sqrt(fmax(held[1] - held[0] * held[0], 0.0));
        double wanted = sqrt(fmax(held[3] - held[2] * held[2], 0.0));
        double gain = total <= 0.0 || spread < least_spread ? 1.0 : wanted / spread;
        changes[6 * blockIdx.z + 2 * c] = (float)gain;
        changes[6 * blockIdx.z + 2 * c + 1] = total <= 0.0 ? 0.0f : (float)(held[2] - gain * held[0]);
    }
}
