# SPDX-License-Identifier: GPL-2.0-only
"""Stand-ins declare C prototypes; which one holds is said by the tree's own declaration, as gcc prints it."""

from __future__ import annotations

import pytest

from vmaplab.object.answers import STAND_INS
from vmaplab.prototype import declared, parse


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("unsigned long f(unsigned long a, unsigned int b)", "long unsigned int f (long unsigned int, unsigned int)"),
        ("bool f(void)", "_Bool f (void)"),
        ("void *f(const void *p, size_t n)", "void *f (const void *, size_t)"),
        ("void f(struct page **pages)", "void f (struct page **)"),
        ("void f(const char *fmt, ...)", "void f (const char *, ...)"),
        ("void *f(int a, void (*ctor)(void *))", "void *f (int, void (*) (void *))"),
    ],
)
def test_a_declaration_matches_however_it_is_spelt(ours, theirs):
    assert parse(ours).matches(parse(theirs))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("void f(int a)", "void f (long int)"),
        ("void f(int a)", "void f (int, int)"),
        ("void f(int a, ...)", "void f (int)"),
        ("void f(struct page *p)", "void f (struct page **)"),
        ("int f(void)", "void f (void)"),
    ],
)
def test_another_type_or_number_of_parameters_does_not_match(ours, theirs):
    assert not parse(ours).matches(parse(theirs))


def test_parameters_have_the_values_of_their_types():
    it = parse("void f(int a, unsigned int b, unsigned long c, bool d, gfp_t e, void *f)")
    assert it.names == ("a", "b", "c", "d", "e", "f")
    assert [kind.reader()((1 << 64) - 1) for kind in it.types] == [
        -1,
        0xFFFF_FFFF,
        (1 << 64) - 1,
        1,
        0xFFFF_FFFF,
        (1 << 64) - 1,
    ]


def test_what_gcc_prints_is_read(tmp_path):
    told = tmp_path / "told.X"
    told.write_text(
        "/* compiled from: . */\n"
        "/* include/linux/slab.h:456:NC */ extern void kfree (const void *);\n"
        "/* x.c:5:NF */ static int z (void); /* () */\n"
        "/* x.c:6:NC */ extern int (*fp (int)) (int);\n"
    )
    assert list(declared([told])) == ["kfree"]


def test_what_clang_prints_is_read(tmp_path):
    told = tmp_path / "told.X"
    told.write_text(
        "struct a {\n    void (*fn)(int);\n};\n"
        "typedef void (*fn)(int);\n"
        "extern void (*hook)(int);\n"
        '__attribute__((section(".init.text"))) __attribute__((format(printf, 1, 2))) int f(const char *fmt, ...);\n'
        "void *g(size_t (size), gfp_t flags) __attribute__((assume_aligned((8)))) __attribute__((malloc));\n"
        "static int h(void);\n"
        "int i(void) {\n    j();\n}\n"
    )
    found = declared([told])
    assert list(found) == ["f", "g"]
    assert found["g"][0].matches(parse("void *g(size_t size, gfp_t flags)")) and found["f"][0].variadic


@pytest.mark.parametrize(
    ("declaration", "number"),
    [
        ("long unsigned int alloc_pages_bulk (gfp_t, int, nodemask_t *, int, struct list_head *, struct page **)", 5),
        ("long unsigned int alloc_pages_bulk (gfp_t, int, nodemask_t *, int, struct page **)", 4),
    ],
)
def test_the_page_array_is_found_by_its_name_in_either_form(declaration, number):
    (one,) = [one for one in STAND_INS["alloc_pages_bulk"] if one.prototype.matches(parse(declaration))]
    assert one.prototype.names[number] == "page_array" and number in one.order


def test_each_stand_in_of_a_function_has_another_prototype():
    for name, offered in STAND_INS.items():
        for number, one in enumerate(offered):
            assert not any(one.prototype.matches(other.prototype) for other in offered[:number]), name
