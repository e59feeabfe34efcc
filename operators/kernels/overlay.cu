// Boxes and labels onto YUV 4:2:0, in order, in one pass. A thread per 2x2 pixels from block (begin_x,
// begin_y) on. `shapes` [n, 8]: left, top, width, height, line (0: a label, -1: a stroke), Y, U, V. `labels`: A, Y, U,
// V planes of all labels, one after the other; `starts` [n]: where a shape's begin.

struct Ink {
    float alpha, luma, blue, red;
};

// What a shape puts on its pixel (x, y).
static __device__ inline Ink ink_of(const int* shape, const u8* label, int x, int y) {
    int wide = shape[2], tall = shape[3], line = shape[4];
    if (x < 0 || y < 0 || x >= wide || y >= tall) return {0.0f, 0.0f, 0.0f, 0.0f};
    if (line > 0) {
        bool is_rim = x < line || y < line || x >= wide - line || y >= tall - line;
        return {is_rim ? 1.0f : 0.0f, (float)shape[5], (float)shape[6], (float)shape[7]};
    }
    int area = wide * tall, at = y * wide + x;
    if (line < 0) return {label[at] / 255.0f, (float)shape[5], (float)shape[6], (float)shape[7]};
    return {label[at] / 255.0f, (float)label[area + at], (float)label[2 * area + at],
            (float)label[3 * area + at]};
}

extern "C" __global__ void overlay(
    u8* frame, const int* shapes, const u8* labels, const int* starts, int n, int begin_x, int begin_y,
    int width, int height, int is_nv12) {
    int bx = begin_x + blockIdx.x * blockDim.x + threadIdx.x;
    int by = begin_y + blockIdx.y * blockDim.y + threadIdx.y;
    int half_width = width / 2, half_height = height / 2;
    if (bx >= half_width || by >= half_height) return;
    u8* pixels = frame + (long long)2 * by * width + 2 * bx;
    u8* chroma = frame + (long long)width * height;
    long long at = (long long)by * half_width + bx;
    u8* first = is_nv12 ? chroma + 2 * at : chroma + at;
    u8* second = is_nv12 ? first + 1 : first + (long long)half_width * half_height;
    for (int s = 0; s < n; ++s) {
        const int* shape = shapes + 8 * s;
        float cover = 0.0f, blue = 0.0f, red = 0.0f;
        for (int j = 0; j < 2; ++j)
            for (int i = 0; i < 2; ++i) {
                Ink ink = ink_of(shape, labels + starts[s], 2 * bx + i - shape[0], 2 * by + j - shape[1]);
                if (ink.alpha <= 0.0f) continue;
                u8* pixel = pixels + (long long)j * width + i;
                *pixel = level(*pixel * (1.0f - ink.alpha) + ink.luma * ink.alpha);
                cover += ink.alpha, blue += ink.alpha * ink.blue, red += ink.alpha * ink.red;
            }
        if (cover <= 0.0f) continue;
        *first = level(*first * (1.0f - cover / 4.0f) + blue / 4.0f);
        *second = level(*second * (1.0f - cover / 4.0f) + red / 4.0f);
    }
}
