// Turned and scaled squares out of frames -> RGB planes of floating point, normalised. A thread per
// pixel of a square; blockIdx.z is the square. `maps` [n, 6]: pixels of the square -> of the frame,
// row by row, whole numbers are centres. `from` [n, 2]: the frame that it is of, and how many samples
// each way are averaged, because a square that shrinks must not skip pixels. `k` as in planes.cu,
// but the luma of black for the bars.

static __device__ float around(const Plane& plane, float x, float y, int is_mirrored, float outside) {
    float left = floorf(x), top = floorf(y);
    float across = x - left, down = y - top;
    float found = 0.0f;
    for (int j = 0; j < 2; ++j)
        for (int i = 0; i < 2; ++i) {
            int column = (int)left + i, row = (int)top + j;
            float part = (i ? across : 1.0f - across) * (j ? down : 1.0f - down);
            bool is_in = column >= 0 && row >= 0 && column < plane.width && row < plane.height;
            float value = outside;
            if (is_in || is_mirrored)
                value = sample(plane, mirrored(column, plane.width), mirrored(row, plane.height));
            found += part * value;
        }
    return found;
}

extern "C" __global__ void crop(
    const u8* frames, out_t* squares, const float* maps, const int* from, const float* k, int width,
    int height, int layout, int size, int is_mirrored) {
    int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= size || y >= size) return;
    const float* map = maps + 6 * blockIdx.z;
    int over = from[2 * blockIdx.z + 1];
    long long pixels = (long long)width * height;
    const u8* frame = frames + (layout == 2 ? 3 * pixels : pixels * 3 / 2) * from[2 * blockIdx.z];
    Plane parts[3];
    float black[3] = {0.0f, 0.0f, 0.0f};
    int divisor = 1;
    if (layout == 2) {  // rgb24
        for (int c = 0; c < 3; ++c) {
            Plane part = {frame + c, width, height, 3 * width, 3};
            parts[c] = part;
        }
    } else {  // 0: yuv420p, 1: nv12
        int half_width = width / 2, half_height = height / 2, step = layout ? 2 : 1;
        const u8* chroma = frame + pixels;
        const u8* second = layout ? chroma + 1 : chroma + (long long)half_width * half_height;
        Plane luma = {frame, width, height, width, 1};
        Plane blue = {chroma, half_width, half_height, half_width * step, step};
        Plane red = {second, half_width, half_height, half_width * step, step};
        parts[0] = luma, parts[1] = blue, parts[2] = red;
        black[0] = k[18], black[1] = black[2] = 128.0f;
        divisor = 2;
    }
    float sums[3] = {0.0f, 0.0f, 0.0f};
    for (int j = 0; j < over; ++j)
        for (int i = 0; i < over; ++i) {
            float px = x + (i + 0.5f) / over - 0.5f, py = y + (j + 0.5f) / over - 0.5f;
            float fx = map[0] * px + map[1] * py + map[2], fy = map[3] * px + map[4] * py + map[5];
            for (int c = 0; c < 3; ++c) {
                float d = c && divisor == 2 ? 2.0f : 1.0f, centre = (d - 1.0f) / 2.0f;
                sums[c] += around(parts[c], (fx - centre) / d, (fy - centre) / d, is_mirrored, black[c]);
            }
        }
    long long area = (long long)size * size;
    out_t* square = squares + 3 * area * blockIdx.z + (long long)y * size + x;
    float many = 1.0f / (over * over);
    for (int c = 0; c < 3; ++c) {
        const float* row = k + 3 * c;
        float value = row[0] * sums[0] * many + row[1] * sums[1] * many + row[2] * sums[2] * many + k[9 + c];
        square[c * area] = PUT(clamped(value, 0.0f, 255.0f) * k[12 + c] + k[15 + c]);
    }
}
