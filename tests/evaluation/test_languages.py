"""Languages by their marks, normal forms that keep meaning, labels of programs that fall back."""

import ast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vegflow.evaluation import languages
from vegflow.evaluation.languages import LANGUAGES, falls_back, fence_language, file_language, normalised


@pytest.mark.parametrize(
    ("tag", "language"),
    [
        ("python", "python"),
        ("", "python"),
        ("text", "python"),
        ("c", "c"),
        ("C", "c"),
        ("cpp", "cpp"),
        ("c++", "cpp"),
        (" c++ title=x", "cpp"),
        ("{.cuda}", "cuda"),
        ("cu", "cuda"),
        ("css", "python"),
    ],
)
def test_a_fence_names_a_language(tag, language):
    assert fence_language(tag) == language


@pytest.mark.parametrize(
    ("name", "program", "language"),
    [
        ("a.py", "import torch", "python"),
        ("a.py", "import triton.language as tl", "triton"),
        ("a.py", "def f():\n    from triton import jit", "triton"),
        ("a.py", "import tritonium\n# import triton", "python"),
        ("a.py", "import triton\nm = torch.utils.cpp_extension.load_inline('a', '')", "inline"),
        ("a.py", "x = 'load_inline()'", "python"),
        ("a.py", "not python (", "python"),
        ("a.c", "import triton", "c"),
        ("dir.py/a.CC", "", "cpp"),
        ("a.cu", "", "cuda"),
    ],
)
def test_a_file_has_a_language(name, program, language):
    assert file_language(name, program) == language


def test_another_file_has_none():
    with pytest.raises(ValueError, match=r"a\.txt: .*\.py .*\.cu"):
        file_language("a.txt", "")


def test_trust():
    assert {name: languages.trust(name) for name in LANGUAGES} == {
        "python": "interpreted",
        "triton": "interpreted",
        "inline": "interpreted",
        "c": "compiled",
        "cpp": "compiled",
        "cuda": "compiled",
    }


@pytest.mark.parametrize(
    ("language", "device", "problem"),
    [("triton", "cpu", "GPU"), ("cuda", "cpu", "GPU"), ("c", "cuda", "CPU"), ("c", "cpu", ""), ("triton", "cuda", "")],
)
def test_where_a_language_runs(language, device, problem):
    said = languages.device_problem(language, device)
    assert bool(said) == bool(problem)
    assert problem in said


SAME = {
    "comments": ("c", "int x; // one\n/* two\nthree */ int y;", "int x;\n int y;"),
    "blank lines and indentation": ("c", "int  x;\n\n\n\t int y;\n", "int x;\nint y;"),
    "a comment is a space": ("c", "int/**/x;", "int x;"),
    "a directive": ("c", "#define  F(x)   x  // twice\nint y;", "#define F(x) x\nint y;"),
    "python comments": ("python", "x = 1  # one\n\n\ny = ( 2 )", "x = 1\ny = 2"),
    "docstrings": ("python", 'def f():\n    """Text."""\n    return 1', "def f():\n    return 1"),
    "only a docstring": ("python", 'class A:\n    """Text."""', "class A:\n    pass"),
    "kernel comments": ("cuda", "// launch  f<<<1,  2>>>()\nint x; // no", "  // launch f<<<1, 2>>>()\nint x;"),
}
DIFFERENT = {
    "a number that would swallow an operator": ("c", "x = 0x1e + 3;", "x = 0x1e+3;"),
    "two operators": ("c", "a + +b", "a ++b"),
    "a function-like macro": ("c", "#define F (x)", "#define F(x)"),
    "the end of a directive": ("c", "#define F x\ny", "#define F x y"),
    "a string with a comment in it": ("c", 's = "/* a */";', 's = " ";'),
    "spaces in a string": ("c", 's = "a  b";', 's = "a b";'),
    "a quote in a character": ("c", "c = '\"'; x = 1; // \"", "c = '\"'; x = 2; // \""),
    "an escaped quote": ("c", r's = "\" // a"; x', r's = "\" // b"; x'),
    "code after a mark of a comment in a string": ("c", 's = "//"; x = 1;', 's = "//"; x = 2;'),
    "raw strings": ("cpp", 'R"(" // )" 1', 'R"(" // )" 2'),
    "digit separators": ("cpp", "1'000 /* ' */ + 1; // '", "1'000 /* ' */ + 2; // '"),
    "lines that are counted": ("c", "int x = __LINE__;", "\nint x = __LINE__;"),
    "a continued comment": ("c", "// \\\nx = 1;\ny", "// \\\nx = 2;\n\ny"),
    "a header's name": ("c", "#include <a//b.h>", "#include <a//c.h>"),
    "an apostrophe": ("c", "#if 0\ndon't /* \n#endif\nx = 1; // */", "#if 0\ndon't /* \n#endif\nx = 2; // */"),
    "another launch": ("cuda", "// launch f<<<1, 2>>>()", "// launch f<<<1, 4>>>()"),
    "no launch": ("cuda", "// launch f<<<1, 2>>>()\n", "/* // launch f<<<1, 2>>>() */\n"),
    "python strings": ("python", "x = 'a  b'", "x = 'a b'"),
    "a docstring that is read": ("python", '"""a"""\nx = __doc__', '"""b"""\nx = __doc__'),
    "a program that reads itself": ("python", "import inspect # 1", "import inspect # 2"),
    "no python": ("python", "x = (", "x = ( "),
}


