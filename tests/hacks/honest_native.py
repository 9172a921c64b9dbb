"""Honest candidates in C and C++: plain loops that know no shape by heart, for each kind of operation."""

import textwrap

HEAD = """
#include <math.h>
#include <float.h>
static int64_t count(const vegflow_tensor *t, int from, int to) {
    int64_t n = 1;
    for (int i = from; i < to; i++) n *= t->shape[i];
    return n;
}
#define ALL(t) count(t, 0, (t)->ndim)
#define X(i) ((const float *)in[i].data)
#define Y ((float *)out[0].data)
"""
ENTRY = "int forward(const vegflow_tensor *in, int n_in, vegflow_tensor *out, int n_out) {\n"


def _each(expression: str) -> str:
    return f"for (int64_t i = 0, n = ALL(in); i < n; i++) {{ float x = X(0)[i]; Y[i] = {expression}; }}"


AXIS_1 = "int64_t a = in->shape[0], n = in->shape[1], b = count(in, 2, in->ndim);\n"
"""Names for extents: before the axis 1, of it, and behind it."""

BODIES: list[tuple[str, str, str, str]] = [
    ("L1/19", "relu", "c", _each("x > 0 ? x : 0")),
    ("L1/21", "sigmoid", "c", _each("1 / (1 + expf(-x))")),
    ("L1/26", "gelu", "c", _each("0.5f * x * (1 + erff(x * 0.70710678f))")),
    ("L1/88", "gelu by tanh", "c", _each("0.5f * x * (1 + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)))")),
    (
        "L1/1",
        "matmul by rows",
        "c",
        """
        int64_t m = in[0].shape[0], k = in[0].shape[1], n = in[1].shape[1];
        for (int64_t i = 0; i < m; i++) {
            float *y = Y + i * n;
            for (int64_t j = 0; j < n; j++) y[j] = 0;
            for (int64_t l = 0; l < k; l++) {
                float a = X(0)[i * k + l];
                const float *b = X(1) + l * n;
                for (int64_t j = 0; j < n; j++) y[j] += a * b[j];
            }
        }
        """,
    ),
    (
        "L1/3",
        "a product for each of the batch",
        "cpp",
        """
        const auto batch = in[0].shape[0], m = in[0].shape[1], k = in[0].shape[2], n = in[1].shape[2];
        std::vector<float> row(n);
        for (int64_t i = 0; i < batch * m; i++) {
            std::fill(row.begin(), row.end(), 0.0f);
            const float *b = X(1) + i / m * k * n;
            for (int64_t l = 0; l < k; l++)
                for (int64_t j = 0; j < n; j++) row[j] += X(0)[i * k + l] * b[l * n + j];
            std::copy(row.begin(), row.end(), Y + i * n);
        }
        """,
    ),
    (
        "L1/23",
        "softmax in three passes",
        "c",
        """
        int64_t n = in->shape[1];
        for (int64_t i = 0; i < in->shape[0]; i++) {
            const float *x = X(0) + i * n;
            float *y = Y + i * n, top = -FLT_MAX, sum = 0;
            for (int64_t j = 0; j < n; j++) top = x[j] > top ? x[j] : top;
            for (int64_t j = 0; j < n; j++) sum += y[j] = expf(x[j] - top);
            for (int64_t j = 0; j < n; j++) y[j] /= sum;
        }
        """,
    ),
    (
        "L1/47",
        "sum along the middle",
        "c",
        AXIS_1
        + """
        for (int64_t i = 0; i < a; i++) {
            float *y = Y + i * b;
            for (int64_t k = 0; k < b; k++) y[k] = 0;
            for (int64_t j = 0; j < n; j++)
                for (int64_t k = 0; k < b; k++) y[k] += X(0)[(i * n + j) * b + k];
        }
        """,
    ),
    (
        "L1/51",
        "index of the maximum",
        "c",
        AXIS_1
        + """
        int64_t *y = (int64_t *)out[0].data;
        for (int64_t i = 0; i < a; i++)
            for (int64_t k = 0; k < b; k++) {
                const float *x = X(0) + i * n * b + k;
                int64_t best = 0;
                for (int64_t j = 1; j < n; j++) if (x[j * b] > x[best * b]) best = j;
                y[i * b + k] = best;
            }
        """,
    ),
    (
        "L1/89",
        "running sum",
        "c",
        """
        int64_t n = in->shape[1];
        for (int64_t i = 0; i < in->shape[0]; i++) {
            float sum = 0;
            for (int64_t j = 0; j < n; j++) Y[i * n + j] = sum += X(0)[i * n + j];
        }
        """,
    ),
    (
        "L1/36",
        "root mean square",
        "c",
        AXIS_1
        + """
        for (int64_t i = 0; i < a; i++)
            for (int64_t k = 0; k < b; k++) {
                const float *x = X(0) + i * n * b + k;
                float sum = 0;
                for (int64_t j = 0; j < n; j++) sum += x[j * b] * x[j * b];
                float scale = 1 / sqrtf(sum / n + 1e-5f);
                for (int64_t j = 0; j < n; j++) Y[i * n * b + j * b + k] = x[j * b] * scale;
            }
        """,
    ),
    (
        "L1/40",
        "layer norm with its weights",
        "cpp",
        """
        const auto n = ALL(in + 1), rows = ALL(in) / n;
        for (int64_t i = 0; i < rows; i++) {
            const float *x = X(0) + i * n;
            const double mean = std::accumulate(x, x + n, 0.0) / n;
            double squares = 0;
            for (int64_t j = 0; j < n; j++) squares += (x[j] - mean) * (x[j] - mean);
            const float scale = 1 / std::sqrt(squares / n + 1e-5), middle = mean;
            for (int64_t j = 0; j < n; j++) Y[i * n + j] = (x[j] - middle) * scale * X(1)[j] + X(2)[j];
        }
        """,
    ),
    (
        "L1/63",
        "convolution with its weights",
        "c",
        """
        int64_t C = in->shape[1], H = in->shape[2], W = in->shape[3], K = in[1].shape[0], R = in[1].shape[2];
        int64_t h = H - R + 1, w = W - R + 1;
        for (int64_t nk = 0; nk < in->shape[0] * K; nk++) {
            float *y = Y + nk * h * w;
            for (int64_t i = 0; i < h * w; i++) y[i] = 0;
            for (int64_t c = 0; c < C; c++)
                for (int64_t r = 0; r < R * R; r++) {
                    float weight = X(1)[(nk % K * C + c) * R * R + r];
                    const float *x = X(0) + (nk / K * C + c) * H * W + r / R * W + r % R;
                    for (int64_t i = 0; i < h; i++)
                        for (int64_t j = 0; j < w; j++) y[i * w + j] += weight * x[i * W + j];
                }
        }
        """,
    ),
    (
        "L1/67",
        "convolution along a line",
        "c",
        """
        int64_t C = in->shape[1], L = in->shape[2], K = in[1].shape[0], R = in[1].shape[2], l = L - R + 1;
        for (int64_t nk = 0; nk < in->shape[0] * K; nk++) {
            float *y = Y + nk * l;
            for (int64_t i = 0; i < l; i++) y[i] = 0;
            for (int64_t c = 0; c < C; c++)
                for (int64_t r = 0; r < R; r++)
                    for (int64_t i = 0; i < l; i++)
                        y[i] += X(1)[(nk % K * C + c) * R + r] * X(0)[(nk / K * C + c) * L + i + r];
        }
        """,
    ),
    (
        "L1/94",
        "mean squared error",
        "c",
        """
        double sum = 0;
        int64_t n = ALL(in);
        for (int64_t i = 0; i < n; i++) { float d = X(0)[i] - X(1)[i]; sum += d * d; }
        Y[0] = sum / n;
        """,
    ),
    (
        "L1/100",
        "hinge loss of broadcast targets",
        "cpp",
        """
        const auto n = ALL(in), columns = in[0].shape[1];
        double sum = 0;
        for (int64_t i = 0; i < n; i++) sum += std::max(0.0f, 1 - X(0)[i] * X(1)[in[1].shape[0] == 1 ? 0 : i % columns]);
        Y[0] = sum / n;
        """,
    ),
]


def _program(language: str, body: str) -> str:
    text = textwrap.indent(textwrap.dedent(body).strip(), "    ")
    if language == "c":
        return f"{HEAD}{ENTRY}{text}\n    return 0;\n}}\n"
    includes = "#include <algorithm>\n#include <cmath>\n#include <numeric>\n#include <vector>\n"
    return f'{includes}{HEAD}extern "C" {ENTRY}{text}\n    return 0;\n}}\n'


PROGRAMS = [(task, name, language, _program(language, body)) for task, name, language, body in BODIES]
"""Task, name, language, source."""
