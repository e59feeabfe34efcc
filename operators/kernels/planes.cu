// One frame of YUV 4:2:0 -> RGB planes of floating point, fitted into a larger picture, normalised.
// A thread per pixel of the picture. `k`: matrix by rows [9], offset [3], scale [3], shift [3], and
// what the bars become, per channel [3].

// The mean over [x * step, (x + 1) * step) in both directions, edges by the part they cover.
static __device__ float averaged(const Plane& plane, int x, int y, float across, float down) {
    float left = x * across, right = fminf(left + across, (float)plane.width);
    float top = y * down, bottom = fminf(top + down, (float)plane.height);
    float sum = 0.0f, weight = 0.0f;
    for (int row = (int)top; row < bottom && row < plane.height; ++row) {
        float tall = fminf(row + 1.0f, bottom) - fmaxf((float)row, top);
        if (tall < 1e-3f) continue;
        float line = 0.0f, wide = 0.0f;
        for (int column = (int)left; column < right && column < plane.width; ++column) {
            float part = fminf(column + 1.0f, right) - fmaxf((float)column, left);
            if (part < 1e-3f) continue;
            line += part * sample(plane, column, row);
            wide += part;
        }
        sum += tall * line;
        weight += tall * wide;
    }
    return sum / weight;
}

static __device__ float fitted(const Plane& plane, int x, int y, int width, int height) {
    float across = (float)plane.width / width, down = (float)plane.height / height;
    if (plane.width > 2 * width) return averaged(plane, x, y, across, down);
    float sx = clamped((x + 0.5f) * across - 0.5f, 0.0f, plane.width - 1.0f);
    float sy = clamped((y + 0.5f) * down - 0.5f, 0.0f, plane.height - 1.0f);
    return between(plane, sx, sy);
}

extern "C" __global__ void planes(
    const u8* frame, out_t* picture, const float* k, int width, int height, int is_nv12, int out_width,
    int out_height, int left, int top, int fit_width, int fit_height) {
    int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= out_width || y >= out_height) return;
    long long area = (long long)out_width * out_height, place = (long long)y * out_width + x;
    int fx = x - left, fy = y - top;
    if (fx < 0 || fy < 0 || fx >= fit_width || fy >= fit_height) {
        for (int c = 0; c < 3; ++c) picture[c * area + place] = PUT(k[18 + c]);
        return;
    }
    int half_width = width / 2, half_height = height / 2, step = is_nv12 ? 2 : 1;
    const u8* chroma = frame + (long long)width * height;
    const u8* second = is_nv12 ? chroma + 1 : chroma + (long long)half_width * half_height;
    Plane luma = {frame, width, height, width, 1};
    Plane blue = {chroma, half_width, half_height, half_width * step, step};
    Plane red = {second, half_width, half_height, half_width * step, step};
    float yuv[3] = {
        fitted(luma, fx, fy, fit_width, fit_height), fitted(blue, fx, fy, fit_width, fit_height),
        fitted(red, fx, fy, fit_width, fit_height)};
    for (int c = 0; c < 3; ++c) {
        const float* row = k + 3 * c;
        float value = row[0] * yuv[0] + row[1] * yuv[1] + row[2] * yuv[2] + k[9 + c];
        picture[c * area + place] = PUT(clamped(value, 0.0f, 255.0f) * k[12 + c] + k[15 + c]);
    }
}