@pytest.mark.parametrize("name", SAME)
def test_layout_has_no_meaning(name):
    language, first, second = SAME[name]
    assert normalised(first, language) == normalised(second, language)


@pytest.mark.parametrize("name", DIFFERENT)
def test_meaning_is_kept(name):
    language, first, second = DIFFERENT[name]
    assert normalised(first, language) != normalised(second, language)


PIECES = (
    '/* */ // \\\n \n # " \' R"( )" x 1 \'a\' \\ include < > launch ? % : é \0 \ud800 def return """ ( ) : = if \t \r'
)
TEXT = st.one_of(st.text(), st.lists(st.sampled_from([*PIECES.split(" "), " "]), max_size=30).map("".join))


@example("''\r''", "python")  # the second string would be a docstring once the first is gone
@given(TEXT, st.sampled_from(list(LANGUAGES)))
def test_any_text_has_a_normal_form_that_is_its_own(text, language):
    once = normalised(text, language)
    assert normalised(once, language) == once
    assert isinstance(falls_back(text, language), bool)


def test_deep_programs_are_left_alone():
    deep = "x = " + "-" * 100_000 + "1"
    assert normalised(deep) == deep
    assert not falls_back(deep)
    assert normalised("x = 1 # " + "x" * (1 << 20)).startswith("x = 1 #")


MODEL = "class Model(nn.Module):\n    def forward(self, x, y):\n        '''Add.'''\n        return x + y\n"
FALLS_BACK = {
    "no forward": "class ModelNew(Model):\n    pass",
    "super": "class ModelNew(Model):\n    def forward(self, x, y):\n        return super().forward(x, y)",
    "old super": "class ModelNew(Model):\n    def forward(self, x, y):\n        return super(ModelNew, self).forward(x, y)",
    "its forward": "class ModelNew(Model):\n    def forward(self, x, y):\n        return Model.forward(self, x, y)",
    "one made": "class ModelNew(nn.Module):\n    def __init__(self):\n        self.m = Model()\n"
    "    def forward(self, x, y):\n        return self.m(x, y)",
    "one made outside": "reference = Model()\nclass ModelNew(nn.Module):\n    def forward(self, x, y):\n"
    "        return reference(x, y)",
    "a copy": "class ModelNew(nn.Module):\n    def forward(self, x, y):\n        return x + y  # the same",
    "a copy with other names": "class ModelNew(nn.Module):\n    def forward(self, a, b):\n        return a + b",
    "the class itself": "ModelNew = Model",
}
DOES_NOT = {
    "other work": "class ModelNew(Model):\n    def forward(self, x, y):\n        return y + x",
    "names swapped": "class ModelNew(Model):\n    def forward(self, y, x):\n        return x + y",
    "super's constructor": "class ModelNew(Model):\n    def __init__(self):\n        super().__init__()\n"
    "    def forward(self, x, y):\n        return torch.add(x, y)",
    "another super": "class ModelNew(nn.ReLU):\n    def forward(self, x, y):\n        return super().forward(x) + y",
    "no ModelNew": "class Other(Model):\n    pass",
}


@pytest.mark.parametrize("name", FALLS_BACK)
def test_falling_back_is_seen(name):
    program = f"{MODEL}\n{FALLS_BACK[name]}\n"
    ast.parse(program)
    assert falls_back(program)
    assert not falls_back(program, "c")


@pytest.mark.parametrize("name", DOES_NOT)
def test_work_of_its_own_is_no_fallback(name):
    assert not falls_back(f"{MODEL}\n{DOES_NOT[name]}\n")


def test_without_the_reference_there_is_nothing_to_fall_back_on():
    assert not falls_back(FALLS_BACK["a copy"])
