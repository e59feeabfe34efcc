// Patches back into an RGB frame: each is moved to the colours of its place, then
// blended by its mask.
// A thread per pixel of a patch's box; blockIdx.z is the patch. `boxes` [n, 4]: left, top, width,
// height in the frame. `maps` [n, 6]: pixels of the frame -> of the patch. `colours` [n, 6]: per
// channel gain and offset. Patches do not overlap: who comes last would win by chance.

extern "C" __global__ void paste(
    u8* frame, const u8* patches, const u8* masks, const int* boxes, const float* maps,
    const float* colours, int width, int height, int size) {
    const int* box = boxes + 4 * blockIdx.z;
    int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= box[2] || y >= box[3]) return;
    int fx = box[0] + x, fy = box[1] + y;
    if (fx < 0 || fy < 0 || fx >= width || fy >= height) return;
    const float* map = maps + 6 * blockIdx.z;
    float px = map[0] * fx + map[1] * fy + map[2], py = map[3] * fx + map[4] * fy + map[5];
    if (!on_it(px, py, size, size)) return;
    long long area = (long long)size * size;
    Plane mask = {masks + area * blockIdx.z, size, size, size, 1};
    float cover = between(mask, px, py) / 255.0f;
    if (cover <= 0.0f) return;
    u8* pixel = frame + 3 * ((long long)fy * width + fx);
    const float* colour = colours + 6 * blockIdx.z;
    for (int c = 0; c < 3; ++c) {
        Plane part = {patches + 3 * area * blockIdx.z + c, size, size, 3 * size, 3};
        float moved = clamped(between(part, px, py) * colour[2 * c] + colour[2 * c + 1], 0.0f, 255.0f);
        pixel[c] = level(pixel[c] * (1.0f - cover) + moved * cover);
    }
}
