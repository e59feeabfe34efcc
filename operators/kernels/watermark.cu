// A spread-spectrum mark added to luma: each block of the picture carries one bit, as the sign of a
// pattern of +1 and -1. A thread per pixel. `bits`: +1 or -1, one per block, row by row, begun again
// when they end. `pattern` [side, side] of +1 and -1.

extern "C" __global__ void watermark(
    u8* luma, const signed char* bits, const signed char* pattern, int n_bits, int width, int height,
    int side, float strength) {
    int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= width || y >= height) return;
    int across = width / side, column = x / side, row = y / side;
    if (column >= across || row >= height / side) return;  // no whole block
    int sign = bits[(row * across + column) % n_bits] * pattern[(y % side) * side + x % side];
    long long at = (long long)y * width + x;
    luma[at] = level(luma[at] + strength * sign);
}
