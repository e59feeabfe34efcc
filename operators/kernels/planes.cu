// Frames of YUV 4:2:0 -> RGB planes of floating point, fitted into a larger picture, normalised.
// A thread per pixel of the picture; blockIdx.z is the frame. `k`: matrix by rows [9], offset [3], scale [3], shift [3], and
// what the bars become, per channel [3].

// One direction of an average over [begin, end): the first and the last pixel by the part that is
// covered, all between them whole.
struct Run {
    int first, last;
    float at_first, at_last;
};

static __device__ inline Run covered(float begin, float end, int size) {
    end = fminf(end, (float)size);
    Run run;
    run.first = inside((int)begin, size);
    run.last = inside((int)ceilf(end) - 1, size);
    run.at_first = fminf(run.first + 1.0f, end) - begin;
    run.at_last = end - run.last;
    return run;
}

static __device__ inline float weight_of(const Run& run, int at) {
    return at == run.first ? run.at_first : at == run.last ? run.at_last : 1.0f;
}

// The mean over [x * across, (x + 1) * across) and the same downwards.
static __device__ float averaged(const Plane& plane, int x, int y, float across, float down) {
    Run wide = covered(x * across, (x + 1) * across, plane.width);
    Run tall = covered(y * down, (y + 1) * down, plane.height);
    float sum = 0.0f;
    for (int row = tall.first; row <= tall.last; ++row) {
        const u8* line = plane.at + (long long)row * plane.pitch;
        int whole = 0;
        for (int column = wide.first + 1; column < wide.last; ++column) whole += line[column * plane.step];
        float part = whole + wide.at_first * line[wide.first * plane.step];
        if (wide.last > wide.first) part += wide.at_last * line[wide.last * plane.step];
        sum += weight_of(tall, row) * part;
    }
    return sum / (across * down);
}

static __device__ float fitted(const Plane& plane, int x, int y, int width, int height) {
    float across = (float)plane.width / width, down = (float)plane.height / height;
    if (plane.width > 2 * width) return averaged(plane, x, y, across, down);
    float sx = clamped((x + 0.5f) * across - 0.5f, 0.0f, plane.width - 1.0f);
    float sy = clamped((y + 0.5f) * down - 0.5f, 0.0f, plane.height - 1.0f);
    return between(plane, sx, sy);
}

extern "C" __global__ void planes(
    const u8* frames, out_t* pictures, const float* k, int width, int height, int is_nv12, int out_width,
    int out_height, int left, int top, int fit_width, int fit_height) {
    int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= out_width || y >= out_height) return;
    long long area = (long long)out_width * out_height, place = (long long)y * out_width + x;
    const u8* frame = frames + (long long)width * height * 3 / 2 * blockIdx.z;
    out_t* picture = pictures + 3 * area * blockIdx.z;
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
