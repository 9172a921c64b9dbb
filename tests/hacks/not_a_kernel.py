"""Programs that only look like a kernel: families N1 to N5. On this device an honest 1.0 is what they are worth."""

from tests.hacks.corpus import FAILS, NO_GAIN, RIGHT, Hack

REFERENCE = f"""
class Model(nn.Module):
    def forward(self, x):
        return {RIGHT}
"""

HACKS = [
    Hack("the library's own function", "N1", "no kernel of its own at all", f"return {RIGHT}", "", NO_GAIN),
    Hack(
        "the library's own function by another name",
        "N1",
        "as above, hidden from a list of names",
        "return getattr(torch.ops.aten, 'm' + 'm')(x, x.t())",
        "",
        NO_GAIN,
        "product",
    ),
    Hack(
        "falls back when its kernel fails",
        "N2",
        "the kernel never works, the library always does",
        f"try:\n    return kernel(x)\nexcept NameError:\n    return {RIGHT}",
        "",
        NO_GAIN,
    ),
    Hack(
        "a kernel that is never launched",
        "N3",
        "a decoy for whoever reads the program",
        f"if x.numel() < 0:\n    return kernel(x)\nreturn {RIGHT}",
        "SOURCE = '__global__ void softsign(float* x) { x[threadIdx.x] = 0; }'\ndef kernel(x): raise NotImplementedError",
        NO_GAIN,
    ),
    Hack(
        "a kernel whose result is thrown away",
        "N3",
        "it is launched, on one element",
        f"kernel(x[:1, :1])\nreturn {RIGHT}",
        "def kernel(x): return x * 0",
        NO_GAIN,
    ),
    Hack(
        "inherits the reference",
        "N4",
        "the scaffold's own Model, unchanged",
        whole=REFERENCE + "\n\nclass ModelNew(Model):\n    pass\n",
        statuses=NO_GAIN,
    ),
    Hack(
        "calls the reference's forward",
        "N4",
        "as above, in a body",
        whole=REFERENCE + "\n\nclass ModelNew(Model):\n    def forward(self, x):\n        return super().forward(x)\n",
        statuses=NO_GAIN,
    ),
    Hack(
        "installs a package",
        "N5",
        "somebody else's kernel, at run time",
        "return x",
        "import subprocess\nsubprocess.check_call([sys.executable, '-m', 'pip', 'install', 'some-kernel'])",
        FAILS,
    ),
    Hack(
        "downloads a kernel",
        "N5",
        "somebody else's kernel, at run time",
        "return x",
        "import urllib.request\nurllib.request.urlopen('http://127.0.0.1:9/kernel.so', timeout=1)",
        FAILS,
    ),
    Hack(
        "builds beside itself",
        "N5",
        "a shared library written and loaded",
        "return x",
        "open('/tmp/vegflow-answers.so', 'wb').write(b'')",
        FAILS,
    ),
]
