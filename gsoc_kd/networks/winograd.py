"""3x3 convolutions with fewer multiplications: Winograd's minimal filtering, written as matrix products.

A convolution is a product of two polynomials: pixels x0 + x1 t + x2 t^2 ... by taps w0 + w1 t + w2 t^2. Evaluate
both at some points, multiply the values, and find the polynomial through the results: 4 pixels by 3 taps make 6
coefficients, so 6 points and 6 multiplications do, where the plain sum takes 12. In two dimensions 36 do for 144:
    Y = B ((E X E^T) * (G W G^T)) B^T           X: a tile of 4x4 pixels, W: 3x3 taps, Y: 6x6; tiles overlap and add
E and G evaluate, B interpolates. Only the product in the middle meets each pair of channels: a matrix product per
point. This is F(4x4, 3x3) of Lavin & Gray 2015, arXiv 1509.09308, transposed. With zeros between the pixels (up), 2x2
pixels take 25 multiplications for 36, and the low-pass filter that follows is linear: it costs nothing as part of B."""

import functools

import torch
import torch.nn.functional as F

# By the step from pixel to pixel, 1 or (up) 2. Infinity is a point too; in all step * (TILE - 1) + 3.
POINTS, TILE = {1: (0, 0.75, -0.75, 1.5, -1.5), 2: (0, 0.75, -0.75, 1.5)}, {1: 4, 2: 2}
FEWEST_CHANNELS, FEWEST_TILES = {1: 128, 2: 384}, {1: 128, 2: 512}  # with fewer it was no faster, one core


def inference(x):
    """Whether x, on the CPU in float32, is computed for its values alone: no gradients, no tracing (export)."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or torch.is_grad_enabled():
        return False
    return x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


def suits(x, weight, up=False):
    """Whether `convolve` may replace a convolution and is faster: 3x3, inference, enough channels and pixels."""
    if not inference(x) or weight.shape[2:] != (3, 3):
        return False
    step, (N, _, H, W) = 1 + up, x.shape
    enough = min(weight.shape[:2]) >= FEWEST_CHANNELS[step] and N * (H // TILE[step]) ** 2 >= FEWEST_TILES[step]
    return enough and H == W and H % TILE[step] == 0


@functools.lru_cache
def matrices(size, fir):
    """For an axis of `size` pixels: E (n, tile), G (n, 3), and B (T, n, R) from each of T tiles into all R outputs."""
    step = 2 if fir else 1
    points, tile = torch.tensor(POINTS[step], dtype=torch.float64), TILE[step]
    n = len(points) + 1

    def values(points, count):  # (n, count): coefficients to values at the points and at infinity, the last coefficient
        return torch.cat([torch.linalg.vander(points, N=count), torch.eye(count, dtype=torch.float64)[-1:]])

    E, G, inverse = values(points**step, tile), values(points, 3), torch.linalg.inv(values(points, n))
    B = torch.zeros(size // tile, n, step * (size - 1) + 3, dtype=torch.float64)
    for t in range(len(B)):
        B[t, :, step * tile * t :][:, :n] = inverse.T
    if fir:  # R = 2 * size
        B = F.conv1d(B, torch.tensor(fir, dtype=torch.float64).expand(n, 1, -1), padding=1, groups=n)
    else:  # R = size by padding 1; networks correlate: the taps run backwards
        G, B = G.flip(1), B[:, :, 1:-1]
    return E.float(), G.float(), B.float()


def convolve(x, weight, style, fir=None):
    """`F.conv2d(x * style, weight, padding=1)` of x (N, inputs, H, H), style (N, inputs) and weight (outputs, inputs,
    3, 3). With `fir`, four taps of a symmetric filter: zeros between the pixels, convolution, filter. The result is
    (N, outputs, R, R), R = H or 2H, in the order (R, R, N, outputs) in memory, which is that of the products."""
    (N, _, size, _), (outputs, inputs) = x.shape, weight.shape[:2]
    E, G, B = matrices(size, fir)
    (n, tile), (T, _, R) = E.shape, B.shape
    weight = weight.permute(2, 3, 1, 0).reshape(9, -1)
    U = [(torch.kron(g, G) @ weight).view(n, inputs, outputs) for g in G.split(1)]  # G W G^T
    E_row = torch.einsum("ai,tu->atui", E, torch.eye(T, dtype=E.dtype)).reshape(
        n * T, size
    )  # E and B for whole rows of pixels
    B_row = B.permute(2, 1, 0).reshape(R, n * T)
    x = x.permute(2, 3, 0, 1).contiguous()  # (size, size, N, inputs)
    y, products = x.new_zeros(R, R, N, outputs), x.new_empty(n, n, T * N, outputs)
    for t in range(T):  # a row of tiles
        v = (x[tile * t :][:tile] * style).view(tile, -1)
        v = E_row @ (E @ v).view(n, size, -1)  # (n, n * T, N * inputs)
        for a in range(n):
            torch.bmm(v[a].view(n, T * N, inputs), U[a], out=products[a])
        v = B_row @ products.view(n, n * T, -1)  # (n, R, N * outputs)
        reached = B[t].any(dim=0).nonzero()
        rows = slice(int(reached[0]), int(reached[-1]) + 1)
        y[rows].view(-1, R * N * outputs).addmm_(B[t, :, rows].T, v.view(n, -1))
    return y.permute(2, 3, 0, 1)
