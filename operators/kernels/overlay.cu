// Boxes and labels onto YUV 4:2:0. A thread per 2x2 pixels of a shape's box; blockIdx.z is the shape.
// `shapes` [n, 8]: left, top, width, height, line (0: a label), Y, U, V. `labels`: A, Y, U, V planes of
// all labels, one after the other; `starts` [n]: where a shape's begin. Shapes go in order, so they are
// launched one after the other where they may overlap.

extern "C" __global__ void overlay(
    u8* frame, const int* shapes, const u8* labels, const int* starts, int width, int height, int is_nv12) {
    const int* shape = shapes + 8 * blockIdx.z;
    int left = shape[0], top = shape[1], wide = shape[2], tall = shape[3], line = shape[4];
    // The 2x2 blocks lie on the frame's own grid of chroma samples.
    int bx = (left >> 1) + blockIdx.x * blockDim.x + threadIdx.x;
    int by = (top >> 1) + blockIdx.y * blockDim.y + threadIdx.y;
    if (bx < 0 || by < 0 || 2 * bx >= width || 2 * by >= height) return;
    if (2 * bx >= left + wide || 2 * by >= top + tall) return;
    const u8* label = labels + starts[blockIdx.z];
    int area = wide * tall;
    float cover = 0.0f, blue = 0.0f, red = 0.0f;
    for (int j = 0; j < 2; ++j)
        for (int i = 0; i < 2; ++i) {
            int x = 2 * bx + i - left, y = 2 * by + j - top;
            if (x < 0 || y < 0 || x >= wide || y >= tall) continue;
            float alpha, luma, u, v;
            if (line > 0) {
                bool is_rim = x < line || y < line || x >= wide - line || y >= tall - line;
                alpha = is_rim ? 1.0f : 0.0f;
                luma = shape[5], u = shape[6], v = shape[7];
            } else {
                int at = y * wide + x;
                alpha = label[at] / 255.0f;
                luma = label[area + at], u = label[2 * area + at], v = label[3 * area + at];
            }
            if (alpha <= 0.0f) continue;
            u8* pixel = frame + (long long)(2 * by + j) * width + 2 * bx + i;
            *pixel = level(*pixel * (1.0f - alpha) + luma * alpha);
            cover += alpha, blue += alpha * u, red += alpha * v;
        }
    if (cover <= 0.0f) return;
    int half_width = width / 2, half_height = height / 2;
    u8* chroma = frame + (long long)width * height;
    long long at = (long long)by * half_width + bx;
    u8* first = is_nv12 ? chroma + 2 * at : chroma + at;
    u8* second = is_nv12 ? first + 1 : first + (long long)half_width * half_height;
    *first = level(*first * (1.0f - cover / 4.0f) + blue / 4.0f);
    *second = level(*second * (1.0f - cover / 4.0f) + red / 4.0f);
}
